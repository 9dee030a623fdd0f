//! How often something was how large: what a histogram of Prometheus is made of.

/// Seconds: from what a turn of the loop takes to what nobody should wait for.
pub const SECONDS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Numbers of things that are done at once.
pub const COUNTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// Counts values up to each of some bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, not yet added up, and one for what is more than all of them.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// One without values. The bounds are in ascending order.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a value.
    pub fn record(&mut self, value: f64) {
        self.counts[self.bounds.partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }

    /// How many values there are up to each bound.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let up_to = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(up_to)
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they are together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_up_to_each_bound() {
        let mut histogram = Histogram::new(&[1.0, 2.0, 10.0]);
        for value in [0.0, 1.0, 1.5, 2.0, 11.0, 12.5] {
            histogram.record(value);
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(1.0, 2), (2.0, 4), (10.0, 4)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, 28.0));
    }

    #[test]
    fn bounds_ascend() {
        assert!(SECONDS.is_sorted() && COUNTS.is_sorted());
    }
}
