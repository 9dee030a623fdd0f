//! Frames as a server sends them: whole messages, not fragmented, not masked (RFC 6455, section 5.2).
//!
//! Everything is appended to a [`BufMut`], so that a batch of messages becomes one contiguous buffer.

use bytes::BufMut;

/// Payload bytes a control frame may carry (RFC 6455, section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// What a data frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

const FINAL: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// The bytes [`encode`] appends for a payload of this length: two, four or ten for the header, and the payload.
#[must_use]
pub const fn encoded_len(payload_len: usize) -> usize {
    let header = match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    header + payload_len
}

/// Appends one message as one frame.
///
/// The payload of a [`Opcode::Text`] message must be UTF-8; that is the caller's to know.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut impl BufMut) {
    let code = match opcode {
        Opcode::Text => TEXT,
        Opcode::Binary => BINARY,
    };
    append(code, payload, out);
}

/// Appends a ping. Of a payload longer than [`MAX_CONTROL_BYTES`] only the beginning is sent.
pub fn ping(payload: &[u8], out: &mut impl BufMut) {
    append(PING, &payload[..payload.len().min(MAX_CONTROL_BYTES)], out);
}

/// Appends a close frame with a code and the words that go with it (RFC 6455, section 5.5.1), or, without a code, an
/// empty one. Words that do not fit into a control frame are cut between two characters.
pub fn close(code: Option<u16>, words: &str, out: &mut impl BufMut) {
    let Some(code) = code else { return append(CLOSE, &[], out) };
    let mut cut = words.len().min(MAX_CONTROL_BYTES - 2);
    while !words.is_char_boundary(cut) {
        cut -= 1;
    }
    out.put_slice(&[FINAL | CLOSE, 2 + cut as u8]);
    out.put_u16(code);
    out.put_slice(&words.as_bytes()[..cut]);
}

fn append(code: u8, payload: &[u8], out: &mut impl BufMut) {
    out.put_u8(FINAL | code);
    match payload.len() {
        len @ 0..=125 => out.put_u8(len as u8),
        len @ 126..=0xffff => {
            out.put_u8(126);
            out.put_u16(len as u16);
        }
        len => {
            out.put_u8(127);
            out.put_u64(len as u64);
        }
    }
    out.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn the_length_takes_the_shortest_of_its_three_forms() {
        let table: [(usize, &[u8]); 6] = [
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (70_000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        ];
        for (len, header) in table {
            let payload = vec![b'x'; len];
            let mut out = Vec::new();
            encode(Opcode::Text, &payload, &mut out);
            assert_eq!(&out[..header.len()], header, "{len}");
            assert_eq!(&out[header.len()..], payload, "{len}");
            assert_eq!(out.len(), encoded_len(len), "{len}");
        }
    }

    #[test]
    fn each_kind_of_frame_is_appended_to_what_is_there() {
        let mut out = BytesMut::new();
        encode(Opcode::Text, b"a", &mut out);
        encode(Opcode::Binary, b"b", &mut out);
        ping(b"", &mut out);
        ping(b"p", &mut out);
        close(None, "never sent without a code", &mut out);
        close(Some(1000), "", &mut out);
        close(Some(1001), "bye", &mut out);
        let expected: &[u8] = b"\x81\x01a\x82\x01b\x89\x00\x89\x01p\x88\x00\x88\x02\x03\xe8\x88\x05\x03\xe9bye";
        assert_eq!(out, expected);
    }

    #[test]
    fn control_frames_never_grow_beyond_their_limit() {
        let mut out = Vec::new();
        ping(&[b'p'; 200], &mut out);
        assert_eq!((out[1], out.len()), (125, 127));
        out.clear();
        close(Some(1008), &"ä".repeat(100), &mut out);
        assert_eq!((out[1], out.len()), (124, 126), "123 bytes of words would cut a character in two");
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }
}
