//! Who somebody is: hello, names, tokens, tabs and ghosts.

use serde_json::{Value, json};

use super::talk::Talk;
use super::*;

fn talk() -> Talk {
    Talk::in_memory(&Limits::default())
}

/// A further connection that says hello like this; what is answered.
fn hello_with(talk: &mut Talk, slot: u32, hello: Value) -> Value {
    talk.hub.enter(member(slot), Dialect::V1);
    talk.ask(slot, hello);
    talk.next(slot)
}

fn back(welcome: &Value) -> Value {
    json!({"type": "hello", "token": welcome["token"], "session": welcome["session"]})
}

#[test]
fn names_that_people_get() {
    let cases = [
        (json!("Ann"), Ok("Ann")),
        (json!("Zoe\u{308}"), Ok("Zo\u{eb}")),
        (json!(null), Ok("guest-")),
        (json!("System"), Err("name: this name is reserved")),
        (json!(""), Err("name: a name is needed")),
        (json!(" x"), Err("name: a name does not begin or end with a space")),
        (json!("a\u{202e}b"), Err("name: a name has no control or formatting characters")),
        (json!("x".repeat(65)), Err("name: a name has at most 64 bytes in UTF-8")),
    ];
    let mut talk = talk();
    for (slot, (name, expected)) in (0..).zip(cases) {
        let answer = hello_with(&mut talk, slot, json!({"type": "hello", "name": name}));
        match expected {
            Ok(expected) => {
                let given = answer["you"]["name"].as_str().unwrap();
                assert!(given.starts_with(expected), "{name}: {answer}");
            }
            Err(expected) => {
                assert_eq!((&answer["code"], &answer["message"]), (&json!("bad_name"), &json!(expected)));
                talk.ask(slot, json!({"type": "hello", "name": "Eve"}));
                assert_eq!(talk.next(slot)["type"], "welcome", "a refused hello can be said again");
            }
        }
        // The same rules hold for rename.
        talk.ask(slot, json!({"type": "rename", "name": name}));
        let answer = talk.next(slot);
        assert_eq!(answer["type"] == "renamed", name.is_string() && expected.is_ok(), "{answer}");
    }
}

#[test]
fn who_has_the_token_is_the_same_person() {
    let mut talk = talk();
    let first = talk.hello(0, "Ann");
    talk.exit(member(0));
    let again = hello_with(&mut talk, 1, json!({"type": "hello", "name": "Annie", "token": first["token"]}));
    assert_eq!((&again["you"]["id"], &again["token"]), (&first["you"]["id"], &first["token"]));
    assert_eq!(again["you"]["name"], "Annie");
    assert_ne!(again["session"], first["session"], "there was nothing to be taken over");
    let forged = hello_with(&mut talk, 2, json!({"type": "hello", "name": "Ann", "token": "AAAA"}));
    assert_eq!(forged["type"], "welcome", "a token that is not known is no error");
    assert_ne!(forged["you"]["id"], first["you"]["id"]);
}

#[test]
fn a_page_takes_over_its_own_ghost_and_nobody_elses() {
    let mut talk = talk();
    let (ann, bob) = (talk.hello(0, "Ann"), talk.hello(1, "Bob"));
    talk.join(0, "a");
    // The right session with another token, or with none, and another session with the right token.
    for (slot, token, session) in
        [(2, &bob["token"], &ann["session"]), (3, &Value::Null, &ann["session"]), (4, &ann["token"], &bob["session"])]
    {
        let hello = json!({"type": "hello", "token": token, "session": session});
        let welcome = hello_with(&mut talk, slot, hello);
        assert!(welcome["session"] != ann["session"] && welcome["session"] != bob["session"]);
        assert_eq!(talk.told, []);
    }
    let again = hello_with(&mut talk, 5, back(&ann));
    assert_eq!((&again["you"], &again["session"]), (&ann["you"], &ann["session"]));
    assert_eq!(talk.told, [Command::TakenOver(member(0))]);
    assert_eq!(talk.hub.dialect(member(0)), None, "the ghost has left its rooms");
    // And the next one takes over that one.
    hello_with(&mut talk, 6, back(&ann));
    assert_eq!(talk.told, [Command::TakenOver(member(0)), Command::TakenOver(member(5))]);
    for slot in [1, 2, 3, 4, 6] {
        talk.exit(member(slot));
    }
    talk.assert_empty();
}

