//! Records of the log and of the meta log as bytes.
//!
//! A record of the log begins with a header that every version of the program reads: format, kind, the life of the log
//! in which it was published, and the id of its draft. What follows depends on the kind. Who does not know a kind passes
//! the record over, and it keeps its position; so does who does not know the format, but then knows nothing of it.
//!
//! ```text
//! format 1 · kind · epoch (8) · base · instance (8) · number                       every record
//!   at · room · flags · [author (8) · name] · [nonce] · content                   kinds text and binary
//! ```
//!
//! Numbers without a size are LEB128, texts have their length before them, and the content is the rest.

use std::num::NonZeroUsize;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::chat::entry::{Author, Content, Draft, Epoch, Nonce, PersonId, Position, RoomName, Timestamp};
use crate::journal::ordered::{DraftId, Stamp};

use super::driver::Run;

const FORMAT: u8 = 1;
/// A kind is never used for anything else again; what a change of format makes unreadable to older programs is a new kind.
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const MARK: u8 = 3;

const HAS_AUTHOR: u8 = 1;
const HAS_NONCE: u8 = 2;

/// A base above this is of no program: positions are numbers in JSON, which go to 2^53. A life that had it would hold for
/// ever, since lives only go up.
const MAX_BASE: u64 = 1 << 52;

/// Names of rooms that are known to be valid without looking.
const KNOWN_ROOMS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) stamp: Stamp,
    pub(super) id: DraftId,
    pub(super) body: Body,
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// Somebody said this.
    Said(Draft),
    /// Nobody did: it shows that the log moves, and which life it is in.
    Mark,
    /// It is of a kind that only a newer program knows, or not as it should be.
    Unknown,
}

/// The bytes of what somebody said.
pub(super) fn encode_draft(stamp: Stamp, id: DraftId, draft: &Draft) -> Bytes {
    let content = draft.content.bytes();
    let author = draft.author.as_ref();
    let nonce = draft.nonce.as_ref().filter(|_| author.is_some());
    let room = draft.room.as_str().as_bytes();
    let texts = room.len() + author.map_or(0, |author| author.name.len()) + nonce.map_or(0, |nonce| nonce.0.len());
    let kind = match draft.content {
        Content::Text(_) => TEXT,
        Content::Binary(_) => BINARY,
    };
    let mut out = Vec::with_capacity(content.len() + texts + 80);
    header(kind, stamp, id, &mut out);
    number(draft.at.0, &mut out);
    text(room, &mut out);
    out.push(if author.is_some() { HAS_AUTHOR } else { 0 } | if nonce.is_some() { HAS_NONCE } else { 0 });
    if let Some(author) = author {
        out.extend_from_slice(&author.id.0.to_be_bytes());
        text(author.name.as_bytes(), &mut out);
    }
    if let Some(nonce) = nonce {
        text(nonce.0.as_bytes(), &mut out);
    }
    out.extend_from_slice(content);
    out.into()
}

/// The bytes of a mark.
pub(super) fn encode_mark(stamp: Stamp, id: DraftId) -> Bytes {
    let mut out = Vec::with_capacity(40);
    header(MARK, stamp, id, &mut out);
    out.into()
}

fn header(kind: u8, stamp: Stamp, id: DraftId, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FORMAT, kind]);
    out.extend_from_slice(&stamp.epoch.0.to_be_bytes());
    number(stamp.base.0, out);
    out.extend_from_slice(&id.instance.to_be_bytes());
    number(id.number, out);
}

fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads records, and remembers names that come again and again.
#[derive(Debug)]
pub(super) struct Decoder {
    rooms: LruCache<Bytes, RoomName>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Decoder { rooms: LruCache::new(KNOWN_ROOMS) }
    }

    /// The message of a record; `None` if not even its header can be read.
    pub(super) fn decode(&mut self, record: &Bytes) -> Option<Message> {
        let mut rest = Rest(record.clone());
        if rest.byte()? != FORMAT {
            return None;
        }
        let kind = rest.byte()?;
        let epoch = Epoch(rest.eight()?);
        let base = Position(rest.number().filter(|base| *base <= MAX_BASE)?);
        let stamp = Stamp { epoch, base };
        let id = DraftId { instance: rest.eight()?, number: rest.number()? };
        let body = match kind {
            MARK => Body::Mark,
            TEXT | BINARY => self.draft(kind, rest).map_or(Body::Unknown, Body::Said),
            _ => Body::Unknown,
        };
        Some(Message { stamp, id, body })
    }

    fn draft(&mut self, kind: u8, mut rest: Rest) -> Option<Draft> {
        let at = Timestamp(rest.number()?);
        let room = self.room(&rest.text()?)?;
        let flags = rest.byte()?;
        let author = if flags & HAS_AUTHOR != 0 {
            let id = PersonId(rest.eight()?);
            Some(Author { id, name: str::from_utf8(&rest.text()?).ok()?.into() })
        } else {
            None
        };
        let nonce = if flags & HAS_NONCE != 0 { Some(Nonce(str::from_utf8(&rest.text()?).ok()?.into())) } else { None };
        let Rest(content) = rest;
        let content = if kind == TEXT {
            // Browsers end a connection on which a text is none.
            str::from_utf8(&content).ok()?;
            Content::Text(content)
        } else {
            Content::Binary(content)
        };
        Some(Draft { room, origin: None, author, nonce, at, content })
    }

    fn room(&mut self, name: &Bytes) -> Option<RoomName> {
        if let Some(room) = self.rooms.get(name) {
            return Some(room.clone());
        }
        // How long a name may be is for the instance that let it in.
        let room = RoomName::new(str::from_utf8(name).ok()?, name.len()).ok()?;
        self.rooms.put(Bytes::copy_from_slice(name), room.clone());
        Some(room)
    }
}

