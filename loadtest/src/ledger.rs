//! What is sent and heard in a run, and what it means: the counts and histograms behind the report.
//!
//! [`Ledger::hear_again`] runs for every message and member, so it is the price of everything that is measured.

use std::ops::Range;

use crate::broadcasts::Broadcasts;
use crate::checker::{Checker, Verdict};
use crate::options::Until;
use crate::stamp::{Odd, Stamp, Stamps};
use crate::times::Times;
use crate::transcript::Transcript;

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
    transcript: Transcript,
    books: Books,
}

#[derive(Debug)]
struct Books {
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
    to_each: Times,
    to_last: Times,
    closed_loop: Option<Until>,
    /// Senders of a closed loop, once for each message that was delivered.
    may_proceed: Vec<usize>,
}

impl Ledger {
    /// For the run `run`, with payloads of `size` bytes, `clients` that listen and those in `sender_clients` that talk.
    pub fn new(run: u32, size: usize, clients: usize, sender_clients: Vec<usize>, closed_loop: Option<Until>) -> Self {
        Ledger {
            stamps: Stamps::new(run, size),
            transcript: Transcript::new(clients),
            books: Books {
                checker: Checker::new(clients, sender_clients.len()),
                broadcasts: Broadcasts::new(sender_clients.len()),
                counts: Counts::default(),
                sender_clients,
                present: vec![false; clients],
                receivers: 0,
                measured: 0..0,
                to_each: Times::default(),
                to_last: Times::default(),
                closed_loop,
                may_proceed: Vec::new(),
            },
        }
    }

    /// Messages that are due within `interval`, in nanoseconds, will be in the histograms.
    pub fn measure(&mut self, interval: Range<u64>) {
        self.books.measured = interval;
    }

    /// `client` takes part from now on.
    pub fn join(&mut self, client: usize) {
        self.books.present[client] = true;
        self.books.receivers += 1;
    }

    /// `client` takes part no longer: what it has not heard is lost.
    pub fn leave(&mut self, client: usize) {
        if !std::mem::replace(&mut self.books.present[client], false) {
            return;
        }
        let Books { checker, broadcasts, counts, receivers, closed_loop, may_proceed, sender_clients, .. } =
            &mut self.books;
        *receivers -= 1;
        for sender in 0..sender_clients.len() {
            let sent = broadcasts.sent_by(sender);
            checker.give_up(client, sender, sent, |number| {
                counts.lost += 1;
                let complete = broadcasts.settle(sender, number);
                if complete && *closed_loop == Some(Until::Last) {
                    may_proceed.push(sender);
                }
            });
        }
    }

    /// `sender` sends a message that is due at `scheduled`; returns its payload.
    pub fn send(&mut self, sender: usize, scheduled: u64) -> &[u8] {
        let number = self.books.broadcasts.send(sender, self.books.receivers);
        self.books.counts.sent += 1;
        self.books.counts.expected += u64::from(self.books.receivers);
        self.stamps.encode(Stamp { sender: sender as u32, number, scheduled })
    }

    /// `client` has heard `bytes` at `now`: counts the whole frames at their front that others have heard just so, and
    /// returns how many bytes they have. The rest is to be taken apart and given to [`Ledger::hear`].
    #[inline]
    pub fn hear_again(&mut self, client: usize, bytes: &[u8], now: u64) -> usize {
        let (stamps, known) = self.transcript.recognise(client, bytes);
        for &stamp in stamps {
            self.books.count(client, stamp, now);
        }
        known
    }

    /// `client` has heard `payload` at `now`, which came in `frame`.
    pub fn hear(&mut self, client: usize, payload: &[u8], frame: &[u8], now: u64) {
        match self.stamps.decode(payload) {
            Ok(stamp) => {
                self.transcript.write_down(client, frame, stamp);
                self.books.count(client, stamp, now);
            }
            Err(Odd::Foreign) => self.books.counts.foreign += 1,
            Err(Odd::Corrupt) => self.books.counts.corrupt += 1,
        }
    }

    /// Whether every message has been heard by everybody.
    pub fn is_settled(&self) -> bool {
        self.books.broadcasts.open() == 0
    }

    /// How many clients take part.
    pub fn receivers(&self) -> u32 {
        self.books.receivers
    }

