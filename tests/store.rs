//! What is kept on disk, and what the server says when it cannot be.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use common::{Kept, Server, V1, run};

/// Runs the server where it must not start, and gives the sentence that says why.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments, &[("CHAT_HOST", "127.0.0.1")]);
    let sentence = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {sentence}");
    assert!(output.stdout.is_empty(), "it must not say that it listens");
    sentence.lines().last().expect("a sentence").to_owned()
}

fn texts(entries: &Value) -> Vec<&str> {
    entries.as_array().expect("entries").iter().map(|entry| entry["text"].as_str().expect("a text")).collect()
}

#[test]
fn the_store_is_measured() {
    let kept = Kept::new();
    let server = kept.start(&["--keep", "50"]);
    let (mut ann, _) = V1::joined(server.address(), "Ann", "a");
    for number in 0..60 {
        ann.say("a", "something to be found", &format!("n{number}"));
    }
    server.wait_for_metric("chat_store_unindexed_entries", |entries| entries == 0.0);
    server.wait_for_metric("chat_store_entries", |entries| entries == 50.0);
    let metrics = server.metrics();
    assert_eq!(metrics["chat_store_trimmed_entries_total"], 10.0);
    assert_eq!(metrics["chat_store_batch_entries_sum"], 60.0);
    let batches = metrics["chat_store_batch_entries_count"];
    assert!((1.0..=60.0).contains(&batches), "{batches}");
    assert_eq!(metrics["chat_store_commit_duration_seconds_count"], batches);
    assert!(metrics["chat_store_commit_duration_seconds_sum"] > 0.0);
    assert!(metrics["chat_store_file_bytes"] >= 4096.0, "{metrics:?}");
    // The lengths are those of a moment ago.
    server.wait_for_metric("chat_store_log_bytes", |bytes| bytes > 4096.0);
    server.stop();

    let server = kept.start(&["--keep", "50"]);
    assert_eq!(server.metric("chat_store_entries"), 50.0, "before anything is said");
    assert!(!Server::start(&[]).metrics().contains_key("chat_store_entries"), "there is none");
}

