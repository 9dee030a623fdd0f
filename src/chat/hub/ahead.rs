//! Members that have heard more than this instance: they come from another one that is ahead of it on the bus.
//!
//! What they have heard comes here as well, usually within milliseconds, and after a while if the bus is away or much is
//! still to be read. So their joins wait for it. Whether it will come is not guessed from the time that has passed: the
//! journal is asked to tell when it has emitted [everything that was ordered by now](Hub::poll_level), and what has not
//! come before that [never will](Hub::level). The number of those who wait, and their time, have bounds; whoever is beyond
//! them is told of a gap, as if nobody knew of the position.

use std::collections::HashMap;
use std::time::Instant;

use super::ephemeral::framed;
use super::{Dialect, Epoch, Hub, MemberId, Position, Stage, Standing, Start};
use crate::chat::v1::Reply;

/// No position comes to this one.
const NOWHERE: Position = Position(u64::MAX);

/// Joins that wait, by member and room.
#[derive(Debug)]
pub(super) struct Ahead {
    waiting: HashMap<(MemberId, usize), Waiting>,
    /// None of them waits for a position of this life before this one, so that a turn need not look at them all.
    lowest: Position,
    /// Those who were told of a gap, or of the newest page only, since the start, by reason.
    lost: [u64; Vain::ALL.len()],
    /// The last question that was given a number.
    asked: u64,
    /// It has not been put.
    has_question: bool,
}

/// Why somebody is told of a gap rather than waits for what they have heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vain {
    /// As many wait as may.
    Full,
    /// It has not come in time.
    Late,
    /// It is not in the journal.
    Absent,
    /// The life of the journal to which it belongs is over.
    Ended,
}

impl Vain {
    /// All of them, in the order of their numbers.
    const ALL: [Vain; 4] = [Vain::Full, Vain::Late, Vain::Absent, Vain::Ended];

    /// What it is called in metrics.
    fn label(self) -> &'static str {
        match self {
            Vain::Full => "full",
            Vain::Late => "late",
            Vain::Absent => "absent",
            Vain::Ended => "ended",
        }
    }
}

#[derive(Debug)]
struct Waiting {
    epoch: Epoch,
    awaited: Position,
    /// Set by the first tick after it came: until then it most often has gone on.
    doubt: Option<Doubt>,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// It waits no longer than this.
    until: Instant,
    /// The answer to this question tells whether it waits in vain.
    question: u64,
}

impl Default for Ahead {
    fn default() -> Self {
        Ahead { waiting: HashMap::new(), lowest: NOWHERE, lost: Default::default(), asked: 0, has_question: false }
    }
}

impl Ahead {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A member has left a room.
    pub(super) fn forget(&mut self, member: MemberId, room: usize) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&(member, room));
        }
    }

    fn wait(&mut self, place: (MemberId, usize), waiting: Waiting, present: Epoch) {
        if waiting.epoch == present {
            self.lowest = self.lowest.min(waiting.awaited);
        }
        self.waiting.insert(place, waiting);
    }

    /// Takes out those of whom this holds, each with where it waits, in an order that is no chance.
    fn take(
        &mut self,
        present: Epoch,
        mut is_taken: impl FnMut(&Waiting) -> bool,
    ) -> Vec<((MemberId, usize), Waiting)> {
        let mut taken: Vec<_> = self.waiting.extract_if(|_, waiting| is_taken(waiting)).collect();
        taken.sort_unstable_by_key(|(place, _)| *place);
        let ours = self.waiting.values().filter(|waiting| waiting.epoch == present);
        self.lowest = ours.map(|waiting| waiting.awaited).min().unwrap_or(NOWHERE);
        taken
    }
}

impl Hub {
    /// From where somebody goes on who has heard everything up to `after` in a life of the journal.
    ///
    /// A position that is not known here, or a life, may be known to the other instances.
    #[must_use]
    pub fn start_after(&self, epoch: Option<Epoch>, after: Position) -> Start {
        match epoch {
            Some(epoch) if self.has_come_to(epoch, after) => Start::After(after),
            Some(epoch) if self.former_epoch == Some(epoch) => Start::Lost,
            Some(epoch) if self.reports.is_some() => Start::Ahead { epoch, after },
            // It may come in this very turn. If not, it is beyond the end.
            Some(epoch) if epoch == self.journaled.epoch => Start::After(after),
            Some(_) | None => Start::Lost,
        }
    }

