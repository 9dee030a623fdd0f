//! One client: its socket, how far it has come, and what it could not send yet.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};

use crate::frame::{self, Opcode};
use crate::inbound::Inbound;
use crate::transport::Transport;
use crate::trust::Secure;

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
    /// The WebSocket is open; in chat.v1 the client has said hello and waits to be welcome.
    Greeting,
    /// It has asked for its seat in the room.
    Joining,
    /// Messages flow.
    Open,
    /// We have sent a close frame and wait for the server to close.
    Leaving,
    /// The socket is closed.
    Gone,
}

/// Where a connection goes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// To whom.
    pub server: SocketAddr,
    /// From which address; without one the kernel chooses.
    pub source: Option<SocketAddr>,
    /// Bytes the kernel holds for it unread; without a number the kernel chooses.
    pub receive_buffer: Option<usize>,
}

/// How a client takes what has come for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// At once.
    Eager,
    /// No more than this with each tick of the loop, in bytes.
    Throttled(usize),
    /// Not at all.
    Stopped,
}

/// One client of the run.
#[derive(Debug)]
pub struct Client {
    /// How far it has come.
    pub phase: Phase,
    /// Its reading half.
    pub inbound: Inbound,
    /// How it reads.
    pub reading: Reading,
    transport: Option<Transport>,
    /// Frames the socket has not taken.
    unsent: Vec<u8>,
}

impl Client {
    /// Begins to connect along `route`, with TLS if it is to be `secure`. Both interests are registered here, once,
    /// edge-triggered.
    pub fn open(
        route: Route,
        secure: Option<&Secure>,
        registry: &Registry,
        token: Token,
        now: u64,
    ) -> io::Result<Self> {
        let any_port = |source: SocketAddr| SocketAddr::new(source.ip(), 0);
        let socket = match connect(route) {
            // Somebody else has that port.
            Err(err) if matches!(err.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {
                connect(Route { source: route.source.map(any_port), ..route })?
            }
            result => result?,
        };
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Client {
            phase: Phase::Connecting { since: now },
            inbound: Inbound::default(),
            reading: Reading::Eager,
            transport: Some(Transport::new(stream, secure)?),
            unsent: Vec::new(),
        })
    }

    /// A client that could not be opened.
    pub fn gone() -> Self {
        Client {
            phase: Phase::Gone,
            inbound: Inbound::default(),
            reading: Reading::Eager,
            transport: None,
            unsent: Vec::new(),
        }
    }

    /// Closes the socket.
    pub fn drop_socket(&mut self) {
        if let Some(transport) = &mut self.transport {
            transport.say_goodbye();
        }
        *self = Client::gone();
    }

    /// Reads into `buffer`; 0 is the end of the stream.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.transport {
            Some(transport) => transport.read(buffer),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Puts a frame behind what is unsent; [`Client::flush`] sends it. The masking key is `mask`.
    pub fn push(&mut self, opcode: Opcode, payload: &[u8], mask: u32) {
        frame::push_masked(&mut self.unsent, opcode, payload, mask.to_ne_bytes());
    }

    /// Closes the socket at once, as a network that fails does: what is unread or unsent is thrown away, and the server is
    /// told by a reset.
    pub fn cut(&mut self) {
        if let Some(transport) = &self.transport {
            // If it cannot be set, the socket closes politely.
            let _ = SockRef::from(transport.stream()).set_linger(Some(Duration::ZERO));
        }
        *self = Client::gone();
    }

    /// Puts bytes behind what is unsent.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Bytes that the socket has not taken; those inside TLS, of which there are few, count as one.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len() + usize::from(self.transport.as_ref().is_some_and(Transport::holds_unsent))
    }

    /// Writes what is unsent, as far as the socket takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(transport) = &mut self.transport else { return Ok(()) };
        let mut written = 0;
        let result = loop {
            if written == self.unsent.len() && !transport.holds_unsent() {
                break Ok(());
            }
            match transport.write(&self.unsent[written..]) {
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

/// A socket that connects along `route`, without waiting for it.
fn connect(Route { server, source, receive_buffer }: Route) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        // Before connecting, since it limits the window that is offered.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        // Ports of an earlier run that are in TIME_WAIT do not count as taken then.
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
    }
    match socket.connect(&server.into()) {
        Err(err) if err.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(err),
        _ => Ok(socket),
    }
}
