//! Ports for servers that have to be told theirs.

use std::fmt::{self, Display};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port that nobody else gets while this lives, whether a server listens on it or not.
///
/// It is held by a socket that is bound to it and does not listen. The kernel chooses such a port neither for who asks
/// for any port nor for a connection that goes out, but lets a server listen there that sets `SO_REUSEADDR`, as nearly
/// all do (socket(7)).
#[derive(Debug)]
pub struct Port {
    number: u16,
    _holder: Socket,
}

impl Port {
    /// Takes a port that nobody has.
    ///
    /// # Errors
    /// When the system has no port, or no socket, left.
    pub fn take() -> io::Result<Self> {
        let holder = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
        holder.set_reuse_address(true)?;
        holder.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        let address = holder.local_addr()?.as_socket();
        let number = address.ok_or_else(|| io::Error::other("an address without a port"))?.port();
        Ok(Port { number, _holder: holder })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}