#[test]
fn a_second_instance_is_refused() {
    let kept = Kept::new();
    let server = kept.start(&[]);
    // With the same port it would already fail at that; the file is what counts.
    let folder = kept.folder().to_str().expect("UTF-8");
    let other = tempfile::tempdir().expect("a folder");
    let linked = other.path().join("data");
    std::os::unix::fs::symlink(folder, &linked).expect("a link");
    let port = kept.port().to_string();
    let sentence = refused(&["--port", &port, "--host", "127.0.0.2", "--data", linked.to_str().expect("UTF-8")]);
    assert!(sentence.starts_with("chat-app: "), "{sentence}");
    for part in ["is in use by another chat-app", &server.pid().to_string(), "--data"] {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
    // It has done no harm, and when the first is gone the file is free, however it went.
    V1::joined(server.address(), "Ann", "r").0.say("r", "still here", "1");
    server.kill();
    let (_, joined) = V1::joined(kept.start(&[]).address(), "Ann", "r");
    assert_eq!(texts(&joined["entries"]), ["still here"]);
}

#[test]
fn history_and_people_survive_a_restart() {
    let kept = Kept::new();
    let server = kept.start(&["--tail-entries", "3", "--page", "4"]);
    let (mut ann, welcome) = V1::hello(server.address(), "Ann");
    ann.ask(&json!({"type": "join", "room": "r"}));
    let epoch = ann.next("joined")["epoch"].clone();
    let positions: Vec<u64> = (0..10)
        .map(|it| ann.say("r", &it.to_string(), &it.to_string())["position"].as_u64().expect("a position"))
        .collect();
    assert!(server.stop().success());

    let server = kept.start(&["--tail-entries", "3", "--page", "4"]);
    let mut ann = V1::try_connect(server.address()).expect("the server upgrades");
    ann.ask(&json!({"type": "hello", "token": welcome["token"], "name": "Ann"}));
    assert_eq!(ann.next("welcome")["you"], welcome["you"], "the token is still good");
    ann.ask(&json!({"type": "join", "room": "r"}));
    let joined = ann.next("joined");
    assert_eq!((texts(&joined["entries"]), &joined["older"]), (vec!["6", "7", "8", "9"], &json!(true)));
    assert_eq!(joined["epoch"], epoch);
    // Back to the beginning, page by page.
    let mut before = positions[6];
    for (expected, more) in [(vec!["2", "3", "4", "5"], true), (vec!["0", "1"], false)] {
        ann.ask(&json!({"type": "history", "room": "r", "before": before}));
        let page = ann.next("history");
        assert_eq!((texts(&page["entries"]), &page["more"]), (expected, &json!(more)));
        before = page["entries"][0]["position"].as_u64().expect("a position");
    }
    // What is said next stands behind, and what was said is not said again.
    ann.ask(&json!({"type": "say", "room": "r", "text": "4", "nonce": "4"}));
    let repeat = ann.next("said");
    assert_eq!((&repeat["position"], &repeat["repeat"]), (&json!(positions[4]), &json!(true)));
    assert!(ann.say("r", "10", "10")["position"].as_u64() > Some(positions[9]));
    // Whoever was away gets exactly what was missed.
    let (mut bob, _) = V1::hello(server.address(), "Bob");
    bob.ask(&json!({"type": "join", "room": "r", "after": positions[8], "epoch": epoch}));
    let joined = bob.next("joined");
    assert_eq!((texts(&joined["entries"]), &joined["gap"]), (vec!["9", "10"], &json!(false)));
    // Who comes from another life of the journal is told so.
    let (mut cleo, _) = V1::hello(server.address(), "Cleo");
    cleo.ask(&json!({"type": "join", "room": "r", "after": positions[8], "epoch": "0123456789abcdef"}));
    assert_eq!(cleo.next("joined")["gap"], true);
}

fn search(client: &mut V1, room: &str, query: &str, limit: usize) -> Value {
    client.ask(&json!({"type": "search", "room": room, "query": query, "limit": limit}));
    client.next("found")
}

#[test]
fn search_finds_what_was_said() {
    let kept = Kept::new();
    let server = kept.start(&[]);
    let address = server.address();
    let (mut ann, _) = V1::joined(address, "Ann", "r");
    let (mut bob, _) = V1::joined(address, "Bob Miller", "r");
    let (mut elsewhere, _) = V1::joined(address, "Ann", "s");
    ann.say("r", "The quick brown fox", "1");
    ann.say("r", "😀 quick wins, brown bread", "2");
    bob.say("r", "Über den Fluss; quick!", "3");
    elsewhere.say("s", "quick, elsewhere", "1");
    let fox = "The quick brown fox";
    let bread = "😀 quick wins, brown bread";
    let river = "Über den Fluss; quick!";
    // Matches are in UTF-16 units: the smiley has two of them.
    let cases: &[(&str, &[&str], Value)] = &[
        ("quick", &[fox, bread, river], json!([[[4, 9]], [[3, 8]], [[16, 21]]])),
        ("QUICK brown", &[fox, bread], json!([[[4, 9], [10, 15]], [[3, 8], [15, 20]]])),
        ("\"quick brown\"", &[fox], json!([[[4, 15]]])),
        ("uber", &[river], json!([[[0, 4]]])),
        ("from:bob quick", &[river], json!([[[16, 21]]])),
        ("from:ann bread", &[bread], json!([[[21, 26]]])),
        ("bre", &[bread], json!([[[21, 24]]])),
        ("nothing", &[], json!([])),
        ("room:r7 OR elsewhere", &[], json!([])),
        ("\" OR 1=1 --", &[], json!([])),
        ("NOT NEAR(quick)*", &[], json!([])),
    ];
    for (query, expected, matches) in cases {
        let found = common::wait_for(query, || {
            let found = search(&mut ann, "r", query, 10);
            // The index follows what is said.
            (texts(&found["entries"]) == *expected).then_some(found)
        });
        assert_eq!(found["query"], *query);
        let entries = found["entries"].as_array().expect("entries");
        let told: Vec<&Value> = entries.iter().map(|entry| &entry["matches"]).collect();
        match query.starts_with("bre") {
            // A beginning: whether the rest of the word is shown too is taste.
            true => assert_eq!(told[0][0][0], 21),
            false => assert_eq!(json!(told), *matches, "{query}"),
        }
    }
    // The newest come first to the limit, and tell that there are older ones.
    let page = search(&mut ann, "r", "quick", 2);
    assert_eq!((texts(&page["entries"]), &page["more"]), (vec![bread, river], &json!(true)));
    let before = &page["entries"][0]["position"];
    ann.ask(&json!({"type": "search", "room": "r", "query": "quick", "limit": 2, "before": before}));
    let page = ann.next("found");
    assert_eq!((texts(&page["entries"]), &page["more"]), (vec![fox], &json!(false)));

    for (room, query, code) in [("r", "", "bad_query"), ("r", "?!", "bad_query"), ("nowhere", "x", "not_joined")] {
        assert_eq!(error(&mut ann, &json!({"type": "search", "room": room, "query": query})), code, "{room} {query}");
    }
}

/// The code of the error that a request is answered with.
fn error(client: &mut V1, request: &Value) -> String {
    client.ask(request);
    loop {
        let told = client.try_next().expect("the server goes on");
        if told["type"] == "error" {
            return told["code"].as_str().expect("a code").to_owned();
        }
    }
}

#[test]
fn in_memory_there_is_no_search_and_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(&["--memory"], |command| {
        command.current_dir(folder.path());
    });
    let (mut ann, _) = V1::joined(server.address(), "Ann", "r");
    ann.say("r", "hello", "1");
    assert_eq!(error(&mut ann, &json!({"type": "search", "room": "r", "query": "hello"})), "unavailable");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn it_is_kept_beside_the_program_and_for_its_owner_alone() {
    let kept = Kept::new();
    let port = kept.port().to_string();
    let folder = kept.folder().to_owned();
    let server = Server::start_with(&["--port", &port], |command| {
        command.env_remove("CHAT_MEMORY").current_dir(&folder);
    });
    let file = folder.join("chat-data").join(format!("{port}.db"));
    say_something(server.address());
    for path in [&file, file.parent().expect("a folder")] as [&std::path::Path; 2] {
        let mode = fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

fn say_something(address: SocketAddr) {
    V1::joined(address, "Ann", "r").0.say("r", "hello", "1");
}

#[test]
fn what_cannot_be_opened_is_told_in_a_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "no folder").expect("a file");
    let below = file.join("data");
    let sentence = refused(&["--port", "0", "--data", below.to_str().expect("UTF-8")]);
    for part in ["chat-app: cannot keep messages in the folder", below.to_str().expect("UTF-8"), "--memory"] {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }

    let kept = Kept::new();
    let arguments = ["--port", &kept.port().to_string(), "--data", kept.folder().to_str().expect("UTF-8")];
    fs::write(kept.file(), "This is a letter, and no database at all. ".repeat(100)).expect("a file");
    let sentence = refused(&arguments);
    assert!(sentence.contains(kept.file().to_str().expect("UTF-8")), "{sentence}");
    let letter = fs::read_to_string(kept.file()).expect("it is there");
    assert!(letter.starts_with("This is a letter"), "nobody's file is written over");

    fs::remove_file(kept.file()).expect("it is ours");
    let server = kept.start(&[]);
    say_something(server.address());
    server.stop();
    let mut bytes = fs::read(kept.file()).expect("it is there");
    let page = bytes.len() / 4096;
    assert!(page > 2, "{page} pages");
    bytes[4096..].fill(0xa5);
    fs::write(kept.file(), bytes).expect("it is ours");
    let sentence = refused(&arguments);
    assert!(sentence.contains("is damaged"), "{sentence}");
}
