//! What a run has shown, as numbers: the fields of the JSON file, and the exit code.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::SECOND;
use crate::ledger::Counts;
use crate::options::{Pace, Plan, Until};
use crate::process::CpuTime;
use crate::times::Times;

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
    /// How long it was ready to run, but another process had its CPU.
    pub waited: u64,
    /// CPU time of the server.
    pub server: Option<CpuTime>,
}

/// What the generator has found, before it is summed up.
#[derive(Debug, Default)]
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
    pub to_each: Times,
    /// Latency to the last member.
    pub to_last: Times,
    /// How late messages were sent.
    pub lag: Times,
    /// Duration of handshakes, from the first packet.
    pub handshake_times: Times,
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
    /// Time it was ready to run but had no CPU, per time.
    pub waited_share: f64,
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
        let server = plan.pid.and_then(|pid| ServerCost::new(pid, facts, seconds, delivered));
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
            generator: GeneratorCost::new(facts, seconds, server.as_ref()),
            server,
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
    fn new(facts: &Facts, seconds: f64, server: Option<&ServerCost>) -> Self {
        let worked = (facts.to.thread_cpu - facts.from.thread_cpu).saturating_sub(facts.to.spun - facts.from.spun);
        let busy = ratio(worked as f64 / SECOND as f64, seconds);
        let lag = Percentiles::new(&facts.lag);
        let waited_share = ratio((facts.to.waited - facts.from.waited) as f64 / SECOND as f64, seconds);
        // Where both work all the time, the server is the limit: it decides how much there is to read.
        let server_is_idle = server.is_none_or(|server| server.cpu_share < BUSY_LIMIT);
        let limited = busy + waited_share > BUSY_LIMIT && server_is_idle || lag.p99_us > LAG_LIMIT_US;
        GeneratorCost { busy, waited_share, lag, limited }
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

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
