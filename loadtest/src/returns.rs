//! How long clients need to come back: from when all may until each has everything that was said meanwhile.

use crate::client::Phase;
use crate::times::Times;

/// Who is on the way back.
#[derive(Debug, Default)]
pub struct Returns {
    /// When all were let in again, in nanoseconds.
    since: u64,
    /// The position up to which they have to hear.
    goal: u64,
    /// For each place whether it is still on the way.
    awaited: Vec<bool>,
    left: usize,
    times: Times,
    last: u64,
}

impl Returns {
    /// `places` may come back from `now` on, and have to hear everything up to the position `goal`.
    pub fn begin(&mut self, places: impl Iterator<Item = usize>, goal: u64, now: u64) {
        *self = Returns { since: now, goal, ..Returns::default() };
        for place in places {
            if self.awaited.len() <= place {
                self.awaited.resize(place + 1, false);
            }
            self.awaited[place] = true;
            self.left += 1;
        }
    }

    /// Looks whether the client at `place` has arrived with what it has just heard.
    #[inline]
    pub fn look(&mut self, place: usize, phase: &Phase, position: u64, now: u64) {
        if self.left == 0 || *phase != Phase::Open || position < self.goal || !self.is_awaited(place) {
            return;
        }
        self.awaited[place] = false;
        self.left -= 1;
        self.last = now - self.since;
        self.times.record(self.last);
    }

    /// How many are still on the way.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The times of those that have arrived, and when the last one did, in nanoseconds.
    pub fn take(&mut self) -> (Times, u64) {
        (std::mem::take(&mut self.times), self.last)
    }

    fn is_awaited(&self, place: usize) -> bool {
        self.awaited.get(place).is_some_and(|awaited| *awaited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_arrives_once() {
        let mut returns = Returns::default();
        returns.look(0, &Phase::Open, 9, 5);
        returns.begin([0, 2].into_iter(), 7, 100);
        let table = [
            ("still joining", 0, Phase::Joining, 9, 110, 2),
            ("still behind", 0, Phase::Open, 6, 120, 2),
            ("there", 0, Phase::Open, 7, 130, 1),
            ("there already", 0, Phase::Open, 8, 140, 1),
            ("never away", 1, Phase::Open, 8, 150, 1),
            ("the last", 2, Phase::Open, 8, 1_000_100, 0),
        ];
        for (name, place, phase, position, now, left) in table {
            returns.look(place, &phase, position, now);
            assert_eq!(returns.left(), left, "{name}");
        }
        let (times, last) = returns.take();
        assert_eq!((times.histogram().len(), last), (2, 1_000_000));
    }
}
