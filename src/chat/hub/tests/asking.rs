//! What of former times can be asked for.

use serde_json::json;

use super::joining::{limits, spoken, stored, told};
use super::talk::{Talk, former, positions};
use super::*;

#[test]
fn history_pages_back_to_the_beginning() {
    let in_memory = spoken(&Limits { tail_entries: 100, ..limits() }, 8);
    let mut in_store = Talk::stored(&limits(), former("a", 1..=8));
    in_store.hello(0, "Ann");
    in_store.ask(0, json!({"type": "join", "room": "a"}));
    in_store.settle();
    in_store.heard(0);
    for mut talk in [in_memory, in_store] {
        for (limit, sizes) in [
            (Some(3), &[3, 3, 2][..]),
            (None, &[3, 3, 2]),
            (Some(100), &[3, 3, 2]),
            (Some(4), &[3, 3, 2]),
            (Some(1), &[1; 8]),
            (Some(0), &[1; 8]),
        ] {
            let (mut before, mut seen) = (None, Vec::new());
            for (place, size) in sizes.iter().enumerate() {
                talk.ask(0, json!({"type": "history", "room": "a", "before": before, "limit": limit}));
                if !talk.reads.is_empty() {
                    let pages = talk.read();
                    talk.bring(pages);
                }
                let page = talk.next(0);
                assert_eq!(page["type"], "history", "{page}");
                let entries = positions(page["entries"].as_array().unwrap());
                assert_eq!(entries.len(), *size);
                assert_eq!(page["more"], place + 1 < sizes.len(), "{page}");
                before = Some(entries[0]);
                seen.splice(0..0, entries);
            }
            assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8]);
            talk.now += std::time::Duration::from_secs(60);
            talk.drain(member(0));
        }
    }
}

#[test]
fn history_shows_nothing_that_has_not_been_told() {
    let mut talk = Talk::stored(&limits(), former("a", 1..=4));
    talk.hello(0, "Ann");
    talk.ask(0, json!({"type": "join", "room": "a"}));
    talk.settle();
    talk.heard(0);
    // It is stored, and the loop has not seen it.
    talk.said.extend(former("a", [5]));
    for before in [Some(u64::MAX), Some(6), None] {
        talk.ask(0, json!({"type": "history", "room": "a", "before": before}));
        let pages = talk.read();
        talk.bring(pages);
        assert_eq!(positions(talk.next(0)["entries"].as_array().unwrap()), [2, 3, 4], "before {before:?}");
    }
}

#[test]
fn history_and_search_when_the_store_fails() {
    let mut talk = stored();
    talk.ask(0, json!({"type": "join", "room": "a"}));
    talk.settle();
    talk.heard(0);
    for request in ["history", "search"] {
        talk.ask(0, json!({"type": request, "room": "a", "before": 3, "query": "text"}));
        let pages = Pages { entries: Err(SearchError::Unavailable), ..talk.read() };
        talk.bring(pages);
        let error = talk.next(0);
        assert_eq!(
            (&error["code"], &error["request"], &error["room"]),
            (&json!("unavailable"), &json!(request), &json!("a"))
        );
        assert!(error["retry_ms"].is_u64());
    }
    talk.exit(member(0));
    talk.assert_empty();
}

/// It asks for much at once and takes nothing.
#[test]
fn what_is_read_for_a_member_whose_outbox_is_full_is_refused() {
    for request in ["history", "search"] {
        let limits = Limits { outbox_high_water_bytes: 500, tail_entries: 1, ..limits() };
        let mut talk = Talk::stored(&limits, former("a", 1..=20));
        talk.hello(0, "Ann");
        talk.ask(0, json!({"type": "join", "room": "a"}));
        talk.settle();
        talk.drain(member(0));
        talk.heard(0);
        let told = ["answer", "answer", "busy", "busy"];
        for _ in 0..2 {
            for _ in told {
                talk.ask(0, json!({"type": request, "room": "a", "before": 10, "query": "text", "limit": 2}));
            }
            for expected in told {
                let pages = talk.read();
                talk.bring(pages);
                let event = talk.next(0);
                let is_busy = event["code"] == "busy" && event["request"] == request && event["retry_ms"].is_u64();
                assert_eq!(is_busy, expected == "busy", "{request}: {event}");
            }
            // It takes everything, and asks again.
            talk.drain(member(0));
        }
        talk.exit(member(0));
        talk.assert_empty();
    }
}

