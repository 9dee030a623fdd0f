//! A client of chat.v1 that may lose its server at any time, and the events of a stream.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

use super::{DEADLINE, Raw};

/// A connection that speaks chat.v1.
#[derive(Debug)]
pub struct V1 {
    socket: WebSocket<TcpStream>,
}

impl V1 {
    /// Connects, unless the server is gone.
    pub fn try_connect(address: SocketAddr) -> Result<V1, Error> {
        V1::try_over(TcpStream::connect_timeout(&address, DEADLINE)?)
    }

    /// Upgrades a connection that was prepared otherwise.
    pub fn try_over(stream: TcpStream) -> Result<V1, Error> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut request = format!("ws://{}/", stream.peer_addr()?).into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("chat.v1"));
        match tungstenite::client::client(request, stream) {
            Ok((socket, _)) => Ok(V1 { socket }),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
            Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("no upgrade within {DEADLINE:?}"),
        }
    }

    /// Connects and says hello by a name. Gives the welcome too.
    ///
    /// # Panics
    /// When the server does not answer so.
    pub fn hello(address: SocketAddr, name: &str) -> (V1, Value) {
        let mut client = V1::try_connect(address).expect("the server upgrades");
        client.ask(&json!({"type": "hello", "name": name}));
        let welcome = client.next("welcome");
        (client, welcome)
    }

    /// Connects, says hello and joins a room. Gives the answer to the join too.
    ///
    /// # Panics
    /// When the server does not answer so.
    pub fn joined(address: SocketAddr, name: &str, room: &str) -> (V1, Value) {
        let (mut client, _) = V1::hello(address, name);
        client.ask(&json!({"type": "join", "room": room}));
        let joined = client.next("joined");
        (client, joined)
    }

    /// Sends a request; the server may be gone.
    pub fn try_ask(&mut self, request: &Value) -> Result<(), Error> {
        self.socket.send(Message::text(request.to_string()))
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When the server is gone.
    pub fn ask(&mut self, request: &Value) {
        self.try_ask(request).expect("the server takes a request");
    }

    /// What the server tells next.
    ///
    /// # Panics
    /// When it tells nothing until [`DEADLINE`].
    pub fn try_next(&mut self) -> Result<Value, Error> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(_)) => return Err(Error::ConnectionClosed),
                Ok(_) => {}
                Err(Error::Io(error)) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                    panic!("nothing within {DEADLINE:?}")
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next object of this type; others are passed over, but for errors.
    ///
    /// # Panics
    /// When an error comes that was not asked for, or nothing does.
    pub fn next(&mut self, kind: &str) -> Value {
        loop {
            let told = self.try_next().expect("the server goes on");
            if told["type"] == kind {
                return told;
            }
            assert_ne!(told["type"], "error", "while waiting for {kind}: {told}");
        }
    }

    /// Says something, and waits until it has been heard.
    pub fn say(&mut self, room: &str, text: &str, nonce: &str) -> Value {
        self.ask(&json!({"type": "say", "room": room, "text": text, "nonce": nonce}));
        loop {
            let said = self.next("said");
            if said["nonce"] == nonce {
                return said;
            }
        }
    }

    /// The socket below.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// How long to wait for what the server tells.
    pub fn set_patience(&self, patience: Duration) {
        self.stream().set_read_timeout(Some(patience)).expect("a read timeout");
    }
}

impl Raw {
    /// The next event or comment of a stream of events, with the empty line behind it. What tells nothing but an id is
    /// passed over.
    ///
    /// # Panics
    /// When it is incomplete at the end of the stream or at [`DEADLINE`].
    pub fn event(&mut self) -> String {
        loop {
            let block = self.block();
            if block.lines().any(|line| !line.is_empty() && !line.starts_with("id: ")) {
                return block;
            }
        }
    }

    /// The next lines of a stream of events up to an empty one, whatever they tell.
    ///
    /// # Panics
    /// When they are incomplete at the end of the stream or at [`DEADLINE`].
    pub fn block(&mut self) -> String {
        let length = self.fill_until("an event", |unread| memchr::memmem::find(unread, b"\n\n").map(|end| end + 2));
        String::from_utf8(self.take(length)).expect("events are UTF-8")
    }
}
