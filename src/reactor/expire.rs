//! The timers of connections: what is due on them, and when.

use std::time::Instant;

use crate::close::CloseReason;
use crate::net::connection::Due;

use super::Reactor;

impl Reactor {
    /// Acts on the timers that are due.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.scratch.slots);
        self.timers.expire(now, &mut due);
        for slot in due.drain(..) {
            self.expire_connection(slot, now);
            self.set_timer(slot);
        }
        self.scratch.slots = due;
        self.say_goodbyes(now);
    }

    fn expire_connection(&mut self, slot: u32, now: Instant) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        let id = connection.id;
        match connection.due(&self.limits) {
            // What has come, and this turn had no time to read, may be what it was given time for: it is looked at first. But
            // whoever sends without end is not waited for without end.
            Some((at, Due::Ping | Due::SlowHead | Due::Doubt | Due::Close(_)))
                if connection.listed && now < at + self.limits.handshake_timeout => {}
            Some((at, due)) if at <= now => match due {
                Due::Resume => self.connections.release(slot, now),
                Due::Ping => self.ping(id, now),
                Due::SlowHead => self.refuse_slow_head(id, now),
                Due::Close(reason) => self.farewell(id, reason),
                Due::Doubt => {
                    if !self.connections.is_on_its_way(slot, &self.limits, now) {
                        self.farewell(id, CloseReason::PingTimeout);
                    }
                }
                Due::Look => _ = self.connections.look(slot, now),
                Due::Probe => self.connections.probe(slot, now),
                Due::Drop(reason) => {
                    if matches!(reason, CloseReason::Stalled | CloseReason::TooSlow) {
                        connection.transport.reset_on_close();
                    }
                    self.close(slot, reason);
                }
            },
            _ => {}
        }
    }

    /// Sets the timer of a connection to what is due next on it.
    pub(super) fn set_timer(&mut self, slot: u32) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        match connection.due(&self.limits) {
            Some((deadline, _)) => self.timers.set(slot, deadline),
            None => self.timers.cancel(slot),
        }
    }
}
