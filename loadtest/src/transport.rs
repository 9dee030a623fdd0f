//! What a client's bytes go through: a TCP socket as it is, or TLS over it.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use rustls::{ClientConnection, Error};

use crate::trust::Secure;

/// The socket of one client.
#[derive(Debug)]
pub enum Transport {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS. It is large, and most runs have none.
    Tls(Box<Tls>),
}

/// TLS over a socket.
#[derive(Debug)]
pub struct Tls {
    stream: TcpStream,
    connection: ClientConnection,
}

impl Transport {
    /// Speaks over `stream`, with TLS if there is something to do it by.
    pub fn new(stream: TcpStream, secure: Option<&Secure>) -> io::Result<Self> {
        let Some(Secure { config, name }) = secure else { return Ok(Transport::Plain(stream)) };
        let connection = ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
        Ok(Transport::Tls(Box::new(Tls { stream, connection })))
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(tls) => &tls.stream,
        }
    }

    /// Reads into `buffer`; 0 is the end. As with a socket, less than fits means that there is no more now, unless the other
    /// side has hung up.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.read(buffer),
            Transport::Tls(tls) => tls.read(buffer),
        }
    }

    /// Writes bytes of the front of `bytes`, and tells how many were taken.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.write(bytes),
            Transport::Tls(tls) => tls.write(bytes),
        }
    }

    /// Whether something that was taken has not gone to the socket; [`Transport::write`] with or without more bytes sends it.
    #[inline]
    pub fn holds_unsent(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(tls) => tls.connection.wants_write(),
        }
    }

    /// Says that no more will be sent, where there is a way to.
    pub fn say_goodbye(&mut self) {
        if let Transport::Tls(tls) = self {
            tls.connection.send_close_notify();
            // If the socket is full or gone, the other side finds out by its end.
            let _ = tls.send();
        }
    }
}

impl Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        let mut is_empty = false;
        loop {
            match self.connection.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(count) if filled + count == buffer.len() => return Ok(buffer.len()),
                Ok(count) => {
                    filled += count;
                    continue;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                // It has ended without saying so. A WebSocket has a farewell of its own, which is looked at elsewhere.
                Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(filled),
                Err(err) => return Err(err),
            }
            if is_empty {
                break;
            }
            let mut socket = Socket { stream: &mut self.stream, is_empty: false };
            match self.connection.read_tls(&mut socket) {
                Ok(_) => is_empty = socket.is_empty,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                // What came before counts; the socket tells again how it ended.
                Err(_) if filled > 0 => break,
                Err(err) => return Err(err),
            }
            self.process()?;
        }
        if filled > 0 { Ok(filled) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Handles the records that have come, and answers those that are to be answered.
    fn process(&mut self) -> io::Result<()> {
        let processed = self.connection.process_new_packets().map(drop);
        // Of a fault the other side is told why.
        let sent = self.send();
        processed.map_err(|err| io::Error::other(told(&err, self.connection.is_handshaking())))?;
        match sent {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(()),
            sent => sent,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?;
        let taken = self.connection.writer().write(bytes)?;
        if taken == 0 && !bytes.is_empty() {
            // So much is not kept until the handshake is done.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.send() {
            // It was taken all the same.
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(taken),
            sent => sent.map(|()| taken),
        }
    }

    /// Sends all that is to be sent.
    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.stream) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                sent => drop(sent?),
            }
        }
        Ok(())
    }
}

/// What was wrong with what has come, for whoever chose the URL.
fn told(err: &Error, is_handshaking: bool) -> String {
    match err {
        // What comes first is no record of TLS: most often it is a response of HTTP.
        Error::InvalidMessage(_) if is_handshaking => {
            format!("the server does not speak TLS there; without it the URL begins with ws:// ({err})")
        }
        _ => format!("TLS: {err}"),
    }
}

/// Notices when a read has emptied the socket, which saves the read that would find nothing.
struct Socket<'a> {
    stream: &'a mut TcpStream,
    is_empty: bool,
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.is_empty = 0 < count && count < buffer.len();
        Ok(count)
    }
}
