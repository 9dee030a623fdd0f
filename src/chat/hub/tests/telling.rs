//! What is said, to whom, and what is told in passing: presence and typing.

use std::time::Duration;

use serde_json::{Value, json};

use super::talk::{Talk, positions};
use super::*;

const NOTHING: [Value; 0] = [];

fn talk() -> Talk {
    Talk::in_memory(&Limits::default())
}

/// People of these names, each in a slot of their own, in room "a", after everything has been told.
fn together(limits: &Limits, names: &[&str]) -> (Talk, Vec<Value>) {
    let mut talk = Talk::in_memory(limits);
    let mut ids = Vec::new();
    for (slot, name) in (0..).zip(names) {
        ids.push(talk.hello(slot, name)["you"]["id"].clone());
        talk.join(slot, "a");
    }
    talk.pass(Duration::from_secs(5));
    talk.settle();
    talk.settle();
    for slot in 0..names.len() as u32 {
        talk.heard(slot);
    }
    (talk, ids)
}

fn presences(heard: Vec<Value>) -> Vec<Value> {
    heard.into_iter().filter(|message| message["type"] == "presence").collect()
}

#[test]
fn a_repeat_is_answered_with_the_original_to_its_sender_alone() {
    let (mut talk, ids) = together(&Limits::default(), &["Ann", "Bob"]);
    talk.say(0, "a", "first", "n");
    talk.turn();
    talk.say(1, "a", "Bob's own", "n");
    talk.turn();
    let said = |slot: u32, talk: &mut Talk| -> Vec<(u64, String)> {
        let heard = talk.heard(slot);
        heard.iter().map(|it| (it["position"].as_u64().unwrap(), it["text"].as_str().unwrap().to_owned())).collect()
    };
    let both = [(1, "first".to_owned()), (2, "Bob's own".to_owned())];
    assert_eq!(said(0, &mut talk), both, "a nonce is a person's own");
    assert_eq!(said(1, &mut talk), both);
    for (room, text) in [("a", "first"), ("a", "changed"), ("b", "elsewhere")] {
        if room == "b" {
            talk.join(0, "b");
        }
        talk.say(0, room, text, "n");
        talk.turn();
        let expected = json!({"type": "said", "room": "a", "position": 1, "nonce": "n", "from": {"id": ids[0], "name": "Ann"},
            "text": "first", "at": 5, "repeat": true});
        assert_eq!(talk.next(0), expected, "{text} in {room}");
        assert_eq!(talk.heard(1), Vec::<Value>::new());
    }
    assert_eq!(talk.hub.in_flight(member(0)), 0, "what came back as a repeat has come back");
}

#[test]
fn what_the_journal_refuses_is_refused_aloud() {
    let mut talk = talk();
    talk.hello(0, "Ann");
    talk.join(0, "a");
    talk.hub.enter(member(1), Dialect::Raw);
    talk.hub.sit(member(1), name("a"), Start::Present);
    talk.say(0, "a", "hi", "n1");
    talk.shout(1, Message::Text(b"hello"));
    talk.refuse();
    let error = talk.next(0);
    assert_eq!(
        (&error["code"], &error["request"], &error["room"], &error["nonce"]),
        (&json!("unavailable"), &json!("say"), &json!("a"), &json!("n1"))
    );
    assert!(error["retry_ms"].is_u64());
    assert_eq!(talk.told, [Command::Unheard(member(1))], "who cannot be told is let go");
    assert_eq!(talk.hub.in_flight(member(0)), 0);
    talk.say(0, "a", "hi", "n1");
    talk.turn();
    assert_eq!(positions(&talk.heard(0)), [1], "and can be said again");
}

