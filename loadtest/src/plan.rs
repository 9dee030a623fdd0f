//! What to do: the options, checked against each other and against what this machine allows.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::assertion::Assertion;
use crate::clock::SECOND;
use crate::options::Settings;
use crate::process;
use crate::stamp::STAMP_BYTES;
use crate::target::{Scheme, Target};
use crate::trust::Trust;

/// Payloads are not longer than this.
const MAX_SIZE_BYTES: usize = 16 * 1024 * 1024;
/// Where a server is looked for if nothing else is said.
const USUAL_URL: &str = "ws://127.0.0.1:8080";

/// How clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A message is a frame.
    Raw,
    /// chat.v1: JSON with names, rooms and positions.
    V1,
}

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Never.
    Idle,
    /// At fixed times, whatever the server does.
    OnSchedule {
        /// Messages of all senders together.
        per_second: f64,
    },
    /// When an earlier one was delivered.
    ClosedLoop {
        /// Messages of one sender that may be on their way.
        window: u32,
        /// When one is delivered.
        until: Until,
    },
}

/// When a closed loop takes a message for delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Every member has heard it.
    Last,
    /// Its sender has heard it.
    Echo,
}

/// What happens beside the talking.
#[derive(Debug, Clone, PartialEq)]
pub enum Scenario {
    /// One interval: `fanout`, `chatter`, `idle` and `cluster`.
    Steady,
    /// One interval for each rate.
    Steps(Vec<f64>),
    /// As many intervals as it takes to find the highest rate at which all of these hold.
    Search(Vec<Assertion>),
    /// All drop and come back.
    Storm {
        /// Messages said meanwhile.
        behind: u32,
        /// Nobody was there before.
        join: bool,
    },
    /// A share reads slowly.
    Slow {
        /// How many do, those that read nothing included.
        slow: usize,
        /// How many read nothing.
        stalled: usize,
        /// What each of the others takes per second.
        bytes_per_second: u64,
    },
    /// Connections come and go.
    Churn {
        /// So many per second.
        visits: f64,
        /// How long one stays, in nanoseconds.
        stay: u64,
    },
    /// A site is read meanwhile.
    Http {
        /// Connections that ask.
        connections: usize,
        /// Requests per second of all; otherwise each asks when it was answered.
        per_second: Option<f64>,
        /// What they ask for.
        path: String,
    },
}

/// Which part of a run this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Counted from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

/// What to do: valid once constructed. Times are nanoseconds.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the run is called.
    pub name: &'static str,
    /// The instances of the server.
    pub targets: Vec<Target>,
    /// How the clients speak.
    pub dialect: Dialect,
    /// Sockets to open for members, in all processes.
    pub clients: usize,
    /// How many of them talk.
    pub senders: usize,
    /// When they talk.
    pub pace: Pace,
    /// What else happens.
    pub scenario: Scenario,
    /// Length of the measured interval.
    pub measure: u64,
    /// How long they talk before it.
    pub warmup: u64,
    /// Rest before the first message.
    pub settle: u64,
    /// Patience for the last deliveries.
    pub drain: u64,
    /// Payload bytes of a message.
    pub size: usize,
    /// Connections per second.
    pub ramp: Option<f64>,
    /// The server's processes, one for each instance.
    pub pids: Vec<u32>,
    /// Whose certificates are believed, and how, if TLS is spoken.
    pub tls: Option<(Trust, Arc<ClientConfig>)>,
    /// Whether to poll without sleeping.
    pub spin: bool,
    /// Which part of it this process does.
    pub part: Part,
}

