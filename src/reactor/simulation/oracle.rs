//! What is true at an instance: every entry that its journal has emitted, room by room, and the rules by which what a
//! client was told is judged.
//!
//! A client's view of a room is judged as it comes. What it is told next must be the next entry of the room, but for gaps
//! that are announced; and a gap must have a reason: entries were trimmed, could not be read, are more than are replayed,
//! belong to another epoch, or were lost by the bus. With a memory journal the reason is the bound of the tails. What the
//! bus has lost must be announced to whoever can be told. What was emitted is judged by `common`, and so are views, when
//! all is over.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::chat::entry::{Content, Entry, Epoch, Nonce, PersonId, Position, RoomName};
use crate::journal::simulated::{Emitted, Store};
use crate::limits::Limits;

use super::common::{Claim, Common};

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
    /// What all instances on a bus have in common.
    pub(super) common: Option<Rc<RefCell<Common>>>,
    pub(super) epoch: String,
    /// The epochs that the process has had, and from which position on.
    lives: Vec<(String, u64)>,
    /// Up to where something was lost, each time.
    losses: Vec<u64>,
    /// What signs the tokens of people, and what did before.
    pub(super) keys: [[u8; 32]; 2],
    rooms: [Vec<Entry>; ROOMS],
    /// The last entry that was emitted.
    pub(super) last: u64,
    said: HashMap<(PersonId, Nonce), Position>,
    /// The number of what each raw member has said last.
    numbers: BTreeMap<String, u64>,
    /// What it has emitted since something was lost.
    claim: Option<Claim>,
}

/// What was true at an instance when somebody asked it for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    at: Instant,
    /// Entries up to here were there.
    pub(super) present: u64,
    /// Reads that had failed.
    pub(super) unread: u64,
}

/// How far somebody has heard a room.
#[derive(Debug)]
pub(super) struct View {
    pub(super) room: usize,
    pub(super) upto: u64,
    /// The epoch in which it was told so.
    pub(super) epoch: String,
    /// Reads that had failed when it asked to listen.
    pub(super) unread: u64,
    common: Option<Rc<RefCell<Common>>>,
    /// What it has heard since it was last told of a gap.
    claim: Claim,
}

impl Truth {
    pub(super) fn new(
        store: Rc<RefCell<Store>>,
        keeps: bool,
        limits: Limits,
        common: Option<Rc<RefCell<Common>>>,
    ) -> Truth {
        let epoch = store.borrow().epoch().to_string();
        let (rooms, said, numbers) = ([const { Vec::new() }; ROOMS], HashMap::new(), BTreeMap::new());
        let (lives, losses, keys) = (vec![(epoch.clone(), 0)], Vec::new(), [[0; 32]; 2]);
        Truth { store, keeps, limits, common, epoch, lives, losses, keys, rooms, last: 0, said, numbers, claim: None }
    }

    /// A process begins, with what was stored, if anything is. Whether it is another epoch.
    pub(super) fn reopen(&mut self) -> bool {
        let store = Rc::clone(&self.store);
        let store = store.borrow();
        assert!(store.emitted.is_empty(), "all that was emitted has been taken");
        let epoch = store.epoch().to_string();
        let is_new = epoch != self.epoch;
        if is_new {
            *self = Truth::new(Rc::clone(&self.store), self.keeps, self.limits.clone(), None);
        }
        for room in 0..ROOMS {
            let kept = self.check_kept(room, &store);
            // Stored, and never told.
            kept.into_iter().for_each(|entry| self.add(entry));
        }
        self.last = store.last().0;
        is_new
    }

