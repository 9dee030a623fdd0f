//! The order of everything, where a dialect tells positions: each member hears rising ones, and all members, of all
//! instances, the same message at the same position.

use std::collections::VecDeque;

use crate::stamp::Stamp;
use crate::transcript::Heard;

/// Positions that are remembered; what lies further back is not compared any more.
const REMEMBERED: usize = 1 << 20;

/// How far each member has heard, and what was heard where. Position 0 means that there are none.
#[derive(Debug)]
pub struct Order {
    positions: Vec<u64>,
    /// In rising order.
    known: VecDeque<(u64, Stamp)>,
    /// The highest position that was forgotten.
    forgotten: u64,
}

impl Order {
    /// For `members`.
    pub fn new(members: usize) -> Self {
        Order { positions: vec![0; members], known: VecDeque::new(), forgotten: 0 }
    }

    /// `member` has heard something at `position`; false if that is not above what it had heard.
    #[must_use]
    pub fn follow(&mut self, member: usize, position: u64) -> bool {
        let rises = position == 0 || position > self.positions[member];
        self.skip_to(member, position);
        rises
    }

    /// `member` has heard everything up to `position`, if that is news.
    #[inline]
    pub fn skip_to(&mut self, member: usize, position: u64) {
        let known = &mut self.positions[member];
        *known = position.max(*known);
    }

    /// The position up to which `member` has heard.
    pub fn position(&self, member: usize) -> u64 {
        self.positions[member]
    }

    /// Whether nobody has heard another message at the same position.
    #[must_use]
    pub fn agrees(&mut self, heard: Heard) -> bool {
        let Heard { stamp, position } = heard;
        if position <= self.forgotten {
            return true;
        }
        if self.known.back().is_none_or(|(last, _)| *last < position) {
            self.known.push_back((position, stamp));
            if self.known.len() > REMEMBERED {
                self.forgotten = self.known.pop_front().map_or(0, |(first, _)| first);
            }
            return true;
        }
        match self.known.binary_search_by_key(&position, |(known, _)| *known) {
            Ok(index) => self.known[index].1 == stamp,
            Err(index) => {
                self.known.insert(index, (position, stamp));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_hears_the_same_at_a_position() {
        let heard = |position, number| Heard { stamp: Stamp { sender: 0, number, scheduled: 0 }, position };
        let table = [
            ("first", heard(5, 0), true),
            ("next, with a hole", heard(9, 1), true),
            ("again", heard(5, 0), true),
            ("another one", heard(5, 1), false),
            ("in the hole", heard(7, 2), true),
            ("another one in the hole", heard(7, 0), false),
            ("no position", heard(0, 0), true),
            ("no position, another one", heard(0, 1), true),
        ];
        let mut order = Order::new(1);
        for (name, heard, agrees) in table {
            assert_eq!(order.agrees(heard), agrees, "{name}");
        }
        for position in 10..REMEMBERED as u64 + 10 {
            assert!(order.agrees(heard(position, 3)));
        }
        assert!(order.known.len() <= REMEMBERED && order.agrees(heard(5, 7)), "the oldest are forgotten");
    }

    #[test]
    fn positions_rise() {
        let mut order = Order::new(2);
        let table =
            [(0, 3, true), (0, 4, true), (0, 4, false), (0, 2, false), (1, 2, true), (0, 0, true), (0, 9, true)];
        for (member, position, rises) in table {
            assert_eq!(order.follow(member, position), rises, "{member}, {position}");
        }
        assert_eq!((order.position(0), order.position(1)), (9, 2));
    }
}
