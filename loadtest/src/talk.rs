//! Talking: what is due is sent, on schedule or when something was delivered, and what is on its way is waited for.
//!
//! It keeps account of itself: time on the CPU less what was spent polling for nothing, and how late messages went out.
//! Without that, a slow generator would be taken for a slow server.

use std::io;

use crate::client::Phase;
use crate::clock::{self, MILLISECOND, SECOND};
use crate::facts::Interval;
use crate::fleet::Fleet;
use crate::frame::Opcode;
use crate::plan::Pace;
use crate::schedule::Schedule;

/// Servers get this long to close their side at the end.
const CLOSE_PATIENCE: u64 = 2 * SECOND;
/// After everything was delivered we listen this long for duplicates.
const DUPLICATE_PATIENCE: u64 = SECOND / 10;
/// A sender with more unsent bytes is given no more messages. They stay due, and their latency counts on.
const MAX_UNSENT_BYTES: usize = 1024 * 1024;

/// What is waited for at the end of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Everybody who is prompt has everything.
    Prompt,
    /// Everybody has, those that were slow or away included. The patience begins anew with everything that comes.
    All,
}

/// What happens between turns beside the talking.
pub trait Aside {
    /// Does what is due at `now`; returns when something is due again, in nanoseconds.
    fn act(&mut self, fleet: &mut Fleet, now: u64) -> u64;
}

/// Nothing happens.
impl Aside for () {
    fn act(&mut self, _: &mut Fleet, _: u64) -> u64 {
        u64::MAX
    }
}

impl Fleet {
    /// Sends and hears with `pace`, for the time of the plan, and gives what was measured in it.
    pub fn talk(&mut self, name: &str, pace: Pace) -> io::Result<Interval> {
        let start = clock::now() + MILLISECOND;
        self.talk_from(start, name, pace, &mut ())
    }

    /// Begins at `start`, and lets `aside` do something meanwhile.
    pub fn talk_from(&mut self, start: u64, name: &str, pace: Pace, aside: &mut dyn Aside) -> io::Result<Interval> {
        let measured = start + self.plan.warmup..start + self.plan.warmup + self.plan.measure;
        self.ledger.measure(measured.clone());
        self.monitor.begin(name, measured.clone());
        self.lag = Default::default();
        self.held_back_until = 0;
        let mut rate = None;
        match pace {
            Pace::Idle => {}
            Pace::OnSchedule { per_second } => {
                rate = Some(per_second);
                self.schedule = Schedule::new(start, measured.end, per_second);
            }
            Pace::ClosedLoop { window, .. } => {
                let senders = 0..self.plan.senders;
                self.may_proceed = senders.flat_map(|sender| (0..window).map(move |_| sender)).collect();
            }
        }

        let mut from = None;
        loop {
            let now = clock::now();
            if from.is_none() && now >= measured.start {
                from = Some(self.sample());
            }
            if now >= measured.end || self.ledger.receivers() == 0 {
                break;
            }
            self.ledger.take_may_proceed(&mut self.may_proceed);
            self.send_due(now);
            let boundary = if from.is_none() { measured.start } else { measured.end };
            let wake_at = match self.schedule.due() {
                // Who is held back is woken by its socket.
                Some(due) if due > now => boundary.min(due),
                _ => boundary,
            };
            let wake_at = wake_at.min(aside.act(self, now));
            self.turn(wake_at)?;
        }

        let to = self.sample();
        // A closed loop ends here; what was due on schedule is still sent.
        self.may_proceed.clear();
        self.send_due(measured.end);
        let unsent = std::mem::take(&mut self.schedule).count();
        self.ledger.count_unsent(unsent);
        let from = from.unwrap_or_else(|| to.clone());
        let worked = to.worked_since(&from);
        let resident = self.resident();
        let lag = std::mem::take(&mut self.lag);
        Ok(Interval { name: name.to_owned(), rate, from, to, unsent, lag, worked, resident, ..Interval::default() })
    }

    /// Hears what is still on its way, and completes `interval` by it.
    pub fn finish(&mut self, mut interval: Interval, awaited: Awaited) -> io::Result<Interval> {
        self.drain(awaited)?;
        (interval.to_each, interval.to_last) = self.ledger.take_times();
        interval.completions = self.ledger.take_completions();
        Ok(interval)
    }

    /// Sends what is due at `now`, and in a closed loop what may follow.
    pub(crate) fn send_due(&mut self, now: u64) {
        while let Some(due) = self.schedule.due() {
            let sender = (self.schedule.index() % self.plan.senders as u64) as usize;
            if due > now {
                break;
            }
            if self.is_held_back(sender) {
                self.held_back_until = now;
                break;
            }
            if self.send(sender, due) {
                self.lag.record(now - due.max(self.held_back_until.min(now)));
            }
            self.schedule.advance();
        }
        while let Some(sender) = self.may_proceed.pop() {
            self.send(sender, now);
        }
        while let Some(client) = self.dirty.pop() {
            self.flush(client);
        }
    }

    fn is_held_back(&self, sender: usize) -> bool {
        let client = self.ledger.client_of(sender);
        client.is_some_and(|client| self.clients[client].unsent_bytes() > MAX_UNSENT_BYTES)
    }

    /// Queues a message of `sender`, to be written together with others that are due; false if that talks elsewhere or no
    /// longer.
    pub(crate) fn send(&mut self, sender: usize, scheduled: u64) -> bool {
        let Some(client) = self.ledger.client_of(sender) else { return false };
        let payload = self.ledger.send(sender, scheduled);
        let payload = match &mut self.sayer {
            Some(sayer) => sayer.say(payload),
            None => payload,
        };
        self.clients[client].push(Opcode::Text, payload, self.masks.next());
        self.dirty.push(client);
        true
    }

    /// Hears what is still on its way.
    pub fn drain(&mut self, awaited: Awaited) -> io::Result<()> {
        let mut patience = clock::now() + self.plan.drain;
        let mut delivered = self.ledger.counts().delivered;
        while self.ledger.receivers() > 0 {
            match awaited {
                Awaited::Prompt if self.ledger.is_settled() => break,
                Awaited::All if self.ledger.is_complete() => break,
                _ => {}
            }
            let now = clock::now();
            let news = self.ledger.counts().delivered;
            if awaited == Awaited::All && news > delivered {
                (delivered, patience) = (news, now + self.plan.drain);
            }
            if now >= patience {
                return Ok(());
            }
            self.turn(patience.min(now + SECOND))?;
        }
        if self.ledger.counts().sent > 0 {
            self.idle_until(clock::now() + DUPLICATE_PATIENCE)?;
        }
        Ok(())
    }

    /// Says goodbye and waits a while for the server to do the same.
    pub fn close(&mut self) -> io::Result<()> {
        for place in 0..self.clients.len() {
            if self.clients[place].phase == Phase::Open {
                self.say_goodbye(place);
            }
        }
        let patience = clock::now() + CLOSE_PATIENCE;
        while clock::now() < patience && self.clients.iter().any(|client| client.phase == Phase::Leaving) {
            self.turn(patience)?;
        }
        Ok(())
    }
}
