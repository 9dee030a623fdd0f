//! What is sent and heard in a run, and what it means: the counts and histograms behind the report.
//!
//! [`Ledger::hear_again`] runs for every message and member, so it is the price of everything that is measured.

mod books;

use std::ops::Range;

use books::Books;
use serde::{Deserialize, Serialize};

use crate::broadcasts::Broadcasts;
use crate::checker::Checker;
use crate::order::Order;
use crate::plan::Until;
use crate::stamp::{Odd, Stamp, Stamps};
use crate::times::Times;
use crate::transcript::{Heard, Transcript};

/// Deliveries and their faults, over the whole run with its warm-up. The names are those of the JSON file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Messages that were due but could not be sent, because the server did not read.
    pub unsent: u64,
    /// Messages that the server has refused, and said so.
    pub refused: u64,
    /// Deliveries they should have led to: for each message, the members that were there.
    pub expected: u64,
    /// First deliveries of a message to a member.
    pub delivered: u64,
    /// Expected deliveries that never came.
    pub lost: u64,
    /// Deliveries of what the member had already heard.
    pub duplicated: u64,
    /// First deliveries that came after a later message of the same sender, or of a higher position.
    pub disordered: u64,
    /// Positions at which members have heard different messages.
    pub disagreed: u64,
    /// Messages of this run that are not as they were sent.
    pub corrupt: u64,
    /// Messages that are not of this run.
    pub foreign: u64,
}

impl Counts {
    /// Everything that should not have happened.
    pub fn faults(&self) -> u64 {
        self.refused + self.lost + self.duplicated + self.disordered + self.disagreed + self.corrupt
    }

    /// The sum of two parts of a run.
    pub fn add(&mut self, other: &Counts) {
        let Counts { sent, unsent, refused, expected, delivered, lost, duplicated, .. } = *other;
        self.sent += sent;
        self.unsent += unsent;
        self.refused += refused;
        self.expected += expected;
        self.delivered += delivered;
        self.lost += lost;
        self.duplicated += duplicated;
        self.disordered += other.disordered;
        self.disagreed += other.disagreed;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
    }
}

/// How a client takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It hears everything, and how soon is what is measured.
    Prompt,
    /// It hears everything at last, but nobody waits for it: it reads slowly, or is away.
    Patient,
    /// It comes and goes: from its first message on it hears everything until it goes.
    Visitor,
}

/// When a message was complete, for somebody who knows more of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Who sent it.
    pub sender: u32,
    /// Which of its messages.
    pub number: u32,
    /// From when it was due, in nanoseconds.
    pub latency: u64,
}

/// The books of one run.
#[derive(Debug)]
pub struct Ledger {
    stamps: Stamps,
    transcript: Transcript,
    order: Order,
    books: Books,
}

impl Ledger {
    /// For the run `run`, with payloads of `size` bytes, `clients` that listen and those in `sender_clients` that talk;
    /// a sender without a client talks elsewhere.
    pub fn new(
        run: u32,
        size: usize,
        clients: usize,
        sender_clients: Vec<Option<usize>>,
        closed_loop: Option<Until>,
    ) -> Self {
        Ledger {
            stamps: Stamps::new(run, size),
            transcript: Transcript::new(clients),
            order: Order::new(clients),
            books: Books {
                checker: Checker::new(clients, sender_clients.len()),
                broadcasts: Broadcasts::new(sender_clients.len()),
                counts: Counts::default(),
                sender_clients,
                roles: vec![None; clients],
                prompt: 0,
                patient: 0,
                measured: 0..0,
                to_each: Times::default(),
                to_last: Times::default(),
                closed_loop,
                may_proceed: Vec::new(),
                completions: None,
            },
        }
    }

    /// There are members and senders elsewhere, with books of their own.
    pub fn share(&mut self) {
        self.books.completions = Some(Vec::new());
    }

    /// Messages that are due within `interval`, in nanoseconds, will be in the histograms, which are empty again.
    pub fn measure(&mut self, interval: Range<u64>) {
        self.books.measured = interval;
        self.take_times();
    }

    /// The times to each member and to the last one since [`Ledger::measure`].
    pub fn take_times(&mut self) -> (Times, Times) {
        (std::mem::take(&mut self.books.to_each), std::mem::take(&mut self.books.to_last))
    }

    /// The times to each member so far.
    pub fn to_each(&self) -> &Times {
        &self.books.to_each
    }