    /// A process begins on a bus, in an epoch, with what was stored, if anything is.
    pub(super) fn reopen_on_bus(&mut self, epoch: Epoch, key: [u8; 32]) {
        let store = Rc::clone(&self.store);
        let store = store.borrow();
        assert!(store.emitted.is_empty(), "all that was emitted has been taken");
        self.end_claim();
        if self.keeps {
            (0..ROOMS).for_each(|room| drop(self.check_kept(room, &store)));
        }
        *self = Truth::new(Rc::clone(&self.store), self.keeps, self.limits.clone(), self.common.clone());
        (self.epoch, self.keys) = (epoch.to_string(), [key; 2]);
        self.lives = vec![(self.epoch.clone(), 0)];
        store.entries().iter().for_each(|entry| self.add(entry.clone()));
        self.last = store.last().0;
        if store.epoch_on_bus() == epoch && self.last > 0 {
            self.begin_claim(self.last);
        }
    }

    /// What was heard is in the store; gives what else is there of a room.
    fn check_kept(&self, room: usize, store: &Store) -> Vec<Entry> {
        let kept = store.entries().iter().filter(|entry| entry.room.as_str() == room_name(room));
        let kept: Vec<&Entry> = kept.collect();
        let floor = store.floor(&RoomName::new(&room_name(room), 64).expect("a name"));
        // What an instance on a bus has lost with its machine comes again.
        let is_owed = |position: Position| position > floor && (self.common.is_none() || position <= store.last());
        let told: Vec<&Entry> = self.rooms[room].iter().filter(|entry| is_owed(entry.position)).collect();
        let kept: Vec<&Entry> = match self.common {
            None => kept,
            Some(_) => kept.into_iter().filter(|entry| is_owed(entry.position)).collect(),
        };
        assert!(kept.len() >= told.len(), "what was heard is in the store: {told:?} of {kept:?}");
        for (kept, told) in kept.iter().zip(&told) {
            let nonce = told.nonce.clone().filter(|_| self.common.is_none() || kept.nonce.is_some());
            assert_eq!(Entry { origin: None, nonce, ..(*told).clone() }, **kept, "what was heard is in the store");
        }
        kept[told.len()..].iter().map(|entry| (*entry).clone()).collect()
    }

    /// Takes over what was emitted since the last time.
    pub(super) fn absorb(&mut self) {
        let emitted = std::mem::take(&mut self.store.borrow_mut().emitted);
        if let Some(common) = &self.common {
            common.borrow_mut().learn();
        }
        for emitted in emitted {
            match emitted {
                Emitted::Entry(entry) => self.absorb_entry(entry),
                Emitted::Lost(lost) => self.lose(lost.epoch, lost.upto.0),
                Emitted::Key(key) if key != self.keys[0] => self.keys = [key, self.keys[0]],
                Emitted::Key(_) => {}
            }
        }
    }

    fn absorb_entry(&mut self, entry: Entry) {
        let position = entry.position;
        assert!(position.0 > self.last, "{entry:?} comes behind {}", self.last);
        if self.keeps {
            let store = self.store.borrow();
            let is_kept = store.entries().iter().rev().any(|kept| kept.position == position);
            assert!(is_kept || position <= store.floor(&entry.room), "{entry:?} was stored before");
        }
        if let Some(common) = &self.common {
            common.borrow().check_entry(self.epoch.parse().expect("an epoch"), &entry, self.keeps);
        }
        if let Some(claim) = &mut self.claim {
            claim.heard.push(position.0);
            claim.upto = position.0;
        }
        self.last = position.0;
        self.add(entry);
    }

    /// What would have come up to here will not, and what comes is of this epoch.
    fn lose(&mut self, epoch: Epoch, upto: u64) {
        assert!(upto >= self.last, "what came up to {} is not lost up to {upto}", self.last);
        let former = self.epoch.parse().expect("an epoch");
        let common = self.common.as_ref().expect("only a bus loses anything").borrow();
        common.check_lost((former, self.last), epoch, upto);
        drop(common);
        self.end_claim();
        self.last = upto;
        self.losses.push(upto);
        self.numbers.clear();
        if former != epoch {
            self.epoch = epoch.to_string();
            self.lives.push((self.epoch.clone(), upto));
        }
        self.begin_claim(upto);
    }

