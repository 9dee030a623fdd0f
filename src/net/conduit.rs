//! A pipe through which whole files go to sockets: it is given the pages that another pipe holds, and hands them on.
//!
//! It serves all connections of the loop, one after the other, so nothing may stay in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};

use crate::limits::MOST_PIPED_BYTES;

/// See the [module](self). There is a pipe once something was sent.
#[derive(Debug, Default)]
pub(super) struct Conduit(Option<Pipe>);

#[derive(Debug)]
struct Pipe {
    reading: OwnedFd,
    writing: OwnedFd,
    /// Where everything goes that a socket did not take.
    sink: File,
}

impl Conduit {
    /// Sends what `whole` holds, which is so many bytes, and leaves it there. `None` if that is not possible, and nothing
    /// was sent; else how many bytes the socket has taken, less than all only if it is full: the kernel goes on until then.
    pub(super) fn send(
        &mut self,
        whole: BorrowedFd<'_>,
        length: usize,
        socket: impl AsFd,
    ) -> Option<io::Result<usize>> {
        // If no descriptor is free, or the kernel allows no such pipe, this is tried again with the next file.
        let pipe = match &mut self.0 {
            Some(pipe) => pipe,
            none => none.insert(Pipe::open().ok()?),
        };
        let held = tee(whole, &pipe.writing, length, SpliceFlags::NONBLOCK).unwrap_or(0);
        let sent = (held == length).then(|| pipe.send(length, socket));
        let taken = sent.as_ref().and_then(|sent| sent.as_ref().ok()).copied().unwrap_or(0);
        if pipe.empty(held - taken).is_err() {
            self.0 = None;
        }
        sent
    }
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let sink = OpenOptions::new().write(true).open("/dev/null")?;
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&writing, MOST_PIPED_BYTES)?;
        Ok(Pipe { reading, writing, sink })
    }

    fn send(&self, length: usize, socket: impl AsFd) -> io::Result<usize> {
        Ok(splice(&self.reading, None, socket, None, length, SpliceFlags::NONBLOCK)?)
    }

    fn empty(&self, mut left: usize) -> io::Result<()> {
        while left > 0 {
            match splice(&self.reading, None, &self.sink, None, left, SpliceFlags::NONBLOCK)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                gone => left -= gone,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// A pipe that holds this content.
    fn filled(content: &[u8]) -> OwnedFd {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        fcntl_setpipe_size(&writing, MOST_PIPED_BYTES).unwrap();
        File::from(writing).write_all(content).unwrap();
        reading
    }

    /// A socket that does not wait, and its peer.
    fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, listener.accept().unwrap().0)
    }

    fn content() -> Vec<u8> {
        (0..200_000).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn a_full_socket_takes_a_part_and_the_next_gets_all_of_its_own() {
        let (mut conduit, content) = (Conduit::default(), content());
        let (whole, other) = (filled(&content), filled(b"of another file"));
        let (full, mut peer) = sockets();
        let mut taken = 0;
        loop {
            match conduit.send(whole.as_fd(), content.len(), &full).unwrap() {
                Ok(more) => taken += more,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            if taken % content.len() != 0 {
                break;
            }
        }
        let (socket, mut reader) = sockets();
        assert_eq!(conduit.send(other.as_fd(), 15, &socket).unwrap().unwrap(), 15);
        let mut found = [0; 15];
        reader.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"of another file");
        full.shutdown(Shutdown::Write).unwrap();
        let mut found = Vec::new();
        peer.read_to_end(&mut found).unwrap();
        assert_eq!(found.len(), taken);
        assert!(found.chunks(content.len()).all(|part| content.starts_with(part)));
    }

    #[test]
    fn a_socket_that_is_lost_leaves_nothing_behind() {
        let (mut conduit, content) = (Conduit::default(), content());
        let (whole, other) = (filled(&content), filled(b"other"));
        let (socket, _peer) = sockets();
        socket.shutdown(Shutdown::Write).unwrap();
        let lost = conduit.send(whole.as_fd(), content.len(), &socket).unwrap();
        assert_eq!(lost.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (socket, mut reader) = sockets();
        assert_eq!(conduit.send(other.as_fd(), 5, &socket).unwrap().unwrap(), 5);
        let mut found = [0; 5];
        reader.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"other");
    }

    #[test]
    fn what_is_not_whole_is_not_sent() {
        let mut conduit = Conduit::default();
        let whole = filled(b"short");
        let (socket, mut reader) = sockets();
        assert!(conduit.send(whole.as_fd(), 6, &socket).is_none());
        assert_eq!(conduit.send(whole.as_fd(), 5, &socket).unwrap().unwrap(), 5);
        drop(socket);
        let mut found = String::new();
        reader.read_to_string(&mut found).unwrap();
        assert_eq!(found, "short");
    }
}
