//! The counting behind the ledger: what one delivery, one departure, one refusal means.

use std::ops::Range;

use super::{Completion, Counts, Role};
use crate::broadcasts::Broadcasts;
use crate::checker::{Checker, Verdict};
use crate::plan::Until;
use crate::stamp::Stamp;
use crate::times::Times;

/// Everything but the bytes.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) checker: Checker,
    pub(super) broadcasts: Broadcasts,
    pub(super) counts: Counts,
    /// The client that each sender is, if it is one of ours.
    pub(super) sender_clients: Vec<Option<usize>>,
    /// How each client takes part, if it does.
    pub(super) roles: Vec<Option<Role>>,
    pub(super) prompt: u32,
    pub(super) patient: u32,
    /// Messages due in this interval are in the histograms.
    pub(super) measured: Range<u64>,
    pub(super) to_each: Times,
    pub(super) to_last: Times,
    pub(super) closed_loop: Option<Until>,
    /// Senders of a closed loop, once for each message that was delivered.
    pub(super) may_proceed: Vec<usize>,
    /// Filled if there are members elsewhere.
    pub(super) completions: Option<Vec<Completion>>,
}

impl Books {
    pub(super) fn set_role(&mut self, client: usize, role: Option<Role>) {
        let former = std::mem::replace(&mut self.roles[client], role);
        let count = |role, of| u32::from(role == Some(of));
        self.prompt = self.prompt + count(role, Role::Prompt) - count(former, Role::Prompt);
        self.patient = self.patient + count(role, Role::Patient) - count(former, Role::Patient);
    }

    /// `client` begins with what is said from now on; a visitor with whatever it hears first.
    pub(super) fn welcome(&mut self, client: usize, role: Role) {
        if role == Role::Visitor {
            return self.checker.restart(client);
        }
        for sender in 0..self.sender_clients.len() {
            self.checker.give_up(client, sender, self.broadcasts.sent_by(sender), |_| {});
        }
    }

    pub(super) fn leave(&mut self, client: usize) {
        let Some(role) = self.roles[client] else { return };
        self.set_role(client, None);
        if role == Role::Visitor {
            let jumped = self.checker.give_up_jumped(client);
            self.counts.lost += jumped;
            self.counts.expected += jumped;
            return;
        }
        let Books { checker, broadcasts, counts, closed_loop, may_proceed, .. } = self;
        for sender in 0..self.sender_clients.len() {
            let sent = broadcasts.sent_by(sender);
            checker.give_up(client, sender, sent, |number| {
                counts.lost += 1;
                let complete = role == Role::Prompt && broadcasts.settle(sender, number);
                if complete && *closed_loop == Some(Until::Last) {
                    may_proceed.push(sender);
                }
            });
        }
    }

    /// One more message of `sender`; returns its number.
    pub(super) fn begin(&mut self, sender: usize) -> u32 {
        self.counts.expected += u64::from(self.prompt + self.patient);
        self.broadcasts.send(sender, self.prompt)
    }

    /// `sender`, if it is elsewhere, has sent `total` messages at least.
    #[cold]
    pub(super) fn learn(&mut self, sender: usize, total: u32) {
        if self.sender_clients.get(sender) == Some(&None) {
            while self.broadcasts.sent_by(sender) < total {
                self.begin(sender);
            }
        }
    }

    pub(super) fn refuse(&mut self, sender: usize, number: u32) {
        let sent = self.broadcasts.sent_by(sender);
        if number >= sent {
            return;
        }
        self.counts.refused += 1;
        for client in 0..self.roles.len() {
            let role = self.roles[client];
            if !matches!(role, Some(Role::Prompt | Role::Patient)) {
                continue;
            }
            // Whoever waits for it goes on to the next.
            self.checker.heard(client, sender, number, sent);
            self.counts.expected -= 1;
            if role == Some(Role::Prompt) && self.broadcasts.settle(sender, number) && self.closed_loop.is_some() {
                self.may_proceed.push(sender);
            }
        }
    }

    /// `client` has heard the message with `stamp` at `now`; `in_order` tells whether its position was higher.
    #[inline]
    pub(super) fn count(&mut self, client: usize, stamp: Stamp, now: u64, in_order: bool) {
        let sender = stamp.sender as usize;
        let mut sent = self.broadcasts.sent_by(sender);
        if stamp.number >= sent && self.completions.is_some() {
            self.learn(sender, stamp.number.saturating_add(1));
            sent = self.broadcasts.sent_by(sender);
        }
        match self.checker.heard(client, sender, stamp.number, sent) {
            Verdict::InOrder => self.counts.disordered += u64::from(!in_order),
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
        match self.roles[client] {
            Some(Role::Prompt) => {}
            Some(Role::Visitor) => {
                self.counts.expected += 1;
                return;
            }
            _ => return,
        }
        let measured = self.measured.contains(&stamp.scheduled);
        let latency = now.saturating_sub(stamp.scheduled);
        if measured {
            self.to_each.record(latency);
        }
        let complete = self.broadcasts.settle(sender, stamp.number);
        if complete && measured {
            self.to_last.record(latency);
            if let Some(completions) = &mut self.completions {
                completions.push(Completion { sender: stamp.sender, number: stamp.number, latency });
            }
        }
        let proceed = match self.closed_loop {
            None => false,
            Some(Until::Last) => complete,
            Some(Until::Echo) => self.sender_clients[sender] == Some(client),
        };
        if proceed {
            self.may_proceed.push(sender);
        }
    }
}
