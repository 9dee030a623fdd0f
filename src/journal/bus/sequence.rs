//! From offsets to positions: what each record of the log is, in which life of the log, and what was lost.
//!
//! A record carries the life ([`Stamp`]) in which its publisher believed. The life in force is the highest that the log
//! itself has shown so far, so that everybody who reads it draws the line at the same record; the meta log only says
//! which life to publish in, and which one to expect. Under it a record has the position `base` + offset.
//!
//! An instance that finds on the bus something else at the place where it stands, or the end of the log before it,
//! knows that the broker has lost something, and declares a life whose base is the last position that it knows. So
//! positions go on increasing, for everybody. Of two such lives the higher one wins, and whoever knows still higher
//! positions declares another.
//!
//! Nobody may be left who knows what was lost: instances without a store that were restarted together with a broker that
//! came back with less than it had, or with a store that had been away before. So whoever knows nothing or only an older
//! part of it, and finds the broker in another run than the last for which somebody has vouched, declares a life as well.
//! Vouching is for whoever finds in the log what it knows, and has followed the log while the run before went on, or
//! stands at its very end.
//!
//! This is no proof. Whoever has followed may have been behind others by what was on its way when the broker stopped, and
//! a store may end just where an old snapshot does. If those who know more are still there, or come back with a store,
//! they find something else in the place where they stand, and declare a life then. If none of them ever does, positions
//! that were heard are given again in the life in which they were.
//!
//! A record is a repeat if the window knows its draft, or its author and nonce. The window is counted in positions and
//! begins with a life, so all instances decide alike, also one that starts later: it reads that part of the log first.

mod window;

#[cfg(test)]
mod tests;

use crate::chat::entry::{Entry, Position};
use crate::journal::contract::Lost;
use crate::journal::ordered::{DraftId, Mark, Stamp};

use super::driver::{Bounds, Run};
use super::wire::{Message, Meta};
use window::{WINDOW, Window};

/// Records from which an instance without a store fills the tails of its rooms.
const FILL: u64 = 250_000;

/// What is to be done when a session has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Declare a life of this base, then look again.
    Declare { base: Position },
    /// Follow the log from here.
    Follow(Route),
}

/// From where the log is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// Read from behind this offset.
    pub(super) after: u64,
    /// Up to and with this offset records are only remembered, so that their repeats are recognised.
    known: u64,
    /// The life that is in force there; `None` if the first record tells.
    in_force: Option<Stamp>,
    /// Behind what is known comes the life of our mark, or a higher one.
    goes_on: bool,
    /// What came between is no longer there.
    has_skipped: bool,
    /// What the log had when this was decided ends with this offset.
    end: u64,
}

/// What is on the bus at the place where we stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It was not looked for: it is trimmed, or beyond the end.
    Unknown,
    /// This, if it could be read.
    Record(Option<DraftId>),
    /// Nothing, although it should be there.
    Nothing,
}

/// What an instance without a store does that one with a store need not do, and the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// Everything is in a store.
    Store,
    /// Only the newest is in memory.
    Memory,
}

/// Whether the log may be taken as it is by whoever knows nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The broker keeps what it has, or somebody who knew where it stood has found it there.
    Sure,
    /// The broker has been restarted, and nobody who was there before has said that nothing is missing.
    Doubtful,
}

impl Trust {
    /// What a log may be given in this `run` of the broker, where `known` is the last run of which it is known what it had:
    /// doubt if it is another. A broker that does not tell of its runs is believed, and so is a log of older programs, in
    /// which there are none.
    pub(super) fn of(run: &Run, known: Option<&str>) -> Self {
        match (run, known) {
            (Run::Named(present), Some(known)) if present != known => Trust::Doubtful,
            (Run::Named(_) | Run::Unmarked, _) => Trust::Sure,
        }
    }
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) id: DraftId,
    /// Comes before it.
    pub(super) lost: Option<Lost>,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// It is new.
    Entry(Entry),
    /// It was said before. This is the original.
    Repeat(Entry),
    /// It has a position, and nobody is told of it.
    Nothing,
}