#[test]
fn only_so_much_of_what_all_ask_is_read_at_once() {
    for (request, index) in [("history", 2), ("search", 3)] {
        let limits = Limits { ask_reads: 2, tail_entries: 1, ..limits() };
        let mut talk = Talk::stored(&limits, former("a", 1..=20));
        for slot in 0..4 {
            talk.hello(slot, "Ann");
            talk.join_and_settle(slot, "a");
        }
        let gauges = |talk: &Talk| (talk.hub.reads()[index].under_way, talk.hub.reads()[index].waiting);
        let ask = |talk: &mut Talk, slot: u32, before: u64| {
            talk.ask(slot, json!({"type": request, "room": "a", "before": before, "query": "text", "limit": 1}));
        };
        for before in [10, 11] {
            (0..4).for_each(|slot| ask(&mut talk, slot, before + 2 * u64::from(slot)));
        }
        assert_eq!((talk.reads.len(), gauges(&talk)), (2, (2, 6)), "{request}");
        // The other kind does not wait for this one.
        let other = if request == "history" { "search" } else { "history" };
        talk.ask(0, json!({"type": other, "room": "a", "before": 5, "query": "text"}));
        assert_eq!((talk.reads.len(), gauges(&talk)), (3, (2, 6)), "{request}");
        let pages = { talk.reads.pop_back().map(|wanted| talk.answer(&wanted)).unwrap() };
        talk.bring(pages);
        talk.heard(0);
        // Whoever goes waits for nothing; whoever leaves the room alone is answered.
        talk.exit(member(1));
        talk.ask(2, json!({"type": "leave", "room": "a"}));
        talk.heard(2);
        assert_eq!(gauges(&talk), (2, 5), "{request}");
        let mut told = Vec::new();
        while !talk.reads.is_empty() {
            assert!(talk.reads.len() <= 2 && gauges(&talk).0 <= 2, "{request}");
            let pages = talk.read();
            talk.bring(pages);
            for slot in 0..4 {
                let answers = talk.heard(slot).into_iter().filter(|it| it["type"] != "presence");
                told.extend(answers.map(|it| (slot, positions(it["entries"].as_array().unwrap()))));
            }
        }
        let expected = [(0, 9), (2, 13), (3, 15), (0, 10), (2, 14), (3, 16)];
        assert_eq!(told, expected.map(|(slot, position)| (slot, vec![position])), "{request}: as it was asked");
        assert_eq!(gauges(&talk), (0, 0), "{request}");
        [0, 2, 3].into_iter().for_each(|slot| talk.exit(member(slot)));
        talk.assert_empty();
    }
}

#[test]
fn a_search_that_cannot_be_is_told_why() {
    let mut talk = stored();
    talk.ask(0, json!({"type": "join", "room": "a"}));
    talk.settle();
    talk.heard(0);
    for (error, words) in [
        (SearchError::NoWords, "a search needs a word"),
        (SearchError::TooManyWords { limit: 7 }, "a search has at most 7 words"),
    ] {
        talk.ask(0, json!({"type": "search", "room": "a", "query": "from:"}));
        let pages = Pages { entries: Err(error), ..talk.read() };
        talk.bring(pages);
        let expected =
            json!({"type": "error", "code": "bad_query", "message": words, "request": "search", "room": "a"});
        assert_eq!(talk.next(0), expected);
    }
}

#[test]
fn what_was_found_comes_with_its_matches() {
    let mut talk = stored();
    talk.ask(0, json!({"type": "join", "room": "a"}));
    talk.settle();
    talk.heard(0);
    talk.ask(0, json!({"type": "search", "room": "a", "query": "text 1", "limit": 2}));
    let wanted = talk.reads.front().unwrap();
    assert_eq!(wanted.range, Range::Matching { before: Position(21), query: "text 1".to_owned() });
    let pages = talk.read();
    talk.bring(pages);
    let found = talk.next(0);
    assert_eq!((&found["query"], &found["more"]), (&json!("text 1"), &json!(true)));
    assert_eq!(positions(found["entries"].as_array().unwrap()), [16, 18]);
    assert_eq!(found["entries"][0]["matches"], json!([[0, 1]]));
    assert_eq!(found["entries"][0]["from"]["name"], "Old");
}

#[test]
fn a_page_is_bounded_in_bytes_and_waits_for_room() {
    let limits = Limits { page_entries: 100, outbox_high_water_bytes: 10_000, ask_burst: 1000, ..Limits::default() };
    let mut talk = spoken(&limits, 0);
    for number in 0..100 {
        talk.say(0, "a", &"x".repeat(1000), &format!("n{number}"));
        talk.turn();
        talk.drain(member(0));
    }
    talk.hello(1, "Bob");
    let joined = talk.join(1, "a");
    assert_eq!(told(&joined), ((91..=100).collect(), false, false, None, true), "ten thousand bytes of content");
    talk.stage.fullest = 0;
    for _ in 0..500 {
        talk.ask(1, json!({"type": "history", "room": "a", "before": 50}));
    }
    talk.turn();
    let heard = talk.heard(1);
    let refused = heard.iter().filter(|message| message["code"] == "busy" && message["retry_ms"] == 1000).count();
    assert!((498..=500).contains(&refused), "{refused}");
    // A page as JSON, and the errors.
    assert!(talk.stage.fullest < 130_000, "{}", talk.stage.fullest);
    talk.drain(member(1));
    talk.ask(1, json!({"type": "history", "room": "a", "before": 50}));
    assert_eq!(positions(talk.next(1)["entries"].as_array().unwrap()), (40..=49).collect::<Vec<_>>());
}
