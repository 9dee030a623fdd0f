//! How the files that this process may have open are shared between clients and what they are sent.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::Limits;
use crate::site;

/// Descriptors that are neither for clients nor for files that are being sent: the poll, the waker, signals, listeners,
/// standard streams, a file that is being looked at.
const RESERVED: usize = 64;
/// The share of files that are being sent: so many clients for each.
const CLIENTS_PER_FILE: usize = 16;
/// Where there are few descriptors it may be larger, for so many files.
const LEAST_FILES: usize = 64;

/// Who may have how many of the descriptors of this process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// All there are.
    pub(super) descriptors: usize,
    /// Those for clients, if there is one for each file that may be open.
    pub(super) most_connections: usize,
    /// Large files that may be open in order to be sent.
    pub(super) open_files: usize,
    /// How many of them leave as many for clients.
    pub(super) most_open_files: usize,
}

impl Shares {
    /// Raises the limit of open files as far as this process may, and shares what that allows.
    pub(super) fn of_process(limits: &Limits) -> Self {
        Shares::of(raise_limit(), site::most_memory_descriptors(limits), limits)
    }

    fn of(descriptors: usize, in_memory: usize, limits: &Limits) -> Self {
        let left = descriptors.saturating_sub(RESERVED + in_memory).max(2);
        let least = LEAST_FILES.min(left / 4).max(1);
        let derived = match limits.max_connections {
            // A client is sent one file at a time.
            Some(clients) => clients.min(left.saturating_sub(clients)),
            None => left / CLIENTS_PER_FILE,
        };
        let open_files = limits.max_open_files.unwrap_or(derived.max(least));
        let most_open_files = left / 2;
        Shares { descriptors, most_connections: left - open_files.min(most_open_files), open_files, most_open_files }
    }
}

/// Raises the soft limit of open files to the hard one and returns what is in force.
fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Without the right to do so we live with what there is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_what_they_are_sent_share_the_descriptors() {
        // descriptors, of them in memory, --max-connections, --max-open-files; connections at the most, open files
        let table = [
            (1_048_576, 320, None, None, 982_680, 65_512),
            (20_000, 320, None, None, 18_390, 1_226),
            (20_000, 320, None, Some(0), 19_616, 0),
            (20_000, 320, Some(1_000), None, 18_616, 1_000),
            (1_024, 80, None, None, 816, 64),
            (500, 71, None, None, 301, 64),
            (100, 65, None, None, 1, 1),
            (10, 0, None, None, 1, 1),
            (1_024, 80, Some(200), None, 680, 200),
            (1_024, 80, Some(800), None, 800, 80),
            (1_024, 80, Some(900), None, 816, 64),
            (1_024, 80, Some(10), None, 816, 64),
            (1_024, 80, None, Some(1), 879, 1),
            (1_024, 80, None, Some(440), 440, 440),
            (1_024, 80, None, Some(5_000), 440, 5_000),
            (usize::MAX, 320, None, None, usize::MAX - 384 - (usize::MAX - 384) / 16, (usize::MAX - 384) / 16),
        ];
        for (descriptors, in_memory, max_connections, max_open_files, most_connections, open_files) in table {
            let limits = Limits { max_connections, max_open_files, ..Limits::default() };
            let shares = Shares::of(descriptors, in_memory, &limits);
            let asked = (descriptors, max_connections, max_open_files);
            assert_eq!((shares.most_connections, shares.open_files), (most_connections, open_files), "{asked:?}");
        }
    }
}