/// Its connection is open until the end of the turn.
#[test]
fn a_ghost_is_told_nothing_and_heard_no_more() {
    let mut talk = talk();
    let ann = talk.hello(0, "Ann");
    talk.join(0, "a");
    hello_with(&mut talk, 1, back(&ann));
    talk.ask(0, json!({"type": "join", "room": "b"}));
    talk.say(0, "a", "hi", "n1");
    talk.ask(0, json!({"type": "hello", "token": ann["token"], "session": ann["session"]}));
    talk.ask(0, json!("no request"));
    talk.hub.refuse_binary(member(0), &mut talk.stage);
    talk.turn();
    assert_eq!(talk.heard(0), [json!(null); 0], "it has said hello, and is told nothing else");
    assert_eq!((talk.said.len(), talk.hub.rooms()), (0, 0));
    assert_eq!(talk.told, [Command::TakenOver(member(0))], "it does not take its place back");
    talk.exit(member(1));
    talk.assert_empty();
}

#[test]
fn what_a_ghost_has_said_reaches_its_heir() {
    let mut talk = talk();
    let ann = talk.hello(0, "Ann");
    talk.join(0, "a");
    talk.say(0, "a", "hi", "n1");
    hello_with(&mut talk, 1, back(&ann));
    talk.ask(1, json!({"type": "join", "room": "a", "after": 0, "epoch": "000000000000000e"}));
    talk.say(1, "a", "hi", "n1");
    talk.turn();
    let heard = talk.heard(1);
    let kinds: Vec<_> = heard.iter().map(|it| (it["type"].as_str().unwrap(), it["repeat"] == true)).collect();
    assert_eq!(kinds, [("said", true), ("joined", false), ("said", false)], "{heard:#?}");
    assert_eq!(heard[0]["position"], heard[2]["position"]);
    assert_eq!(heard[1]["missed"], 0);
}

#[test]
fn tabs_of_a_person_live_side_by_side_under_one_name() {
    let mut talk = talk();
    let ann = talk.hello(0, "Ann");
    talk.join(0, "a");
    let tab = hello_with(&mut talk, 1, json!({"type": "hello", "token": ann["token"]}));
    assert_eq!(tab["you"], ann["you"], "a tab that gives no name has that of the others");
    let joined = talk.join(1, "a");
    assert_eq!(joined["members"]["count"], 1, "people are counted, not connections");

    talk.ask(0, json!({"type": "rename", "name": "Anna"}));
    for slot in [0, 1] {
        let renamed = talk.next(slot);
        assert_eq!((&renamed["type"], &renamed["you"]["name"]), (&json!("renamed"), &json!("Anna")));
    }
    let third = hello_with(&mut talk, 2, json!({"type": "hello", "token": ann["token"], "name": "Annette"}));
    assert_eq!(third["you"]["name"], "Annette");
    for slot in [0, 1] {
        assert_eq!(talk.next(slot)["you"]["name"], "Annette", "the name given last is that of all tabs");
    }
    talk.say(1, "a", "hi", "n1");
    talk.turn();
    for slot in [0, 1] {
        assert_eq!(talk.next(slot)["from"], json!({"id": ann["you"]["id"], "name": "Annette"}));
    }
    talk.exit(member(0));
    talk.say(1, "a", "still here", "n2");
    talk.turn();
    assert_eq!(talk.next(1)["text"], "still here");
    assert_eq!(talk.told, []);
}
