//! What the thread that writes tells of the file, where the loop finds it without a look at the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::chat::entry::Position;
use crate::histogram::{COUNTS, Histogram, SECONDS};
use crate::journal::contract::StoreStats;

use super::counts::Counts;

/// How long the lengths of the files may be those of a while ago. To ask for them with each batch is a noticeable part of
/// what a batch costs.
const LENGTHS_AFTER: Duration = Duration::from_secs(1);

/// What was reported last. Whoever holds it does nothing but copy.
#[derive(Debug, Clone)]
pub(super) struct Board(Arc<Mutex<StoreStats>>);

impl Board {
    pub(super) fn read(&self) -> StoreStats {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, StoreStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of the thread that writes.
#[derive(Debug)]
pub(super) struct Reporter {
    board: Board,
    file: PathBuf,
    log: PathBuf,
    told: Option<Marks>,
    /// When the lengths of the files were looked at, and whether they may have changed since.
    looked_at: Instant,
    may_differ: bool,
}

/// Where the file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) last: Position,
    pub(super) counts: Counts,
}

impl Reporter {
    pub(super) fn new(path: &Path, marks: Marks, now: Instant) -> Self {
        let nothing = StoreStats {
            entries: 0,
            file_bytes: 0,
            log_bytes: 0,
            unindexed: 0,
            trimmed: 0,
            batches: Histogram::new(COUNTS),
            commits: Histogram::new(SECONDS),
        };
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let board = Board(Arc::new(Mutex::new(nothing)));
        let file = path.to_owned();
        let mut reporter = Reporter { board, file, log: log.into(), told: None, looked_at: now, may_differ: true };
        reporter.tell(marks, now);
        reporter.look(now);
        reporter
    }

    pub(super) fn board(&self) -> Board {
        self.board.clone()
    }

    /// A batch of so many entries was stored.
    pub(super) fn stored(&self, entries: usize, took: Duration) {
        let mut stats = self.board.lock();
        stats.batches.record(entries as f64);
        stats.commits.record(took.as_secs_f64());
    }

    /// Tells where the file stands, if anything has changed.
    pub(super) fn tell(&mut self, marks: Marks, now: Instant) {
        if self.told.replace(marks) != Some(marks) {
            self.may_differ = true;
            let counts = marks.counts;
            let mut stats = self.board.lock();
            stats.entries = counts.kept();
            stats.unindexed = counts.unindexed();
            stats.trimmed = counts.trimmed();
        }
        if self.due().is_some_and(|due| due <= now) {
            self.look(now);
        }
    }

    /// When the lengths of the files are to be told again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.may_differ.then_some(self.looked_at + LENGTHS_AFTER)
    }

    fn look(&mut self, now: Instant) {
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let lengths = (bytes(&self.file), bytes(&self.log));
        let mut stats = self.board.lock();
        (stats.file_bytes, stats.log_bytes) = lengths;
        (self.looked_at, self.may_differ) = (now, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_of_the_files_are_told_once_in_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let write = |length: usize| fs::write(&path, vec![0; length]).unwrap();
        let marks = |last| Marks { last: Position(last), counts: Counts::default() };
        let start = Instant::now();
        write(1);
        let mut reporter = Reporter::new(&path, marks(0), start);
        let told = |reporter: &Reporter| reporter.board().read().file_bytes;
        assert_eq!((told(&reporter), reporter.due()), (1, None));
        write(2);
        reporter.tell(marks(1), start + LENGTHS_AFTER / 2);
        assert_eq!((told(&reporter), reporter.due()), (1, Some(start + LENGTHS_AFTER)));
        reporter.tell(marks(1), start + LENGTHS_AFTER);
        assert_eq!((told(&reporter), reporter.due()), (2, None));
        // Nothing has changed, as far as it knows.
        write(3);
        reporter.tell(marks(1), start + 9 * LENGTHS_AFTER);
        assert_eq!(told(&reporter), 2);
        reporter.tell(marks(2), start + 9 * LENGTHS_AFTER);
        assert_eq!((told(&reporter), reporter.due()), (3, None));
    }
}
