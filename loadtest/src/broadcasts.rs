//! Messages on their way: how many members still wait for each.
//!
//! It tells when the last member has a message, which is when a broadcast is complete, and what a closed loop waits for.

use std::collections::VecDeque;

/// All messages of all senders that somebody still waits for.
#[derive(Debug)]
pub struct Broadcasts {
    lanes: Vec<Lane>,
    open: u64,
}

/// The messages of one sender.
#[derive(Debug, Default)]
struct Lane {
    /// The number of the first message in `waiting`.
    first: u32,
    /// For each message since, how many members have not heard it.
    waiting: VecDeque<u32>,
}

impl Broadcasts {
    /// For `senders` members that talk.
    pub fn new(senders: usize) -> Self {
        Broadcasts { lanes: (0..senders).map(|_| Lane::default()).collect(), open: 0 }
    }

    /// How many messages `sender` has sent.
    #[inline]
    pub fn sent_by(&self, sender: usize) -> u32 {
        self.lanes.get(sender).map_or(0, |lane| lane.first + lane.waiting.len() as u32)
    }

    /// How many messages are not complete.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// `sender` sends one more message, which `receivers` members will hear; returns its number.
    pub fn send(&mut self, sender: usize, receivers: u32) -> u32 {
        let number = self.sent_by(sender);
        self.lanes[sender].waiting.push_back(receivers);
        self.open += 1;
        number
    }

    /// One more member has heard message `number` of `sender`, or never will; true if it was the last one.
    #[inline]
    pub fn settle(&mut self, sender: usize, number: u32) -> bool {
        let lane = &mut self.lanes[sender];
        let Some(waiting) = lane.waiting.get_mut(number.wrapping_sub(lane.first) as usize) else { return false };
        *waiting -= 1;
        if *waiting > 0 {
            return false;
        }
        while lane.waiting.front() == Some(&0) {
            lane.waiting.pop_front();
            lane.first += 1;
        }
        self.open -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_member_completes_a_message() {
        let mut broadcasts = Broadcasts::new(2);
        assert_eq!([broadcasts.send(0, 2), broadcasts.send(0, 2), broadcasts.send(1, 1)], [0, 1, 0]);
        let table =
            [("first of 0/0", 0, 0, false, 3), ("first of 0/1", 0, 1, false, 3), ("last of 0/1", 0, 1, true, 2)];
        for (name, sender, number, complete, open) in table {
            assert_eq!(broadcasts.settle(sender, number), complete, "{name}");
            assert_eq!(broadcasts.open(), open, "{name}");
        }
        assert!(broadcasts.settle(1, 0));
        assert!(broadcasts.settle(0, 0));
        assert!(!broadcasts.settle(0, 0), "a complete message is forgotten");
        assert_eq!((broadcasts.open(), broadcasts.sent_by(0), broadcasts.send(0, 1)), (0, 2, 2));
    }
}
