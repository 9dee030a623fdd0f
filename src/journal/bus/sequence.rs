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

use std::collections::{HashMap, HashSet, VecDeque};

use crate::chat::entry::{Entry, Nonce, PersonId, Position};
use crate::journal::contract::Lost;
use crate::journal::ordered::{DraftId, Mark, Stamp};
use crate::limits::LEAST_BUS_KEEP;

use super::driver::{Bounds, Run};
use super::wire::{Body, Message, Meta};

/// Positions behind an entry in which a repeat of it is recognised: half a minute at 1,600 messages per second, which is
/// long for somebody who says again what was lost with a connection, and about 10 MB. It is no option, since all instances
/// must decide alike for as long as the log lasts, those of other versions included.
pub(super) const WINDOW: u64 = 50_000;
const _: () = assert!(WINDOW < LEAST_BUS_KEEP as u64, "whoever starts reads the window from the log");
/// Records from which an instance without a store fills the tails of its rooms.
const FILL: u64 = 250_000;
/// Bytes of entries that are kept to answer repeats with. Without it a repeat is answered as it was said again.
const ORIGINAL_BYTES: usize = 8 << 20;

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

/// What was said lately.
#[derive(Debug, Default)]
struct Window {
    drafts: HashSet<DraftId>,
    said: HashMap<(PersonId, Nonce), Said>,
    /// What goes, the oldest first.
    order: VecDeque<Remembered>,
    /// Those of `said` whose entry is kept, the oldest first.
    originals: VecDeque<(PersonId, Nonce)>,
    original_bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    position: Position,
    id: DraftId,
    said: Option<(PersonId, Nonce)>,
}

#[derive(Debug)]
struct Said {
    position: Position,
    original: Option<Entry>,
}

impl Window {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn clear(&mut self) {
        *self = Window::default();
    }

    /// Whether a record at this position is new. If it is, it is remembered.
    fn judge(&mut self, position: Position, id: DraftId, body: Body) -> What {
        self.forget_before(position);
        if !self.drafts.insert(id) {
            return What::Nothing;
        }
        let (key, what) = match body {
            Body::Mark | Body::Unknown => (None, What::Nothing),
            Body::Said(draft) => {
                let key = draft.author.as_ref().map(|author| author.id).zip(draft.nonce.clone());
                if let Some(said) = key.as_ref().and_then(|key| self.said.get(key)) {
                    let original = said.original.clone().unwrap_or_else(|| draft.at(said.position));
                    // The draft is remembered as well: it may itself be published twice.
                    self.order.push_back(Remembered { position, id, said: None });
                    return What::Repeat(original);
                }
                (key, What::Entry(draft.at(position)))
            }
        };
        if let (Some(key), What::Entry(entry)) = (&key, &what) {
            self.original_bytes += entry.content.bytes().len();
            self.said.insert(key.clone(), Said { position, original: Some(entry.clone()) });
            self.originals.push_back(key.clone());
            while self.original_bytes > ORIGINAL_BYTES {
                let Some(oldest) = self.originals.pop_front() else { break };
                if let Some(said) = self.said.get_mut(&oldest) {
                    self.original_bytes -= said.original.take().map_or(0, |entry| entry.content.bytes().len());
                }
            }
        }
        self.order.push_back(Remembered { position, id, said: key });
        what
    }