    /// The client that `sender` is, while it takes part.
    pub fn client_of(&self, sender: usize) -> Option<usize> {
        Some(self.books.sender_clients[sender]).filter(|&client| self.books.present[client])
    }

    /// Senders of a closed loop whose message was delivered, moved to the end of `out`.
    pub fn take_may_proceed(&mut self, out: &mut Vec<usize>) {
        out.append(&mut self.books.may_proceed);
    }

    /// What was counted so far; losses only of clients that have left.
    pub fn counts(&self) -> Counts {
        self.books.counts
    }

    /// The end of the run: what has not come until now is lost. Gives the counts and the times to each member and to
    /// the last one.
    pub fn close(mut self) -> (Counts, Times, Times) {
        for client in 0..self.books.present.len() {
            self.leave(client);
        }
        (self.books.counts, self.books.to_each, self.books.to_last)
    }
}

impl Books {
    /// `client` has heard the message with `stamp` at `now`.
    #[inline]
    fn count(&mut self, client: usize, stamp: Stamp, now: u64) {
        let sender = stamp.sender as usize;
        match self.checker.heard(client, sender, stamp.number, self.broadcasts.sent_by(sender)) {
            Verdict::InOrder => {}
            Verdict::Late => self.counts.disordered += 1,
            Verdict::Again => {
                self.counts.duplicated += 1;
                return;
            }
            Verdict::Unknown => {
                self.counts.corrupt += 1;
                return;
            }
        }
        self.counts.delivered += 1;
        let measured = self.measured.contains(&stamp.scheduled);
        let latency = now.saturating_sub(stamp.scheduled);
        if measured {
            self.to_each.record(latency);
        }
        let complete = self.broadcasts.settle(sender, stamp.number);
        if complete && measured {
            self.to_last.record(latency);
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

    /// What the generator does with a frame; what it has before its payload is no matter here.
    fn hear(ledger: &mut Ledger, client: usize, payload: &[u8], now: u64) {
        if ledger.hear_again(client, payload, now) == 0 {
            ledger.hear(client, payload, payload, now);
        }
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
        hear(&mut ledger, 0, &first, 1_100_000);
        hear(&mut ledger, 0, &second, 1_600_000);
        hear(&mut ledger, 1, &second, 1_600_000);
        hear(&mut ledger, 1, &first, 1_700_000);
        hear(&mut ledger, 1, &first, 1_700_000);
        hear(&mut ledger, 2, &second, 1_800_000);
        hear(&mut ledger, 2, &never_sent, 1_800_000);
        hear(&mut ledger, 2, b"hello", 1_800_000);
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
        let (to_each, to_last) = (to_each.histogram(), to_last.histogram());
        assert_eq!((to_each.len(), to_last.len()), (5, 1), "a message that was lost has no last member");
        assert!(to_last.equivalent(to_last.max(), 300_000));
    }

    #[test]
    fn only_what_is_due_in_the_interval_is_measured() {
        let mut ledger = ledger(None);
        for scheduled in [999_999, 1_000_000, 1_999_999, 2_000_000] {
            let payload = ledger.send(1, scheduled).to_vec();
            (0..3).for_each(|client| hear(&mut ledger, client, &payload, scheduled + 5_000));
        }
        assert!(ledger.is_settled());
        let (counts, to_each, to_last) = ledger.close();
        assert_eq!((counts.delivered, counts.lost), (12, 0));
        let (to_each, to_last) = (to_each.histogram(), to_last.histogram());
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
                hear(&mut ledger, client, &payload, 1);
                assert_eq!(proceeding(&mut ledger), expected, "{name}, heard by {client}");
            }
        }
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let mut ledger = ledger(Some(Until::Last));
        let payload = ledger.send(0, 0).to_vec();
        hear(&mut ledger, 0, &payload, 1);
        hear(&mut ledger, 1, &payload, 1);
        ledger.leave(2);
        ledger.leave(2);
        assert_eq!(proceeding(&mut ledger), [0]);
        assert_eq!((ledger.client_of(0), ledger.client_of(1)), (Some(0), None));
        let payload = ledger.send(0, 0).to_vec();
        hear(&mut ledger, 0, &payload, 1);
        hear(&mut ledger, 1, &payload, 1);
        let (counts, ..) = ledger.close();
        assert_eq!((counts.expected, counts.delivered, counts.lost), (5, 4, 1));
    }
}
