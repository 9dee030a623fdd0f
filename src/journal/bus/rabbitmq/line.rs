//! The connection to a RabbitMQ server, and its end.
//!
//! lapin reads and writes on a thread of its own, which ends with its socket. It has no timeouts, and whoever lets go
//! of a connection that does not answer would leave both behind; so the socket is shut down here in every case.

use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};

use futures_util::StreamExt;
use lapin::tcp::{AsyncTcpStream, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Event, runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::driver::Failure;
use super::failure;

/// TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that is there answers the farewell by then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is closed when it is dropped.
pub(super) struct Line {
    /// There until the end.
    connection: Option<Connection>,
    plug: Option<Plug>,
    /// Why the server takes no messages, while it takes none.
    refusal: watch::Receiver<Option<String>>,
}

impl Line {
    pub(super) async fn connect(uri: &AMQPUri) -> Result<Self, Failure> {
        let plug = Plug::default();
        let socket = Arc::clone(&plug.0);
        let properties = ConnectionProperties::default().with_connection_name("chat-app".into());
        let runtime = runtime::default_runtime().map_err(|error| failure(&error))?;
        let connecting = Connection::connector(
            uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                // It is lapin's thread that waits for the name.
                let addresses: Vec<_> = (uri.authority.host.as_str(), uri.authority.port).to_socket_addrs()?.collect();
                let reached = async {
                    let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                    if let AsyncTcpStream::Plain(stream) = &stream {
                        plug_in(&socket, stream.get_ref())?;
                    }
                    match uri.scheme {
                        AMQPScheme::AMQP => Ok(stream),
                        AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, TLSConfig::default()).await,
                    }
                };
                let in_time = timeout(CONNECT_TIMEOUT, reached).await;
                Ok(in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
            },
            properties,
        );
        let connection = connecting.await.map_err(|error| failure(&error))?;
        let refusal = watch_refusal(&connection);
        Ok(Line { connection: Some(connection), plug: Some(plug), refusal })
    }

    pub(super) async fn channel(&self) -> Result<Channel, Failure> {
        let connection = self.connection.as_ref().expect("there until the end");
        self.answer(connection.create_channel()).await
    }

    /// Waits for an answer, unless the server has stopped to take messages, and with them whatever else is said here.
    pub(super) async fn answer<T>(&self, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, Failure> {
        let mut refusal = self.refusal.clone();
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|error| failure(&error)),
            Ok(reason) = refusal.wait_for(Option::is_some) => {
                let reason = reason.as_deref().unwrap_or_default();
                Err(Failure::new(format_args!("RabbitMQ takes no messages now: {reason}")))
            }
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let (connection, plug) = (self.connection.take(), self.plug.take());
        // Without a runtime it ends abruptly, which costs the server a line in its log.
        if let (Some(connection), Ok(runtime)) = (connection, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "OK".into())).await;
                drop(plug);
            });
        }
    }
}

/// A server that is short of memory or disk says so to whoever publishes, and reads nothing from it any more.
fn watch_refusal(connection: &Connection) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(None);
    let mut events = connection.events_listener();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::ConnectionBlocked(reason) => sender.send_replace(Some(reason)),
                Event::ConnectionUnblocked => sender.send_replace(None),
                _ => None,
            };
        }
    });
    receiver
}

/// What becomes of the socket.
#[derive(Debug, Default)]
enum Socket {
    #[default]
    Awaited,
    Plugged(TcpStream),
    Unwanted,
}

/// Ends a connection at its socket when it is dropped, wherever the client has come to.
#[derive(Debug, Default)]
struct Plug(Arc<Mutex<Socket>>);

fn plug_in(socket: &Mutex<Socket>, stream: &impl AsFd) -> io::Result<()> {
    let stream = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    let mut socket = socket.lock().expect("nobody panics with it");
    if matches!(*socket, Socket::Unwanted) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    *socket = Socket::Plugged(stream);
    Ok(())
}

impl Drop for Plug {
    fn drop(&mut self) {
        let mut socket = self.0.lock().expect("nobody panics with it");
        if let Socket::Plugged(stream) = std::mem::replace(&mut *socket, Socket::Unwanted) {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
