//! The dialect chat.v1 (docs/PROTOCOL.md): what a client says, and what it is told, as far as a generator needs it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;

/// The subprotocol to offer.
pub const PROTOCOL: &str = "chat.v1";

/// Where somebody was when the connection ended, and who: what a client comes back with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// Proves who it is.
    pub token: String,
    /// Takes over the former connection.
    pub session: String,
    /// The life of the journal that positions belong to.
    pub epoch: String,
}

/// `hello` of client `index`, as the same person as before if it was one.
pub fn hello(index: usize, person: &Person) -> String {
    let mut hello = json!({"type": "hello", "name": format!("loadtest {index}")});
    if !person.token.is_empty() {
        hello["token"] = person.token.as_str().into();
        hello["session"] = person.session.as_str().into();
    }
    hello.to_string()
}

/// `join`, behind the position `after` of the epoch of `person` if it was there before.
pub fn join(room: &str, person: &Person, after: Option<u64>) -> String {
    let mut join = json!({"type": "join", "room": room});
    if let Some(after) = after {
        join["after"] = after.into();
        join["epoch"] = person.epoch.as_str().into();
    }
    join.to_string()
}

/// Makes `say` messages: everything but text and nonce stays the same.
#[derive(Debug)]
pub struct Sayer {
    frame: Vec<u8>,
    front: usize,
}

