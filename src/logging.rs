//! Log lines on standard error, and how many of them a crowd may cause.
//!
//! Lines go through a bounded queue to a thread of their own, and are lost when the queue is full: a terminal that
//! scrolls slowly, or a pipe that nobody reads, must not hold up the loop.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait for standard error; further ones are lost.
const WAITING_LINES: usize = 10_000;

/// Begins to write log lines that pass `filter`, until the guard is dropped.
///
/// Only the first call of a process has an effect.
#[must_use = "lines are written only while the guard lives"]
pub fn start(filter: Targets) -> WorkerGuard {
    let lossy = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
    let (writer, guard) = lossy.thread_name("log").finish(io::stderr());
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = layer().compact().with_ansi(colours).with_target(false).with_writer(writer);
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    guard
}

/// Says whether a line about a client that comes or goes may be written, so that few clients are seen one by one and
/// thousands do not flood the log.
///
/// What is left out is counted, and told in one line when its second is over.
#[derive(Debug)]
pub struct Chatter {
    lines_per_second: u32,
    /// The second that counts, and its lines so far. It begins with the first line after the last one was over.
    second: Option<(Instant, u32)>,
    left_out: LeftOut,
}

/// Clients about whom no line was written. Displayed, it is that one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Clients that connected.
    pub connected: u64,
    /// Clients that left.
    pub left: u64,
}

impl Chatter {
    /// Allows `lines_per_second`.
    #[must_use]
    pub fn new(lines_per_second: u32) -> Self {
        Chatter { lines_per_second, second: None, left_out: LeftOut::default() }
    }

    /// A client has connected: whether a line about it may be written. If not, it is counted.
    #[must_use]
    pub fn connected(&mut self, now: Instant) -> bool {
        let allowed = self.allow(now);
        self.left_out.connected += u64::from(!allowed);
        allowed
    }

    /// A client has left: whether a line about it may be written. If not, it is counted.
    #[must_use]
    pub fn left(&mut self, now: Instant) -> bool {
        let allowed = self.allow(now);
        self.left_out.left += u64::from(!allowed);
        allowed
    }

    /// Whether a line may be written that is about no client's coming or going. If not, it is lost.
    #[must_use]
    pub fn allows(&mut self, now: Instant) -> bool {
        self.allow(now)
    }

    /// When [`poll_left_out`](Self::poll_left_out) will have something to tell, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let (begin, _) = self.second?;
        (self.left_out != LeftOut::default()).then_some(begin + SECOND)
    }

    /// What was left out, once when its second is over.
    #[must_use]
    pub fn poll_left_out(&mut self, now: Instant) -> Option<LeftOut> {
        self.deadline().filter(|deadline| now >= *deadline)?;
        self.second = None;
        Some(std::mem::take(&mut self.left_out))
    }

    fn allow(&mut self, now: Instant) -> bool {
        // While a summary is due the second goes on: lines that overtook it would be read in the wrong order.
        let over = |begin: Instant| now >= begin + SECOND && self.left_out == LeftOut::default();
        let (begin, lines) = self.second.filter(|(begin, _)| !over(*begin)).unwrap_or((now, 0));
        let allowed = lines < self.lines_per_second;
        self.second = Some((begin, lines + u32::from(allowed)));
        allowed
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} more connected, {} more left in the last second", self.connected, self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_one_by_one() {
        let (mut chatter, begin) = (Chatter::new(2), Instant::now());
        for tenths in (0..100).step_by(5) {
            let now = begin + Duration::from_millis(100 * tenths);
            assert!(if tenths % 2 == 0 { chatter.connected(now) } else { chatter.left(now) }, "{tenths}");
            assert_eq!((chatter.deadline(), chatter.poll_left_out(now)), (None, None));
        }
    }

    #[test]
    fn many_are_told_in_one_line() {
        let (mut chatter, begin) = (Chatter::new(20), Instant::now());
        let written = (0..100).filter(|_| chatter.connected(begin)).count();
        let later = begin + Duration::from_millis(999);
        let written = written + (0..50).filter(|_| chatter.left(later)).count();
        assert_eq!(written, 20);
        assert_eq!((chatter.deadline(), chatter.poll_left_out(later)), (Some(begin + SECOND), None));

        let over = begin + SECOND;
        assert!(!chatter.left(over), "no line overtakes the summary");
        let left_out = chatter.poll_left_out(over).unwrap();
        assert_eq!(left_out, LeftOut { connected: 80, left: 51 });
        assert_eq!(left_out.to_string(), "80 more connected, 51 more left in the last second");
        assert_eq!((chatter.deadline(), chatter.poll_left_out(over)), (None, None), "told once");
        assert!(chatter.connected(over), "a new second has begun");
    }
}
