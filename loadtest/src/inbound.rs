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
    /// The last fragmented message, put together.
    whole: Vec<u8>,
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

    /// Keeps `bytes` for later: what was left of a read, or what [`Inbound::begin`] put to the front of one that failed.
    #[inline]
    pub fn keep(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Whether the next bytes begin a message, or a control frame, and do not continue one.
    pub fn is_between_messages(&self) -> bool {
        self.fragments.is_none() && !self.closed
    }

    /// The next event in `bytes` from `at` on, which moves behind it; `None` when there is no further one. `bytes` is the
    /// front of the buffer that [`Inbound::begin`] prepared, with what was read behind it. What is left at the end goes
    /// back to [`Inbound::keep`].
    #[inline]
    pub fn next<'a>(
        &'a mut self,
        bytes: &'a [u8],
        at: &mut usize,
        max_message_bytes: usize,
    ) -> Result<Option<Event<'a>>, Fault> {
        while !self.closed {
            let Some(header) = frame::header(&bytes[*at..])? else { return Ok(None) };
            if header.mask.is_some() {
                return Err(Fault::WrongMasking);
            }
            if header.payload_bytes > max_message_bytes {
                return Err(Fault::TooLong);
            }
            let start = *at + header.header_bytes;
            let end = start + header.payload_bytes;
            let Some(payload) = bytes.get(start..end) else { return Ok(None) };
            *at = end;
            match header.opcode {
                Opcode::Text | Opcode::Binary if header.fin && self.fragments.is_none() => {
                    return Ok(Some(Event::Message(payload)));
                }
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    if self.add_fragment(header.fin, header.opcode, payload, max_message_bytes)? {
                        self.whole = self.fragments.take().unwrap_or_default();
                        return Ok(Some(Event::Message(&self.whole)));
                    }
                }
                Opcode::Ping => return Ok(Some(Event::Ping(payload))),
                Opcode::Pong => {}
                Opcode::Close => {
                    self.closed = true;
                    *at = bytes.len();
                    return Ok(Some(Event::Close { code: frame::close_code(payload) }));
                }
            }
        }
        *at = bytes.len();
        Ok(None)
    }

    /// Whether the message is whole now.
    #[cold]
    fn add_fragment(
        &mut self,
        fin: bool,
        opcode: Opcode,
        payload: &[u8],
        max_message_bytes: usize,
    ) -> Result<bool, Fault> {
        match (&mut self.fragments, opcode) {
            (None, Opcode::Text | Opcode::Binary) => self.fragments = Some(payload.to_vec()),
            (Some(pieces), Opcode::Continuation) => {
                if pieces.len() + payload.len() > max_message_bytes {
                    return Err(Fault::TooLong);
                }
                pieces.extend_from_slice(payload);
            }
            _ => return Err(Fault::BadFragment),
        }
        Ok(fin)
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
            let mut at = 0;
            loop {
                match inbound.next(filled, &mut at, max_message_bytes) {
                    Ok(Some(event)) => heard.push(name(&event)),
                    Ok(None) => break,
                    Err(fault) => return (heard, Err(fault)),
                }
            }
            inbound.keep(&filled[at..]);
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
        let (bytes, mut at) = (b"\x81\x01a\x81\x01b", 0);
        while inbound.next(bytes, &mut at, 100).unwrap().is_some() {}
        inbound.keep(&bytes[at..]);
        assert_eq!(inbound.tail.capacity(), 0);
    }
}
