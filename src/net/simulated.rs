//! A socket that exists in memory alone, so that a simulation can drive the whole core without a kernel.
//!
//! It behaves as an edge-triggered TCP socket does: reads give what has arrived, writes take what there is room for, and
//! whoever drives it is told when an edge is due.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Both directions of one connection, shared by the server's transport and the simulated client.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Sent by the client, not yet read by the server.
    pub(crate) to_server: VecDeque<u8>,
    /// The client has ended its stream.
    pub(crate) client_ended: bool,
    /// The connection was cut, by whoever: both sides get an error.
    pub(crate) is_reset: bool,
    /// Sent by the server, not yet read by the client.
    pub(crate) to_client: VecDeque<u8>,
    /// How many bytes the path to the client holds.
    pub(crate) capacity: usize,
    /// Nothing is taken before so many bytes have room, as a kernel does that is far ahead of a slow peer.
    pub(crate) lump: usize,
    /// The server could not write all it wanted: an edge is due when there is room again.
    pub(crate) writer_waits: bool,
    /// The server has ended its stream, or closed the socket.
    pub(crate) server_ended: bool,
    /// The server has closed the socket.
    pub(crate) is_closed: bool,
    /// Closing the socket cuts the connection.
    pub(crate) resets_on_close: bool,
}

/// The server's end of a [`Wire`].
#[derive(Debug)]
pub(crate) struct SimulatedSocket(pub(crate) Rc<RefCell<Wire>>);

impl SimulatedSocket {
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if wire.to_server.is_empty() {
            return if wire.client_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let read = buffer.len().min(wire.to_server.len());
        for (place, byte) in buffer.iter_mut().zip(wire.to_server.drain(..read)) {
            *place = byte;
        }
        Ok(read)
    }

    pub(crate) fn write(&mut self, offered: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        assert!(!wire.server_ended, "nothing is written after the end of the stream");
        let room = wire.capacity.saturating_sub(wire.to_client.len());
        let taken = if room < wire.lump { 0 } else { offered.len().min(room) };
        wire.to_client.extend(&offered[..taken]);
        wire.writer_waits = taken < offered.len();
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    pub(crate) fn unread(&self) -> usize {
        self.0.borrow().to_client.len()
    }

    pub(crate) fn shut_down_writing(&mut self) {
        self.0.borrow_mut().server_ended = true;
    }

    pub(crate) fn reset_on_close(&mut self) {
        self.0.borrow_mut().resets_on_close = true;
    }
}

impl Drop for SimulatedSocket {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        wire.server_ended = true;
        wire.is_closed = true;
        if wire.resets_on_close {
            wire.is_reset = true;
            wire.to_client.clear();
        }
    }
}
