//! A run as it goes on: points in time for the plots, and progress for whoever watches.

use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::clock::{self, MILLISECOND, SECOND};
use crate::ledger::Counts;
use crate::text::{grouped, time};
use crate::times::Times;

/// The time between two points at first; it grows with the run.
const PERIOD: u64 = 100 * MILLISECOND;
/// With so many points, each two become one.
const MAX_POINTS: usize = 1_200;

/// The state of both sides at some moment. Times are nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// When it was taken.
    pub at: u64,
    /// What was counted until then.
    pub counts: Counts,
    /// Members that are connected.
    pub connected: u32,
    /// CPU time of the generator, less what it has polled for nothing.
    pub worked: u64,
    /// CPU time of the server.
    pub server_cpu: Option<u64>,
    /// Resident bytes of the server.
    pub resident: Option<u64>,
}

/// What happened since the point before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When, in seconds since the run began.
    pub seconds: f64,
    /// Members that are connected.
    pub connected: u32,
    /// Messages sent per second.
    pub sent_per_second: f64,
    /// Deliveries per second.
    pub delivered_per_second: f64,
    /// Median latency to each member, of what was delivered since.
    pub p50_us: Option<f64>,
    /// Its 99th percentile.
    pub p99_us: Option<f64>,
    /// CPU time of the server per time.
    pub server_cpu_share: Option<f64>,
    /// Resident memory of the server.
    pub resident_bytes: Option<u64>,
    /// CPU time of the generator per time.
    pub generator_busy: f64,
}

/// When something began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When, in seconds since the run began.
    pub seconds: f64,
    /// What.
    pub name: String,
}

/// Collects points and shows progress.
#[derive(Debug)]
pub struct Monitor {
    started: u64,
    period: u64,
    next: u64,
    last: Snapshot,
    times: Times,
    points: Vec<Point>,
    marks: Vec<Mark>,
    interval: Range<u64>,
    bar: Option<ProgressBar>,
    is_quiet: bool,
}

