//! What the thread that writes tells of the file, where the loop finds it without a look at the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::chat::entry::Position;
use crate::histogram::{COUNTS, Histogram, SECONDS};
use crate::journal::contract::StoreStats;

use super::counts::Counts;

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
}

/// Where the file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) last: Position,
    pub(super) counts: Counts,
}

impl Reporter {
    pub(super) fn new(path: &Path, marks: Marks) -> Self {
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
        let mut reporter = Reporter { board, file: path.to_owned(), log: log.into(), told: None };
        reporter.tell(marks);
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
    pub(super) fn tell(&mut self, marks: Marks) {
        if self.told.replace(marks) == Some(marks) {
            return;
        }
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let (file_bytes, log_bytes) = (bytes(&self.file), bytes(&self.log));
        let counts = marks.counts;
        let mut stats = self.board.lock();
        stats.entries = counts.kept();
        stats.unindexed = counts.unindexed();
        stats.trimmed = counts.trimmed();
        (stats.file_bytes, stats.log_bytes) = (file_bytes, log_bytes);
    }
}
