//! What a client asks, and what is wrong with a frame that asks for nothing.

use serde::{Deserialize, Serialize};

use super::Code;

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

/// The types of [`Request`], for whoever asks for another.
const TYPES: [&str; 8] = ["hello", "join", "leave", "say", "typing", "rename", "history", "search"];

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
    serde_json::from_slice(frame).map_err(|err| {
        #[derive(Deserialize)]
        struct Typed {
            r#type: String,
        }
        match serde_json::from_slice::<Typed>(frame) {
            Ok(Typed { r#type: other }) if !TYPES.contains(&other.as_str()) => BadFrame {
                code: Code::UnknownType,
                message: format!("the type {:?} is unknown; known are {}", shortened(&other), TYPES.join(", ")),
            },
            Ok(Typed { r#type: known }) => BadFrame { code: Code::BadFrame, message: format!("{known}: {err}") },
            Err(_) => BadFrame { code: Code::BadFrame, message: format!("not a JSON object with a type: {err}") },
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
            ("[]", Code::BadFrame, "not a JSON object with a type"),
            ("{}", Code::BadFrame, "missing field `type`"),
            (r#"{"type":"dance"}"#, Code::UnknownType, r#"the type "dance" is unknown; known are hello"#),
            (r#"{"type":"say","room":"a","text":1,"nonce":"n"}"#, Code::BadFrame, "say: invalid type: integer"),
            (r#"{"type":"say","room":"a","text":"x"}"#, Code::BadFrame, "missing field `nonce`"),
            (r#"{"type":"join","room":"a","after":-1}"#, Code::BadFrame, "join: invalid value"),
            (r#"{"type":"hello""#, Code::BadFrame, "line 1 column 15"),
        ];
        for (frame, code, words) in wrong {
            let bad = parse(frame.as_bytes()).unwrap_err();
            assert_eq!(bad.code, code, "{frame}");
            assert!(bad.message.contains(words), "{frame}: {}", bad.message);
        }
    }
}
