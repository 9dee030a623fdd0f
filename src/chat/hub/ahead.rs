//! Members that have heard more than this instance: they come from another one that is ahead of it on the bus.
//!
//! What they have heard comes here as well, usually within milliseconds, and after a while if the bus is away or much is
//! still to be read. So their joins wait for it, and so does whoever [asks](Hub::await_request) without being a member.
//! Whether it will come is not guessed from the time that has passed: the journal is asked to tell when it has emitted
//! [everything that was ordered by now](Hub::poll_level), and what has not come before that [never will](Hub::level). The
//! number of those who wait, and their time, have bounds; whoever is beyond them is told of a gap, as if nobody knew of the
//! position.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::ephemeral::framed;
use super::{Dialect, Epoch, Hub, MemberId, Position, Stage, Standing, Start};
use crate::chat::v1::Reply;

/// No position comes to this one.
const NOWHERE: Position = Position(u64::MAX);

/// Joins and requests that wait.
#[derive(Debug)]
pub(super) struct Ahead {
    waiting: HashMap<Waiter, Waiting>,
    /// Requests that need not wait any longer, in the order in which that was known, and from where each goes on.
    settled: VecDeque<(MemberId, Start)>,
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

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Waiter {
    /// A member, to join a room.
    Seat(MemberId, usize),
    /// Somebody who asks without being a member.
    Request(MemberId),
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
        Ahead {
            waiting: HashMap::new(),
            settled: VecDeque::new(),
            lowest: NOWHERE,
            lost: Default::default(),
            asked: 0,
            has_question: false,
        }
    }
}

impl Ahead {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that need not wait any longer and have not been gone on with.
    #[cfg(test)]
    pub(super) fn settled(&self) -> usize {
        self.settled.len()
    }

    /// A member has left a room.
    pub(super) fn forget(&mut self, member: MemberId, room: usize) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&Waiter::Seat(member, room));
        }
    }

    fn wait(&mut self, waiter: Waiter, waiting: Waiting, present: Epoch) {
        if waiting.epoch == present {
            self.lowest = self.lowest.min(waiting.awaited);
        }
        self.waiting.insert(waiter, waiting);
    }

    /// Takes out those of whom this holds, each with where it waits, in an order that is no chance.
    fn take(&mut self, present: Epoch, mut is_taken: impl FnMut(&Waiting) -> bool) -> Vec<(Waiter, Waiting)> {
        let mut taken: Vec<_> = self.waiting.extract_if(|_, waiting| is_taken(waiting)).collect();
        taken.sort_unstable_by_key(|(waiter, _)| *waiter);
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

    /// Joins and requests that wait until this instance has heard what whoever comes has heard.
    #[must_use]
    pub fn waiting_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Those of them since the start that were told of a gap, by reason.
    #[must_use]
    pub fn lost_ahead(&self) -> [(&'static str, u64); Vain::ALL.len()] {
        Vain::ALL.map(|reason| (reason.label(), self.ahead.lost[reason as usize]))
    }

    fn has_come_to(&self, epoch: Epoch, position: Position) -> bool {
        epoch == self.journaled.epoch && position <= self.journaled.position
    }

    /// From where a join goes on now, or `None` if it waits.
    pub(super) fn await_position(&mut self, id: MemberId, key: usize, start: Start) -> Option<Start> {
        let Start::Ahead { epoch, after } = start else { return Some(start) };
        let start = self.wait_for(Waiter::Seat(id, key), epoch, after)?;
        self.ahead.forget(id, key);
        self.stand(id, key, Standing::Joining(start));
        Some(start)
    }

    /// From where somebody goes on now who asks without being a member, and has heard everything up to `after` in a life of
    /// the journal that may be known elsewhere; or `None` if it waits, until [`poll_awaited`](Hub::poll_awaited) tells.
    pub fn await_request(&mut self, id: MemberId, epoch: Epoch, after: Position) -> Option<Start> {
        self.wait_for(Waiter::Request(id), epoch, after)
    }

    /// A request that has waited, and from where it goes on.
    #[must_use]
    pub fn poll_awaited(&mut self) -> Option<(MemberId, Start)> {
        self.ahead.settled.pop_front()
    }

    /// Whether there is such a request.
    #[must_use]
    pub fn has_awaited(&self) -> bool {
        !self.ahead.settled.is_empty()
    }

    /// Nobody waits for the answer to a request any more.
    pub fn forget_request(&mut self, id: MemberId) {
        self.ahead.waiting.remove(&Waiter::Request(id));
        self.ahead.settled.retain(|(settled, _)| *settled != id);
    }

    fn wait_for(&mut self, waiter: Waiter, epoch: Epoch, awaited: Position) -> Option<Start> {
        if self.has_come_to(epoch, awaited) {
            Some(Start::After(awaited))
        } else if self.ahead.waiting.contains_key(&waiter) {
            None
        } else if self.ahead.len() < self.bounds.max_ahead {
            self.ahead.wait(waiter, Waiting { epoch, awaited, doubt: None }, self.journaled.epoch);
            None
        } else {
            self.ahead.lost[Vain::Full as usize] += 1;
            Some(Start::Lost)
        }
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
        for (waiter, waiting) in &mut self.ahead.waiting {
            if waiting.doubt.is_none() {
                waiting.doubt = Some(Doubt { until: now + self.bounds.ahead_timeout, question });
                new.push(*waiter);
            }
        }
        if !new.is_empty() {
            (self.ahead.asked, self.ahead.has_question) = (question, true);
        }
        new.sort_unstable();
        for waiter in new {
            // A stream of events has no words for it, and a response is yet to begin.
            if let Waiter::Seat(id, key) = waiter
                && self.dialect(id) == Some(Dialect::V1)
            {
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
        if former != present {
            // What has come for them is of that life, and they have not gone on yet.
            self.ahead.settled.iter_mut().for_each(|(_, start)| *start = Start::Lost);
        }
        self.settle_ahead(|waiting| (waiting.epoch == former && former != present).then_some(Vain::Ended));
    }

    /// Goes on with those whose position has come, and with those who wait in vain.
    fn settle_ahead(&mut self, vain: impl Fn(&Waiting) -> Option<Vain>) {
        let Position(present) = self.journaled.position;
        let epoch = self.journaled.epoch;
        let has_come = |waiting: &Waiting| waiting.epoch == epoch && waiting.awaited.0 <= present;
        for (waiter, waiting) in self.ahead.take(epoch, |waiting| has_come(waiting) || vain(waiting).is_some()) {
            let start = if has_come(&waiting) {
                Start::After(waiting.awaited)
            } else {
                if let Some(reason) = vain(&waiting) {
                    self.ahead.lost[reason as usize] += 1;
                }
                Start::Lost
            };
            match waiter {
                Waiter::Seat(id, key) => {
                    self.stand(id, key, Standing::Joining(start));
                    self.drained(id);
                }
                Waiter::Request(id) => self.ahead.settled.push_back((id, start)),
            }
        }
    }
}
