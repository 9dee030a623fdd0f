//! Members that are behind what memory has, at many places at once.

use serde_json::Value;

use super::talk::{Talk, former};
use super::*;

/// Members of the raw dialect, the one in slot `n` behind entry `20 * n` of 200.
fn behind(limits: &Limits, members: u32) -> Talk {
    let mut talk = Talk::stored(limits, former("a", 1..=200));
    for slot in 0..members {
        talk.hub.enter(member(slot), Dialect::Raw);
        talk.hub.sit(member(slot), name("a"), Start::After(Position(20 * u64::from(slot))));
    }
    talk
}

/// Which entries a member has heard, by their texts.
fn numbers(heard: &[Value]) -> Vec<u64> {
    heard.iter().map(|text| text.as_str().unwrap().strip_prefix("Old: text ").unwrap().parse().unwrap()).collect()
}

#[test]
fn only_so_many_recalls_are_under_way_and_everybody_has_a_turn() {
    let limits = Limits { feed_entries: 5, feed_reads: 2, ..Limits::default() };
    let mut talk = behind(&limits, 10);
    let mut heard = [const { Vec::new() }; 10];
    // The store is slow: nothing comes for some turns.
    for _ in 0..3 {
        talk.turn();
        assert_eq!((talk.reads.len(), talk.hub.recall_queue.len()), (2, 8));
        assert!(!talk.hub.has_carried_over(), "a turn has nothing to do until something has been read");
    }
    // Somebody leaves while it waits, somebody else while it is read for, and somebody comes back to another place.
    talk.exit(member(3));
    talk.exit(member(0));
    talk.exit(member(9));
    assert_eq!(talk.hub.recall_queue.len(), 6);
    talk.hub.enter(member(9), Dialect::Raw);
    talk.hub.sit(member(9), name("a"), Start::After(Position(50)));
    for _ in 0..1_000 {
        talk.turn();
        assert!(talk.reads.len() <= 2, "{} reads", talk.reads.len());
        if !talk.reads.is_empty() {
            let pages = talk.read();
            talk.bring(pages);
        }
        for (slot, heard) in heard.iter_mut().enumerate() {
            talk.drain(member(slot as u32));
            heard.extend(numbers(&talk.heard(slot as u32)));
        }
    }
    assert_eq!((talk.hub.catching_up(), talk.hub.recall_queue.len()), (0, 0));
    for (slot, heard) in heard.iter().enumerate() {
        let after = match slot {
            0 | 3 => 200,
            9 => 50,
            slot => 20 * slot as u64,
        };
        assert!(heard.iter().copied().eq(after + 1..=200), "slot {slot}: {heard:?}");
    }
    (0..10).for_each(|slot| talk.exit(member(slot)));
    talk.turn();
    assert_eq!((talk.hub.pending_reads(), talk.hub.recalls.len(), talk.hub.tails_bytes()), (0, 0, 0));
}

#[test]
fn who_goes_from_room_to_room_has_no_more_read_than_others() {
    let past = (1..=20).flat_map(|at| former(if at % 2 == 0 { "a" } else { "b" }, [at])).collect();
    let mut talk = Talk::stored(&Limits { feed_reads: 2, ..Limits::default() }, past);
    for round in 0..20 {
        // The room is forgotten as soon as there is nobody, and the next one takes its place.
        talk.hub.enter(member(0), Dialect::Raw);
        talk.hub.sit(member(0), name(["a", "b"][round % 2]), Start::After(Position::START));
        talk.turn();
        assert!(talk.reads.len() <= 2, "{} reads", talk.reads.len());
        talk.exit(member(0));
    }
    talk.assert_empty();
    assert_eq!(talk.hub.recalls.len(), 0);
}

#[test]
fn pages_are_small_while_all_outboxes_are_nearly_full() {
    for (page, fullest) in [(None, 20), (Some(30), 2), (Some(0), 1)] {
        let mut talk = behind(&Limits { feed_entries: 20, outbox_high_water_bytes: 1_000, ..Limits::default() }, 1);
        (talk.stage.page, talk.stage.room) = (page, 0);
        let mut heard = Vec::new();
        for _ in 0..1_000 {
            talk.turn();
            while !talk.reads.is_empty() {
                let pages = talk.read();
                talk.bring(pages);
            }
            let news = numbers(&talk.heard(0));
            assert!(news.len() <= fullest, "{news:?} with pages of {page:?}");
            heard.extend(news);
            talk.drain(member(0));
        }
        assert!(heard.into_iter().eq(1..=200), "pages of {page:?}");
    }
}
