//! Names of people and rooms: what they may be made of, and the one form in which they are kept.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

/// Words that a person cannot be called, since they would pass for the server speaking.
const RESERVED: [&str; 6] = ["system", "server", "chat-app", "chatapp", "admin", "administrator"];

/// Why something cannot be called so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no name.
    #[error("a name is needed")]
    Empty,
    /// It has more bytes than the limit.
    #[error("a name has at most {limit} bytes in UTF-8")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// It has characters that cannot be seen, or that turn the order of others around.
    #[error("a name has no control or formatting characters")]
    Invisible,
    /// It begins or ends with a space.
    #[error("a name does not begin or end with a space")]
    Padded,
    /// It would pass for the server speaking.
    #[error("this name is reserved")]
    Reserved,
}

/// The name of a room: valid and in normalisation form C once constructed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// Where people are who did not say where.
    pub const LOBBY: &'static str = "lobby";

    /// Checks and normalises a name.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than `max_bytes`, padded with spaces, or has characters that would let it pose as
    /// another name: controls, and the invisible ones that format or reorder text.
    pub fn new(name: &str, max_bytes: usize) -> Result<RoomName, NameError> {
        normalised(name, max_bytes).map(RoomName)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Checks and normalises the name of a person.
///
/// # Errors
///
/// As for a room, and when the name would pass for the server speaking, however it is written.
pub fn person_name(name: &str, max_bytes: usize) -> Result<Arc<str>, NameError> {
    let name = normalised(name, max_bytes)?;
    let plain: String = name.nfkc().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric() || *c == '-').collect();
    if RESERVED.contains(&plain.as_str()) { Err(NameError::Reserved) } else { Ok(name) }
}

fn normalised(name: &str, max_bytes: usize) -> Result<Arc<str>, NameError> {
    // Normalising may make a name longer, but not shorter than a third: what is far too long need not be looked at.
    if name.len() > max_bytes.saturating_mul(3) {
        return Err(NameError::TooLong { limit: max_bytes });
    }
    let name: String = name.nfc().collect();
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > max_bytes {
        return Err(NameError::TooLong { limit: max_bytes });
    }
    if name.chars().any(is_invisible) {
        return Err(NameError::Invisible);
    }
    if name.trim() != name {
        return Err(NameError::Padded);
    }
    Ok(name.into())
}

/// Controls, line and paragraph separators, and the characters of Unicode's category Cf that hide or reorder others:
/// zero-width ones, bidirectional controls, and tags. The zero-width joiner is needed within emoji and some scripts,
/// and is taken away from nobody.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200c}'
            | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_names() {
        let cases: &[(&str, Result<&str, NameError>)] = &[
            ("lobby", Ok("lobby")),
            ("Ku\u{308}che 2", Ok("K\u{fc}che 2")),
            ("日本語", Ok("日本語")),
            ("a/b?c=d&e", Ok("a/b?c=d&e")),
            ("", Err(NameError::Empty)),
            ("12345678901234567", Err(NameError::TooLong { limit: 16 })),
            (&"x".repeat(1000), Err(NameError::TooLong { limit: 16 })),
            ("a\nb", Err(NameError::Invisible)),
            ("a\0", Err(NameError::Invisible)),
            ("\u{202e}evil", Err(NameError::Invisible)),
            ("lob\u{200b}by", Err(NameError::Invisible)),
            ("\u{3164}", Err(NameError::Invisible)),
            (" lobby", Err(NameError::Padded)),
            ("lobby\u{a0}", Err(NameError::Padded)),
            ("system", Ok("system")),
        ];
        for (name, expected) in cases {
            let found = RoomName::new(name, 16);
            assert_eq!(found.as_ref().map(RoomName::as_str).map_err(|err| *err), *expected, "{name:?}");
        }
    }

    #[test]
    fn nobody_is_called_like_the_server() {
        for name in ["system", "System", "SERVER", "s y s t e m", "Ｓｙｓｔｅｍ", "*system*", "chat-app"] {
            assert_eq!(person_name(name, 64), Err(NameError::Reserved), "{name}");
        }
        for name in ["Ann", "systematic", "Serverin", "👩‍👩‍👧", "O'Neil"] {
            assert_eq!(person_name(name, 64).as_deref(), Ok(name));
        }
    }
}