    fn begin_claim(&mut self, after: u64) {
        self.claim = Some(Claim { room: None, epoch: self.epoch.clone(), after, upto: after, heard: Vec::new() });
    }

    /// What was emitted is to be judged.
    pub(super) fn end_claim(&mut self) {
        if let (Some(common), Some(claim)) = (&self.common, self.claim.take()) {
            common.borrow_mut().claim(claim);
        }
    }

    /// Whether the process has been in an epoch, and not left it before a position.
    pub(super) fn has_lived(&self, epoch: &str, position: u64) -> bool {
        let end = |place: usize| self.lives.get(place + 1).map_or(u64::MAX, |(_, from)| *from);
        self.lives.iter().enumerate().any(|(place, (life, _))| life == epoch && position <= end(place))
    }

    /// Whether something was lost that somebody who has heard up to `after` must be told before `position`.
    fn is_lost_between(&self, after: u64, position: u64) -> bool {
        self.losses.iter().any(|upto| (after + 1..position).contains(upto))
    }

    /// Whether the process was told that what was at a position does not come.
    pub(super) fn is_told_lost(&self, position: u64) -> bool {
        self.losses.iter().any(|upto| *upto >= position)
    }

    /// Whether the bus has had the same so long ago that it is new.
    fn is_forgotten(&self, entry: &Entry) -> bool {
        let Some(common) = &self.common else { return false };
        let window = common.borrow().window();
        let is_it = |former: &&Entry| former.content == entry.content && former.at == entry.at;
        let former = self.rooms.iter().flatten().rfind(is_it);
        former.is_some_and(|former| former.position.0 + window < entry.position.0)
    }

