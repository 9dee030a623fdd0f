//! Where a client's frames begin and end, told from their headers alone (RFC 6455, section 5.2).
//!
//! A header is also judged here, before its payload has come: what it alone makes wrong is told at once, and nothing is
//! held for a frame that can only fail. What the payload makes wrong is tungstenite's to find.

use tungstenite::protocol::frame::coding::CloseCode;

use super::frame::MAX_CONTROL_BYTES;
use crate::close::CloseReason;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xa;

/// The header of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    first: u8,
    payload_bytes: u64,
    /// Bytes of the header itself.
    len: usize,
    mask: Option<[u8; 4]>,
}

/// The bytes of a header, as far as its first two tell; two as long as they are not there.
pub(super) fn header_len(bytes: &[u8]) -> usize {
    let &[_, second, ..] = bytes else { return 2 };
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + extended + if second & 0x80 == 0 { 0 } else { 4 }
}

impl Header {
    /// The header at the front of `bytes`, or `None` if it is not whole yet.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
        let &[first, second, ref rest @ ..] = bytes else { return None };
        let (payload_bytes, rest) = match second & 0x7f {
            126 => rest.split_first_chunk().map(|(len, rest)| (u64::from(u16::from_be_bytes(*len)), rest))?,
            127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), rest))?,
            len => (u64::from(len), rest),
        };
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            rest.split_first_chunk().map(|(mask, rest)| (Some(*mask), rest))?
        };
        Some(Header { first, payload_bytes, len: bytes.len() - rest.len(), mask })
    }

    fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }

    fn is_control(&self) -> bool {
        self.first & 0x08 != 0
    }

    /// Bytes of the header.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the frame, header and payload. Meant for a header that has passed [`check`](Self::check).
    pub(super) fn frame_len(&self) -> usize {
        usize::try_from(self.payload_bytes).unwrap_or(usize::MAX).saturating_add(self.len)
    }

    /// The mask, if this frame begins a text message.
    pub(super) fn mask_of_text(&self) -> Option<[u8; 4]> {
        if self.opcode() == TEXT { self.mask } else { None }
    }

    /// Whether a client may send this frame now: inside of a fragmented message or not.
    ///
    /// A frame which is both wrong and too long is wrong: its length need not even be one.
    #[inline]
    pub(super) fn check(&self, inside: bool, max_message_bytes: usize) -> Result<(), CloseReason> {
        let reserved_bits = self.first & 0x70 != 0;
        let in_place = match self.opcode() {
            CONTINUATION => inside,
            TEXT | BINARY => !inside,
            CLOSE..=PONG => self.is_final() && self.payload_bytes <= MAX_CONTROL_BYTES as u64,
            _ => false,
        };
        // The highest bit of a length is always zero.
        let length = self.payload_bytes >> 63 == 0;
        if reserved_bits || self.mask.is_none() || !in_place || !length {
            return Err(CloseReason::Protocol);
        }
        if self.payload_bytes > max_message_bytes as u64 && !self.is_control() {
            return Err(CloseReason::MessageTooBig);
        }
        Ok(())
    }

    /// Whether a whole frame is no close frame with a code that nobody may send (RFC 6455, section 7.4). tungstenite
    /// would take such a code for 1002 without saying so.
    fn check_close_code(&self, frame: &[u8]) -> Result<(), CloseReason> {
        match (self.opcode(), self.mask, &frame[self.len..]) {
            (CLOSE, Some([m, n, ..]), &[a, b, ..])
                if !CloseCode::from(u16::from_be_bytes([a ^ m, b ^ n])).is_allowed() =>
            {
                Err(CloseReason::Protocol)
            }
            _ => Ok(()),
        }
    }
}

/// Whole frames at the front of some input that one context can take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Bytes of all of them; never 0.
    pub(super) len: usize,
    /// Messages which they complete, control frames included.
    pub(super) messages: usize,
    /// Bytes of the longest frame.
    pub(super) longest: usize,
    /// The run ends inside of a fragmented message, so its context must be kept until that ends.
    pub(super) unfinished: bool,
}

/// The next run of `input`; `None` if its first frame is not whole. `inside` tells whether a fragmented message has begun
/// before it.
///
/// A run ends where the message ends that it began inside of; else with the last message that `input` completes; else it
/// is all of an unfinished one. It also ends behind a close frame, after which nothing counts.
///
/// # Errors
///
/// Fails if the *first* frame is against the rules; a run ends before one that is.
pub(super) fn next_run(input: &[u8], inside: bool, max_message_bytes: usize) -> Result<Option<Run>, CloseReason> {
    let mut run = Run { len: 0, messages: 0, longest: 0, unfinished: inside };
    let mut whole = None;
    while let Some(header) = Header::parse(&input[run.len..]) {
        let checked = match header.check(run.unfinished, max_message_bytes) {
            Ok(()) => match input[run.len..].get(..header.frame_len()) {
                Some(frame) => header.check_close_code(frame),
                None => break,
            },
            wrong => wrong,
        };
        match checked {
            Err(reason) if run.len == 0 => return Err(reason),
            Err(_) => break,
            Ok(()) => {}
        }
        run.len += header.frame_len();
        run.longest = run.longest.max(header.frame_len());
        run.messages += usize::from(header.is_final());
        if !header.is_control() {
            run.unfinished = !header.is_final();
        }
        let closed = header.opcode() == CLOSE;
        if closed || !run.unfinished {
            whole = Some(run);
        }
        if closed || (inside && !run.unfinished) {
            break;
        }
    }
    Ok(whole.or((run.len > 0).then_some(run)))
}
