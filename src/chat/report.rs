//! What an instance tells the others about who is with it: small messages that may be lost, doubled or late.
//!
//! A report says of some rooms who is in them, whole, and not what has changed: so whatever was lost is made good by the
//! next report of that room, and whatever comes twice does no harm. Crowds are counted and not named. Names of people
//! have versions, so that all instances agree on the newest.
//!
//! The bytes are JSON with short names. Its `v` comes first in every format; who does not know it ignores the report, and
//! fields that are not known are ignored, so that instances of two versions can stand side by side.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::{Author, PersonId, RoomName};
use super::name::person_name;

const FORMAT: u32 = 1;

/// Tells the instances apart. Each start of the program is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId(pub u64);

/// What one instance reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which instance.
    pub instance: InstanceId,
    /// Later reports of it have higher numbers.
    pub number: u64,
    /// It is about to end: its people will come back elsewhere.
    pub is_leaving: bool,
    /// People whom another instance has called by an older name than they have here, where they may be in no room.
    pub names: Vec<Named>,
    /// Rooms, each as it is now. Others are as they were.
    pub rooms: Vec<RoomReport>,
}

/// Who is in one room of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomReport {
    /// Which room.
    pub room: RoomName,
    /// The people, unless they are a crowd.
    pub people: Vec<Named>,
    /// How many people they are, if they are a crowd.
    pub crowd: usize,
    /// Connections without a name.
    pub strangers: usize,
    /// Who has been writing since the last report.
    pub writing: Vec<Author>,
}

/// Somebody, by the name that they had at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Who, and the name.
    pub author: Author,
    /// The name of a higher version is newer; of two with the same version, the one later in the alphabet counts.
    pub version: u32,
}

/// What is taken from other instances.
#[derive(Debug, Clone, Copy)]
pub struct ReportBounds {
    /// Bytes of one report.
    pub bytes: usize,
    /// People named in one room.
    pub names: usize,
    /// Bytes of a room's name.
    pub room_name_bytes: usize,
    /// Bytes of a person's name.
    pub person_name_bytes: usize,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    i: u64,
    n: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    bye: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    k: Vec<WirePerson>,
    #[serde(default)]
    rooms: Vec<WireRoom>,
}

/// Id, name and the name's version.
type WirePerson = (u64, String, u32);

#[derive(Serialize, Deserialize)]
struct WireRoom {
    r: String,
    #[serde(default, skip_serializing_if = "is_default")]
    p: Vec<WirePerson>,
    #[serde(default, skip_serializing_if = "is_default")]
    c: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    s: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    t: Vec<(u64, String)>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl RoomReport {
    /// Bytes that it has in a report, at the most: names may have characters that are escaped.
    #[must_use]
    pub fn cost(&self) -> usize {
        let names = self.people.iter().map(|named| &named.author).chain(&self.writing);
        let names: usize = names.map(|author| author.name.len() * 2 + 40).sum();
        self.room.as_str().len() * 2 + names + 60
    }
}

impl Report {
    /// The report as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let person = |named: &Named| (named.author.id.0, named.author.name.to_string(), named.version);
        let room = |room: &RoomReport| WireRoom {
            r: room.room.to_string(),
            p: room.people.iter().map(person).collect(),
            c: number(room.crowd),
            s: number(room.strangers),
            t: room.writing.iter().map(|author| (author.id.0, author.name.to_string())).collect(),
        };
        let rooms = self.rooms.iter().map(room).collect();
        let k = self.names.iter().map(person).collect();
        let wire = Wire { v: FORMAT, i: self.instance.0, n: self.number, bye: self.is_leaving, k, rooms };
        serde_json::to_vec(&wire).expect("plain values become JSON").into()
    }

