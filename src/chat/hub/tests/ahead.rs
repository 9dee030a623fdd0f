//! Whoever comes from an instance that is ahead of this one.

use std::time::Duration;

use serde_json::{Value, json};

use super::talk::{Talk, positions};
use super::*;
use crate::chat::report::InstanceId;

const EPOCH: &str = "000000000000000e";
const OTHER_EPOCH: &str = "000000000000000f";

fn limits() -> Limits {
    Limits { page_entries: 3, backfill_entries: 6, ahead_timeout: Duration::from_secs(20), ..Limits::default() }
}

/// An instance of several, a room in which so much was said, and Bob, who is about to join it.
fn spoken(limits: &Limits, count: usize) -> Talk {
    let mut talk = Talk::in_memory(limits);
    let now = talk.now;
    talk.hub.report_as(InstanceId(1), now);
    talk.hello(0, "Ann");
    talk.join(0, "a");
    say_up_to(&mut talk, count);
    talk.hello(1, "Bob");
    talk
}

fn say_up_to(talk: &mut Talk, count: usize) {
    while talk.said.len() < count {
        let number = talk.said.len() + 1;
        talk.say(0, "a", &format!("text {number}"), &format!("n{number}"));
        talk.turn();
        talk.drain(member(0));
    }
}

fn resume(talk: &mut Talk, slot: u32, after: u64, epoch: &str) {
    talk.ask(slot, json!({"type": "join", "room": "a", "after": after, "epoch": epoch}));
    talk.turn();
}

/// What somebody is told of the room, but for who is there.
fn told(talk: &mut Talk, slot: u32) -> Vec<Value> {
    talk.turn();
    talk.heard(slot).into_iter().filter(|message| message["type"] != "presence").collect()
}

/// Whether somebody has joined with a gap.
fn joined_with_gap(talk: &mut Talk, slot: u32) -> Option<bool> {
    told(talk, slot).iter().find(|message| message["type"] == "joined").map(|joined| joined["gap"] == true)
}

/// How many were told of a gap, as the metrics say: full, late, absent, ended.
fn lost(talk: &Talk) -> [u64; 4] {
    talk.hub.lost_ahead().map(|(_, count)| count)
}

#[test]
fn what_they_have_heard_is_waited_for() {
    let mut talk = spoken(&limits(), 3);
    resume(&mut talk, 1, 5, EPOCH);
    for count in 4..=5 {
        assert_eq!(told(&mut talk, 1), [] as [Value; 0], "it is told nothing before the instance has come so far");
        say_up_to(&mut talk, count);
    }
    say_up_to(&mut talk, 6);
    let heard = told(&mut talk, 1);
    let (joined, said) = heard.split_first().unwrap();
    assert_eq!((&joined["type"], &joined["gap"]), (&json!("joined"), &json!(false)), "{joined}");
    let entries = positions(joined["entries"].as_array().unwrap());
    assert_eq!([entries, positions(said)].concat(), [6], "what follows, once");
    assert!(talk.hub.ahead.is_empty());
    assert_eq!(lost(&talk), [0; 4]);
}

#[test]
fn no_time_but_the_journal_tells_whether_it_will_come() {
    let mut talk = spoken(&limits(), 3);
    resume(&mut talk, 1, 5, EPOCH);
    assert_eq!(talk.hub.poll_level(), None, "most often it is there before anybody need ask");
    let begun = talk.now;
    talk.pass_to(begun + Duration::from_secs(1));
    let behind = json!({"type": "behind", "room": "a", "position": 3});
    assert_eq!(told(&mut talk, 1), [behind], "it is told once that it waits");
    let question = talk.hub.poll_level().expect("it is asked for");
    assert_eq!(talk.hub.poll_level(), None, "once");
    // Long after, the bus is back, and brings it.
    talk.pass_to(begun + Duration::from_secs(15));
    assert_eq!(told(&mut talk, 1), [] as [Value; 0]);
    say_up_to(&mut talk, 5);
    talk.hub.level(question);
    assert_eq!(joined_with_gap(&mut talk, 1), Some(false));

    // Who comes after the question was asked waits for the answer to the next.
    resume(&mut talk, 1, 0, EPOCH);
    talk.hello(2, "Cleo");
    talk.hello(3, "Dan");
    resume(&mut talk, 2, 9, EPOCH);
    talk.pass_to(begun + Duration::from_secs(16));
    let question = talk.hub.poll_level().expect("it is asked for");
    resume(&mut talk, 3, 9, EPOCH);
    talk.hub.level(question);
    assert_eq!(joined_with_gap(&mut talk, 2), Some(true), "it is not there");
    assert_eq!(joined_with_gap(&mut talk, 3), None);
    talk.pass_to(begun + Duration::from_secs(17));
    let question = talk.hub.poll_level().expect("it is asked for");
    talk.hub.level(question);
    assert_eq!(joined_with_gap(&mut talk, 3), Some(true));
    assert!(talk.hub.ahead.is_empty());
    assert_eq!(lost(&talk), [0, 0, 2, 0]);
}

#[test]
fn a_life_that_is_not_known_here_may_be_that_of_the_others() {
    let mut talk = spoken(&limits(), 3);
    resume(&mut talk, 1, 2, OTHER_EPOCH);
    assert_eq!(joined_with_gap(&mut talk, 1), None);
    talk.hello(2, "Cleo");
    resume(&mut talk, 2, 9, EPOCH);
    talk.hello(3, "Dan");
    resume(&mut talk, 3, 9, OTHER_EPOCH);
    talk.hub.lost(Epoch(0xf), Position(4), &mut talk.stage);
    assert_eq!(joined_with_gap(&mut talk, 1), Some(true), "it has missed what is lost");
    assert_eq!(joined_with_gap(&mut talk, 2), Some(true), "there will be no more of that life");
    assert_eq!(joined_with_gap(&mut talk, 3), None, "it is not there yet");
    talk.said.push(Entry { position: Position(8), ..talk.said[2].clone() });
    say_up_to(&mut talk, 5);
    assert_eq!(joined_with_gap(&mut talk, 3), Some(false));
    assert_eq!(lost(&talk), [0, 0, 0, 1]);
}

