//! What a joiner is told, from the tail and from the store.

use serde_json::{Value, json};

use super::talk::{Talk, former, positions};
use super::*;

const EPOCH: &str = "000000000000000e";

pub(super) fn limits() -> Limits {
    Limits { page_entries: 3, backfill_entries: 6, ..Limits::default() }
}

/// Somebody who has joined, and a room with what was said at these positions.
pub(super) fn spoken(limits: &Limits, count: usize) -> Talk {
    let mut talk = Talk::in_memory(limits);
    talk.hello(0, "Ann");
    talk.join(0, "a");
    for number in 1..=count {
        talk.say(0, "a", &format!("text {number}"), &format!("n{number}"));
        talk.turn();
        talk.drain(member(0));
    }
    talk.heard(0);
    talk
}

fn resume(talk: &mut Talk, slot: u32, after: u64, epoch: &str) {
    talk.ask(slot, json!({"type": "join", "room": "a", "after": after, "epoch": epoch}));
}

/// Positions, gap, more, missed and older of a `joined`.
pub(super) fn told(joined: &Value) -> (Vec<u64>, bool, bool, Option<u64>, bool) {
    assert_eq!(joined["type"], "joined", "{joined}");
    assert_eq!(joined["epoch"], EPOCH);
    let is = |name: &str| joined[name].as_bool().unwrap();
    (positions(joined["entries"].as_array().unwrap()), is("gap"), is("more"), joined["missed"].as_u64(), is("older"))
}

#[test]
fn what_a_joiner_is_told_from_the_tail() {
    // Entries 1 to 8 were said, of which a tail may have kept the last five.
    let cases = [
        ("anew", 9, None, EPOCH, (vec![6, 7, 8], false, false, None, true), 8),
        ("level", 9, Some(8), EPOCH, (vec![], false, false, Some(0), true), 8),
        ("behind by a page", 9, Some(5), EPOCH, (vec![6, 7, 8], false, false, Some(3), true), 8),
        ("behind by more", 9, Some(2), EPOCH, (vec![3, 4, 5], false, true, Some(6), true), 5),
        ("behind by too much", 9, Some(1), EPOCH, (vec![6, 7, 8], true, false, None, true), 8),
        ("of another epoch", 9, Some(8), "000000000000000d", (vec![6, 7, 8], true, false, None, true), 8),
        ("of no epoch", 9, Some(8), "", (vec![6, 7, 8], true, false, None, true), 8),
        ("beyond the end", 9, Some(9), EPOCH, (vec![6, 7, 8], true, false, None, true), 8),
        ("beyond everything", 9, Some(u64::MAX), EPOCH, (vec![6, 7, 8], true, false, None, true), 8),
        ("from before the tail", 5, Some(2), EPOCH, (vec![6, 7, 8], true, false, None, true), 8),
        ("from where the tail begins", 5, Some(3), EPOCH, (vec![4, 5, 6], false, true, Some(5), true), 6),
    ];
    for (name, tail_entries, after, epoch, expected, position) in cases {
        let mut talk = spoken(&Limits { tail_entries, ..limits() }, 8);
        talk.hello(1, "Bob");
        talk.ask(1, json!({"type": "join", "room": "a", "after": after, "epoch": epoch}));
        talk.turn();
        let mut heard = talk.heard(1);
        let joined = heard.remove(0);
        assert_eq!(told(&joined), expected, "{name}");
        assert_eq!(joined["position"], position, "{name}");
        assert_eq!(joined["members"]["count"], 2, "{name}");
        // The rest of what was missed comes as it is, once, and then the present.
        talk.say(0, "a", "text 9", "n9");
        talk.turn();
        heard.extend(talk.heard(1));
        assert_eq!(positions(&heard), (position + 1..=9).collect::<Vec<_>>(), "{name}");
        assert!(heard.iter().all(|said| said["type"] == "said"), "{name}: {heard:#?}");
    }
}

#[test]
fn a_joiner_and_the_news_of_its_turn() {
    let mut talk = spoken(&limits(), 2);
    talk.hello(1, "Bob");
    talk.say(0, "a", "text 3", "n3");
    talk.ask(1, json!({"type": "join", "room": "a"}));
    talk.say(0, "a", "text 4", "n4");
    talk.turn();
    let heard = talk.heard(1);
    assert_eq!(told(&heard[0]).0, [1, 2]);
    assert_eq!(positions(&heard[1..]), [3, 4]);
}

