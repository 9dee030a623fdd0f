//! The content of a request: counted or chunked (RFC 9112, sections 6.2 and 7.1), collected whole within a bound.

use bytes::{Buf, BytesMut};
use http::StatusCode;

use super::Fault;
use super::framing::Content;

/// Bytes of one chunk-size line with its extensions.
const MAX_SIZE_LINE: usize = 256;
/// Bytes of all trailer fields; they are read over.
const MAX_TRAILERS: usize = 8 * 1024;

const TOO_LARGE: Fault = Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "The content is larger than is taken here.");

/// A request's content on its way in.
#[derive(Debug)]
pub(super) struct Body {
    step: Step,
    content: Vec<u8>,
    max_bytes: usize,
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// So many bytes, and no more.
    Counted(usize),
    /// The line that tells the size of the next chunk.
    Size,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk, up to an empty one.
    Trailers,
    /// All is there.
    Done,
}

impl Body {
    /// Content that is announced so, of at most `max_bytes`.
    pub(super) fn new(content: Content, max_bytes: usize) -> Result<Self, Fault> {
        let step = match content {
            Content::None => Step::Done,
            Content::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= max_bytes => Step::Counted(length),
                _ => return Err(TOO_LARGE),
            },
            Content::Chunked => Step::Size,
        };
        Ok(Body { step, content: Vec::new(), max_bytes, trailers: 0 })
    }

    /// Takes from the front of `buffer` what belongs to the content, and gives all of it once it is complete.
    pub(super) fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            self.step = match self.step {
                Step::Done => return Ok(Some(std::mem::take(&mut self.content))),
                Step::Counted(0) => Step::Done,
                Step::Chunk(0) => Step::ChunkEnd,
                Step::Counted(_) | Step::Chunk(_) if buffer.is_empty() => return Ok(None),
                Step::Counted(left) => Step::Counted(left - self.copy(left, buffer)),
                Step::Chunk(left) => Step::Chunk(left - self.copy(left, buffer)),
                Step::Size => match line(buffer, MAX_SIZE_LINE)? {
                    None => return Ok(None),
                    Some(line) => match chunk_size(&line)? {
                        0 => Step::Trailers,
                        size if size > self.max_bytes - self.content.len() => return Err(TOO_LARGE),
                        size => Step::Chunk(size),
                    },
                },
                Step::ChunkEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        Step::Size
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Fault::bad_request("A chunk is longer than its size says.")),
                },
                Step::Trailers => match line(buffer, MAX_TRAILERS - self.trailers)? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => Step::Done,
                    Some(line) => {
                        self.trailers = (self.trailers + line.len() + 2).min(MAX_TRAILERS);
                        Step::Trailers
                    }
                },
            }
        }
    }

    fn copy(&mut self, most: usize, buffer: &mut BytesMut) -> usize {
        let taken = most.min(buffer.len());
        self.content.extend_from_slice(&buffer[..taken]);
        buffer.advance(taken);
        taken
    }
}

/// A whole line off the front of `buffer`, without its end; `None` while it is not whole.
fn line(buffer: &mut BytesMut, most: usize) -> Result<Option<BytesMut>, Fault> {
    let Some(end) = memchr::memchr(b'\n', buffer) else {
        return if buffer.len() > most {
            Err(Fault::bad_request("A line of the content is too long."))
        } else {
            Ok(None)
        };
    };
    if end > most {
        return Err(Fault::bad_request("A line of the content is too long."));
    }
    let mut line = buffer.split_to(end + 1);
    // A bare line feed may be a line end to us and none to a proxy before us.
    if end == 0 || line[end - 1] != b'\r' || line[..end - 1].contains(&b'\r') {
        return Err(Fault::bad_request("A line of the content does not end in CR and LF."));
    }
    line.truncate(end - 1);
    Ok(Some(line))
}

/// The size that a chunk-size line tells; extensions are ignored (RFC 9112, section 7.1.1).
fn chunk_size(line: &[u8]) -> Result<usize, Fault> {
    let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let size = text.filter(|text| (1..=8).contains(&text.len())).and_then(|text| usize::from_str_radix(text, 16).ok());
    size.ok_or(Fault::bad_request("The size of a chunk is not a number."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(content: Content, pieces: &[&[u8]]) -> (Result<Option<String>, u16>, String) {
        let mut buffer = BytesMut::new();
        let mut body = match Body::new(content, 20) {
            Ok(body) => body,
            Err(fault) => return (Err(fault.status.as_u16()), String::new()),
        };
        let mut found = Ok(None);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            if found == Ok(None) {
                found = body
                    .take(&mut buffer)
                    .map(|content| content.map(|content| String::from_utf8(content).unwrap()))
                    .map_err(|fault| fault.status.as_u16());
            }
        }
        (found, String::from_utf8_lossy(&buffer).into_owned())
    }

    #[test]
    fn content_at_every_split() {
        type Expected<'a> = Result<Option<(&'a str, &'a str)>, u16>;
        let long = format!("1;{}\r\n", "x".repeat(300));
        let cases: &[(Content, &str, Expected<'_>)] = &[
            (Content::None, "GET", Ok(Some(("", "GET")))),
            (Content::Length(5), "hello", Ok(Some(("hello", "")))),
            (Content::Length(5), "helloGET /", Ok(Some(("hello", "GET /")))),
            (Content::Length(5), "hell", Ok(None)),
            (Content::Length(21), "", Err(413)),
            (Content::Length(u64::MAX), "", Err(413)),
            (Content::Chunked, "5\r\nhello\r\n0\r\n\r\n", Ok(Some(("hello", "")))),
            (Content::Chunked, "3;a=b\r\nhel\r\n002 \r\nlo\r\n0\r\nX: y\r\n\r\nGET", Ok(Some(("hello", "GET")))),
            (
                Content::Chunked,
                "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
                Ok(Some(("01234567890123456789", ""))),
            ),
            (Content::Chunked, "A\r\n0123456789\r\nb\r\n", Err(413)),
            (Content::Chunked, "ffffffff\r\n", Err(413)),
            (Content::Chunked, "fffffffff\r\n", Err(400)),
            (Content::Chunked, "5\r\nhello!", Err(400)),
            (Content::Chunked, "5\nhello", Err(400)),
            (Content::Chunked, "+5\r\nhello", Err(400)),
            (Content::Chunked, "\r\n", Err(400)),
            (Content::Chunked, "0x5\r\n", Err(400)),
            (Content::Chunked, &long, Err(400)),
            (Content::Chunked, "0\r\nX: y\r\n", Ok(None)),
        ];
        for (content, input, expected) in cases {
            let expected = match expected {
                Ok(found) => (Ok(found.map(|(text, _)| text.to_owned())), found.map(|(_, rest)| rest.to_owned())),
                Err(status) => (Err(*status), None),
            };
            let bytes = input.as_bytes();
            for split in 0..=bytes.len() {
                let (found, rest) = decode(*content, &[&bytes[..split], &bytes[split..]]);
                assert_eq!(found, expected.0, "{input:?} split at {split}");
                if let Some(expected) = &expected.1 {
                    assert_eq!(&rest, expected, "{input:?} split at {split}");
                }
            }
            let singly: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(
                decode(*content, if singly.is_empty() { &[b""] } else { &singly }).0,
                expected.0,
                "{input:?} singly"
            );
        }
    }
}
