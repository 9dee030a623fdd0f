//! What a run goes through, for each scenario: `open → settle → intervals → close`.

mod churn;
mod slow;
mod steady;
mod storm;
mod web;

use std::io;

use crate::clock;
use crate::facts::Facts;
use crate::fleet::{Fleet, MAX_HANDSHAKES};
use crate::plan::{Pace, Scenario};
use crate::process;

pub use steady::{Alone, Together};

impl Fleet {
    /// The whole run; `together` keeps step with other processes, if there are any.
    pub fn run(mut self, together: &mut dyn Together) -> io::Result<Facts> {
        let mut facts = Facts { resident_at_start: self.resident(), ..Facts::default() };
        match self.plan.scenario.clone() {
            Scenario::Storm { join: true, .. } => self.crowd(&mut facts)?,
            scenario => {
                if let Scenario::Slow { slow, .. } = scenario {
                    self.slow = slow;
                }
                self.let_in(&mut facts)?;
                if facts.connected > 0 {
                    self.check_say_rate()?;
                    match scenario {
                        Scenario::Steady => self.steady(together, &mut facts)?,
                        Scenario::Steps(rates) => self.steps(&rates, &mut facts)?,
                        Scenario::Search(hold) => self.search(&hold, &mut facts)?,
                        Scenario::Storm { behind, .. } => self.storm(behind, &mut facts)?,
                        Scenario::Slow { .. } => self.some_read_slowly(&scenario, &mut facts)?,
                        Scenario::Churn { visits, stay } => self.churn(visits, stay, &mut facts)?,
                        Scenario::Http { .. } => self.beside_the_site(&scenario, &mut facts)?,
                    }
                }
            }
        }
        self.monitor.phase("closing");
        self.close()?;
        facts.counts = self.ledger.close();
        facts.bytes_received = self.tally.bytes_received;
        facts.handshake_times = self.tally.handshake_times;
        facts.refusals = self.tally.refusals;
        facts.closes = self.tally.closes;
        facts.errors = self.tally.errors;
        facts.gaps = self.tally.gaps;
        facts.pings = self.tally.pings;
        (facts.points, facts.marks) = self.monitor.finish();
        Ok(facts)
    }

    /// Opens all members.
    fn let_in(&mut self, facts: &mut Facts) -> io::Result<()> {
        self.monitor.phase(&format!("opening {} connections", self.members));
        // Each instance has a backlog, and all processes come to each.
        let at_once = (MAX_HANDSHAKES * self.servers.len() / self.plan.part.of).max(1);
        facts.connect_time = self.open_all(0..self.members, at_once)?;
        self.idle_until(clock::now() + self.plan.settle)?;
        facts.connected = self.connected();
        facts.resident_connected = self.resident();
        facts.resident_of_generator = process::resident_bytes(std::process::id()).ok();
        Ok(())
    }

    /// A server that refuses most of what is said would only show how fast it refuses.
    fn check_say_rate(&self) -> io::Result<()> {
        let allowed = self.tally.say_per_second;
        if allowed <= 0.0 {
            return Ok(());
        }
        let highest = match (&self.plan.scenario, self.plan.pace) {
            (Scenario::Storm { .. }, _) | (_, Pace::Idle) => return Ok(()),
            (Scenario::Steps(rates), _) => rates.iter().copied().fold(0.0, f64::max),
            (Scenario::Search(_), _) | (_, Pace::ClosedLoop { .. }) => f64::INFINITY,
            (_, Pace::OnSchedule { per_second }) => per_second,
        };
        if highest <= allowed * self.plan.senders as f64 {
            return Ok(());
        }
        let more = if highest.is_finite() {
            format!("use at least {:.0} --senders, or ", (highest / allowed).ceil())
        } else {
            String::new()
        };
        Err(io::Error::other(format!(
            "this server lets a member of chat.v1 say {allowed} texts per second: {more}start it with --say-rate 0"
        )))
    }
}