/// What has not been read of a record.
struct Rest(Bytes);

impl Rest {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn eight(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?[..].try_into().ok()?))
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }
}

/// A record of the meta log. They are JSON, for people who look there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum MetaRecord {
    /// A life of the log.
    Epoch {
        epoch: String,
        base: u64,
        after: u64,
        /// The run of the broker in which it was declared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<String>,
    },
    /// The run of the broker in which a log was found whose lives name none: older programs have declared them, or the
    /// broker did not tell. There is at the most one of each instance, where all come at the same moment.
    Run { run: String },
    /// What signs the tokens of people, in base64.
    Key { key: String },
}

/// A life of the log, as whoever declared it has written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) stamp: Stamp,
    /// Nothing of this life is at this offset or before it.
    pub(super) after: u64,
}

/// What the meta log says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Meta {
    /// In the order in which they were declared.
    pub(super) lives: Vec<Declared>,
    /// The first one that was given.
    pub(super) key: Option<[u8; 32]>,
    /// The last run of the broker in which a life was declared, or in which the log was found.
    pub(super) run: Option<String>,
}

impl Meta {
    /// Reads what can be read; the rest is of a newer program.
    pub(super) fn read(records: &[Bytes]) -> Meta {
        let mut meta = Meta::default();
        for record in records {
            match serde_json::from_slice(record) {
                Ok(MetaRecord::Epoch { epoch, base, after, run }) => {
                    meta.run = run.or(meta.run);
                    if let Ok(epoch) = epoch.parse()
                        && base <= MAX_BASE
                    {
                        meta.lives.push(Declared { stamp: Stamp { epoch, base: Position(base) }, after });
                    }
                }
                Ok(MetaRecord::Run { run }) => meta.run = Some(run),
                Ok(MetaRecord::Key { key }) => {
                    meta.key = meta.key.or_else(|| STANDARD.decode(key).ok()?.try_into().ok());
                }
                Err(_) => {}
            }
        }
        meta
    }

    /// The life that holds: the one with the highest base, the first of equals.
    pub(super) fn best(&self) -> Option<Stamp> {
        let lives = self.lives.iter().map(|life| life.stamp);
        lives.reduce(|best, next| if next.base > best.base { next } else { best })
    }
}

/// The record that declares a life, in a run of the broker.
pub(super) fn encode_life(life: &Declared, run: &Run) -> Bytes {
    let Declared { stamp, after } = *life;
    let run = match run {
        Run::Named(run) => Some(run.clone()),
        Run::Unmarked => None,
    };
    json(&MetaRecord::Epoch { epoch: stamp.epoch.to_string(), base: stamp.base.0, after, run })
}

/// The record that names the run of the broker in which a log was found.
pub(super) fn encode_run(run: &str) -> Bytes {
    json(&MetaRecord::Run { run: run.to_owned() })
}

/// The record that proposes a key.
pub(super) fn encode_key(key: &[u8; 32]) -> Bytes {
    json(&MetaRecord::Key { key: STANDARD.encode(key) })
}

