//! One run by several processes: more sockets than one may open, and more than one CPU to read them.
//!
//! A worker is this program again, with the same command line and `LOADTEST_PART` in its environment. Each does its part of
//! the clients; a sender's messages are heard by all. They agree by lines on standard input and output:
//!
//! ```text
//! worker → connected 5000      begin 123456789 ← parent     all talk from the same moment on
//! worker → sent [10,0,9]       totals [10,11,9] ← parent    what each sender of any process has sent
//! worker → facts {…}                                        what this part has found
//! ```

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::clock::{self, SECOND};
use crate::facts::{Facts, Interval};
use crate::ledger::Completion;
use crate::monitor::{Monitor, Point};
use crate::options::Settings;
use crate::plan::{Part, Plan};
use crate::process;
use crate::scenario::Together;
use crate::times::Times;

/// Names the variable of the environment that makes a process a worker.
const VARIABLE: &str = "LOADTEST_PART";
/// Stands for the last line of a worker.
const GONE: &str = "gone";
/// From when all are connected until they talk.
const BEGIN_DELAY: u64 = SECOND / 5;

/// What a worker is told beside the command line.
#[derive(Debug, Serialize, Deserialize)]
struct Errand {
    index: usize,
    of: usize,
    run: u32,
    pids: Vec<u32>,
    urls: Vec<String>,
}

/// A worker's side of the agreement.
#[derive(Debug)]
pub struct Worker {
    errand: Errand,
    lines: Receiver<String>,
    has_connected: bool,
    has_sent: bool,
}

impl Worker {
    /// This process, if it is a worker.
    pub fn of_environment() -> Option<Self> {
        let errand = serde_json::from_str(&env::var(VARIABLE).ok()?).ok()?;
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Some(Worker { errand, lines, has_connected: false, has_sent: false })
    }

    /// What is different in the settings of a worker.
    pub fn adjust(&self, settings: &mut Settings) {
        settings.spawn = None;
        settings.pid.clone_from(&self.errand.pids);
        settings.url.clone_from(&self.errand.urls);
    }

    /// Which part of the run is its own.
    pub fn part(&self) -> Part {
        Part { index: self.errand.index, of: self.errand.of }
    }

    /// The number of the run, by which its messages are told from those of others.
    pub fn run(&self) -> u32 {
        self.errand.run
    }

    /// Hands `facts` over.
    pub fn deliver(&self, facts: &Facts) -> io::Result<()> {
        tell(&mut io::stdout(), "facts", facts)
    }

    fn answer<T: for<'de> Deserialize<'de>>(&self, word: &str) -> io::Result<Option<T>> {
        match self.lines.try_recv() {
            Ok(line) => read(&line, word).map(Some),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => {
                Err(io::Error::other("the process that has started this one is gone"))
            }
        }
    }
}

impl Together for Worker {
    fn begin(&mut self, connected: u32) -> io::Result<Option<u64>> {
        if !std::mem::replace(&mut self.has_connected, true) {
            tell(&mut io::stdout(), "connected", &connected)?;
        }
        self.answer("begin")
    }

    fn sent(&mut self, sent: &[u32]) -> io::Result<Option<Vec<u32>>> {
        if !std::mem::replace(&mut self.has_sent, true) {
            tell(&mut io::stdout(), "sent", &sent)?;
        }
        self.answer("totals")
    }
}

fn tell(out: &mut impl Write, word: &str, value: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{word} {}", serde_json::to_string(value)?)?;
    out.flush()
}

fn read<T: for<'de> Deserialize<'de>>(line: &str, word: &str) -> io::Result<T> {
    let rest =
        line.strip_prefix(word).ok_or_else(|| io::Error::other(format!("`{word}` was awaited, not `{line}`")))?;
    serde_json::from_str(rest).map_err(|err| io::Error::other(format!("`{word}` with {err}")))
}

