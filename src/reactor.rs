//! A stand-in until the loop exists.
#![allow(missing_docs)]
use std::net::{SocketAddr, TcpListener};

use thiserror::Error;

use crate::config::{Config, SiteError};

#[derive(Debug)]
pub struct Reactor {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

#[derive(Debug, Error)]
#[error("never")]
pub struct RunError;

impl Reactor {
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.site(".".as_ref())?;
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        let hosts = if config.hosts_are_default { config.hosts[..1].to_vec() } else { config.hosts };
        for host in hosts {
            let address = SocketAddr::new(host, config.port);
            let listener = TcpListener::bind(address).map_err(|error| StartError::Listen(address, error))?;
            addresses.push(listener.local_addr().map_err(|error| StartError::Listen(address, error))?);
            listeners.push(listener);
        }
        Ok(Reactor { listeners, addresses })
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn run(self) -> Result<(), RunError> {
        let mut signals = signal_hook::iterator::Signals::new([2, 15]).map_err(|_| RunError)?;
        for listener in self.listeners {
            std::thread::spawn(move || {
                for socket in listener.incoming().flatten() {
                    std::thread::spawn(move || stub::serve(socket));
                }
            });
        }
        signals.forever().next();
        Ok(())
    }
}

mod stub {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    pub(super) fn serve(mut socket: TcpStream) {
        let mut head = [0; 4096];
        let Ok(len) = socket.peek(&mut head) else { return };
        let text = String::from_utf8_lossy(&head[..len]).to_ascii_lowercase();
        if text.contains("upgrade: websocket") {
            let Ok(mut ws) = tungstenite::accept(socket) else { return };
            while let Ok(message) = ws.read() {
                if message.is_text() || message.is_binary() {
                    let _ = ws.send(message);
                }
            }
            return;
        }
        let _ = socket.read(&mut head);
        let mut body = String::new();
        crate::metrics::Metrics::default().render(&Default::default(), &mut body);
        let _ = write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }
}
