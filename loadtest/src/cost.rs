//! Times as percentiles, and what a run has cost both sides.

use std::num::NonZero;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::clock::SECOND;
use crate::facts::{Facts, Interval};
use crate::process::Usage;
use crate::times::Times;

/// A generator that works more of its time than this is taken to be the limit of what was measured.
const BUSY_LIMIT: f64 = 0.95;
/// A generator that sends this late at the 99th percentile, in microseconds, as well.
const LAG_LIMIT_US: f64 = 5_000.0;
/// One that waits longer for a CPU, per time, shares the machine with too many others.
const WAITED_LIMIT: f64 = 0.2;
/// Where a broadcast takes this long to come to the last member, in seconds, the generator works in bursts: what counts is
/// how busy it is while one is under way.
const BURST: f64 = 0.05;

/// Percentiles of times, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many times were recorded.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// The 90th percentile.
    pub p90_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// What the measuring itself cost, within the measured interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GeneratorCost {
    /// Share of the time in which its thread worked, 0 to 1; polling in vain is no work. Of several processes it is that of
    /// the busiest, here and in what follows.
    pub busy: f64,
    /// Time it was ready to run but had no CPU, per time.
    pub waited_share: f64,
    /// CPU time of all its processes.
    pub cpu_seconds: f64,
    /// Resident memory of all its processes, with all clients.
    pub resident_bytes: Option<u64>,
    /// How late messages were sent, in microseconds.
    pub lag: Percentiles,
    /// Whether it, or the machine, was the limit, and not the server.
    pub limited: bool,
    /// What was the limit, in a sentence, if it was not the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
}

/// What the run cost the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerCost {
    /// Its processes, one for each instance. What follows is the sum of all.
    pub pids: Vec<u32>,
    /// CPU time in the measured interval.
    pub cpu_seconds: f64,
    /// Share of it in the server's own code, the rest being the kernel's, to the clock tick.
    pub user_seconds: f64,
    /// Share of it in the kernel.
    pub system_seconds: f64,
    /// CPU time per time: 1 is a whole CPU.
    pub cpu_share: f64,
    /// The same of the instance that used most.
    pub busiest_share: f64,
    /// Time it was ready to run but had no CPU, per time.
    pub waited_share: f64,
    /// CPU time for each delivered message, in microseconds.
    pub cpu_us_per_delivered: Option<f64>,
    /// How often it gave its CPU away to wait for something.
    pub voluntary_switches: u64,
    /// How often its CPU was taken away.
    pub involuntary_switches: u64,
    /// Resident memory before the first connection.
    pub resident_bytes_at_start: Option<u64>,
    /// Resident memory with all clients, before the first message.
    pub resident_bytes_connected: Option<u64>,
    /// Resident memory when the talking was over.
    pub resident_bytes_at_end: Option<u64>,
    /// What the connections added, each.
    pub bytes_per_connection: Option<f64>,
}

impl Percentiles {
    /// Of all that were recorded.
    pub fn new(times: &Times) -> Self {
        let times = times.histogram();
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            count: times.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: times.max() as f64 / 1e3,
        }
    }
}

impl GeneratorCost {
    pub(crate) fn new(interval: &Interval, seconds: f64, server: Option<&ServerCost>) -> Self {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_cpus(cpus as f64, interval, seconds, server)
    }

    fn with_cpus(cpus: f64, interval: &Interval, seconds: f64, server: Option<&ServerCost>) -> Self {
        let Interval { from, to, .. } = interval;
        let busy = ratio(in_seconds(to.worked_since(from)), seconds);
        let lag = Percentiles::new(&interval.lag);
        let waited_share = ratio(in_seconds(to.waited.saturating_sub(from.waited)), seconds);
        let cpu_seconds = in_seconds(interval.worked);
        let last = Percentiles::new(&interval.to_last).p50_us / 1e6;
        let under_way = (to.sent - from.sent) as f64 * last;
        let share = if last > BURST && under_way < seconds { ratio(under_way, seconds) } else { 1.0 };
        // Where both work all the time, the server is the limit: it decides how much there is to read.
        let server_is_idle = server.is_none_or(|server| server.busiest_share < BUSY_LIMIT * share);
        let together = cpu_seconds + server.map_or(0.0, |server| server.cpu_seconds);
        let is_busy = server_is_idle && busy + waited_share > BUSY_LIMIT * share || lag.p99_us > LAG_LIMIT_US;
        let verdict = if is_busy && waited_share > WAITED_LIMIT * share {
            Some(
                "this machine had no CPU for the generator: rates and latencies are those of a busy machine, not the \
                 server's",
            )
        } else if is_busy {
            Some("the generator was the limit here: rates and latencies are its own, not the server's")
        } else if server_is_idle && together > BUSY_LIMIT * share * seconds * cpus {
            Some(
                "server and generator together needed all CPUs of this machine: rates and latencies are those of a busy \
                 machine",
            )
        } else {
            None
        };
        let limited = verdict.is_some();
        GeneratorCost { busy, waited_share, cpu_seconds, resident_bytes: None, lag, limited, verdict }
    }
}

