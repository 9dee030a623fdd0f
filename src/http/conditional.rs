//! Conditional requests: whether what is asked for is sent (RFC 9110, section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName};

use super::list;

/// By what a representation is told from its former and other states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag, with its quotes.
    pub etag: String,
    /// `Last-Modified`, in whole seconds since 1970.
    pub modified: u64,
    /// It was still so when that second had passed, so the date tells this state from every other (RFC 9110, section
    /// 8.8.2.2).
    pub is_date_strong: bool,
}

/// What the conditions of a GET or HEAD request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The response is sent as without conditions.
    Send,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client wants.
    Failed,
}

/// Evaluates the conditions of a GET or HEAD request in the order of RFC 9110, section 13.2.2. A date that is not one is
/// ignored, as is a date beside an entity tag.
#[must_use]
pub fn evaluate(headers: &HeaderMap, validators: &Validators) -> Verdict {
    if headers.contains_key(IF_MATCH) {
        if !matches_any(headers, &IF_MATCH, &validators.etag, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if date(headers, &IF_UNMODIFIED_SINCE).is_some_and(|date| validators.modified > date) {
        return Verdict::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if matches_any(headers, &IF_NONE_MATCH, &validators.etag, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if date(headers, &IF_MODIFIED_SINCE).is_some_and(|date| validators.modified <= date) {
        return Verdict::NotModified;
    }
    Verdict::Send
}

/// Whether the `If-Range` of a request, which must have one, is met (RFC 9110, section 13.1.5). Both comparisons are
/// strong: parts of two states must never come together.
#[must_use]
pub(super) fn may_send_range(headers: &HeaderMap, validators: &Validators) -> bool {
    let mut lines = headers.get_all(IF_RANGE).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) if list::trim(line.as_bytes()) == validators.etag.as_bytes() => true,
        (Some(_), None) => {
            validators.is_date_strong && date(headers, &IF_RANGE).is_some_and(|date| date == validators.modified)
        }
        _ => false,
    }
}

/// RFC 9110, section 8.8.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether the field is `*` or its list has this tag, which is strong.
fn matches_any(headers: &HeaderMap, name: &HeaderName, etag: &str, comparison: Comparison) -> bool {
    headers.get_all(name).iter().any(|line| {
        let line = list::trim(line.as_bytes());
        line == b"*"
            || Tags(line).any(|tag| match comparison {
                Comparison::Strong => tag == etag.as_bytes(),
                Comparison::Weak => tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes(),
            })
    })
}

/// The entity tags of a list, as far as it is well formed. They may contain commas.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b' ' | b'\t' | b',', rest @ ..] = self.0 {
            self.0 = rest;
        }
        let opening = if self.0.starts_with(b"W/") { 2 } else { 0 };
        if self.0.get(opening) != Some(&b'"') {
            return None;
        }
        let closing = opening + 1 + self.0[opening + 1..].iter().position(|byte| *byte == b'"')?;
        let (tag, rest) = self.0.split_at(closing + 1);
        self.0 = rest;
        Some(tag)
    }
}

/// The date in this field in seconds since 1970; `None` if it stands there twice or is not a date.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    let date = httpdate::parse_http_date(line.to_str().ok()?).ok()?;
    Some(seconds(date))
}

/// Whole seconds since 1970; what is before counts as 1970.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |duration: Duration| duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn conditions_in_the_order_of_the_rfc() {
        use Verdict::{Failed, NotModified, Send};
        const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
        const RFC_850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
        const ASCTIME: &str = "Sun Nov  6 08:49:37 1994";
        let validators = Validators { etag: "\"a,b\"".to_owned(), modified: 784_111_777, is_date_strong: true };
        for (name, fields, expected) in [
            ("no condition", &[][..], Send),
            ("same tag", &[(IF_NONE_MATCH, "\"a,b\"")], NotModified),
            ("other tag", &[(IF_NONE_MATCH, "\"a\"")], Send),
            ("any", &[(IF_NONE_MATCH, "*")], NotModified),
            ("any, spaced", &[(IF_NONE_MATCH, " * ")], NotModified),
            ("weak", &[(IF_NONE_MATCH, "W/\"a,b\"")], NotModified),
            ("list", &[(IF_NONE_MATCH, "\"x\", W/\"y\" ,\"a,b\"")], NotModified),
            ("list without", &[(IF_NONE_MATCH, "\"x\", W/\"y\" ,\"a\"")], Send),
            ("two lines", &[(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a,b\"")], NotModified),
            ("not a tag", &[(IF_NONE_MATCH, "a,b")], Send),
            ("unquoted end", &[(IF_NONE_MATCH, "\"a,b")], Send),
            ("star in a list", &[(IF_NONE_MATCH, "\"x\", *")], Send),
            ("empty", &[(IF_NONE_MATCH, "")], Send),
            ("same date", &[(IF_MODIFIED_SINCE, NOW)], NotModified),
            ("later date", &[(IF_MODIFIED_SINCE, AFTER)], NotModified),
            ("earlier date", &[(IF_MODIFIED_SINCE, BEFORE)], Send),
            ("RFC 850 date", &[(IF_MODIFIED_SINCE, RFC_850)], NotModified),
            ("asctime date", &[(IF_MODIFIED_SINCE, ASCTIME)], NotModified),
            ("no date", &[(IF_MODIFIED_SINCE, "yesterday")], Send),
            ("two dates", &[(IF_MODIFIED_SINCE, NOW), (IF_MODIFIED_SINCE, NOW)], Send),
            ("tag beats date", &[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, NOW)], Send),
            ("match", &[(IF_MATCH, "\"a,b\"")], Send),
            ("match any", &[(IF_MATCH, "*")], Send),
            ("match other", &[(IF_MATCH, "\"x\"")], Failed),
            ("match is strong", &[(IF_MATCH, "W/\"a,b\"")], Failed),
            ("match, then none match", &[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")], NotModified),
            ("unmodified", &[(IF_UNMODIFIED_SINCE, NOW)], Send),
            ("modified", &[(IF_UNMODIFIED_SINCE, BEFORE)], Failed),
            ("unmodified, no date", &[(IF_UNMODIFIED_SINCE, "yesterday")], Send),
            ("match beats unmodified", &[(IF_MATCH, "*"), (IF_UNMODIFIED_SINCE, BEFORE)], Send),
            ("unmodified, then same tag", &[(IF_UNMODIFIED_SINCE, NOW), (IF_NONE_MATCH, "*")], NotModified),
        ] {
            let mut headers = HeaderMap::new();
            for (field, value) in fields {
                headers.append(field, HeaderValue::from_static(value));
            }
            assert_eq!(evaluate(&headers, &validators), expected, "{name}");
        }
    }
}
