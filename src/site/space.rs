//! How much memory the content of files takes, wherever it is held: in the cache, or by clients that are being sent it.
//!
//! The cache alone is not the bound: what was pushed out of it stays in memory until the slowest client has taken it. So
//! content gets its share before it is read and gives it back when nobody holds any of it. What gets none is sent from the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::limits::Limits;

/// Beside a cache that is smaller, or none, so much may be on its way.
const LEAST_BESIDE_BYTES: usize = 8 * 1024 * 1024;

/// The space for the content of files, of which everybody takes who holds a clone.
#[derive(Debug, Clone)]
pub(super) struct Space {
    taken: Arc<AtomicUsize>,
    max_bytes: usize,
}

impl Space {
    /// For a cache, and as much again for what is on its way to clients and no longer kept.
    pub(super) fn beside_cache(limits: &Limits) -> Self {
        let beside = limits.cache_bytes.max(LEAST_BESIDE_BYTES);
        Space::new(limits.cache_bytes.saturating_add(beside))
    }

    pub(super) fn new(max_bytes: usize) -> Self {
        Space { taken: Arc::default(), max_bytes }
    }

    /// Bytes that are taken now.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Room for so many bytes, if there is any left.
    pub(super) fn take(&self, bytes: usize) -> Option<Share> {
        let more = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Share { taken: Arc::clone(&self.taken), bytes })
    }
}

/// Room for some content, which is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// Content that takes this room as long as anybody holds any of it.
    pub(super) fn filled(self, content: Vec<u8>) -> Bytes {
        debug_assert!(content.len() <= self.bytes, "{} bytes in room for {}", content.len(), self.bytes);
        Bytes::from_owner(Filled { content, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Filled {
    content: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_until_the_last_holder_has_gone() {
        let space = Space::new(100);
        let content = space.take(60).unwrap().filled(vec![b'x'; 60]);
        let (part, rest) = (content.slice(10..20), space.take(40).unwrap());
        assert!(space.take(1).is_none() && space.take(usize::MAX).is_none());
        assert!(space.take(0).is_some(), "an empty file fits always");
        drop(content);
        assert_eq!((space.taken(), &part[..]), (100, &[b'x'; 10][..]));
        drop(part);
        assert_eq!(space.taken(), 40);
        drop(rest);
        assert_eq!(space.taken(), 0);
    }

    #[test]
    fn there_is_room_for_what_the_cache_has_pushed_out() {
        const MIB: usize = 1024 * 1024;
        for (cache_bytes, expected) in [(32 * MIB, 64 * MIB), (8 * MIB, 16 * MIB), (MIB, 9 * MIB), (0, 8 * MIB)] {
            let limits = Limits { cache_bytes, ..Limits::default() };
            assert_eq!(Space::beside_cache(&limits).max_bytes, expected, "{cache_bytes}");
        }
    }
}
