//! What people look for: how it is written, how the index is asked for it, and where in a text it stands.
//!
//! A query is words, "phrases" and from:name; every one of them must match. Case and diacritics do not matter. The last
//! word is looked for as a beginning too, since it may not be finished yet; in quotes it is not. The name after `from:`
//! matches whole words of the author's name.
//!
//! A word is a run of letters and digits. Han and kana are written without spaces: each of their characters counts as a
//! word of its own, here and in the index, and several in a row are a phrase. The index (FTS5 with `unicode61`) takes
//! words apart by nearly the same rule. Only the index decides what is found; the places are found by [`Query::places`],
//! in one pass over the text.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::journal::contract::SearchError;

/// Words, phrases and names in one query.
const MAX_TERMS: usize = 32;
/// Places that are told for one text.
const MAX_PLACES: usize = 64;
/// So much of a word must be there before it is looked for as a beginning: the index gathers all that begins so before
/// it answers, and what is shorter begins a good part of everything.
const MIN_PREFIX_CHARS: usize = 3;

/// A query, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    kind: Kind,
    /// With at least one letter or digit.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// These words, in this order.
    Words,
    /// The same, and the last word may go on.
    Beginning,
    /// These words in the author's name.
    From,
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Query, SearchError> {
        let mut terms = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (from, value) = match rest.get(..5) {
                Some(prefix) if prefix.eq_ignore_ascii_case("from:") => (true, &rest[5..]),
                _ => (false, rest),
            };
            let (term, quoted, after) = match value.strip_prefix('"') {
                Some(phrase) => {
                    let (phrase, after) = phrase.split_once('"').unwrap_or((phrase, ""));
                    (phrase, true, after)
                }
                None => {
                    let end = value.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(value.len());
                    (&value[..end], false, &value[end..])
                }
            };
            let kind = match (from, quoted) {
                (true, _) => Kind::From,
                (false, false) if after.is_empty() && may_go_on(term) => Kind::Beginning,
                (false, _) => Kind::Words,
            };
            if term.contains(char::is_alphanumeric) {
                terms.push(Term { kind, text: term.to_owned() });
            }
            rest = after.trim_start();
        }
        match terms.len() {
            0 => Err(SearchError::NoWords),
            1..=MAX_TERMS => Ok(Query(terms)),
            _ => Err(SearchError::TooManyWords { limit: MAX_TERMS }),
        }
    }

    /// What the index is asked. Whatever people write stands between quotes.
    pub(super) fn expression(&self, room: i64) -> String {
        let mut expression = format!("room : \"{}\"", room_word(room));
        for Term { kind, text } in &self.0 {
            let column = if *kind == Kind::From { "author" } else { "content" };
            // A quote inside of quotes is written twice. To SQLite, a NUL would be the end of the query.
            let text = indexed(text).replace('\0', " ").replace('"', "\"\"");
            let star = if *kind == Kind::Beginning { " *" } else { "" };
            write!(expression, " AND {column} : \"{text}\"{star}").expect("writing to a string");
        }
        expression
    }

    /// Where the words stand in a text: first UTF-16 unit and the one behind the last.
    pub(super) fn places(&self, text: &str) -> Vec<(u32, u32)> {
        let patterns: Vec<(Vec<String>, Kind)> = self
            .0
            .iter()
            .filter(|term| term.kind != Kind::From)
            .map(|term| (words(&term.text).into_iter().map(|word| word.folded).collect(), term.kind))
            .collect();
        let words = words(text);
        let mut places: Vec<(u32, u32)> = Vec::new();
        for first in 0..words.len() {
            let lengths = patterns.iter().filter(|(pattern, kind)| stands_at(&words[first..], pattern, *kind));
            let Some(length) = lengths.map(|(pattern, _)| pattern.len()).max() else { continue };
            let (start, end) = (words[first].start, words[first + length - 1].end);
            if let Some(last) = places.last_mut().filter(|last| start <= last.1) {
                last.1 = last.1.max(end);
            } else if places.len() < MAX_PLACES {
                places.push((start, end));
            } else {
                break;
            }
        }
        places
    }
}

/// Whether a word may be the beginning of a longer one.
fn may_go_on(word: &str) -> bool {
    word.chars().count() >= MIN_PREFIX_CHARS && !word.ends_with(is_word_of_its_own)
}

/// The word that stands for a room in the index.
pub(super) fn room_word(room: i64) -> String {
    format!("r{room}")
}

/// A text as the index is to see it: characters that are words of their own stand apart.
pub(super) fn indexed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    let mut apart = String::with_capacity(text.len());
    for c in text.chars() {
        if is_word_of_its_own(c) {
            apart.extend([' ', c, ' ']);
        } else {
            apart.push(c);
        }
    }
    apart.into()
}

