//! What the kernel still holds of what was written to a socket (`sock_diag(7)`).
//!
//! It takes bytes in lumps: when it holds 128 KiB that are not sent yet, 64 KiB of them have to go before it takes more. On a
//! slow line minutes lie between two of these, in which no write tells whether the peer takes anything. What it has not
//! acknowledged does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// `SOCK_DIAG_BY_FAMILY`: the type of the request and of its answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
const HEADER_BYTES: usize = 16;
/// Header and `inet_diag_req_v2`.
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// Where `idiag_wqueue` stands behind the header, in `inet_diag_msg`.
const UNACKNOWLEDGED_AT: usize = HEADER_BYTES + 60;

/// The way to ask the kernel about sockets.
#[derive(Debug)]
pub(super) struct Inquiry {
    socket: OwnedFd,
    /// Questions so far.
    asked: u32,
}

impl Inquiry {
    /// `None` if the kernel does not even tell of the listening socket at `listener`. This may wait while a module is
    /// loaded.
    pub(super) fn open(listener: SocketAddr) -> Option<Inquiry> {
        let diag = Some(netlink::SOCK_DIAG);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, diag).ok()?;
        let mut inquiry = Inquiry { socket, asked: 0 };
        let nobody = match listener.ip().to_canonical() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        inquiry.unacknowledged(listener, SocketAddr::new(nobody, 0)).map(|_| inquiry)
    }

    /// Bytes that were written to a TCP socket with these addresses, ours and the peer's, and that the peer has not
    /// acknowledged. `None` if there is no such socket. It does not wait.
    pub(super) fn unacknowledged(&mut self, local: SocketAddr, peer: SocketAddr) -> Option<u32> {
        self.asked = self.asked.wrapping_add(1);
        send(&self.socket, &request(local, peer, self.asked), SendFlags::empty()).ok()?;
        let mut buffer = [0; 1024];
        loop {
            // The answer is there when the question has been sent; those to former ones may stand before it.
            let (length, _) = recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
            let answer = &buffer[..length.min(buffer.len())];
            if word(answer, 8) == Some(self.asked) {
                let is_told = half_word(answer, 4) == Some(BY_FAMILY);
                return word(answer, UNACKNOWLEDGED_AT).filter(|_| is_told);
            }
        }
    }
}

/// Asks for the one socket with these addresses.
fn request(local: SocketAddr, peer: SocketAddr, number: u32) -> [u8; REQUEST_BYTES] {
    // A client that came by IPv4 to a socket for both is found as what it is.
    let (ours, theirs) = (local.ip().to_canonical(), peer.ip().to_canonical());
    let family = if ours.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut request = [0; REQUEST_BYTES];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(REQUEST_BYTES as u32).to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &REQUEST.to_ne_bytes());
    put(8, &number.to_ne_bytes());
    const TCP: u8 = 6;
    put(HEADER_BYTES, &[family.as_raw() as u8, TCP]);
    // In whatever state it is.
    put(HEADER_BYTES + 4, &u32::MAX.to_ne_bytes());
    put(HEADER_BYTES + 8, &local.port().to_be_bytes());
    put(HEADER_BYTES + 10, &peer.port().to_be_bytes());
    for (at, address) in [(12, ours), (28, theirs)] {
        match address {
            IpAddr::V4(address) => put(HEADER_BYTES + at, &address.octets()),
            IpAddr::V6(address) => put(HEADER_BYTES + at, &address.octets()),
        }
    }
    // No interface, and no cookie.
    put(HEADER_BYTES + 48, &[0xff; 8]);
    request
}

fn word(answer: &[u8], at: usize) -> Option<u32> {
    answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn half_word(answer: &[u8], at: usize) -> Option<u16> {
    answer.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_what_a_peer_has_not_taken() {
        for (address, to) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("[::]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let listening = listener.local_addr().unwrap();
            // Some kernels are built without it, and some machines without IPv6.
            let Some(mut inquiry) = Inquiry::open(listening) else { continue };
            let Ok(mut peer) = TcpStream::connect((to, listening.port())) else { continue };
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let (ours, theirs) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let mut written = 0;
            while let Ok(length) = stream.write(&[b'x'; 100_000]) {
                written += length;
            }
            let begin = inquiry.unacknowledged(ours, theirs).unwrap();
            assert!(begin > 0 && begin as usize <= written, "{address} {to}: {begin} of {written}");
            let mut held = begin;
            while held >= begin {
                // It acknowledges when it has room for some more.
                assert!(peer.read(&mut [0; 10_000]).unwrap() > 0);
                held = inquiry.unacknowledged(ours, theirs).unwrap();
            }
            drop((stream, peer, listener));
            assert!(Inquiry::open(listening).is_none(), "{address}: there is none");
        }
    }
}
