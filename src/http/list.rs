//! Fields whose value is a list (RFC 9110, section 5.6.1).

use http::{HeaderMap, HeaderName};

/// The elements of a comma-separated field, over all its lines, without surrounding whitespace and without empty ones.
///
/// It does not know quoted strings: for lists of tokens only.
pub fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Whether the list has this token, in any case.
#[must_use]
pub fn contains(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// Without the optional whitespace (spaces and tabs) at both ends.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::CONNECTION;

    #[test]
    fn elements_of_all_lines() {
        for (name, lines, expected) in [
            ("none", &[][..], &[][..]),
            ("one", &["close"], &["close"]),
            ("several", &["keep-alive, Upgrade"], &["keep-alive", "Upgrade"]),
            ("lines", &["keep-alive", "Upgrade"], &["keep-alive", "Upgrade"]),
            ("whitespace", &[" a \t,\tb "], &["a", "b"]),
            ("empty ones", &[",, a,,b,"], &["a", "b"]),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONNECTION, HeaderValue::from_static(line));
            }
            let found: Vec<&str> =
                elements(&headers, &CONNECTION).map(|element| std::str::from_utf8(element).unwrap()).collect();
            assert_eq!(found, expected, "{name}");
            for element in expected {
                assert!(contains(&headers, &CONNECTION, &element.to_uppercase()), "{name}");
            }
            assert!(!contains(&headers, &CONNECTION, "c"), "{name}");
        }
    }
}