#[test]
fn who_knows_some_of_a_turns_news_hears_the_others_alone() {
    let mut talk = spoken(&limits(), 2);
    talk.hello(1, "Bob");
    resume(&mut talk, 1, 3, EPOCH);
    talk.say(0, "a", "text 3", "n3");
    talk.say(0, "a", "text 4", "n4");
    talk.turn();
    let joined = talk.next(1);
    assert_eq!((told(&joined), &joined["position"]), ((vec![], false, false, Some(0), true), &json!(3)));
    assert!(talk.hub.has_carried_over(), "the next turn goes on with it");
    talk.turn();
    assert_eq!(positions(&talk.heard(1)), [4]);
    talk.say(0, "a", "text 5", "n5");
    talk.turn();
    assert_eq!(positions(&talk.heard(1)), [5]);
}

#[test]
fn an_empty_room_in_a_busy_house() {
    let mut talk = spoken(&limits(), 5);
    let joined = talk.join(0, "quiet");
    assert_eq!(told(&joined), (vec![], false, false, None, false));
    let position = joined["position"].as_u64().unwrap();
    talk.hello(1, "Bob");
    talk.ask(1, json!({"type": "join", "room": "quiet", "after": position, "epoch": EPOCH}));
    talk.turn();
    assert_eq!(told(&talk.next(1)), (vec![], false, false, Some(0), position > 0));
}

#[test]
fn leaving_and_joining_in_one_turn() {
    let mut talk = spoken(&limits(), 2);
    talk.hello(1, "Bob");
    for request in ["join", "leave", "join"] {
        talk.ask(1, json!({"type": request, "room": "a"}));
    }
    talk.turn();
    let heard = talk.heard(1);
    let kinds: Vec<_> = heard.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["left", "joined"], "whoever leaves before being told is not told");
    talk.ask(1, json!({"type": "leave", "room": "a"}));
    talk.say(0, "a", "text 3", "n3");
    talk.turn();
    assert_eq!(talk.next(1)["type"], "left", "behind it nothing more of the room comes");
}

/// Entries 1 to 20 are in the store, those of even positions in the room, and none in a tail.
pub(super) fn stored() -> Talk {
    let said = (1..=20).flat_map(|at| former(if at % 2 == 0 { "a" } else { "b" }, [at])).collect();
    let mut talk = Talk::stored(&limits(), said);
    talk.hello(0, "Ann");
    talk
}

#[test]
fn what_a_joiner_is_told_from_the_store() {
    /// What the store does.
    #[derive(Debug, Clone, Copy)]
    enum Store {
        Works,
        Fails,
        HasForgotten(u64),
    }
    use Store::{Fails, HasForgotten, Works};
    let newest = vec![16, 18, 20];
    let cases = [
        (None, Works, (newest.clone(), false, false, None, true), 20),
        (None, Fails, (vec![], false, false, None, true), 20),
        (Some(20), Works, (vec![], false, false, Some(0), true), 20),
        (Some(17), Works, (vec![18, 20], false, false, Some(2), true), 20),
        (Some(9), Works, (vec![10, 12, 14], false, true, Some(6), true), 14),
        (Some(7), Works, (newest.clone(), true, false, None, true), 20),
        (Some(21), Works, (newest.clone(), true, false, None, true), 20),
        (Some(17), Fails, (vec![], true, false, None, true), 20),
        (Some(17), HasForgotten(17), (vec![18, 20], false, false, Some(2), true), 20),
        (Some(17), HasForgotten(18), (vec![20], true, false, None, false), 20),
    ];
    for (after, store, expected, position) in cases {
        let mut talk = stored();
        talk.ask(0, json!({"type": "join", "room": "a", "after": after, "epoch": EPOCH}));
        talk.turn();
        if let HasForgotten(floor) = store {
            talk.floor = Position(floor);
        }
        let mut heard = talk.heard(0);
        assert_eq!(heard.is_empty(), after != Some(20), "after {after:?}: there is nothing in the tail");
        while !talk.reads.is_empty() {
            let mut pages = talk.read();
            if matches!(store, Fails) && heard.is_empty() {
                pages.entries = Err(SearchError::Unavailable);
            }
            // What is said meanwhile comes behind it.
            talk.bring(pages);
            talk.turn();
            heard.extend(talk.heard(0));
        }
        let joined = heard.remove(0);
        assert_eq!(told(&joined), expected, "after {after:?} {store:?}");
        assert_eq!(joined["position"], position, "after {after:?} {store:?}");
        talk.say(0, "a", "now", "n1");
        talk.turn();
        heard.extend(talk.heard(0));
        let rest: Vec<u64> = (position + 1..=20).filter(|at| at % 2 == 0).chain([21]).collect();
        assert_eq!(positions(&heard), rest, "after {after:?} {store:?}");
    }
}

