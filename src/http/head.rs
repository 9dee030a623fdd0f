//! Where a request head ends, found while it arrives (RFC 9112, sections 2 to 5).
//!
//! Every byte is looked at once, however slowly the head comes, and each fault is raised at the first byte that
//! shows it: garbage is refused at once, and the same bytes in any pieces meet the same fate. What a field says is
//! not read here.

use std::ops::Range;

use http::{Method, StatusCode, Version};
use memchr::memchr;

use super::Fault;
use crate::limits::Limits;

/// Longer methods than this are not waited for; the longest that we know has 7 bytes.
const MAX_METHOD_BYTES: usize = 32;

/// What follows the target: a version of one digit, a dot and one digit, and the end of the line.
const VERSION_PATTERN: &[u8; 10] = b"HTTP/d.d\r\n";

/// The start line of a whole head, and where its parts lie.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) target: Range<usize>,
    /// The first byte of the first field line, or of the empty line.
    pub(super) fields_start: usize,
    /// The number of field lines.
    pub(super) fields: usize,
    /// The first byte after the empty line.
    pub(super) end: usize,
}

/// How far a head has been looked at. It has to be given the same buffer each time, with more bytes at its end.
#[derive(Debug, Default)]
pub(super) struct Scan {
    place: Place,
    /// The bytes of the buffer that have been looked at.
    seen: usize,
    method_end: usize,
    target_end: usize,
    start_line: Option<(Method, Version)>,
    fields_start: usize,
    /// The first byte of the field line that is coming.
    line_start: usize,
    fields: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum Place {
    #[default]
    Method,
    Target,
    Version,
    Fields,
}

impl Scan {
    /// Whether a byte of a start line has been seen.
    pub(super) fn is_started(&self) -> bool {
        self.seen > 0
    }

    /// Looks at the bytes that are new; the head, when it is whole.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Fault> {
        loop {
            let next = match self.place {
                Place::Method => self.method(bytes)?,
                Place::Target => self.target(bytes, limits)?,
                Place::Version => self.version(bytes)?,
                Place::Fields => return self.field_lines(bytes, limits),
            };
            match next {
                Some(place) => self.place = place,
                None => return Ok(None),
            }
        }
    }

    fn method(&mut self, bytes: &[u8]) -> Result<Option<Place>, Fault> {
        let window = &bytes[self.seen..bytes.len().min(MAX_METHOD_BYTES + 1)];
        match window.iter().position(|byte| !is_token_byte(*byte)) {
            Some(length) if window[length] == b' ' && self.seen + length > 0 => {
                self.method_end = self.seen + length;
                self.seen = self.method_end + 1;
                Ok(Some(Place::Target))
            }
            Some(_) => Err(Fault::bad_request("This is not an HTTP request.")),
            // RFC 9112, section 3: a method longer than any that is known is not implemented.
            None if bytes.len() > MAX_METHOD_BYTES => Err(UNKNOWN_METHOD),
            None => {
                self.seen = bytes.len();
                Ok(None)
            }
        }
    }

    fn target(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Place>, Fault> {
        let start = self.method_end + 1;
        let longest = start + limits.max_target_bytes.min(limits.max_head_bytes);
        let window = &bytes[self.seen..bytes.len().min(longest + 1)];
        match window.iter().position(|byte| !is_target_byte(*byte)) {
            Some(length) if window[length] == b' ' && self.seen + length > start => {
                self.target_end = self.seen + length;
                self.seen = self.target_end + 1;
                Ok(Some(Place::Version))
            }
            Some(_) => Err(Fault::bad_request("The request line has a target that cannot be one.")),
            None if bytes.len() > longest => {
                Err(Fault::new(StatusCode::URI_TOO_LONG, "The target of the request is too long."))
            }
            None => {
                self.seen = bytes.len();
                Ok(None)
            }
        }
    }

    fn version(&mut self, bytes: &[u8]) -> Result<Option<Place>, Fault> {
        let start = self.target_end + 1;
        let window = &bytes[start..bytes.len().min(start + VERSION_PATTERN.len())];
        for (byte, pattern) in window.iter().zip(VERSION_PATTERN).skip(self.seen - start) {
            match pattern {
                b'd' if byte.is_ascii_digit() => {}
                b'\r' if *byte == b'\n' => return Err(BARE_LINE_FEED),
                _ if byte == pattern => {}
                _ => return Err(Fault::bad_request("The request line does not end with an HTTP version.")),
            }
        }
        self.seen = start + window.len();
        if window.len() < VERSION_PATTERN.len() {
            return Ok(None);
        }
        let version = match (window[5], window[7]) {
            (b'1', b'0') => Version::HTTP_10,
            // RFC 9110, section 6.2: a higher minor version is treated as the highest that we know.
            (b'1', _) => Version::HTTP_11,
            _ => {
                return Err(Fault::new(
                    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
                ));
            }
        };
        let method = known_method(&bytes[..self.method_end]).ok_or(UNKNOWN_METHOD)?;
        self.start_line = Some((method, version));
        self.fields_start = self.seen;
        self.line_start = self.seen;
        Ok(Some(Place::Fields))
    }

    fn field_lines(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Fault> {
        while let Some(found) = memchr(b'\n', &bytes[self.seen..]) {
            let end = self.seen + found + 1;
            if end > limits.max_head_bytes {
                return Err(HEAD_TOO_LARGE);
            }
            let line = &bytes[self.line_start..end];
            self.seen = end;
            self.line_start = end;
            match line {
                b"\r\n" => return Ok(self.finish()),
                // RFC 9112, section 5.2.
                [b' ' | b'\t', ..] => return Err(Fault::bad_request("A field is folded over several lines.")),
                [.., b'\r', b'\n'] => self.fields += 1,
                // RFC 9112, section 2.2, would let us accept it; a proxy before us may read it otherwise.
                _ => return Err(BARE_LINE_FEED),
            }
            if self.fields > limits.max_header_fields {
                return Err(TOO_MANY_FIELDS);
            }
        }
        self.seen = bytes.len();
        if bytes.len() > limits.max_head_bytes { Err(HEAD_TOO_LARGE) } else { Ok(None) }
    }

    fn finish(&mut self) -> Option<Head> {
        let (method, version) = self.start_line.take()?;
        Some(Head {
            method,
            version,
            target: self.method_end + 1..self.target_end,
            fields_start: self.fields_start,
            fields: self.fields,
            end: self.seen,
        })
    }
}

const UNKNOWN_METHOD: Fault = Fault::new(StatusCode::NOT_IMPLEMENTED, "The request method is not known here.");
const BARE_LINE_FEED: Fault = Fault::bad_request("A line of the request ends without a carriage return.");
pub(super) const TOO_MANY_FIELDS: Fault =
    Fault::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request has too many header fields.");
const HEAD_TOO_LARGE: Fault =
    Fault::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large.");

/// The methods of RFC 9110 and RFC 5789 but CONNECT, which no origin server implements (RFC 9110, section 9.3.6).
fn known_method(name: &[u8]) -> Option<Method> {
    match name {
        b"GET" => Some(Method::GET),
        b"HEAD" => Some(Method::HEAD),
        b"POST" => Some(Method::POST),
        b"PUT" => Some(Method::PUT),
        b"DELETE" => Some(Method::DELETE),
        b"OPTIONS" => Some(Method::OPTIONS),
        b"TRACE" => Some(Method::TRACE),
        b"PATCH" => Some(Method::PATCH),
        _ => None,
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a target. More than RFC 3986 allows, since clients send it; never what ends a target, and no
/// fragment, which is not sent (RFC 9110, section 4.2.5).
fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'#'
}
