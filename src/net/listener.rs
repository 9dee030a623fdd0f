//! Listening sockets: binding them, and accepting without ever spinning on what cannot be accepted.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel completes and holds for us (capped by `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A listening socket and whether it may have somebody waiting.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    /// An edge was seen and `accept` has not answered `Blocked` since.
    pub ready: bool,
}

/// Whether others may listen on the same port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else.
    Exclusive,
    /// Whoever shares it as well, under the same user: the kernel spreads the connections over them (`SO_REUSEPORT`).
    Shared,
}

/// What came of one attempt to accept.
#[derive(Debug)]
pub enum AcceptOutcome {
    /// A connection and where it comes from.
    Connection(TcpStream, SocketAddr),
    /// Nobody waits; an edge will tell when somebody does.
    Blocked,
    /// Who waited has gone (ECONNABORTED and its kin); the next may be well.
    Gone(io::Error),
    /// No descriptor or memory is free (EMFILE, ENFILE, ENOBUFS, ENOMEM): whoever waits stays in the backlog.
    Exhausted(io::Error),
}

impl Listener {
    /// Binds and listens. What accepted sockets inherit is set here once: `TCP_NODELAY` and `TCP_NOTSENT_LOWAT`.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound: in use, not of this machine, or not permitted.
    pub fn bind(address: SocketAddr, sharing: Sharing, notsent_low_water_bytes: u32) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(sharing == Sharing::Shared)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(notsent_low_water_bytes)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into());
        let address = socket.local_addr()?;
        Ok(Listener { socket, address, ready: false })
    }

    /// Where it listens, with the port that was picked if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers for edges that tell of waiting connections.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE)
    }

    /// Accepts one connection, if there is one.
    pub fn accept(&mut self) -> AcceptOutcome {
        use rustix::io::Errno;
        match self.socket.accept() {
            Ok((stream, peer)) => AcceptOutcome::Connection(stream, unmapped(peer)),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                self.ready = false;
                AcceptOutcome::Blocked
            }
            Err(err) => match Errno::from_io_error(&err) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => AcceptOutcome::Exhausted(err),
                _ => AcceptOutcome::Gone(err),
            },
        }
    }
}

/// An IPv4 peer that came through an IPv6 socket, as the IPv4 address it is.
fn unmapped(peer: SocketAddr) -> SocketAddr {
    match peer.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(peer, |ip| SocketAddr::new(ip.into(), peer.port())),
        IpAddr::V4(_) => peer,
    }
}

/// Binds every host on one port. With port 0 the first picks a free one and the others follow.
///
/// # Errors
///
/// Which address could not be bound, and why. An IPv6 host is left out silently where `hosts_are_default` and the
/// machine has no IPv6.
pub fn bind_all(
    hosts: &[IpAddr],
    port: u16,
    hosts_are_default: bool,
    sharing: Sharing,
    notsent_low_water_bytes: u32,
) -> Result<Vec<Listener>, (SocketAddr, io::Error)> {
    const TRIES: usize = 16;
    let mut tries = 0;
    'again: loop {
        tries += 1;
        let mut listeners: Vec<Listener> = Vec::new();
        for host in hosts {
            let chosen = listeners.first().map_or(port, |listener| listener.address().port());
            let address = SocketAddr::new(*host, chosen);
            match Listener::bind(address, sharing, notsent_low_water_bytes) {
                Ok(listener) => listeners.push(listener),
                Err(_) if address.is_ipv6() && hosts_are_default && !has_ipv6() => {}
                // The port that was free for the first host is taken for another: pick again.
                Err(err) if err.kind() == io::ErrorKind::AddrInUse && port == 0 && chosen != 0 && tries < TRIES => {
                    continue 'again;
                }
                Err(err) => return Err((address, err)),
            }
        }
        return Ok(listeners);
    }
}

/// Whether this machine lets us bind an IPv6 socket at all.
fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok() || std::net::TcpListener::bind("[::]:0").is_ok()
}
