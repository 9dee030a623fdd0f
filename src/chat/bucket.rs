//! Token buckets: so many per second, and a burst before that counts.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A rate and its burst. A rate of zero means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per second.
    pub per_second: u32,
    /// Tokens that may be spent at once.
    pub burst: u32,
}

/// What one peer may still do. It may go into debt by one deed, and then waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// When the bucket is, or was, full again: the further ahead, the emptier it is now.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(now: Instant) -> Self {
        Bucket { full_at: now }
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// How long until there is one, if there is none; nothing is taken then.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Ok(());
        }
        let wait = self.wait(rate, now);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.spend(rate, now);
        Ok(())
    }

    /// Takes a token even if there is none: what was already read is not thrown away, but the next must wait.
    pub fn spend(&mut self, rate: Rate, now: Instant) {
        if rate.per_second > 0 {
            self.full_at = self.full_at.max(now) + Duration::from_secs(1) / rate.per_second;
        }
    }

    /// How long until there is a token.
    #[must_use]
    pub fn wait(&self, rate: Rate, now: Instant) -> Duration {
        if rate.per_second == 0 {
            return Duration::ZERO;
        }
        let one = Duration::from_secs(1) / rate.per_second;
        let whole = one * rate.burst.max(1);
        (self.full_at.saturating_duration_since(now) + one).saturating_sub(whole)
    }
}

/// A bucket for each of many, as long as it is not full.
#[derive(Debug)]
pub struct Buckets<K> {
    buckets: HashMap<K, Bucket>,
    /// When there are so many, those that are full again are forgotten.
    sweep_at: usize,
}

impl<K> Buckets<K> {
    /// Fewer buckets than this are not worth looking through.
    const FEW: usize = 1_000;
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Buckets { buckets: HashMap::new(), sweep_at: Self::FEW }
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Takes a token out of one of them.
    ///
    /// # Errors
    ///
    /// How long until there is one, if there is none; nothing is taken then.
    pub fn take(&mut self, key: K, rate: Rate, now: Instant) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Ok(());
        }
        if self.buckets.len() >= self.sweep_at {
            self.buckets.retain(|_, bucket| bucket.full_at > now);
            // Each is looked at once or twice in all, and there are never more than twice as many as are in use.
            self.sweep_at = (self.buckets.len() * 2).max(Self::FEW);
        }
        self.buckets.entry(key).or_insert(Bucket::full(now)).take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_bucket_and_those_who_rest_are_forgotten() {
        let rate = Rate { per_second: 1, burst: 2 };
        let start = Instant::now();
        let mut buckets = Buckets::default();
        let taken =
            |buckets: &mut Buckets<u32>, key, now| (0..9).filter(|_| buckets.take(key, rate, now).is_ok()).count();
        assert_eq!((taken(&mut buckets, 1, start), taken(&mut buckets, 2, start)), (2, 2));
        for key in 0..100_000 {
            let now = start + Duration::from_millis(key.into());
            assert_eq!(buckets.take(1_000 + key, rate, now), Ok(()));
            assert!(buckets.buckets.len() <= 2_002, "{}: at most 1000 are in use", buckets.buckets.len());
        }
        assert_eq!(taken(&mut buckets, 1, start + Duration::from_secs(100)), 2);
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 5 };
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let taken = (0..20).filter(|_| bucket.take(rate, start).is_ok()).count();
        assert_eq!(taken, 5);
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(100)));
        let later = |millis| start + Duration::from_millis(millis);
        assert_eq!(bucket.take(rate, later(99)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(rate, later(100)), Ok(()));
        let taken = (0..20).filter(|_| bucket.take(rate, later(60_000)).is_ok()).count();
        assert_eq!(taken, 5, "rest does not add up beyond the burst");
    }

    #[test]
    fn zero_is_no_limit() {
        let rate = Rate { per_second: 0, burst: 0 };
        let now = Instant::now();
        let mut bucket = Bucket::full(now);
        assert!((0..1000).all(|_| bucket.take(rate, now).is_ok()));
    }

    #[test]
    fn debt_is_paid_before_anything_else() {
        let rate = Rate { per_second: 10, burst: 1 };
        let now = Instant::now();
        let mut bucket = Bucket::full(now);
        for _ in 0..10 {
            bucket.spend(rate, now);
        }
        assert_eq!(bucket.wait(rate, now), Duration::from_secs(1));
    }
}
