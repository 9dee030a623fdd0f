//! What a run has shown: as text for people, as JSON for programs, as an exit code for both.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::SECOND;
use crate::ledger::{Counts, time_histogram};
use crate::options::{Pace, Plan, Until};
use crate::process::CpuTime;

/// A generator that works more of its time than this is taken to be the limit of what was measured.
const BUSY_LIMIT: f64 = 0.95;
/// A generator that sends this late at the 99th percentile, in microseconds, as well.
const LAG_LIMIT_US: f64 = 5_000.0;

/// The state of both sides at one end of the measured interval. Times are nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// When it was taken.
    pub at: u64,
    /// Deliveries until then.
    pub delivered: u64,
    /// CPU time of the generator's thread.
    pub thread_cpu: u64,
    /// How much of it was polling in vain.
    pub spun: u64,
    /// CPU time of the server.
    pub server: Option<CpuTime>,
}

/// What the generator has found, before it is summed up.
#[derive(Debug)]
pub struct Facts {
    /// Nanoseconds from the first connection to the last handshake.
    pub connect_time: u64,
    /// Clients that took part when the talking began.
    pub connected: u32,
    /// Deliveries and faults.
    pub counts: Counts,
    /// Messages that were due but not sent, because the sockets of their senders were full.
    pub unsent: u64,
    /// Latency to each member.
    pub to_each: Histogram<u64>,
    /// Latency to the last member.
    pub to_last: Histogram<u64>,
    /// How late messages were sent.
    pub lag: Histogram<u64>,
    /// Duration of handshakes, from the first packet.
    pub handshake_times: Histogram<u64>,
    /// Clients that did not get in, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Clients that were thrown out, by reason.
    pub closes: BTreeMap<String, u64>,
    /// Pings that were answered.
    pub pings: u64,
    /// The beginning of the measured interval.
    pub from: Sample,
    /// Its end.
    pub to: Sample,
    /// The server's resident bytes before the first connection.
    pub resident_at_start: Option<u64>,
    /// And with all of them.
    pub resident_connected: Option<u64>,
    /// And when the talking was over.
    pub resident_at_end: Option<u64>,
}

impl Default for Facts {
    fn default() -> Self {
        Facts {
            connect_time: 0,
            connected: 0,
            counts: Counts::default(),
            unsent: 0,
            to_each: time_histogram(),
            to_last: time_histogram(),
            lag: time_histogram(),
            handshake_times: time_histogram(),
            refusals: BTreeMap::new(),
            closes: BTreeMap::new(),
            pings: 0,
            from: Sample::default(),
            to: Sample::default(),
            resident_at_start: None,
            resident_connected: None,
            resident_at_end: None,
        }
    }
}

/// The result of a run. The field names are those of the JSON file; units come last in them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of this program.
    pub version: &'static str,
    /// Whether everybody got in, stayed, and heard every message once, unchanged and in order.
    pub ok: bool,
    /// What was asked for.
    pub setup: Setup,
    /// How the clients got in.
    pub connect: Connect,
    /// Messages and deliveries of the whole run, warm-up included.
    pub messages: Messages,
    /// Deliveries within the measured interval.
    pub measured: Measured,
    /// From when a message was due to when each member had it.
    pub latency_each: Percentiles,
    /// From when a message was due to when the last member had it.
    pub latency_last: Percentiles,
    /// Clients that were thrown out, by reason.
    pub closes: BTreeMap<String, u64>,
    /// Pings of the server that were answered.
    pub pings: u64,
    /// What the measuring itself cost.
    pub generator: GeneratorCost,
    /// What it cost the server, with `--pid`.
    pub server: Option<ServerCost>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setup {
    /// Where the clients connected to.
    pub url: String,
    /// Sockets.
    pub clients: usize,
    /// How many of them talked.
    pub senders: usize,
    /// In words.
    pub pace: String,
    /// Messages per second of all senders, if on schedule.
    pub rate: Option<f64>,
    /// Payload of a message.
    pub size_bytes: usize,
}

/// How the clients got in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Connect {
    /// Clients that got in.
    pub connected: u32,
    /// Clients that did not, by reason.
    pub refused: BTreeMap<String, u64>,
    /// From the first connection to the last handshake.
    pub seconds: f64,
    /// Connections per second.
    pub per_second: f64,
    /// Duration of handshakes.
    pub handshake: Percentiles,
}

/// Messages and deliveries of the whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Messages {
    /// Messages sent.
    pub sent: u64,
    /// Messages that were due but could not be sent, because the server did not read.
    pub unsent: u64,
    /// Deliveries the sent ones should have led to.
    pub expected: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries of something the member had already heard.
    pub duplicated: u64,
    /// Deliveries after a later message of the same sender.
    pub disordered: u64,
    /// Messages that came with other bytes than they were sent with.
    pub corrupt: u64,
    /// Messages that were not of this run.
    pub foreign: u64,
}

