//! Many who join at once and are told from the store.

use serde_json::{Value, json};

use super::joining::told;
use super::talk::{Talk, former, positions};
use super::*;

const EPOCH: &str = "000000000000000e";

fn limits() -> Limits {
    Limits { page_entries: 3, backfill_entries: 1_000, feed_entries: 10, join_reads: 2, ..Limits::default() }
}

/// Members of chat.v1, and a room of which 400 entries are in the store and none in memory.
fn stored(limits: &Limits, members: u32) -> Talk {
    let mut talk = Talk::stored(limits, former("a", 1..=400));
    for slot in 0..members {
        talk.hello(slot, "Ann");
    }
    talk
}

fn resume(talk: &mut Talk, slot: u32, after: u64) {
    talk.ask(slot, json!({"type": "join", "room": "a", "after": after, "epoch": EPOCH}));
}

fn join(talk: &mut Talk, slot: u32) {
    talk.ask(slot, json!({"type": "join", "room": "a"}));
}

/// Under way, and waiting for that.
fn arrivals(talk: &Talk) -> (usize, usize) {
    (talk.hub.arrivals.len(), talk.hub.arrivals.queued())
}

/// Turns with one answer of the store each, until all are level; what each of them hears.
fn settle(talk: &mut Talk, members: u32, most_reads: usize) -> Vec<Vec<Value>> {
    let mut heard: Vec<Vec<Value>> = (0..members).map(|slot| talk.heard(slot)).collect();
    for _ in 0..2_000 {
        talk.turn();
        let (under_way, _) = arrivals(talk);
        assert!(under_way <= most_reads, "{under_way} reads are under way");
        if !talk.reads.is_empty() {
            let pages = talk.read();
            talk.bring(pages);
        }
        for slot in 0..members {
            talk.drain(member(slot));
            heard[slot as usize].extend(talk.heard(slot).into_iter().filter(|it| it["type"] != "presence"));
        }
        if talk.hub.catching_up() == 0 && talk.reads.is_empty() {
            assert_eq!(arrivals(talk), (0, 0));
            return heard;
        }
    }
    panic!("{} are still catching up", talk.hub.catching_up());
}

/// The positions of all entries that a member has heard, in `joined` and behind it.
fn all_positions(heard: &[Value]) -> Vec<u64> {
    let entries = heard.iter().flat_map(|event| match event["entries"].as_array() {
        Some(entries) => entries.iter().collect(),
        None => vec![event],
    });
    positions(entries.filter(|entry| !entry["position"].is_null() && entry["type"] != "joined"))
}

fn leave(talk: &mut Talk, slot: u32) {
    talk.ask(slot, json!({"type": "leave", "room": "a"}));
}

#[test]
fn only_so_many_reads_are_under_way_and_everybody_has_a_turn() {
    let mut talk = stored(&limits(), 10);
    (0..10).for_each(|slot| resume(&mut talk, slot, 20 * u64::from(slot)));
    // The store is slow: nothing comes for some turns.
    for _ in 0..3 {
        talk.turn();
        assert_eq!((talk.reads.len(), arrivals(&talk)), (2, (2, 8)));
        assert!(!talk.hub.has_carried_over(), "a turn has nothing to do until something has been read");
    }
    // Turns are as they came: the next is the third, when one of the first has its answer.
    let pages = talk.read();
    talk.bring(pages);
    talk.turn();
    let joins = talk.reads.iter().filter(|wanted| wanted.count > 0).map(|wanted| wanted.range.clone());
    assert!(joins.eq([20, 40].map(|after| Range::After { after: Position(after), upto: Position(400) })));
    // What is said meanwhile comes behind.
    talk.say(0, "a", "now", "n1");
    let heard = settle(&mut talk, 10, 2);
    for (slot, heard) in heard.iter().enumerate() {
        assert_eq!(heard[0]["missed"], 400 - 20 * slot as u64 + u64::from(slot > 2), "{slot}");
        assert!(all_positions(heard).into_iter().eq(20 * slot as u64 + 1..=401), "{slot}: {heard:?}");
    }
    (0..10).for_each(|slot| talk.exit(member(slot)));
    talk.assert_empty();
}

