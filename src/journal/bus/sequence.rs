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
//! Nobody may be left who knows what was lost, and whoever finds all that it knows may have been behind others by what was
//! on its way. So a broker that tells of its restarts, and may lose the end of the log by one, is not believed: whoever
//! comes first declares a life above all that the log has had, once for each run. Until then nobody publishes anything.
//! So no position is given to two records in one life. A broker that does not tell (`Run::Unmarked`) is believed to keep
//! what it has taken; if it does not, positions that were heard may be given again, in the life in which they were, until
//! somebody comes who knows what was there.
//!
//! A record is a repeat if the window knows its draft, or its author and nonce. The window is counted in positions and
//! begins with a life, so all instances decide alike. Three things see to it that those do who begin to read somewhere
//! else than the others:
//!
//! - They read what the window has first, and tell nothing of that. Where the log was trimmed they cannot know what came
//!   before, and pass over as much as the window has. (A store whose place is still there, and is not far behind what was
//!   trimmed, goes on from its place all the same: what would be lost is more than a repeat.)
//! - A publisher may not know of a life yet, so the first records that somebody reads may show a former one. The meta log
//!   has for each life an offset behind which it has begun. What comes before a record of the highest life that may have
//!   begun is in a life that is not certain, and passed over.
//! - Records at positions that an instance has passed are told by nobody there, but remembered. If one is the instance's
//!   own, its sender is told where it is.

mod window;

#[cfg(test)]
mod tests;

use crate::chat::entry::{Entry, Epoch, Position};
use crate::journal::contract::Lost;
use crate::journal::ordered::{DraftId, Mark, Stamp};
use crate::limits::LEAST_BUS_KEEP;

use super::driver::{Bounds, Run};
use super::wire::{Message, Meta};
use window::Window;

/// How far an instance looks back. All instances must decide alike for as long as the log lasts, those of other versions
/// included, so it is no option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// Positions behind an entry in which a repeat of it is recognised.
    pub(super) window: u64,
    /// Records before those of the window that are read first, since the life of the first may not be certain.
    pub(super) slack: u64,
    /// Records at the beginning of a log that was trimmed which are left alone: they may be trimmed before they are read.
    pub(super) edge: u64,
    /// Records from which an instance without a store fills the tails of its rooms.
    pub(super) fill: u64,
}

/// The window is half a minute at 1,600 messages per second, which is long for somebody who says again what was lost with a
/// connection, and about 10 MB.
pub(super) const REACH: Reach = Reach { window: 50_000, slack: 10_000, edge: 1_000, fill: 250_000 };
const _: () = assert!(REACH.window + REACH.slack + REACH.edge < LEAST_BUS_KEEP as u64, "whoever starts can read it");

/// What is to be done when a session has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Declare a life of this base, then look again.
    Declare { base: Position },
    /// Follow the log from here.
    Follow(Route),
}

/// From where the log is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Route {
    /// Read from behind this offset.
    pub(super) after: u64,
    /// Up to and with this offset records are only remembered, so that their repeats are recognised.
    known: u64,
    /// Behind this offset every record is needed.
    whole_after: u64,
    /// The life that is in force there; `None` if the log tells.
    in_force: Option<Stamp>,
    /// The life in force there is at least as high. As long as the log has shown no such life, it is not certain.
    least: Option<Stamp>,
    /// How our own life goes on.
    own: Own,
}

/// What becomes of the life in which we stand, behind what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Own {
    /// It is in force, or a higher one is.
    #[default]
    GoesOn,
    /// So it is, but what came between is no longer there.
    HasHole,
    /// Only records of higher lives are new.
    IsOver,
}

/// What is on the bus at the place where we stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It was not looked for: it is trimmed, or beyond the end.
    Unknown,
    /// This, and the life in which it was published, if it could be read.
    Record(Option<(Stamp, DraftId)>),
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

/// Whether the log may be taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The broker keeps what it has, or a life was declared since it was restarted.
    Sure,
    /// The broker has been restarted, and may have lost what somebody has heard.
    Doubtful,
}

impl Trust {
    /// What a log may be given in this `run` of the broker, where `known` is the last run in which a life was declared:
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
    /// It was published before, and is what is at this position, or a repeat of that.
    Twice(Position),
    /// It has a position, and nobody is told of it.
    Nothing,
}

/// Where an instance stands, and what it needs to know to go on.
#[derive(Debug)]
pub(super) struct Sequence {
    keeping: Keeping,
    is_dense: bool,
    reach: Reach,
    /// The life in force for the next record.
    in_force: Option<Stamp>,
    /// The life of the last record that was taken. For what was ordered without a bus, one just below any that could
    /// follow it; `None` if nothing is known at all.
    own: Option<Stamp>,
    /// The last record that was taken.
    mark: Option<Mark>,
    /// The last position known. What is not behind it is remembered, and told to whoever has said it.
    last: Position,
    /// The offset after that of the last record read, where offsets leave nothing out.
    expected: u64,
    route: Route,
    /// Something between the last record that was taken and the next is not had.
    has_skipped: bool,
    window: Window,
}

