//! Members that have heard more than this instance: they come from another one that is ahead of it on the bus.
//!
//! What they have heard comes here as well, usually within milliseconds. So their join waits for it, a while at the most;
//! then it is as if nobody knew of the position.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Hub, MemberId, Position, Standing, Start};

/// How long such a join waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Joins that wait, by member and room.
#[derive(Debug, Default)]
pub(super) struct Ahead(HashMap<(MemberId, usize), Waiting>);

#[derive(Debug)]
struct Waiting {
    awaited: Position,
    /// Unknown until the first tick after it came.
    until: Option<Instant>,
}

impl Ahead {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Hub {
    /// Lets a join wait for a position that is not known here yet. `false` if nobody else can have given it.
    pub(super) fn await_position(&mut self, id: MemberId, key: usize, start: Start) -> bool {
        let Start::After(awaited) = start else { return false };
        let may_come = self.reports.is_some() && awaited > self.journaled.position;
        if may_come {
            self.ahead.0.entry((id, key)).or_insert(Waiting { awaited, until: None });
        }
        may_come
    }

    /// Goes on with those whose position has come.
    pub(super) fn welcome_awaited(&mut self) {
        let present = self.journaled.position;
        let come = self.ahead.0.extract_if(|_, waiting| waiting.awaited <= present);
        let come: Vec<_> = come.map(|((id, _), _)| id).collect();
        for id in come {
            self.drained(id);
        }
    }

    /// Gives up those whose position does not come in time.
    pub(super) fn tick_ahead(&mut self, now: Instant) {
        self.give_up_ahead(|waiting| *waiting.until.get_or_insert(now + PATIENCE) <= now);
    }

    /// What all of them wait for will never come.
    pub(super) fn lose_ahead(&mut self) {
        self.give_up_ahead(|_| true);
    }

    fn give_up_ahead(&mut self, mut is_over: impl FnMut(&mut Waiting) -> bool) {
        let over = self.ahead.0.extract_if(|_, waiting| is_over(waiting));
        let over: Vec<_> = over.map(|(place, waiting)| (place, waiting.awaited)).collect();
        for ((id, key), awaited) in over {
            // It may have left the room, and come back, in the meantime.
            if let Some(seat) = self.seat_mut(id, key)
                && seat.standing == Standing::Joining(Start::After(awaited))
            {
                seat.standing = Standing::Joining(Start::Lost);
                self.drained(id);
            }
        }
    }
}