#[test]
fn whoever_waits_may_go_and_come_back() {
    /// What a member does while it waits for its turn, or for what is read.
    type Act = fn(&mut Talk, u32, &Value);
    let take_over: Act = |talk, slot, welcome| {
        let ghost = talk.told.len();
        talk.hub.enter(member(20), Dialect::V1);
        talk.ask(20, json!({"type": "hello", "token": welcome["token"], "session": welcome["session"]}));
        assert_eq!(talk.told[ghost..], [Command::TakenOver(member(slot))]);
        talk.heard(20);
    };
    let rejoin: Act = |talk, slot, _| {
        leave(talk, slot);
        resume(talk, slot, 350);
    };
    let rejoin_anew: Act = |talk, slot, _| {
        leave(talk, slot);
        join(talk, slot);
    };
    let cases: [(&str, Act, Option<std::ops::RangeInclusive<u64>>); 5] = [
        ("leaves", |talk, slot, _| leave(talk, slot), None),
        ("closes", |talk, slot, _| talk.exit(member(slot)), None),
        ("is taken over", take_over, None),
        ("joins again", rejoin, Some(351..=401)),
        ("joins anew", rejoin_anew, Some(399..=401)),
    ];
    // The second is being read for, the last one waits for its turn.
    for slot in [1, 3] {
        for (name, act, expected) in cases.clone() {
            let name = format!("{slot} {name}");
            let mut talk = stored(&limits(), 3);
            let mut welcome = talk.hello(3, "Eve");
            if slot == 1 {
                talk.exit(member(1));
                welcome = talk.hello(1, "Eve");
            }
            (0..4).for_each(|slot| resume(&mut talk, slot, 20 * u64::from(slot)));
            talk.turn();
            assert_eq!(arrivals(&talk), (2, 2), "{name}");
            act(&mut talk, slot, &welcome);
            let queued = 2 - usize::from(slot == 3);
            assert_eq!(arrivals(&talk), (2, queued), "{name}: what is read is under way until it has come");
            talk.turn();
            talk.say(0, "a", "now", "n1");
            let heard = settle(&mut talk, 4, 2);
            for (at, heard) in (0..).zip(&heard) {
                let expected = match &expected {
                    _ if at != slot => Some(20 * u64::from(at) + 1..=401),
                    expected => expected.clone(),
                };
                assert_eq!(all_positions(heard), expected.map_or_else(Vec::new, Iterator::collect), "{name}: {at}");
                let joined = heard.iter().filter(|event| event["type"] == "joined").count();
                assert!(joined <= 1, "{name}: {at} is told once");
            }
            (0..4).chain([20]).for_each(|slot| talk.exit(member(slot)));
            talk.assert_empty();
        }
    }
}

#[test]
fn whoever_comes_back_while_the_same_is_read_is_told_from_the_last_place() {
    let after = |after: u64| json!({"after": after, "epoch": EPOCH});
    let (anew, unknown) = (json!({}), json!({"after": 5, "epoch": "00000000000000ff"}));
    // Who has it read, how somebody else comes meanwhile, and comes back; what is heard of that, and whether there is a gap.
    for (reader, first, then, expected, gap) in [
        (after(300), after(301), after(302), 303..=400, false),
        (after(300), after(302), after(301), 302..=400, false),
        (anew.clone(), anew.clone(), unknown.clone(), 398..=400, true),
        (anew.clone(), unknown, anew, 398..=400, false),
    ] {
        let mut talk = stored(&limits(), 2);
        let come = |talk: &mut Talk, slot: u32, from: &Value| {
            let request = json!({"type": "join", "room": "a", "after": from["after"], "epoch": from["epoch"]});
            talk.ask(slot, request);
            talk.turn();
        };
        come(&mut talk, 0, &reader);
        come(&mut talk, 1, &first);
        leave(&mut talk, 1);
        come(&mut talk, 1, &then);
        assert_eq!((talk.reads.len(), arrivals(&talk)), (1, (1, 0)), "{first} {then}");
        let heard = settle(&mut talk, 2, 2).remove(1);
        let joined: Vec<_> = heard.iter().filter(|event| event["type"] == "joined").map(|it| &it["gap"]).collect();
        assert_eq!(joined, [&json!(gap)], "{first} {then}");
        assert!(all_positions(&heard).into_iter().eq(expected), "{first} {then}: {:?}", all_positions(&heard));
    }
}

