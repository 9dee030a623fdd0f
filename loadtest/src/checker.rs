//! Whether every member has heard every message once and in order.
//!
//! For each receiver and sender one number is kept: the message that comes next. All else is rare, and kept aside: what
//! was jumped over is missing until it comes, late, or never. So the check costs four bytes for each pair and one
//! comparison for each delivery.

use std::collections::{BTreeMap, HashMap};

/// What one delivery means for its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Heard for the first time, in order.
    InOrder,
    /// Heard for the first time, after a later one of the same sender.
    Late,
    /// Heard before.
    Again,
    /// No such sender, or it has not sent that many.
    Unknown,
}

/// What a receiver waits for that has heard nothing of a sender yet, and may begin with anything.
const ANYTHING: u32 = u32::MAX;

/// The counters of all receivers and senders.
#[derive(Debug)]
pub struct Checker {
    senders: usize,
    /// The number each receiver waits for, of each sender: receivers one after another.
    next: Vec<u32>,
    /// Ranges, first to last, that were jumped over, where there are any.
    missing: HashMap<usize, BTreeMap<u32, u32>>,
}

impl Checker {
    /// For `receivers` members that hear `senders` of them.
    pub fn new(receivers: usize, senders: usize) -> Self {
        Checker { senders, next: vec![0; receivers * senders], missing: HashMap::new() }
    }

    /// `receiver` comes while others talk: of each sender it may begin with any message, and only what it misses from
    /// there on is missing.
    pub fn restart(&mut self, receiver: usize) {
        for pair in receiver * self.senders..(receiver + 1) * self.senders {
            self.next[pair] = ANYTHING;
            self.missing.remove(&pair);
        }
    }

    /// How many messages `receiver` has jumped over and not heard since. It is forgotten.
    pub fn give_up_jumped(&mut self, receiver: usize) -> u64 {
        let pairs = receiver * self.senders..(receiver + 1) * self.senders;
        let ranges = pairs.filter_map(|pair| self.missing.remove(&pair)).flatten();
        ranges.map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// `receiver` has heard message `number` of `sender`, who has sent `sent` so far.
    #[inline]
    pub fn heard(&mut self, receiver: usize, sender: usize, number: u32, sent: u32) -> Verdict {
        if sender >= self.senders || number >= sent {
            return Verdict::Unknown;
        }
        let pair = receiver * self.senders + sender;
        let next = &mut self.next[pair];
        if *next == number {
            *next += 1;
            return Verdict::InOrder;
        }
        self.out_of_turn(pair, number)
    }

    /// Gives what `receiver` has not heard of `sender`, of `sent` messages, to `lost`, one number after the other, and
    /// counts it as heard.
    pub fn give_up(&mut self, receiver: usize, sender: usize, sent: u32, mut lost: impl FnMut(u32)) {
        let pair = receiver * self.senders + sender;
        for (first, last) in self.missing.remove(&pair).unwrap_or_default() {
            (first..=last).for_each(&mut lost);
        }
        (self.next[pair]..sent).for_each(&mut lost);
        self.next[pair] = sent;
    }

    #[cold]
    fn out_of_turn(&mut self, pair: usize, number: u32) -> Verdict {
        let next = &mut self.next[pair];
        if *next == ANYTHING {
            *next = number + 1;
            return Verdict::InOrder;
        }
        if number > *next {
            self.missing.entry(pair).or_default().insert(*next, number - 1);
            *next = number + 1;
            return Verdict::InOrder;
        }
        let Some(ranges) = self.missing.get_mut(&pair) else { return Verdict::Again };
        match ranges.range(..=number).next_back() {
            Some((&first, &last)) if number <= last => {
                ranges.remove(&first);
                if first < number {
                    ranges.insert(first, number - 1);
                }
                if number < last {
                    ranges.insert(number + 1, last);
                }
                Verdict::Late
            }
            _ => Verdict::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Again, InOrder, Late, Unknown};

    #[test]
    fn verdicts_and_losses() {
        type Row<'a> = (&'a str, &'a [u32], &'a [Verdict], &'a [u32]);
        let table: &[Row<'_>] = &[
            ("all in order", &[0, 1, 2, 3], &[InOrder; 4], &[]),
            ("nothing", &[], &[], &[0, 1, 2, 3]),
            ("first lost", &[1, 2, 3], &[InOrder; 3], &[0]),
            ("last lost", &[0, 1, 2], &[InOrder; 3], &[3]),
            ("middle lost", &[0, 3], &[InOrder; 2], &[1, 2]),
            ("doubled at once", &[0, 0, 1, 2, 3], &[InOrder, Again, InOrder, InOrder, InOrder], &[]),
            ("doubled later", &[0, 1, 2, 3, 1], &[InOrder, InOrder, InOrder, InOrder, Again], &[]),
            ("swapped", &[0, 2, 1, 3], &[InOrder, InOrder, Late, InOrder], &[]),
            ("backwards", &[3, 2, 1, 0], &[InOrder, Late, Late, Late], &[]),
            ("backwards from the front", &[3, 0, 1, 2], &[InOrder, Late, Late, Late], &[]),
            ("from the middle of a gap", &[3, 1, 1], &[InOrder, Late, Again], &[0, 2]),
            ("two gaps", &[1, 3, 2], &[InOrder, InOrder, Late], &[0]),
            ("beyond what was sent", &[0, 4], &[InOrder, Unknown], &[1, 2, 3]),
        ];
        for (name, numbers, verdicts, lost) in table {
            let mut checker = Checker::new(3, 2);
            let heard: Vec<Verdict> = numbers.iter().map(|&number| checker.heard(1, 1, number, 4)).collect();
            assert_eq!(heard, *verdicts, "{name}");
            let mut missed = Vec::new();
            checker.give_up(1, 1, 4, |number| missed.push(number));
            missed.sort_unstable();
            assert_eq!(missed, *lost, "{name}");
            checker.give_up(1, 1, 4, |number| panic!("{name}: {number} given up twice"));
        }
    }

    #[test]
    fn who_comes_later_begins_anywhere() {
        let mut checker = Checker::new(2, 2);
        checker.heard(1, 0, 3, 9);
        checker.restart(1);
        let heard = [5, 7, 8, 7].map(|number| checker.heard(1, 1, number, 9));
        assert_eq!(heard, [InOrder, InOrder, InOrder, Again]);
        assert_eq!((checker.give_up_jumped(1), checker.give_up_jumped(1)), (1, 0), "6 was jumped over");
        assert_eq!(checker.heard(0, 1, 5, 9), InOrder);
        assert_eq!(checker.give_up_jumped(0), 5);
    }

    #[test]
    fn pairs_do_not_touch_each_other() {
        let mut checker = Checker::new(2, 2);
        for (receiver, sender) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_eq!(checker.heard(receiver, sender, 1, 2), InOrder);
            assert_eq!(checker.heard(receiver, sender, 0, 2), Late);
        }
        assert_eq!(checker.heard(0, 2, 0, 2), Unknown);
    }
}
