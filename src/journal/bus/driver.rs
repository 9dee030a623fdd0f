//! The contract between the journal and a broker: what a driver must be able to do, and what it may leave to the journal.
//!
//! A broker has three things for one chat:
//!
//! - the **log**: records in one order for everybody, each with an offset that is higher than the one before. It is
//!   trimmed at its beginning;
//! - the **meta log**: a few small records that are never trimmed, in an order that is the same for everybody;
//! - a **whisper** channel: whatever is said there is heard by whoever listens at that moment, or not at all.
//!
//! A driver moves bytes. It knows neither entries nor positions, keeps nothing between sessions, retries nothing, and
//! does not reconnect: the first thing that fails ends the session, and the journal begins another after a pause. It
//! repeats what was published without an answer, and drops what comes twice, so at-least-once is enough here.
//!
//! All of it runs on the journal's own thread, in a tokio runtime of one thread: futures need not be `Send`. `publish`,
//! `whisper`, [`Tail::next`], [`Ears::next`] and one or two of the other calls are under way at the same time. No call is
//! cancelled but at the end of the session, so none has to be safe against that. No call may block the thread.
//!
//! `contract.rs` plays the same script against every driver.

use std::fmt::Display;

use bytes::Bytes;

use super::sequence::{REACH, Reach};

/// How one kind of broker is reached.
pub(super) trait Driver: Sized + 'static {
    /// A connection, or as many as the driver needs.
    type Session: Session;

    /// Whether each record of the log has the offset after that of the one before. A hole is then what was trimmed, or
    /// deleted; where there may be others, [`Tail::next`] fails when it passes over what was trimmed.
    fn is_dense(&self) -> bool {
        true
    }

    /// How far instances look back. Only in the simulation it is not as everywhere.
    fn reach(&self) -> Reach {
        REACH
    }

    /// Bytes that one record may have, which may be known only when a session has begun. What is longer is refused before
    /// it is handed over, since a broker that refuses it would hold up everything behind it.
    fn max_record_bytes(&self) -> usize {
        usize::MAX
    }

    /// Connects, and makes on the broker what is not there yet. It may take as long as it likes: the journal gives up.
    async fn connect(&self) -> Result<Self::Session, Failure>;
}

/// A connection that works until something fails.
pub(super) trait Session: Sized + 'static {
    /// See [`tail`](Self::tail).
    type Tail: Tail;
    /// See [`listen`](Self::listen).
    type Ears: Ears;

    /// All records of the meta log, the oldest first.
    async fn meta(&self) -> Result<Vec<Bytes>, Failure>;

    /// Appends a record to the meta log. When this returns, [`meta`](Self::meta) gives it, to everybody.
    async fn append_meta(&self, record: Bytes) -> Result<(), Failure>;

    /// The run of the broker to which this session belongs.
    async fn run(&self) -> Result<Run, Failure> {
        Ok(Run::Unmarked)
    }

    /// What the log has now.
    async fn bounds(&self) -> Result<Bounds, Failure>;

    /// One record of the log, if it is there.
    async fn get(&self, offset: u64) -> Result<Option<Bytes>, Failure>;

    /// Appends a batch to the log, in this order. `Ok`: all of it is there, as safe as the broker was asked to keep it.
    /// `Err`: perhaps some of it is. What is there then is its beginning: no record is, unless those before it are.
    async fn publish(&self, batch: &[Bytes]) -> Result<(), Failure>;

    /// Follows the log from behind an offset (0 from its beginning), which is not higher than [`Bounds::last`]. What
    /// has been trimmed is passed over where offsets show that.
    async fn tail(&self, after: u64) -> Result<Self::Tail, Failure>;

    /// Tells everybody who listens, ourselves perhaps included. It may be lost.
    async fn whisper(&self, message: Bytes) -> Result<(), Failure>;

    /// Listens to what is whispered from now on.
    async fn listen(&self) -> Result<Self::Ears, Failure>;
}

/// The log, record by record.
pub(super) trait Tail: 'static {
    /// The next records, at least one and not more than some hundreds, as soon as there is any. While there is none it
    /// waits, or now and then returns an empty batch.
    async fn next(&mut self) -> Result<Vec<Record>, Failure>;
}

/// What is whispered.
pub(super) trait Ears: 'static {
    /// The next message.
    async fn next(&mut self) -> Result<Bytes, Failure>;
}

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Its place, at least 1. A broker that counts from 0 is off by one.
    pub(super) offset: u64,
    /// Its content. It owns its bytes: a slice of a read buffer would keep all of the buffer alive.
    pub(super) bytes: Bytes,
}

/// What a broker tells of its own restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Run {
    /// It keeps what it has taken through them, or does not tell of them.
    Unmarked,
    /// They may have cost it the end of the log. The name is that of the present run, and of no other.
    Named(String),
}

/// What the log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The oldest record that is still there, or where offsets have holes one before it; `last + 1` if none is, and 1 if
    /// nothing was trimmed.
    pub(super) first: u64,
    /// The newest record that was ever there, trimmed or not; 0 if none was.
    pub(super) last: u64,
}

/// Why a session has ended, or did not begin: a clause for the log, without the password of the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failure(String);

impl Failure {
    pub(super) fn new(what: impl Display) -> Self {
        Failure(what.to_string())
    }
}