#[test]
fn the_store_fails_while_joins_wait() {
    let mut talk = stored(&limits(), 6);
    (0..4).for_each(|slot| resume(&mut talk, slot, 20 * u64::from(slot)));
    (4..6).for_each(|slot| join(&mut talk, slot));
    talk.turn();
    assert_eq!(arrivals(&talk), (2, 4));
    let mut heard = [const { Vec::new() }; 6];
    while talk.hub.arrivals.len() > 0 {
        let pages = Pages { entries: Err(SearchError::Unavailable), ..talk.read() };
        talk.bring(pages);
        talk.turn();
        assert!(arrivals(&talk).0 <= 2);
        (0..6).for_each(|slot| heard[slot as usize].extend(talk.heard(slot)));
    }
    for (slot, heard) in heard.iter().enumerate() {
        assert_eq!(
            told(&heard[0]),
            (vec![], slot < 4, false, None, true),
            "{slot} is told that it has missed something"
        );
    }
    // It has recovered.
    talk.exit(member(0));
    talk.hello(0, "Bob");
    resume(&mut talk, 0, 390);
    let heard = settle(&mut talk, 1, 2);
    assert!(all_positions(&heard[0]).into_iter().eq(391..=400), "{heard:?}");
}

#[test]
fn those_who_come_to_the_same_place_are_told_from_one_page_so_many_in_a_turn() {
    let mut talk = stored(&Limits { feeds_per_turn: 10, ..limits() }, 45);
    (0..40).for_each(|slot| resume(&mut talk, slot, 300));
    (40..45).for_each(|slot| join(&mut talk, slot));
    for _ in 0..5 {
        talk.turn();
    }
    assert_eq!((talk.reads.len(), arrivals(&talk)), (2, (2, 0)));
    let pages = talk.read();
    talk.bring(pages);
    for round in 1..=4 {
        assert!(talk.hub.has_carried_over());
        assert_eq!(talk.hub.arrivals.len(), 2, "it is under way until all have been told");
        talk.turn();
        let is_in = |slot: &u32| talk.stage.has_heard(member(*slot));
        assert_eq!((0..40).filter(is_in).count(), 10 * round);
    }
    assert_eq!(talk.hub.arrivals.len(), 1);
    let heard = settle(&mut talk, 45, 2);
    for (slot, heard) in heard.iter().enumerate() {
        let first = if slot < 40 { 301 } else { 398 };
        assert!(all_positions(heard).into_iter().eq(first..=400), "{slot}: {heard:?}");
        assert_eq!(heard[0]["members"]["count"], 45);
    }
}

#[test]
fn those_who_wait_near_a_place_that_is_read_need_no_turn_of_their_own() {
    let mut talk = stored(&limits(), 9);
    for (slot, after) in [100, 200, 301, 303, 304, 302, 300, 299, 100].into_iter().enumerate() {
        resume(&mut talk, slot as u32, after);
    }
    talk.turn();
    assert_eq!(arrivals(&talk), (2, 6), "the last one waits for the same as the first");
    for asked in [[200, 301], [301, 304], [304, 300], [300, 299]] {
        let pages = talk.read();
        talk.bring(pages);
        talk.turn();
        // Reads for those who have been told their first page and go on are others.
        let asked = asked.map(|after| Range::After { after: Position(after), upto: Position(400) });
        let joins: Vec<_> = talk.reads.iter().filter(|wanted| wanted.count > 0).map(|it| it.range.clone()).collect();
        assert_eq!(joins, asked);
        talk.reads.retain(|wanted| wanted.count > 0);
    }
}