    /// The report in some bytes; `None` if they are none, are too many, or are of a format that is not known. Of rooms
    /// and people, those that cannot be called so are left out.
    #[must_use]
    pub fn read(bytes: &[u8], bounds: ReportBounds) -> Option<Report> {
        #[derive(Deserialize)]
        struct Head {
            v: u32,
        }
        if bytes.len() > bounds.bytes || serde_json::from_slice::<Head>(bytes).ok()?.v != FORMAT {
            return None;
        }
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        let author = |id: u64, name: &str| {
            let name: Arc<str> = person_name(name, bounds.person_name_bytes).ok()?;
            Some(Author { id: PersonId(id), name })
        };
        let named = |(id, name, version): WirePerson| Some(Named { author: author(id, &name)?, version });
        let room = |wire: WireRoom| {
            let WireRoom { r, p, c, s, t } = wire;
            let room = RoomName::new(&r, bounds.room_name_bytes).ok()?;
            let (mut crowd, mut people) = (c as usize, Vec::new());
            if p.len() > bounds.names {
                crowd = crowd.saturating_add(p.len());
            } else {
                let mut seen = HashSet::new();
                people.extend(p.into_iter().filter(|(id, ..)| seen.insert(*id)).filter_map(named));
            }
            let writing = t.into_iter().take(super::presence::WRITING_NAMES);
            let writing = writing.filter_map(|(id, name)| author(id, &name)).collect();
            Some(RoomReport { room, people, crowd, strangers: s as usize, writing })
        };
        let rooms = wire.rooms.into_iter().filter_map(room).collect();
        let names = wire.k.into_iter().filter_map(named).collect();
        Some(Report { instance: InstanceId(wire.i), number: wire.n, is_leaving: wire.bye, names, rooms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: ReportBounds = ReportBounds { bytes: 1_000, names: 3, room_name_bytes: 16, person_name_bytes: 16 };

    fn named(id: u64, name: &str, version: u32) -> Named {
        Named { author: Author { id: PersonId(id), name: name.into() }, version }
    }

    #[test]
    fn reports_come_through() {
        let room = |name: &str| RoomReport {
            room: RoomName::new(name, 16).unwrap(),
            people: vec![named(1, "Ann", 0), named(u64::MAX, "B\"\\b", 7)],
            crowd: 0,
            strangers: 2,
            writing: vec![named(1, "Ann", 0).author],
        };
        let crowd = RoomReport { people: vec![], crowd: 10_000, writing: vec![], ..room("crowd") };
        let report = Report {
            instance: InstanceId(7),
            number: 9,
            is_leaving: false,
            names: vec![named(5, "Eve", 3)],
            rooms: vec![room("a"), crowd],
        };
        for report in [report.clone(), Report { is_leaving: true, rooms: vec![], ..report }] {
            let bytes = report.encode();
            assert_eq!(Report::read(&bytes, BOUNDS), Some(report.clone()));
            let cost: usize = report.rooms.iter().map(RoomReport::cost).sum();
            assert!(bytes.len() <= cost + 100, "{} bytes, {cost} told", bytes.len());
        }
    }

    #[test]
    fn what_others_send_is_bounded() {
        let rooms = |rooms: &str| format!(r#"{{"v":1,"i":7,"n":1,"rooms":{rooms}}}"#);
        let long = "x".repeat(17);
        let table = [
            // name, bytes, rooms with people, crowd and strangers; None if nothing is read
            ("nothing", String::new(), None),
            ("not JSON", "\u{0}\u{1}".to_owned(), None),
            ("another format", r#"{"v":2,"i":7,"n":1,"rooms":[]}"#.to_owned(), None),
            ("no format", r#"{"i":7,"n":1,"rooms":[]}"#.to_owned(), None),
            ("too long", rooms("[]") + &" ".repeat(1_000), None),
            ("a number below zero", rooms(r#"[{"r":"a","c":-1}]"#), None),
            ("no rooms, and a field of the future", r#"{"v":1,"i":7,"n":1,"x":[1]}"#.to_owned(), Some(vec![])),
            ("nobody", rooms(r#"[{"r":"a"}]"#), Some(vec![("a", 0, 0, 0)])),
            (
                "a room that cannot be",
                rooms(&format!(r#"[{{"r":"{long}"}},{{"r":""}},{{"r":"b"}}]"#)),
                Some(vec![("b", 0, 0, 0)]),
            ),
            (
                "names that cannot be",
                rooms(&format!(r#"[{{"r":"a","p":[[1,"system",0],[2,"{long}",0],[3,"Ann",0]]}}]"#)),
                Some(vec![("a", 1, 0, 0)]),
            ),
            ("somebody twice", rooms(r#"[{"r":"a","p":[[1,"Ann",0],[1,"Bob",0]],"s":3}]"#), Some(vec![("a", 1, 0, 3)])),
            (
                "more names than are kept",
                rooms(r#"[{"r":"a","p":[[1,"a",0],[2,"b",0],[3,"c",0],[4,"d",0]],"c":2}]"#),
                Some(vec![("a", 0, 6, 0)]),
            ),
        ];
        for (name, bytes, expected) in table {
            let report = Report::read(bytes.as_bytes(), BOUNDS);
            let found = report.as_ref().map(|report| {
                let rooms = report.rooms.iter();
                rooms.map(|it| (it.room.as_str(), it.people.len(), it.crowd, it.strangers)).collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{name}");
        }
    }
}
