//! Whether a client takes what it has asked for fast enough.
//!
//! A byte now and then keeps a socket from being stalled, and would let a client hold for days what its response holds: a
//! descriptor, an outbox, content of files. So while it is behind its time runs, and every byte that it takes buys it some,
//! at the least rate. It never has more than a while ahead, so that what it took quickly an hour ago does not count, and
//! begins with all of that. What it has left when it has caught up is what it goes on with when it falls behind again, and
//! the time between is given to it: so many responses are no more than one.
//!
//! Taken is what the kernel has accepted, and what the peer was seen to take of that while the kernel accepted nothing. Both
//! come in lumps, up to a stall timeout apart; the while is twice as long, so that a lump that comes late costs nobody
//! anything.

use std::time::{Duration, Instant};

use crate::limits::Limits;

/// The least rate, and how far ahead of it a client can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeastRate {
    bytes_per_second: u64,
    most: Duration,
}

impl LeastRate {
    /// `None` if everybody may be as slow as they like.
    pub(super) fn of(limits: &Limits) -> Option<LeastRate> {
        let bytes_per_second = limits.min_response_bytes_per_second as u64;
        let most = limits.stall_timeout.saturating_mul(2);
        (bytes_per_second > 0).then_some(LeastRate { bytes_per_second, most })
    }

    /// The time in which so much is to be taken at the most.
    fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / self.bytes_per_second).min(self.most)
    }
}

/// How an HTTP client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It has not been behind yet.
    New,
    /// It has taken all that there was.
    Level {
        /// Since when.
        since: Instant,
        /// How much time it had left then.
        left: Duration,
    },
    /// Something waits for it that its socket has no room for.
    Behind {
        /// When it is given up, unless it takes more by then.
        until: Instant,
    },
}

impl Pace {
    /// Its socket has no room any more.
    pub(super) fn fall_behind(&mut self, rate: LeastRate, now: Instant) {
        let left = match *self {
            Pace::New => rate.most,
            Pace::Level { since, left } => left.saturating_add(now.saturating_duration_since(since)).min(rate.most),
            Pace::Behind { .. } => return,
        };
        *self = Pace::Behind { until: now + left };
    }

    /// It has taken so many bytes while it was behind.
    pub(super) fn take(&mut self, bytes: usize, rate: LeastRate, now: Instant) {
        if let Pace::Behind { until } = self {
            *until = (*until + rate.time_for(bytes)).min(now + rate.most);
        }
    }

    /// It has taken everything.
    pub(super) fn catch_up(&mut self, now: Instant) {
        if let Pace::Behind { until } = *self {
            *self = Pace::Level { since: now, left: until.saturating_duration_since(now) };
        }
    }

    /// When it will have been too slow.
    #[must_use]
    pub(super) fn ends(&self) -> Option<Instant> {
        match *self {
            Pace::Behind { until } => Some(until),
            Pace::New | Pace::Level { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 bytes in a second, over twice ten seconds.
    fn rate() -> LeastRate {
        let limits =
            Limits { min_response_bytes_per_second: 100, stall_timeout: Duration::from_secs(10), ..Limits::default() };
        LeastRate::of(&limits).unwrap()
    }

    /// When a client is given up that takes so much each time after so many seconds; `None` if it is not within an hour.
    fn given_up(pace: &mut Pace, start: Instant, every: u64, bytes: usize) -> Option<u64> {
        pace.fall_behind(rate(), start);
        for second in (0..3_600).step_by(every as usize) {
            let now = start + Duration::from_secs(second + every);
            let ends = pace.ends().unwrap();
            if ends < now {
                return Some((ends - start).as_secs());
            }
            pace.take(bytes, rate(), now);
        }
        None
    }

    #[test]
    fn who_is_slower_than_the_rate_goes_and_nobody_else() {
        for (name, every, bytes, expected) in [
            ("nothing", 1, 0, Some(20)),
            ("a byte a second", 1, 1, Some(20)),
            ("half of it", 1, 50, Some(39)),
            ("nearly all of it", 1, 90, Some(191)),
            ("just that", 1, 100, None),
            ("more", 1, 1_000, None),
            ("just that, in lumps", 10, 1_000, None),
            ("more, in lumps that come late", 19, 1_900, None),
            ("a great lump is worth no more than the while", 21, 1_000_000, Some(20)),
        ] {
            assert_eq!(given_up(&mut Pace::New, Instant::now(), every, bytes), expected, "{name}");
        }
    }

    #[test]
    fn many_responses_are_no_more_than_one() {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::New, start);
        // Each is taken to its end, and the next one is asked for at once.
        while now < start + Duration::from_secs(3_600) {
            pace.fall_behind(rate(), now);
            now += Duration::from_secs(1);
            if pace.ends().unwrap() < now {
                break;
            }
            pace.take(50, rate(), now);
            pace.catch_up(now);
            assert_eq!(pace.ends(), None);
        }
        assert_eq!((now - start).as_secs(), 40);
    }

    #[test]
    fn who_rests_may_begin_anew() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::New;
        pace.fall_behind(rate(), start);
        let caught_up = start + 18 * second;
        pace.catch_up(caught_up);
        for (rested, left) in [(0, 2), (5, 7), (18, 20), (3_600, 20)] {
            let (mut pace, now) = (pace, caught_up + rested * second);
            pace.fall_behind(rate(), now);
            assert_eq!(pace.ends(), Some(now + left * second), "after {rested} seconds");
            pace.fall_behind(rate(), now + second);
            assert_eq!(pace.ends(), Some(now + left * second), "it was behind already");
        }
        pace.take(1_000_000, rate(), caught_up);
        assert_eq!(pace.ends(), None, "nothing counts while it is level");
    }

    #[test]
    fn no_rate_is_no_limit_and_no_bound_overflows() {
        let limits =
            |rate, stall_timeout| Limits { min_response_bytes_per_second: rate, stall_timeout, ..Limits::default() };
        assert!(LeastRate::of(&limits(0, Duration::from_secs(1))).is_none());
        let slowest = LeastRate::of(&limits(1, Duration::from_secs(1 << 40))).unwrap();
        assert_eq!(slowest.time_for(usize::MAX), slowest.most);
        let fastest = LeastRate::of(&limits(usize::MAX, Duration::from_secs(1))).unwrap();
        assert!(fastest.time_for(usize::MAX) <= Duration::from_secs(1));
    }
}
