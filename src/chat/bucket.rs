//! Token buckets: so many per second, and a burst before that counts.

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

#[cfg(test)]
mod tests {
    use super::*;

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
