//! How a session begins: what the log is, agreed upon with all others before anything is published or followed.

use std::time::Instant;

use super::{Begun, Conductor};
use crate::chat::entry::Epoch;
use crate::journal::bus::driver::{Driver, Failure, Run, Session};
use crate::journal::bus::sequence::{Found, Route, Trust, Verdict};
use crate::journal::bus::wire::{self, Declared, Meta};
use crate::journal::contract::Event;
use crate::journal::ordered::{DraftId, Stamp};

/// Lives that are declared in one session at the most.
const DECLARATIONS: usize = 10;

impl<D: Driver> Conductor<D> {
    /// Connects, agrees with the others on the life of the log and the key, and finds out where to go on.
    pub(super) async fn begin(&self) -> Result<Begun<D>, Failure> {
        let session = self.driver.connect().await?;
        let run = session.run().await?;
        let mut meta = Meta::read(&session.meta().await?);
        if let Some(key) = self.key_to_propose {
            if meta.key.is_none() {
                // A bus that has lost the key is given it again, so that people stay who they are.
                let key = self.state.borrow().key.unwrap_or(key);
                session.append_meta(wire::encode_key(&key)).await?;
                meta = Meta::read(&session.meta().await?);
            }
            self.learn_key(meta.key);
        }
        for _ in 0..DECLARATIONS {
            let bounds = session.bounds().await?;
            let mark = self.state.borrow().sequence.mark();
            let found = match mark.filter(|mark| (bounds.first..=bounds.last).contains(&mark.offset)) {
                None => Found::Unknown,
                Some(mark) => match session.get(mark.offset).await? {
                    Some(record) => {
                        let message = self.state.borrow_mut().decoder.decode(&record);
                        Found::Record(message.map(|message| (message.stamp, message.id)))
                    }
                    // It may just have been trimmed.
                    None if session.bounds().await?.first > mark.offset => Found::Unknown,
                    None => Found::Nothing,
                },
            };
            let trust = Trust::of(&run, meta.run.as_deref());
            let verdict = self.state.borrow().sequence.judge(&meta, bounds, found, trust);
            match verdict {
                Verdict::Declare { base } => {
                    let epoch = Epoch(getrandom::u64().map_err(Failure::new)?);
                    if trust == Trust::Doubtful {
                        tracing::warn!(
                            "the bus was restarted, and may have lost messages that were heard: a new epoch begins at {base}"
                        );
                    } else if mark.is_some() {
                        tracing::warn!("the bus has lost messages that are known here: a new epoch begins at {base}");
                    }
                    let life = Declared { stamp: Stamp { epoch, base }, after: bounds.last };
                    session.append_meta(wire::encode_life(&life, &run)).await?;
                    meta = Meta::read(&session.meta().await?);
                }
                Verdict::Follow(route) => {
                    if let Run::Named(run) = run
                        && meta.run.as_deref() != Some(&*run)
                        // Another may just have said so.
                        && Meta::read(&session.meta().await?).run.as_deref() != Some(&*run)
                    {
                        session.append_meta(wire::encode_run(&run)).await?;
                    }
                    let tail = session.tail(route.after).await?;
                    let ears = session.listen().await?;
                    return Ok(Begun { session, tail, ears, life: meta.best(), route });
                }
            }
        }
        Err(Failure::new("its records of what it has lost contradict each other"))
    }

    pub(super) fn learn_key(&self, key: Option<[u8; 32]>) {
        let mut state = self.state.borrow_mut();
        if let Some(key) = key.filter(|key| state.key != Some(*key)) {
            state.key = Some(key);
            if let Some(keeper) = &self.keeper {
                keeper.keep_key(key);
            }
            self.outbound.send(vec![Event::Key(key)]);
        }
    }

    /// Everything is as at the beginning of a session.
    pub(super) fn open(&self, life: Option<Stamp>, route: Route, now: Instant) {
        self.shared.fell_behind();
        self.refuse_what_is_too_long();
        let state = &mut *self.state.borrow_mut();
        state.sequence.follow(route);
        (state.life, state.sent, state.sent_since) = (life, 0, None);
        (state.last_return, state.last_own_return, state.mark_since) = (now, now, None);
        // Its mark may be lost.
        state.question = state.question.or(state.asked.take().map(|(_, question)| question));
        state.is_mark_due = true;
        state.opening = Some(DraftId { instance: self.instance, number: state.next_number });
    }
}
