//! What a run has shown, as numbers: the fields of the JSON file, and the exit code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assertion::{Assertion, Outcome, Unit};
use crate::cost::{GeneratorCost, Percentiles, ServerCost, in_seconds, ratio};
use crate::facts::{ChurnFacts, Facts, Interval, SlowFacts, StormFacts};
use crate::figures;
use crate::ledger::Counts;
use crate::monitor::{Mark, Point};
use crate::plan::{Dialect, Pace, Plan, Scenario, Until};
use crate::times::Times;
use crate::web::WebFacts;

/// The quantiles that are plotted.
const CURVE: [f64; 16] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999, 1.0];

/// The result of a run. The field names are those of the JSON file; units come last in them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of this program.
    pub version: &'static str,
    /// Whether everybody got in, stayed, and heard every message once, unchanged and in order, and all assertions hold.
    pub ok: bool,
    /// What was asked for.
    pub setup: Setup,
    /// How the clients got in.
    pub connect: Connect,
    /// Messages and deliveries of the whole run, warm-up included.
    pub messages: Counts,
    /// Deliveries within the measured interval.
    pub measured: Measured,
    /// From when a message was due to when each member had it.
    pub latency_each: Percentiles,
    /// From when a message was due to when the last member had it.
    pub latency_last: Percentiles,
    /// Clients that were thrown out, by reason.
    pub closes: BTreeMap<String, u64>,
    /// What the server has refused to do, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Members that were told that something they have missed does not come.
    pub gaps: u64,
    /// Pings of the server that were answered.
    pub pings: u64,
    /// Bytes that the members have received, handshakes included.
    pub bytes_received: u64,
    /// What the measuring itself cost.
    pub generator: GeneratorCost,
    /// What it cost the server, with `--pid`; all instances together, if there are several.
    pub server: Option<ServerCost>,
    /// All intervals of the run; the figures above are those of one of them.
    pub intervals: Vec<IntervalReport>,
    /// Of `storm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<StormReport>,
    /// Of `slow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowReport>,
    /// Of `churn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<ChurnFacts>,
    /// Of `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<WebReport>,
    /// Of a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// What was asserted, and what came of it.
    pub assertions: Vec<Asserted>,
    /// All figures by name, as assertions and `loadtest diff` use them.
    pub figures: BTreeMap<String, FigureReport>,
    /// The run over time.
    pub points: Vec<Point>,
    /// What began when.
    pub marks: Vec<Mark>,
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FigureReport {
    /// In its unit.
    pub value: f64,
    /// What it counts in.
    pub unit: Unit,
}

/// One assertion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asserted {
    /// As it was written.
    pub assertion: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setup {
    /// What the run was called.
    pub scenario: &'static str,
    /// Where the clients connected to.
    pub url: String,
    /// How they spoke.
    pub dialect: &'static str,
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
    /// Processes of the generator.
    pub processes: usize,
    /// Whose certificates were believed, with `wss://`: `system`, `file` or `unchecked`.
    pub certificates: Option<&'static str>,
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

/// Deliveries within the measured interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Its length.
    pub seconds: f64,
    /// Messages sent in it.
    pub sent: u64,
    /// Deliveries in it.
    pub delivered: u64,
    /// Deliveries per second.
    pub delivered_per_second: f64,
}

/// One interval of talking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntervalReport {
    /// What it was for.
    pub name: String,
    /// Messages per second, if on schedule.
    pub rate: Option<f64>,
    /// Messages that were due but not sent.
    pub unsent: u64,
    /// Deliveries.
    pub measured: Measured,
    /// To each member.
    pub latency_each: Percentiles,
    /// To the last member.
    pub latency_last: Percentiles,
    /// Quantiles and times in microseconds, for a curve.
    pub curve_each: Vec<(f64, f64)>,
    /// The same to the last member.
    pub curve_last: Vec<(f64, f64)>,
    /// What the measuring itself cost.
    pub generator: GeneratorCost,
    /// What it cost the server.
    pub server: Option<ServerCost>,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// What had to hold.
    pub held: Vec<String>,
    /// The highest rate at which it did.
    pub rate: Option<f64>,
    /// The lowest rate at which it did not.
    pub failed_at: Option<f64>,
    /// Why not.
    pub because: Option<String>,
    /// Whether that was the generator's limit.
    pub limited_by_generator: bool,
}

/// How long it took until all were there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StormReport {
    /// Clients that came at once.
    pub clients: u64,
    /// Messages that each had missed; nothing if nobody was there before.
    pub behind: Option<u32>,
    /// Clients that have everything.
    pub arrived: u64,
    /// When each had, from when the first was let in.
    pub caught_up: Percentiles,
    /// When the last one had.
    pub last_seconds: f64,
    /// Bytes that all received until then.
    pub bytes: u64,
    /// Bytes that all received with what they are told of each other afterwards.
    pub bytes_settled: u64,
    /// The same for each.
    pub bytes_per_client: f64,
    /// CPU time of the server with that.
    pub cpu_seconds: Option<f64>,
}

