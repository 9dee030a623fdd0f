//! What is sent and heard in a run, and what it means: the counts and histograms behind the report.
//!
//! [`Ledger::hear`] runs once for every message and member, so it is the price of everything that is measured.

use std::ops::Range;

use hdrhistogram::Histogram;

use crate::broadcasts::Broadcasts;
use crate::checker::{Checker, Verdict};
use crate::clock::SECOND;
use crate::options::Until;
use crate::stamp::{Odd, Stamp, Stamps};

/// Deliveries and their faults, over the whole run with its warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Deliveries they should have led to: for each message, the members that were there.
    pub expected: u64,
    /// First deliveries of a message to a member.
    pub delivered: u64,
    /// Expected deliveries that never came.
    pub lost: u64,
    /// Deliveries of what the member had already heard.
    pub duplicated: u64,
    /// First deliveries that came after a later message of the same sender.
    pub disordered: u64,
    /// Messages of this run that are not as they were sent.
    pub corrupt: u64,
    /// Messages that are not of this run.
    pub foreign: u64,
}

/// The books of one run.
#[derive(Debug)]
pub struct Ledger {
    stamps: Stamps,
    checker: Checker,
    broadcasts: Broadcasts,
    counts: Counts,
    /// The client that each sender is.
    sender_clients: Vec<usize>,
    /// Which clients take part.
    present: Vec<bool>,
    receivers: u32,
    /// Messages due in this interval are in the histograms.
    measured: Range<u64>,
    to_each: Histogram<u64>,
    to_last: Histogram<u64>,
    closed_loop: Option<Until>,
    /// Senders of a closed loop, once for each message that was delivered.
    may_proceed: Vec<usize>,
}

/// A histogram for times in nanoseconds: from a microsecond to an hour, to three digits.
pub fn time_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 3_600 * SECOND, 3).expect("these bounds are valid")
}

impl Ledger {
    /// For the run `run`, with payloads of `size` bytes, `clients` that listen and those in `sender_clients` that talk.
    pub fn new(run: u32, size: usize, clients: usize, sender_clients: Vec<usize>, closed_loop: Option<Until>) -> Self {
        Ledger {
            stamps: Stamps::new(run, size),
            checker: Checker::new(clients, sender_clients.len()),
            broadcasts: Broadcasts::new(sender_clients.len()),
            counts: Counts::default(),
            sender_clients,
            present: vec![false; clients],
            receivers: 0,
            measured: 0..0,
            to_each: time_histogram(),
            to_last: time_histogram(),
            closed_loop,
            may_proceed: Vec::new(),
        }
    }

    /// Messages that are due within `interval`, in nanoseconds, will be in the histograms.
    pub fn measure(&mut self, interval: Range<u64>) {
        self.measured = interval;
    }

    /// `client` takes part from now on.
    pub fn join(&mut self, client: usize) {
        self.present[client] = true;
        self.receivers += 1;
    }

    /// `client` takes part no longer: what it has not heard is lost.
    pub fn leave(&mut self, client: usize) {
        if !std::mem::replace(&mut self.present[client], false) {
            return;
        }
        self.receivers -= 1;
        for sender in 0..self.sender_clients.len() {
            let sent = self.broadcasts.sent_by(sender);
            self.checker.give_up(client, sender, sent, |number| {
                self.counts.lost += 1;
                let complete = self.broadcasts.settle(sender, number);
                if complete && self.closed_loop == Some(Until::Last) {
                    self.may_proceed.push(sender);
                }
            });
        }
    }

    /// `sender` sends a message that is due at `scheduled`; returns its payload.
    pub fn send(&mut self, sender: usize, scheduled: u64) -> &[u8] {
        let number = self.broadcasts.send(sender, self.receivers);
        self.counts.sent += 1;
        self.counts.expected += u64::from(self.receivers);
        self.stamps.encode(Stamp { sender: sender as u32, number, scheduled })
    }

    /// `client` has heard `payload` at `now`.
    #[inline]
    pub fn hear(&mut self, client: usize, payload: &[u8], now: u64) {
        let stamp = match self.stamps.decode(payload) {
            Ok(stamp) => stamp,
            Err(odd) => return self.count_odd(odd),
        };
        let sender = stamp.sender as usize;
        match self.checker.heard(client, sender, stamp.number, self.broadcasts.sent_by(sender)) {
            Verdict::InOrder => {}
            Verdict::Late => self.counts.disordered += 1,
            Verdict::Again => {
                self.counts.duplicated += 1;
                return;
            }
            Verdict::Unknown => return self.count_odd(Odd::Corrupt),
        }
        self.counts.delivered += 1;
        let measured = self.measured.contains(&stamp.scheduled);
        let latency = now.saturating_sub(stamp.scheduled);
        if measured {
            self.to_each.saturating_record(latency);
        }
        let complete = self.broadcasts.settle(sender, stamp.number);
        if complete && measured {
            self.to_last.saturating_record(latency);
        }
        let proceed = match self.closed_loop {
            None => false,
            Some(Until::Last) => complete,
            Some(Until::Echo) => self.sender_clients[sender] == client,
        };
        if proceed {
            self.may_proceed.push(sender);
        }
    }