/// All workers of a run; they end with their owner.
#[derive(Debug)]
struct Crew {
    children: Vec<(Child, ChildStdin)>,
    lines: Receiver<(usize, String)>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (child, _) in &mut self.children {
            // One that has ended already is only waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs `plan` by as many processes as it says, and gives what all of them have found.
pub fn run(plan: &Plan, run: u32) -> io::Result<Facts> {
    let mut monitor = Monitor::new();
    monitor.phase(&format!("{} processes open {} connections", plan.part.of, plan.clients));
    let resident_at_start = process::resident_bytes_of_all(&plan.pids);
    let mut crew = Crew::start(plan, run)?;
    let connected = crew.gather("connected")?;
    let resident_connected = process::resident_bytes_of_all(&plan.pids);
    monitor.phase("measuring");
    crew.tell_all("begin", &(clock::now() + BEGIN_DELAY))?;
    let sent = crew.gather::<Vec<u32>>("sent")?;
    let totals = (0..plan.senders).map(|sender| sent.iter().flatten().map(|sent| sent[sender]).max().unwrap_or(0));
    let totals: Vec<u32> = totals.collect();
    monitor.phase("waiting for the last deliveries");
    crew.tell_all("totals", &totals)?;
    let parts: Vec<Facts> = crew.gather("facts")?.into_iter().flatten().collect();
    let with_members = connected.iter().flatten().filter(|connected: &&u32| **connected > 0).count();
    monitor.finish();
    Ok(Facts { resident_at_start, resident_connected, ..merge(parts, with_members) })
}

impl Crew {
    fn start(plan: &Plan, run: u32) -> io::Result<Self> {
        let (tell, lines) = mpsc::channel();
        let mut crew = Crew { children: Vec::new(), lines };
        for index in 0..plan.part.of {
            let urls = plan.targets.iter().map(ToString::to_string).collect();
            // Looking at many processes is work: one worker does it for all.
            let pids = if index == 0 { plan.pids.clone() } else { Vec::new() };
            let errand = Errand { index, of: plan.part.of, run, pids, urls };
            let mut child = Command::new(env::current_exe()?)
                .args(env::args().skip(1))
                .env(VARIABLE, serde_json::to_string(&errand)?)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { continue };
            let tell = tell.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.try_for_each(|line| tell.send((index, line)))?;
                tell.send((index, GONE.to_owned()))
            });
            crew.children.push((child, stdin));
        }
        Ok(crew)
    }

    /// Waits until each worker has said `word`, or is done because it has nobody to talk for.
    fn gather<T: for<'de> Deserialize<'de>>(&mut self, word: &str) -> io::Result<Vec<Option<T>>> {
        let mut answers: Vec<Option<T>> = self.children.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            let gone = |_| io::Error::other("a worker has ended before its time; what it said is above");
            let (index, line) = self.lines.recv().map_err(gone)?;
            match line.as_str() {
                GONE if answers[index].is_some() => continue,
                GONE => return Err(gone(mpsc::RecvError)),
                _ => {}
            }
            if word != "facts" && line.starts_with("facts ") {
                return Err(io::Error::other(format!("nobody got in from worker {index}: {}", refusals(&line))));
            }
            answers[index] = Some(read(&line, word)?);
        }
        Ok(answers)
    }

    fn tell_all(&mut self, word: &str, value: &impl Serialize) -> io::Result<()> {
        self.children.iter_mut().try_for_each(|(_, stdin)| tell(stdin, word, value))
    }
}

fn refusals(line: &str) -> String {
    let facts: Facts = read(line, "facts").unwrap_or_default();
    facts.refusals.into_keys().collect::<Vec<_>>().join(", ")
}

