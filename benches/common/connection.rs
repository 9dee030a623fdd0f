//! What every turn touches of a connection beside its protocol: its outbox and its timer.

use std::hint::black_box;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat_app::net::outbox::{Front, MAX_SLICES, Outbox};
use chat_app::net::timers::Timers;

/// An outbox, and what is pushed into it.
pub struct Mailbox {
    outbox: Outbox,
    batch: Bytes,
}

impl Mailbox {
    /// For batches of so many bytes.
    pub fn for_batches_of(length: usize) -> Self {
        Mailbox { outbox: Outbox::default(), batch: vec![b'x'; length].into() }
    }

    /// Queues so many batches and takes off what each write would take: everything it is offered.
    pub fn turn(&mut self, batches: usize) {
        for _ in 0..batches {
            self.outbox.push(black_box(&self.batch).clone());
        }
        while !self.outbox.is_empty() {
            let taken = match self.outbox.front() {
                Front::One(bytes) => bytes.len(),
                Front::Several => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let filled = self.outbox.fill(&mut slices);
                    slices[..filled].iter().map(|slice| slice.len()).sum()
                }
                Front::File(_) => unreachable!("only bytes were pushed"),
            };
            self.outbox.advance(black_box(taken));
        }
    }
}

/// The timers of so many connections, as they stand after a while: due at different times within half a minute.
pub struct Clockwork {
    timers: Timers,
    now: Instant,
    connections: u32,
    next: u32,
    due: Vec<u32>,
}

impl Clockwork {
    /// All timers are set.
    pub fn of(connections: u32) -> Self {
        let now = Instant::now();
        let mut timers = Timers::new(now);
        for slot in 0..connections {
            timers.set(slot, now + Duration::from_secs(30) * slot / connections);
        }
        Clockwork { timers, now, connections, next: 0, due: Vec::new() }
    }

    /// A connection has been heard of, so that its timer is due later.
    pub fn put_off(&mut self) {
        self.next = (self.next + 7_919) % self.connections;
        self.timers.set(black_box(self.next), self.now + Duration::from_secs(30));
    }

    /// A turn after so much time: whoever is due is set anew, and it is found how long the loop may sleep.
    pub fn turn(&mut self, later: Duration) {
        self.now += later;
        self.timers.expire(self.now, &mut self.due);
        for slot in self.due.drain(..) {
            self.timers.set(slot, self.now + Duration::from_secs(30));
        }
        black_box(self.timers.next_deadline());
    }
}
