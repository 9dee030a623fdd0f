//! One interval, one for each rate, or as many as it takes to find the highest rate that holds.

use std::io;

use crate::assertion::{Assertion, Outcome};
use crate::clock::{self, MILLISECOND};
use crate::facts::{Facts, Interval};
use crate::figures;
use crate::fleet::Fleet;
use crate::plan::Pace;
use crate::report::{IntervalReport, SearchReport};
use crate::talk::Awaited;

/// A search ends when what held and what did not are as close as this.
const RESOLUTION: f64 = 1.07;
/// And after so many intervals in any case.
const MAX_ATTEMPTS: usize = 24;

/// What several processes have to agree on.
pub trait Together {
    /// `connected` clients of this process are in; gives when all of them begin, once that is known.
    fn begin(&mut self, connected: u32) -> io::Result<Option<u64>>;

    /// This process has sent `sent`, by sender; gives what all have sent, once that is known.
    fn sent(&mut self, sent: &[u32]) -> io::Result<Option<Vec<u32>>>;
}

/// There is only one process.
#[derive(Debug)]
pub struct Alone;

impl Together for Alone {
    fn begin(&mut self, _: u32) -> io::Result<Option<u64>> {
        Ok(Some(clock::now() + MILLISECOND))
    }

    fn sent(&mut self, sent: &[u32]) -> io::Result<Option<Vec<u32>>> {
        Ok(Some(sent.to_vec()))
    }
}

impl Fleet {
    pub(super) fn steady(&mut self, together: &mut dyn Together, facts: &mut Facts) -> io::Result<()> {
        let start = loop {
            match together.begin(facts.connected)? {
                Some(start) => break start,
                None => self.turn(clock::now() + 5 * MILLISECOND)?,
            }
        };
        self.idle_until(start.saturating_sub(MILLISECOND))?;
        let interval = self.talk_from(start, "measuring", self.plan.pace, &mut ())?;
        facts.resident_at_end = interval.resident;
        self.monitor.phase("waiting for the last deliveries");
        let sent = self.ledger.sent_by_each();
        let totals = loop {
            match together.sent(&sent)? {
                Some(totals) => break totals,
                None => self.turn(clock::now() + 5 * MILLISECOND)?,
            }
        };
        for (sender, total) in totals.into_iter().enumerate() {
            self.ledger.expect_from_elsewhere(sender, total);
        }
        facts.intervals.push(self.finish(interval, Awaited::Prompt)?);
        Ok(())
    }

    pub(super) fn steps(&mut self, rates: &[f64], facts: &mut Facts) -> io::Result<()> {
        for &per_second in rates {
            let interval = self.at_rate(per_second)?;
            facts.resident_at_end = interval.resident;
            facts.intervals.push(interval);
        }
        Ok(())
    }

    /// Finds the highest rate at which all of `hold` do, and nothing is lost. One hiccup of the machine is not the limit of
    /// a server, so a rate has to fail twice.
    pub(super) fn search(&mut self, hold: &[Assertion], facts: &mut Facts) -> io::Result<()> {
        let Pace::OnSchedule { per_second: mut rate } = self.plan.pace else { return Ok(()) };
        let mut held: Option<(f64, usize)> = None;
        let mut failed: Option<(f64, String, bool)> = None;
        let mut has_failed_here = false;
        for _ in 0..MAX_ATTEMPTS {
            let faults = self.ledger.counts().faults();
            let interval = self.at_rate(rate)?;
            facts.resident_at_end = interval.resident;
            let verdict = self.verdict(&interval, hold, self.ledger.counts().faults() - faults)?;
            let limited = IntervalReport::new(&interval, &self.plan.pids).generator.limited;
            facts.intervals.push(interval);
            match verdict {
                None => held = Some((rate, facts.intervals.len() - 1)),
                Some(_) if !has_failed_here => {
                    has_failed_here = true;
                    continue;
                }
                Some(why) => failed = Some((rate, why, limited)),
            }
            has_failed_here = false;
            rate = match (&held, &failed) {
                (Some((low, _)), Some((high, ..))) if high / low < RESOLUTION => break,
                (Some((low, _)), Some((high, ..))) => (low * high).sqrt(),
                (Some((low, _)), None) => low * 2.0,
                _ => rate / 2.0,
            }
            .round()
            .max(1.0);
            if self.ledger.receivers() == 0 || failed.as_ref().is_some_and(|(high, ..)| *high <= 1.0) {
                break;
            }
        }
        facts.principal = held.map(|(_, index)| index);
        facts.search = Some(SearchReport {
            held: hold.iter().map(ToString::to_string).collect(),
            rate: held.map(|(rate, _)| rate),
            failed_at: failed.as_ref().map(|(rate, ..)| *rate),
            because: failed.as_ref().map(|(_, why, _)| why.clone()),
            limited_by_generator: failed.is_some_and(|(.., limited)| limited),
        });
        Ok(())
    }

    fn at_rate(&mut self, per_second: f64) -> io::Result<Interval> {
        let interval = self.talk(&format!("{per_second} messages/s"), Pace::OnSchedule { per_second })?;
        let interval = self.finish(interval, Awaited::Prompt)?;
        // What an overload has left is no matter of the next rate.
        self.drain(Awaited::All)?;
        self.idle_until(clock::now() + self.plan.settle)?;
        Ok(interval)
    }

    /// Why a rate does not hold; nothing if it does.
    fn verdict(&self, interval: &Interval, hold: &[Assertion], faults: u64) -> io::Result<Option<String>> {
        if faults > 0 {
            return Ok(Some(format!("{faults} faults of delivery")));
        }
        if interval.unsent > 0 {
            return Ok(Some(format!("{} messages that the server did not read in time", interval.unsent)));
        }
        if !self.ledger.is_settled() {
            return Ok(Some("messages that had not come when the patience was over".into()));
        }
        let figures = figures::of_interval(&IntervalReport::new(interval, &self.plan.pids));
        for assertion in hold {
            match assertion.check(&figures) {
                Outcome::Holds => {}
                Outcome::Fails(value) => return Ok(Some(format!("{assertion}: it was {value:.0}"))),
                Outcome::Unknown(why) => return Err(io::Error::other(why)),
            }
        }
        Ok(None)
    }
}
