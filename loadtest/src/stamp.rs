//! What a message of a run carries: who sent it, which one it is, and when it was due.
//!
//! A payload is printable ASCII, so that it travels in text frames through any chat server:
//!
//! ```text
//! run (8 hex) · sender (8 hex) · number (8 hex) · scheduled time in ns (16 hex) · letters up to the wanted size
//! ```
//!
//! It is decoded eight digits at a time, since this happens once for every message and member.

/// Bytes of the stamp, and thus of the shortest message.
pub const STAMP_BYTES: usize = 40;

/// Who sent a message, which of its messages it is, and when it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The index of the sender.
    pub sender: u32,
    /// How many messages this sender had sent before.
    pub number: u32,
    /// When it should have been sent, in nanoseconds of the monotonic clock.
    pub scheduled: u64,
}

/// A payload that is no intact message of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// Not of this run: somebody else talks in the room, or the server itself.
    Foreign,
    /// Of this run, but not as it was sent.
    Corrupt,
}

/// Encodes and decodes the payloads of one run.
#[derive(Debug)]
pub struct Stamps {
    /// The digits of the run, as they are read.
    run: u64,
    /// A whole payload, whose front is overwritten for each message.
    template: Vec<u8>,
}

impl Stamps {
    /// For the run `run`, with payloads of `size` bytes, at least [`STAMP_BYTES`].
    pub fn new(run: u32, size: usize) -> Self {
        assert!(size >= STAMP_BYTES, "a payload of {size} bytes has no room for the stamp");
        let mut template: Vec<u8> = (b'a'..=b'z').cycle().take(size).collect();
        put_hex(&mut template[0..8], u64::from(run));
        let run = u64::from_le_bytes(*template.first_chunk().expect("a payload is longer than the run"));
        Stamps { run, template }
    }

    /// The payload that carries `stamp`.
    pub fn encode(&mut self, stamp: Stamp) -> &[u8] {
        put_hex(&mut self.template[8..16], u64::from(stamp.sender));
        put_hex(&mut self.template[16..24], u64::from(stamp.number));
        put_hex(&mut self.template[24..40], stamp.scheduled);
        &self.template
    }

    /// Sender and number in `front`, the first 24 bytes of a payload of this run.
    pub fn decode_front(&self, front: &[u8]) -> Option<(u32, u32)> {
        let (words, []) = front.as_chunks::<8>() else { return None };
        let &[run, sender, number] = words else { return None };
        (u64::from_le_bytes(run) == self.run)
            .then(|| (hex(u64::from_le_bytes(sender)), hex(u64::from_le_bytes(number))))
    }

    /// What `payload` carries.
    #[inline]
    pub fn decode(&self, payload: &[u8]) -> Result<Stamp, Odd> {
        let Some((stamp, filler)) = payload.split_first_chunk::<STAMP_BYTES>() else { return Err(Odd::Foreign) };
        let word = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| stamp[8 * at + n]));
        if word(0) != self.run {
            return Err(Odd::Foreign);
        }
        if !is_same(filler, &self.template[STAMP_BYTES..]) {
            return Err(Odd::Corrupt);
        }
        let [sender, number, high, low] = [word(1), word(2), word(3), word(4)].map(hex);
        Ok(Stamp { sender, number, scheduled: u64::from(high) << 32 | u64::from(low) })
    }
}

/// Whether two slices are equal: for the usual short ones without the call that comparing slices is.
#[inline]
fn is_same(left: &[u8], right: &[u8]) -> bool {
    if left.len() > 128 || left.len() != right.len() {
        return left == right;
    }
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let words = left.iter().zip(right).fold(0, |sum, (a, b)| sum | (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)));
    let bytes = left_rest.iter().zip(right_rest).fold(0, |sum, (a, b)| sum | (a ^ b));
    words == 0 && bytes == 0
}

/// Writes `value` into `out`, one hexadecimal digit to the byte, the highest first.
fn put_hex(out: &mut [u8], mut value: u64) {
    for byte in out.iter_mut().rev() {
        *byte = b"0123456789abcdef"[(value & 0xF) as usize];
        value >>= 4;
    }
}

/// Eight hexadecimal digits at once: digits to nibbles, then pairs of nibbles, bytes and words are joined. Other
/// characters give some number, which the checker will not know.
#[inline]
fn hex(digits: u64) -> u32 {
    // A letter has bit 6 set and the low nibble 1 to 6, so it wants 9 more.
    let nibbles = (digits & 0x0F0F_0F0F_0F0F_0F0F) + 9 * ((digits >> 6) & 0x0101_0101_0101_0101);
    let bytes = (nibbles << 4 | nibbles >> 8) & 0x00FF_00FF_00FF_00FF;
    let words = (bytes << 8 | bytes >> 16) & 0x0000_FFFF_0000_FFFF;
    (words << 16 | words >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_come_back() {
        let table = [
            ("zeros", 0, 0, 0),
            ("ones", 1, 1, 1),
            ("every digit", 0x0123_4567, 0x89AB_CDEF, 0x0123_4567_89AB_CDEF),
            ("ends", u32::MAX, u32::MAX, u64::MAX),
        ];
        for size in [40, 41, 64, 1000] {
            let mut stamps = Stamps::new(0xFEDC_BA98, size);
            for (name, sender, number, scheduled) in table {
                let stamp = Stamp { sender, number, scheduled };
                let payload = stamps.encode(stamp).to_vec();
                assert_eq!(payload.len(), size, "{name}");
                assert!(payload.iter().all(u8::is_ascii_alphanumeric), "{name}");
                assert_eq!(stamps.decode(&payload), Ok(stamp), "{name}, {size} bytes");
                assert_eq!(stamps.decode_front(&payload[..24]), Some((sender, number)), "{name}");
                assert_eq!(stamps.decode_front(&payload), None, "{name}");
            }
        }
    }

    #[test]
    fn odd_payloads() {
        let mut stamps = Stamps::new(7, 64);
        let good = stamps.encode(Stamp { sender: 1, number: 2, scheduled: 3 }).to_vec();
        let mut changed = good.clone();
        changed[50] ^= 1;
        let other_run = Stamps::new(8, 64).encode(Stamp { sender: 1, number: 2, scheduled: 3 }).to_vec();
        let table: &[(&str, &[u8], Odd)] = &[
            ("empty", b"", Odd::Foreign),
            ("chatter", b"hello", Odd::Foreign),
            ("long chatter", &[b'a'; 64], Odd::Foreign),
            ("another run", &other_run, Odd::Foreign),
            ("cut", &good[..63], Odd::Corrupt),
            ("longer", &[&good[..], b"x"].concat(), Odd::Corrupt),
            ("changed", &changed, Odd::Corrupt),
        ];
        for (name, payload, expected) in table {
            assert_eq!(stamps.decode(payload), Err(*expected), "{name}");
        }
    }
}
