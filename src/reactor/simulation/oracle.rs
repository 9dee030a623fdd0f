//! What is true: every entry that a journal has emitted, room by room, and the rules by which what a client was told is
//! judged.
//!
//! A client's view of a room is judged as it comes. What it is told next must be the next entry of the room, but for gaps
//! that are announced; and a gap must have a reason: entries were trimmed, could not be read, are more than are replayed,
//! or belong to another epoch. With a memory journal the reason is the bound of the tails.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::chat::entry::{Content, Entry, Nonce, PersonId, Position, RoomName};
use crate::journal::simulated::Store;
use crate::limits::Limits;

pub(super) const ROOMS: usize = 3;

/// The name of a room.
pub(super) fn room_name(room: usize) -> String {
    format!("r{room}")
}

/// What has been emitted.
pub(super) struct Truth {
    pub(super) store: Rc<RefCell<Store>>,
    /// Entries outlive the process.
    pub(super) keeps: bool,
    limits: Limits,
    pub(super) epoch: String,
    rooms: [Vec<Entry>; ROOMS],
    /// The last entry that was emitted.
    pub(super) last: u64,
    said: HashMap<(PersonId, Nonce), Position>,
    /// The number of what each raw member has said last.
    numbers: BTreeMap<String, u64>,
}

/// How far somebody has heard a room.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) room: usize,
    pub(super) upto: u64,
    /// Reads that had failed when it asked to listen.
    pub(super) unread: u64,
}

impl Truth {
    pub(super) fn new(store: Rc<RefCell<Store>>, keeps: bool, limits: Limits) -> Truth {
        let epoch = store.borrow().epoch().to_string();
        let (rooms, said, numbers) = ([const { Vec::new() }; ROOMS], HashMap::new(), BTreeMap::new());
        Truth { store, keeps, limits, epoch, rooms, last: 0, said, numbers }
    }

    /// A process begins, with what was stored, if anything is. Whether it is another epoch.
    pub(super) fn reopen(&mut self) -> bool {
        let store = Rc::clone(&self.store);
        let store = store.borrow();
        assert!(store.emitted.is_empty(), "all that was emitted has been taken");
        let epoch = store.epoch().to_string();
        let is_new = epoch != self.epoch;
        if is_new {
            *self = Truth::new(Rc::clone(&self.store), self.keeps, self.limits.clone());
        }
        for room in 0..ROOMS {
            let kept: Vec<&Entry> =
                store.entries().iter().filter(|entry| entry.room.as_str() == room_name(room)).collect();
            let floor = store.floor(&RoomName::new(&room_name(room), 64).expect("a name"));
            let told: Vec<&Entry> = self.rooms[room].iter().filter(|entry| entry.position > floor).collect();
            assert!(kept.len() >= told.len(), "what was heard is in the store: {told:?} of {kept:?}");
            for (kept, told) in kept.iter().zip(&told) {
                assert_eq!(Entry { origin: None, ..(*told).clone() }, **kept, "what was heard is in the store");
            }
            // Stored, and never told.
            let missed: Vec<Entry> = kept[told.len()..].iter().map(|entry| (*entry).clone()).collect();
            missed.into_iter().for_each(|entry| self.add(entry));
        }
        self.last = store.last().0;
        is_new
    }

    /// Takes over what was emitted since the last time.
    pub(super) fn absorb(&mut self) {
        let emitted = std::mem::take(&mut self.store.borrow_mut().emitted);
        for entry in emitted {
            assert!(entry.position.0 > self.last, "{entry:?} comes behind {}", self.last);
            if self.keeps {
                let store = self.store.borrow();
                let is_kept = store.entries().iter().any(|kept| kept.position == entry.position);
                assert!(is_kept || entry.position <= store.floor(&entry.room), "{entry:?} was stored before");
            }
            self.last = entry.position.0;
            self.add(entry);
        }
    }

    fn add(&mut self, entry: Entry) {
        if let (Some(author), Some(nonce)) = (&entry.author, &entry.nonce) {
            let former = self.said.insert((author.id, nonce.clone()), entry.position);
            let is_forgotten = |former: Position| {
                let store = self.store.borrow();
                self.keeps && !store.entries().iter().any(|kept| kept.position == former)
            };
            assert!(former.is_none_or(is_forgotten), "{entry:?} was said at {former:?} already");
        } else if let Content::Text(text) = &entry.content
            && let Some((speaker, number)) = String::from_utf8_lossy(text).split_once(':')
        {
            // `raw` members number what they say. Some may have been refused, with which their connection ends.
            let number: u64 = number.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
            let next = self.numbers.get(speaker).copied();
            let may_skip = self.store.borrow().refused > 0 || (next.is_none() && self.floor_of_all() > 0);
            let next = next.unwrap_or(0);
            assert!(number == next || (may_skip && number > next), "{speaker} says {number}, next is {next}");
            self.numbers.insert(speaker.to_owned(), number + 1);
        }
        let room = (0..ROOMS).find(|room| room_name(*room) == entry.room.as_str()).expect("one of the rooms");
        self.rooms[room].push(entry);
    }