#[test]
fn members_of_both_dialects_share_rooms() {
    let mut talk = talk();
    let ann = talk.hello(0, "Ann");
    talk.hub.enter(member(1), Dialect::Raw);
    talk.hub.sit(member(1), name("a"), Start::Present);
    let joined = talk.join(0, "a");
    assert_eq!(joined["members"], json!({"count": 2, "names": [ann["you"]]}));
    talk.say(0, "a", "hi", "n1");
    talk.shout(1, Message::Text("„hello“".as_bytes()));
    talk.shout(1, Message::Binary(&[0, 0x7f]));
    talk.turn();
    assert_eq!(talk.heard(1), [json!("Ann: hi"), json!("„hello“"), json!("\0\u{7f}")]);
    let nobody = json!({"id": null, "name": null});
    let expected = [
        json!({"type": "said", "room": "a", "position": 1, "nonce": "n1", "from": ann["you"], "text": "hi", "at": 5}),
        json!({"type": "said", "room": "a", "position": 2, "from": nobody, "text": "„hello“", "at": 5}),
        json!({"type": "said", "room": "a", "position": 3, "from": nobody, "data": "AH8=", "at": 5}),
    ];
    assert_eq!(talk.heard(0), expected);
}

#[test]
fn presence_is_gathered_and_adds_up() {
    let (mut talk, ids) = together(&Limits::default(), &["Ann"]);
    let bob = talk.hello(1, "Bob");
    talk.join(1, "a");
    talk.hello(2, "Cid");
    talk.join(2, "a");
    talk.ask(1, json!({"type": "rename", "name": "Rob"}));
    talk.pass(Duration::from_secs(2));
    let told = presences(talk.heard(0));
    assert_eq!(told.len(), 1, "one update: {told:#?}");
    let names: Vec<_> = told[0]["joined"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert!(names.contains(&json!("Rob")) && names.contains(&json!("Cid")), "{names:?}");
    assert_eq!(told[0]["count"], 3);

    talk.exit(member(1));
    assert!(talk.hub.next_tick().is_some(), "nothing else may happen for a long time");
    talk.ask(2, json!({"type": "leave", "room": "a"}));
    talk.pass(Duration::from_secs(2));
    assert_eq!(presences(talk.heard(0)), NOTHING, "they have a while to come back");
    talk.heard(2);
    talk.join(2, "a");
    talk.pass(Duration::from_secs(5));
    let bob_left = json!({"type": "presence", "room": "a", "left": [bob["you"]["id"]], "count": 2});
    assert_eq!(presences(talk.heard(0)), [bob_left]);

    talk.ask(0, json!({"type": "rename", "name": "Anna"}));
    talk.pass(Duration::from_secs(2));
    let renamed = json!({"type": "presence", "room": "a", "renamed": [{"id": ids[0], "name": "Anna"}], "count": 2});
    assert_eq!(presences(talk.heard(2)).last(), Some(&renamed));
    assert_eq!(talk.hub.next_tick(), None, "nothing is left to be told");
}

#[test]
fn updates_are_a_second_apart_in_each_room() {
    let (mut talk, _) = together(&Limits::default(), &["Ann"]);
    let mut told = Vec::new();
    for slot in 1..=20 {
        talk.hello(slot, &format!("p{slot}"));
        talk.ask(slot, json!({"type": "join", "room": "a"}));
        talk.pass(Duration::from_millis(200));
        told.extend(presences(talk.heard(0)));
    }
    talk.pass(Duration::from_secs(2));
    told.extend(presences(talk.heard(0)));
    let joined: usize = told.iter().map(|update| update["joined"].as_array().unwrap().len()).sum();
    assert_eq!(joined, 20);
    assert!((4..=6).contains(&told.len()), "{} updates in four seconds", told.len());
}

#[test]
fn whoever_missed_an_update_is_told_who_is_there() {
    let limits = Limits { outbox_high_water_bytes: 1, ..Limits::default() };
    // One has a full outbox and is live all the time, one falls behind, and one is in the middle of catching up.
    for circumstance in ["live", "behind", "reading"] {
        let (mut talk, _) = together(&limits, &["Ann", "Bob"]);
        // Her outbox is full.
        talk.ask(0, json!({"type": "rename", "name": "Anna"}));
        match circumstance {
            "behind" => {
                talk.say(1, "a", "hi", "n1");
                talk.turn();
            }
            "reading" => {
                talk.hub.journaled.keeps_history = true;
                talk.say(1, "a", "hi", "n1");
                talk.turn();
                // The tail is gone, so that the store has to be asked.
                let key = talk.hub.by_name[&name("a")];
                talk.hub.rooms[key].tail.drop_front();
                talk.drain(member(0));
                talk.turn();
                assert_eq!(talk.reads.len(), 1);
            }
            _ => {}
        }
        talk.pass(Duration::from_secs(5));
        let cid = talk.hello(3, "Cid");
        talk.ask(3, json!({"type": "join", "room": "a"}));
        talk.pass(Duration::from_secs(2));
        talk.exit(member(1));
        talk.pass(Duration::from_secs(6));
        assert_eq!(presences(talk.heard(0)), NOTHING, "{circumstance}");
        talk.drain(member(0));
        talk.settle();
        let snapshots = presences(talk.heard(0));
        let snapshot = snapshots.last().unwrap_or_else(|| panic!("{circumstance}: nothing was made up for"));
        let names: Vec<_> = snapshot["names"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        assert_eq!((snapshots.len(), names.len(), &snapshot["count"]), (1, 2, &json!(2)), "{circumstance}");
        assert!(names.contains(&cid["you"]["id"]), "{circumstance}: {snapshot}");
        talk.drain(member(0));
        talk.settle();
        assert_eq!(presences(talk.heard(0)), NOTHING, "{circumstance}: and once");
    }
}

#[test]
fn a_crowd_is_counted_and_named_anew_when_it_shrinks() {
    let limits = Limits { presence_names: 3, ..Limits::default() };
    let (mut talk, _) = together(&limits, &["Ann", "Bob", "Cid"]);
    talk.hello(3, "Dan");
    let joined = talk.join(3, "a");
    assert_eq!(joined["members"], json!({"count": 4, "names": []}));
    talk.pass(Duration::from_secs(2));
    assert_eq!(talk.next(0), json!({"type": "presence", "room": "a", "count": 4, "names": []}));
    talk.exit(member(1));
    talk.pass(Duration::from_secs(5));
    let update = presences(talk.heard(3)).pop().unwrap();
    let names: Vec<_> = update["names"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!((names, &update["count"]), (vec!["Ann", "Cid", "Dan"], &json!(3)));
}

#[test]
fn typing_is_told_once_and_ends_by_itself_or_by_saying_something() {
    let (mut talk, ids) = together(&Limits::default(), &["Ann", "Bob"]);
    let typing = |who: &[(usize, &str)]| {
        let names: Vec<Value> = who.iter().map(|(place, name)| json!({"id": ids[*place], "name": name})).collect();
        json!({"type": "typing", "room": "a", "names": names})
    };
    for _ in 0..3 {
        talk.ask(1, json!({"type": "typing", "room": "a"}));
        talk.pass(Duration::from_millis(1500));
    }
    assert_eq!(talk.next(0), typing(&[(1, "Bob")]), "it goes on, and is told once");
    assert_eq!(talk.next(1), typing(&[(1, "Bob")]), "also to the person");
    talk.pass(Duration::from_secs(5));
    assert_eq!(talk.next(0), typing(&[]), "it ends by itself");

    talk.ask(1, json!({"type": "typing", "room": "a"}));
    talk.ask(0, json!({"type": "typing", "room": "a"}));
    talk.pass(Duration::from_secs(1));
    assert_eq!(talk.next(0), typing(&[(1, "Bob"), (0, "Ann")]));
    talk.say(1, "a", "done", "n1");
    talk.ask(0, json!({"type": "leave", "room": "a"}));
    talk.pass(Duration::from_secs(1));
    let heard: Vec<Value> = talk.heard(1).into_iter().filter(|message| message["type"] == "typing").collect();
    assert_eq!(heard.last(), Some(&typing(&[])), "{heard:#?}");
    talk.heard(0);
    talk.pass(Duration::from_secs(10));
    assert_eq!(talk.hub.next_tick(), None);
}

#[test]
fn announcements_reach_whoever_has_said_hello() {
    let (mut talk, _) = together(&Limits::default(), &["Ann", "Bob"]);
    talk.hub.enter(member(2), Dialect::V1);
    talk.hub.enter(member(3), Dialect::Raw);
    talk.hub.announce(&mut talk.stage, |number| crate::chat::v1::Reply::Draining { reconnect_ms: 100 + number as u64 });
    for slot in 0..2 {
        assert_eq!(talk.next(slot), json!({"type": "draining", "reconnect_ms": 100 + slot}));
    }
    assert!(talk.heard(2).is_empty() && talk.heard(3).is_empty());
}
