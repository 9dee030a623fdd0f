//! Bytes of a server become messages: the reading half of one client.
//!
//! All clients are read into one shared buffer. A client keeps only what was cut off at its end; before the next read,
//! [`Inbound::begin`] puts that to the front of the buffer, and the read goes behind it:
//!
//! ```text
//! shared buffer   [ kept tail | what this read brought                  ]
//!                 [ frame | frame | frame | frame | cut off → kept tail ]
//! ```
//!
//! So messages are handed out where they lie, and a client that has nothing half read holds no memory. It gives the same
//! events for the same bytes in any pieces.

use crate::frame::{self, Fault, Opcode};

/// A read gets at least this much room.
const MIN_READ_BYTES: usize = 64 * 1024;

/// What a server has said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message, text or binary.
    Message(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A close frame; nothing after it counts.
    Close {
        /// Its code, 1005 if it had none.
        code: u16,
    },
}

/// The reading half of one client.
#[derive(Debug, Default)]
pub struct Inbound {
    /// The beginning of a frame whose end has not come yet.
    tail: Vec<u8>,
    /// The pieces so far of a fragmented message.
    fragments: Option<Vec<u8>>,
    /// A close frame has come.
    closed: bool,
}

impl Inbound {
    /// Puts the kept bytes to the front of `buffer` and returns how many they are. The next read goes behind them.
    #[inline]
    pub fn begin(&mut self, buffer: &mut Vec<u8>) -> usize {
        if self.tail.is_empty() {
            return 0;
        }
        let kept = self.tail.len();
        if buffer.len() < kept + MIN_READ_BYTES {
            buffer.resize(kept + MIN_READ_BYTES, 0);
        }
        buffer[..kept].copy_from_slice(&self.tail);
        self.tail.clear();
        kept
    }

    /// Keeps `bytes` for later as they are: what came after the handshake, or what a failed read left at the front.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Hands the whole messages in `bytes` to `on_event` and keeps the rest. `bytes` is the front of the buffer that
    /// [`Inbound::begin`] prepared, with what was read behind it.
    #[inline]
    pub fn receive(
        &mut self,
        bytes: &[u8],
        max_message_bytes: usize,
        mut on_event: impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        let mut at = 0;
        while !self.closed {
            let Some(header) = frame::header(&bytes[at..])? else { break };
            if header.mask.is_some() {
                return Err(Fault::WrongMasking);
            }
            if header.payload_bytes > max_message_bytes {
                return Err(Fault::TooLong);
            }
            let start = at + header.header_bytes;
            let end = start + header.payload_bytes;
            let Some(payload) = bytes.get(start..end) else { break };
            at = end;
            if header.fin && self.fragments.is_none() && matches!(header.opcode, Opcode::Text | Opcode::Binary) {
                on_event(Event::Message(payload));
            } else {
                self.rare_frame(header.fin, header.opcode, payload, max_message_bytes, &mut on_event)?;
            }
        }
        if !self.closed && at < bytes.len() {
            self.tail.extend_from_slice(&bytes[at..]);
        }
        Ok(())
    }