/// What `parts` amount to together; `with_members` of them had members.
fn merge(parts: Vec<Facts>, with_members: usize) -> Facts {
    let completions = parts.iter().flat_map(|part| &part.intervals).flat_map(|interval| &interval.completions);
    let to_last = last_of_all(completions, with_members);
    let mut parts = parts.into_iter();
    let mut whole = parts.next().unwrap_or_default();
    for part in parts {
        whole.connect_time = whole.connect_time.max(part.connect_time);
        whole.connected += part.connected;
        whole.resident_of_generator = whole.resident_of_generator.zip(part.resident_of_generator).map(|(a, b)| a + b);
        whole.counts.add(&part.counts);
        whole.handshake_times.add(&part.handshake_times);
        whole.gaps += part.gaps;
        whole.pings += part.pings;
        whole.bytes_received += part.bytes_received;
        let tables =
            [(&mut whole.refusals, part.refusals), (&mut whole.closes, part.closes), (&mut whole.errors, part.errors)];
        for (sum, table) in tables {
            table.into_iter().for_each(|(reason, count)| *sum.entry(reason).or_default() += count);
        }
        whole.intervals.iter_mut().zip(&part.intervals).for_each(|(sum, interval)| add_interval(sum, interval));
        whole.points.iter_mut().zip(&part.points).for_each(|(sum, point)| add_point(sum, point));
    }
    if let Some(interval) = whole.intervals.last_mut() {
        interval.to_last = to_last;
    }
    whole
}

/// A message is complete when the last process has it complete.
fn last_of_all<'a>(completions: impl Iterator<Item = &'a Completion>, processes: usize) -> Times {
    let mut latest: HashMap<(u32, u32), (usize, u64)> = HashMap::new();
    for &Completion { sender, number, latency } in completions {
        let (count, longest) = latest.entry((sender, number)).or_default();
        *count += 1;
        *longest = latency.max(*longest);
    }
    let mut times = Times::default();
    latest.into_values().filter(|(count, _)| *count == processes).for_each(|(_, latency)| times.record(latency));
    times
}

fn add_interval(sum: &mut Interval, part: &Interval) {
    sum.to_each.add(&part.to_each);
    sum.lag.add(&part.lag);
    sum.unsent += part.unsent;
    sum.worked += part.worked;
    let load = |Interval { from, to, .. }: &Interval| to.worked_since(from) + to.waited.saturating_sub(from.waited);
    // The busiest process tells how busy the generator was.
    let is_busier = load(part) > load(sum);
    for (sum, part) in [(&mut sum.from, &part.from), (&mut sum.to, &part.to)] {
        sum.sent += part.sent;
        sum.delivered += part.delivered;
        sum.bytes_received += part.bytes_received;
        if is_busier {
            (sum.thread_cpu, sum.spun, sum.waited) = (part.thread_cpu, part.spun, part.waited);
        }
    }
}

fn add_point(sum: &mut Point, part: &Point) {
    sum.connected += part.connected;
    sum.sent_per_second += part.sent_per_second;
    sum.delivered_per_second += part.delivered_per_second;
    sum.p50_us = sum.p50_us.into_iter().chain(part.p50_us).reduce(f64::max);
    sum.p99_us = sum.p99_us.into_iter().chain(part.p99_us).reduce(f64::max);
    sum.generator_busy = sum.generator_busy.max(part.generator_busy);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counts;

    #[test]
    fn a_message_is_complete_with_the_last_process() {
        let completion = |number, latency| Completion { sender: 0, number, latency };
        let part = |delivered, completions: &[Completion]| Facts {
            connected: 2,
            counts: Counts { delivered, ..Counts::default() },
            intervals: vec![Interval { completions: completions.to_vec(), ..Interval::default() }],
            ..Facts::default()
        };
        let parts = vec![
            part(3, &[completion(0, 1_000_000), completion(1, 5_000_000)]),
            part(4, &[completion(1, 2_000_000), completion(0, 3_000_000), completion(2, 1)]),
        ];
        let whole = merge(parts, 2);
        assert_eq!((whole.connected, whole.counts.delivered), (4, 7));
        let to_last = whole.intervals[0].to_last.histogram();
        assert_eq!(to_last.len(), 2, "one has not come to all");
        assert!(to_last.equivalent(to_last.min(), 3_000_000) && to_last.equivalent(to_last.max(), 5_000_000));
    }

    #[test]
    fn lines() {
        let mut out = Vec::new();
        tell(&mut out, "sent", &[1, 2]).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line, "sent [1,2]\n");
        assert_eq!(read::<Vec<u32>>(line.trim_end(), "sent").unwrap(), [1, 2]);
        assert!(read::<Vec<u32>>("other 1", "sent").is_err() && read::<Vec<u32>>("sent x", "sent").is_err());
    }
}
