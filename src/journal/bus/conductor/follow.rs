//! What comes in: the log, as fast as what it brings is taken, on its way to whatever keeps it; and whispers.

use std::time::{Duration, Instant};
use std::vec;

use bytes::Bytes;

use super::{Conductor, answered};
use crate::journal::bus::driver::{Bounds, Driver, Ears, Failure, Record, Session, Tail};
use crate::journal::contract::Event;
use crate::journal::ordered::{Mark, Ordered};

/// Records that nobody is told of, after which it is noted that they were read.
const QUIET_RECORDS: u64 = 1_000;

impl<D: Driver> Conductor<D> {
    /// Follows the log, as fast as what comes is taken.
    pub(super) async fn follow(&self, session: &D::Session, mut tail: <D::Session as Session>::Tail) -> Failure {
        loop {
            let mut records = match tail.next().await {
                Ok(records) => records.into_iter(),
                Err(failure) => return failure,
            };
            self.take(&mut records, Instant::now());
            while let [behind_hole, ..] = records.as_slice() {
                let crossed = match answered(session.bounds()).await {
                    Ok(bounds) => self.cross(behind_hole.offset, bounds),
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = crossed {
                    return failure;
                }
                self.take(&mut records, Instant::now());
            }
            while self.is_ahead() {
                let _ = self.begin.send(());
                let since = Instant::now();
                self.shared.hold(|| self.is_ahead()).await;
                self.was_held(since.elapsed());
            }
        }
    }

    /// Nothing was read for so long, and what is ours may be in what was not: that was no silence.
    pub(super) fn was_held(&self, time: Duration) {
        let state = &mut *self.state.borrow_mut();
        state.last_return += time;
        state.last_own_return += time;
        for since in [&mut state.mark_since, &mut state.sent_since].into_iter().flatten() {
            *since += time;
        }
    }

    pub(super) fn is_ahead(&self) -> bool {
        let state = self.state.borrow();
        self.shared.is_behind(state.given, state.given_bytes)
    }

    /// Goes on behind a hole in the log, if that cannot be one of those that were trimmed, of a log that has these `bounds`.
    pub(super) fn cross(&self, offset: u64, bounds: Bounds) -> Result<(), Failure> {
        if self.state.borrow_mut().sequence.cross(offset, bounds) {
            return Ok(());
        }
        // What came between may have begun a life. The next session will find out what it has missed.
        Err(Failure::new("messages were trimmed before they were read"))
    }

    /// Takes records of the log, up to a hole in what is needed, and hands on what they bring.
    pub(super) fn take(&self, records: &mut vec::IntoIter<Record>, now: Instant) {
        if records.as_slice().is_empty() {
            return;
        }
        let mut events = Vec::with_capacity(records.len());
        let mut is_up = false;
        let mark = {
            let state = &mut *self.state.borrow_mut();
            state.last_return = now;
            while records.as_slice().first().is_some_and(|record| !state.sequence.has_hole_before(record.offset))
                && let Some(Record { offset, bytes }) = records.next()
            {
                let message = state.decoder.decode(&bytes);
                let id = message.as_ref().map(|message| message.id);
                let ours = id.filter(|id| id.instance == self.instance);
                // Until then nothing of ours is published but marks.
                is_up |= ours.zip(state.opening).is_some_and(|(id, opening)| id.number >= opening.number);
                if ours.is_some() {
                    (state.last_own_return, state.mark_since) = (state.last_return, None);
                }
                state.take(self.instance, offset, message, now, &mut events);
                if let Some(id) = ours
                    && let Some((_, question)) = state.asked.take_if(|(number, _)| *number <= id.number)
                {
                    events.push(Event::Level(question));
                }
            }
            if is_up {
                state.opening = None;
            }
            state.give(&events);
            state.sequence.mark()
        };
        self.hand_on(events, mark);
        self.settled.notify_one();
        if is_up {
            self.came_up();
        }
        self.ask();
    }

    /// Gives events to whatever keeps them. Where the log stands is kept with them, and now and then without any, so that
    /// a quiet night is not read again.
    pub(super) fn hand_on(&self, events: Vec<Event>, mark: Option<Mark>) {
        let (Some(keeper), Some(mark)) = (&self.keeper, mark) else { return self.outbound.send(events) };
        let kept = &mut self.state.borrow_mut().kept;
        if !events.is_empty() || mark.offset.abs_diff(*kept) >= QUIET_RECORDS {
            *kept = mark.offset;
            keeper.keep(Ordered { events, mark });
        }
    }

    /// Whoever comes back goes on from where it has read to, told or not, and finds out if the broker has lost that.
    pub(super) fn keep_mark(&self) {
        let state = &mut *self.state.borrow_mut();
        if let (Some(keeper), Some(mark)) = (&self.keeper, state.sequence.mark())
            && mark.offset != state.kept
        {
            state.kept = mark.offset;
            keeper.keep(Ordered { events: Vec::new(), mark });
        }
    }

    /// Hears what others whisper.
    pub(super) async fn listen(&self, mut ears: impl Ears) -> Failure {
        loop {
            match ears.next().await {
                Ok(message) => self.hear(message),
                Err(failure) => return failure,
            }
        }
    }

    pub(super) fn hear(&self, mut message: Bytes) {
        if message.len() >= 8 && message.split_to(8)[..] != self.instance.to_be_bytes() {
            self.outbound.send(vec![Event::Whisper(message)]);
        }
    }
}
