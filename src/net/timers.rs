//! A coarse timer wheel with one timer per connection slot.
//!
//! A timer is a link in the list of its bucket, so that setting, moving and cancelling are a few stores, and a slot
//! that was given back leaves nothing behind. Deadlines past the horizon sit in the last bucket and fire early:
//! whoever is told that a timer is due asks what is really due, and sets it anew.

use std::time::{Duration, Instant};

/// How exact a timer is: it fires up to one tick late.
pub const TICK: Duration = Duration::from_millis(20);
const BUCKETS: usize = 2048;
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    /// The tick at which this timer is due; `u64::MAX` while it is not set.
    due: u64,
}

const UNSET: Link = Link { previous: NONE, next: NONE, due: u64::MAX };

/// The wheel. Slots are those of the connection slab.
#[derive(Debug)]
pub struct Timers {
    start: Instant,
    /// All ticks up to and with this one have been expired.
    now: u64,
    heads: Vec<u32>,
    links: Vec<Link>,
    set: usize,
    /// No timer is due before this tick, so that looking for the next one starts here.
    earliest: u64,
}

impl Timers {
    /// An empty wheel whose time begins at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Timers { start, now: 0, heads: vec![NONE; BUCKETS], links: Vec::new(), set: 0, earliest: 0 }
    }

    /// Timers that are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set
    }

    /// No timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Sets the timer of `slot`, moving it if it was set before.
    pub fn set(&mut self, slot: u32, deadline: Instant) {
        self.cancel(slot);
        let place = slot as usize;
        if place >= self.links.len() {
            self.links.resize(place + 1, UNSET);
        }
        let due = self.tick_of(deadline);
        let head = &mut self.heads[due as usize % BUCKETS];
        self.links[place] = Link { previous: NONE, next: *head, due };
        if *head != NONE {
            self.links[*head as usize].previous = slot;
        }
        *head = slot;
        self.earliest = self.earliest.min(due);
        self.set += 1;
    }

    /// Sets the timer of `slot` unless it is already set to fire as early as `deadline`.
    pub fn hasten(&mut self, slot: u32, deadline: Instant) {
        let due = self.links.get(slot as usize).map_or(u64::MAX, |link| link.due);
        if self.tick_of(deadline) < due {
            self.set(slot, deadline);
        }
    }

    /// Cancels the timer of `slot`, if it is set.
    pub fn cancel(&mut self, slot: u32) {
        let Some(&link) = self.links.get(slot as usize) else { return };
        if link.due == u64::MAX {
            return;
        }
        if link.previous == NONE {
            self.heads[link.due as usize % BUCKETS] = link.next;
        } else {
            self.links[link.previous as usize].next = link.next;
        }
        if link.next != NONE {
            self.links[link.next as usize].previous = link.previous;
        }
        self.links[slot as usize] = UNSET;
        self.set -= 1;
    }

    /// Moves time on to `now` and appends the slots whose timers are due to `due`; they are no longer set.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<u32>) {
        let target = (now.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos()) as u64;
        if self.set == 0 {
            self.now = self.now.max(target);
            return;
        }
        while self.now < target {
            self.now += 1;
            loop {
                let slot = self.heads[self.now as usize % BUCKETS];
                if slot == NONE {
                    break;
                }
                debug_assert_eq!(self.links[slot as usize].due, self.now, "no timer is set beyond the horizon");
                self.cancel(slot);
                due.push(slot);
            }
        }
    }

    /// When the next timer fires, or `None` if none is set.
    #[must_use]
    pub fn next_deadline(&mut self) -> Option<Instant> {
        if self.set == 0 {
            self.earliest = u64::MAX;
            return None;
        }
        let first = self.earliest.clamp(self.now + 1, self.now + BUCKETS as u64);
        let mut ticks = first..self.now + BUCKETS as u64;
        self.earliest =
            ticks.find(|tick| self.heads[*tick as usize % BUCKETS] != NONE).expect("a set timer is in a bucket");
        Some(self.start + TICK * u32::try_from(self.earliest).unwrap_or(u32::MAX))
    }

    /// The first tick that does not come before `deadline`, within the horizon.
    fn tick_of(&self, deadline: Instant) -> u64 {
        let ticks = deadline.saturating_duration_since(self.start).as_nanos().div_ceil(TICK.as_nanos()) as u64;
        ticks.clamp(self.now + 1, self.now + BUCKETS as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(timers: &mut Timers, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        timers.expire(now, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn timers_fire_never_early_and_at_most_a_tick_late() {
        let start = Instant::now();
        for millis in [1, 19, 20, 21, 100, 999, 5_000, 30_000] {
            let mut timers = Timers::new(start);
            let deadline = start + Duration::from_millis(millis);
            timers.set(3, deadline);
            assert_eq!(expired(&mut timers, deadline - Duration::from_millis(1)), [0_u32; 0], "{millis} ms, early");
            assert_eq!(expired(&mut timers, deadline + TICK), [3], "{millis} ms");
            assert!(timers.is_empty());
        }
    }

    #[test]
    fn a_timer_can_be_moved_hastened_and_cancelled() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::new(start);
        for slot in 0..4 {
            timers.set(slot, at(100));
        }
        timers.set(0, at(500));
        timers.hasten(1, at(700));
        timers.hasten(2, at(50));
        timers.cancel(3);
        timers.cancel(17);
        assert_eq!(timers.len(), 3);
        assert_eq!(expired(&mut timers, at(80)), [2]);
        assert_eq!(expired(&mut timers, at(140)), [1]);
        assert_eq!(expired(&mut timers, at(400)), [0_u32; 0]);
        assert_eq!(expired(&mut timers, at(600)), [0]);
        assert!(timers.next_deadline().is_none());
    }

    #[test]
    fn sleeping_until_the_next_deadline_serves_every_timer() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        for slot in 0..1000_u32 {
            timers.set(slot, start + Duration::from_millis(u64::from(slot) * 37));
        }
        let (mut fired, mut wakes) = (0, 0);
        while let Some(deadline) = timers.next_deadline() {
            let due = expired(&mut timers, deadline);
            assert!(!due.is_empty(), "a wake-up without a timer is a spin");
            fired += due.len();
            wakes += 1;
        }
        assert_eq!(fired, 1000);
        assert!(wakes <= 1000);
    }

    #[test]
    fn beyond_the_horizon_a_timer_fires_early_rather_than_never() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        let far = start + Duration::from_secs(3600);
        timers.set(9, far);
        let horizon = timers.next_deadline().unwrap();
        assert!(horizon < far);
        assert_eq!(expired(&mut timers, horizon), [9]);
    }
}
