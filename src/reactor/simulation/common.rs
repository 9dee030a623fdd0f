//! What the bus has put in order, by a rule much simpler than the program's: what a record of the log is, and where.
//!
//! The life in force is the highest that the log has shown. Under it a record has the position base + offset. It is
//! new unless the same life has had its id, or its author and nonce, within the window before it. What an instance
//! emits must be the record at that position; and who has heard a room without being told of a gap must have heard
//! all of it. That is judged when all is over, since an instance may be far behind.
//!
//! One thing is excused. An instance with a store whose place is still in the log goes on from there, also if what was
//! trimmed reaches into the window before it: to that instance a repeat of what was trimmed is new. An operator lets the bus
//! keep more than what comes while an instance is away.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::rc::Rc;

use crate::chat::entry::{Draft, Entry, Epoch, Nonce, PersonId, Position};
use crate::journal::simulated::{Broker, News};

/// All that the log ever had.
pub(super) struct Common {
    broker: Rc<RefCell<Broker>>,
    /// The log as it is, with what was trimmed: the record of each offset.
    log: Vec<Placed>,
    said: BTreeMap<u64, Vec<Said>>,
    /// Lives of which the log has lost records.
    rewound: HashSet<Epoch>,
    /// How often it was brought back to an earlier state.
    pub(super) rewinds: u32,
    /// Up to where each life was trimmed.
    trimmed: HashMap<Epoch, u64>,
    /// What somebody has deleted of each life.
    deleted: HashMap<Epoch, BTreeSet<u64>>,
    window: Window,
    claims: Vec<Claim>,
}

/// A record in its place.
#[derive(Debug, Clone)]
struct Placed {
    offset: u64,
    life: Life,
    position: u64,
    id: (u64, u64),
    key: Option<(PersonId, Nonce)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    epoch: Epoch,
    base: u64,
}

#[derive(Debug)]
struct Said {
    epoch: Epoch,
    entry: Entry,
    /// Where it was said before, in the same life.
    original: Option<u64>,
}

/// What the life in force has had.
#[derive(Debug, Default)]
struct Window {
    life: Option<Life>,
    /// Where each was for the first time, and for the last.
    ids: HashMap<(u64, u64), (u64, u64)>,
    nonces: HashMap<(PersonId, Nonce), (u64, u64)>,
}

/// That somebody has heard everything of a room, or of all, in a life, behind `after`, up to and with `upto`.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) room: Option<String>,
    pub(super) epoch: String,
    pub(super) after: u64,
    pub(super) upto: u64,
    pub(super) heard: Vec<u64>,
}

impl Window {
    /// Where the same was before a record, so many positions back at the most. It is remembered.
    fn original(&mut self, placed: &Placed, reach: u64) -> Option<u64> {
        if self.life != Some(placed.life) {
            *self = Window { life: Some(placed.life), ..Window::default() };
        }
        let here = placed.position;
        let of_id = recall(self.ids.entry(placed.id).or_insert((here, here)), here, reach);
        let of_nonce = placed.key.as_ref().and_then(|key| {
            let places = self.nonces.entry(key.clone()).or_insert((here, here));
            recall(places, here, reach)
        });
        of_id.or(of_nonce)
    }
}

/// Where something was for the first time that is here now, if it was before, and the last time within reach.
fn recall((first, last): &mut (u64, u64), here: u64, reach: u64) -> Option<u64> {
    if *last + reach < here {
        *first = here;
    }
    *last = here;
    (*first < here).then_some(*first)
}

impl fmt::Debug for Common {
    /// Leaves out the log, which is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").finish_non_exhaustive()
    }
}

impl Common {
    pub(super) fn new(broker: Rc<RefCell<Broker>>) -> Rc<RefCell<Common>> {
        Rc::new(RefCell::new(Common {
            broker,
            log: Vec::new(),
            said: BTreeMap::new(),
            rewound: HashSet::new(),
            rewinds: 0,
            trimmed: HashMap::new(),
            deleted: HashMap::new(),
            window: Window::default(),
            claims: Vec::new(),
        }))
    }

    /// Learns what has become of the log.
    pub(super) fn learn(&mut self) {
        let news = self.broker.borrow_mut().take_news();
        for news in news {
            match news {
                News::Record { offset, epoch, base, id, draft } => {
                    self.place(Life { epoch, base }, offset, id, draft);
                }
                News::Rewound { last } => self.rewind(last),
                News::Trimmed { upto } => {
                    for placed in self.log.iter().take_while(|placed| placed.offset <= upto) {
                        let trimmed = self.trimmed.entry(placed.life.epoch).or_default();
                        *trimmed = placed.position.max(*trimmed);
                    }
                }
                News::Deleted { offset } => {
                    for placed in self.log.iter().filter(|placed| placed.offset == offset) {
                        self.deleted.entry(placed.life.epoch).or_default().insert(placed.position);
                    }
                }
            }
        }
    }

    fn place(&mut self, published_in: Life, offset: u64, id: (u64, u64), draft: Option<Draft>) {
        let life = match self.log.last().map(|placed| placed.life) {
            Some(life) if life.base >= published_in.base => life,
            Some(_) if self.rewinds == 0 && self.deleted.is_empty() => {
                panic!("another life begins, and nothing was lost: {published_in:?}")
            }
            _ => published_in,
        };
        let position = life.base + offset;
        let author = draft.as_ref().and_then(|draft| draft.author.as_ref());
        let key = author.map(|author| author.id).zip(draft.as_ref().and_then(|draft| draft.nonce.clone()));
        let placed = Placed { offset, life, position, id, key };
        let original = self.window.original(&placed, self.broker.borrow().window());
        self.log.push(placed);
        if let Some(draft) = draft {
            let said = Said { epoch: life.epoch, entry: draft.at(Position(position)), original };
            self.said.entry(position).or_default().push(said);
        }
    }

