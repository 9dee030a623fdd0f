//! HTTP by hand: bytes out, and what comes back, down to how the connection ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::DEADLINE;

/// A response as it came.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Name and value of each field, in the order in which they came.
    pub fields: Vec<(String, String)>,
    /// The content.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The content as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("content that is UTF-8")
    }
}

/// How a connection stood when reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server has closed its side.
    Closed,
    /// The server, or the kernel on its behalf, has cut the connection.
    Reset,
    /// Nothing more came in the time given.
    Open,
}

/// A TCP connection and what has been read from it but not used.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Raw::over(TcpStream::connect_timeout(&address, DEADLINE).expect("the server accepts"))
    }

    /// Takes a connection that was prepared otherwise, by [`connect_from`] or [`connect_narrow`] for example.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(DEADLINE)).expect("a write timeout");
        Raw { stream, unread: Vec::new() }
    }

    /// Sends bytes as they are. The server may have closed already, so a failure is for the reader to notice.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Ends our side of the stream; the other stays open.
    pub fn shut_down_writing(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Cuts the connection: the server sees a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads one response to a request that was not HEAD.
    ///
    /// # Panics
    /// When it is incomplete at the end of the stream or at [`DEADLINE`].
    pub fn response(&mut self) -> Response {
        let response = self.response_head();
        self.content_of(response)
    }

    /// Reads the content of a response whose head has been read.
    ///
    /// # Panics
    /// When it is incomplete at the end of the stream or at [`DEADLINE`].
    pub fn content_of(&mut self, mut response: Response) -> Response {
        let length = response.field("Content-Length").map(|length| length.parse::<usize>().expect("a length"));
        match (response.status, length) {
            (100..200 | 204 | 304, _) => {}
            (_, Some(length)) => {
                self.fill_until("the content", |unread| (unread.len() >= length).then_some(()));
                response.body = self.unread.drain(..length).collect();
            }
            (_, None) => {
                let (body, end) = self.read_to_end(DEADLINE);
                assert_eq!(end, End::Closed, "content without a length ends with the connection");
                response.body = body;
            }
        }
        response
    }

    /// Reads the head of a response, which is all of it where the request was HEAD.
    ///
    /// # Panics
    /// When it is incomplete at the end of the stream or at [`DEADLINE`], or malformed.
    pub fn response_head(&mut self) -> Response {
        let (length, response) = self.fill_until("the head of a response", |unread| {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut fields);
            let length = match head.parse(unread).expect("a well-formed head") {
                httparse::Status::Complete(length) => length,
                httparse::Status::Partial => return None,
            };
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let status = head.code.expect("a status");
            let fields = head.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect();
            Some((length, Response { status, fields, body: Vec::new() }))
        });
        self.unread.drain(..length);
        response
    }

    /// Reads until the connection ends, or for `time`.
    pub fn read_to_end(&mut self, time: Duration) -> (Vec<u8>, End) {
        let deadline = Instant::now() + time;
        loop {
            if let Some(end) = self.fill(deadline) {
                return (std::mem::take(&mut self.unread), end);
            }
        }
    }

    /// The next `length` bytes.
    ///
    /// # Panics
    /// When they have not come at the end of the stream or at [`DEADLINE`].
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        self.fill_until("so many bytes", |unread| (unread.len() >= length).then_some(()));
        self.unread.drain(..length).collect()
    }

    /// Reads until `take` finds in what has come what it looks for.
    pub(super) fn fill_until<T>(&mut self, what: &str, mut take: impl FnMut(&[u8]) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = take(&self.unread) {
                return found;
            }
            if let Some(end) = self.fill(deadline) {
                panic!("{what}: {end:?} after {:?}", String::from_utf8_lossy(&self.unread));
            }
        }
    }

    /// Reads once, and says how the connection stands if nothing came.
    fn fill(&mut self, deadline: Instant) -> Option<End> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(End::Open);
        }
        self.stream.set_read_timeout(Some(left)).expect("a read timeout");
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Some(End::Closed),
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                None
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Some(End::Open),
                ErrorKind::Interrupted => None,
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Some(End::Reset),
                kind => panic!("reading failed: {kind}"),
            },
        }
    }
}

/// Connects from this address of ours, which a server that listens on 127.0.0.1 sees as the client's.
pub fn connect_from(source: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this machine");
    socket.connect_timeout(&address.into(), DEADLINE).expect("the server accepts");
    socket.into()
}

/// Connects with small buffers, so that either side soon notices when the other does not read.
pub fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("SO_RCVBUF");
    socket.set_send_buffer_size(16 * 1024).expect("SO_SNDBUF");
    // Segments as on a real network: the huge ones of the loopback would not fit, and be sent again and again.
    socket.set_tcp_mss(1_400).expect("TCP_MAXSEG");
    socket.connect_timeout(&address.into(), DEADLINE).expect("the server accepts");
    socket.into()
}

/// Sends one request on a connection of its own, byte for byte, and reads the response.
pub fn http(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let mut connection = Raw::connect(address);
    connection.send(request);
    connection.response()
}

/// GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> Response {
    http(address, format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}