    fn forget_before(&mut self, position: Position) {
        while self.order.front().is_some_and(|oldest| oldest.position.0 + WINDOW < position.0) {
            let Some(oldest) = self.order.pop_front() else { return };
            self.drafts.remove(&oldest.id);
            let Some(key) = oldest.said else { continue };
            if let Some(Said { original: Some(entry), .. }) = self.said.remove(&key) {
                self.original_bytes -= entry.content.bytes().len();
            }
            if self.originals.front() == Some(&key) {
                self.originals.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::entry::Epoch;
    use crate::journal::bus::wire::Declared;
    use crate::journal::tests::{raw, said};

    const FIRST: Stamp = Stamp { epoch: Epoch(1), base: Position(0) };
    const SECOND: Stamp = Stamp { epoch: Epoch(2), base: Position(100) };
    const THIRD: Stamp = Stamp { epoch: Epoch(3), base: Position(300) };

    fn id(number: u64) -> DraftId {
        DraftId { instance: 7, number }
    }

    fn life(stamp: Stamp, after: u64) -> Declared {
        Declared { stamp, after }
    }

    fn meta(lives: &[Declared]) -> Meta {
        Meta { lives: lives.to_vec(), ..Meta::default() }
    }

    fn bounds(first: u64, last: u64) -> Bounds {
        Bounds { first, last }
    }

    fn message(stamp: Stamp, number: u64, text: &str) -> Option<Message> {
        let draft = if text.is_empty() { Body::Mark } else { Body::Said(said("room", (1, "Ann"), text, text)) };
        Some(Message { stamp, id: id(number), body: draft })
    }

    fn at(stamp: Stamp, offset: u64, number: u64) -> Mark {
        Mark { stamp, offset, id: Some(id(number)) }
    }

    /// What is told of a record: `lost 4 in 2, 5 text`.
    fn told(taken: Option<Taken>) -> String {
        let Some(Taken { lost, what, .. }) = taken else { return "-".to_owned() };
        let lost = lost.map_or(String::new(), |lost| format!("lost {} in {}, ", lost.upto, lost.epoch.0));
        let text = |entry: &Entry| format!("{} {}", entry.position, crate::journal::tests::text(entry));
        match what {
            What::Entry(entry) => lost + &text(&entry),
            What::Repeat(entry) => format!("{lost}again {}", text(&entry)),
            What::Nothing => lost + "nothing",
        }
    }

    fn route(verdict: Verdict) -> Route {
        match verdict {
            Verdict::Follow(route) => route,
            Verdict::Declare { base } => panic!("a life at {base} is to be declared"),
        }
    }

    #[test]
    fn what_is_done_with_a_log() {
        let declare = |base| Verdict::Declare { base: Position(base) };
        let go = |after, known, goes_on, has_skipped| {
            Verdict::Follow(Route { after, known, in_force: None, goes_on, has_skipped, end: 0 })
        };
        let (anew, goes_on) = (
            |after, known, skipped| go(after, known, false, skipped),
            |after, known, skipped| go(after, known, true, skipped),
        );
        let (store, memory) = (Keeping::Store, Keeping::Memory);
        let (lives, both) = ([life(FIRST, 0)], [life(FIRST, 0), life(SECOND, 80)]);
        let all = [life(FIRST, 0), life(SECOND, 80), life(THIRD, 200)];
        let (ours, other) = (Found::Record(Some(id(50))), Found::Record(Some(id(9))));
        let unread = Found::Record(None);
        let (none, mark) = (None, Some(at(FIRST, 50, 50)));
        let far = Some(at(FIRST, 90_000, 50));
        let unknown = Found::Unknown;
        for (name, keeping, last, mark, lives, bounds, found, expected) in [
            ("nothing anywhere", store, 0, none, &[][..], bounds(1, 0), unknown, declare(0)),
            ("a new log", store, 0, none, &lives, bounds(1, 0), unknown, anew(0, 0, false)),
            ("a log to be kept", store, 0, none, &lives, bounds(4, 900_000), unknown, anew(3, 3, false)),
            ("a log to be had", memory, 0, none, &lives, bounds(4, 900), unknown, anew(3, 3, false)),
            ("its newest", memory, 0, none, &lives, bounds(4, 900_000), unknown, anew(600_000, 650_000, false)),
            ("kept without a bus", store, 30, none, &[], bounds(1, 0), unknown, declare(30)),
            ("too low for what was kept", store, 30, none, &lives, bounds(1, 9), unknown, declare(30)),
            ("high enough", store, 100, none, &both, bounds(1, 90), unknown, anew(80, 80, true)),
            ("where we stand", store, 50, mark, &lives, bounds(1, 60), ours, goes_on(0, 50, false)),
            ("at the end", store, 50, mark, &lives, bounds(1, 50), ours, goes_on(0, 50, false)),
            ("of a newer program", store, 50, mark, &lives, bounds(1, 50), unread, goes_on(0, 50, false)),
            ("far in", store, 90_000, far, &lives, bounds(1, 90_000), ours, goes_on(40_000, 90_000, false)),
            ("trimmed behind us", store, 50, mark, &lives, bounds(20, 60), ours, goes_on(19, 50, false)),
            ("trimmed up to us", store, 50, mark, &lives, bounds(51, 60), unknown, goes_on(50, 50, false)),
            ("trimmed beyond us", store, 50, mark, &lives, bounds(52, 60), unknown, goes_on(51, 50, true)),
            ("written without a bus since", store, 55, mark, &lives, bounds(1, 60), unknown, declare(55)),
            ("its end is lost", store, 50, mark, &lives, bounds(1, 49), unknown, declare(50)),
            ("all of it is lost", store, 50, mark, &[], bounds(1, 0), unknown, declare(50)),
            ("another chat", store, 50, mark, &lives, bounds(1, 60), other, declare(50)),
            ("a hole", store, 50, mark, &lives, bounds(1, 60), Found::Nothing, declare(50)),
            ("its lives are lost", store, 50, mark, &[], bounds(1, 60), ours, declare(50)),
            ("others have said so", store, 50, mark, &both, bounds(1, 49), unknown, anew(49, 49, true)),
            ("they had said so", store, 50, mark, &both, bounds(1, 95), other, anew(80, 80, true)),
            ("twice", store, 50, mark, &all, bounds(1, 295), other, anew(80, 80, true)),
            ("and it has begun", store, 50, mark, &both, bounds(1, 95), ours, goes_on(0, 50, false)),
            ("but not far enough", store, 130, Some(at(FIRST, 130, 50)), &both, bounds(1, 95), unknown, declare(130)),
        ] {
            let sequence = Sequence::new(keeping, true, Position(last), mark);
            let expected = match expected {
                Verdict::Follow(route) => Verdict::Follow(Route { end: bounds.last, ..route }),
                Verdict::Declare { .. } => expected,
            };
            assert_eq!(sequence.judge(&meta(lives), bounds, found, Trust::Sure), expected, "{name}");
        }
    }

    #[test]
    fn a_broker_that_was_restarted_is_doubted() {
        let named = |run: &str| Run::Named(run.to_owned());
        for (name, run, known, trust) in [
            ("the same run", named("a"), Some("a"), Trust::Sure),
            ("another", named("b"), Some("a"), Trust::Doubtful),
            ("the first that is told", named("a"), None, Trust::Sure),
            ("nothing is told any more", Run::Unmarked, Some("a"), Trust::Sure),
            ("nothing was ever told", Run::Unmarked, None, Trust::Sure),
        ] {
            assert_eq!(Trust::of(&run, known), trust, "{name}");
        }
    }

    #[test]
    fn what_is_done_with_a_log_of_which_nobody_knows_whether_it_is_whole() {
        let declare = |base| Some(Position(base));
        let (lives, both) = ([life(FIRST, 0)], [life(FIRST, 0), life(SECOND, 80)]);
        let mark = Some(at(FIRST, 50, 50));
        let (ours, other) = (Found::Record(Some(id(50))), Found::Record(Some(id(9))));
        let (memory, store) = (Keeping::Memory, Keeping::Store);
        for (name, keeping, last, mark, lives, bounds, found, declared) in [
            ("who stands at its end vouches", store, 50, mark, &lives[..], bounds(1, 50), ours, None),
            ("whatever else was trimmed", store, 50, mark, &lives, bounds(50, 50), ours, None),
            ("who was away does not", store, 50, mark, &lives, bounds(1, 60), ours, declare(60)),
            ("also where its place is trimmed", store, 50, mark, &lives, bounds(55, 60), Found::Unknown, declare(60)),
            ("in a life that is over", store, 50, mark, &both, bounds(1, 90), ours, declare(190)),
            ("who knows nothing begins anew", memory, 0, None, &lives, bounds(1, 60), Found::Unknown, declare(60)),
            ("and so does an empty store", store, 0, None, &lives, bounds(1, 60), Found::Unknown, declare(60)),
            ("above the best life", memory, 0, None, &both, bounds(1, 90), Found::Unknown, declare(190)),
            ("of an empty log", memory, 0, None, &both, bounds(1, 0), Found::Unknown, declare(101)),
            ("who has something else", store, 50, mark, &both, bounds(1, 95), other, declare(195)),
            ("who was alone before", store, 30, None, &both, bounds(1, 95), Found::Unknown, declare(195)),
            ("who knows of more", store, 250, Some(at(FIRST, 250, 9)), &both, bounds(1, 95), other, declare(250)),
        ] {
            let sequence = Sequence::new(keeping, true, Position(last), mark);
            let verdict = match sequence.judge(&meta(lives), bounds, found, Trust::Doubtful) {
                Verdict::Declare { base } => Some(base),
                Verdict::Follow(route) => {
                    assert!(route.goes_on, "{name}");
                    None
                }
            };
            assert_eq!(verdict, declared, "{name}");
        }
    }

    #[test]
    fn what_was_read_in_part_is_read_again() {
        let (lives, mark) = ([life(FIRST, 0)], Some(at(FIRST, 50, 50)));
        for (read_upto, after) in [(0, 0), (20, 0), (49, 0), (50, 50), (55, 55)] {
            let mut sequence = Sequence::new(Keeping::Store, true, Position(50), mark);
            let judge = |sequence: &Sequence| {
                let found = Found::Record(sequence.mark().and_then(|mark| mark.id));
                route(sequence.judge(&meta(&lives), bounds(1, 60), found, Trust::Sure))
            };
            sequence.follow(judge(&sequence));
            for offset in 1..=read_upto {
                sequence.take(offset, message(FIRST, offset, &offset.to_string()));
            }
            assert_eq!(judge(&sequence).after, after, "read up to {read_upto}");
        }
    }

    #[test]
    fn whoever_has_followed_a_log_vouches_for_it() {
        let lives = [life(FIRST, 0)];
        let mark = Some(at(FIRST, 50, 50));
        for (name, keeping, mark, end, read_upto, vouches) in [
            ("a store that was level", Keeping::Store, mark, 60, 60, true),
            ("and heard more", Keeping::Store, mark, 60, 65, true),
            ("one that was still behind", Keeping::Store, mark, 60, 55, false),
            ("or had not got to where it stood", Keeping::Store, mark, 60, 30, false),
            ("who began with nothing and was level", Keeping::Memory, None, 60, 60, true),
            ("and who was not", Keeping::Memory, None, 60, 59, false),
        ] {
            let mut sequence = Sequence::new(keeping, true, Position(mark.map_or(0, |mark| mark.offset)), mark);
            let found = |number| Found::Record(Some(id(number)));
            let first = sequence.judge(&meta(&lives), bounds(1, end), found(50), Trust::Sure);
            sequence.follow(route(first));
            for offset in 1..=read_upto {
                sequence.take(offset, message(FIRST, offset, &offset.to_string()));
            }
            let stands = sequence.mark().map_or(0, |mark| mark.offset);
            let verdict = sequence.judge(&meta(&lives), bounds(1, 70), found(stands), Trust::Doubtful);
            let expected = if vouches { None } else { Some(Position(70)) };
            let declared = match verdict {
                Verdict::Declare { base } => Some(base),
                Verdict::Follow(_) => None,
            };
            assert_eq!(declared, expected, "{name}");
        }
    }

    #[test]
    fn records_in_their_places() {
        let mut sequence = Sequence::new(Keeping::Store, true, Position::START, None);
        sequence.follow(route(sequence.judge(&meta(&[life(FIRST, 0)]), bounds(1, 0), Found::Unknown, Trust::Sure)));
        for (name, offset, message, expected) in [
            ("the first tells the life", 1, message(FIRST, 1, "one"), "lost 0 in 1, 1 one"),
            ("the next", 2, message(FIRST, 2, "two"), "2 two"),
            ("given twice by the broker", 2, message(FIRST, 2, "two"), "-"),
            ("a mark has a position", 3, message(FIRST, 3, ""), "nothing"),
            ("so has what is not understood", 4, None, "-"),
            ("published twice", 5, message(FIRST, 2, "two"), "nothing"),
            ("said twice", 6, message(FIRST, 4, "one"), "again 1 one"),
            ("said twice and published twice", 7, message(FIRST, 4, "one"), "nothing"),
            ("a hole is told", 9, message(FIRST, 5, "nine"), "lost 8 in 1, 9 nine"),
            ("another life", 10, message(SECOND, 6, "ten"), "lost 109 in 2, 110 ten"),
            ("whoever has not heard of it is in it", 11, message(FIRST, 7, "eleven"), "111 eleven"),
            ("nothing is known from the life before", 12, message(SECOND, 8, "one"), "112 one"),
            ("of equal lives the first", 13, message(Stamp { epoch: Epoch(9), ..SECOND }, 9, "x"), "113 x"),
            ("another by a mark", 14, message(THIRD, 10, ""), "lost 313 in 3, nothing"),
            ("which is told once", 15, message(THIRD, 11, "y"), "315 y"),
        ] {
            assert_eq!(told(sequence.take(offset, message)), expected, "{name}");
        }
        assert_eq!(sequence.mark(), Some(at(THIRD, 15, 11)));
        assert_eq!(sequence.in_force(), Some(THIRD));
    }

    #[test]
    fn offsets_with_holes_are_no_loss_where_they_may_have_some() {
        let mut sequence = Sequence::new(Keeping::Store, false, Position::START, None);
        sequence.follow(route(sequence.judge(&meta(&[life(FIRST, 0)]), bounds(1, 0), Found::Unknown, Trust::Sure)));
        for (offset, expected) in [(2, "lost 1 in 1, 2 a2"), (7, "7 a7"), (8, "8 a8")] {
            assert_eq!(told(sequence.take(offset, message(FIRST, offset, &format!("a{offset}")))), expected);
        }
        // It is one when the log says that it begins later.
        sequence.follow(route(sequence.judge(&meta(&[life(FIRST, 0)]), bounds(11, 20), Found::Unknown, Trust::Sure)));
        assert_eq!(told(sequence.take(12, message(FIRST, 12, "b"))), "lost 11 in 1, 12 b");
    }

    /// All that is told of a log by an instance that reads it from where it stands.
    fn read(mut sequence: Sequence, lives: &[Declared], log: &[(u64, Stamp, u64, &str)]) -> Vec<String> {
        let bounds = bounds(log.first().map_or(1, |first| first.0), log.last().map_or(0, |last| last.0));
        let found = sequence.mark().map_or(Found::Unknown, |mark| {
            match log.iter().find(|(offset, ..)| *offset == mark.offset) {
                Some((_, _, number, _)) => Found::Record(Some(id(*number))),
                None => Found::Unknown,
            }
        });
        let route = route(sequence.judge(&meta(lives), bounds, found, Trust::Sure));
        sequence.follow(route);
        let rest = log.iter().filter(|(offset, ..)| *offset > route.after);
        rest.map(|(offset, stamp, number, text)| told(sequence.take(*offset, message(*stamp, *number, text))))
            .filter(|told| told != "-")
            .collect()
    }

    #[test]
    fn whoever_starts_later_decides_alike() {
        let lives = [life(FIRST, 0)];
        let log = [
            (1, FIRST, 1, "a"),
            (2, FIRST, 2, "b"),
            (3, FIRST, 1, "a"),
            (4, FIRST, 3, "b"),
            (5, FIRST, 4, "c"),
            (6, FIRST, 3, "b"),
            (7, FIRST, 5, "a"),
        ];
        let all = ["lost 0 in 1, 1 a", "2 b", "nothing", "again 2 b", "5 c", "nothing", "again 1 a"];
        assert_eq!(read(Sequence::new(Keeping::Store, true, Position::START, None), &lives, &log), all);
        for start in 1..7 {
            let mark = at(FIRST, start as u64, log[start - 1].2);
            let sequence = Sequence::new(Keeping::Store, true, mark.position(), Some(mark));
            assert_eq!(read(sequence, &lives, &log), all[start..], "from {start}");
        }
    }

    #[test]
    fn whoever_is_cut_off_while_it_learns_what_was_before_begins_again() {
        let (lives, log) = ([life(FIRST, 0)], bounds(1, 5));
        let mark = at(FIRST, 4, 4);
        for cut_after in 0..=4 {
            let mut sequence = Sequence::new(Keeping::Store, true, mark.position(), Some(mark));
            let judge = |sequence: &Sequence| {
                route(sequence.judge(&meta(&lives), log, Found::Record(Some(id(4))), Trust::Sure))
            };
            let learn = |sequence: &mut Sequence, after: u64, upto: u64| {
                for offset in after + 1..=upto {
                    assert_eq!(sequence.take(offset, message(FIRST, offset, &format!("a{offset}"))), None);
                }
            };
            let first = judge(&sequence);
            sequence.follow(first);
            learn(&mut sequence, first.after, cut_after);
            let second = judge(&sequence);
            assert_eq!(second.after, if cut_after == 4 { 4 } else { 0 }, "cut off behind {cut_after}");
            sequence.follow(second);
            learn(&mut sequence, second.after, 4);
            assert_eq!(told(sequence.take(5, message(FIRST, 5, "a3"))), "again 3 a3", "cut off behind {cut_after}");
        }
    }

    #[test]
    fn whoever_lags_does_not_bring_back_a_life_that_is_over() {
        let mark = at(SECOND, 50, 50);
        let sequence = Sequence::new(Keeping::Store, true, mark.position(), Some(mark));
        let lives = [life(FIRST, 0), life(SECOND, 20)];
        assert_eq!(read(sequence, &lives, &[(51, FIRST, 51, "a"), (52, SECOND, 52, "b")]), ["151 a", "152 b"]);
    }

    #[test]
    fn after_a_loss_everybody_goes_on_with_the_same_positions() {
        // Ten were there, seven came back. Whoever had all ten has declared a life; somebody who knew of seven only had
        // said something before.
        let ten = Stamp { epoch: Epoch(5), base: Position(10) };
        let lives = [life(FIRST, 0), life(ten, 8)];
        let log = [
            (6, FIRST, 6, "f"),
            (7, FIRST, 7, "g"),
            (8, FIRST, 80, "early"),
            (9, ten, 90, ""),
            (10, FIRST, 91, "late"),
            (11, ten, 92, "k"),
        ];
        let new = ["20 late", "21 k"];
        let from = |offset: u64, number: u64| {
            let mark = at(FIRST, offset, number);
            read(Sequence::new(Keeping::Store, true, mark.position(), Some(mark)), &lives, &log)
        };
        let with = |first: &[&'static str]| [first, &new].concat();
        assert_eq!(from(10, 10), with(&["lost 18 in 5, nothing"]), "who had all");
        assert_eq!(from(8, 8), with(&["lost 18 in 5, nothing"]), "who had one of those that were lost");
        assert_eq!(from(7, 7), with(&["8 early", "lost 18 in 5, nothing"]), "who had none of them");
        assert_eq!(from(6, 6), with(&["7 g", "8 early", "lost 18 in 5, nothing"]), "who was behind");
        let fresh = read(Sequence::new(Keeping::Memory, true, Position::START, None), &lives, &log);
        assert_eq!(fresh[3..], with(&["lost 18 in 5, nothing"]), "who has just come");
    }

    #[test]
    fn the_window_is_counted_in_positions() {
        let mut window = Window::default();
        let ann = |text: &str| Body::Said(said("room", (1, "Ann"), text, text));
        for (position, number, body, expected) in [
            (1, 1, ann("a"), "1 a"),
            (2, 2, Body::Said(raw("room", "raw")), "2 raw"),
            (1 + WINDOW, 3, ann("a"), "again 1 a"),
            (2 + WINDOW, 2, Body::Said(raw("room", "raw")), "nothing"),
            (2 + WINDOW, 4, ann("a"), "50002 a"),
            (3 + WINDOW, 2, Body::Said(raw("room", "raw")), "50003 raw"),
        ] {
            let what = window.judge(Position(position), id(number), body);
            assert_eq!(told(Some(Taken { id: id(number), lost: None, what })), expected, "at {position}");
        }
        window.forget_before(Position(9 * WINDOW));
        assert!(window.is_empty() && window.drafts.is_empty() && window.said.is_empty() && window.originals.is_empty());
        assert_eq!(window.original_bytes, 0);
    }

    #[test]
    fn whoever_writes_a_client_or_runs_a_cluster_is_told_of_the_window() {
        let told = "50,000 positions";
        assert_eq!(told.replace([',', ' '], "").trim_end_matches("positions").parse(), Ok(WINDOW));
        for (name, text) in
            [("README", include_str!("../../../README.md")), ("PROTOCOL", include_str!("../../../docs/PROTOCOL.md"))]
        {
            assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(told), "{name}");
        }
    }

    #[test]
    fn originals_have_a_bound() {
        let mut window = Window::default();
        let long = "x".repeat(ORIGINAL_BYTES / 4);
        let say = |window: &mut Window, position: u64, nonce: &str, text: &str| {
            let what = window.judge(Position(position), id(position), Body::Said(said("r", (1, "A"), nonce, text)));
            match what {
                What::Entry(entry) | What::Repeat(entry) => (entry.position.0, entry.content.bytes().len()),
                What::Nothing => panic!("it has a text"),
            }
        };
        for position in 1..=9 {
            assert_eq!(say(&mut window, position, &position.to_string(), &long), (position, long.len()));
        }
        assert!(window.original_bytes <= ORIGINAL_BYTES);
        assert_eq!(say(&mut window, 10, "1", "short"), (1, 5), "it is known to be a repeat, not how it read");
        assert_eq!(say(&mut window, 11, "9", "short"), (9, long.len()));
    }
}
