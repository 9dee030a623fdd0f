//! What the kernel says about a process, and about what this one may open.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock::SECOND;

/// Descriptors that are no client sockets: the standard three, the poll, `/proc`, and some to spare.
const SPARE_DESCRIPTORS: u64 = 32;

/// CPU time a process has used up to now, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In its own code, to the clock tick.
    pub user: u64,
    /// In the kernel on its behalf, to the clock tick. On loopback that includes the receiving half of TCP.
    pub system: u64,
    /// Both, as exactly as the kernel tells it.
    pub total: u64,
    /// Ready to run, but waiting for a CPU that another process had.
    pub waited: u64,
}

impl CpuTime {
    /// What was used since `earlier`.
    pub fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            total: self.total.saturating_sub(earlier.total),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// The CPU time of process `pid`.
pub fn cpu_time(pid: u32) -> io::Result<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (user, system) = parse_stat(&stat).ok_or_else(|| io::Error::other("/proc/PID/stat is not as expected"))?;
    let tick = SECOND / rustix::param::clock_ticks_per_second();
    let (user, system) = (user * tick, system * tick);
    let (total, waited) = scheduled(Path::new(&format!("/proc/{pid}/task"))).unwrap_or((user + system, 0));
    Ok(CpuTime { user, system, total, waited })
}

/// Resident memory of process `pid`, in bytes.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status).ok_or_else(|| io::Error::other("/proc/PID/status has no VmRSS"))
}

/// Raises the soft limit of open files as far as it may go and returns how many clients fit below it.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Where the hard limit may not be taken in full, what we have stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.map_or(u64::MAX, |files| files.saturating_sub(SPARE_DESCRIPTORS))
}

/// Run time and waiting time of all threads in nanoseconds, where the kernel was built to tell.
fn scheduled(tasks: &Path) -> Option<(u64, u64)> {
    let mut sum = (0, 0);
    for task in fs::read_dir(tasks).ok()?.flatten() {
        // A thread that ended meanwhile is left out.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let (run, waited) = parse_schedstat(&text)?;
        sum = (sum.0 + run, sum.1 + waited);
    }
    (sum.0 > 0).then_some(sum)
}

fn parse_schedstat(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// User and system ticks, the fields 14 and 15; the name in field 2 may hold blanks and parentheses.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_proc() {
        assert_eq!(parse_stat("7 (a) b (c)) S 1 7 7 0 -1 4194560 103 0 0 0 12 34 0 0 20 0 1 0"), Some((12, 34)));
        assert_eq!(parse_stat("7 (a) S 1"), None);
        assert_eq!(parse_resident("Name:\ta\nVmRSS:\t    2048 kB\nRssAnon: 1 kB\n"), Some(2048 * 1024));
        assert_eq!(parse_resident("Name:\ta\n"), None);
        assert_eq!(parse_schedstat("12 34 5\n"), Some((12, 34)));
        assert_eq!(parse_schedstat("\n"), None);
    }

    #[test]
    fn our_own_process() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        let earlier = cpu_time(pid).unwrap();
        // Asking is work in itself, so this ends.
        while cpu_time(pid).unwrap().since(earlier).total == 0 {}
        assert!(cpu_time(u32::MAX).is_err());
    }
}
