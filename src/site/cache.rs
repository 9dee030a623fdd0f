//! Small files in memory, each checked for change at most once a second, and the compressed copies of these and others.
//!
//! Only what was found on the disk is kept, so asking for paths that do not exist fills nothing. When the bound is
//! reached, what was not asked for the longest goes first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::resource::{Copies, Copy, Resource};
use super::worker::Seen;
use crate::http::coding::Coding;

/// For how long a file is served without looking at the disk again.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(1);

/// What an entry takes beside what it holds, roughly.
const ENTRY_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Cache {
    entries: LruCache<Box<[u8]>, Entry>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` for a large file, of which only copies are kept.
    resource: Option<Arc<Resource>>,
    /// Of the content as it is: copies of another state are of no use.
    etag: Box<str>,
    copies: Copies,
    seen: Seen,
    checked_at: Instant,
    weight: usize,
}

impl Entry {
    fn weight(&self, path: &[u8]) -> usize {
        let resource = self.resource.as_ref().map_or(0, |resource| resource.weight());
        resource + self.copies.weight() + path.len() + ENTRY_BYTES
    }
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Cache { entries: LruCache::unbounded(), bytes: 0, max_bytes }
    }

    /// The file at this path, if it was checked within the last second.
    pub(super) fn fresh(&mut self, path: &[u8], now: Instant) -> Option<(&Arc<Resource>, &Copies)> {
        let entry = self.entries.get(path)?;
        let is_fresh = now.saturating_duration_since(entry.checked_at) < FRESH_FOR;
        entry.resource.as_ref().filter(|_| is_fresh).map(|resource| (resource, &entry.copies))
    }

    /// The file at this path as it was when it was checked last.
    pub(super) fn last_known(&self, path: &[u8]) -> Option<Arc<Resource>> {
        self.entries.peek(path)?.resource.clone()
    }

    /// The copies of the file at this path that was just looked at, large or small.
    pub(super) fn copies(&self, path: &[u8]) -> Option<&Copies> {
        self.entries.peek(path).map(|entry| &entry.copies)
    }

    /// By what a change of the file at this path would show.
    pub(super) fn seen(&self, path: &[u8]) -> Option<Seen> {
        self.entries.peek(path).filter(|entry| entry.resource.is_some()).map(|entry| entry.seen)
    }

    /// The file at this path was found unchanged, or could not be looked at: it counts as fresh again.
    pub(super) fn renew(&mut self, path: &[u8], checked_at: Instant) {
        if let Some(entry) = self.entries.peek_mut(path) {
            entry.checked_at = checked_at;
        }
    }

    /// Keeps what was found at a path, as far as it may be kept: small files, and copies of what has not changed.
    pub(super) fn insert(&mut self, path: &[u8], found: &Arc<Resource>, seen: Seen, checked_at: Instant) {
        let former = self.remove(path);
        let etag = found.identity.validators.etag.as_str().into();
        let copies = former.filter(|former| former.etag == etag).map(|former| former.copies).unwrap_or_default();
        let resource = found.is_in_memory().then(|| Arc::clone(found));
        if resource.is_some() || found.is_compressible {
            self.put(path, Entry { resource, etag, copies, seen, checked_at, weight: 0 });
        }
    }

    /// Keeps what came of copying the file at this path, if it is still the same.
    pub(super) fn put_copy(&mut self, path: &[u8], of: &Resource, coding: Coding, copy: Copy) {
        let is_same = |entry: &Entry| *entry.etag == *of.identity.validators.etag;
        if !self.entries.peek(path).is_some_and(is_same) {
            return;
        }
        let Some(mut entry) = self.remove(path) else { return };
        let copy = match copy {
            // What is too large to be kept would be made again with every request.
            Copy::Ready(copy) if entry.weight(path) + copy.weight() > self.max_bytes => Copy::Useless,
            copy => copy,
        };
        entry.copies.put(coding, copy);
        self.put(path, entry);
    }

    fn put(&mut self, path: &[u8], mut entry: Entry) {
        entry.weight = entry.weight(path);
        if entry.weight > self.max_bytes {
            return;
        }
        self.bytes += entry.weight;
        self.entries.put(path.into(), entry);
        while self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.entries.pop_lru() else { break };
            self.bytes -= oldest.weight;
        }
    }

    pub(super) fn forget(&mut self, path: &[u8]) {
        self.remove(path);
    }

    fn remove(&mut self, path: &[u8]) -> Option<Entry> {
        let entry = self.entries.pop(path)?;
        self.bytes -= entry.weight;
        Some(entry)
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
    use crate::site::manner::Manner;
    use crate::site::representation::{Author, Representation, Source, Traits};

    fn file(length: usize, etag: &str) -> Arc<Resource> {
        let validators = Validators { etag: etag.to_owned(), modified: 0, is_date_strong: true };
        let traits = Traits { name: b"x", validators, coding: None, varies: true, author: Author::Operator };
        let identity = Representation::new(traits, Source::Memory(vec![0; length].into()), &Manner::default());
        Arc::new(Resource { name: b"x".as_slice().into(), identity, siblings: Vec::new(), is_compressible: true })
    }

    fn copy_of(resource: &Resource, length: usize) -> Copy {
        let copy = resource.identity.coded(b"x", Coding::Gzip, vec![0; length].into(), &Manner::default());
        Copy::Ready(Arc::new(copy))
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let now = Instant::now();
        let mut cache = Cache::new(100 * 1024);
        for n in 0..1000_usize {
            let resource = file(n * 10, "\"x\"");
            cache.insert(n.to_string().as_bytes(), &resource, Seen::default(), now);
            cache.put_copy(n.to_string().as_bytes(), &resource, Coding::Gzip, copy_of(&resource, n * 3));
            assert!(cache.bytes() <= 100 * 1024);
            assert!(cache.fresh(b"0", now).is_some(), "{n}");
        }
        assert!(cache.fresh(b"1", now).is_none());
        assert!(cache.fresh(b"999", now).is_some());
        for n in 0..1000_usize {
            cache.forget(n.to_string().as_bytes());
        }
        assert_eq!((cache.bytes(), cache.entries.len()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_not_kept_and_pushes_nothing_out() {
        let now = Instant::now();
        let mut cache = Cache::new(10_000);
        cache.insert(b"small", &file(10, "\"x\""), Seen::default(), now);
        cache.insert(b"large", &file(10_000, "\"x\""), Seen::default(), now);
        assert!(cache.fresh(b"small", now).is_some());
        assert!(cache.fresh(b"large", now).is_none());
        let small = file(10, "\"x\"");
        cache.put_copy(b"small", &small, Coding::Gzip, copy_of(&small, 10_000));
        assert!(cache.fresh(b"small", now).is_some());
        assert!(matches!(cache.copies(b"small"), Some(Copies { .. })) && cache.copies(b"small").unwrap().weight() == 0);
        cache.insert(b"small", &file(10_000, "\"x\""), Seen::default(), now);
        assert!(cache.last_known(b"small").is_none(), "the old content must not stay");
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn copies_stay_as_long_as_what_they_are_of() {
        let now = Instant::now();
        let mut cache = Cache::new(100_000);
        let weight = |cache: &Cache| cache.copies(b"a").map_or(0, Copies::weight);
        let one = file(1000, "\"one\"");
        cache.put_copy(b"a", &one, Coding::Gzip, copy_of(&one, 100));
        assert!(cache.copies(b"a").is_none(), "there is nothing of which it could be a copy");
        cache.insert(b"a", &one, Seen::default(), now);
        cache.put_copy(b"a", &one, Coding::Gzip, copy_of(&one, 100));
        assert!(weight(&cache) > 100);
        cache.insert(b"a", &file(1000, "\"one\""), Seen::default(), now);
        assert!(weight(&cache) > 100);
        cache.insert(b"a", &file(1000, "\"two\""), Seen::default(), now);
        assert_eq!(weight(&cache), 0);
        cache.put_copy(b"a", &one, Coding::Gzip, copy_of(&one, 100));
        assert_eq!(weight(&cache), 0, "it came too late");
    }

    #[test]
    fn fresh_for_a_second() {
        let start = Instant::now();
        let mut cache = Cache::new(10_000);
        cache.insert(b"a", &file(10, "\"x\""), Seen::default(), start);
        for (millis, expected) in [(0, true), (999, true), (1000, false)] {
            assert_eq!(cache.fresh(b"a", start + Duration::from_millis(millis)).is_some(), expected, "{millis}");
        }
        cache.renew(b"a", start + Duration::from_secs(5));
        assert!(cache.fresh(b"a", start + Duration::from_millis(5999)).is_some());
        assert!(cache.last_known(b"a").is_some());
    }
}
