//! A WebSocket client that blocks, but never forever, and that can misbehave on the wire.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::DEADLINE;
use super::http::{End, Raw};

/// A connected client.
#[derive(Debug)]
pub struct WsClient {
    socket: WebSocket<TcpStream>,
    response: Response,
}

impl WsClient {
    /// Connects and upgrades, with further header fields.
    ///
    /// # Panics
    /// When the server does not agree; what it says instead is for [`http`](super::http) with [`upgrade_request`].
    pub fn connect(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the server accepts");
        WsClient::upgrade(stream, path, fields)
    }

    /// Upgrades a connection that was prepared otherwise, with a small receive buffer for example.
    ///
    /// # Panics
    /// When the server does not agree.
    pub fn upgrade(stream: TcpStream, path: &str, fields: &[(&str, &str)]) -> Self {
        WsClient::try_upgrade(stream, path, fields).unwrap_or_else(|error| panic!("the upgrade failed: {error}"))
    }

    /// Connects and upgrades, unless the server is gone.
    pub fn try_connect(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Result<Self, Error> {
        WsClient::try_upgrade(TcpStream::connect_timeout(&address, DEADLINE)?, path, fields)
    }

    fn try_upgrade(stream: TcpStream, path: &str, fields: &[(&str, &str)]) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let url = format!("ws://{}{path}", stream.peer_addr()?);
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).expect("a field name");
            request.headers_mut().append(name, HeaderValue::try_from(*value).expect("a field value"));
        }
        match tungstenite::client::client(request, stream) {
            Ok((socket, response)) => Ok(WsClient { socket, response }),
            Err(HandshakeError::Failure(error)) => Err(error),
            Err(HandshakeError::Interrupted(_)) => Err(Error::Io(ErrorKind::TimedOut.into())),
        }
    }

    /// What the server answered to the upgrade.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// The socket below.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Sends a text message.
    pub fn send_text(&mut self, text: &str) {
        self.send(Message::text(text));
    }

    /// Sends a message.
    pub fn send(&mut self, message: Message) {
        self.try_send(message).expect("the server takes a message");
    }

    /// Sends a message; the server may be gone.
    pub fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message)
    }

    /// Sends bytes as they are; [`frame`] makes well-formed ones. The server may have closed already.
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.get_mut().write_all(bytes.as_ref());
    }

    /// The next message within `time`, control frames included; `None` if none came. Pings are answered on the way.
    pub fn poll(&mut self, time: Duration) -> Result<Option<Message>, Error> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.get_ref().set_read_timeout(Some(left)).expect("a read timeout");
            match self.socket.read() {
                Ok(message) => return Ok(Some(message)),
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next text or binary message.
    ///
    /// # Panics
    /// When the connection ends, or none has come by [`DEADLINE`].
    pub fn next_message(&mut self) -> Message {
        loop {
            match self.poll(DEADLINE) {
                Ok(Some(message @ (Message::Text(_) | Message::Binary(_)))) => return message,
                Ok(Some(Message::Close(frame))) => panic!("closed instead of a message: {frame:?}"),
                Ok(Some(_)) => {}
                Ok(None) => panic!("no message within {DEADLINE:?}"),
                Err(error) => panic!("no message: {error}"),
            }
        }
    }

    /// The text of the next message.
    ///
    /// # Panics
    /// As [`next_message`](Self::next_message), and when it is not text.
    pub fn next_text(&mut self) -> String {
        match self.next_message() {
            Message::Text(text) => text.to_string(),
            message => panic!("not text: {message:?}"),
        }
    }

    /// Closes with this code and waits for the server to finish the closing handshake and the connection.
    pub fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).expect("the server takes a close frame");
        assert_eq!(self.until_closed(), Some(code), "the code comes back");
    }

    /// Reads on, whatever comes, until the server has closed cleanly: close frame, then the end of the stream.
    /// Gives the code of its frame, if it had one.
    ///
    /// # Panics
    /// When the connection is cut, or still open at [`DEADLINE`].
    pub fn until_closed(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.poll(DEADLINE) {
                Ok(Some(Message::Close(frame))) => code = frame.map(|frame| frame.code.into()),
                Ok(Some(_)) => {}
                Ok(None) => panic!("not closed within {DEADLINE:?}"),
                Err(Error::ConnectionClosed) => return code,
                Err(error) => panic!("not closed cleanly: {error}"),
            }
        }
    }
}

