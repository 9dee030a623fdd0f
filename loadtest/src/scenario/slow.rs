//! A share of the members reads slowly or not at all, and nobody else should notice.

use std::io;

use crate::client::{Phase, Reading};
use crate::clock::{self, SECOND};
use crate::facts::{Facts, SlowFacts};
use crate::fleet::{Fleet, MAX_HANDSHAKES, TICK};
use crate::ledger::Role;
use crate::plan::{Dialect, Scenario};
use crate::talk::Awaited;

impl Fleet {
    pub(super) fn some_read_slowly(&mut self, scenario: &Scenario, facts: &mut Facts) -> io::Result<()> {
        let &Scenario::Slow { slow, stalled, bytes_per_second } = scenario else { return Ok(()) };
        let pace = self.plan.pace;
        let places = self.members - slow..self.members;
        let baseline = self.talk("all read", pace)?;
        let resident_baseline = baseline.resident;
        facts.intervals.push(self.finish(baseline, Awaited::All)?);

        let allowance = (bytes_per_second * TICK).div_ceil(SECOND) as usize;
        for (at, place) in places.clone().enumerate() {
            self.ledger.change_role(place, Role::Patient);
            self.set_reading(place, if at < stalled { Reading::Stopped } else { Reading::Throttled(allowance) });
        }
        // In chat.v1 who is thrown out meanwhile comes back to what it has missed.
        self.comes_back = if self.plan.dialect == Dialect::V1 { places.clone() } else { 0..0 };
        let loaded = self.talk("some read slowly", pace)?;
        let resident_loaded = loaded.resident;
        facts.intervals.push(self.finish(loaded, Awaited::Prompt)?);
        let counts = *self.ledger.counts();
        let missing = counts.expected.saturating_sub(counts.delivered + counts.lost);

        self.monitor.phase("the slow ones read on");
        let (began, before) = (clock::now(), self.sample());
        for place in places.clone() {
            self.set_reading(place, Reading::Eager);
        }
        let gone: Vec<usize> = places.filter(|&place| self.clients[place].phase == Phase::Gone).collect();
        let thrown_out = gone.len();
        if !self.comes_back.is_empty() {
            self.open_all(gone.into_iter(), MAX_HANDSHAKES)?;
        }
        self.drain(Awaited::All)?;
        let after = self.sample();
        facts.resident_at_end = self.resident();
        facts.slow = Some(SlowFacts {
            slow: slow as u64,
            stalled: stalled as u64,
            bytes_per_second,
            missing,
            thrown_out: thrown_out as u64,
            catch_up_time: clock::now() - began,
            catch_up_bytes: after.bytes_received - before.bytes_received,
            is_complete: self.ledger.is_complete() && self.ledger.counts().lost == counts.lost,
            resident_baseline,
            resident_loaded,
        });
        Ok(())
    }
}
