//! What is decided without a broker.

use std::sync::mpsc::channel;

use super::*;
use crate::journal::bus::local::LocalBus;

#[test]
fn what_is_due_is_not_late_because_nobody_has_read_it() {
    let (canary, held) = (Duration::from_secs(5), Duration::from_secs(60));
    for (name, is_sent, is_marked, is_late) in
        [("messages", true, false, true), ("a mark", false, true, true), ("nothing", false, false, false)]
    {
        for was_held in [true, false] {
            let outbound = Outbound { events: channel().0, wake: Arc::new(|| {}) };
            let (shared, begin) = (Arc::new(Shared::default()), channel().0);
            let conductor = Conductor::new(LocalBus::new(), Keeps::Nothing, outbound, None, 1, canary, shared, begin);
            let now = Instant::now();
            {
                let state = &mut *conductor.state.borrow_mut();
                (state.last_return, state.last_own_return) = (now, now);
                (state.sent_since, state.mark_since) = (is_sent.then_some(now), is_marked.then_some(now));
            }
            if was_held {
                conductor.was_held(held);
            }
            let failure = conductor.check(now + held);
            assert_eq!(failure.is_some(), is_late && !was_held, "{name}, held: {was_held}, {failure:?}");
        }
    }
}
