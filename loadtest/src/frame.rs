//! WebSocket frames (RFC 6455, section 5), as little of them as a load generator and a yardstick need.
//!
//! A header is read where it lies; a payload is never copied here. What is not allowed on the wire is a [`Fault`].

use std::fmt;

/// The longest header: two bytes, eight of length, four of masking key.
pub const MAX_HEADER_BYTES: usize = 14;

/// What a frame is for (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further piece of a message.
    Continuation,
    /// A message, or its first piece, that is UTF-8.
    Text,
    /// A message, or its first piece, of any bytes.
    Binary,
    /// The end of the conversation.
    Close,
    /// A question whether the peer lives.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Opcode {
    /// The four bits on the wire.
    pub fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        }
    }

    /// Whether the frame may come in the middle of a fragmented message.
    pub fn is_control(self) -> bool {
        self.bits() & 0x8 != 0
    }
}

/// What a frame says about itself before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the last piece of its message.
    pub fin: bool,
    /// What the frame is for.
    pub opcode: Opcode,
    /// The masking key, which every frame of a client has and no frame of a server.
    pub mask: Option<[u8; 4]>,
    /// Bytes of the header itself.
    pub header_bytes: usize,
    /// Bytes of the payload that follows.
    pub payload_bytes: usize,
}

/// Bytes that are no WebSocket frame, or one that its sender may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A reserved bit is set, though no extension was negotiated.
    ReservedBit,
    /// An opcode that means nothing.
    UnknownOpcode(u8),
    /// A control frame that is fragmented or longer than 125 bytes.
    BadControlFrame,
    /// A masked frame from a server, or an unmasked one from a client.
    WrongMasking,
    /// A continuation of nothing, or a new message inside another one.
    BadFragment,
    /// A length beyond what we are willing to hold.
    TooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::ReservedBit => f.write_str("a frame with a reserved bit"),
            Fault::UnknownOpcode(bits) => write!(f, "a frame with the unknown opcode {bits:#x}"),
            Fault::BadControlFrame => f.write_str("a control frame that is fragmented or too long"),
            Fault::WrongMasking => f.write_str("a frame that is masked but should not be, or the reverse"),
            Fault::BadFragment => f.write_str("a fragment that does not belong to a message"),
            Fault::TooLong => f.write_str("a frame longer than any message of this run"),
        }
    }
}

/// Reads the header at the front of `bytes`; `None` if it is not complete yet.
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first == 0x81 && second < 126 {
        // What nearly every frame of a server is.
        let payload_bytes = usize::from(second);
        return Ok(Some(Header { fin: true, opcode: Opcode::Text, mask: None, header_bytes: 2, payload_bytes }));
    }
    any_header(first, second, bytes)
}

fn any_header(first: u8, second: u8, bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let opcode = match first & 0x0F {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xA => Opcode::Pong,
        bits => return Err(Fault::UnknownOpcode(bits)),
    };
    if first & 0x70 != 0 {
        return Err(Fault::ReservedBit);
    }
    let fin = first & 0x80 != 0;
    let short = second & 0x7F;
    if opcode.is_control() && (!fin || short > 125) {
        return Err(Fault::BadControlFrame);
    }

    let rest = &bytes[2..];
    let (length_bytes, payload_bytes) = match short {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (2, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (8, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        short => (0, u64::from(short)),
    };
    // Bounded so that sums of lengths cannot overflow; who reads sets a closer bound.
    let payload_bytes = usize::try_from(payload_bytes).ok().filter(|&n| n <= usize::MAX / 4).ok_or(Fault::TooLong)?;

    if second & 0x80 == 0 {
        return Ok(Some(Header { fin, opcode, mask: None, header_bytes: 2 + length_bytes, payload_bytes }));
    }
    let Some(mask) = rest[length_bytes..].first_chunk::<4>() else { return Ok(None) };
    Ok(Some(Header { fin, opcode, mask: Some(*mask), header_bytes: 6 + length_bytes, payload_bytes }))
}

/// Appends the header of an unfragmented frame to `out`, with `mask` if it is a client that sends.
pub fn push_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode.bits());
    if payload_bytes <= 125 {
        out.push(masked | payload_bytes as u8);
    } else if let Ok(length) = u16::try_from(payload_bytes) {
        out.push(masked | 126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(masked | 127);
        out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |key| &key[..]));
}

