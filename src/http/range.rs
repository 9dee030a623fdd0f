//! Range requests: which bytes of a representation are sent (RFC 9110, section 14).

use std::ops::Range;

use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, Method};

use super::conditional::{self, Validators};
use super::list;

/// Ranges that one request may ask for. Each costs a head of its own; nobody who means well asks for more at once.
const MAX_RANGES: usize = 16;

/// What of a representation is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of it, with 200.
    Whole,
    /// These bytes, at least one, with 206.
    Part(Range<u64>),
    /// These ranges in this order, at least two, each of at least one byte, with 206 as `multipart/byteranges`.
    Parts(Vec<Range<u64>>),
    /// None of what is asked for exists: 416.
    Unsatisfiable,
}

/// What the `Range` of a request selects of a representation with these validators and this length, after its other
/// conditions have been met (RFC 9110, section 13.2.2).
///
/// Ranges are defined for GET alone (section 14.2). A field that is malformed, of another unit, or asks for more ranges or
/// bytes than make sense is ignored, as section 14.2 allows: then everything is sent, which serves any client.
#[must_use]
pub fn select(method: &Method, headers: &HeaderMap, validators: &Validators, length: u64) -> Selection {
    let mut lines = headers.get_all(RANGE).iter();
    let (Some(line), None, &Method::GET) = (lines.next(), lines.next(), method) else { return Selection::Whole };
    if headers.contains_key(IF_RANGE) && !conditional::may_send_range(headers, validators) {
        return Selection::Whole;
    }
    parse(line.as_bytes(), length).unwrap_or(Selection::Whole)
}

/// `None` for what is to be ignored.
fn parse(line: &[u8], length: u64) -> Option<Selection> {
    let line = list::trim(line);
    let equals = line.iter().position(|byte| *byte == b'=')?;
    if !line[..equals].eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut asked = 0;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for element in line[equals + 1..].split(|byte| *byte == b',').map(list::trim).filter(|it| !it.is_empty()) {
        asked += 1;
        if asked > MAX_RANGES {
            return None;
        }
        ranges.extend(resolve(element, length)?);
    }
    // What is asked for twice would be sent twice: a small request for a huge response.
    let total: u64 = ranges.iter().try_fold(0_u64, |sum, range| sum.checked_add(range.end - range.start))?;
    match ranges.len() {
        // Some clients ask for ranges of everything, and nobody is helped by hearing that nothing has no first byte.
        _ if asked == 0 || total > length || length == 0 => None,
        0 => Some(Selection::Unsatisfiable),
        1 => ranges.pop().map(Selection::Part),
        _ => Some(Selection::Parts(ranges)),
    }
}

/// The bytes that one range specification means: none if there are no such. `None` if it is malformed.
fn resolve(text: &[u8], length: u64) -> Option<Option<Range<u64>>> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (&text[..dash], &text[dash + 1..]);
    if first.is_empty() {
        let suffix = position(last)?;
        return Some((suffix > 0).then(|| length.saturating_sub(suffix)..length));
    }
    let first = position(first)?;
    let end = match last {
        [] => length,
        last => match position(last)? {
            last if last < first => return None,
            last => last.saturating_add(1).min(length),
        },
    };
    Some((first < length).then_some(first..end))
}

/// `1*DIGIT`. One that is larger than any file counts as the largest.
fn position(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |sum: u64, byte: &u8| sum.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    Some(text.iter().fold(0, digit))
}

/// The value of `Content-Range` for a part (RFC 9110, section 14.4).
#[must_use]
pub fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

/// The value of `Content-Range` where nothing could be sent (RFC 9110, section 14.4).
#[must_use]
pub fn unsatisfied(length: u64) -> String {
    format!("bytes */{length}")
}

/// What stands before each part of a `multipart/byteranges` content, and behind the last (RFC 9110, section 14.6).
#[derive(Debug, Clone, Copy)]
pub struct Multipart<'a> {
    /// What parts the parts. It must be of letters and digits, and be in none of them.
    pub boundary: &'a str,
    /// The media type of the whole.
    pub content_type: &'a str,
    /// The length of the whole.
    pub length: u64,
}