/// Han and kana.
fn is_word_of_its_own(c: char) -> bool {
    matches!(c, '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
        && c.is_alphanumeric()
}

/// A word of a text.
struct Word {
    /// Without case and diacritics.
    folded: String,
    /// In UTF-16 units.
    start: u32,
    end: u32,
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut at = 0;
    let mut goes_on = false;
    for c in text.chars() {
        let end = at + c.len_utf16() as u32;
        let alone = is_word_of_its_own(c);
        if c.is_alphanumeric() || goes_on && is_combining_mark(c) {
            if !goes_on || alone {
                words.push(Word { folded: String::new(), start: at, end });
            }
            let word = words.last_mut().expect("there is one that goes on");
            word.folded.extend(c.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase));
            word.end = end;
            goes_on = !alone;
        } else {
            goes_on = false;
        }
        at = end;
    }
    words
}

fn stands_at(words: &[Word], pattern: &[String], kind: Kind) -> bool {
    let Some((last, before)) = pattern.split_last() else { return false };
    words.len() >= pattern.len()
        && words.iter().zip(before).all(|(word, wanted)| word.folded == *wanted)
        && match kind {
            Kind::Beginning => words[before.len()].folded.starts_with(last.as_str()),
            Kind::Words | Kind::From => words[before.len()].folded == *last,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        for (text, expected) in [
            ("hello", Ok(r#"room : "r7" AND content : "hello" *"#)),
            ("hello ", Ok(r#"room : "r7" AND content : "hello""#)),
            ("he", Ok(r#"room : "r7" AND content : "he""#)),
            ("hello wor", Ok(r#"room : "r7" AND content : "hello" AND content : "wor" *"#)),
            (r#""hello wor""#, Ok(r#"room : "r7" AND content : "hello wor""#)),
            (r#"a"b c"d"#, Ok(r#"room : "r7" AND content : "a" AND content : "b c" AND content : "d""#)),
            (r#""not closed"#, Ok(r#"room : "r7" AND content : "not closed""#)),
            ("from:Ann", Ok(r#"room : "r7" AND author : "Ann""#)),
            (r#"FROM:"Ann B" hi "#, Ok(r#"room : "r7" AND author : "Ann B" AND content : "hi""#)),
            ("from: ann", Ok(r#"room : "r7" AND content : "ann" *"#)),
            ("hello :-) !", Ok(r#"room : "r7" AND content : "hello""#)),
            ("a OR NOT(b) ", Ok(r#"room : "r7" AND content : "a" AND content : "OR" AND content : "NOT(b)""#)),
            ("room:r8 ", Ok(r#"room : "r7" AND content : "room:r8""#)),
            ("a\0b ", Ok(r#"room : "r7" AND content : "a b""#)),
            ("東京", Ok(r#"room : "r7" AND content : " 東  京 ""#)),
            ("", Err(SearchError::NoWords)),
            (" \t", Err(SearchError::NoWords)),
            (r#"" ' ; -- * ^ ( {"#, Err(SearchError::NoWords)),
            ("👍", Err(SearchError::NoWords)),
            ("from:", Err(SearchError::NoWords)),
        ] {
            assert_eq!(Query::parse(text).map(|query| query.expression(7)), expected.map(str::to_owned), "{text:?}");
        }
        assert!(Query::parse(&"x ".repeat(MAX_TERMS)).is_ok());
        assert_eq!(Query::parse(&"x ".repeat(MAX_TERMS + 1)), Err(SearchError::TooManyWords { limit: MAX_TERMS }));
    }

    #[test]
    fn places_count_utf16_units() {
        for (query, text, expected) in [
            ("hello ", "Hello, HELLO hellos", &[(0, 5), (7, 12)][..]),
            ("hello", "hello hellos shell", &[(0, 5), (6, 12)]),
            ("cafe ", "Café cafe\u{301} CAFÉS", &[(0, 4), (5, 10)]),
            (r#""is here""#, "it is, here is there", &[(3, 11)]),
            (r#""a b" b "#, "a b b c", &[(0, 3), (4, 5)]),
            (r#""a b" "b c" "#, "a b c", &[(0, 5)]),
            ("b ", "👍 b", &[(3, 4)]),
            ("東京 ", "今日は東京、京都", &[(3, 5)]),
            ("from:ann", "ann", &[]),
            ("from:ann x ", "ann x", &[(4, 5)]),
            ("foo-bar ", "foo bar foo_bar foo", &[(0, 7), (8, 15)]),
            ("nothing ", "of it", &[]),
        ] {
            assert_eq!(Query::parse(query).unwrap().places(text), expected, "{query:?} in {text:?}");
        }
        let many = Query::parse("x ").unwrap().places(&"x ".repeat(10_000));
        assert_eq!(many.len(), MAX_PLACES);
    }
}
