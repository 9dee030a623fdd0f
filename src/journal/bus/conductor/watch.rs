//! What is noticed because it does not come: the end of a session that looks alive, and of the patience of members.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{ANSWER_TIMEOUT, Conductor, DOWN_GRACE, answered};
use crate::journal::bus::Unready;
use crate::journal::bus::driver::{Driver, Failure, Session};
use crate::journal::contract::{Event, Status};

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(250);
/// So many intervals of the canary pass at the most without a record of our own, even if others send theirs.
const OWN_INTERVALS: u32 = 6;

impl<D: Driver> Conductor<D> {
    /// Tells when the bus has been down for a while.
    pub(super) async fn complain(&self) {
        loop {
            sleep(TICK).await;
            self.complain_if_down(Instant::now());
        }
    }

    pub(super) fn complain_if_down(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        let is_long = state.down_since.is_some_and(|since| now.duration_since(since) >= DOWN_GRACE);
        // What is read at the beginning may take longer.
        let is_away = self.shared.readiness() == Err(Unready::Away);
        if is_long && is_away && !state.is_down_told {
            state.is_down_told = true;
            self.outbound.send(vec![Event::Status(Status::BusDown)]);
        }
    }

    /// Sees to it that the log moves, and ends the session when it does not.
    pub(super) async fn watch(&self) -> Failure {
        loop {
            sleep(TICK.min(self.canary / 4)).await;
            if let Some(failure) = self.check(Instant::now()) {
                return failure;
            }
        }
    }

    /// Measures how far behind the log we are, and not often: some brokers can only be asked by writing to the log.
    pub(super) async fn measure(&self, session: &D::Session) -> Failure {
        loop {
            sleep(self.canary * OWN_INTERVALS).await;
            match answered(session.bounds()).await {
                Ok(bounds) => {
                    let read = self.state.borrow().sequence.mark().map_or(0, |mark| mark.offset);
                    self.shared.lag.store(bounds.last.saturating_sub(read), Ordering::Relaxed);
                }
                Err(failure) => return failure,
            }
        }
    }

    pub(super) fn check(&self, now: Instant) -> Option<Failure> {
        if self.shared.is_held() {
            return None;
        }
        let state = &mut *self.state.borrow_mut();
        let patience = self.canary.max(Duration::from_secs(1));
        // Others may still be heard; and while much is read, our own is behind it.
        let waited = state.mark_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let is_behind = state.opening.is_some();
        if waited.max(if is_behind { patience } else { Duration::ZERO }) >= patience
            && now.duration_since(state.last_return) > patience
            || waited > patience.max(ANSWER_TIMEOUT) && !is_behind
        {
            return Some(Failure::new(format_args!("what is published does not come back within {patience:?}")));
        }
        if state.sent_since.is_some_and(|since| now.duration_since(since) > ANSWER_TIMEOUT) {
            return Some(Failure::new(format_args!("messages have not come back within {ANSWER_TIMEOUT:?}")));
        }
        // Much may be read before it. But somebody may have deleted it, and nothing of ours is published until it is back.
        if is_behind && waited > patience.max(ANSWER_TIMEOUT) {
            (state.is_mark_due, state.mark_since) = (true, Some(now));
            self.publishable.notify_one();
        }
        let is_silent = now.duration_since(state.last_return) >= self.canary;
        let is_mute = now.duration_since(state.last_own_return) >= self.canary * OWN_INTERVALS;
        if (is_silent || is_mute) && state.opening.is_none() && state.mark_since.is_none() {
            (state.is_mark_due, state.mark_since) = (true, Some(now));
            self.publishable.notify_one();
        }
        None
    }
}
