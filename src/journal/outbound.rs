//! The way from the threads of a journal to the loop.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::contract::Event;

/// What the threads have to say to the loop.
#[derive(Clone)]
pub(super) struct Outbound {
    pub(super) events: Sender<Vec<Event>>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

impl Outbound {
    /// Says all this at once, and wakes the loop.
    pub(super) fn send(&self, events: Vec<Event>) {
        // If nobody listens any more, the loop has ended.
        if !events.is_empty() && self.events.send(events).is_ok() {
            (self.wake)();
        }
    }
}