#[test]
fn a_page_that_ends_before_somebodys_place_does_not_tell_how_much_they_have_missed() {
    let mut talk = stored(&Limits { backfill_entries: 98, ..limits() }, 2);
    resume(&mut talk, 0, 300);
    resume(&mut talk, 1, 302);
    talk.turn();
    assert_eq!((talk.reads.len(), arrivals(&talk)), (1, (1, 0)));
    // Its entries are long, and one of three was all that there was room for.
    let mut pages = talk.read();
    pages.entries.as_mut().unwrap().truncate(1);
    assert!(pages.more);
    talk.bring(pages);
    let heard = settle(&mut talk, 2, 2);
    assert_eq!(told(&heard[0][0]), (vec![398, 399, 400], true, false, None, true), "100 are more than are sent");
    assert_eq!((&heard[1][0]["gap"], &heard[1][0]["missed"]), (&json!(false), &json!(98)));
    assert!(all_positions(&heard[1]).into_iter().eq(303..=400), "{:?}", all_positions(&heard[1]));
}

#[test]
fn nobody_is_told_from_a_page_that_lacks_what_was_said_before_it_came() {
    let mut talk = stored(&limits(), 3);
    resume(&mut talk, 0, 400);
    resume(&mut talk, 1, 300);
    talk.turn();
    assert_eq!(talk.reads.len(), 1);
    talk.say(0, "a", "now", "n1");
    talk.turn();
    resume(&mut talk, 2, 300);
    talk.turn();
    assert_eq!(talk.reads.len(), 2, "it is told how much it has missed as it is now");
    let heard = settle(&mut talk, 3, 2);
    assert_eq!((&heard[1][0]["missed"], &heard[2][0]["missed"]), (&json!(100), &json!(101)));
    for heard in &heard[1..] {
        assert!(all_positions(heard).into_iter().eq(301..=401), "{heard:?}");
    }
}

#[test]
fn joins_and_members_that_are_behind_do_not_wait_for_each_other() {
    let limits = Limits { feed_reads: 1, join_reads: 1, ..limits() };
    for joins_first in [true, false] {
        let mut talk = stored(&limits, 4);
        let come = |talk: &mut Talk, joins: bool| {
            for slot in 0..4 {
                let after = 50 * u64::from(slot);
                if joins {
                    resume(talk, slot, after);
                } else {
                    talk.hub.enter(member(10 + slot), Dialect::Raw);
                    talk.hub.sit(member(10 + slot), name("a"), Start::After(Position(after)));
                }
            }
            talk.turn();
        };
        come(&mut talk, joins_first);
        assert_eq!(talk.reads.len(), 1);
        come(&mut talk, !joins_first);
        let [feeds, joins, ..] = talk.hub.reads();
        assert_eq!((feeds.purpose, joins.purpose), ("feed", "join"));
        assert_eq!((talk.reads.len(), feeds.under_way, joins.under_way), (2, 1, 1));
    }
}

#[test]
fn who_comes_and_goes_has_no_more_read_than_others() {
    let past = (1..=20).flat_map(|at| former(if at % 2 == 0 { "a" } else { "b" }, [at])).collect();
    let mut talk = Talk::stored(&limits(), past);
    for round in 0..40 {
        // The room is forgotten as soon as there is nobody, and the next one takes its place.
        talk.hello(0, "Ann");
        talk.ask(0, json!({"type": "join", "room": (["a", "b"][round % 2]), "after": 1, "epoch": EPOCH}));
        talk.turn();
        assert!(talk.reads.len() <= 2, "{} reads", talk.reads.len());
        talk.exit(member(0));
    }
    talk.assert_empty();
    assert_eq!(arrivals(&talk), (0, 0));
}