fn json(record: &MetaRecord) -> Bytes {
    serde_json::to_vec(record).expect("plain values become JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{raw, said};

    const STAMP: Stamp = Stamp { epoch: Epoch(0xfedc_ba98_7654_3210), base: Position(300) };
    const ID: DraftId = DraftId { instance: u64::MAX, number: 127 };

    fn decode(record: &Bytes) -> Option<Message> {
        Decoder::new().decode(record)
    }

    #[test]
    fn what_is_said_comes_back_as_it_was() {
        let binary = Draft { content: Content::Binary(Bytes::from_static(b"\0\xff\n")), ..raw("lobby", "") };
        let anonymous = Draft { nonce: Some(Nonce("n".into())), ..raw("lobby", "hi") };
        for draft in [raw("lobby", "hi"), said("Küche 2", (u64::MAX, "Ann"), "n-1", "größer"), binary, anonymous] {
            let (stamp, id) = (Stamp { base: Position(MAX_BASE), ..STAMP }, DraftId { number: u64::MAX, ..ID });
            let record = encode_draft(stamp, id, &draft);
            // A nonce without an author is nobody's, and the member is one of this instance.
            let nonce = draft.nonce.clone().filter(|_| draft.author.is_some());
            let body = Body::Said(Draft { origin: None, nonce, ..draft });
            assert_eq!(decode(&record), Some(Message { stamp, id, body }));
        }
        let mark = encode_mark(STAMP, ID);
        assert_eq!(decode(&mark), Some(Message { stamp: STAMP, id: ID, body: Body::Mark }));
        assert!(mark.len() <= 24, "{} bytes", mark.len());
    }

    #[test]
    fn what_is_not_understood_harms_nothing() {
        let record = encode_draft(STAMP, ID, &said("room", (1, "Ann"), "n1", "hello"));
        let unknown = Some(Message { stamp: STAMP, id: ID, body: Body::Unknown });
        let with = |place: usize, byte: u8| {
            let mut record = record.to_vec();
            record[place] = byte;
            Bytes::from(record)
        };
        let last = record.len() - 1;
        for (name, record, expected) in [
            ("another format", with(0, 2), None),
            ("another kind", with(1, 9), unknown.clone()),
            ("a text that is none", with(last, 0xff), unknown.clone()),
            ("a base that is none", encode_mark(Stamp { base: Position(MAX_BASE + 1), ..STAMP }, ID), None),
            ("nothing", Bytes::new(), None),
            ("rubbish", Bytes::from_static(b"\x01\x01rubbish"), None),
        ] {
            assert_eq!(decode(&record), expected, "{name}");
        }
        // Every beginning of a record is either nothing, of an unknown kind, or has less content.
        for length in 0..record.len() {
            match decode(&record.slice(..length)) {
                None => assert!(length < 21),
                Some(Message { body: Body::Unknown, .. }) => assert!(length < record.len() - 5),
                Some(Message { body, .. }) => assert!(matches!(body, Body::Said(_)) && length >= record.len() - 5),
            }
        }
    }

    #[test]
    fn numbers_of_any_size() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            number(value, &mut out);
            assert_eq!(Rest(out.into()).number(), Some(value));
        }
        for too_much in [&[0xff; 10][..], &[0x80; 3], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            assert_eq!(Rest(Bytes::copy_from_slice(too_much)).number(), None);
        }
    }

    #[test]
    fn the_meta_log_names_one_life_and_one_key() {
        let life = |epoch, base, after| Declared { stamp: Stamp { epoch: Epoch(epoch), base: Position(base) }, after };
        let (one, two, three) = (life(1, 0, 0), life(2, 70, 9), life(u64::MAX, 70, 8));
        let records = [
            encode_key(&[3; 32]),
            encode_life(&one, &Run::Unmarked),
            Bytes::from_static(b"{\"record\": \"epoch\", \"epoch\": \"x\", \"base\": 99, \"after\": 0}"),
            encode_life(&two, &Run::Unmarked),
            Bytes::from_static(b"{\"record\": \"of tomorrow\"}"),
            Bytes::from_static(
                b"{\"record\": \"epoch\", \"epoch\": \"5\", \"base\": 18446744073709551615, \"after\": 0}",
            ),
            Bytes::from_static(b"\xff"),
            encode_key(&[4; 32]),
            encode_life(&three, &Run::Unmarked),
        ];
        let meta = Meta::read(&records);
        assert_eq!(meta, Meta { lives: vec![one, two, three], key: Some([3; 32]), run: None });
        assert_eq!(meta.best(), Some(two.stamp), "the highest base, the first of equals");
        assert_eq!(Meta::read(&[]).best(), None);
    }

    #[test]
    fn the_meta_log_names_the_last_run_that_is_known() {
        let life = Declared { stamp: STAMP, after: 5 };
        let named = |run: &str| Run::Named(run.to_owned());
        for (name, records, known) in [
            ("of an older program", vec![encode_life(&life, &Run::Unmarked)], None),
            ("declared in it", vec![encode_life(&life, &named("a"))], Some("a")),
            ("gone on with", vec![encode_life(&life, &named("a")), encode_run("b")], Some("b")),
            ("and declared anew", vec![encode_run("b"), encode_life(&life, &named("c"))], Some("c")),
            ("and that does not tell", vec![encode_run("b"), encode_life(&life, &Run::Unmarked)], Some("b")),
        ] {
            assert_eq!(Meta::read(&records).run.as_deref(), known, "{name}");
        }
    }
}
