//! What is true at an instance: every entry that its journal has emitted, room by room, and what it has told to be lost.
//!
//! What a client was told is judged by it in `verdict`. On a bus, what was emitted is judged by `common`, and so are views,
//! when all is over.

mod verdict;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Instant;

use crate::chat::entry::{Content, Entry, Epoch, Nonce, PersonId, Position, RoomName};
use crate::journal::simulated::{Emitted, Store};
use crate::limits::Limits;

use super::common::{Claim, Common};
pub(super) use verdict::{View, raw_form};

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

    /// Reads that have failed.
    pub(super) fn unread(&self) -> u64 {
        self.store.borrow().unread
    }

    /// Somebody asks for something.
    pub(super) fn asked(&self, at: Instant) -> Asked {
        Asked { at, present: self.last, unread: self.unread() }
    }
}