/// Appends a whole frame as a client sends it.
pub fn push_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    push_header(out, opcode, payload.len(), Some(mask));
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Masks or unmasks `payload`, which is the same (RFC 6455, section 5.3).
#[inline]
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// The code in the payload of a close frame; 1005 if it carries none (RFC 6455, section 7.1.5).
pub fn close_code(payload: &[u8]) -> u16 {
    payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let frame = |fin, opcode, mask, header_bytes, payload_bytes| {
            Ok(Some(Header { fin, opcode, mask, header_bytes, payload_bytes }))
        };
        let key = Some([1, 2, 3, 4]);
        type Row<'a> = (&'a str, &'a [u8], Result<Option<Header>, Fault>);
        let table: &[Row<'_>] = &[
            ("nothing", &[], Ok(None)),
            ("half", &[0x81], Ok(None)),
            ("empty text", &[0x81, 0], frame(true, Opcode::Text, None, 2, 0)),
            ("first fragment", &[0x02, 5], frame(false, Opcode::Binary, None, 2, 5)),
            ("125", &[0x82, 125], frame(true, Opcode::Binary, None, 2, 125)),
            ("126", &[0x82, 126, 0, 126], frame(true, Opcode::Binary, None, 4, 126)),
            ("126, half", &[0x82, 126, 0], Ok(None)),
            ("65536", &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], frame(true, Opcode::Binary, None, 10, 65536)),
            ("65536, half", &[0x82, 127, 0, 0, 0, 0, 0, 1, 0], Ok(None)),
            ("masked", &[0x81, 0x83, 1, 2, 3, 4], frame(true, Opcode::Text, key, 6, 3)),
            ("masked, half", &[0x81, 0x83, 1, 2, 3], Ok(None)),
            ("masked 126", &[0x81, 0xFE, 1, 0, 1, 2, 3, 4], frame(true, Opcode::Text, key, 8, 256)),
            ("ping", &[0x89, 0], frame(true, Opcode::Ping, None, 2, 0)),
            ("long ping", &[0x89, 126, 0, 200], Err(Fault::BadControlFrame)),
            ("cut close", &[0x08, 0], Err(Fault::BadControlFrame)),
            ("reserved bit", &[0xC1, 0], Err(Fault::ReservedBit)),
            ("unknown opcode", &[0x83, 0], Err(Fault::UnknownOpcode(3))),
            ("absurd", &[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255], Err(Fault::TooLong)),
        ];
        for (name, bytes, expected) in table {
            assert_eq!(header(bytes), *expected, "{name}");
        }
    }

    #[test]
    fn what_is_pushed_is_read_back() {
        for size in [0, 1, 7, 8, 9, 125, 126, 65535, 65536] {
            let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let mut bytes = Vec::new();
            push_masked(&mut bytes, Opcode::Text, &payload, [9, 8, 7, 6]);
            let header = header(&bytes).unwrap().unwrap();
            assert_eq!(header.mask, Some([9, 8, 7, 6]), "{size}");
            assert_eq!(bytes.len(), header.header_bytes + header.payload_bytes, "{size}");
            apply_mask(&mut bytes[header.header_bytes..], [9, 8, 7, 6]);
            assert!(bytes[header.header_bytes..] == payload, "{size}");
        }
    }

    #[test]
    fn close_codes() {
        assert_eq!(close_code(&[]), 1005);
        assert_eq!(close_code(&[3]), 1005);
        assert_eq!(close_code(&[0x03, 0xE9, b'x']), 1001);
    }
}
