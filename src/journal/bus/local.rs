//! A bus inside the process, for tests: it keeps the contract, and fails when it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};

use super::driver::{Bounds, Driver, Ears, Failure, Record, Run, Session, Tail};
use super::sequence::{REACH, Reach};

/// Records of one batch.
const BATCH: usize = 100;

/// A broker, shared by the drivers of all instances of a test.
#[derive(Debug, Clone)]
pub(super) struct LocalBus {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    whispers: broadcast::Sender<Bytes>,
    reach: Reach,
}

#[derive(Debug, Clone, Default)]
struct State {
    log: Log,
    meta: Vec<Bytes>,
    /// Sessions of another number are cut.
    generation: u64,
    /// Restarts.
    runs: u64,
    /// Whatever it was given it has after a restart.
    is_lasting: bool,
    is_down: bool,
    /// Publishes of so many records succeed and are answered with a failure; `None` if all is well.
    unclear_after: Option<usize>,
    is_stuck: bool,
    is_mute: bool,
    is_confounding: bool,
    /// Bytes that a record may have, if there is a bound.
    max_record_bytes: Option<usize>,
}

/// The records that are there, of all that were.
#[derive(Debug, Clone, Default)]
struct Log {
    records: VecDeque<Record>,
    /// The newest record that was ever there.
    last: u64,
}

impl Log {
    fn push(&mut self, bytes: Bytes) {
        self.last += 1;
        self.records.push_back(Record { offset: self.last, bytes });
    }

    /// The records behind an offset.
    fn behind(&self, after: u64) -> impl Iterator<Item = &Record> {
        self.records.range(self.records.partition_point(|record| record.offset <= after)..)
    }
}

/// What a broker had at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    log: Log,
    meta: Vec<Bytes>,
}

impl LocalBus {
    pub(super) fn new() -> Self {
        Self::looking_back(REACH)
    }

    /// One whose instances look back so far.
    pub(super) fn looking_back(reach: Reach) -> Self {
        LocalBus { state: Arc::default(), changed: Arc::default(), whispers: broadcast::channel(100).0, reach }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_waiters();
    }

    /// Ends all sessions. New ones begin at once.
    pub(super) fn cut(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Ends all sessions. No new one begins before [`up`](Self::up).
    pub(super) fn down(&self) {
        self.change(|state| (state.generation, state.is_down) = (state.generation + 1, true));
    }

    pub(super) fn up(&self) {
        self.change(|state| state.is_down = false);
    }

    /// The next publish gets so many records in and then loses its connection.
    pub(super) fn lose_answer_after(&self, records: usize) {
        self.change(|state| state.unclear_after = Some(records));
    }

    /// Tails see nothing new any more, and nobody is told why.
    pub(super) fn stick(&self, is_stuck: bool) {
        self.change(|state| state.is_stuck = is_stuck);
    }

    /// What is published has no effect and no answer, until this is over.
    pub(super) fn mute(&self, is_mute: bool) {
        self.change(|state| state.is_mute = is_mute);
    }

    /// Removes all records before an offset.
    pub(super) fn trim(&self, first: u64) {
        self.change(|state| state.log.records.retain(|record| record.offset >= first));
    }

    /// Removes one record, wherever it is.
    pub(super) fn delete(&self, offset: u64) {
        self.change(|state| state.log.records.retain(|record| record.offset != offset));
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let State { log, meta, .. } = self.state().clone();
        Snapshot { log, meta }
    }

    /// Restarts cost nothing, which it says.
    pub(super) fn keep_everything(&self) {
        self.change(|state| state.is_lasting = true);
    }

    /// The broker has come back with what it had then.
    pub(super) fn restore(&self, snapshot: Snapshot) {
        self.change(|state| {
            (state.log, state.meta) = (snapshot.log, snapshot.meta);
            state.generation += 1;
            state.runs += 1;
        });
    }

    /// The broker has come back with nothing.
    pub(super) fn wipe(&self) {
        self.restore(Snapshot { log: Log::default(), meta: Vec::new() });
    }

    /// Somebody else writes to the log and to the meta log.
    pub(super) fn put(&self, record: Bytes, meta: Bytes) {
        self.change(|state| {
            state.log.push(record);
            state.meta.push(meta);
        });
    }

    /// Longer records are not taken any more, of which sessions learn that begin from here on.
    pub(super) fn bound_records(&self, bytes: usize) {
        self.change(|state| state.max_record_bytes = Some(bytes));
    }

    /// Whoever reads next comes upon something that nobody has thought of.
    pub(super) fn confound(&self) {
        self.change(|state| state.is_confounding = true);
    }

    /// All records that are in the log.
    pub(super) fn log(&self) -> Vec<Bytes> {
        self.state().log.records.iter().map(|record| record.bytes.clone()).collect()
    }
}

impl Driver for LocalBus {
    type Session = LocalSession;