/// Where an instance stands, and what it needs to know to go on.
#[derive(Debug)]
pub(super) struct Sequence {
    keeping: Keeping,
    /// The life in force for the next record.
    in_force: Option<Stamp>,
    /// The life of the last record that was taken. For what was ordered without a bus, one just below any that could
    /// follow it; `None` if nothing is known at all.
    own: Option<Stamp>,
    /// The last record that was taken.
    mark: Option<Mark>,
    /// The last position known. What is not behind it is not taken.
    last: Position,
    /// The offset after that of the last record read, where offsets leave nothing out.
    expected: Option<u64>,
    /// Whoever has read this far has had everything that was there when the session began.
    end: u64,
    is_dense: bool,
    known: u64,
    goes_on: bool,
    has_skipped: bool,
    window: Window,
}

impl Sequence {
    /// Begins behind what a store has: its last position, and where the log stood behind that, if a bus ordered it.
    pub(super) fn new(keeping: Keeping, is_dense: bool, last: Position, mark: Option<Mark>) -> Self {
        let mark = mark.filter(|mark| mark.position() >= last);
        let own = match mark {
            Some(mark) => Some(mark.stamp),
            None if last == Position::START => None,
            None => Some(Stamp { epoch: crate::chat::entry::Epoch(0), base: last.before() }),
        };
        let last = mark.map_or(last, |mark| mark.position());
        Sequence {
            keeping,
            in_force: None,
            own,
            mark,
            last,
            expected: None,
            end: 0,
            is_dense,
            known: 0,
            goes_on: false,
            has_skipped: false,
            window: Window::default(),
        }
    }

    /// The last record that was taken.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// The life in force, as far as the log has shown it.
    pub(super) fn in_force(&self) -> Option<Stamp> {
        self.in_force
    }

    /// What to do with a log that has these `bounds`, where `found` is what is at the place of our mark.
    pub(super) fn judge(&self, meta: &Meta, bounds: Bounds, found: Found, trust: Trust) -> Verdict {
        let Some(mark) = self.mark else { return self.judge_stranger(meta, bounds, trust) };
        let best = meta.best();
        let is_other = match found {
            Found::Unknown => false,
            Found::Record(id) => id.zip(mark.id).is_some_and(|(there, ours)| there != ours),
            Found::Nothing => true,
        };
        if best.is_some_and(|best| best.base >= mark.stamp.base) && bounds.last >= mark.offset && !is_other {
            // A session may have ended before it had read up to here.
            let has_read = self.expected.is_some_and(|expected| expected > mark.offset);
            let knows = has_read && !self.window.is_empty();
            if let (Trust::Doubtful, Some(best)) = (trust, best)
                && !(knows && self.has_followed() || mark.offset == bounds.last)
            {
                return Verdict::Declare { base: self.last.max(beyond(best, bounds)) };
            }
            // What comes behind the mark is the same log. A process that has just begun learns first what was before.
            let after = if knows { mark.offset } else { mark.offset.saturating_sub(WINDOW) };
            return Verdict::Follow(Route {
                after: after.max(bounds.first - 1),
                known: mark.offset,
                in_force: knows.then_some(mark.stamp),
                goes_on: true,
                has_skipped: bounds.first > mark.offset + 1,
                end: bounds.last,
            });
        }
        if best.is_none_or(|best| best.base < self.last || best.base <= mark.stamp.base) {
            return Verdict::Declare { base: self.last };
        }
        self.follow_lives_above(mark.stamp.base, meta, bounds, trust)
    }

    /// We know nothing of this log, but perhaps positions that were given without it.
    fn judge_stranger(&self, meta: &Meta, bounds: Bounds, trust: Trust) -> Verdict {
        match (meta.best(), self.own) {
            (None, _) => Verdict::Declare { base: self.last },
            (Some(best), Some(own)) if best.base <= own.base => Verdict::Declare { base: self.last },
            (Some(_), Some(own)) => self.follow_lives_above(own.base, meta, bounds, trust),
            (Some(best), None) if trust == Trust::Doubtful => Verdict::Declare { base: beyond(best, bounds) },
            (Some(_), None) => {
                let first = bounds.first - 1;
                let known = match self.keeping {
                    Keeping::Store => first,
                    Keeping::Memory => first.max(bounds.last.saturating_sub(FILL)),
                };
                let after = first.max(known.saturating_sub(WINDOW));
                Verdict::Follow(Route {
                    after,
                    known,
                    in_force: None,
                    goes_on: false,
                    has_skipped: false,
                    end: bounds.last,
                })
            }
        }
    }