    /// The entries of a room behind `after`, up to and with `upto`.
    pub(super) fn between(&self, room: usize, after: u64, upto: u64) -> &[Entry] {
        let entries = &self.rooms[room];
        let place = |limit: u64| entries.partition_point(|entry| entry.position.0 <= limit);
        &entries[place(after)..place(upto).max(place(after))]
    }

    /// The last entry of a room.
    pub(super) fn last_of(&self, room: usize) -> u64 {
        self.rooms[room].last().map_or(0, |entry| entry.position.0)
    }

    /// Entries up to here may be missing, since they are not kept.
    pub(super) fn floor(&self, room: usize) -> u64 {
        self.store.borrow().floor(&RoomName::new(&room_name(room), 64).expect("a name")).0
    }

    fn floor_of_all(&self) -> u64 {
        (0..ROOMS).map(|room| self.floor(room)).max().unwrap_or(0)
    }

    /// The entry that somebody is told of, which must be as it is told.
    pub(super) fn entry(&self, room: usize, told: &Value) -> &Entry {
        let position = told["position"].as_u64().expect("a position");
        let entries = self.between(room, position - 1, position);
        let Some(entry) = entries.first() else { panic!("{told} was never emitted in {}", room_name(room)) };
        let author = entry.author.as_ref();
        assert_eq!(told["from"]["id"].as_str(), author.map(|author| author.id.to_string()).as_deref(), "{told}");
        assert_eq!(told["from"]["name"].as_str(), author.map(|author| &*author.name), "{told}");
        assert_eq!(told["nonce"].as_str(), entry.nonce.as_ref().map(|nonce| &*nonce.0), "{told}");
        assert_eq!(told["at"].as_u64(), Some(entry.at.0), "{told}");
        let (text, data) = match &entry.content {
            Content::Text(text) => (Some(String::from_utf8_lossy(text).into_owned()), None),
            Content::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        assert_eq!((told["text"].as_str(), told["data"].as_str()), (text.as_deref(), data.as_deref()), "{told}");
        entry
    }

    /// Reads that have failed.
    pub(super) fn unread(&self) -> u64 {
        self.store.borrow().unread
    }

    /// Whether somebody who has heard a room up to `after` may be told that there is a gap.
    pub(super) fn may_skip(&self, room: usize, after: u64, unread: u64) -> bool {
        if self.keeps {
            return self.floor(room) > after || self.unread() > unread;
        }
        // Tails go in whole batches, and rooms in which there is nobody are forgotten beyond a bound.
        let least = self.limits.tail_entries.saturating_sub(self.limits.entries_per_turn);
        let is_narrow = self.limits.tail_bytes.min(self.limits.tails_total_bytes) < 100_000;
        let is_forgetful = self.limits.max_tails <= ROOMS || is_narrow;
        is_forgetful || self.between(room, after, u64::MAX).len() >= least
    }

    /// Entries that somebody is told at once, which must be as they are in the room, without one left out.
    pub(super) fn slice(&self, room: usize, told: &Value) -> Option<(u64, u64)> {
        let told = told.as_array().expect("a list of entries");
        let positions: Vec<u64> = told.iter().map(|entry| self.entry(room, entry).position.0).collect();
        let (first, last) = (*positions.first()?, *positions.last()?);
        let true_ones: Vec<u64> = self.between(room, first - 1, last).iter().map(|entry| entry.position.0).collect();
        assert_eq!(positions, true_ones, "a part of the room without a hole");
        Some((first, last))
    }

    /// Judges `joined`, and returns how far the joiner knows the room. It has asked with `after` and an epoch when entries
    /// up to `present` were there and `unread` reads had failed.
    pub(super) fn joined(
        &self,
        room: usize,
        joined: &Value,
        after: Option<&(u64, String)>,
        (present, unread): (u64, u64),
    ) -> u64 {
        assert_eq!(joined["epoch"].as_str(), Some(&*self.epoch), "{joined}");
        let position = joined["position"].as_u64().expect("a position");
        assert!(position <= self.last, "{joined} is ahead of {}", self.last);
        let (gap, more, older) = (joined["gap"] == true, joined["more"] == true, joined["older"] == true);
        let slice = self.slice(room, &joined["entries"]);
        let told = joined["entries"].as_array().map_or(0, Vec::len) as u64;
        let last = slice.map_or(0, |(_, last)| last);
        assert!(self.between(room, last, position).is_empty() || slice.is_none(), "{joined} lacks the last");
        assert!(more || self.between(room, position, present).is_empty(), "{joined} is behind {present}");
        let missed = joined["missed"].as_u64();
        match after {
            Some((after, epoch)) if !gap => {
                assert_eq!(*epoch, self.epoch, "{joined}");
                let expected = self.between(room, *after, position);
                assert_eq!(expected.len() as u64, told, "{joined} after {after}: {expected:?}");
                let missed = missed.expect("a number");
                assert_eq!(more, missed > told, "{joined} after {after}");
                assert!(missed >= self.between(room, *after, present).len() as u64, "{joined} after {after}");
                assert!(missed <= self.between(room, *after, self.last).len() as u64, "{joined} after {after}");
                return position;
            }
            Some((after, epoch)) => {
                let is_justified = *epoch != self.epoch
                    || self.between(room, *after, self.last).len() > self.limits.backfill_entries
                    || self.may_skip(room, *after, unread);
                assert!(is_justified, "{joined} after {after}: there was no reason for a gap");
            }
            None => assert!(!gap, "{joined}"),
        }
        assert!(!more && missed.is_none(), "{joined}");
        if self.keeps && self.unread() == unread {
            let first = slice.map_or(position + 1, |(first, _)| first);
            let left_out = self.between(room, self.floor(room), first - 1);
            assert!(older || left_out.is_empty(), "{joined} says nothing of {left_out:?}");
            assert!(slice.is_some() || left_out.is_empty(), "{joined} says nothing of {left_out:?}");
        }
        position
    }

    /// Judges a page of the entries before `before`, or without it before the present, of which entries up to `present`
    /// were there when it was asked for.
    pub(super) fn page_before(&self, room: usize, page: &Value, before: Option<u64>, limit: u64, present: u64) {
        let slice = self.slice(room, &page["entries"]);
        assert!(page["entries"].as_array().map_or(0, Vec::len) as u64 <= limit, "{page}");
        let upto = before.map_or(present, |before| before - 1);
        let last = slice.map_or_else(|| self.floor(room), |(_, last)| last);
        assert!(!self.keeps || self.between(room, last, upto).is_empty(), "{page} lacks something before {before:?}");
        assert!(before.is_none_or(|before| last < before) || slice.is_none(), "{page} before {before:?}");
        let first = slice.map_or(upto + 1, |(first, _)| first);
        let is_complete = !self.keeps || self.between(room, self.floor(room), first - 1).is_empty();
        assert!(page["more"] == true || is_complete, "{page} has more before it");
    }

    /// Judges a page of the entries behind `after`, of which entries up to `present` were there when it was asked for.
    pub(super) fn page_after(&self, room: usize, page: &Value, after: u64, limit: u64, (present, unread): (u64, u64)) {
        let slice = self.slice(room, &page["entries"]);
        assert!(page["entries"].as_array().map_or(0, Vec::len) as u64 <= limit, "{page}");
        let (first, last) = slice.unwrap_or((present + 1, after));
        let left_out = self.between(room, after, first - 1);
        let is_told = page["gap"] == true && self.may_skip(room, after, unread);
        assert!(left_out.is_empty() || is_told, "{page} leaves out {left_out:?}");
        assert!(slice.is_none() || first > after, "{page} begins before {after}");
        let rest = self.between(room, last, present);
        let is_complete = rest.is_empty() || (slice.is_none() && self.may_skip(room, after, unread));
        assert!(page["more"] == true || is_complete, "{page} has more behind it: {rest:?}");
    }
}

impl View {
    /// What comes is the next entry of the room.
    pub(super) fn hear(&mut self, truth: &Truth, told: &Value) {
        let position = truth.entry(self.room, told).position.0;
        let next = truth.between(self.room, self.upto, u64::MAX).first().map(|entry| entry.position.0);
        assert_eq!(Some(position), next, "{told} is told after {}", self.upto);
        self.upto = position;
    }

    /// Something is missing up to `position`.
    pub(super) fn skip(&mut self, truth: &Truth, position: u64) {
        assert!(position > self.upto, "a gap up to {position} after {}", self.upto);
        assert!(position <= truth.last, "a gap up to {position} of {}", truth.last);
        assert!(truth.may_skip(self.room, self.upto, self.unread), "no reason for a gap after {}", self.upto);
        self.upto = position;
    }
}

/// What a raw member hears of an entry: opcode and content.
pub(super) fn raw_form(entry: &Entry) -> (u8, Vec<u8>) {
    match (&entry.author, &entry.content) {
        (_, Content::Binary(bytes)) => (0x82, bytes.to_vec()),
        (None, Content::Text(text)) => (0x81, text.to_vec()),
        (Some(author), Content::Text(text)) => (0x81, [author.name.as_bytes(), b": ", text].concat()),
    }
}