    fn reach(&self) -> Reach {
        self.reach
    }

    fn max_record_bytes(&self) -> usize {
        self.state().max_record_bytes.unwrap_or(usize::MAX)
    }

    async fn connect(&self) -> Result<LocalSession, Failure> {
        let state = self.state();
        if state.is_down {
            return Err(Failure::new("it is down"));
        }
        Ok(LocalSession { bus: self.clone(), generation: state.generation })
    }
}

#[derive(Debug)]
pub(super) struct LocalSession {
    bus: LocalBus,
    generation: u64,
}

impl LocalSession {
    fn state(&self) -> Result<MutexGuard<'_, State>, Failure> {
        let state = self.bus.state();
        if state.generation != self.generation { Err(Failure::new("it was cut")) } else { Ok(state) }
    }
}

impl Session for LocalSession {
    type Tail = LocalTail;
    type Ears = LocalEars;

    async fn meta(&self) -> Result<Vec<Bytes>, Failure> {
        Ok(self.state()?.meta.clone())
    }

    async fn append_meta(&self, record: Bytes) -> Result<(), Failure> {
        self.state()?.meta.push(record);
        Ok(())
    }

    async fn run(&self) -> Result<Run, Failure> {
        let state = self.state()?;
        Ok(if state.is_lasting { Run::Unmarked } else { Run::Named(state.runs.to_string()) })
    }

    async fn bounds(&self) -> Result<Bounds, Failure> {
        let Log { records, last } = &self.state()?.log;
        Ok(Bounds { first: records.front().map_or(last + 1, |record| record.offset), last: *last })
    }

    async fn get(&self, offset: u64) -> Result<Option<Bytes>, Failure> {
        let state = self.state()?;
        let found = state.log.records.iter().find(|record| record.offset == offset);
        Ok(found.map(|record| record.bytes.clone()))
    }

    async fn publish(&self, batch: &[Bytes]) -> Result<(), Failure> {
        loop {
            let changed = self.bus.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if !self.state()?.is_mute {
                break;
            }
            changed.await;
        }
        let mut state = self.state()?;
        if state.max_record_bytes.is_some_and(|most| batch.iter().any(|record| record.len() > most)) {
            return Err(Failure::new("a record is too long"));
        }
        let unclear = state.unclear_after.take();
        batch.iter().take(unclear.unwrap_or(usize::MAX)).for_each(|record| state.log.push(record.clone()));
        state.generation += u64::from(unclear.is_some());
        drop(state);
        self.bus.changed.notify_waiters();
        self.state().map(drop)
    }

    async fn tail(&self, after: u64) -> Result<LocalTail, Failure> {
        Ok(LocalTail { session: LocalSession { bus: self.bus.clone(), generation: self.generation }, after })
    }

    async fn whisper(&self, message: Bytes) -> Result<(), Failure> {
        let _ = self.bus.whispers.send(message);
        self.state().map(drop)
    }

    async fn listen(&self) -> Result<LocalEars, Failure> {
        Ok(LocalEars(self.bus.whispers.subscribe()))
    }
}

#[derive(Debug)]
pub(super) struct LocalTail {
    session: LocalSession,
    after: u64,
}

impl Tail for LocalTail {
    async fn next(&mut self) -> Result<Vec<Record>, Failure> {
        loop {
            let changed = self.session.bus.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on a change is noticed, before what is there is looked at.
            changed.as_mut().enable();
            let records: Vec<Record> = {
                let state = self.session.state()?;
                assert!(!state.is_confounding, "nobody has thought of this");
                state.log.behind(self.after).take(if state.is_stuck { 0 } else { BATCH }).cloned().collect()
            };
            if let Some(last) = records.last() {
                self.after = last.offset;
                return Ok(records);
            }
            changed.await;
        }
    }
}

#[derive(Debug)]
pub(super) struct LocalEars(broadcast::Receiver<Bytes>);

impl Ears for LocalEars {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            match self.0.recv().await {
                Ok(message) => return Ok(message),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(error) => return Err(Failure::new(error)),
            }
        }
    }
}
