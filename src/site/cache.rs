//! Small files in memory, each checked for change at most once a second.
//!
//! Only what was found on the disk is kept, so asking for paths that do not exist fills nothing. When the bound is
//! reached, what was not asked for the longest goes first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::file::Whole;
use super::worker::Stamp;

/// For how long a file is served without looking at the disk again.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What an entry takes beside its content, its fields and its path, roughly.
const ENTRY_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Cache {
    entries: LruCache<Box<[u8]>, Entry>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    file: Arc<Whole>,
    stamp: Stamp,
    checked_at: Instant,
    weight: usize,
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Cache { entries: LruCache::unbounded(), bytes: 0, max_bytes }
    }

    /// The file at this path, if it was checked within the last second.
    pub(super) fn fresh(&mut self, path: &[u8], now: Instant) -> Option<&Whole> {
        let entry = self.entries.get(path)?;
        (now.saturating_duration_since(entry.checked_at) < FRESH_FOR).then_some(&*entry.file)
    }

    /// The file at this path as it was when it was checked last.
    pub(super) fn last_known(&self, path: &[u8]) -> Option<Arc<Whole>> {
        self.entries.peek(path).map(|entry| Arc::clone(&entry.file))
    }

    /// By what a change of the file at this path would show.
    pub(super) fn stamp(&self, path: &[u8]) -> Option<Stamp> {
        self.entries.peek(path).map(|entry| entry.stamp)
    }

    /// The file at this path was found unchanged, or could not be looked at: it counts as fresh again.
    pub(super) fn renew(&mut self, path: &[u8], checked_at: Instant) {
        if let Some(entry) = self.entries.peek_mut(path) {
            entry.checked_at = checked_at;
        }
    }

    pub(super) fn insert(&mut self, path: &[u8], file: Arc<Whole>, stamp: Stamp, checked_at: Instant) {
        self.remove(path);
        let weight = file.content.len() + file.representation.weight() + path.len() + ENTRY_BYTES;
        if weight > self.max_bytes {
            return;
        }
        self.bytes += weight;
        self.entries.put(path.into(), Entry { file, stamp, checked_at, weight });
        while self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.entries.pop_lru() else { break };
            self.bytes -= oldest.weight;
        }
    }

    pub(super) fn remove(&mut self, path: &[u8]) {
        if let Some(entry) = self.entries.pop(path) {
            self.bytes -= entry.weight;
        }
    }

    /// Bytes that are held now.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::conditional::Validators;
    use crate::site::file::{Author, Representation};

    fn file(length: usize) -> Arc<Whole> {
        let validators = Validators { etag: "\"x\"".to_owned(), modified: 0, is_date_strong: true };
        let representation = Representation::new(b"x", validators, Author::Operator);
        Arc::new(Whole { representation, content: vec![0; length].into() })
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let now = Instant::now();
        let mut cache = Cache::new(100 * 1024);
        for n in 0..1000_usize {
            cache.insert(n.to_string().as_bytes(), file(n * 10), Stamp::default(), now);
            assert!(cache.bytes() <= 100 * 1024);
            assert!(cache.fresh(b"0", now).is_some(), "{n}");
        }
        assert!(cache.fresh(b"1", now).is_none());
        assert!(cache.fresh(b"999", now).is_some());
        for n in 0..1000_usize {
            cache.remove(n.to_string().as_bytes());
        }
        assert_eq!((cache.bytes(), cache.entries.len()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_not_kept_and_pushes_nothing_out() {
        let now = Instant::now();
        let mut cache = Cache::new(10_000);
        cache.insert(b"small", file(10), Stamp::default(), now);
        cache.insert(b"large", file(10_000), Stamp::default(), now);
        assert!(cache.fresh(b"small", now).is_some());
        assert!(cache.fresh(b"large", now).is_none());
        cache.insert(b"small", file(10_000), Stamp::default(), now);
        assert!(cache.last_known(b"small").is_none(), "the old content must not stay");
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn fresh_for_a_second() {
        let start = Instant::now();
        let mut cache = Cache::new(10_000);
        cache.insert(b"a", file(10), Stamp::default(), start);
        for (millis, expected) in [(0, true), (999, true), (1000, false)] {
            assert_eq!(cache.fresh(b"a", start + Duration::from_millis(millis)).is_some(), expected, "{millis}");
        }
        cache.renew(b"a", start + Duration::from_secs(5));
        assert!(cache.fresh(b"a", start + Duration::from_millis(5999)).is_some());
        assert!(cache.last_known(b"a").is_some());
    }
}
