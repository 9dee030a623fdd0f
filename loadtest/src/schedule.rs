//! When messages are due.
//!
//! The times are fixed before the run: the k-th message is due k intervals after the start, whatever happened to those
//! before it. Latency counts from there, so a server that stalls cannot hide it by slowing the sender down.

use crate::clock::SECOND;

/// Due times at a fixed rate; by default there are none.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    start: u64,
    interval: f64,
    next: u64,
    end: u64,
}

impl Schedule {
    /// Messages from `start` on, in nanoseconds, `per_second` of them, none at `end` or later.
    pub fn new(start: u64, end: u64, per_second: f64) -> Self {
        Schedule { start, interval: SECOND as f64 / per_second, next: 0, end }
    }

    /// When the next message is due, in nanoseconds; `None` after the last.
    #[inline]
    pub fn due(&self) -> Option<u64> {
        let due = self.start + (self.next as f64 * self.interval) as u64;
        (due < self.end).then_some(due)
    }

    /// The index of the next message, counted over all senders.
    pub fn index(&self) -> u64 {
        self.next
    }

    /// How many messages have not been sent, now and later.
    pub fn count(mut self) -> u64 {
        let sent = self.next;
        while self.due().is_some() {
            self.advance();
        }
        self.next - sent
    }

    /// The next message was sent.
    pub fn advance(&mut self) {
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times() {
        let table: &[(&str, u64, u64, f64, &[u64])] = &[
            ("ten a second", 5, 5 + SECOND / 4, 10.0, &[5, 100_000_005, 200_000_005]),
            ("end is not included", 0, 2, SECOND as f64, &[0, 1]),
            ("slower than one a second", 0, 5 * SECOND, 0.5, &[0, 2 * SECOND, 4 * SECOND]),
            ("no time", 7, 7, 10.0, &[]),
        ];
        for (name, start, end, per_second, expected) in table {
            let mut schedule = Schedule::new(*start, *end, *per_second);
            let mut due = Vec::new();
            while let Some(time) = schedule.due() {
                due.push(time);
                schedule.advance();
            }
            assert_eq!(due, *expected, "{name}");
        }
    }

    #[test]
    fn an_odd_rate_does_not_drift() {
        let mut schedule = Schedule::new(0, 100_000 * SECOND, 3.0);
        for _ in 0..300 {
            schedule.advance();
        }
        assert_eq!(schedule.due(), Some(100 * SECOND));
        assert_eq!(schedule.index(), 300);
        assert_eq!(schedule.count(), 299_700);
        assert_eq!(Schedule::default().count(), 0);
    }
}