impl Sequence {
    /// Begins behind what a store has: its last position, and where the log stood behind that, if a bus ordered it.
    pub(super) fn new(keeping: Keeping, is_dense: bool, reach: Reach, last: Position, mark: Option<Mark>) -> Self {
        let mark = mark.filter(|mark| mark.position() >= last);
        let own = match mark {
            Some(mark) => Some(mark.stamp),
            None if last == Position::START => None,
            None => Some(Stamp { epoch: Epoch(0), base: last.before() }),
        };
        let last = mark.map_or(last, |mark| mark.position());
        Sequence {
            keeping,
            is_dense,
            reach,
            in_force: None,
            own,
            mark,
            last,
            expected: 0,
            route: Route::default(),
            has_skipped: false,
            window: Window::new(reach.window),
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
        let Some(best) = meta.best() else { return Verdict::Declare { base: self.last } };
        if trust == Trust::Doubtful {
            // Above all positions that the log has given in the best of its lives, as far as it still knows.
            let beyond = Position(best.base.0.saturating_add(bounds.last.max(1)));
            return Verdict::Declare { base: self.last.max(beyond) };
        }
        let Some(own) = self.own else { return Verdict::Follow(self.newest(meta, bounds)) };
        if let Some(mark) = self.mark
            && best.base >= own.base
            && bounds.last >= mark.offset
            && !is_other(found, mark)
        {
            return Verdict::Follow(self.behind(mark, meta, bounds));
        }
        if best.base < self.last || best.base <= own.base {
            return Verdict::Declare { base: self.last };
        }
        Verdict::Follow(self.lives_above(own, meta, bounds))
    }

    /// What follows our mark in the same log.
    fn behind(&self, mark: Mark, meta: &Meta, bounds: Bounds) -> Route {
        // What was in our place nobody knows if it is trimmed: perhaps a higher life, before which ours had lost its end.
        let may_be_over =
            || meta.lives.iter().any(|life| life.stamp.base > mark.stamp.base && life.after < mark.offset);
        if bounds.first > mark.offset + 1 || (bounds.first > mark.offset && may_be_over()) {
            let route = self.what_is_left(meta, bounds, Own::HasHole);
            return Route { least: higher(route.least, Some(mark.stamp)), ..route };
        }
        // A process that has just begun learns first what was before, and so does one that has read on, and found nothing
        // that was new.
        let knows = self.expected == mark.offset + 1 && self.in_force == Some(mark.stamp);
        let after = if knows { mark.offset } else { mark.offset.saturating_sub(self.reach.window + self.reach.slack) };
        let after = after.max(bounds.first - 1);
        Route {
            after,
            known: mark.offset,
            whole_after: mark.offset,
            in_force: knows.then_some(mark.stamp),
            // There was no higher life at the mark.
            least: begun(meta, after, mark.stamp.base),
            own: Own::GoesOn,
        }
    }

    /// The newest of a log of which nothing is known.
    fn newest(&self, meta: &Meta, bounds: Bounds) -> Route {
        let Reach { window, slack, edge, fill } = self.reach;
        let known = match self.keeping {
            Keeping::Store => 0,
            Keeping::Memory => bounds.last.saturating_sub(fill),
        };
        if bounds.first > 1 && known < bounds.first - 1 + edge + slack + window {
            return self.what_is_left(meta, bounds, Own::GoesOn);
        }
        let after = known.saturating_sub(window + slack).max(bounds.first - 1);
        Route { after, known, whole_after: after, in_force: None, least: begun(meta, after, ANY), own: Own::GoesOn }
    }

    /// Everything of the lives above our own, which is over, wherever it begins.
    fn lives_above(&self, own: Stamp, meta: &Meta, bounds: Bounds) -> Route {
        let lives = meta.lives.iter().filter(|life| life.stamp.base > own.base);
        let after = lives.map(|life| life.after).min().unwrap_or(0).min(bounds.last);
        if bounds.first > after + 1 {
            return self.what_is_left(meta, bounds, Own::IsOver);
        }
        Route { after, known: after, whole_after: after, in_force: None, least: None, own: Own::IsOver }
    }

    /// What there is of a log of which we do not know how it began.
    fn what_is_left(&self, meta: &Meta, bounds: Bounds, own: Own) -> Route {
        let Reach { window, slack, edge, .. } = self.reach;
        let before = bounds.first - 1;
        let spare = (bounds.last - before).saturating_sub(window + slack);
        let after = before + edge.min(spare);
        let known = (after + slack + window).min(bounds.last);
        Route { after, known, whole_after: after, in_force: None, least: begun(meta, after, ANY), own }
    }

    /// Takes a route.
    pub(super) fn follow(&mut self, route: Route) {
        if route.in_force.is_none() {
            self.window.clear();
        }
        self.in_force = route.in_force;
        self.expected = route.after + 1;
        self.has_skipped = route.own != Own::GoesOn;
        self.route = route;
    }

    /// Whether something that is needed is left out before this record, which comes next: it was trimmed before it was
    /// read, or somebody has deleted it. Where offsets have holes nobody can tell.
    pub(super) fn has_hole_before(&self, offset: u64) -> bool {
        self.is_dense && offset > self.needed()
    }

    /// The offset of the record that is needed next.
    fn needed(&self) -> u64 {
        self.expected.max(self.route.whole_after + 1)
    }

    /// Has what is left out before this record be a loss, if the log began before it when that was already so: then it was
    /// deleted, and there will be nothing else in its place. Whether it is. What has begun a life nobody deletes.
    pub(super) fn cross(&mut self, offset: u64, bounds: Bounds) -> bool {
        if bounds.first > self.needed() {
            return false;
        }
        self.has_skipped |= offset > self.route.known + 1;
        self.expected = offset;
        true
    }

    /// Takes the next record of the log; `message` is `None` if it could not be read. Gives `None` if nobody is told.
    pub(super) fn take(&mut self, offset: u64, message: Option<Message>) -> Option<Taken> {
        if offset < self.expected {
            return None;
        }
        self.expected = offset + 1;
        let Some(Message { stamp, id, body }) = message else {
            self.pass(offset);
            return None;
        };
        let in_force = self.come_to(offset, stamp);
        if self.route.least.is_some_and(|least| in_force.base < least.base) {
            return None;
        }
        let mark = Mark { stamp: in_force, offset, id: Some(id) };
        let position = mark.position();
        let what = self.window.judge(position, id, body);
        if offset <= self.route.known || !self.is_ours(in_force) {
            return None;
        }
        if position <= self.last {
            // The others may hear it, and whoever has said it here is told so.
            let what = if let What::Entry(entry) = what { What::Repeat(entry) } else { what };
            return Some(Taken { id, lost: None, what });
        }
        let is_lost = self.own != Some(in_force) || self.has_skipped;
        let lost = is_lost.then(|| Lost { epoch: in_force.epoch, upto: position.before() });
        self.has_skipped = false;
        (self.own, self.mark, self.last, self.route.own) = (Some(in_force), Some(mark), position, Own::GoesOn);
        Some(Taken { id, lost, what })
    }

    /// The life in force for a record that was published in a life. The window begins with it.
    fn come_to(&mut self, offset: u64, stamp: Stamp) -> Stamp {
        let before = self.in_force;
        // Behind our mark there is no life before that of the mark.
        let own = self.own.filter(|_| self.route.own == Own::GoesOn && offset > self.route.known);
        let in_force = higher(higher(before, own), Some(stamp)).unwrap_or(stamp);
        if before.is_some_and(|before| before != in_force) {
            self.window.clear();
        }
        self.in_force = Some(in_force);
        in_force
    }

    /// Whether records of a life may be new.
    fn is_ours(&self, in_force: Stamp) -> bool {
        let goes_on = self.route.own != Own::IsOver;
        self.own.is_none_or(|own| in_force.base > own.base || (goes_on && in_force.epoch == own.epoch))
    }

    /// A record that cannot be read keeps its position. A loss is told before something that can: until then it is not
    /// passed.
    fn pass(&mut self, offset: u64) {
        let Some(stamp) = self.in_force.filter(|in_force| Some(*in_force) == self.own && !self.has_skipped) else {
            return;
        };
        let mark = Mark { stamp, offset, id: None };
        if offset > self.route.known && mark.position() > self.last {
            (self.mark, self.last) = (Some(mark), mark.position());
        }
    }
}

/// Whether there is something else at the place of our mark. Whoever published our record knew of no life that was not in
/// force then.
fn is_other(found: Found, mark: Mark) -> bool {
    match found {
        Found::Unknown | Found::Record(None) => false,
        Found::Record(Some((stamp, id))) => {
            mark.id.is_some_and(|ours| ours != id)
                || stamp.base > mark.stamp.base
                || (stamp.base == mark.stamp.base && stamp.epoch != mark.stamp.epoch)
        }
        Found::Nothing => true,
    }
}

/// The higher of two lives, the first of equals.
fn higher(one: Option<Stamp>, other: Option<Stamp>) -> Option<Stamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.base > one.base { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// No base is above it.
const ANY: Position = Position(u64::MAX);

/// The highest life not above a base that may have begun before the record behind an offset.
fn begun(meta: &Meta, after: u64, most: Position) -> Option<Stamp> {
    let lives = meta.lives.iter().filter(|life| life.after < after).map(|life| life.stamp);
    lives.filter(|life| life.base <= most).max_by_key(|life| life.base)
}
