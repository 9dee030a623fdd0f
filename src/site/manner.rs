//! How a site is served, where its operator has a say: fallbacks, listings, and fields of responses.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// What the operator wants of the site. The default is what most want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manner {
    /// What is not found and has no extension is the page of a single-page application: the root's index.html.
    pub spa: bool,
    /// A folder without an index.html is listed.
    pub listing: bool,
    /// Patterns of paths and the `Cache-Control` of what they match; the first that matches counts.
    pub cache_control: Vec<(String, HeaderValue)>,
    /// Fields that go with every response, in place of ours of the same name.
    pub headers: HeaderMap,
}

/// For what can change at any time: it is kept, and asked for again.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");
/// For what never changes, since its name tells its content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

impl Manner {
    /// The `Cache-Control` of a file, by its path below the root.
    pub(super) fn cache_control(&self, path: &[u8]) -> HeaderValue {
        let rule = self.cache_control.iter().find(|(pattern, _)| matches(pattern, path));
        match rule {
            Some((_, value)) => value.clone(),
            None if is_hashed(path) => IMMUTABLE,
            None => REVALIDATED,
        }
    }

    /// Whether the operator has a field of this name.
    pub(super) fn sets(&self, name: &HeaderName) -> bool {
        self.headers.contains_key(name)
    }
}

/// Whether a path below the root matches. A pattern with a slash is about the whole path, one without about the name alone;
/// `*` stands for any characters, `?` for one.
fn matches(pattern: &str, path: &[u8]) -> bool {
    let text = if pattern.contains('/') { path } else { name_of(path) };
    glob(pattern.strip_prefix('/').unwrap_or(pattern).as_bytes(), text)
}

/// Linear in the length of the text for each star: after a mismatch only the last star can take more.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[read] => (at, read) = (at + 1, read + 1),
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, read) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether a name has a part that a bundler made from the content: `main.3f2a9b7c.js`, `index-BkT3x9dQ.css`,
/// `chunk-7Q2MWZAB.js`. A page is fetched by its address and not by such a name, so it never has one.
///
/// Better not to know a hash than to take a word or a date for one: what is wrongly immutable stays wrong for a year.
fn is_hashed(path: &[u8]) -> bool {
    let Some(dot) = path.iter().rposition(|byte| *byte == b'.') else { return false };
    let (stem, extension) = (name_of(&path[..dot]), &path[dot + 1..]);
    if extension.is_empty() || extension.starts_with(b"htm") {
        return false;
    }
    stem.split(|byte| matches!(byte, b'.' | b'-' | b'_')).skip(1).any(is_hash)
}

fn is_hash(part: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| part.iter().any(test);
    let all = |test: fn(&u8) -> bool| part.iter().all(test);
    let is_hex = || all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_base32 = || all(|byte| matches!(byte, b'2'..=b'7' | b'A'..=b'Z')) && has(u8::is_ascii_uppercase);
    let is_base64 = || all(u8::is_ascii_alphanumeric) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    has(u8::is_ascii_digit)
        && match part.len() {
            8 => is_hex() && has(u8::is_ascii_lowercase) || is_base32() || is_base64(),
            9..=64 => is_hex() && has(u8::is_ascii_lowercase),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tell_their_content() {
        for (path, expected) in [
            ("main.3f2a9b7c.js", true),
            ("assets/index-BkT3x9dQ.css", true),
            ("chunk-7Q2MWZAB.js", true),
            ("static/js/main.3f2a9b7c.chunk.js", true),
            ("app.0123456789abcdef0123456789abcdef.css", true),
            ("logo_3f2a9b7c.svg", true),
            ("main.3f2a9b7c.js.map", true),
            ("font.3f2a9b7c1d.woff2", true),
            ("main.js", false),
            ("3f2a9b7c.js", false),
            ("jquery-3.7.1.min.js", false),
            ("report-20240131.pdf", false),
            ("report-2024final.pdf", false),
            ("photo-IMG_1234.jpg", false),
            ("component-TextArea.js", false),
            ("the-longword.js", false),
            ("decade-feedface.js", false),
            ("page.3f2a9b7c.html", false),
            ("a.3f2a9b7c/main.js", false),
            ("main.3f2a9b7c", false),
            ("main.3f2a9b7c.", false),
            ("", false),
        ] {
            assert_eq!(is_hashed(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("*", "", true),
            ("*", "a/b.css", true),
            ("*.css", "a/b.css", true),
            ("*.css", "b.css.map", false),
            ("b.css", "a/b.css", true),
            ("/b.css", "a/b.css", false),
            ("/b.css", "b.css", true),
            ("/a/*", "a/b/c.css", true),
            ("/a/*", "ab", false),
            ("a/*.js", "a/x.js", true),
            ("a/*.js", "b/a/x.js", false),
            ("*/x.js", "b/a/x.js", true),
            ("?.js", "a.js", true),
            ("?.js", "ab.js", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**", "x", true),
            ("", "x", false),
            ("/", "", true),
        ] {
            assert_eq!(matches(pattern, path.as_bytes()), expected, "{pattern} {path}");
        }
        assert!(!glob("*a".repeat(50).as_bytes(), "a".repeat(49).as_bytes()));
    }

    #[test]
    fn the_first_rule_counts_and_then_the_name() {
        let rule = |pattern: &str, value| (pattern.to_owned(), HeaderValue::from_static(value));
        let manner = Manner {
            cache_control: vec![rule("/assets/*", "max-age=60"), rule("*.css", "no-store")],
            ..Manner::default()
        };
        for (path, expected) in [
            ("assets/a.css", "max-age=60"),
            ("a.css", "no-store"),
            ("index.html", "no-cache"),
            ("main.3f2a9b7c.js", "public, max-age=31536000, immutable"),
            ("assets/main.3f2a9b7c.js", "max-age=60"),
        ] {
            assert_eq!(manner.cache_control(path.as_bytes()), expected, "{path}");
        }
    }
}
