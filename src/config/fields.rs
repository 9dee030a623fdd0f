//! Header fields as people write them on a command line: `Name: value` and `PATTERN: value`.
//!
//! Values contain commas, so several are repeated options, or lines of one variable.

use std::str::FromStr;

use http::{HeaderName, HeaderValue};

/// One or more of something, on a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lines<T>(pub(super) Vec<T>);

impl<T: FromStr> FromStr for Lines<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<T> = lines.map(str::parse).collect::<Result<_, _>>()?;
        // Nothing at all is a mistake, and is told as one.
        if lines.is_empty() { text.parse().map(|only| Lines(vec![only])) } else { Ok(Lines(lines)) }
    }
}

/// A field that is added to responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field(pub(super) HeaderName, pub(super) HeaderValue);

/// What the server says itself, of each response anew. A second answer would contradict the first.
const OURS: &[&str] = &[
    "accept-ranges",
    "allow",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "keep-alive",
    "last-modified",
    "location",
    "retry-after",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a header field such as \"X-Team: garden\"".to_owned();
        let (name, value) = text.split_once(':').ok_or_else(expected)?;
        let name: HeaderName = name.parse().map_err(|_| expected())?;
        if OURS.contains(&name.as_str()) {
            return Err(format!("the server says {name} itself"));
        }
        Ok(Field(name, visible(value).ok_or_else(expected)?))
    }
}

/// A `Cache-Control` for the files that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheRule(pub(super) String, pub(super) HeaderValue);

impl FromStr for CacheRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected a pattern and a value such as \"/assets/*: max-age=3600\" or \"*: no-store\"";
        let (pattern, value) = text.split_once(':').ok_or(EXPECTED)?;
        match (pattern.trim(), visible(value)) {
            ("", _) | (_, None) => Err(EXPECTED),
            (pattern, Some(value)) => Ok(CacheRule(pattern.to_owned(), value)),
        }
    }
}

/// A value of visible characters, not empty.
fn visible(value: &str) -> Option<HeaderValue> {
    let value = value.trim();
    if value.is_empty() || value.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    HeaderValue::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        for (text, expected) in [
            ("X-Team: garden", Some(("x-team", "garden"))),
            ("X-Team:garden", Some(("x-team", "garden"))),
            ("Access-Control-Allow-Origin: *", Some(("access-control-allow-origin", "*"))),
            ("Link: <https://a>; rel=x, <https://b>; rel=y", Some(("link", "<https://a>; rel=x, <https://b>; rel=y"))),
            ("Content-Security-Policy: default-src 'self'", Some(("content-security-policy", "default-src 'self'"))),
            ("X-Team", None),
            ("X-Team:", None),
            (": garden", None),
            ("X Team: garden", None),
            ("X-Team: a\r\nb", None),
            ("Content-Length: 1", None),
            ("connection: close", None),
            ("", None),
        ] {
            let field: Option<Field> = text.parse().ok();
            let field = field.as_ref().map(|Field(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(field, expected, "{text:?}");
        }
        assert_eq!("Content-Length: 1".parse::<Field>().unwrap_err(), "the server says content-length itself");
        let several: Lines<Field> = "A: b\n\n  C: d, e  \n".parse().unwrap();
        assert_eq!(several.0.len(), 2);
        assert!("".parse::<Lines<Field>>().is_err() && "A: b\nC".parse::<Lines<Field>>().is_err());
    }

    #[test]
    fn cache_rules() {
        for (text, expected) in [
            ("/assets/*: max-age=60, public", Some(("/assets/*", "max-age=60, public"))),
            ("*:no-store", Some(("*", "no-store"))),
            ("no-store", None),
            ("*:", None),
            (": no-store", None),
            ("*: a\tb", None),
        ] {
            let rule: Option<CacheRule> = text.parse().ok();
            let rule = rule.as_ref().map(|CacheRule(pattern, value)| (pattern.as_str(), value.to_str().unwrap()));
            assert_eq!(rule, expected, "{text:?}");
        }
    }
}
