//! Whether a body follows a request head, and how its end is found (RFC 9112, section 6).
//!
//! This is the one place that decides it. Whatever could be read in two ways is refused, since a proxy before us
//! may have read it in the other (request smuggling, RFC 9112, section 11.2).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};

use super::{Fault, list};

/// The content that follows a request head.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// None, or a `Content-Length` of 0.
    #[default]
    None,
    /// So many bytes, more than 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Decides what follows the head (RFC 9112, section 6.3).
///
/// # Errors
///
/// 400 for a length that is missing its meaning, repeated, or beside a transfer coding; 501 for a transfer coding
/// other than chunked.
pub fn content(version: Version, headers: &HeaderMap) -> Result<Content, Fault> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Fault::bad_request("Content-Length is given more than once."));
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        if length.is_some() {
            return Err(Fault::bad_request("Content-Length and Transfer-Encoding exclude each other."));
        }
        return transfer_coding(version, headers);
    }
    let Some(length) = length else { return Ok(Content::None) };
    match parse_length(length.as_bytes()) {
        Some(0) => Ok(Content::None),
        Some(length) => Ok(Content::Length(length)),
        None => Err(Fault::bad_request("Content-Length is not a length.")),
    }
}

fn transfer_coding(version: Version, headers: &HeaderMap) -> Result<Content, Fault> {
    if version == Version::HTTP_10 {
        return Err(Fault::bad_request("HTTP/1.0 has no Transfer-Encoding."));
    }
    let mut codings = list::elements(headers, &TRANSFER_ENCODING);
    match (codings.next(), codings.next()) {
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(Content::Chunked),
        (None, _) => Err(Fault::bad_request("Transfer-Encoding is empty.")),
        (Some(first), Some(_)) if first.eq_ignore_ascii_case(b"chunked") => {
            Err(Fault::bad_request("In Transfer-Encoding, chunked must come last and once."))
        }
        (Some(_), _) => Err(Fault::new(StatusCode::NOT_IMPLEMENTED, "The transfer coding is not known here.")),
    }
}

/// `1*DIGIT`, and nothing that a lenient integer parser would accept besides.
fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