#[test]
fn what_is_said_while_the_store_is_read_comes_behind() {
    let mut talk = stored();
    talk.hello(1, "Bob");
    resume(&mut talk, 1, 20, EPOCH);
    resume(&mut talk, 0, 13, EPOCH);
    let mut heard = Vec::new();
    // Each answer comes when something new has been said, and is asked for with what was there then.
    for number in 0..4 {
        talk.say(1, "a", "more", &format!("m{number}"));
        talk.turn();
        if !talk.reads.is_empty() {
            let pages = talk.read();
            talk.bring(pages);
        }
        heard.extend(talk.heard(0));
    }
    talk.settle();
    heard.extend(talk.heard(0));
    heard.retain(|message| message["type"] != "presence");
    let joined = heard.remove(0);
    assert_eq!(told(&joined).0, [14, 16, 18]);
    assert_eq!(positions(&heard), [20, 21, 22, 23, 24]);
}

#[test]
fn a_page_is_for_the_seat_that_asked_for_it() {
    let mut talk = stored();
    resume(&mut talk, 0, 9, EPOCH);
    talk.turn();
    let for_the_former = talk.read();
    talk.ask(0, json!({"type": "leave", "room": "a"}));
    resume(&mut talk, 0, 17, EPOCH);
    talk.turn();
    let for_this_one = talk.read();
    talk.bring(for_the_former);
    talk.turn();
    assert_eq!(talk.next(0)["type"], "left", "the page of the former seat is nobody's");
    talk.bring(for_this_one.clone());
    talk.bring(for_this_one);
    talk.turn();
    assert_eq!(told(&talk.next(0)).0, [18, 20], "and a page is taken once");
}

#[test]
fn a_slow_joiner_has_one_page_read_at_a_time() {
    let said = former("a", 1..=20);
    let limits = Limits { outbox_high_water_bytes: 1, ..limits() };
    let mut talk = Talk::stored(&limits, said);
    talk.hello(0, "Ann");
    resume(&mut talk, 0, 14, EPOCH);
    let mut heard = Vec::new();
    for _ in 0..20 {
        let mut reads = 0;
        for _ in 0..10 {
            talk.turn();
            if !talk.reads.is_empty() {
                reads += 1;
                let pages = talk.read();
                talk.bring(pages);
            }
        }
        assert!(reads <= 2, "{reads} reads, of one page that it takes and one that has to wait");
        heard.extend(talk.heard(0));
        talk.drain(member(0));
    }
    let joined = heard.remove(0);
    assert_eq!(told(&joined), (vec![15, 16, 17], false, true, Some(6), true));
    assert_eq!(positions(&heard), [18, 19, 20]);
}

#[test]
fn those_who_are_behind_at_about_the_same_place_are_fed_by_one_read() {
    let limits = Limits { page_entries: 3, backfill_entries: 100, feed_entries: 10, ..Limits::default() };
    let mut talk = Talk::stored(&limits, former("a", 1..=40));
    for slot in 0..5 {
        talk.hello(slot, "Ann");
        resume(&mut talk, slot, 10 + u64::from(slot), EPOCH);
    }
    talk.turn();
    // Each is told how much it has missed, those within a page of each other from the same one.
    let opened: Vec<Range> = talk.reads.iter().map(|wanted| wanted.range.clone()).collect();
    let after = |after| Range::After { after: Position(after), upto: Position(40) };
    assert_eq!(opened, [after(10), after(13)]);
    let mut told = [const { Vec::new() }; 5];
    let mut feeds = 0;
    while talk.hub.catching_up() > 0 {
        while !talk.reads.is_empty() {
            feeds += usize::from(talk.reads[0].count == 0);
            let pages = talk.read();
            talk.bring(pages);
        }
        talk.turn();
        for (slot, told) in told.iter_mut().enumerate() {
            talk.drain(member(slot as u32));
            for event in talk.heard(slot as u32) {
                match event["entries"].as_array() {
                    Some(entries) => told.extend(positions(entries)),
                    None => told.push(event["position"].as_u64().unwrap()),
                }
            }
        }
    }
    for (slot, told) in told.iter().enumerate() {
        assert!(told.iter().copied().eq(11 + slot as u64..=40), "{told:?}");
    }
    // 14 to 40 in steps of ten, at most once more where somebody was behind the first of them.
    assert!(feeds <= 4, "{feeds} reads for five members");
    talk.turn();
    assert_eq!(talk.hub.tails_bytes(), 0, "nothing is kept for nobody");
}

#[test]
fn who_falls_behind_what_is_kept_is_told_of_the_gap() {
    let limits = Limits { tail_entries: 3, outbox_high_water_bytes: 1, ..limits() };
    let mut talk = spoken(&limits, 0);
    talk.hello(1, "Bob");
    talk.join(1, "a");
    for number in 1..=10 {
        talk.say(0, "a", "text", &format!("n{number}"));
        talk.turn();
        talk.drain(member(0));
    }
    assert_eq!(talk.heard(1), Vec::<Value>::new(), "its outbox is full of the answer to join");
    talk.drain(member(1));
    talk.settle();
    let heard: Vec<Value> = talk.heard(1).into_iter().filter(|it| it["type"] != "presence").collect();
    assert_eq!(heard[0], json!({"type": "gap", "room": "a", "position": 7, "epoch": "000000000000000e"}));
    assert_eq!(positions(&heard[1..]), [8, 9, 10]);
}

