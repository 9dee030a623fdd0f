//! All come at once: back to what they have missed, or for the first time.

use std::io;

use crate::clock::{self, MILLISECOND, SECOND};
use crate::facts::{Facts, Interval, StormFacts};
use crate::fleet::Fleet;
use crate::plan::Dialect;
use crate::process;
use crate::talk::Awaited;

/// Handshakes under way at once: fewer than servers for many clients let wait, so that it is them who are measured and not
/// the kernel's patience with a full backlog, which is a second.
const AT_ONCE: usize = 1024;
/// After everybody is in, what the server tells them of each other is waited for so long.
const ECHO_PATIENCE: u64 = 3 * SECOND;

impl Fleet {
    pub(super) fn storm(&mut self, behind: u32, facts: &mut Facts) -> io::Result<()> {
        let senders: Vec<usize> = self.plan.sender_clients().into_iter().flatten().collect();
        let away: Vec<usize> = (0..self.members).filter(|place| !senders.contains(place)).collect();
        self.monitor.phase(&format!("{} drop", away.len()));
        for &place in &away {
            match self.plan.dialect {
                Dialect::V1 => self.cut(place),
                Dialect::Raw => self.forsake(place),
            }
        }
        self.idle_until(clock::now() + self.plan.settle)?;

        self.monitor.phase(&format!("{behind} messages are said meanwhile"));
        let start = clock::now();
        self.ledger.measure(start..u64::MAX);
        for number in 0..behind {
            self.send(number as usize % self.plan.senders, start);
        }
        self.send_due(start);
        self.drain(Awaited::Prompt)?;
        let goal = senders.iter().map(|&place| self.ledger.position(place)).max().unwrap_or_default();

        let storm = self.let_back(&away, goal, Some(behind))?;
        facts.intervals.push(storm.0);
        facts.storm = Some(storm.1);
        facts.resident_at_end = self.resident();

        // They are in only if they hear what is said now.
        self.monitor.phase("a word to everybody");
        self.send(0, clock::now());
        self.send_due(0);
        self.drain(Awaited::All)
    }

    /// Nobody was there before.
    pub(super) fn crowd(&mut self, facts: &mut Facts) -> io::Result<()> {
        let (interval, storm) = self.let_back(&Vec::from_iter(0..self.members), 0, None)?;
        facts.connect_time = storm.last;
        facts.intervals.push(interval);
        facts.storm = Some(storm);
        facts.connected = self.connected();
        facts.resident_connected = self.resident();
        facts.resident_of_generator = process::resident_bytes(std::process::id()).ok();
        facts.resident_at_end = self.resident();
        Ok(())
    }

    /// Lets `places` in and waits until each has heard everything up to the position `goal`.
    fn let_back(&mut self, places: &[usize], goal: u64, behind: Option<u32>) -> io::Result<(Interval, StormFacts)> {
        self.monitor.phase(&format!("{} come at once", places.len()));
        let from = self.sample();
        self.returns.begin(places.iter().copied(), goal, clock::now());
        self.open_all(places.iter().copied(), AT_ONCE)?;
        let mut patience = clock::now() + self.plan.drain;
        let mut left = self.returns.left();
        while left > 0 && clock::now() < patience {
            self.turn(patience.min(clock::now() + 100 * MILLISECOND))?;
            if self.returns.left() < left {
                left = self.returns.left();
                patience = clock::now() + self.plan.drain;
            }
        }
        let to = self.sample();
        self.monitor.phase("what they are told of each other");
        self.idle_until(clock::now() + ECHO_PATIENCE)?;
        let settled = self.sample();
        let (times, last) = self.returns.take();
        let facts = StormFacts {
            clients: places.len() as u64,
            behind,
            arrived: (places.len() - self.returns.left()) as u64,
            times,
            last,
            bytes: to.bytes_received - from.bytes_received,
            bytes_settled: settled.bytes_received - from.bytes_received,
            cpu_settled: (!settled.servers.is_empty()).then(|| settled.cpu_of_servers_since(&from)),
        };
        let worked = to.worked_since(&from);
        let resident = self.resident();
        Ok((Interval { name: "storm".into(), from, to, worked, resident, ..Interval::default() }, facts))
    }
}
