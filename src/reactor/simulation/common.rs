//! What the bus has put in order, by a rule much simpler than the program's: what a record of the log is, and where.
//!
//! The life in force is the highest that the log has shown. Under it a record has the position base + offset. It is new
//! unless the same life has had its id, or its author and nonce, before. What an instance emits must be the record at that
//! position; and who has heard a room without being told of a gap must have heard all of it. That is judged when all is
//! over, since an instance may be far behind.
//!
//! Three things are excused. Where the log has lost records, and goes on in the same life because nobody has noticed yet,
//! two records share a position; whoever heard the first does not hear the second. And where the log was trimmed, a
//! process that begins later does not know what was said before: to it a repeat is new. An operator keeps more than the
//! window of repeats; the simulation does not. Nor can it know of a life whose first record was trimmed, if the next one
//! comes from somebody who had not heard of it: until another comes it is in the life before.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// Where records were that the log has lost.
    rewound: HashSet<(Epoch, u64)>,
    /// How often it was brought back to an earlier state.
    pub(super) rewinds: u32,
    /// Lives in which anything was published.
    published: HashSet<Epoch>,
    /// Up to where each life was trimmed.
    trimmed: HashMap<Epoch, u64>,
    window: Window,
    claims: Vec<Claim>,
}

/// A record in its place.
#[derive(Debug, Clone)]
struct Placed {
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
    ids: HashMap<(u64, u64), u64>,
    nonces: HashMap<(PersonId, Nonce), u64>,
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
    /// Where the same was before a record. If it was nowhere, it is remembered.
    fn original(&mut self, placed: &Placed) -> Option<u64> {
        if self.life != Some(placed.life) {
            *self = Window { life: Some(placed.life), ..Window::default() };
        }
        if let Some(original) = self.ids.get(&placed.id) {
            return Some(*original);
        }
        self.ids.insert(placed.id, placed.position);
        let key = placed.key.as_ref()?;
        if let Some(original) = self.nonces.get(key) {
            return Some(*original);
        }
        self.nonces.insert(key.clone(), placed.position);
        None
    }
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
            published: HashSet::new(),
            trimmed: HashMap::new(),
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
                    assert_eq!(offset, self.log.len() as u64 + 1, "the log has no holes");
                    self.place(Life { epoch, base }, offset, id, draft);
                }
                News::Rewound { last } => self.rewind(last),
                News::Trimmed { upto } => {
                    for placed in &self.log[..upto as usize] {
                        let trimmed = self.trimmed.entry(placed.life.epoch).or_default();
                        *trimmed = placed.position.max(*trimmed);
                    }
                }
            }
        }
    }

    fn place(&mut self, published_in: Life, offset: u64, id: (u64, u64), draft: Option<Draft>) {
        self.published.insert(published_in.epoch);
        let life = match self.log.last().map(|placed| placed.life) {
            Some(life) if life.base >= published_in.base => life,
            Some(_) if self.rewinds == 0 => panic!("another life begins, and nothing was lost: {published_in:?}"),
            _ => published_in,
        };
        let position = life.base + offset;
        let author = draft.as_ref().and_then(|draft| draft.author.as_ref());
        let key = author.map(|author| author.id).zip(draft.as_ref().and_then(|draft| draft.nonce.clone()));
        let placed = Placed { life, position, id, key };
        let original = self.window.original(&placed);
        self.log.push(placed);
        if let Some(draft) = draft {
            let said = Said { epoch: life.epoch, entry: draft.at(Position(position)), original };
            self.said.entry(position).or_default().push(said);
        }
    }

    fn rewind(&mut self, last: u64) {
        self.rewinds += 1;
        self.rewound.extend(self.log.drain(last as usize..).map(|placed| (placed.life.epoch, placed.position)));
        self.window = Window::default();
        for placed in &self.log {
            self.window.original(placed);
        }
    }

    /// The broker no longer has all that it was given.
    fn has_trimmed(&self) -> bool {
        !self.trimmed.is_empty()
    }

    /// Whether a number of what somebody says may be left out.
    pub(super) fn has_lost(&self) -> bool {
        self.rewinds > 0 || self.has_trimmed()
    }

    /// An instance emits this in a life.
    pub(super) fn check_entry(&self, epoch: Epoch, entry: &Entry) {
        if !self.has_been(epoch) {
            // It was let pass when it began.
            return;
        }
        let there = self.said.get(&entry.position.0).map_or(&[][..], Vec::as_slice);
        let told = Entry { origin: None, ..entry.clone() };
        let found = there.iter().find(|said| said.epoch == epoch && said.entry == told);
        let Some(found) = found else { panic!("{told:?} of {epoch} is not in the log, where is {there:?}") };
        let trimmed = self.trimmed.get(&epoch).copied().unwrap_or(0);
        let is_new = found.original.is_none_or(|original| original <= trimmed);
        let same = |said: &&Said| said.entry.content == entry.content || said.entry.nonce == entry.nonce;
        assert!(
            is_new,
            "{told:?} was said before: {:?}",
            self.said.values().flatten().filter(same).collect::<Vec<_>>()
        );
    }

    /// An instance tells that it will not hear what came up to here.
    pub(super) fn check_lost(&self, former: Epoch, epoch: Epoch, upto: u64) {
        let is_behind = self.has_trimmed() && self.published.contains(&epoch);
        assert!(
            self.has_been(epoch) || is_behind,
            "the log has had no life {epoch}, up to {upto}, but {:?}",
            self.lives()
        );
        // Whoever knew more goes on behind that with those who have not noticed yet.
        let is_trimmed = self.trimmed.get(&epoch).is_some_and(|trimmed| *trimmed >= upto) || self.rewinds > 0;
        assert!(former != epoch || is_trimmed, "nothing of {epoch} was lost up to {upto}: {:?}", self.trimmed);
    }

    /// Whether the log has been in a life.
    fn has_been(&self, epoch: Epoch) -> bool {
        let is_it = |placed: &Placed| placed.life.epoch == epoch;
        self.log.iter().any(is_it) || self.rewound.iter().any(|(known, _)| *known == epoch)
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
        let is_owed = |said: &&Said| {
            said.epoch == life.epoch
                && said.original.is_none()
                && said.entry.room.as_str() == room
                && !self.is_excused(said)
        };
        let said = self.said.range(trimmed + 1..).rev().flat_map(|(_, said)| said);
        said.filter(is_owed).map(|said| said.entry.position.0).next()
    }

    fn is_excused(&self, said: &Said) -> bool {
        let position = said.entry.position.0;
        self.rewound.contains(&(said.epoch, position))
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
                is_there && said.epoch == epoch && said.original.is_none() && !self.is_excused(said)
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
