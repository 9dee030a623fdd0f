//! The command line, and the [`Plan`] it amounts to.

use std::path::PathBuf;

use argh::FromArgs;

use crate::clock::SECOND;
use crate::process;
use crate::stamp::STAMP_BYTES;
use crate::target::Target;

/// Payloads are not longer than this.
const MAX_SIZE_BYTES: usize = 16 * 1024 * 1024;

/// Opens thousands of WebSockets against a chat server that sends every message to everybody, its sender included, and
/// measures what they get: loss, duplicates, disorder, latency to each member and to the last one, and with --pid what
/// it costs the server.
#[derive(FromArgs, Debug, Clone)]
#[argh(
    note = "Times are seconds and may be fractions. Latency counts from when a message was due, not from when it \
            could be sent.",
    example = "loadtest --url 'ws://127.0.0.1:8080/?room=load' --clients 10000 --senders 10 --rate 50 --pid 4711",
    error_code(0, "Everybody heard every message once and in order."),
    error_code(1, "A message was lost, doubled, disordered or changed, or a client was refused or thrown out."),
    error_code(2, "The command line asks for what cannot be.")
)]
pub struct Options {
    /// where to connect to; path and query are kept (default ws://127.0.0.1:8080)
    #[argh(option, default = "String::from(\"ws://127.0.0.1:8080\")")]
    pub url: String,
    /// sockets to open, all of which listen (default 100)
    #[argh(option, default = "100")]
    pub clients: usize,
    /// how many of the clients talk as well (default 1)
    #[argh(option, default = "1")]
    pub senders: usize,
    /// messages per second of all senders together, sent on schedule (default 10)
    #[argh(option)]
    pub rate: Option<f64>,
    /// send the next message when the previous one was delivered, instead of on schedule
    #[argh(switch)]
    pub closed_loop: bool,
    /// with --closed-loop, when a message counts as delivered: `last` when every member has it, `echo` when its sender
    /// has heard it (default last)
    #[argh(option)]
    pub until: Option<String>,
    /// with --closed-loop, messages of one sender that may be on their way (default 1)
    #[argh(option)]
    pub window: Option<u32>,
    /// send nothing, only hold the sockets and answer pings
    #[argh(switch)]
    pub idle: bool,
    /// length of the measured interval (default 10)
    #[argh(option, default = "10.0")]
    pub seconds: f64,
    /// talk this long before the measured interval (default 0)
    #[argh(option, default = "0.0")]
    pub warmup: f64,
    /// rest between the last handshake and the first message (default 0.2)
    #[argh(option, default = "0.2")]
    pub settle: f64,
    /// wait at most this long for what is still on its way at the end (default 5)
    #[argh(option, default = "5.0")]
    pub drain: f64,
    /// payload of a message in bytes, at least 40 (default 64)
    #[argh(option, default = "64")]
    pub size: usize,
    /// connections opened per second (default: as fast as the server answers)
    #[argh(option)]
    pub ramp: Option<f64>,
    /// process id of the server: report its CPU time and resident memory
    #[argh(option)]
    pub pid: Option<u32>,
    /// never sleep while waiting: keeps the wake-up of this process, which the kernel charges to a server on the same
    /// machine, out of the server's CPU time
    #[argh(switch)]
    pub spin: bool,
    /// write the results to this file as JSON
    #[argh(option)]
    pub json: Option<PathBuf>,
    /// print version and exit
    #[argh(switch)]
    pub version: bool,
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

/// What to do: valid once constructed. Times are nanoseconds.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// Sockets to open.
    pub clients: usize,
    /// How many of them talk.
    pub senders: usize,
    /// When they talk.
    pub pace: Pace,
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
    /// The server's process.
    pub pid: Option<u32>,
    /// Whether to poll without sleeping.
    pub spin: bool,
}

/// Splits `--name=value` in two, which argh does not do by itself.
pub fn normalise(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut out = Vec::new();
    for argument in arguments {
        match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => out.extend([name.to_owned(), value.to_owned()]),
            _ => out.push(argument),
        }
    }
    out
}

