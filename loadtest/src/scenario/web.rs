//! The site is asked while others chat.

use std::io;

use crate::client::Route;
use crate::clock;
use crate::facts::Facts;
use crate::fleet::Fleet;
use crate::plan::Scenario;
use crate::report::WebReport;
use crate::schedule::Schedule;
use crate::talk::{Aside, Awaited};
use crate::web::Web;

/// Asks what is due.
struct Asking;

impl Aside for Asking {
    fn act(&mut self, fleet: &mut Fleet, now: u64) -> u64 {
        fleet.web.as_mut().map_or(u64::MAX, |web| web.ask_due(now))
    }
}

impl Fleet {
    pub(super) fn beside_the_site(&mut self, scenario: &Scenario, facts: &mut Facts) -> io::Result<()> {
        let Scenario::Http { connections, per_second, path } = scenario else { return Ok(()) };
        let alone = self.talk("the chat alone", self.plan.pace)?;
        facts.intervals.push(self.finish(alone, Awaited::Prompt)?);

        let start = clock::now();
        let schedule = per_second.map(|rate| Schedule::new(start, start + self.plan.warmup + self.plan.measure, rate));
        let route = Route { server: self.servers[0], source: None, receive_buffer: None };
        self.attach(Web::new(
            route,
            self.secure[0].clone(),
            &self.plan.targets[0].authority,
            path,
            *connections,
            schedule,
        ))?;
        let beside = self.talk_from(start, "the site beside it", self.plan.pace, &mut Asking)?;
        let web = self.web.as_mut().map(Web::finish).unwrap_or_default();
        facts.resident_at_end = beside.resident;
        let seconds = (beside.to.at - start) as f64 / clock::SECOND as f64;
        facts.intervals.push(self.finish(beside, Awaited::Prompt)?);
        facts.web = Some(WebReport::new(&web, *connections as u64, path, seconds));
        Ok(())
    }
}