/// Deliveries within the measured interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Its length.
    pub seconds: f64,
    /// Deliveries in it.
    pub delivered: u64,
    /// Deliveries per second.
    pub delivered_per_second: f64,
}

/// Percentiles of times, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
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
    /// Share of the time in which its thread worked, 0 to 1; polling in vain is no work.
    pub busy: f64,
    /// How late messages were sent, in microseconds.
    pub lag: Percentiles,
    /// Whether it, and not the server, was the limit.
    pub limited: bool,
}

/// What the run cost the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerCost {
    /// Its process.
    pub pid: u32,
    /// CPU time in the measured interval.
    pub cpu_seconds: f64,
    /// Share of it in the server's own code, the rest being the kernel's, to the clock tick.
    pub user_seconds: f64,
    /// Share of it in the kernel.
    pub system_seconds: f64,
    /// CPU time per time: 1 is a whole CPU.
    pub cpu_share: f64,
    /// Time it was ready to run but had no CPU, per time.
    pub waited_share: f64,
    /// CPU time for each delivered message, in microseconds.
    pub cpu_us_per_delivered: Option<f64>,
    /// Resident memory before the first connection.
    pub resident_bytes_at_start: Option<u64>,
    /// Resident memory with all clients, before the first message.
    pub resident_bytes_connected: Option<u64>,
    /// Resident memory when the talking was over.
    pub resident_bytes_at_end: Option<u64>,
    /// What the connections added, each.
    pub bytes_per_connection: Option<f64>,
}

impl Report {
    /// Sums up `facts` of a run of `plan`.
    pub fn new(plan: &Plan, facts: &Facts) -> Self {
        let seconds = (facts.to.at - facts.from.at) as f64 / SECOND as f64;
        let delivered = facts.to.delivered - facts.from.delivered;
        let counts = facts.counts;
        let faults = counts.lost + counts.duplicated + counts.disordered + counts.corrupt;
        let everybody = facts.connected as usize == plan.clients && facts.refusals.is_empty();
        let connect_seconds = facts.connect_time as f64 / SECOND as f64;
        Report {
            version: env!("CARGO_PKG_VERSION"),
            ok: everybody && facts.closes.is_empty() && faults == 0,
            setup: Setup::new(plan),
            connect: Connect {
                connected: facts.connected,
                refused: facts.refusals.clone(),
                seconds: connect_seconds,
                per_second: ratio(f64::from(facts.connected), connect_seconds),
                handshake: Percentiles::new(&facts.handshake_times),
            },
            messages: Messages {
                sent: counts.sent,
                unsent: facts.unsent,
                expected: counts.expected,
                delivered: counts.delivered,
                lost: counts.lost,
                duplicated: counts.duplicated,
                disordered: counts.disordered,
                corrupt: counts.corrupt,
                foreign: counts.foreign,
            },
            measured: Measured { seconds, delivered, delivered_per_second: ratio(delivered as f64, seconds) },
            latency_each: Percentiles::new(&facts.to_each),
            latency_last: Percentiles::new(&facts.to_last),
            closes: facts.closes.clone(),
            pings: facts.pings,
            generator: GeneratorCost::new(facts, seconds),
            server: plan.pid.and_then(|pid| ServerCost::new(pid, facts, seconds, delivered)),
        }
    }

    /// 0 if all went well, 1 if the server failed somebody.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }
}

impl Setup {
    fn new(plan: &Plan) -> Self {
        let (pace, rate) = match plan.pace {
            Pace::Idle => ("idle".to_owned(), None),
            Pace::OnSchedule { per_second } => (format!("{per_second} messages/s on schedule"), Some(per_second)),
            Pace::ClosedLoop { window, until } => {
                let until = match until {
                    Until::Last => "the last member has it",
                    Until::Echo => "its sender has heard it",
                };
                (format!("closed loop, {window} per sender until {until}"), None)
            }
        };
        let Plan { clients, senders, size, .. } = *plan;
        Setup { url: plan.target.to_string(), clients, senders, pace, rate, size_bytes: size }
    }
}

