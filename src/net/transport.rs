//! What carries a connection's bytes: TCP now, TLS later, with one set of outcomes for both.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::fs::sendfile;
use rustix::net::{SendFlags, send};
use socket2::SockRef;

use super::conduit::Conduit;
use super::inquiry::Inquiry;
use super::outbox::{FileSlice, Front, MAX_SLICES, Outbox};

/// The carrier of one connection.
#[derive(Debug)]
pub enum Transport {
    /// A plain TCP socket.
    Tcp(TcpStream),
    /// A socket of the simulation.
    #[cfg(test)]
    #[expect(private_interfaces, reason = "only the tests of this crate make one")]
    Simulated(super::simulated::SimulatedSocket),
}

/// How long a record is about, where what is written is cut into records.
const RECORD_BYTES: usize = 4096;
/// A peer whose window has once been larger than this does not have a narrow one.
const NARROW_WINDOW_BYTES: u32 = 64_000;

/// How what is written lies in the segments that the kernel sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As the kernel likes.
    Free,
    /// In records that are shorter than most windows, each in segments of its own (`MSG_EOR`).
    ///
    /// The kernel sends what lies in one segment when the window has room for all of it, and otherwise a part each 200 ms,
    /// when it probes. Over a network nobody notices, as segments are shorter than windows. Over the loopback of a machine
    /// they are up to half as long as the largest window there has been, and the window of a peer with a small buffer, which is
    /// not scaled, is told in multiples of the longest segment that it got. Once that was a little shorter than ours are,
    /// and does not fit twice, none of ours ever fits.
    Records,
}

/// What came of one attempt to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing is there now; an edge will tell when there is.
    Blocked,
    /// The peer will send nothing more.
    Eof,
}

/// What came of one attempt to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// So many bytes were taken, perhaps not all.
    Bytes(usize),
    /// None can be taken now; an edge will tell when they can.
    Blocked,
}

impl Transport {
    /// Registers both interests, edge-triggered, for the whole life of the connection.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl(2)`: no memory, or the limit of watches is reached.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => stream.register(registry, token, Interest::READABLE | Interest::WRITABLE),
            #[cfg(test)]
            Transport::Simulated(_) => Ok(()),
        }
    }

    /// Reads once into `buffer`.
    ///
    /// # Errors
    ///
    /// Those of `recv(2)` but for `EAGAIN` and `EINTR`: the connection is lost.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        loop {
            let result = match self {
                Transport::Tcp(stream) => stream.read(buffer),
                #[cfg(test)]
                Transport::Simulated(socket) => socket.read(buffer),
            };
            return match result {
                Ok(0) => Ok(ReadOutcome::Eof),
                Ok(n) => Ok(ReadOutcome::Bytes(n)),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(ReadOutcome::Blocked),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => Err(err),
            };
        }
    }

    /// Writes once from the front of `outbox`, without taking anything off it: one slice by `send`, more by `writev`, a file
    /// by `sendfile`, or through the conduit if a pipe holds all of it; where it is cut into records, all that `writev`
    /// would take by a `send` for each of them.
    ///
    /// What stands before a file is not held back for it (`MSG_MORE`): one packet in twenty is not worth that the client
    /// hears later, and BBR takes connections whose every packet is full for limited by the path, and paces them.
    ///
    /// # Errors
    ///
    /// Those of `send(2)` but for `EAGAIN` and `EINTR`: the connection is lost.
    pub(super) fn write(&mut self, outbox: &Outbox, cut: Cut, conduit: &mut Conduit) -> io::Result<WriteOutcome> {
        loop {
            let result = match self {
                Transport::Tcp(stream) => match outbox.front() {
                    Front::File(slice) => send_file(stream, slice, conduit),
                    Front::One(_) | Front::Several if cut == Cut::Records => send_records(stream, outbox),
                    // Straight to the kernel: the one in libc is a cancellation point, which costs more than our own
                    // part of a broadcast.
                    Front::One(bytes) => send(&*stream, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from),
                    Front::Several => {
                        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                        let filled = outbox.fill(&mut slices);
                        stream.write_vectored(&slices[..filled])
                    }
                },
                #[cfg(test)]
                Transport::Simulated(socket) => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let filled = outbox.fill(&mut slices);
                    socket.write(&slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>())
                }
            };
            return match result {
                Ok(n) => Ok(WriteOutcome::Bytes(n)),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(WriteOutcome::Blocked),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => Err(err),
            };
        }
    }

    /// How what is written to this peer is to be cut from now on, as far as the kernel has seen its window.
    #[must_use]
    pub fn cut(&self) -> Cut {
        match self {
            Transport::Tcp(stream) => match SockRef::from(stream).tcp_mss() {
                Ok(segment) if segment as usize > RECORD_BYTES && 2 * segment < NARROW_WINDOW_BYTES => Cut::Records,
                Ok(_) | Err(_) => Cut::Free,
            },
            #[cfg(test)]
            Transport::Simulated(_) => Cut::Free,
        }
    }

    /// Bytes that were written and the peer has not acknowledged, if the kernel tells.
    pub(super) fn unacknowledged(&self, inquiry: Option<&mut Inquiry>) -> Option<u32> {
        match self {
            Transport::Tcp(stream) => inquiry?.unacknowledged(stream.local_addr().ok()?, stream.peer_addr().ok()?),
            #[cfg(test)]
            Transport::Simulated(socket) => Some(socket.unread() as u32),
        }
    }

    /// Tells the peer that nothing more will come. A failure means that it is gone, which the next read will say.
    pub fn shut_down_writing(&mut self) {
        match self {
            Transport::Tcp(stream) => drop(stream.shutdown(Shutdown::Write)),
            #[cfg(test)]
            Transport::Simulated(socket) => socket.shut_down_writing(),
        }
    }

    /// Makes the coming close a reset, which frees what the kernel still holds for a peer that takes nothing.
    pub fn reset_on_close(&mut self) {
        match self {
            Transport::Tcp(stream) => drop(SockRef::from(&*stream).set_linger(Some(Duration::ZERO))),
            #[cfg(test)]
            Transport::Simulated(socket) => socket.reset_on_close(),
        }
    }
}