/// What slow readers did to the others, and to themselves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlowReport {
    /// Members that read slowly or not at all.
    pub slow: u64,
    /// How many of them read nothing.
    pub stalled: u64,
    /// What the others take per second.
    pub bytes_per_second: u64,
    /// 99th percentile of the latency while all read.
    pub p99_us_baseline: f64,
    /// The same of those that read, while others did not.
    pub p99_us: f64,
    /// How much longer that is, as a factor.
    pub ratio: f64,
    /// And as a difference.
    pub added_us: f64,
    /// Deliveries that the slow ones had not had when the load ended.
    pub missing: u64,
    /// How many of them had been thrown out by then.
    pub thrown_out: u64,
    /// How long they read on until they had everything, or nothing came any more.
    pub catch_up_seconds: f64,
    /// Bytes they received meanwhile.
    pub catch_up_bytes: u64,
    /// Whether they have everything, in order.
    pub complete: bool,
    /// Resident memory of the server while all read.
    pub resident_bytes_baseline: Option<u64>,
    /// And at the end of the interval in which some did not.
    pub resident_bytes_loaded: Option<u64>,
}

/// How the site answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WebReport {
    /// Connections that asked.
    pub connections: u64,
    /// What they asked for.
    pub path: String,
    /// Good answers.
    pub answered: u64,
    /// Good answers per second.
    pub per_second: f64,
    /// Bytes of all answers.
    pub bytes: u64,
    /// Everything else, by what it was.
    pub failed: BTreeMap<String, u64>,
    /// From when a request was due to when its answer was whole.
    pub latency: Percentiles,
}

impl Report {
    /// Sums up `facts` of a run of `plan`, of which `assertions` are expected.
    pub fn new(plan: &Plan, facts: &Facts, assertions: &[Assertion]) -> Self {
        let intervals: Vec<IntervalReport> =
            facts.intervals.iter().map(|interval| IntervalReport::new(interval, &plan.pids)).collect();
        let principal = match facts.principal {
            Some(index) => intervals[index].clone(),
            None => intervals.last().cloned().unwrap_or_else(|| IntervalReport::new(&Interval::default(), &plan.pids)),
        };
        let everybody = facts.connected as usize == plan.clients && facts.refusals.is_empty();
        let connect_seconds = in_seconds(facts.connect_time);
        let storm = facts.storm.as_ref().map(StormReport::new);
        let slow = facts.slow.as_ref().and_then(|slow| SlowReport::new(slow, &intervals));
        let web_failed = facts.web.as_ref().is_some_and(|web| !web.failed.is_empty());
        let parts = storm.as_ref().is_none_or(|storm| storm.arrived == storm.clients)
            && slow.as_ref().is_none_or(|slow| slow.complete)
            && !web_failed;
        // A search goes on until something fails, so its faults are no fault.
        let faults = if facts.search.is_some() { 0 } else { facts.counts.faults() };
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION"),
            ok: everybody && facts.closes.is_empty() && faults == 0 && facts.gaps == 0 && parts,
            setup: Setup::new(plan),
            connect: Connect {
                connected: facts.connected,
                refused: facts.refusals.clone(),
                seconds: connect_seconds,
                per_second: ratio(f64::from(facts.connected), connect_seconds),
                handshake: Percentiles::new(&facts.handshake_times),
            },
            messages: facts.counts,
            measured: principal.measured,
            latency_each: principal.latency_each,
            latency_last: principal.latency_last,
            closes: facts.closes.clone(),
            errors: facts.errors.clone(),
            gaps: facts.gaps,
            pings: facts.pings,
            bytes_received: facts.bytes_received,
            generator: GeneratorCost { resident_bytes: facts.resident_of_generator, ..principal.generator },
            server: principal.server.map(|server| server.with_memory(facts)),
            intervals,
            storm,
            slow,
            churn: facts.churn.clone(),
            http: facts.web.clone(),
            search: facts.search.clone(),
            assertions: Vec::new(),
            figures: BTreeMap::new(),
            points: facts.points.clone(),
            marks: facts.marks.clone(),
        };
        report.judge(assertions);
        report
    }

    fn judge(&mut self, assertions: &[Assertion]) {
        let figures = figures::of(self);
        for assertion in assertions {
            let found = match assertion.check(&figures) {
                Outcome::Holds => None,
                Outcome::Fails(value) => {
                    let unit = figures.iter().find(|figure| assertion.names(figure)).map_or(Unit::Count, |it| it.unit);
                    Some(format!("it was {}", unit.show(value)))
                }
                Outcome::Unknown(why) => Some(why),
            };
            self.ok &= found.is_none();
            self.assertions.push(Asserted { assertion: assertion.to_string(), holds: found.is_none(), found });
        }
        self.figures = figures
            .into_iter()
            .map(|figure| (figure.name, FigureReport { value: figure.value, unit: figure.unit }))
            .collect();
    }

    /// 0 if all went well, 1 if the server failed somebody.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }
}

