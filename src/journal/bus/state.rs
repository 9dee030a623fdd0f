//! What the tasks of the bus have in common: drafts on their way, the place in the log, and what is to be told.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::chat::entry::{Draft, Entry};
use crate::journal::contract::{Event, Refused};
use crate::journal::ordered::{DraftId, Stamp};

use super::sequence::{Sequence, What};
use super::shared::weight;
use super::wire::{Body, Decoder, Message};

/// A draft on its way.
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) draft: Draft,
}

/// What the tasks of a session share. It is never borrowed across an await.
pub(super) struct State {
    pub(super) sequence: Sequence,
    pub(super) decoder: Decoder,
    /// Drafts that have not come back, in the order in which they were said.
    pub(super) pending: VecDeque<Pending>,
    /// How many of them have been handed to the broker in this session.
    pub(super) sent: usize,
    pub(super) sent_since: Option<Instant>,
    /// The number of the last draft that was ever handed to a broker, which may have it.
    pub(super) handed: u64,
    pub(super) next_number: u64,
    /// The life that is to be published in, if the log does not show a higher one.
    pub(super) life: Option<Stamp>,
    pub(super) key: Option<[u8; 32]>,
    /// The mark with which the session began, as long as neither it nor one behind it has come back.
    pub(super) opening: Option<DraftId>,
    /// The last question whether we are level, for which no mark has been published.
    pub(super) question: Option<u64>,
    /// The number of the mark that answers a question when it comes back, or something that we published behind it, and the
    /// question.
    pub(super) asked: Option<(u64, u64)>,
    /// A mark is to be published.
    pub(super) is_mark_due: bool,
    /// Since when a mark is to come back. It may still wait behind what the broker does not answer.
    pub(super) mark_since: Option<Instant>,
    pub(super) last_return: Instant,
    pub(super) last_own_return: Instant,
    /// Events that were handed on.
    pub(super) given: usize,
    pub(super) given_bytes: usize,
    /// The offset up to which the store was last told that the log was read.
    pub(super) kept: u64,
    pub(super) whispers: VecDeque<Bytes>,
    pub(super) down_since: Option<Instant>,
    pub(super) is_down_told: bool,
    pub(super) is_down_logged: bool,
}

impl State {
    /// Nothing has been said, and the bus is not reached.
    pub(super) fn new(sequence: Sequence) -> Self {
        let now = Instant::now();
        State {
            sequence,
            decoder: Decoder::new(),
            pending: VecDeque::new(),
            sent: 0,
            sent_since: None,
            handed: 0,
            next_number: 1,
            life: None,
            key: None,
            opening: None,
            question: None,
            asked: None,
            is_mark_due: false,
            mark_since: None,
            last_return: now,
            last_own_return: now,
            given: 0,
            given_bytes: 0,
            kept: 0,
            whispers: VecDeque::new(),
            down_since: Some(now),
            is_down_told: false,
            is_down_logged: false,
        }
    }

    /// Counts what is handed on.
    pub(super) fn give(&mut self, events: &[Event]) {
        self.given += events.len();
        self.given_bytes += events.iter().map(weight).sum::<usize>();
    }

    /// Takes a record of the log.
    pub(super) fn take(
        &mut self,
        instance: u64,
        offset: u64,
        message: Option<Message>,
        now: Instant,
        events: &mut Vec<Event>,
    ) {
        let is_unknown = message.as_ref().is_some_and(|message| message.body == Body::Unknown);
        let Some(taken) = self.sequence.take(offset, message) else { return };
        events.extend(taken.lost.map(Event::Lost));
        let ours = (taken.id.instance == instance).then(|| self.settle(taken.id.number, now)).flatten();
        let origin = ours.as_ref().and_then(|draft| draft.origin);
        match (taken.what, ours) {
            (What::Entry(entry), _) => {
                events.push(Event::Entry(Entry { origin, ..entry }));
            }
            (What::Repeat(entry), Some(_)) => {
                events.push(Event::Repeat(Entry { origin, ..entry }));
            }
            // It was passed over when it came for the first time.
            (What::Twice(position), Some(draft)) => {
                events.push(Event::Repeat(draft.at(position)));
            }
            // Nobody could read it, so nobody has heard it.
            (What::Nothing, Some(draft)) if is_unknown => {
                events.push(Event::Refused { draft, reason: Refused::Unavailable });
            }
            (What::Repeat(_) | What::Twice(_), None) | (What::Nothing, _) => {}
        }
    }

    /// A draft of ours has come back.
    pub(super) fn settle(&mut self, number: u64, now: Instant) -> Option<Draft> {
        let place = match self.pending.front() {
            Some(first) if first.number == number => 0,
            _ => self.pending.binary_search_by_key(&number, |pending| pending.number).ok()?,
        };
        let pending = self.pending.remove(place)?;
        if place < self.sent {
            self.sent -= 1;
        }
        self.sent_since = (self.sent > 0).then_some(now);
        Some(pending.draft)
    }
}

#[cfg(test)]
mod tests {
    use super::super::driver::Bounds;
    use super::super::sequence::{Found, Keeping, REACH, Trust, Verdict};
    use super::super::wire::{Declared, Meta};
    use super::*;
    use crate::chat::entry::{Epoch, MemberId, Position};
    use crate::journal::ordered::Mark;
    use crate::journal::tests::said;

    #[test]
    fn whoever_says_something_is_answered_also_where_it_was_passed_over() {
        let stamp = |epoch, base| Stamp { epoch: Epoch(epoch), base: Position(base) };
        let (first, low, high) = (stamp(1, 0), stamp(2, 5), stamp(3, 300));
        let lives = [(first, 0), (low, 40), (high, 40)].map(|(stamp, after)| Declared { stamp, after });
        let mark = Some(Mark { stamp: first, offset: 50, id: None });
        let mut sequence = Sequence::new(Keeping::Store, true, REACH, Position(50), mark);
        let (meta, bounds) = (Meta { lives: lives.to_vec(), ..Meta::default() }, Bounds { first: 1, last: 49 });
        match sequence.judge(&meta, bounds, Found::Unknown, Trust::Sure) {
            Verdict::Follow(route) => sequence.follow(route),
            verdict => panic!("{verdict:?}"),
        }
        let (instance, now, origin) = (7, Instant::now(), Some(MemberId { slot: 3, serial: 1 }));
        let draft = |text: &str| Draft { origin, ..said("room", (1, "Ann"), text, text) };
        let message = |number: u64, text: &str| {
            let id = DraftId { instance, number };
            Some(Message { stamp: low, id, body: Body::Said(Draft { origin: None, ..draft(text) }) })
        };
        let mut state = State::new(sequence);
        state.pending.push_back(Pending { number: 1, draft: draft("a") });
        let mut events = Vec::new();
        state.take(instance, 41, message(1, "a"), now, &mut events);
        assert_eq!(events, [Event::Repeat(draft("a").at(Position(46)))], "at a position that is behind us");
        // It was read when nobody waited for it.
        events.clear();
        state.take(instance, 42, message(2, "b"), now, &mut events);
        state.pending.push_back(Pending { number: 2, draft: draft("b") });
        state.take(instance, 47, message(2, "b"), now, &mut events);
        let told: Vec<&Event> = events.iter().filter(|event| !matches!(event, Event::Lost(_))).collect();
        assert_eq!(told, [&Event::Repeat(draft("b").at(Position(47)))], "published again");
        assert!(state.pending.is_empty());
    }
}