impl ServerCost {
    /// Nothing if there are no processes, or they could not be looked at.
    pub(crate) fn new(pids: &[u32], interval: &Interval, seconds: f64, delivered: u64) -> Option<Self> {
        let each = interval.to.servers.iter().zip(&interval.from.servers).map(|(now, then)| now.since(*then));
        let used = each.clone().reduce(Usage::plus)?;
        let busiest = each.map(|used| used.total).max().unwrap_or_default();
        Some(ServerCost {
            pids: pids.to_vec(),
            cpu_seconds: in_seconds(used.total),
            user_seconds: in_seconds(used.user),
            system_seconds: in_seconds(used.system),
            cpu_share: ratio(in_seconds(used.total), seconds),
            busiest_share: ratio(in_seconds(busiest), seconds),
            waited_share: ratio(in_seconds(used.waited), seconds),
            cpu_us_per_delivered: (delivered > 0).then(|| used.total as f64 / 1e3 / delivered as f64),
            voluntary_switches: used.voluntary_switches,
            involuntary_switches: used.involuntary_switches,
            resident_bytes_at_start: None,
            resident_bytes_connected: None,
            resident_bytes_at_end: interval.resident,
            bytes_per_connection: None,
        })
    }

    pub(crate) fn with_memory(mut self, facts: &Facts) -> Self {
        self.resident_bytes_at_start = facts.resident_at_start;
        self.resident_bytes_connected = facts.resident_connected;
        self.resident_bytes_at_end = facts.resident_at_end.or(self.resident_bytes_at_end);
        if let (Some(before), Some(after)) = (facts.resident_at_start, facts.resident_connected)
            && facts.connected > 0
        {
            self.bytes_per_connection = Some((after as f64 - before as f64) / f64::from(facts.connected));
        }
        self
    }
}

/// Nanoseconds as seconds.
pub(crate) fn in_seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND as f64
}

/// `part` of `whole`; nothing of nothing is 0.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Sample;

    #[test]
    fn who_was_the_limit() {
        const MS: u64 = SECOND / 1_000;
        // Ten messages in ten seconds. Per message: until the last one had it, work of the generator, its wait for a CPU,
        // work of the two instances.
        type Row<'a> = (&'a str, u64, u64, u64, [u64; 2], &'a str);
        let table: &[Row<'_>] = &[
            ("a rest between small broadcasts", 1, 1, 0, [1, 0], ""),
            ("always busy", 1, 990, 0, [10, 0], "the generator"),
            ("both always busy", 1, 990, 0, [0, 990], ""),
            ("a large broadcast, heard at once", 500, 100, 0, [490, 0], ""),
            ("a large broadcast that is read slowly", 500, 490, 0, [100, 100], "the generator"),
            ("both busy while one is under way", 500, 490, 0, [490, 100], ""),
            ("no CPU while one is under way", 500, 100, 390, [100, 100], "this machine had no CPU"),
            ("all three take turns", 500, 330, 0, [330, 330], "server and generator"),
        ];
        for (name, last, worked, waited, servers, verdict) in table {
            let used = |total: u64| Usage { total: 10 * total * MS, ..Usage::default() };
            let mut interval = Interval { worked: 10 * worked * MS, ..Interval::default() };
            interval.from.servers = vec![Usage::default(); 2];
            interval.to = Sample {
                at: 10 * SECOND,
                sent: 10,
                thread_cpu: interval.worked,
                waited: 10 * waited * MS,
                servers: servers.map(used).to_vec(),
                ..Sample::default()
            };
            (0..10).for_each(|_| interval.to_last.record(last * MS));
            let server = ServerCost::new(&[1, 2], &interval, 10.0, 10).unwrap();
            assert_eq!((server.cpu_seconds * 100.0).round() as u64, servers[0] + servers[1], "{name}");
            let generator = GeneratorCost::with_cpus(2.0, &interval, 10.0, Some(&server));
            let found = generator.verdict.unwrap_or_default();
            assert!(found.starts_with(verdict) && found.is_empty() == verdict.is_empty(), "{name}: {generator:?}");
            assert_eq!(generator.limited, generator.verdict.is_some(), "{name}");
        }
    }
}