impl Options {
    /// Checks the options against each other and against what this machine allows; the error is a sentence.
    pub fn plan(&self) -> Result<Plan, String> {
        if self.clients == 0 {
            return Err("--clients must be at least 1".into());
        }
        if self.senders == 0 || self.senders > self.clients {
            return Err(format!("--senders must be between 1 and the number of clients, {}", self.clients));
        }
        if !(STAMP_BYTES..=MAX_SIZE_BYTES).contains(&self.size) {
            return Err(format!(
                "--size must be between {STAMP_BYTES}, for what a message carries, and {MAX_SIZE_BYTES}"
            ));
        }
        if self.ramp.is_some_and(|ramp| !is_positive(ramp)) {
            return Err("--ramp must be a number above 0".into());
        }
        let descriptors = process::raise_file_limit();
        if self.clients as u64 > descriptors {
            return Err(format!(
                "{} clients are more than the limit of open files leaves room for, {descriptors}: raise the hard limit \
                 (`ulimit -Hn`) or ask for fewer",
                self.clients
            ));
        }
        if let Some(pid) = self.pid {
            process::cpu_time(pid).map_err(|_| format!("there is no process {pid} to measure"))?;
        }
        Ok(Plan {
            target: Target::parse(&self.url)?,
            clients: self.clients,
            senders: self.senders,
            pace: self.pace()?,
            measure: nanoseconds("--seconds", self.seconds).and_then(|time| match time {
                0 => Err("--seconds must be above 0".into()),
                time => Ok(time),
            })?,
            warmup: nanoseconds("--warmup", self.warmup)?,
            settle: nanoseconds("--settle", self.settle)?,
            drain: nanoseconds("--drain", self.drain)?,
            size: self.size,
            ramp: self.ramp,
            pid: self.pid,
            spin: self.spin,
        })
    }

    fn pace(&self) -> Result<Pace, String> {
        if self.idle && (self.closed_loop || self.rate.is_some()) {
            return Err("--idle sends nothing, so --rate and --closed-loop do not go with it".into());
        }
        if self.closed_loop && self.rate.is_some() {
            return Err("--rate is for messages on schedule; a --closed-loop goes as fast as it is answered".into());
        }
        if !self.closed_loop && (self.window.is_some() || self.until.is_some()) {
            return Err("--window and --until are for a --closed-loop".into());
        }
        if self.idle {
            return Ok(Pace::Idle);
        }
        if self.closed_loop {
            let until = match self.until.as_deref() {
                None | Some("last") => Until::Last,
                Some("echo") => Until::Echo,
                Some(other) => return Err(format!("--until is `last` or `echo`, not `{other}`")),
            };
            let window = self.window.unwrap_or(1);
            return if window > 0 {
                Ok(Pace::ClosedLoop { window, until })
            } else {
                Err("--window must be at least 1".into())
            };
        }
        let per_second = self.rate.unwrap_or(10.0);
        if !is_positive(per_second) || per_second > SECOND as f64 {
            return Err("--rate must be a number above 0".into());
        }
        Ok(Pace::OnSchedule { per_second })
    }
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
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let words = normalise(line.split_whitespace().map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Options::from_args(&["loadtest"], &words).map_err(|exit| exit.output)?.plan()
    }

    #[test]
    fn paces() {
        let on_schedule = |per_second| Pace::OnSchedule { per_second };
        let closed_loop = |window, until| Pace::ClosedLoop { window, until };
        let table = [
            ("", on_schedule(10.0)),
            ("--rate 0.5", on_schedule(0.5)),
            ("--rate=200", on_schedule(200.0)),
            ("--idle", Pace::Idle),
            ("--closed-loop", closed_loop(1, Until::Last)),
            ("--closed-loop --window=3 --until echo", closed_loop(3, Until::Echo)),
        ];
        for (line, expected) in table {
            assert_eq!(plan(line).unwrap().pace, expected, "{line}");
        }
    }

    #[test]
    fn what_cannot_be() {
        let table = [
            ("--clients 0", "--clients"),
            ("--clients 1000000000", "limit of open files"),
            ("--senders 0", "--senders"),
            ("--clients 5 --senders 6", "--senders"),
            ("--rate 0", "--rate"),
            ("--rate inf", "--rate"),
            ("--rate 1 --closed-loop", "--rate"),
            ("--idle --rate 1", "--idle"),
            ("--idle --closed-loop", "--idle"),
            ("--window 2", "--window"),
            ("--closed-loop --window 0", "--window"),
            ("--closed-loop --until never", "--until"),
            ("--seconds 0", "--seconds"),
            ("--seconds -1", "--seconds"),
            ("--drain nan", "--drain"),
            ("--size 39", "--size"),
            ("--ramp 0", "--ramp"),
            ("--pid 4294967295", "no process"),
            ("--url http://a", "WebSocket URL"),
            ("--nonsense", "--nonsense"),
        ];
        for (line, word) in table {
            let error = plan(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn url_with_an_equals_sign() {
        let table = ["--url=ws://a/?room=b", "--url ws://a/?room=b"];
        for line in table {
            assert_eq!(plan(line).unwrap().target.path, "/?room=b", "{line}");
        }
    }
}
