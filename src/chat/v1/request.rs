//! What a client asks, and what is wrong with a frame that asks for nothing.

use serde::{Deserialize, Serialize};

use super::Code;
use crate::chat::fields::{self, Field};

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Who it is; comes first.
    Hello {
        /// What it wants to be called.
        #[serde(default)]
        name: Option<String>,
        /// Who it was before.
        #[serde(default)]
        token: Option<String>,
        /// Which of its connections it takes over.
        #[serde(default)]
        session: Option<String>,
    },
    /// Let me in.
    Join {
        /// Where.
        room: String,
        /// The last position it has heard.
        #[serde(default)]
        after: Option<u64>,
        /// In which epoch.
        #[serde(default)]
        epoch: Option<String>,
    },
    /// Let me out.
    Leave {
        /// Of which room.
        room: String,
    },
    /// Tell everybody.
    Say {
        /// Where.
        room: String,
        /// What.
        text: String,
        /// Its own name for it.
        nonce: String,
    },
    /// I am writing something.
    Typing {
        /// Where.
        room: String,
    },
    /// Call me so.
    Rename {
        /// The name.
        name: String,
    },
    /// What was said before?
    History {
        /// Where.
        room: String,
        /// Before this position.
        #[serde(default)]
        before: Option<u64>,
        /// At most so many.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// What was said about this?
    Search {
        /// Where.
        room: String,
        /// Words, "phrases" and from:name.
        query: String,
        /// Before this position.
        #[serde(default)]
        before: Option<u64>,
        /// At most so many.
        #[serde(default)]
        limit: Option<usize>,
    },
}

/// What an answer is about, so that a client can tell to which of its requests it belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Subject<'a> {
    /// The type of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<&'static str>,
    /// The room it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<&'a str>,
    /// The nonce of what was to be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<&'a str>,
}

impl Request {
    /// What an answer to this is about.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        let (request, room, nonce) = match self {
            Request::Hello { .. } => ("hello", None, None),
            Request::Join { room, .. } => ("join", Some(room), None),
            Request::Leave { room } => ("leave", Some(room), None),
            Request::Say { room, nonce, .. } => ("say", Some(room), Some(nonce)),
            Request::Typing { room } => ("typing", Some(room), None),
            Request::Rename { .. } => ("rename", None, None),
            Request::History { room, .. } => ("history", Some(room), None),
            Request::Search { room, .. } => ("search", Some(room), None),
        };
        Subject { request: Some(request), room: room.map(String::as_str), nonce: nonce.map(String::as_str) }
    }
}

/// The types of [`Request`] and their fields, for whoever sends something else.
const TYPES: [(&str, &[Field]); 8] = [
    ("hello", &[Field::text("name").or_absent(), Field::text("token").or_absent(), Field::text("session").or_absent()]),
    ("join", &[Field::text("room"), Field::number("after").or_absent(), Field::text("epoch").or_absent()]),
    ("leave", &[Field::text("room")]),
    ("say", &[Field::text("room"), Field::text("text"), Field::text("nonce")]),
    ("typing", &[Field::text("room")]),
    ("rename", &[Field::text("name")]),
    ("history", &[Field::text("room"), Field::number("before").or_absent(), Field::number("limit").or_absent()]),
    (
        "search",
        &[
            Field::text("room"),
            Field::text("query"),
            Field::number("before").or_absent(),
            Field::number("limit").or_absent(),
        ],
    ),
];

/// What a frame that was not understood is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFrame {
    /// What kind of fault.
    pub code: Code,
    /// What was wrong and where, for whoever wrote the client.
    pub message: String,
}

