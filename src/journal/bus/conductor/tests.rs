//! What is decided without a broker.

use std::sync::mpsc::channel;

use super::*;
use crate::chat::entry::Epoch;
use crate::journal::bus::driver::Record;
use crate::journal::bus::local::LocalBus;
use crate::journal::bus::wire::{self, Body, Decoder};
use crate::journal::ordered::DraftId;
use crate::journal::tests::said;

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

/// Somebody deletes the mark with which a session began, while others go on talking.
#[test]
fn a_mark_that_is_lost_is_followed_by_another() {
    let second = Duration::from_secs(1);
    for is_first_lost in [true, false] {
        let outbound = Outbound { events: channel().0, wake: Arc::new(|| {}) };
        let (shared, begin) = (Arc::new(Shared::default()), channel().0);
        let conductor = Conductor::new(LocalBus::new(), Keeps::Nothing, outbound, None, 1, 5 * second, shared, begin);
        let stamp = Stamp { epoch: Epoch(1), base: Position::START };
        let start = Instant::now();
        conductor.open(Some(stamp), Route::default(), start);
        conductor.accept(vec![said("room", (1, "Ann"), "waits", "n1")]);
        let mut log: Vec<Bytes> = Vec::new();
        let mut marks = Vec::new();
        for at in 0..25_u32 {
            let now = start + at * second;
            let batch = conductor.next_batch(now);
            marks.extend(batch.iter().map(|mark| (at, mark.clone())));
            // Another's, which comes in the place of ours.
            log.push(wire::encode_mark(stamp, DraftId { instance: 2, number: u64::from(at) + 1 }));
            let records = vec![Record { offset: log.len() as u64, bytes: log[log.len() - 1].clone() }];
            conductor.take(&mut records.into_iter(), now);
            assert!(conductor.check(now).is_none(), "the session goes on");
        }
        let times: Vec<u32> = marks.iter().map(|(at, _)| *at).collect();
        assert!(matches!(times[..], [0, 11..=13, 22..=24]), "{times:?}");
        let back = if is_first_lost { 1 } else { 0 };
        let records = vec![Record { offset: log.len() as u64 + 1, bytes: marks[back].1.clone() }];
        conductor.take(&mut records.into_iter(), start + 25 * second);
        let batch = conductor.next_batch(start + 25 * second);
        let draft = Decoder::new().decode(batch.last().expect("what has waited is published")).unwrap();
        assert!(matches!(draft.body, Body::Said(_)), "{draft:?}");
    }
}
