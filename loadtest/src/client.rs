//! One client: its socket, how far it has come, and what it could not send yet.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};

use crate::frame::{self, Opcode};
use crate::inbound::Inbound;

/// How far a client has come. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// TCP is connecting.
    Connecting {
        /// When that began.
        since: u64,
    },
    /// The request is sent; the response is awaited.
    Asked {
        /// When TCP began to connect.
        since: u64,
    },
    /// Messages flow.
    Open,
    /// We have sent a close frame and wait for the server to close.
    Leaving,
    /// The socket is closed.
    Gone,
}

/// One client of the run.
#[derive(Debug)]
pub struct Client {
    /// How far it has come.
    pub phase: Phase,
    /// Its reading half.
    pub inbound: Inbound,
    stream: Option<TcpStream>,
    /// Frames the socket has not taken.
    unsent: Vec<u8>,
}

impl Client {
    /// Begins to connect from `source` to `server`. Both interests are registered here, once, edge-triggered.
    pub fn open(
        server: SocketAddr,
        source: Option<SocketAddr>,
        registry: &Registry,
        token: Token,
        now: u64,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking().cloexec(), None)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            // Ports of an earlier run that are in TIME_WAIT do not count as taken then.
            socket.set_reuse_address(true)?;
            socket.bind(&source.into())?;
        }
        match socket.connect(&server.into()) {
            Err(err) if err.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => return Err(err),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Client {
            phase: Phase::Connecting { since: now },
            inbound: Inbound::default(),
            stream: Some(stream),
            unsent: Vec::new(),
        })
    }

    /// A client that could not be opened.
    pub fn gone() -> Self {
        Client { phase: Phase::Gone, inbound: Inbound::default(), stream: None, unsent: Vec::new() }
    }

    /// Closes the socket.
    pub fn drop_socket(&mut self) {
        *self = Client::gone();
    }

    /// Reads into `buffer`; 0 is the end of the stream.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Some(stream) => stream.read(buffer),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Puts a frame behind what is unsent; [`Client::flush`] sends it. The masking key is `mask`.
    pub fn push(&mut self, opcode: Opcode, payload: &[u8], mask: u32) {
        frame::push_masked(&mut self.unsent, opcode, payload, mask.to_ne_bytes());
    }

    /// Puts bytes behind what is unsent.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Bytes that the socket has not taken.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Writes what is unsent, as far as the socket takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut written = 0;
        let result = loop {
            if written == self.unsent.len() {
                break Ok(());
            }
            match stream.write(&self.unsent[written..]) {
                Ok(count) => written += count,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => break Err(err),
            }
        };
        self.unsent.drain(..written);
        result
    }
}