impl Sayer {
    /// For texts in `room`.
    pub fn new(room: &str) -> Self {
        let frame = format!(r#"{{"type":"say","room":{},"nonce":""#, json!(room)).into_bytes();
        Sayer { front: frame.len(), frame }
    }

    /// Says `payload`, printable ASCII that begins with its stamp, which is its nonce as well: run, sender and number.
    pub fn say(&mut self, payload: &[u8]) -> &[u8] {
        self.frame.truncate(self.front);
        self.frame.extend_from_slice(&payload[..NONCE_BYTES]);
        self.frame.extend_from_slice(br#"","text":""#);
        self.frame.extend_from_slice(payload);
        self.frame.extend_from_slice(br#""}"#);
        &self.frame
    }
}

/// Bytes of a nonce: run, sender and number of the stamp.
pub const NONCE_BYTES: usize = 24;

/// One message of the room.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Entry<'a> {
    /// Its place in the order of everything.
    pub position: u64,
    /// What was said; empty for binary messages of raw members.
    #[serde(borrow, default)]
    pub text: Cow<'a, str>,
}

/// What the server has told.
#[derive(Debug, PartialEq)]
pub enum Told<'a> {
    /// `welcome`.
    Welcome {
        /// Brings the person back.
        token: Cow<'a, str>,
        /// Takes over this connection.
        session: Cow<'a, str>,
        /// Texts per second that it may say; 0 for any.
        say_per_second: f64,
    },
    /// `joined`.
    Joined {
        /// To which life of the journal positions belong.
        epoch: Cow<'a, str>,
        /// The room is known up to here.
        position: u64,
        /// What was missed, or the newest page.
        entries: Vec<Entry<'a>>,
        /// What was missed does not come.
        gap: bool,
        /// More of what was missed follows.
        more: bool,
    },
    /// `said`; one that repeats an earlier one for its sender alone is [`Told::Other`].
    Said(Entry<'a>),
    /// `gap`: what should have come next is no longer kept.
    Gap,
    /// `error`.
    Error {
        /// Code and sentence.
        reason: String,
        /// Which `say` it refuses.
        nonce: Option<Cow<'a, str>>,
    },
    /// Everything else, such as `presence`.
    Other,
}

/// The fields of all messages that matter here.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session: Option<Cow<'a, str>>,
    limits: Option<Limits>,
    #[serde(borrow)]
    epoch: Option<Cow<'a, str>>,
    position: Option<u64>,
    #[serde(borrow)]
    entries: Option<Vec<Entry<'a>>>,
    gap: Option<bool>,
    more: Option<bool>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    repeat: Option<bool>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    nonce: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Limits {
    say_per_second: Option<f64>,
}

/// What `payload` tells; the error is a sentence.
pub fn read(payload: &[u8]) -> Result<Told<'_>, String> {
    // What every member is told again and again, and nobody needs here, is not worth a parser.
    if payload.starts_with(br#"{"type":"presence""#) || payload.starts_with(br#"{"type":"typing""#) {
        return Ok(Told::Other);
    }
    let message: Message<'_> =
        serde_json::from_slice(payload).map_err(|err| format!("no message of chat.v1: {err}"))?;
    Ok(match message.kind.as_ref() {
        "welcome" => Told::Welcome {
            token: message.token.unwrap_or_default(),
            session: message.session.unwrap_or_default(),
            say_per_second: message.limits.and_then(|limits| limits.say_per_second).unwrap_or_default(),
        },
        "joined" => Told::Joined {
            epoch: message.epoch.unwrap_or_default(),
            position: message.position.unwrap_or_default(),
            entries: message.entries.unwrap_or_default(),
            gap: message.gap.unwrap_or_default(),
            more: message.more.unwrap_or_default(),
        },
        "said" if message.repeat != Some(true) => {
            let position = message.position.ok_or("`said` without a position")?;
            Told::Said(Entry { position, text: message.text.unwrap_or_default() })
        }
        "gap" => Told::Gap,
        "error" => Told::Error {
            reason: format!("{}: {}", message.code.unwrap_or_default(), message.message.unwrap_or_default()),
            nonce: message.nonce,
        },
        _ => Told::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent() {
        let nobody = Person::default();
        let person = Person { token: "t".into(), session: "s".into(), epoch: "e".into() };
        let table = [
            (hello(7, &nobody), r#"{"name":"loadtest 7","type":"hello"}"#),
            (hello(7, &person), r#"{"name":"loadtest 7","session":"s","token":"t","type":"hello"}"#),
            (join("a\"b", &person, None), r#"{"room":"a\"b","type":"join"}"#),
            (join("a", &person, Some(9)), r#"{"after":9,"epoch":"e","room":"a","type":"join"}"#),
        ];
        for (sent, expected) in table {
            assert_eq!(sent, expected);
        }
        let mut sayer = Sayer::new("a");
        for filler in ["x", "yz"] {
            let payload = format!("{:024}{filler}", 5);
            let nonce = &payload[..NONCE_BYTES];
            let expected = format!(r#"{{"type":"say","room":"a","nonce":"{nonce}","text":"{payload}"}}"#);
            assert_eq!(sayer.say(payload.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn what_is_told() {
        let entry = |position, text: &'static str| Entry { position, text: text.into() };
        let joined = |position, entries, gap, more| Told::Joined { epoch: "e".into(), position, entries, gap, more };
        let table = [
            (
                r#"{"type":"welcome","you":{"id":"1"},"token":"t","session":"s","limits":{"say_per_second":20,"rooms":5}}"#,
                Told::Welcome { token: "t".into(), session: "s".into(), say_per_second: 20.0 },
            ),
            (r#"{"type":"joined","room":"r","epoch":"e","position":3,"entries":[]}"#, joined(3, vec![], false, false)),
            (
                r#"{"type":"joined","epoch":"e","position":3,"entries":[{"position":2,"text":"a"},{"position":3,"data":"AP8="}],"gap":true,"more":true}"#,
                joined(3, vec![entry(2, "a"), entry(3, "")], true, true),
            ),
            (r#"{"type":"said","position":4,"text":"a\n","nonce":"n"}"#, Told::Said(entry(4, "a\n"))),
            (r#"{"type":"said","position":4,"text":"a","nonce":"n","repeat":true}"#, Told::Other),
            (r#"{"type":"gap","room":"r","position":4}"#, Told::Gap),
            (
                r#"{"type":"error","code":"too_fast","message":"wait","nonce":"n"}"#,
                Told::Error { reason: "too_fast: wait".into(), nonce: Some("n".into()) },
            ),
            (r#"{"type":"presence","room":"r","joined":[],"count":1}"#, Told::Other),
            (r#"{"type":"draining","reconnect_ms":5}"#, Told::Other),
        ];
        for (payload, expected) in table {
            assert_eq!(read(payload.as_bytes()), Ok(expected), "{payload}");
        }
        for payload in ["", "hello", "{}", "[]", r#"{"type":"said","text":"a"}"#] {
            assert!(read(payload.as_bytes()).is_err(), "{payload}");
        }
    }
}