#[test]
fn the_wait_is_bounded() {
    let mut talk = spoken(&Limits { max_ahead: 2, ..limits() }, 3);
    for slot in 2..=4 {
        talk.hello(slot, "Cleo");
    }
    for slot in 1..=2 {
        resume(&mut talk, slot, 99, EPOCH);
        assert_eq!(joined_with_gap(&mut talk, slot), None);
    }
    resume(&mut talk, 3, 99, EPOCH);
    assert_eq!(joined_with_gap(&mut talk, 3), Some(true), "two wait");
    talk.ask(1, json!({"type": "leave", "room": "a"}));
    talk.hub.exit(member(2), talk.now);
    assert_eq!(talk.hub.waiting_ahead(), 0, "who has gone waits no more");
    resume(&mut talk, 4, 99, EPOCH);
    let begun = talk.now;
    talk.pass_to(begun + Duration::from_secs(19));
    assert_eq!(joined_with_gap(&mut talk, 4), None);
    talk.pass_to(begun + Duration::from_secs(21));
    assert_eq!(joined_with_gap(&mut talk, 4), Some(true));
    assert_eq!(talk.hub.waiting_ahead(), 0);
    assert_eq!(lost(&talk), [1, 1, 0, 0]);
}

#[test]
fn alone_an_instance_waits_for_nobody() {
    let mut talk = Talk::in_memory(&limits());
    talk.hello(1, "Bob");
    resume(&mut talk, 1, 9, EPOCH);
    assert_eq!(joined_with_gap(&mut talk, 1), Some(true));
}

#[test]
fn who_asks_without_being_a_member_waits_as_members_do() {
    // what it has heard, and what becomes of that; where it goes on
    let (none, lost) = (None, Some(Start::Lost));
    type Happens = fn(&mut Talk, u64);
    let come: Happens = |talk, _| say_up_to(talk, 6);
    let absent: Happens = |talk, question| talk.hub.level(question);
    let late: Happens = |talk, _| talk.pass_to(talk.now + Duration::from_secs(21));
    let other_life: Happens = |talk, _| talk.hub.lost(Epoch(0xf), Position(9), &mut talk.stage);
    let come_and_over: Happens = |talk, _| {
        say_up_to(talk, 6);
        talk.hub.lost(Epoch(0xf), Position(6), &mut talk.stage);
    };
    let nothing: Happens = |talk, _| say_up_to(talk, 4);
    let table = [
        ("it comes", Epoch(0xe), 5, come, Some(Start::After(Position(5)))),
        ("it has not come yet", Epoch(0xe), 5, nothing, none),
        ("it is not there", Epoch(0xe), 9, absent, lost),
        ("it does not come in time", Epoch(0xe), 9, late, lost),
        ("the life is over", Epoch(0xe), 9, other_life, lost),
        ("it comes, and the life is over", Epoch(0xe), 6, come_and_over, lost),
        ("another life has begun", Epoch(0xf), 9, other_life, Some(Start::After(Position(9)))),
    ];
    for (name, epoch, after, happens, expected) in table {
        let mut talk = spoken(&limits(), 3);
        assert_eq!(talk.hub.await_request(member(7), epoch, Position(after)), None, "{name}");
        assert_eq!(talk.hub.await_request(member(8), epoch, Position(after)), None, "{name}");
        assert_eq!(talk.hub.waiting_ahead(), 2, "{name}");
        talk.hub.forget_request(member(8));
        let now = talk.now;
        talk.hub.wind(now);
        talk.pass_to(now + Duration::from_secs(1));
        assert_eq!(talk.hub.poll_awaited(), None, "{name}");
        let question = talk.hub.poll_level().expect("it is asked for");
        happens(&mut talk, question);
        talk.turn();
        assert_eq!(talk.hub.has_awaited(), expected.is_some(), "{name}");
        assert_eq!(talk.hub.poll_awaited(), expected.map(|start| (member(7), start)), "{name}");
        assert_eq!(talk.hub.poll_awaited(), None, "{name}: once");
        talk.hub.forget_request(member(7));
        assert_eq!((talk.hub.waiting_ahead(), talk.hub.has_awaited()), (0, false), "{name}");
    }
}

#[test]
fn requests_and_joins_have_one_bound() {
    let mut talk = spoken(&Limits { max_ahead: 2, ..limits() }, 3);
    resume(&mut talk, 1, 99, EPOCH);
    assert_eq!(talk.hub.await_request(member(7), Epoch(0xe), Position(99)), None);
    assert_eq!(talk.hub.await_request(member(8), Epoch(0xe), Position(99)), Some(Start::Lost), "two wait");
    assert_eq!(talk.hub.await_request(member(8), Epoch(0xe), Position(3)), Some(Start::After(Position(3))));
    assert_eq!(lost(&talk), [1, 0, 0, 0]);
    // Who has gone between its answer and the next turn is not gone on with.
    say_up_to(&mut talk, 4);
    talk.hub.lost(Epoch(0xf), Position(9), &mut talk.stage);
    assert!(talk.hub.has_awaited());
    talk.hub.forget_request(member(7));
    assert_eq!(talk.hub.poll_awaited(), None);
}
