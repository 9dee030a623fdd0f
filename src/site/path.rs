//! From the path of a request target to the name of a file below the root.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, percent_encode};

/// Why a path names nothing, whatever the root holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not a path: a broken percent-encoding, a dot segment, a backslash or a NUL.
    Malformed,
    /// A segment begins with a dot. Such files are not published, but for `/.well-known/` (RFC 8615).
    Hidden,
}

/// The path below the root, decoded exactly once: without a slash in front and without empty segments. It is empty for
/// the root and ends with a slash if the path did. Most paths are borrowed as they are.
///
/// Clients resolve dot segments before they send (RFC 3986, section 5.2.4), so whoever sends one does not mean well.
/// Segments are looked at after decoding, so `%2e%2e` and `%2f` are no way around it.
pub(super) fn below_root(path: &str) -> Result<Cow<'_, [u8]>, Refused> {
    let path = path.strip_prefix('/').ok_or(Refused::Malformed)?;
    let decoded = decode(path)?;
    let mut segments = 0;
    let mut has_empty = false;
    let mut rest = decoded.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = rest.next() {
        match segment {
            [] => has_empty |= rest.peek().is_some(),
            b"." | b".." => return Err(Refused::Malformed),
            _ if segment.iter().any(|byte| matches!(byte, 0 | b'\\')) => return Err(Refused::Malformed),
            [b'.', ..] if segments > 0 || segment != b".well-known" => return Err(Refused::Hidden),
            _ => segments += 1,
        }
    }
    Ok(if has_empty { without_empty_segments(&decoded).into() } else { decoded })
}

/// A path below the root, as it stands in a reference.
pub(super) fn encoded(path: &[u8]) -> PercentEncode<'_> {
    const IN_PATH: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encode(path, &IN_PATH)
}

/// Every `%` must begin an encoded byte. A lenient decoder would leave the others, and the next one might not.
fn decode(path: &str) -> Result<Cow<'_, [u8]>, Refused> {
    let mut after_percents = path.split('%').skip(1).peekable();
    if after_percents.peek().is_none() {
        return Ok(path.as_bytes().into());
    }
    let is_encoded =
        |rest: &str| matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if after_percents.all(is_encoded) { Ok(percent_decode_str(path).into()) } else { Err(Refused::Malformed) }
}

fn without_empty_segments(path: &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).collect();
    let mut merged = segments.join(&b'/');
    if path.ends_with(b"/") && !merged.is_empty() {
        merged.push(b'/');
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        use Refused::{Hidden, Malformed};
        for (path, expected) in [
            ("/", Ok("")),
            ("//", Ok("")),
            ("/index.html", Ok("index.html")),
            ("/docs/", Ok("docs/")),
            ("/docs//a///b", Ok("docs/a/b")),
            ("//docs//", Ok("docs/")),
            ("/gr%C3%BCn.txt", Ok("grün.txt")),
            ("/grün.txt", Ok("grün.txt")),
            ("/a%20b", Ok("a b")),
            ("/a+b", Ok("a+b")),
            ("/a%2fb", Ok("a/b")),
            ("/100%25", Ok("100%")),
            ("/%252e%252e/x", Ok("%2e%2e/x")),
            ("/a..b/c.", Ok("a..b/c.")),
            ("/.well-known/security.txt", Ok(".well-known/security.txt")),
            ("//.well-known/", Ok(".well-known/")),
            ("*", Err(Malformed)),
            ("", Err(Malformed)),
            ("/..", Err(Malformed)),
            ("/../etc/passwd", Err(Malformed)),
            ("/a/../b", Err(Malformed)),
            ("/./a", Err(Malformed)),
            ("/%2e%2e/x", Err(Malformed)),
            ("/.%2E/x", Err(Malformed)),
            ("/a%2f..%2fb", Err(Malformed)),
            ("/..%2fx", Err(Malformed)),
            ("/..\\x", Err(Malformed)),
            ("/a\\b", Err(Malformed)),
            ("/a%5cb", Err(Malformed)),
            ("/a%00", Err(Malformed)),
            ("/%", Err(Malformed)),
            ("/%4", Err(Malformed)),
            ("/%4g", Err(Malformed)),
            ("/%%41", Err(Malformed)),
            ("/a%+1", Err(Malformed)),
            ("/.git/config", Err(Hidden)),
            ("/a/.env", Err(Hidden)),
            ("/%2eenv", Err(Hidden)),
            ("/...", Err(Hidden)),
            ("/a/.well-known/x", Err(Hidden)),
            ("/.well-known/.env", Err(Hidden)),
            ("/.well-known2", Err(Hidden)),
        ] {
            let found = below_root(path).map(|path| String::from_utf8(path.into_owned()).unwrap());
            assert_eq!(found, expected.map(str::to_owned), "{path}");
        }
    }
}