    fn add(&mut self, entry: Entry) {
        if self.common.is_some() && entry.author.is_some() {
            // What is said twice on a bus is seen where it is said.
        } else if let (Some(author), Some(nonce)) = (&entry.author, &entry.nonce) {
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
            let has_lost = self.common.as_ref().is_some_and(|common| common.borrow().has_lost());
            let begins_late = next.is_none() && (self.floor_of_all() > 0 || self.is_told_lost(1));
            let may_skip = self.store.borrow().refused > 0 || begins_late || has_lost;
            let next = next.unwrap_or(0);
            // After a loss all of it may come again, and so may what was published once more so much later that nobody
            // knows of it.
            let is_late = number < next && self.is_forgotten(&entry);
            assert!(
                number == next || (may_skip && number > next) || has_lost || is_late,
                "{speaker} says {number}, next is {next}"
            );
            self.numbers.insert(speaker.to_owned(), next.max(number + 1));
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
        let entries = self.between(room, position.saturating_sub(1), position);
        let Some(entry) = entries.first() else { panic!("{told} was never emitted in {}", room_name(room)) };
        self.check_told(told, entry);
        entry
    }

    /// The entry that somebody is told to have said before. It may be older than what is known at this instance.
    pub(super) fn check_original(&self, room: usize, told: &Value) {
        let position = told["position"].as_u64().expect("a position");
        if let (Some(common), []) = (&self.common, self.between(room, position.saturating_sub(1), position)) {
            let common = common.borrow();
            let mut entries = common.entries_at(position);
            let is_it = |entry: &Entry| Some(&*String::from_utf8_lossy(entry.content.bytes())) == told["text"].as_str();
            assert!(entries.any(is_it), "{told} was never said");
        } else {
            self.entry(room, told);
        }
    }

    /// What was posted is at the position that the answer tells.
    pub(super) fn check_post(&self, room: usize, position: u64, text: &str, key: &str) {
        let is_it = |entry: &Entry| {
            let nonce = entry.nonce.as_ref().map(|nonce| &*nonce.0);
            let is_named = nonce == Some(key) || (nonce.is_none() && self.common.is_some());
            is_named && entry.content.bytes() == text.as_bytes()
        };
        let here = self.between(room, position.saturating_sub(1), position).iter().any(is_it);
        let there = || self.common.as_ref().is_some_and(|common| common.borrow().entries_at(position).any(is_it));
        assert!(here || there(), "{text} was never emitted at {position}");
    }

    /// An entry is told as it is.
    fn check_told(&self, told: &Value, entry: &Entry) {
        let author = entry.author.as_ref();
        assert_eq!(told["from"]["id"].as_str(), author.map(|author| author.id.to_string()).as_deref(), "{told}");
        assert_eq!(told["from"]["name"].as_str(), author.map(|author| &*author.name), "{told}");
        // What was said again when it was no longer known to be a repeat has taken the nonce with it.
        let nonce = entry.nonce.as_ref().filter(|_| !(self.common.is_some() && told["nonce"].is_null()));
        assert_eq!(told["nonce"].as_str(), nonce.map(|nonce| &*nonce.0), "{told}");
        assert_eq!(told["at"].as_u64(), Some(entry.at.0), "{told}");
        let (text, data) = match &entry.content {
            Content::Text(text) => (Some(String::from_utf8_lossy(text).into_owned()), None),
            Content::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        assert_eq!((told["text"].as_str(), told["data"].as_str()), (text.as_deref(), data.as_deref()), "{told}");
    }

    /// Reads that have failed.
    pub(super) fn unread(&self) -> u64 {
        self.store.borrow().unread
    }

    /// Somebody asks for something.
    pub(super) fn asked(&self, at: Instant) -> Asked {
        Asked { at, present: self.last, unread: self.unread() }
    }

    /// Whether somebody who has asked with a position of an epoch may be told that there is a gap because this is not known
    /// here, now that it is the epoch `told`. Whoever comes from another instance may know more than this one, which then
    /// waits for that, and for as long as it can come.
    pub(super) fn is_unknown(&self, (after, epoch): (u64, &str), told: &str, asked: Asked, now: Instant) -> bool {
        let Some(common) = &self.common else { return epoch != told || after > asked.present };
        let is_over = || self.lives.iter().any(|(life, _)| life == epoch) || common.borrow().is_over(epoch);
        let has_waited = now.duration_since(asked.at) >= self.limits.ahead_timeout;
        if epoch == told { after > asked.present && has_waited } else { is_over() || has_waited }
    }

    /// Whether somebody who has heard a room up to `after` may be told that there is a gap.
    pub(super) fn may_skip(&self, room: usize, after: u64, unread: u64) -> bool {
        if self.losses.iter().any(|upto| *upto > after) {
            return true;
        }
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

    /// Judges `joined`, and returns how far the joiner knows the room. It has asked with `after` and an epoch.
    pub(super) fn joined(
        &self,
        room: usize,
        joined: &Value,
        after: Option<&(u64, String)>,
        asked: Asked,
        now: Instant,
    ) -> View {
        let Asked { present, unread, .. } = asked;
        let told_epoch = joined["epoch"].as_str().expect("an epoch");
        let position = joined["position"].as_u64().expect("a position");
        assert!(position <= self.last, "{joined} is ahead of {}", self.last);
        assert!(self.has_lived(told_epoch, position), "{joined} in {:?}", self.lives);
        let view = |after: u64| self.view(room, told_epoch, after, position, unread);
        let (gap, more, older) = (joined["gap"] == true, joined["more"] == true, joined["older"] == true);
        let slice = self.slice(room, &joined["entries"]);
        let told = joined["entries"].as_array().map_or(0, Vec::len) as u64;
        let last = slice.map_or(0, |(_, last)| last);
        assert!(self.between(room, last, position).is_empty() || slice.is_none(), "{joined} lacks the last");
        assert!(more || self.between(room, position, present).is_empty(), "{joined} is behind {present}");
        let missed = joined["missed"].as_u64();
        match after {
            Some((after, epoch)) if !gap => {
                assert_eq!(epoch, told_epoch, "{joined}");
                assert!(!self.is_lost_between(*after, position), "{joined} says nothing of {:?}", self.losses);
                let expected = self.between(room, *after, position);
                assert_eq!(expected.len() as u64, told, "{joined} after {after}: {expected:?}");
                let missed = missed.expect("a number");
                assert_eq!(more, missed > told, "{joined} after {after}");
                assert!(missed >= self.between(room, *after, present).len() as u64, "{joined} after {after}");
                assert!(missed <= self.between(room, *after, self.last).len() as u64, "{joined} after {after}");
                let mut view = view(*after);
                view.claim.heard = expected.iter().map(|entry| entry.position.0).collect();
                return view;
            }
            Some((after, epoch)) => {
                let is_justified = self.is_unknown((*after, epoch), told_epoch, asked, now)
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
        view(position)
    }

    /// The view of somebody who has heard a room behind `after` up to a position.
    pub(super) fn view(&self, room: usize, epoch: &str, after: u64, upto: u64, unread: u64) -> View {
        let (common, epoch) = (self.common.clone(), epoch.to_owned());
        let claim = Claim { room: Some(room_name(room)), epoch: epoch.clone(), after, upto, heard: Vec::new() };
        View { room, upto, epoch, unread, common, claim }
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
    pub(super) fn page_after(&self, room: usize, page: &Value, after: u64, limit: u64, asked: Asked) {
        let Asked { present, unread, .. } = asked;
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
        let position = page["position"].as_u64().expect("a position");
        let passed = self.between(room, last, position);
        let is_told = slice.is_none() && self.may_skip(room, after, unread);
        assert!(passed.is_empty() || is_told, "{page} passes over {passed:?}");
        assert!(page["more"] == true || position >= present, "{page} is behind {present}");
    }

    /// Judges a page of the entries behind a position that may be of another instance.
    pub(super) fn page_behind(
        &self,
        room: usize,
        page: &Value,
        (after, epoch): &(u64, String),
        limit: u64,
        asked: Asked,
        now: Instant,
    ) {
        let (gap, told) = (page["gap"] == true, page["epoch"].as_str().expect("an epoch"));
        if gap && self.is_unknown((*after, epoch), told, asked, now) {
            // Everything that is kept comes.
            return self.page_after(room, page, 0, limit, asked);
        }
        assert!(gap || epoch == told, "{page} after {after} of {epoch}");
        assert!(
            !gap || self.may_skip(room, *after, asked.unread),
            "{page} after {after}: there was no reason for a gap"
        );
        self.page_after(room, page, *after, limit, asked);
    }
}

impl View {
    /// What comes is the next entry of the room.
    pub(super) fn hear(&mut self, truth: &Truth, told: &Value) {
        let position = truth.entry(self.room, told).position.0;
        let next = truth.between(self.room, self.upto, u64::MAX).first().map(|entry| entry.position.0);
        assert_eq!(Some(position), next, "{told} is told after {}", self.upto);
        let is_lost = truth.is_lost_between(self.upto, position);
        assert!(!is_lost, "{told} is told after {}, and nothing of {:?}", self.upto, truth.losses);
        self.upto = position;
        self.claim.upto = position;
        self.claim.heard.push(position);
    }

    /// Something is missing up to `position`, which is of an epoch.
    pub(super) fn skip(&mut self, truth: &Truth, position: u64, epoch: &str) {
        let is_anew = epoch != self.epoch;
        assert!(position > self.upto || (is_anew && position == self.upto), "a gap up to {position} after {self:?}");
        assert!(position <= truth.last, "a gap up to {position} of {}", truth.last);
        let is_justified = is_anew || truth.may_skip(self.room, self.upto, self.unread);
        assert!(is_justified, "no reason for a gap after {}", self.upto);
        assert!(truth.has_lived(epoch, position), "a gap up to {position} of {epoch} in {:?}", truth.lives);
        let unread = self.unread;
        *self = truth.view(self.room, epoch, position, position, unread);
    }
}

impl Drop for View {
    /// What it has heard is judged in the end.
    fn drop(&mut self) {
        if let Some(common) = &self.common {
            common.borrow_mut().claim(self.claim.clone());
        }
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