#[test]
fn a_loss_while_joins_wait() {
    let mut talk = stored(&Limits { feeds_per_turn: 1, ..limits() }, 4);
    // Two are told from one page, in two turns; one has its own, one has to wait.
    for (slot, after) in [(0, 100), (1, 100), (2, 200), (3, 300)] {
        resume(&mut talk, slot, after);
    }
    for _ in 0..4 {
        talk.turn();
    }
    assert_eq!((talk.reads.len(), arrivals(&talk)), (2, (2, 1)));
    let pages = talk.read();
    talk.bring(pages);
    talk.turn();
    talk.hub.lost(Epoch(0xf), Position(410), &mut talk.stage);
    talk.floor = Position(410);
    talk.reads.clear();
    for slot in [1, 3] {
        assert!(talk.heard(slot).is_empty(), "{slot}");
    }
    for _ in 0..20 {
        talk.turn();
        if !talk.reads.is_empty() {
            let pages = talk.read();
            talk.bring(pages);
        }
    }
    let heard = talk.heard(1);
    assert_eq!((&heard[0]["gap"], &heard[0]["epoch"]), (&json!(true), &json!("000000000000000f")), "{heard:?}");
}

#[test]
fn what_is_read_when_something_is_lost_is_told_with_the_gap() {
    // What is lost, and when the answer to what one of them has asked is made: before that, or behind it.
    for (upto, is_read_before) in [(410, true), (410, false), (400, true), (400, false)] {
        let case = format!("up to {upto}, read before: {is_read_before}");
        let mut talk = stored(&Limits { join_reads: 1, ..limits() }, 3);
        // One is read for, the others wait for their turn; the last of them has missed nothing.
        for (slot, after) in [(0, 100), (1, 200)] {
            resume(&mut talk, slot, after);
        }
        join(&mut talk, 2);
        talk.turn();
        assert_eq!((talk.reads.len(), arrivals(&talk)), (1, (1, 2)), "{case}");
        let pages = is_read_before.then(|| talk.read());
        talk.hub.lost(Epoch(0xf), Position(upto), &mut talk.stage);
        talk.floor = Position(upto);
        let pages = pages.unwrap_or_else(|| talk.read());
        talk.bring(pages);
        let heard = settle(&mut talk, 3, 1);
        for (slot, heard) in heard.iter().enumerate() {
            let gaps = heard.iter().filter(|event| event["type"] == "gap" || event["gap"] == true).count();
            assert_eq!(gaps, usize::from(slot < 2), "{case}: {slot} of those who have missed something, {heard:?}");
            assert_eq!(heard[0]["epoch"], "000000000000000f", "{case}: {slot}");
            let beyond = heard.iter().filter_map(|event| event["position"].as_u64()).max();
            assert!(beyond <= Some(upto), "{case}: {slot}");
        }
        (0..3).for_each(|slot| talk.exit(member(slot)));
        talk.assert_empty();
    }
}

#[test]
fn who_joins_many_rooms_lets_others_have_their_turn() {
    let rooms: Vec<String> = (0..20).map(|number| format!("r{number}")).collect();
    let entries = rooms.iter().zip(1..).flat_map(|(room, at)| former(room, at..=at)).collect();
    let limits = Limits { join_reads: 1, ..limits() };
    let mut talk = Talk::stored(&limits, entries);
    for slot in 0..3 {
        talk.hello(slot, "Ann");
    }
    let join = |talk: &mut Talk, slot, room: &str| talk.ask(slot, json!({"type": "join", "room": room}));
    rooms[..10].iter().for_each(|room| join(&mut talk, 0, room));
    rooms[10..13].iter().for_each(|room| join(&mut talk, 1, room));
    let mut order = Vec::new();
    for reads in 0..14 {
        if reads == 3 {
            join(&mut talk, 2, &rooms[19]);
        }
        talk.turn();
        let pages = talk.read();
        talk.bring(pages);
        talk.turn();
        for slot in 0..3 {
            order.extend(talk.heard(slot).iter().filter(|event| event["type"] == "joined").map(|_| slot));
        }
    }
    assert_eq!(order, [0, 0, 1, 0, 1, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(arrivals(&talk), (0, 0));
}
