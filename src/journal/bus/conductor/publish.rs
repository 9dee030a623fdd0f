//! What goes out: drafts and marks, as many at once as there are, and whispers.

use std::time::Instant;

use bytes::Bytes;

use super::{Conductor, answered};
use crate::journal::bus::driver::{Driver, Failure, Session};
use crate::journal::bus::state::Pending;
use crate::journal::bus::wire;
use crate::journal::ordered::DraftId;

/// What is published at once: records, and about so many bytes.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;

impl<D: Driver> Conductor<D> {
    /// Publishes drafts and marks, as many at once as there are.
    pub(super) async fn publish(&self, session: &D::Session) -> Failure {
        loop {
            let batch = self.next_batch(Instant::now());
            if batch.is_empty() {
                self.publishable.notified().await;
                continue;
            }
            if let Err(failure) = answered(session.publish(&batch)).await {
                return failure;
            }
        }
    }

    pub(super) fn next_batch(&self, now: Instant) -> Vec<Bytes> {
        let state = &mut *self.state.borrow_mut();
        let mut batch = Vec::new();
        // A life that the log has shown holds, whatever was known when the session began.
        let lives = [state.life, state.sequence.in_force()].into_iter().flatten();
        let Some(stamp) = lives.reduce(|best, next| if next.base > best.base { next } else { best }) else {
            return batch;
        };
        if std::mem::take(&mut state.is_mark_due) {
            let id = DraftId { instance: self.instance, number: state.next_number };
            // Drafts that came since the session began have taken the number. If it is not the first mark, either may come.
            if let Some(opening) = state.opening.as_mut().filter(|_| state.mark_since.is_none()) {
                *opening = id;
            }
            state.next_number += 1;
            if state.asked.is_none() {
                state.asked = state.question.take().map(|question| (id.number, question));
            }
            state.mark_since.get_or_insert(now);
            batch.push(wire::encode_mark(stamp, id));
        }
        if state.opening.is_some() {
            return batch;
        }
        let mut bytes = 0;
        for Pending { number, draft } in state.pending.range(state.sent..) {
            if batch.len() == BATCH || bytes > BATCH_BYTES {
                break;
            }
            let record = wire::encode_draft(stamp, DraftId { instance: self.instance, number: *number }, draft);
            bytes += record.len();
            batch.push(record);
            state.sent += 1;
            state.handed = state.handed.max(*number);
        }
        if state.sent > 0 {
            state.sent_since.get_or_insert(now);
        }
        batch
    }

    /// Whispers what there is.
    pub(super) async fn whisper(&self, session: &D::Session) -> Failure {
        loop {
            let Some(message) = self.next_whisper() else {
                self.whispered.notified().await;
                continue;
            };
            if let Err(failure) = answered(session.whisper(message)).await {
                return failure;
            }
        }
    }

    /// Our name goes before it, so that we know it when we hear it ourselves.
    pub(super) fn next_whisper(&self) -> Option<Bytes> {
        let message = self.state.borrow_mut().whispers.pop_front()?;
        Some([&self.instance.to_be_bytes()[..], &message].concat().into())
    }
}