    /// Whether every message has been heard by everybody.
    pub fn is_settled(&self) -> bool {
        self.broadcasts.open() == 0
    }

    /// How many clients take part.
    pub fn receivers(&self) -> u32 {
        self.receivers
    }

    /// The client that `sender` is, while it takes part.
    pub fn client_of(&self, sender: usize) -> Option<usize> {
        Some(self.sender_clients[sender]).filter(|&client| self.present[client])
    }

    /// Senders of a closed loop whose message was delivered, moved to the end of `out`.
    pub fn take_may_proceed(&mut self, out: &mut Vec<usize>) {
        out.append(&mut self.may_proceed);
    }

    /// What was counted so far; losses only of clients that have left.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The end of the run: what has not come until now is lost. Gives the counts and the times to each member and to
    /// the last one, in nanoseconds.
    pub fn close(mut self) -> (Counts, Histogram<u64>, Histogram<u64>) {
        for client in 0..self.present.len() {
            self.leave(client);
        }
        (self.counts, self.to_each, self.to_last)
    }

    #[cold]
    fn count_odd(&mut self, odd: Odd) {
        match odd {
            Odd::Foreign => self.counts.foreign += 1,
            Odd::Corrupt => self.counts.corrupt += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clients, of which the first and the last talk.
    fn ledger(closed_loop: Option<Until>) -> Ledger {
        let mut ledger = Ledger::new(1, 64, 3, vec![0, 2], closed_loop);
        (0..3).for_each(|client| ledger.join(client));
        ledger.measure(1_000_000..2_000_000);
        ledger
    }

    fn proceeding(ledger: &mut Ledger) -> Vec<usize> {
        let mut senders = Vec::new();
        ledger.take_may_proceed(&mut senders);
        senders
    }

    #[test]
    fn every_fault_is_counted() {
        let mut ledger = ledger(None);
        let first = ledger.send(0, 1_000_000).to_vec();
        let second = ledger.send(0, 1_500_000).to_vec();
        let never_sent = Stamps::new(1, 64).encode(Stamp { sender: 1, number: 0, scheduled: 1 }).to_vec();
        ledger.hear(0, &first, 1_100_000);
        ledger.hear(0, &second, 1_600_000);
        ledger.hear(1, &second, 1_600_000);
        ledger.hear(1, &first, 1_700_000);
        ledger.hear(1, &first, 1_700_000);
        ledger.hear(2, &second, 1_800_000);
        ledger.hear(2, &never_sent, 1_800_000);
        ledger.hear(2, b"hello", 1_800_000);
        assert!(!ledger.is_settled());
        let (counts, to_each, to_last) = ledger.close();
        let expected = Counts {
            sent: 2,
            expected: 6,
            delivered: 5,
            lost: 1,
            duplicated: 1,
            disordered: 1,
            corrupt: 1,
            foreign: 1,
        };
        assert_eq!(counts, expected);
        assert_eq!((to_each.len(), to_last.len()), (5, 1), "a message that was lost has no last member");
        assert!(to_last.equivalent(to_last.max(), 300_000));
    }

    #[test]
    fn only_what_is_due_in_the_interval_is_measured() {
        let mut ledger = ledger(None);
        for scheduled in [999_999, 1_000_000, 1_999_999, 2_000_000] {
            let payload = ledger.send(1, scheduled).to_vec();
            (0..3).for_each(|client| ledger.hear(client, &payload, scheduled + 5_000));
        }
        assert!(ledger.is_settled());
        let (counts, to_each, to_last) = ledger.close();
        assert_eq!((counts.delivered, counts.lost), (12, 0));
        assert_eq!((to_each.len(), to_last.len()), (6, 2));
    }

    #[test]
    fn closed_loops_proceed() {
        type Row<'a> = (&'a str, Option<Until>, [&'a [usize]; 3]);
        let table: [Row<'_>; 3] = [
            ("on schedule", None, [&[], &[], &[]]),
            ("until the last has it", Some(Until::Last), [&[], &[], &[1]]),
            ("until the echo", Some(Until::Echo), [&[], &[1], &[]]),
        ];
        for (name, closed_loop, expected) in table {
            let mut ledger = ledger(closed_loop);
            let payload = ledger.send(1, 0).to_vec();
            for (client, expected) in [1, 2, 0].into_iter().zip(expected) {
                ledger.hear(client, &payload, 1);
                assert_eq!(proceeding(&mut ledger), expected, "{name}, heard by {client}");
            }
        }
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let mut ledger = ledger(Some(Until::Last));
        let payload = ledger.send(0, 0).to_vec();
        ledger.hear(0, &payload, 1);
        ledger.hear(1, &payload, 1);
        ledger.leave(2);
        ledger.leave(2);
        assert_eq!(proceeding(&mut ledger), [0]);
        assert_eq!((ledger.client_of(0), ledger.client_of(1)), (Some(0), None));
        let payload = ledger.send(0, 0).to_vec();
        ledger.hear(0, &payload, 1);
        ledger.hear(1, &payload, 1);
        let (counts, ..) = ledger.close();
        assert_eq!((counts.expected, counts.delivered, counts.lost), (5, 4, 1));
    }
}