    /// Joins that wait until this instance has heard what whoever joins has heard.
    #[must_use]
    pub fn waiting_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Such joins since the start that were told of a gap, by reason.
    #[must_use]
    pub fn lost_ahead(&self) -> [(&'static str, u64); Vain::ALL.len()] {
        Vain::ALL.map(|reason| (reason.label(), self.ahead.lost[reason as usize]))
    }

    fn has_come_to(&self, epoch: Epoch, position: Position) -> bool {
        epoch == self.journaled.epoch && position <= self.journaled.position
    }

    /// From where a join goes on now, or `None` if it waits.
    pub(super) fn await_position(&mut self, id: MemberId, key: usize, start: Start) -> Option<Start> {
        let Start::Ahead { epoch, after: awaited } = start else { return Some(start) };
        let place = (id, key);
        let start = if self.has_come_to(epoch, awaited) {
            Start::After(awaited)
        } else if self.ahead.waiting.contains_key(&place) {
            return None;
        } else if self.ahead.len() < self.bounds.max_ahead {
            self.ahead.wait(place, Waiting { epoch, awaited, doubt: None }, self.journaled.epoch);
            return None;
        } else {
            self.ahead.lost[Vain::Full as usize] += 1;
            Start::Lost
        };
        self.ahead.forget(id, key);
        self.stand(id, key, Standing::Joining(start));
        Some(start)
    }

    /// Goes on with those whose position has come.
    pub(super) fn welcome_awaited(&mut self) {
        if self.ahead.lowest <= self.journaled.position {
            self.settle_ahead(|_| None);
        }
    }

    /// Tells those who have to wait for longer than a moment, asks for them, and gives up those whose time is over.
    pub(super) fn tick_ahead<S: Stage>(&mut self, stage: &mut S, now: Instant) {
        if self.ahead.is_empty() {
            return;
        }
        let question = self.ahead.asked + 1;
        let mut new = Vec::new();
        for (place, waiting) in &mut self.ahead.waiting {
            if waiting.doubt.is_none() {
                waiting.doubt = Some(Doubt { until: now + self.bounds.ahead_timeout, question });
                new.push(*place);
            }
        }
        if !new.is_empty() {
            (self.ahead.asked, self.ahead.has_question) = (question, true);
        }
        new.sort_unstable();
        for (id, key) in new {
            // A stream of events has no words for it.
            if self.dialect(id) == Some(Dialect::V1) {
                let (room, position) = (self.rooms[key].name.as_str(), self.journaled.position.0);
                stage.send(id, framed::<S>(&Reply::Behind { room, position }));
            }
        }
        self.settle_ahead(|waiting| waiting.doubt.filter(|doubt| doubt.until <= now).map(|_| Vain::Late));
    }

    /// A question for the journal, if somebody waits for the answer: it is to be brought to [`level`](Hub::level) when
    /// everything has been emitted that is ordered by now. There is one for each tick at the most.
    #[must_use]
    pub fn poll_level(&mut self) -> Option<u64> {
        std::mem::take(&mut self.ahead.has_question).then_some(self.ahead.asked)
    }

    /// Everything has been taken that was ordered when a question was asked: whoever has been waiting since before, and
    /// waits still, waits for something that is not in the journal.
    pub fn level(&mut self, answered: u64) {
        self.settle_ahead(|waiting| waiting.doubt.filter(|doubt| doubt.question <= answered).map(|_| Vain::Absent));
    }

    /// A life of the journal is over. Whoever waits for more of it waits in vain.
    pub(super) fn lose_ahead(&mut self, former: Epoch) {
        let present = self.journaled.epoch;
        self.settle_ahead(|waiting| (waiting.epoch == former && former != present).then_some(Vain::Ended));
    }

    /// Goes on with those whose position has come, and with those who wait in vain.
    fn settle_ahead(&mut self, vain: impl Fn(&Waiting) -> Option<Vain>) {
        let Position(present) = self.journaled.position;
        let epoch = self.journaled.epoch;
        let has_come = |waiting: &Waiting| waiting.epoch == epoch && waiting.awaited.0 <= present;
        for ((id, key), waiting) in self.ahead.take(epoch, |waiting| has_come(waiting) || vain(waiting).is_some()) {
            let start = if has_come(&waiting) {
                Start::After(waiting.awaited)
            } else {
                if let Some(reason) = vain(&waiting) {
                    self.ahead.lost[reason as usize] += 1;
                }
                Start::Lost
            };
            self.stand(id, key, Standing::Joining(start));
            self.drained(id);
        }
    }
}