impl Multipart<'_> {
    /// The media type of the response.
    #[must_use]
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// What stands before a part.
    #[must_use]
    pub fn head(&self, part: &Range<u64>) -> Vec<u8> {
        let Multipart { boundary, content_type, length } = self;
        let range = content_range(part, *length);
        format!("\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n").into_bytes()
    }

    /// What stands behind the last part.
    #[must_use]
    pub fn tail(&self) -> Vec<u8> {
        format!("\r\n--{}--\r\n", self.boundary).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const ETAG: &str = "\"v1\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn validators() -> Validators {
        Validators { etag: ETAG.to_owned(), modified: 784_111_777, is_date_strong: true }
    }

    fn selected(fields: &[(&'static str, &str)], length: u64) -> Selection {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        select(&Method::GET, &headers, &validators(), length)
    }

    #[test]
    fn ranges_of_ten_thousand_bytes() {
        use Selection::{Part, Parts, Unsatisfiable, Whole};
        for (name, range, expected) in [
            // The examples of RFC 9110, section 14.1.2.
            ("first 500", "bytes=0-499", Part(0..500)),
            ("second 500", "bytes=500-999", Part(500..1000)),
            ("last 500", "bytes=-500", Part(9500..10_000)),
            ("from 9500 on", "bytes=9500-", Part(9500..10_000)),
            ("first and last", "bytes=0-0,-1", Parts(vec![0..1, 9999..10_000])),
            ("three", "bytes= 0-999, 4500-5499, -1000", Parts(vec![0..1000, 4500..5500, 9000..10_000])),
            ("501 to 1000", "bytes=500-600,601-999", Parts(vec![500..601, 601..1000])),
            ("overlapping", "bytes=500-700,601-999", Parts(vec![500..701, 601..1000])),
            // Beyond the end.
            ("last byte", "bytes=9999-", Part(9999..10_000)),
            ("the end is cut", "bytes=9000-20000", Part(9000..10_000)),
            ("a suffix longer than all", "bytes=-20000", Part(0..10_000)),
            ("all of it", "bytes=0-", Part(0..10_000)),
            ("behind the end", "bytes=10000-", Unsatisfiable),
            ("far behind the end", "bytes=99999999999999999999999-", Unsatisfiable),
            ("up to far behind it", "bytes=0-99999999999999999999999", Part(0..10_000)),
            ("no suffix", "bytes=-0", Unsatisfiable),
            ("two that do not exist", "bytes=10000-10001,-0", Unsatisfiable),
            ("one of two exists", "bytes=10000-,0-4", Part(0..5)),
            // Form.
            ("unit in capitals", "Bytes=0-4", Part(0..5)),
            ("empty elements", "bytes=,0-4 ,,", Part(0..5)),
            ("tab", "bytes=0-4,\t6-7", Parts(vec![0..5, 6..8])),
            ("order is kept", "bytes=6-7,0-4", Parts(vec![6..8, 0..5])),
            ("leading zeros", "bytes=000-004", Part(0..5)),
            // Ignored.
            ("other unit", "lines=0-4", Whole),
            ("no unit", "0-4", Whole),
            ("nothing", "bytes=", Whole),
            ("only commas", "bytes=,,", Whole),
            ("only a dash", "bytes=-", Whole),
            ("backwards", "bytes=5-4", Whole),
            ("one backwards", "bytes=0-4,5-4", Whole),
            ("sign", "bytes=+0-4", Whole),
            ("negative", "bytes=0--4", Whole),
            ("three numbers", "bytes=0-4-5", Whole),
            ("hexadecimal", "bytes=0x0-4", Whole),
            ("space within", "bytes=0 - 4", Whole),
            ("letters", "bytes=a-b", Whole),
            ("no dash", "bytes=5", Whole),
            ("semicolon", "bytes=0-4;6-7", Whole),
            // Too much.
            ("twice everything", "bytes=0-,0-", Whole),
            ("more than everything", "bytes=0-9999,0-0", Whole),
            ("sixteen", &format!("bytes={}", ["1-1"; 16].join(",")), Parts(vec![1..2; 16])),
            ("seventeen", &format!("bytes={}", ["1-1"; 17].join(",")), Whole),
            ("seventeen that do not exist", &format!("bytes={}", ["10000-"; 17].join(",")), Whole),
        ] {
            assert_eq!(selected(&[("range", range)], 10_000), expected, "{name}");
        }
    }

    #[test]
    fn ranges_of_nothing_and_of_very_much() {
        for (range, length, expected) in [
            ("bytes=0-", 0, Selection::Whole),
            ("bytes=0-0", 0, Selection::Whole),
            ("bytes=-0", 0, Selection::Whole),
            ("bytes=-1", 0, Selection::Whole),
            ("bytes=-1,-2", 0, Selection::Whole),
            ("bytes=0-0", 1, Selection::Part(0..1)),
            ("bytes=0-0,-1", 1, Selection::Whole),
            ("bytes=0-18446744073709551615", u64::MAX, Selection::Part(0..u64::MAX)),
            ("bytes=-18446744073709551615", u64::MAX, Selection::Part(0..u64::MAX)),
            ("bytes=0-,0-", u64::MAX, Selection::Whole),
        ] {
            assert_eq!(selected(&[("range", range)], length), expected, "{range} of {length}");
        }
    }

    #[test]
    fn only_get_has_ranges() {
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-4"))]);
        for (method, expected) in
            [(Method::GET, Selection::Part(0..5)), (Method::HEAD, Selection::Whole), (Method::POST, Selection::Whole)]
        {
            assert_eq!(select(&method, &headers, &validators(), 10), expected, "{method}");
        }
    }

    #[test]
    fn if_range_lets_a_range_through_or_not() {
        const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
        const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (name, value, is_sent) in [
            ("same tag", ETAG, true),
            ("other tag", "\"v2\"", false),
            ("the comparison is strong", "W/\"v1\"", false),
            ("a list is not a tag", "\"v1\", \"v2\"", false),
            ("any is not a tag", "*", false),
            ("same date", DATE, true),
            ("later date", LATER, false),
            ("earlier date", EARLIER, false),
            ("RFC 850 date", "Sunday, 06-Nov-94 08:49:37 GMT", true),
            ("neither", "v1", false),
            ("empty", "", false),
        ] {
            let expected = if is_sent { Selection::Part(0..5) } else { Selection::Whole };
            assert_eq!(selected(&[("range", "bytes=0-4"), ("if-range", value)], 10), expected, "{name}");
            assert_eq!(selected(&[("if-range", value)], 10), Selection::Whole, "{name}, no range");
        }
        let twice = [("range", "bytes=0-4"), ("if-range", ETAG), ("if-range", ETAG)];
        assert_eq!(selected(&twice, 10), Selection::Whole, "two of them");
        let twice = [("range", "bytes=0-4"), ("range", "bytes=0-4")];
        assert_eq!(selected(&twice, 10), Selection::Whole, "two ranges fields");
        let headers = HeaderMap::from_iter([
            (RANGE, HeaderValue::from_static("bytes=0-4")),
            (IF_RANGE, HeaderValue::from_static(DATE)),
        ]);
        let weak = Validators { is_date_strong: false, ..validators() };
        assert_eq!(select(&Method::GET, &headers, &weak, 10), Selection::Whole, "a date within its own second");
    }

    #[test]
    fn the_frame_of_several_parts() {
        let multipart = Multipart { boundary: "b", content_type: "text/plain", length: 10 };
        assert_eq!(multipart.content_type(), "multipart/byteranges; boundary=b");
        let expected: &[u8] = b"\r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-4/10\r\n\r\n";
        assert_eq!(multipart.head(&(0..5)), expected);
        assert_eq!(multipart.tail(), b"\r\n--b--\r\n");
        assert_eq!(unsatisfied(0), "bytes */0");
    }
}