impl Percentiles {
    /// Of times in nanoseconds.
    pub fn new(times: &Histogram<u64>) -> Self {
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
    fn new(facts: &Facts, seconds: f64) -> Self {
        let worked = (facts.to.thread_cpu - facts.from.thread_cpu).saturating_sub(facts.to.spun - facts.from.spun);
        let busy = ratio(worked as f64 / SECOND as f64, seconds);
        let lag = Percentiles::new(&facts.lag);
        GeneratorCost { busy, lag, limited: busy > BUSY_LIMIT || lag.p99_us > LAG_LIMIT_US }
    }
}

impl ServerCost {
    fn new(pid: u32, facts: &Facts, seconds: f64, delivered: u64) -> Option<Self> {
        let used = facts.to.server?.since(facts.from.server?);
        let in_seconds = |nanoseconds: u64| nanoseconds as f64 / SECOND as f64;
        let per_connection = match (facts.resident_at_start, facts.resident_connected) {
            (Some(before), Some(after)) if facts.connected > 0 => {
                Some((after as f64 - before as f64) / f64::from(facts.connected))
            }
            _ => None,
        };
        Some(ServerCost {
            pid,
            cpu_seconds: in_seconds(used.total),
            user_seconds: in_seconds(used.user),
            system_seconds: in_seconds(used.system),
            cpu_share: ratio(in_seconds(used.total), seconds),
            waited_share: ratio(in_seconds(used.waited), seconds),
            cpu_us_per_delivered: (delivered > 0).then(|| used.total as f64 / 1e3 / delivered as f64),
            resident_bytes_at_start: facts.resident_at_start,
            resident_bytes_connected: facts.resident_connected,
            resident_bytes_at_end: facts.resident_at_end,
            bytes_per_connection: per_connection,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { setup, connect, messages, measured, generator, .. } = self;
        writeln!(
            f,
            "{}: {} clients, {} talking, {} bytes, {}",
            setup.url,
            grouped(setup.clients as u64),
            grouped(setup.senders as u64),
            setup.size_bytes,
            setup.pace
        )?;
        writeln!(
            f,
            "connect     {} in {:.2} s, {}/s; handshake {}",
            grouped(u64::from(connect.connected)),
            connect.seconds,
            grouped(connect.per_second as u64),
            connect.handshake
        )?;
        for (reason, clients) in &connect.refused {
            writeln!(f, "REFUSED     {}: {reason}", grouped(*clients))?;
        }
        for (reason, clients) in &self.closes {
            writeln!(f, "THROWN OUT  {}: {reason}", grouped(*clients))?;
        }
        if messages.sent > 0 {
            self.fmt_messages(f)?;
        }
        if self.pings > 0 {
            writeln!(f, "pings       {} answered", grouped(self.pings))?;
        }
        writeln!(
            f,
            "generator   {:.0} % busy; sent late by p99 {}, max {}",
            generator.busy * 100.0,
            time(generator.lag.p99_us),
            time(generator.lag.max_us)
        )?;
        if generator.limited {
            writeln!(
                f,
                "NOTICE      the generator was the limit here: rates and latencies are its own, not the server's"
            )?;
        }
        if messages.unsent > 0 {
            let unsent = grouped(messages.unsent);
            writeln!(f, "NOTICE      {unsent} messages were due but not sent: the server did not read fast enough")?;
        }
        if let Some(server) = &self.server {
            server.fmt_lines(f, measured.seconds)?;
        }
        f.write_str(if self.ok { "ok\n" } else { "FAILED\n" })
    }
}

impl Report {
    fn fmt_messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Messages { sent, expected, delivered, lost, duplicated, disordered, corrupt, foreign, .. } = self.messages;
        writeln!(f, "sent        {}, to be delivered {} times", grouped(sent), grouped(expected))?;
        writeln!(
            f,
            "delivered   {}; lost {}, duplicated {}, disordered {}, corrupt {}, foreign {}",
            grouped(delivered),
            grouped(lost),
            grouped(duplicated),
            grouped(disordered),
            grouped(corrupt),
            grouped(foreign)
        )?;
        writeln!(
            f,
            "rate        {} delivered/s over {:.2} s",
            grouped(self.measured.delivered_per_second as u64),
            self.measured.seconds
        )?;
        writeln!(f, "latency     to each member  {}", self.latency_each)?;
        writeln!(f, "            to the last one {}", self.latency_last)
    }
}

impl ServerCost {
    fn fmt_lines(&self, f: &mut fmt::Formatter<'_>, seconds: f64) -> fmt::Result {
        write!(
            f,
            "server      {:.2} s CPU in {seconds:.2} s ({:.0} %; user {:.2} s, system {:.2} s)",
            self.cpu_seconds,
            self.cpu_share * 100.0,
            self.user_seconds,
            self.system_seconds
        )?;
        match self.cpu_us_per_delivered {
            Some(cpu) => writeln!(f, ", {cpu:.3} µs per delivered message")?,
            None => writeln!(f)?,
        }
        let mib =
            |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
        write!(
            f,
            "memory      {} MiB at start, {} connected, {} at end",
            mib(self.resident_bytes_at_start),
            mib(self.resident_bytes_connected),
            mib(self.resident_bytes_at_end)
        )?;
        match self.bytes_per_connection {
            Some(bytes) => writeln!(f, "; {bytes:.0} bytes per connection"),
            None => writeln!(f),
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("-");
        }
        let [p50, p90, p99, p999, max] = [self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us].map(time);
        write!(f, "p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}")
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// A time in microseconds, with the unit that suits it.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let table = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, expected) in table {
            assert_eq!(grouped(number), expected);
        }
        let table = [(12.3, "12 µs"), (1_234.0, "1.23 ms"), (61_500_000.0, "61.50 s")];
        for (us, expected) in table {
            assert_eq!(time(us), expected);
        }
    }
}
