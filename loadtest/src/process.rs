//! What the kernel says about a process, and about what this one may open.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::clock::SECOND;

/// Descriptors that are no client sockets: the standard three, the poll, `/proc`, and some to spare.
const SPARE_DESCRIPTORS: u64 = 32;

/// What a process has used up to now; times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// In its own code, to the clock tick.
    pub user: u64,
    /// In the kernel on its behalf, to the clock tick. On loopback that includes the receiving half of TCP.
    pub system: u64,
    /// Both, as exactly as the kernel tells it.
    pub total: u64,
    /// Ready to run, but waiting for a CPU that another process had.
    pub waited: u64,
    /// How often it gave its CPU away to wait for something.
    pub voluntary_switches: u64,
    /// How often its CPU was taken away.
    pub involuntary_switches: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            user: self.user + other.user,
            system: self.system + other.system,
            total: self.total + other.total,
            waited: self.waited + other.waited,
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
            involuntary_switches: self.involuntary_switches + other.involuntary_switches,
        }
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            total: self.total.saturating_sub(earlier.total),
            waited: self.waited.saturating_sub(earlier.waited),
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(earlier.involuntary_switches),
        }
    }
}

/// What process `pid` has used, in all its threads.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (user, system) = parse_stat(&stat).ok_or_else(|| io::Error::other("/proc/PID/stat is not as expected"))?;
    let tick = SECOND / rustix::param::clock_ticks_per_second();
    let mut usage = Usage { user: user * tick, system: system * tick, ..Usage::default() };
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread that ended meanwhile is left out, and so is what the kernel was not built to tell.
        let text = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let (run, waited) = parse_schedstat(&text("schedstat")).unwrap_or_default();
        usage.total += run;
        usage.waited += waited;
        let status = text("status");
        usage.voluntary_switches += number_behind(&status, "voluntary_ctxt_switches:").unwrap_or_default();
        usage.involuntary_switches += number_behind(&status, "nonvoluntary_ctxt_switches:").unwrap_or_default();
    }
    if usage.total == 0 {
        usage.total = usage.user + usage.system;
    }
    Ok(usage)
}

/// What each of `pids` has used; nothing if one of them is gone.
pub fn usages(pids: &[u32]) -> Vec<Usage> {
    pids.iter().map(|&pid| usage(pid)).collect::<io::Result<_>>().unwrap_or_default()
}

/// Resident memory of all of `pids` together, in bytes; nothing if there are none, or one of them is gone.
pub fn resident_bytes_of_all(pids: &[u32]) -> Option<u64> {
    let all: io::Result<Vec<u64>> = pids.iter().map(|&pid| resident_bytes(pid)).collect();
    all.ok().filter(|all| !all.is_empty()).map(|all| all.iter().sum())
}

/// Resident memory of process `pid`, in bytes.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status).ok_or_else(|| io::Error::other("/proc/PID/status has no VmRSS"))
}

/// How many sockets a process may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimit {
    /// What it cannot raise by itself.
    pub hard: u64,
    /// What is left of it for clients.
    pub usable: u64,
}

/// Raises the soft limit of open files as far as it may go.
pub fn raise_file_limit() -> FileLimit {
    let limit = getrlimit(Resource::Nofile);
    // Where the hard limit may not be taken in full, what we have stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    FileLimit { hard: limit.maximum.unwrap_or(u64::MAX), usable: current.saturating_sub(SPARE_DESCRIPTORS) }
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
    number_behind(status, "VmRSS:").map(|kib| kib * 1024)
}

fn number_behind(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
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
        assert_eq!(number_behind("nonvoluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches:"), None);
        assert_eq!(number_behind("a:\t1\nvoluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(parse_schedstat("12 34 5\n"), Some((12, 34)));
        assert_eq!(parse_schedstat("\n"), None);
    }

    #[test]
    fn our_own_process() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        let earlier = usage(pid).unwrap();
        // Asking is work in itself, so this ends.
        while usage(pid).unwrap().since(earlier).total == 0 {}
        assert!(usage(u32::MAX).is_err());
        assert_eq!((usages(&[pid, pid]).len(), usages(&[pid, u32::MAX]).len()), (2, 0));
        assert!(resident_bytes_of_all(&[pid, pid]) > Some(200_000));
        assert_eq!((resident_bytes_of_all(&[]), resident_bytes_of_all(&[u32::MAX])), (None, None));
    }
}