impl Plan {
    /// Checks `settings`; the error is a sentence.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let clients = settings.clients.unwrap_or(100);
        if clients == 0 {
            return Err("--clients must be at least 1".into());
        }
        let senders = settings.senders.unwrap_or(match settings.scenario {
            "chatter" => clients,
            "slow" | "cluster" => clients.min(10),
            _ => 1,
        });
        if senders == 0 || senders > clients {
            return Err(format!("--senders must be between 1 and the number of clients, {clients}"));
        }
        let size = settings.size.unwrap_or(64);
        if !(STAMP_BYTES..=MAX_SIZE_BYTES).contains(&size) {
            return Err(format!(
                "--size must be between {STAMP_BYTES}, for what a message carries, and {MAX_SIZE_BYTES}"
            ));
        }
        if settings.ramp.is_some_and(|ramp| !is_positive(ramp)) {
            return Err("--ramp must be a number above 0".into());
        }
        let targets = targets(settings)?;
        let plan = Plan {
            name: settings.scenario,
            tls: tls(settings, &targets)?,
            targets,
            dialect: dialect(settings)?,
            clients,
            senders,
            pace: pace(settings)?,
            scenario: scenario(settings, clients)?,
            measure: nanoseconds("--seconds", settings.seconds.unwrap_or(10.0)).and_then(|time| match time {
                0 => Err("--seconds must be above 0".into()),
                time => Ok(time),
            })?,
            warmup: nanoseconds("--warmup", settings.warmup.unwrap_or(0.0))?,
            settle: nanoseconds("--settle", settings.settle.unwrap_or(0.2))?,
            drain: nanoseconds("--drain", settings.drain.unwrap_or(5.0))?,
            size,
            ramp: settings.ramp,
            pids: settings.pid.clone(),
            spin: settings.spin,
            part: Part { index: 0, of: settings.processes.unwrap_or(1) },
        };
        if let Scenario::Slow { slow, .. } = plan.scenario
            && senders > clients - slow
        {
            return Err(format!(
                "{senders} senders are more than the {} clients that do not read slowly",
                clients - slow
            ));
        }
        plan.check_parts()?;
        plan.check_descriptors()?;
        if !plan.pids.is_empty() && settings.spawn.is_some() {
            return Err("--pid is for a server that runs already, and --spawn starts one".into());
        }
        for &pid in &plan.pids {
            process::usage(pid).map_err(|_| format!("there is no process {pid} to measure"))?;
        }
        Ok(plan)
    }

    /// Which of all clients are this process's.
    pub fn own_clients(&self) -> usize {
        let Part { index, of } = self.part;
        self.clients / of + usize::from(index < self.clients % of)
    }

    /// For each sender, the client that it is, if it is one of this process's. Servers walk their members in the order they
    /// came, so the senders are spread over them.
    pub fn sender_clients(&self) -> Vec<Option<usize>> {
        // Who reads slowly does not talk.
        let quiet = if let Scenario::Slow { slow, .. } = self.scenario { slow } else { 0 };
        let clients = (0..self.senders).map(|sender| sender * (self.clients - quiet) / self.senders);
        clients.map(|client| (client % self.part.of == self.part.index).then_some(client / self.part.of)).collect()
    }

    fn check_parts(&self) -> Result<(), String> {
        let parts = self.part.of;
        if parts == 0 || parts > self.clients {
            return Err(format!("--processes must be between 1 and the number of clients, {}", self.clients));
        }
        if parts > 1 {
            if self.scenario != Scenario::Steady {
                return Err("--processes does not go with --steps or --hold".into());
            }
            if matches!(self.pace, Pace::ClosedLoop { until: Until::Last, .. }) {
                return Err(
                    "a closed loop over several --processes needs `--until echo`: none of them knows when the last \
                            member of all has a message"
                        .into(),
                );
            }
        }
        Ok(())
    }

    fn check_descriptors(&self) -> Result<(), String> {
        let sockets = self.own_clients()
            + match &self.scenario {
                Scenario::Http { connections, .. } => *connections,
                Scenario::Churn { .. } => self.visitors(),
                _ => 0,
            };
        let limits = process::raise_file_limit();
        if sockets as u64 > limits.usable {
            return Err(format!(
                "{sockets} sockets are more than a process may open here: its hard limit of open files is {}, which leaves \
                 room for {}. Raise it (`ulimit -Hn`), ask for fewer, or spread them by --processes {}",
                limits.hard,
                limits.usable,
                self.clients.div_ceil(limits.usable.max(1) as usize)
            ));
        }
        Ok(())
    }

    /// Places for connections that come and go: as many as can be there at once, and those that are on their way.
    pub fn visitors(&self) -> usize {
        match self.scenario {
            Scenario::Churn { visits, stay } => (visits * (stay as f64 / SECOND as f64) * 1.5).ceil() as usize + 16,
            _ => 0,
        }
    }
}

fn targets(settings: &Settings) -> Result<Vec<Target>, String> {
    let urls = if settings.url.is_empty() { &vec![USUAL_URL.to_owned()] } else { &settings.url };
    if settings.scenario == "cluster" && urls.len() < 2 {
        return Err("a cluster has several instances: give --url for each".into());
    }
    if settings.spawn.is_some() && urls.len() > 1 {
        return Err("--spawn starts one server, so there is one --url at most".into());
    }
    urls.iter().map(|url| Target::parse(url)).collect()
}

fn tls(settings: &Settings, targets: &[Target]) -> Result<Option<(Trust, Arc<ClientConfig>)>, String> {
    let trust = match (&settings.ca, settings.insecure) {
        (Some(_), true) => return Err("--insecure believes everybody, so --ca does not go with it".into()),
        (Some(path), false) => Trust::File(path.clone()),
        (None, true) => Trust::Anybody,
        (None, false) => Trust::System,
    };
    if targets.iter().any(|target| target.scheme == Scheme::Wss) {
        let config = trust.config()?;
        Ok(Some((trust, config)))
    } else if trust == Trust::System {
        Ok(None)
    } else {
        Err("--ca and --insecure are for a --url that begins with wss://".into())
    }
}

fn dialect(settings: &Settings) -> Result<Dialect, String> {
    match (settings.dialect.as_deref(), settings.scenario) {
        (Some("raw"), _) => Ok(Dialect::Raw),
        (Some("v1" | "chat.v1"), _) | (None, "storm" | "cluster") => Ok(Dialect::V1),
        (None, _) => Ok(Dialect::Raw),
        (Some(other), _) => Err(format!("--dialect is `raw` or `v1`, not `{other}`")),
    }
}