/// A masked frame as a client sends it (RFC 6455, section 5.2): `first` holds FIN and opcode, `0x81` is a whole text.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The text of a valid upgrade (RFC 6455, section 4.1), with further header lines, for [`Raw`](super::Raw).
pub fn upgrade_request(address: SocketAddr, path: &str, lines: &[&str]) -> String {
    let further: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{further}\r\n"
    )
}

/// A frame as the server sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A close frame and its code.
    Close(Option<u16>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
}

impl Frame {
    /// A text message.
    pub fn text(text: &str) -> Frame {
        Frame::Text(text.to_owned())
    }

    /// The frame at the front of `bytes` and its length there; `None` if it is not whole.
    ///
    /// # Panics
    /// When it is one that a server must not send (RFC 6455, sections 5.1 and 5.2), or is in fragments.
    fn parse(bytes: &[u8]) -> Option<(usize, Frame)> {
        let &[first, second, ref rest @ ..] = bytes else { return None };
        assert!(second < 0x80, "a server does not mask");
        let (head, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).expect("a length")),
            length => (2, usize::from(length)),
        };
        let payload = bytes.get(head..head + length)?.to_vec();
        let frame = match first {
            0x81 => Frame::Text(String::from_utf8(payload).expect("text that is UTF-8")),
            0x82 => Frame::Binary(payload),
            0x88 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            0x89 => Frame::Ping(payload),
            0x8a => Frame::Pong(payload),
            _ => panic!("a frame that begins with {first:#04x}"),
        };
        Some((head + length, frame))
    }
}

impl Raw {
    /// Connects and upgrades.
    ///
    /// # Panics
    /// When the server does not agree.
    pub fn upgraded(address: SocketAddr, path: &str) -> Raw {
        Raw::connect(address).upgrade(path)
    }

    /// Upgrades.
    ///
    /// # Panics
    /// When the server does not agree.
    pub fn upgrade(mut self, path: &str) -> Raw {
        let address = self.stream().peer_addr().expect("connected");
        self.send(upgrade_request(address, path, &[]));
        assert_eq!(self.response_head().status, 101);
        self
    }

    /// The next frame.
    ///
    /// # Panics
    /// When it is incomplete at the end of the stream or at [`DEADLINE`].
    pub fn frame(&mut self) -> Frame {
        let (length, frame) = self.fill_until("a frame", Frame::parse);
        self.take(length);
        frame
    }

    /// All frames until the connection ends, and how it ends. Nothing is sent meanwhile: whoever waits for an answer to
    /// its ping or its close frame waits in vain.
    pub fn frames_to_end(&mut self, time: Duration) -> (Vec<Frame>, End) {
        let (bytes, end) = self.read_to_end(time);
        let mut rest = bytes.as_slice();
        let frames = std::iter::from_fn(|| {
            let (length, frame) = Frame::parse(rest)?;
            rest = &rest[length..];
            Some(frame)
        })
        .collect();
        assert!(rest.is_empty() || end != End::Closed, "the stream ends in the middle of a frame: {rest:?}");
        (frames, end)
    }
}

/// A close frame of a client.
pub fn close_frame(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes())
}

/// Connects so many clients, one after the other.
pub fn crowd(address: SocketAddr, path: &str, clients: usize) -> Vec<Raw> {
    (0..clients).map(|_| Raw::upgraded(address, path)).collect()
}