impl Monitor {
    /// Shows progress on standard error: as a line that changes if that is a terminal, else as a line for each phase.
    pub fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {prefix:<22} {msg}");
            bar.set_style(style.expect("the template is valid"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Monitor { bar, ..Monitor::quiet(false) }
    }

    /// Shows nothing: others do.
    pub fn silent() -> Self {
        Monitor::quiet(true)
    }

    fn quiet(is_quiet: bool) -> Self {
        let now = clock::now();
        Monitor {
            started: now,
            period: PERIOD,
            next: now + PERIOD,
            last: Snapshot { at: now, ..Snapshot::default() },
            times: Times::default(),
            points: Vec::new(),
            marks: Vec::new(),
            interval: 0..0,
            bar: None,
            is_quiet,
        }
    }

    /// When [`Monitor::take`] wants to be called next.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Tells that `phase` begins.
    pub fn phase(&mut self, phase: &str) {
        let seconds = (clock::now() - self.started) as f64 / SECOND as f64;
        self.marks.push(Mark { seconds, name: phase.to_owned() });
        self.interval = 0..0;
        match &self.bar {
            Some(bar) => bar.set_prefix(phase.to_owned()),
            // Nobody may be listening any more, which is no reason to stop.
            None if !self.is_quiet => drop(writeln!(io::stderr(), "loadtest: {phase}")),
            None => {}
        }
    }

    /// Tells that the interval `name` is measured, for so long.
    pub fn begin(&mut self, name: &str, interval: Range<u64>) {
        self.phase(name);
        self.times = Times::default();
        self.interval = interval;
    }

    /// Takes a point: the state is `snapshot`, the latencies since the interval began are `times`.
    pub fn take(&mut self, snapshot: Snapshot, times: &Times) {
        let last = std::mem::replace(&mut self.last, snapshot);
        let seconds = (snapshot.at - last.at).max(1) as f64 / SECOND as f64;
        let latest = times.since(&self.times);
        let latest = (!latest.is_empty()).then(|| latest.histogram());
        self.times.clone_from(times);
        let at = |quantile| latest.as_ref().map(|latest| latest.value_at_quantile(quantile) as f64 / 1e3);
        let share = |now: u64, then: u64| now.saturating_sub(then) as f64 / SECOND as f64 / seconds;
        let point = Point {
            seconds: (snapshot.at - self.started) as f64 / SECOND as f64,
            connected: snapshot.connected,
            sent_per_second: (snapshot.counts.sent - last.counts.sent) as f64 / seconds,
            delivered_per_second: (snapshot.counts.delivered - last.counts.delivered) as f64 / seconds,
            p50_us: at(0.5),
            p99_us: at(0.99),
            server_cpu_share: snapshot.server_cpu.zip(last.server_cpu).map(|(now, then)| share(now, then)),
            resident_bytes: snapshot.resident,
            generator_busy: share(snapshot.worked, last.worked),
        };
        self.show(&point, &snapshot);
        self.points.push(point);
        if self.points.len() >= MAX_POINTS {
            self.points = self.points.chunks(2).map(merge).collect();
            self.period *= 2;
        }
        self.next = snapshot.at + self.period;
    }

    fn show(&self, point: &Point, snapshot: &Snapshot) {
        let Some(bar) = &self.bar else { return };
        let mut parts = vec![format!("{} connected", grouped(u64::from(point.connected)))];
        if snapshot.counts.sent > 0 {
            parts.push(format!("{} sent/s", grouped(point.sent_per_second as u64)));
            parts.push(format!("{} delivered/s", grouped(point.delivered_per_second as u64)));
        }
        parts.extend(point.p99_us.map(|p99| format!("p99 {}", time(p99))));
        parts.extend(point.server_cpu_share.map(|share| format!("server {:.0} %", share * 100.0)));
        if snapshot.counts.faults() > 0 {
            parts.push(format!("{} FAULTS", grouped(snapshot.counts.faults())));
        }
        if self.interval.end > snapshot.at {
            parts.push(format!("{:.0} s left", (self.interval.end - snapshot.at) as f64 / SECOND as f64));
        }
        bar.set_message(parts.join(" · "));
    }

    /// The end: gives the points and the marks.
    pub fn finish(&mut self) -> (Vec<Point>, Vec<Mark>) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        (std::mem::take(&mut self.points), std::mem::take(&mut self.marks))
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Monitor::new()
    }
}

/// One point for the time of two: rates become their mean, latencies and memory the worse of both.
fn merge(points: &[Point]) -> Point {
    let [a, b] = points else { return points[0] };
    let mean = |a: f64, b: f64| (a + b) / 2.0;
    Point {
        sent_per_second: mean(a.sent_per_second, b.sent_per_second),
        delivered_per_second: mean(a.delivered_per_second, b.delivered_per_second),
        p50_us: a.p50_us.into_iter().chain(b.p50_us).reduce(f64::max),
        p99_us: a.p99_us.into_iter().chain(b.p99_us).reduce(f64::max),
        server_cpu_share: a.server_cpu_share.zip(b.server_cpu_share).map(|(a, b)| mean(a, b)),
        resident_bytes: a.resident_bytes.max(b.resident_bytes),
        generator_busy: mean(a.generator_busy, b.generator_busy),
        ..*b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_a_bounded_number_of_points() {
        let mut monitor = Monitor::silent();
        let times = Times::default();
        for step in 1..=3 * MAX_POINTS as u64 {
            let counts = Counts { sent: step, delivered: 10 * step, ..Counts::default() };
            let at = monitor.started + step * SECOND;
            monitor.take(Snapshot { at, counts, connected: 3, ..Snapshot::default() }, &times);
        }
        let (points, _) = monitor.finish();
        assert!((MAX_POINTS / 2..MAX_POINTS).contains(&points.len()));
        for point in &points {
            assert!((point.delivered_per_second - 10.0).abs() < 0.1, "{point:?}");
        }
        assert_eq!(points.last().map(|point| point.seconds.round() as usize), Some(3 * MAX_POINTS));
    }
}