fn pace(settings: &Settings) -> Result<Pace, String> {
    let closed_loop = settings.closed_loop
        || settings.scenario == "chatter"
            && settings.rate.is_none()
            && settings.steps.is_none()
            && settings.hold.is_empty();
    if settings.scenario == "idle" {
        return if settings.closed_loop || settings.rate.is_some() {
            Err("--idle sends nothing, so --rate and --closed-loop do not go with it".into())
        } else {
            Ok(Pace::Idle)
        };
    }
    if settings.closed_loop && (settings.rate.is_some() || settings.steps.is_some() || !settings.hold.is_empty()) {
        return Err(
            "--rate, --steps and --hold are for messages on schedule; a --closed-loop goes as fast as it is answered"
                .into(),
        );
    }
    if !closed_loop && (settings.window.is_some() || settings.until.is_some()) {
        return Err("--window and --until are for a --closed-loop".into());
    }
    if closed_loop {
        let until = match settings.until.as_deref() {
            None | Some("last") => Until::Last,
            Some("echo") => Until::Echo,
            Some(other) => return Err(format!("--until is `last` or `echo`, not `{other}`")),
        };
        let window = settings.window.unwrap_or(1);
        return if window > 0 {
            Ok(Pace::ClosedLoop { window, until })
        } else {
            Err("--window must be at least 1".into())
        };
    }
    let usual = match settings.scenario {
        "slow" => 200.0,
        _ if !settings.hold.is_empty() => 1000.0,
        _ => 10.0,
    };
    let per_second = settings.rate.unwrap_or(usual);
    if !is_positive(per_second) || per_second > SECOND as f64 {
        return Err("--rate must be a number above 0".into());
    }
    Ok(Pace::OnSchedule { per_second })
}

fn scenario(settings: &Settings, clients: usize) -> Result<Scenario, String> {
    Ok(match settings.scenario {
        "storm" => {
            let behind = settings.behind.unwrap_or(200);
            if settings.join && settings.behind.is_some() {
                return Err("who comes for the first time with --join is not --behind".into());
            }
            if !settings.join && clients < 2 {
                return Err("a storm needs 2 clients at least: one stays, talks, and listens".into());
            }
            Scenario::Storm { behind, join: settings.join }
        }
        "slow" => {
            let slow = settings.slow.unwrap_or(clients / 5);
            let stalled = settings.stalled.unwrap_or(slow / 2);
            if slow >= clients || stalled > slow {
                return Err("--slow must be below the number of clients, and --stalled no more than --slow".into());
            }
            let bytes_per_second = settings.slow_bytes.unwrap_or(10_000);
            if bytes_per_second == 0 {
                return Err("--slow-bytes must be above 0; --stalled is for those that read nothing".into());
            }
            Scenario::Slow { slow, stalled, bytes_per_second }
        }
        "churn" => {
            let visits = settings.visits.unwrap_or(100.0);
            if !is_positive(visits) {
                return Err("--visits must be a number above 0".into());
            }
            Scenario::Churn { visits, stay: nanoseconds("--stay", settings.stay.unwrap_or(1.0))? }
        }
        "http" => {
            let path = settings.path.clone().unwrap_or_else(|| "/".to_owned());
            if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte == 0x7F) {
                return Err("--path begins with / and has no blanks".into());
            }
            if settings.get_rate.is_some_and(|rate| !is_positive(rate)) {
                return Err("--get-rate must be a number above 0".into());
            }
            let connections = settings.connections.unwrap_or(10);
            Scenario::Http { connections, per_second: settings.get_rate, path }
        }
        _ if settings.steps.is_some() && !settings.hold.is_empty() => {
            return Err("--steps goes through given rates, and --hold searches for one".into());
        }
        _ if !settings.hold.is_empty() => {
            let hold: Result<Vec<Assertion>, String> =
                settings.hold.iter().map(|text| Assertion::parse(text)).collect();
            Scenario::Search(hold?)
        }
        _ => match &settings.steps {
            None => Scenario::Steady,
            Some(steps) => {
                let rates: Result<Vec<f64>, _> = steps.split(',').map(|rate| rate.trim().parse()).collect();
                let rates = rates.ok().filter(|rates| rates.iter().all(|&rate| is_positive(rate)));
                Scenario::Steps(rates.ok_or("--steps is a list of rates above 0, such as 100,200,400")?)
            }
        },
    })
}

fn is_positive(number: f64) -> bool {
    number.is_finite() && number > 0.0
}

fn nanoseconds(option: &str, seconds: f64) -> Result<u64, String> {
    // A year is more than anybody waits, and far from what overflows.
    if (0.0..=31_536_000.0).contains(&seconds) {
        Ok((seconds * SECOND as f64) as u64)
    } else {
        Err(format!("{option} must be a number of seconds, not {seconds}"))
    }
}

#[cfg(test)]
mod tests;