    /// Everything of the lives above a base, wherever it begins.
    fn follow_lives_above(&self, base: Position, meta: &Meta, bounds: Bounds, trust: Trust) -> Verdict {
        if let Some(best) = meta.best().filter(|_| trust == Trust::Doubtful) {
            return Verdict::Declare { base: self.last.max(beyond(best, bounds)) };
        }
        let lives = meta.lives.iter().filter(|life| life.stamp.base > base);
        let after = lives.map(|life| life.after).min().unwrap_or(0).min(bounds.last).max(bounds.first - 1);
        Verdict::Follow(Route {
            after,
            known: after,
            in_force: None,
            goes_on: false,
            has_skipped: true,
            end: bounds.last,
        })
    }

    /// Whether this process has read what the log had when its last session began.
    fn has_followed(&self) -> bool {
        self.expected.is_some_and(|expected| expected > self.end)
    }

    /// Takes a route.
    pub(super) fn follow(&mut self, route: Route) {
        if route.in_force.is_none() {
            self.window.clear();
        }
        self.in_force = route.in_force;
        self.known = route.known;
        self.goes_on = route.goes_on;
        self.expected = Some(route.after + 1);
        self.end = route.end;
        self.has_skipped |= route.has_skipped;
    }

    /// Takes the next record of the log; `message` is `None` if it could not be read. Gives `None` if it is not new.
    pub(super) fn take(&mut self, offset: u64, message: Option<Message>) -> Option<Taken> {
        let expected = self.expected.unwrap_or(offset);
        if offset < expected {
            return None;
        }
        // Holes in what is known already are of no interest.
        if self.is_dense && offset > expected.max(self.known + 1) {
            self.has_skipped = true;
        }
        self.expected = Some(offset + 1);
        let Some(Message { stamp, id, body }) = message else {
            self.pass(offset);
            return None;
        };
        if self.goes_on && offset > self.known {
            let (read, own) = (self.in_force, self.own);
            self.in_force =
                if read.is_some_and(|read| own.is_none_or(|own| read.base >= own.base)) { read } else { own };
        }
        let in_force = match self.in_force {
            Some(in_force) if in_force.base >= stamp.base => in_force,
            before => {
                if before.is_some() {
                    self.window.clear();
                }
                stamp
            }
        };
        self.in_force = Some(in_force);
        let mark = Mark { stamp: in_force, offset, id: Some(id) };
        let position = mark.position();
        if offset <= self.known {
            self.window.judge(position, id, body);
            return None;
        }
        let is_ours = self.own.is_none_or(|own| in_force.epoch == own.epoch || in_force.base > own.base);
        if !is_ours || position <= self.last {
            return None;
        }
        let is_lost = self.own != Some(in_force) || self.has_skipped;
        let lost = is_lost.then(|| Lost { epoch: in_force.epoch, upto: position.before() });
        self.has_skipped = false;
        (self.own, self.mark, self.last) = (Some(in_force), Some(mark), position);
        Some(Taken { id, lost, what: self.window.judge(position, id, body) })
    }

    /// A record that cannot be read keeps its position.
    fn pass(&mut self, offset: u64) {
        let Some(stamp) = self.in_force.filter(|in_force| Some(*in_force) == self.own) else { return };
        let mark = Mark { stamp, offset, id: None };
        if offset > self.known && mark.position() > self.last {
            (self.mark, self.last) = (Some(mark), mark.position());
        }
    }
}

/// A base above all positions that a log has given in the best of its lives, as far as it still knows.
fn beyond(best: Stamp, bounds: Bounds) -> Position {
    Position(best.base.0.saturating_add(bounds.last.max(1)))
}
