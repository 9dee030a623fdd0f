//! What is refused, by which code, and when to try again.

use std::time::Duration;

use serde_json::{Value, json};

use super::talk::Talk;
use super::*;

#[test]
fn requests_that_are_refused() {
    let limits = Limits { max_rooms_per_member: 1, max_text_bytes: 10, ..Limits::default() };
    let mut talk = Talk::in_memory(&limits);
    talk.hub.enter(member(0), Dialect::V1);
    for request in ["join", "leave", "say", "typing", "rename", "history", "search"] {
        let everything = json!({"type": request, "room": "a", "text": "x", "nonce": "n", "name": "x", "query": "x"});
        let error = talk.error(0, everything);
        assert_eq!((&error["code"], &error["request"]), (&json!("bad_order"), &json!(request)));
    }
    talk.ask(0, json!({"type": "hello", "name": "Ann"}));
    talk.heard(0);
    talk.join(0, "a");
    let say = |room: &str, text: &str, nonce: &str| json!({"type": "say", "room": room, "text": text, "nonce": nonce});
    let long = "n".repeat(65);
    let cases = [
        (json!({"type": "hello"}), "bad_order", "you have said hello already"),
        (json!({"type": "join", "room": "a"}), "already_joined", "you are in this room"),
        (json!({"type": "join", "room": "b"}), "too_many_rooms", "you are in 1 rooms"),
        (json!({"type": "join", "room": "b\n"}), "bad_room", "control or formatting"),
        (json!({"type": "join", "room": "r".repeat(65)}), "bad_room", "at most 64 bytes"),
        (json!({"type": "leave", "room": "b"}), "not_joined", "join this room first"),
        (json!({"type": "typing", "room": "b"}), "not_joined", "join this room first"),
        (json!({"type": "history", "room": "b"}), "not_joined", "join this room first"),
        (json!({"type": "search", "room": "b", "query": "x"}), "not_joined", "join this room first"),
        (json!({"type": "search", "room": "a", "query": "\"-*"}), "bad_query", "needs a word"),
        (json!({"type": "search", "room": "a", "query": "x"}), "unavailable", "keeps no history"),
        (say("b", "x", "n"), "not_joined", "join this room first"),
        (say("", "x", "n"), "bad_room", "a name is needed"),
        (say("a", "", "n"), "bad_text", "empty"),
        (say("a", " \n\u{3000}", "n"), "bad_text", "empty"),
        (say("a", "eleven byte", "n"), "bad_text", "at most 10 bytes"),
        (say("a", "x", ""), "bad_nonce", "1 to 64 bytes"),
        (say("a", "x", &long), "bad_nonce", "1 to 64 bytes"),
        (json!({"type": "rename", "name": "admin"}), "bad_name", "reserved"),
        (json!({"type": "dance"}), "unknown_type", "\"dance\" is unknown"),
        (json!({"type": "say", "room": "a", "text": "x"}), "bad_frame", "missing field `nonce`"),
        (json!({"type": "join", "room": "a", "after": -1}), "bad_frame", "must be a whole number"),
        (json!([1]), "bad_frame", "not a JSON object with a type"),
        (json!({"type": 1}), "bad_frame", "not a JSON object with a type"),
    ];
    for (request, code, words) in cases {
        let error = talk.error(0, request.clone());
        assert_eq!(error["code"], code, "{request}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{request}: {error}");
        let is_understood = !matches!(code, "bad_frame" | "unknown_type");
        for (field, of) in [("request", "type"), ("room", "room"), ("nonce", "nonce")] {
            let expected = if is_understood { &request[of] } else { &Value::Null };
            assert_eq!(&error[field], expected, "{field} of {error}");
        }
    }
    talk.hub.refuse_binary(member(0), &mut talk.stage);
    assert_eq!(talk.next(0)["code"], "bad_frame");
    talk.turn();
    assert!(talk.said.is_empty() && talk.reads.is_empty(), "none of these had any effect");
    assert_eq!(talk.hub.in_flight(member(0)), 0);
}

#[test]
fn too_fast_is_told_when_to_try_again() {
    let limits = Limits { say_rate: 3, say_burst: 4, ask_rate: 7, ask_burst: 2, ..Limits::default() };
    let mut talk = Talk::in_memory(&limits);
    talk.hello(0, "Ann");
    talk.join(0, "a");
    let say = json!({"type": "say", "room": "a", "text": "x", "nonce": "n"});
    let typing = json!({"type": "typing", "room": "a"});
    talk.now += Duration::from_secs(10);
    for (request, burst) in [(&say, 4), (&typing, 2)] {
        for _ in 0..burst {
            talk.ask(0, request.clone());
            assert_eq!(talk.heard(0), Vec::<Value>::new());
        }
        for _ in 0..3 {
            let error = talk.error(0, request.clone());
            assert_eq!((&error["code"], &error["request"]), (&json!("too_fast"), &request["type"]));
            assert_eq!((&error["room"], &error["nonce"]), (&json!("a"), &request["nonce"]));
            let retry = Duration::from_millis(error["retry_ms"].as_u64().unwrap());
            talk.now += retry - Duration::from_millis(1);
            assert_eq!(talk.error(0, request.clone())["code"], "too_fast", "it was too early");
            talk.now += Duration::from_millis(1);
            talk.ask(0, request.clone());
            assert_eq!(talk.heard(0), Vec::<Value>::new(), "whoever waits so long is not refused again");
        }
    }
}

#[test]
fn a_full_journal_and_too_many_reads_are_busy() {
    let said = super::talk::former("a", 1..=300);
    let mut talk = Talk::stored(&Limits::default(), said);
    talk.hello(0, "Ann");
    talk.ask(0, json!({"type": "join", "room": "a"}));
    talk.settle();
    talk.heard(0);
    talk.intake = Intake::Full;
    let error = talk.error(0, json!({"type": "say", "room": "a", "text": "x", "nonce": "n"}));
    assert_eq!((&error["code"], &error["nonce"]), (&json!("busy"), &json!("n")));
    assert!(error["retry_ms"].is_u64());
    talk.intake = Intake::Open;

    let history = json!({"type": "history", "room": "a", "before": 9});
    for _ in 0..4 {
        talk.ask(0, history.clone());
    }
    for request in [history.clone(), json!({"type": "search", "room": "a", "query": "x"})] {
        let error = talk.error(0, request);
        assert_eq!((&error["code"], &error["retry_ms"]), (&json!("busy"), &Value::Null));
    }
    let pages = talk.read();
    talk.bring(pages);
    assert_eq!(talk.next(0)["type"], "history");
    talk.ask(0, history);
    assert_eq!(talk.heard(0), Vec::<Value>::new(), "one has come, one more may be asked for");
    talk.exit(member(0));
    talk.assert_empty();
}
