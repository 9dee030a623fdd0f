//! Waiting for readiness, but not longer than until something is due.

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Registry};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::clock::{self, MILLISECOND};

/// A shorter wait is spent polling, since the kernel's timers are no more exact than this. In nanoseconds.
const SPIN_BELOW: u64 = 60_000;

/// A poll that wakes up on time, and knows how long it has polled for nothing.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    /// Never to sleep.
    spin: bool,
    spun: u64,
}

impl Poller {
    /// With `spin` it never sleeps.
    pub fn new(spin: bool) -> io::Result<Self> {
        Ok(Poller { poll: Poll::new()?, spin, spun: 0 })
    }

    /// Where sockets are registered.
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Nanoseconds spent polling without finding anything, which are no work although they are time on the CPU.
    pub fn spun(&self) -> u64 {
        self.spun
    }

    /// Waits for `events` until `wake_at` at the latest, in nanoseconds of the monotonic clock.
    ///
    /// mio waits in milliseconds, rounded up. So it gets the long waits, less a millisecond; the rest is waited for on
    /// its descriptor with the kernel's finest timer, and the last bit by polling again and again.
    pub fn wait(&mut self, wake_at: u64, events: &mut Events) -> io::Result<()> {
        let before = clock::now();
        let wait = wake_at.saturating_sub(before);
        let spin = self.spin || wait < SPIN_BELOW;
        let timeout = if spin {
            Duration::ZERO
        } else if wait >= 2 * MILLISECOND {
            Duration::from_millis(wait / MILLISECOND - 1)
        } else {
            self.wait_briefly(wait - SPIN_BELOW / 2)?;
            Duration::ZERO
        };
        match self.poll.poll(events, Some(timeout)) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(err) => return Err(err),
        }
        if spin && events.is_empty() {
            self.spun += clock::now() - before;
        }
        Ok(())
    }

    /// Waits for less than a second, in nanoseconds.
    fn wait_briefly(&self, nanoseconds: u64) -> io::Result<()> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: nanoseconds as _ };
        match rustix::event::poll(&mut [PollFd::new(self.registry(), PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_wake_much_too_late_nor_sleep_for_ever() {
        for spin in [false, true] {
            let mut poller = Poller::new(spin).unwrap();
            let mut events = Events::with_capacity(8);
            for wait in [0, 30_000, 500_000, 5 * MILLISECOND] {
                let wake_at = clock::now() + wait;
                while clock::now() < wake_at {
                    poller.wait(wake_at, &mut events).unwrap();
                    assert!(events.is_empty());
                }
            }
            assert!(poller.spun() > 0, "the last bit of a wait is spent polling");
        }
    }
}