impl Setup {
    fn new(plan: &Plan) -> Self {
        let (pace, rate) = match (&plan.scenario, plan.pace) {
            (Scenario::Storm { join: true, .. }, _) => ("all come at once".to_owned(), None),
            (Scenario::Storm { behind, .. }, _) => (format!("{behind} messages while all are away"), None),
            (Scenario::Steps(rates), _) => (format!("{rates:?} messages/s one after another"), None),
            (Scenario::Search(_), _) => ("search for the highest rate".to_owned(), None),
            (_, Pace::Idle) => ("idle".to_owned(), None),
            (_, Pace::OnSchedule { per_second }) => (format!("{per_second} messages/s on schedule"), Some(per_second)),
            (_, Pace::ClosedLoop { window, until }) => {
                let until = match until {
                    Until::Last => "the last member has it",
                    Until::Echo => "its sender has heard it",
                };
                (format!("closed loop, {window} per sender until {until}"), None)
            }
        };
        let urls: Vec<String> = plan.targets.iter().map(ToString::to_string).collect();
        let dialect = match plan.dialect {
            Dialect::Raw => "raw",
            Dialect::V1 => "chat.v1",
        };
        let Plan { name, clients, senders, size, .. } = *plan;
        Setup {
            scenario: name,
            url: urls.join(" "),
            dialect,
            clients,
            senders,
            pace,
            rate,
            size_bytes: size,
            processes: plan.part.of,
            certificates: plan.tls.as_ref().map(|(trust, _)| trust.word()),
        }
    }
}

impl IntervalReport {
    /// Sums up `interval`, in which the processes `pids` were the server.
    pub fn new(interval: &Interval, pids: &[u32]) -> Self {
        let Interval { from, to, .. } = interval;
        let seconds = in_seconds(to.at - from.at);
        let delivered = to.delivered - from.delivered;
        let server = ServerCost::new(pids, interval, seconds, delivered);
        IntervalReport {
            name: interval.name.clone(),
            rate: interval.rate,
            unsent: interval.unsent,
            measured: Measured {
                seconds,
                sent: to.sent - from.sent,
                delivered,
                delivered_per_second: ratio(delivered as f64, seconds),
            },
            latency_each: Percentiles::new(&interval.to_each),
            latency_last: Percentiles::new(&interval.to_last),
            curve_each: curve(&interval.to_each),
            curve_last: curve(&interval.to_last),
            generator: GeneratorCost::new(interval, seconds, server.as_ref()),
            server,
        }
    }
}

impl StormReport {
    fn new(facts: &StormFacts) -> Self {
        StormReport {
            clients: facts.clients,
            behind: facts.behind,
            arrived: facts.arrived,
            caught_up: Percentiles::new(&facts.times),
            last_seconds: in_seconds(facts.last),
            bytes: facts.bytes,
            bytes_settled: facts.bytes_settled,
            bytes_per_client: ratio(facts.bytes_settled as f64, facts.clients as f64),
            cpu_seconds: facts.cpu_settled.map(in_seconds),
        }
    }
}

impl SlowReport {
    fn new(facts: &SlowFacts, intervals: &[IntervalReport]) -> Option<Self> {
        let [baseline, loaded] = intervals else { return None };
        let (before, after) = (baseline.latency_each.p99_us, loaded.latency_each.p99_us);
        Some(SlowReport {
            slow: facts.slow,
            stalled: facts.stalled,
            bytes_per_second: facts.bytes_per_second,
            p99_us_baseline: before,
            p99_us: after,
            ratio: ratio(after, before),
            added_us: after - before,
            missing: facts.missing,
            thrown_out: facts.thrown_out,
            catch_up_seconds: in_seconds(facts.catch_up_time),
            catch_up_bytes: facts.catch_up_bytes,
            complete: facts.is_complete,
            resident_bytes_baseline: facts.resident_baseline,
            resident_bytes_loaded: facts.resident_loaded,
        })
    }
}

impl WebReport {
    /// Sums up what `connections` have asked of `path` in `seconds`.
    pub fn new(facts: &WebFacts, connections: u64, path: &str, seconds: f64) -> Self {
        WebReport {
            connections,
            path: path.to_owned(),
            answered: facts.answered,
            per_second: ratio(facts.answered as f64, seconds),
            bytes: facts.bytes,
            failed: facts.failed.clone(),
            latency: Percentiles::new(&facts.times),
        }
    }
}

fn curve(times: &Times) -> Vec<(f64, f64)> {
    let times = times.histogram();
    // A quantile that no recorded time separates from the longest one says nothing.
    let told = CURVE.iter().filter(|&&quantile| quantile >= 1.0 || (1.0 - quantile) * times.len() as f64 >= 1.0);
    if times.is_empty() {
        return Vec::new();
    }
    told.map(|&quantile| (quantile, times.value_at_quantile(quantile) as f64 / 1e3)).collect()
}