    /// Control frames and fragments.
    #[cold]
    fn rare_frame(
        &mut self,
        fin: bool,
        opcode: Opcode,
        payload: &[u8],
        max_message_bytes: usize,
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        match opcode {
            Opcode::Ping => on_event(Event::Ping(payload)),
            Opcode::Pong => {}
            Opcode::Close => {
                self.closed = true;
                on_event(Event::Close { code: frame::close_code(payload) });
            }
            Opcode::Text | Opcode::Binary => {
                if self.fragments.is_some() {
                    return Err(Fault::BadFragment);
                }
                self.fragments = Some(payload.to_vec());
            }
            Opcode::Continuation => {
                let pieces = self.fragments.as_mut().ok_or(Fault::BadFragment)?;
                if pieces.len() + payload.len() > max_message_bytes {
                    return Err(Fault::TooLong);
                }
                pieces.extend_from_slice(payload);
                if fin && let Some(message) = self.fragments.take() {
                    on_event(Event::Message(&message));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(event: &Event<'_>) -> String {
        match event {
            Event::Message(payload) => format!("message {}", String::from_utf8_lossy(payload)),
            Event::Ping(payload) => format!("ping {}", String::from_utf8_lossy(payload)),
            Event::Close { code } => format!("close {code}"),
        }
    }

    /// Feeds `script` in pieces of `size` bytes through one shared buffer, which another client dirties in between.
    fn feed(script: &[u8], size: usize, max_message_bytes: usize) -> (Vec<String>, Result<(), Fault>) {
        let mut inbound = Inbound::default();
        let mut buffer = vec![0xEE; 16];
        let mut heard = Vec::new();
        for piece in script.chunks(size) {
            let kept = inbound.begin(&mut buffer);
            if buffer.len() < kept + piece.len() {
                buffer.resize(kept + piece.len(), 0);
            }
            buffer[kept..kept + piece.len()].copy_from_slice(piece);
            let filled = &buffer[..kept + piece.len()];
            if let Err(fault) = inbound.receive(filled, max_message_bytes, |event| heard.push(name(&event))) {
                return (heard, Err(fault));
            }
            buffer.fill(0xEE);
        }
        (heard, Ok(()))
    }

    #[test]
    fn scripts_in_pieces_of_every_size() {
        let long = [&[0x81, 126, 1, 0][..], &[b'z'; 256]].concat();
        let long_message = format!("message {}", "z".repeat(256));
        type Row<'a> = (&'a str, &'a [u8], &'a [&'a str], Result<(), Fault>);
        let table: &[Row<'_>] = &[
            ("nothing", b"", &[], Ok(())),
            ("one text", b"\x81\x02hi", &["message hi"], Ok(())),
            ("empty", b"\x81\x00\x82\x00", &["message ", "message "], Ok(())),
            ("three", b"\x81\x01a\x82\x01b\x81\x01c", &["message a", "message b", "message c"], Ok(())),
            ("16 bit length", &long, &[&long_message], Ok(())),
            ("unfinished", b"\x81\x01a\x81\x05bc", &["message a"], Ok(())),
            ("ping, pong", b"\x89\x02hi\x8A\x00\x81\x01a", &["ping hi", "message a"], Ok(())),
            ("fragments", b"\x01\x01a\x00\x01b\x80\x01c\x81\x01d", &["message abc", "message d"], Ok(())),
            ("ping inside a message", b"\x01\x01a\x89\x01p\x80\x01b", &["ping p", "message ab"], Ok(())),
            ("close", b"\x81\x01a\x88\x02\x03\xE9\x81\x01b", &["message a", "close 1001"], Ok(())),
            ("close without a code", b"\x88\x00", &["close 1005"], Ok(())),
            ("masked", b"\x81\x01a\x81\x81aaaaa", &["message a"], Err(Fault::WrongMasking)),
            ("continues nothing", b"\x80\x01a", &[], Err(Fault::BadFragment)),
            ("message in a message", b"\x01\x01a\x81\x01b", &[], Err(Fault::BadFragment)),
            ("too long", b"\x81\x7E\x03\xE9", &[], Err(Fault::TooLong)),
            ("reserved", b"\x81\x01a\xC1\x01b", &["message a"], Err(Fault::ReservedBit)),
        ];
        for (name, script, events, result) in table {
            for size in 1..=script.len().max(1) {
                let (heard, outcome) = feed(script, size, 1000);
                assert_eq!(heard, *events, "{name} in pieces of {size}");
                assert_eq!(outcome, *result, "{name} in pieces of {size}");
            }
        }
    }

    #[test]
    fn fragments_have_a_bound() {
        let script = [&b"\x01\x40"[..], &[b'a'; 64], b"\x80\x40", &[b'a'; 64]].concat();
        assert_eq!(feed(&script, 7, 128).1, Ok(()));
        assert_eq!(feed(&script, 7, 127).1, Err(Fault::TooLong));
    }

    #[test]
    fn nothing_is_held_between_whole_frames() {
        let mut inbound = Inbound::default();
        inbound.receive(b"\x81\x01a\x81\x01b", 100, |_| ()).unwrap();
        assert_eq!(inbound.tail.capacity(), 0);
    }
}