    fn rewind(&mut self, last: u64) {
        self.rewinds += 1;
        let there = self.log.partition_point(|placed| placed.offset <= last);
        self.rewound.extend(self.log.drain(there..).map(|placed| placed.life.epoch));
        self.window = Window::default();
        for placed in &self.log {
            self.window.original(placed, self.broker.borrow().window());
        }
    }

    /// The broker no longer has all that it was given.
    fn has_trimmed(&self) -> bool {
        !self.trimmed.is_empty()
    }

    /// Whether a number of what somebody says may be left out.
    pub(super) fn has_lost(&self) -> bool {
        self.rewinds > 0 || self.has_trimmed() || !self.deleted.is_empty()
    }

    /// Whether something of a life was deleted from a position on, up to and with another.
    fn has_deleted(&self, epoch: Epoch, from: u64, upto: u64) -> bool {
        self.deleted.get(&epoch).is_some_and(|deleted| deleted.range(from..=upto).next().is_some())
    }

    /// An instance emits this in a life. If it `keeps` it may not know what was trimmed, and nobody who begins to read knows
    /// what was deleted.
    pub(super) fn check_entry(&self, epoch: Epoch, entry: &Entry, keeps: bool) {
        let there = self.said.get(&entry.position.0).map_or(&[][..], Vec::as_slice);
        let told = Entry { origin: None, ..entry.clone() };
        let found = there.iter().find(|said| said.epoch == epoch && said.entry == told);
        let Some(found) = found else { panic!("{told:?} of {epoch} is not in the log, where is {there:?}") };
        let trimmed = if keeps { self.trimmed.get(&epoch).copied().unwrap_or(0) } else { 0 };
        let is_gone = |original: u64| original <= trimmed || self.has_deleted(epoch, original, entry.position.0);
        let is_new = found.original.is_none_or(is_gone);
        let same = |said: &&Said| said.entry.content == entry.content || said.entry.nonce == entry.nonce;
        assert!(
            is_new,
            "{told:?} was said before: {:?}",
            self.said.values().flatten().filter(same).collect::<Vec<_>>()
        );
    }

    /// An instance that stood at `after` in a life tells that it will not hear what came up to `upto`.
    pub(super) fn check_lost(&self, (former, after): (Epoch, u64), epoch: Epoch, upto: u64) {
        assert!(self.has_been(epoch), "the log has had no life {epoch}, up to {upto}, but {:?}", self.lives());
        let trimmed = self.trimmed.get(&epoch).copied().unwrap_or(0);
        let is_trimmed = trimmed > after && upto <= trimmed + self.broker.borrow().passed_over();
        assert!(
            former != epoch || is_trimmed || self.has_deleted(epoch, after + 1, upto),
            "nothing of {epoch} was lost from {after} to {upto}, which is trimmed up to {trimmed}"
        );
    }

    /// Positions behind which what is said again is new.
    pub(super) fn window(&self) -> u64 {
        self.broker.borrow().window()
    }

    /// Whether nothing comes any more in an epoch.
    pub(super) fn is_over(&self, epoch: &str) -> bool {
        let epoch: Epoch = epoch.parse().expect("an epoch");
        self.log.last().is_none_or(|placed| placed.life.epoch != epoch)
    }

    /// Whether the log has been in a life.
    fn has_been(&self, epoch: Epoch) -> bool {
        let is_it = |placed: &Placed| placed.life.epoch == epoch;
        self.log.iter().any(is_it) || self.rewound.contains(&epoch)
    }

    /// The lives of the log as it is, and where each begins.
    fn lives(&self) -> Vec<&Placed> {
        let mut lives: Vec<&Placed> = self.log.iter().collect();
        lives.dedup_by_key(|placed| placed.life);
        lives
    }

    /// The entry at a position of which somebody is told that it was said before.
    pub(super) fn entries_at(&self, position: u64) -> impl Iterator<Item = &Entry> {
        self.said.get(&position).into_iter().flatten().map(|said| &said.entry)
    }

    /// The last entry of a room that every instance must have.
    pub(super) fn last_of(&self, room: &str) -> Option<u64> {
        let life = self.window.life?;
        let trimmed = self.trimmed.get(&life.epoch).copied().unwrap_or(0);
        let is_owed =
            |said: &&Said| said.epoch == life.epoch && said.original.is_none() && said.entry.room.as_str() == room;
        let said = self.said.range(trimmed + 1..).rev().flat_map(|(_, said)| said);
        said.filter(is_owed).map(|said| said.entry.position.0).next()
    }

    pub(super) fn claim(&mut self, claim: Claim) {
        if claim.upto > claim.after {
            self.claims.push(claim);
        }
    }

    /// Judges all that was claimed.
    pub(super) fn check_claims(&mut self) {
        for Claim { room, epoch, after, upto, heard } in &self.claims {
            let epoch: Epoch = epoch.parse().expect("an epoch");
            let is_owed = |said: &&Said| {
                let is_there = room.as_ref().is_none_or(|room| said.entry.room.as_str() == room);
                is_there && said.epoch == epoch && said.original.is_none()
            };
            for said in self.said.range(after + 1..=*upto).flat_map(|(_, said)| said).filter(is_owed) {
                let is_heard = heard.binary_search(&said.entry.position.0).is_ok();
                assert!(
                    is_heard,
                    "{:?} of {epoch} was not heard, nor told that it is missing, behind {after} up to {upto} by {}",
                    said.entry,
                    if room.is_some() { "a client" } else { "an instance" }
                );
            }
        }
        self.claims.clear();
    }
}