#[test]
fn a_loss_is_told_to_those_to_whom_it_is_news() {
    for (epoch, upto, is_told) in [(0xe, 3, false), (0xe, 2, false), (0xe, 4, true), (0xf, 3, true), (0xf, 4, true)] {
        let mut talk = spoken(&limits(), 3);
        talk.hello(1, "Bob");
        talk.join(1, "a");
        talk.settle();
        talk.heard(1);
        talk.hub.lost(Epoch(epoch), Position(upto), &mut talk.stage);
        let gaps = talk.heard(1).into_iter().filter(|it| it["type"] == "gap").count();
        assert_eq!(gaps, usize::from(is_told), "up to {upto} in {epoch}");
    }
}

#[test]
fn who_falls_behind_goes_on_from_where_it_is_and_not_from_the_rooms_last_entry() {
    let limits = Limits { tail_entries: 1, outbox_high_water_bytes: 1, ..limits() };
    let mut talk = Talk::stored(&limits, former("b", 1..=20));
    for (slot, name) in [(0, "Ann"), (1, "Bob")] {
        talk.hello(slot, name);
    }
    for room in ["a", "b"] {
        talk.ask(0, json!({"type": "join", "room": room}));
    }
    talk.settle();
    for (room, nonce) in [("a", "21"), ("b", "22"), ("b", "23")] {
        talk.say(0, room, "text", nonce);
        talk.settle();
    }
    talk.ask(1, json!({"type": "join", "room": "a"}));
    while !talk.hub.rooms[talk.hub.by_name[&name("a")]].live[Dialect::V1.index()].contains(&member(1)) {
        talk.turn();
        if !talk.reads.is_empty() {
            let pages = talk.read();
            talk.bring(pages);
        }
    }
    let joined = talk.heard(1).into_iter().find(|it| it["type"] == "joined").unwrap();
    assert_eq!((told(&joined).0, &joined["position"]), (vec![21], &json!(23)), "it knows the room up to here");
    for nonce in ["24", "25"] {
        talk.say(0, "a", "text", nonce);
        talk.turn();
        talk.drain(member(0));
    }
    talk.floor = Position(22);
    talk.drain(member(1));
    talk.settle();
    let heard: Vec<Value> = talk.heard(1).into_iter().filter(|it| it["type"] != "presence").collect();
    assert_eq!(positions(&heard), [24, 25], "{heard:#?}");
    assert!(heard.iter().all(|message| message["type"] == "said"), "{heard:#?}");
}

#[test]
fn a_busy_room_does_not_keep_a_slow_reader_from_the_others() {
    let limits = Limits { outbox_high_water_bytes: 1, ..limits() };
    let mut talk = spoken(&limits, 0);
    talk.join(0, "quiet");
    talk.hello(1, "Bob");
    for room in ["a", "quiet"] {
        talk.ask(1, json!({"type": "join", "room": room}));
    }
    talk.settle();
    talk.say(0, "a", "noise", "n");
    talk.turn();
    talk.say(0, "quiet", "psst", "q");
    let mut heard = Vec::new();
    for number in 0..10 {
        // The busy room has something new whenever the reader has taken something.
        talk.say(0, "a", "noise", &format!("n{number}"));
        talk.turn();
        heard.extend(talk.heard(1));
        talk.drain(member(1));
        talk.drain(member(0));
    }
    assert!(heard.iter().any(|message| message["room"] == "quiet" && message["text"] == "psst"), "{heard:#?}");
}

#[test]
fn who_joins_many_rooms_at_once_is_told_as_fast_as_it_takes() {
    let limits = Limits { outbox_high_water_bytes: 100, ..Limits::default() };
    let mut talk = spoken(&limits, 0);
    talk.hello(1, "Bob");
    for number in 0..30 {
        talk.ask(1, json!({"type": "join", "room": format!("room {number}")}));
    }
    let mut rooms = Vec::new();
    for _ in 0..40 {
        talk.turn();
        let heard: Vec<Value> = talk.heard(1).into_iter().filter(|it| it["type"] == "joined").collect();
        assert!(heard.len() <= 1, "its outbox is full with one: {heard:#?}");
        rooms.extend(heard.into_iter().map(|it| it["room"].as_str().unwrap().to_owned()));
        talk.drain(member(1));
    }
    rooms.sort_unstable();
    rooms.dedup();
    assert_eq!(rooms.len(), 30);
}