    /// When messages were complete here, if there are members elsewhere.
    pub fn take_completions(&mut self) -> Vec<Completion> {
        self.books.completions.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// `client` takes part from now on. One that has only been away goes on as what it was.
    pub fn join(&mut self, client: usize, role: Role) {
        if self.books.roles[client].is_some() {
            return;
        }
        if role == Role::Visitor || self.books.counts.sent > 0 {
            self.transcript.restart(client);
        }
        self.books.welcome(client, role);
        self.books.set_role(client, Some(role));
    }

    /// `client` is away from now on, but will hear everything: it comes back to any place.
    pub fn stay_away(&mut self, client: usize) {
        self.change_role(client, Role::Patient);
        self.transcript.restart(client);
    }

    /// `client`, if it takes part, takes part otherwise; nothing should be under way.
    pub fn change_role(&mut self, client: usize, role: Role) {
        if self.books.roles[client].is_some() {
            self.books.set_role(client, Some(role));
        }
    }

    /// `client` takes part no longer: what it has not heard is lost.
    pub fn leave(&mut self, client: usize) {
        self.books.leave(client);
    }

    /// `sender` sends a message that is due at `scheduled`; returns its payload.
    pub fn send(&mut self, sender: usize, scheduled: u64) -> &[u8] {
        let number = self.books.begin(sender);
        self.books.counts.sent += 1;
        self.stamps.encode(Stamp { sender: sender as u32, number, scheduled })
    }

    /// The server has refused the message that begins with `front`, its stamp up to the number; nobody will hear it.
    pub fn refuse(&mut self, front: &[u8]) {
        let Some((sender, number)) = self.stamps.decode_front(front) else { return };
        self.books.refuse(sender as usize, number);
    }

    /// `sender` has sent `total` messages in all, elsewhere.
    pub fn expect_from_elsewhere(&mut self, sender: usize, total: u32) {
        self.books.learn(sender, total);
    }

    /// How many messages each sender has sent.
    pub fn sent_by_each(&self) -> Vec<u32> {
        (0..self.books.sender_clients.len()).map(|sender| self.books.broadcasts.sent_by(sender)).collect()
    }

    /// `client` has heard `bytes` at `now`: counts the whole frames at their front that others have heard just so, and
    /// returns how many bytes they have. The rest is to be taken apart and given to [`Ledger::hear`].
    #[inline]
    pub fn hear_again(&mut self, client: usize, bytes: &[u8], now: u64) -> usize {
        let (known, length) = self.transcript.recognise(client, bytes);
        for heard in known {
            self.books.count(client, heard.stamp, now, true);
        }
        if let Some(last) = known.last() {
            self.order.skip_to(client, last.position);
        }
        length
    }

    /// `client` has heard `payload` at `now`, which came in `frame`, if it came alone, at `position` if there are any.
    pub fn hear(&mut self, client: usize, payload: &[u8], frame: Option<&[u8]>, position: u64, now: u64) {
        match self.stamps.decode(payload) {
            Ok(stamp) => {
                let heard = Heard { stamp, position };
                if let Some(frame) = frame {
                    self.transcript.write_down(client, frame, heard);
                }
                if !self.order.agrees(heard) {
                    self.books.counts.disagreed += 1;
                }
                let in_order = self.order.follow(client, position);
                self.books.count(client, stamp, now, in_order);
            }
            Err(odd) => {
                self.order.skip_to(client, position);
                match odd {
                    Odd::Foreign => self.books.counts.foreign += 1,
                    Odd::Corrupt => self.books.counts.corrupt += 1,
                }
            }
        }
    }

    /// `client` is told that it has everything up to `position`.
    pub fn is_level(&mut self, client: usize, position: u64) {
        self.order.skip_to(client, position);
    }

    /// The position up to which `client` has heard; 0 if there are none.
    pub fn position(&self, client: usize) -> u64 {
        self.order.position(client)
    }

    /// Whether every message has been heard by everybody who is prompt.
    pub fn is_settled(&self) -> bool {
        self.books.broadcasts.open() == 0
    }

    /// Whether every message has been heard by everybody.
    pub fn is_complete(&self) -> bool {
        self.is_settled() && self.books.counts.expected <= self.books.counts.delivered + self.books.counts.lost
    }

    /// Whether `client` takes part, be it that it is away.
    pub fn is_part(&self, client: usize) -> bool {
        self.books.roles[client].is_some()
    }

    /// How many clients take part and do not just visit.
    pub fn receivers(&self) -> u32 {
        self.books.prompt + self.books.patient
    }

    /// The client that `sender` is, while it takes part.
    pub fn client_of(&self, sender: usize) -> Option<usize> {
        self.books.sender_clients[sender].filter(|&client| self.books.roles[client].is_some())
    }

    /// Senders of a closed loop whose message was delivered, moved to the end of `out`.
    pub fn take_may_proceed(&mut self, out: &mut Vec<usize>) {
        out.append(&mut self.books.may_proceed);
    }

    /// What was counted so far; losses only of clients that have left.
    pub fn counts(&self) -> &Counts {
        &self.books.counts
    }

    /// `messages` were due and not sent.
    pub fn count_unsent(&mut self, messages: u64) {
        self.books.counts.unsent += messages;
    }

    /// The end of the run: what has not come until now is lost.
    pub fn close(&mut self) -> Counts {
        for client in 0..self.books.roles.len() {
            self.leave(client);
        }
        self.books.counts
    }
}

#[cfg(test)]
mod tests;