/// Reads a request.
///
/// # Errors
///
/// What is wrong with it, and where.
pub fn parse(frame: &[u8]) -> Result<Request, BadFrame> {
    fields::read(frame).map_err(|err| {
        #[derive(Deserialize)]
        struct Typed {
            r#type: String,
        }
        let bad = |message| BadFrame { code: Code::BadFrame, message };
        let Ok(Typed { r#type: name }) = fields::read(frame) else {
            let why = fields::fault(frame, &[Field::text("type")]).unwrap_or_else(|| err.to_string());
            return bad(format!("not a JSON object with a type: {why}"));
        };
        match TYPES.iter().find(|(known, _)| *known == name) {
            // With the fields as they should be, it is about JSON: one that is there twice, or too many lists in each other.
            Some((known, fields)) => {
                bad(format!("{known}: {}", fields::fault(frame, fields).unwrap_or_else(|| err.to_string())))
            }
            None => BadFrame {
                code: Code::UnknownType,
                message: format!(
                    "the type {:?} is unknown; known are {}",
                    shortened(&name),
                    TYPES.map(|(known, _)| known).join(", ")
                ),
            },
        }
    })
}

/// Enough of a text to recognise it in an error.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood_or_told_what_is_wrong() {
        let fine: &[(&str, Request)] = &[
            (r#"{"type":"hello"}"#, Request::Hello { name: None, token: None, session: None }),
            (r#"{"type":"leave","room":"a","unknown":[1]}"#, Request::Leave { room: "a".into() }),
            (
                r#"{"room":"a","after":7,"type":"join"}"#,
                Request::Join { room: "a".into(), after: Some(7), epoch: None },
            ),
        ];
        for (frame, expected) in fine {
            assert_eq!(parse(frame.as_bytes()).as_ref(), Ok(expected), "{frame}");
        }
        let wrong = [
            ("", Code::BadFrame, "not a JSON object with a type"),
            ("[]", Code::BadFrame, "not a JSON object with a type: it must be an object, and is a list"),
            (r#" ["leave","a"]"#, Code::BadFrame, "not a JSON object with a type: it must be an object, and is a list"),
            ("", Code::BadFrame, "EOF while parsing a value"),
            ("{}", Code::BadFrame, "not a JSON object with a type: missing field `type`"),
            (r#"{"type":1}"#, Code::BadFrame, "not a JSON object with a type: `type` must be a text, and is a number"),
            (r#"{"type":"dance"}"#, Code::UnknownType, r#"the type "dance" is unknown; known are hello"#),
            (
                r#"{"type":"say","room":"a","text":1,"nonce":"n"}"#,
                Code::BadFrame,
                "say: `text` must be a text, and is a number",
            ),
            (r#"{"type":"say","room":"a","text":"x"}"#, Code::BadFrame, "missing field `nonce`"),
            (r#"{"type":"join","room":"a","after":-1}"#, Code::BadFrame, "join: `after` must be a whole number"),
            (r#"{"type":"hello""#, Code::BadFrame, "line 1 column 15"),
            (r#"{"type":"leave","room":"a","room":"b"}"#, Code::BadFrame, "leave: duplicate field `room`"),
            (r#"{"type":"leave","type":"leave","room":"b"}"#, Code::BadFrame, "duplicate field `type`"),
        ];
        for (frame, code, words) in wrong {
            let bad = parse(frame.as_bytes()).unwrap_err();
            assert_eq!(bad.code, code, "{frame}");
            assert!(bad.message.contains(words), "{frame}: {}", bad.message);
        }
    }

    /// Every field of every type with values of every kind: what is understood and what is told go together, and nothing
    /// that is told is of this program rather than of the protocol.
    #[test]
    fn no_type_of_ours_is_told() {
        const VALUES: [(&str, Option<bool>); 12] = [
            ("null", None),
            ("true", Some(false)),
            ("\"text\"", Some(false)),
            ("\"\"", Some(false)),
            ("0", Some(true)),
            ("9007199254740991", Some(true)),
            ("-1", Some(false)),
            ("1.5", Some(false)),
            ("1e3", Some(false)),
            ("18446744073709551616", Some(false)),
            ("[1]", Some(false)),
            ("{\"a\":[]}", Some(false)),
        ];
        for (request, fields) in TYPES {
            // Which are numbers, and which may be left out, is told by what is understood.
            let needed: Vec<&str> = fields.iter().filter(|field| field.is_needed).map(|field| field.name).collect();
            for field in fields.iter().map(|field| field.name) {
                for (value, is_number) in VALUES {
                    let others =
                        needed.iter().filter(|other| **other != field).map(|other| format!(",\"{other}\":\"x\""));
                    let others: String = others.collect();
                    let frame = format!("{{\"type\":\"{request}\",\"{field}\":{value}{others}}}");
                    let is_text = value.starts_with('"');
                    let takes_number = matches!(field, "after" | "before" | "limit");
                    let fits = match is_number {
                        None => !needed.contains(&field),
                        Some(is_number) if takes_number => is_number,
                        Some(_) => is_text,
                    };
                    let parsed = parse(frame.as_bytes());
                    assert_eq!(parsed.is_ok(), fits, "{frame}: {parsed:?}");
                    let Err(BadFrame { code, message }) = parsed else { continue };
                    assert_eq!(code, Code::BadFrame, "{frame}");
                    assert!(
                        message.starts_with(&format!("{request}: ")) && message.contains(&format!("`{field}`")),
                        "{message}"
                    );
                    for word in ["expected", "u64", "usize", "invalid", "Request", "variant", "struct", "floating"] {
                        assert!(!message.contains(word), "{frame}: {message}");
                    }
                }
            }
        }
    }
}