/// Sends what one `writev` would, in records of less than twice their length, until the socket takes no more.
fn send_records(stream: &TcpStream, outbox: &Outbox) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let filled = outbox.fill(&mut slices);
    let (mut taken, mut length) = (0, 0);
    for piece in slices[..filled].iter().flat_map(|slice| slice.chunks(RECORD_BYTES)) {
        length += piece.len();
        let mut flags = SendFlags::NOSIGNAL;
        if length >= RECORD_BYTES {
            length = 0;
            flags |= SendFlags::EOR;
        }
        match send(stream, piece, flags) {
            Ok(sent) if sent == piece.len() => taken += sent,
            Ok(sent) => return Ok(taken + sent),
            Err(err) if taken == 0 => return Err(err.into()),
            // The next write will be told.
            Err(_) => break,
        }
    }
    Ok(taken)
}

/// Has the kernel send bytes of a file.
fn send_file(stream: &TcpStream, slice: &FileSlice, conduit: &mut Conduit) -> io::Result<usize> {
    let (file, mut start, length) = slice.place();
    if let Some(sent) = slice.pipe().and_then(|whole| conduit.send(whole, length, stream)) {
        return sent;
    }
    match sendfile(stream, file, Some(&mut start), length)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        taken => Ok(taken),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A socket as the server has it, and its peer with a buffer of so many bytes.
    fn pair(buffer: usize) -> (Transport, Socket) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        peer.set_recv_buffer_size(buffer).unwrap();
        peer.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        SockRef::from(&stream).set_tcp_notsent_lowat(128 * 1024).unwrap();
        (Transport::Tcp(TcpStream::from_std(stream)), peer)
    }

    #[test]
    fn who_has_a_narrow_window_gets_records() {
        for (bytes, cut) in [(256 * 1024, Cut::Free), (16 * 1024, Cut::Records), (2 * 1024, Cut::Free)] {
            assert_eq!(pair(bytes).0.cut(), cut, "a peer that keeps {bytes} bytes");
        }
    }

    #[test]
    fn records_come_whole_and_in_order() {
        let (mut transport, mut peer) = pair(16 * 1024);
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for length in [1, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 66, 66, 1_000_000, 3] {
            let bytes: Vec<u8> =
                (0..length).map(|at| (expected.len() + at) as u8 ^ ((expected.len() + at) >> 8) as u8).collect();
            expected.extend_from_slice(&bytes);
            outbox.push(Bytes::from(bytes));
        }
        let mut received = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut blocked = 0;
        while received.len() < expected.len() {
            match transport.write(&outbox, Cut::Records, &mut Conduit::default()).unwrap() {
                WriteOutcome::Bytes(taken) => outbox.advance(taken),
                WriteOutcome::Blocked => blocked += 1,
            }
            if blocked > 0 || outbox.is_empty() {
                let read = peer.read(&mut buffer).unwrap();
                received.extend_from_slice(&buffer[..read]);
            }
        }
        assert!(received == expected && blocked > 0, "{} of {}, {blocked}", received.len(), expected.len());
    }
}
