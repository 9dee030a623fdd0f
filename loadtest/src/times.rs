//! Where latencies are counted while a run goes on.
//!
//! One is recorded for every message and member, so recording is the least it can be: a shift and an increment. The
//! buckets are those of an HdrHistogram with three significant digits, and they become one when the run is over.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::SECOND;

/// Buckets between two powers of two: 1,024, which keeps the error below a thousandth.
const SUB_BITS: u32 = 10;
/// Times are counted in units of 256 ns.
const UNIT_BITS: u32 = 8;
/// The longest time that is told apart, in nanoseconds; what took longer counts as this.
const MAX: u64 = 3_600 * SECOND;

/// Counts of times.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Vec<(u32, u64)>", from = "Vec<(u32, u64)>")]
pub struct Times {
    counts: Vec<u64>,
}

impl Default for Times {
    fn default() -> Self {
        Times { counts: vec![0; bucket(MAX) + 1] }
    }
}

impl Times {
    /// Counts `time`, in nanoseconds.
    #[inline]
    pub fn record(&mut self, time: u64) {
        self.counts[bucket(time.min(MAX))] += 1;
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Times) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }

    /// What was counted since `earlier`, which was a copy of this.
    pub fn since(&self, earlier: &Times) -> Times {
        Times { counts: self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect() }
    }

    /// The same counts as a histogram of nanoseconds, to three digits.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1 << UNIT_BITS, MAX, 3).expect("these bounds are valid");
        for (bucket, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            histogram.saturating_record_n(middle(bucket), count);
        }
        histogram
    }
}

/// Only buckets that hold something are written down, each with its number.
impl From<Times> for Vec<(u32, u64)> {
    fn from(times: Times) -> Self {
        (0..).zip(times.counts).filter(|(_, count)| *count > 0).collect()
    }
}

impl From<Vec<(u32, u64)>> for Times {
    fn from(filled: Vec<(u32, u64)>) -> Self {
        let mut times = Times::default();
        for (bucket, count) in filled {
            if let Some(place) = times.counts.get_mut(bucket as usize) {
                *place += count;
            }
        }
        times
    }
}

/// The first 2,048 buckets are a unit wide, the next 1,024 two units, and so on.
#[inline]
fn bucket(time: u64) -> usize {
    let units = time >> UNIT_BITS;
    let shift = (u64::BITS - SUB_BITS - 1).saturating_sub((units | 1).leading_zeros());
    ((shift as usize) << SUB_BITS) + (units >> shift) as usize
}

/// A time in the middle of `bucket`.
fn middle(bucket: usize) -> u64 {
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    let units = bucket - (shift << SUB_BITS);
    let width = 1_u64 << (shift + UNIT_BITS as usize);
    units as u64 * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for time in (0..3_000_000).step_by(64).chain((3_000_000..MAX).step_by(1_000_000_007)) {
            let found = bucket(time);
            assert!(found >= last, "{time}");
            last = found;
            let error = middle(found).abs_diff(time);
            assert!(error <= 128.max(time / 1_000), "{time} is taken for {}", middle(found));
        }
        assert_eq!(bucket(MAX) + 1, Times::default().counts.len());
    }

    #[test]
    fn quantiles() {
        let mut times = Times::default();
        for ms in 1..=1_000 {
            times.record(ms * 1_000_000);
        }
        let earlier = times.clone();
        times.record(u64::MAX);
        assert_eq!(times.since(&earlier).histogram().len(), 1);
        let histogram = Times::from(Vec::from(times)).histogram();
        assert_eq!(histogram.len(), 1_001);
        for (quantile, ms) in [(0.5, 501.0), (0.9, 901.0), (0.99, 991.0), (1.0, 3_600_000.0)] {
            let found = histogram.value_at_quantile(quantile) as f64 / 1e6;
            assert!((found / ms - 1.0).abs() < 0.002, "{quantile}: {found}");
        }
    }
}
