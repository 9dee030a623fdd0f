//! What the loop and the thread of the bus know of each other without asking.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::journal::contract::Event;

use super::Unready;

/// Events and about so many bytes that the loop has not taken, above which the log is not read.
const AHEAD: usize = 20_000;
const AHEAD_BYTES: usize = 16 << 20;

/// What both sides see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// One of the constants below.
    state: AtomicU8,
    pub(super) lag: AtomicU64,
    pub(super) reconnects: AtomicU64,
    /// Events that the loop has taken.
    taken: AtomicUsize,
    /// Bytes of their contents.
    taken_bytes: AtomicUsize,
    /// Events that had been handed on when the session had read everything that was missed.
    missed: AtomicUsize,
    /// The thread waits until more is taken.
    is_held: AtomicBool,
    took: Notify,
}

const AWAY: u8 = 0;
const BEHIND: u8 = 1;
const UP: u8 = 2;

impl Shared {
    pub(super) fn readiness(&self) -> Result<(), Unready> {
        match self.state.load(Ordering::Acquire) {
            AWAY => Err(Unready::Away),
            BEHIND => Err(Unready::Behind),
            // What was read may still be on its way, through the store perhaps.
            _ if self.is_taken(self.missed.load(Ordering::Acquire)) => Ok(()),
            _ => Err(Unready::Behind),
        }
    }

    /// Whether the loop has taken so many events. Both numbers wrap.
    fn is_taken(&self, given: usize) -> bool {
        given.wrapping_sub(self.taken.load(Ordering::SeqCst)).cast_signed() <= 0
    }

    pub(super) fn went_away(&self) {
        self.state.store(AWAY, Ordering::Relaxed);
    }

    /// The bus is reached, and what was missed is being read.
    pub(super) fn fell_behind(&self) {
        self.state.store(BEHIND, Ordering::Relaxed);
    }

    /// Everything that was missed has been read, and so many events were handed on until then.
    pub(super) fn came_up(&self, given: usize) {
        self.missed.store(given, Ordering::Release);
        self.state.store(UP, Ordering::Release);
    }

    /// Whether the loop has so much to take that nothing more is read, of so many events and bytes handed on.
    pub(super) fn is_behind(&self, given: usize, given_bytes: usize) -> bool {
        given.wrapping_sub(self.taken.load(Ordering::SeqCst)) > AHEAD
            || given_bytes.wrapping_sub(self.taken_bytes.load(Ordering::SeqCst)) > AHEAD_BYTES
    }

    /// Waits until the loop has taken something, if `is_ahead` still holds when the loop knows that somebody waits.
    ///
    /// This side sets the flag and then reads the numbers, the loop changes the numbers and then reads the flag. One of
    /// the two must see what the other has done, so both need the one order of all of it.
    pub(super) async fn hold(&self, is_ahead: impl Fn() -> bool) {
        let _held = Held::new(&self.is_held);
        if is_ahead() {
            self.took.notified().await;
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    /// Whether what is published comes back.
    pub(super) fn is_up(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UP
    }

    /// The loop has taken an event of which [`weight`] gives the bytes.
    pub(super) fn took(&self, bytes: usize) {
        self.taken_bytes.fetch_add(bytes, Ordering::SeqCst);
        self.taken.fetch_add(1, Ordering::SeqCst);
        if self.is_held.load(Ordering::SeqCst) {
            self.took.notify_one();
        }
    }
}

/// As long as it is there, somebody waits. A session may end in the midst of that.
struct Held<'a>(&'a AtomicBool);

impl<'a> Held<'a> {
    fn new(is_held: &'a AtomicBool) -> Self {
        is_held.store(true, Ordering::SeqCst);
        Held(is_held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Bytes that an event of the log holds.
pub(super) fn weight(event: &Event) -> usize {
    match event {
        Event::Entry(entry) | Event::Repeat(entry) => entry.content.bytes().len(),
        Event::Refused { draft, .. } => draft.content.bytes().len(),
        _ => 0,
    }
}
