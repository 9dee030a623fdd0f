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
    /// by `sendfile`, or through the conduit if a pipe holds all of it.
    ///
    /// What stands before a file is not held back for it (`MSG_MORE`): one packet in twenty is not worth that the client
    /// hears later, and BBR takes connections whose every packet is full for limited by the path, and paces them.
    ///
    /// # Errors
    ///
    /// Those of `send(2)` but for `EAGAIN` and `EINTR`: the connection is lost.
    pub(super) fn write(&mut self, outbox: &Outbox, conduit: &mut Conduit) -> io::Result<WriteOutcome> {
        loop {
            let result = match self {
                Transport::Tcp(stream) => match outbox.front() {
                    // Straight to the kernel: the one in libc is a cancellation point, which costs more than our own
                    // part of a broadcast.
                    Front::One(bytes) => send(&*stream, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from),
                    Front::Several => {
                        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                        let filled = outbox.fill(&mut slices);
                        stream.write_vectored(&slices[..filled])
                    }
                    Front::File(slice) => send_file(stream, slice, conduit),
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
            Transport::Simulated(_) => {}
        }
    }
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
