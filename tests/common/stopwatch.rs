//! How long a server makes its clients wait, whatever else its machine has to do.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Server;

/// Measures time without what the threads of a server, and the one that measures, have waited for a processor.
///
/// A bound on it can be tight although tests run beside each other. Where the kernel does not count that waiting, it is
/// the plain time.
#[derive(Debug)]
pub struct Stopwatch {
    pid: u32,
    began: Instant,
    waited: Duration,
}

impl Stopwatch {
    /// Starts to measure. Begin and end belong to one thread.
    pub fn start(server: &Server) -> Self {
        Self::of(server.pid())
    }

    /// Starts to measure what the process with this id takes.
    pub fn of(pid: u32) -> Self {
        Stopwatch { pid, began: Instant::now(), waited: waited(pid) }
    }

    /// The time that has passed since.
    pub fn elapsed(&self) -> Duration {
        let passed = self.began.elapsed();
        // A thread that has ended takes its waiting with it.
        passed.saturating_sub(waited(self.pid).saturating_sub(self.waited))
    }
}

/// What the threads of a process and this thread have waited for a processor so far (proc(5), `schedstat`).
fn waited(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let threads: Duration = tasks.map(|task| waited_by(&task.path())).sum();
    threads + waited_by(Path::new("/proc/thread-self"))
}

fn waited_by(thread: &Path) -> Duration {
    let counts = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let waited = counts.split_whitespace().nth(1).and_then(|nanoseconds| nanoseconds.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}
