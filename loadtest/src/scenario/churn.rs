//! Connections come and go while others talk.

use std::collections::VecDeque;
use std::io;

use crate::client::Phase;
use crate::clock;
use crate::facts::{ChurnFacts, Facts};
use crate::fleet::Fleet;
use crate::schedule::Schedule;
use crate::talk::{Aside, Awaited};

/// Visitors, each in the place that another has left.
struct Visitors {
    schedule: Schedule,
    stay: u64,
    free: VecDeque<usize>,
    /// Who goes when, in that order.
    leaving: VecDeque<(u64, usize)>,
    came: u64,
    crowded_out: u64,
}

impl Aside for Visitors {
    fn act(&mut self, fleet: &mut Fleet, now: u64) -> u64 {
        while let Some(&(at, place)) = self.leaving.front()
            && at <= now
        {
            self.leaving.pop_front();
            fleet.end_visit(place, place.is_multiple_of(2).then_some(()));
            self.free.push_back(place);
        }
        while let Some(due) = self.schedule.due()
            && due <= now
        {
            self.schedule.advance();
            // One that still says goodbye keeps its place a little longer.
            let free = self.free.iter().position(|&place| fleet.clients[place].phase == Phase::Gone);
            match free.and_then(|at| self.free.remove(at)) {
                Some(place) => {
                    fleet.open(place);
                    self.leaving.push_back((now + self.stay, place));
                    self.came += 1;
                }
                None => self.crowded_out += 1,
            }
        }
        let next = self.leaving.front().map_or(u64::MAX, |(at, _)| *at);
        next.min(self.schedule.due().unwrap_or(u64::MAX))
    }
}

impl Fleet {
    pub(super) fn churn(&mut self, visits: f64, stay: u64, facts: &mut Facts) -> io::Result<()> {
        let start = clock::now();
        let end = start + self.plan.warmup + self.plan.measure;
        let mut visitors = Visitors {
            schedule: Schedule::new(start, end, visits),
            stay,
            free: (self.members..self.clients.len()).collect(),
            leaving: VecDeque::new(),
            came: 0,
            crowded_out: 0,
        };
        let interval = self.talk_from(start, "connections come and go", self.plan.pace, &mut visitors)?;
        facts.resident_at_end = interval.resident;
        facts.intervals.push(self.finish(interval, Awaited::Prompt)?);
        for (_, place) in std::mem::take(&mut visitors.leaving) {
            self.end_visit(place, Some(()));
        }
        facts.churn = Some(ChurnFacts { came: visitors.came, crowded_out: visitors.crowded_out });
        Ok(())
    }
}
