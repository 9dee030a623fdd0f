//! What is kept, what is read of it and found in it. `counting` is about how
//! many there are, `keeping` about what goes, `trouble` about what goes wrong.

mod counting;
mod keeping;
mod trouble;

use std::path::PathBuf;
use std::sync::Mutex;

use bytes::Bytes;
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::chat::entry::{Content, Entry};
use crate::journal::Journal;
use crate::journal::contract::{Found, Page, SearchError};
use crate::journal::tests::{Desk, brief, raw, room, said, text};

const END: Position = Position(u64::MAX);

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("8080.db");
    (folder, path)
}

fn open(path: &Path) -> Desk {
    Desk::sqlite(path, &Limits::default())
}

impl Desk {
    fn kept(&self) -> &SqliteJournal {
        let Journal::Sqlite(journal) = &self.journal else { panic!("{self:?}") };
        journal
    }

    /// Does something to the connection of the thread that writes.
    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Connection) -> T + Send + 'static) -> T {
        let (done, is_done) = channel();
        self.kept().with_connection(move |connection| done.send(act(connection)).unwrap());
        is_done.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn count(&self, what: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {what}");
        self.with(move |connection| connection.query_row(&sql, [], |row| row.get(0)).unwrap())
    }

    fn pragma(&self, name: &'static str) -> i64 {
        self.with(move |connection| connection.pragma_query_value(None, name, |row| row.get(0)).unwrap())
    }

    fn all(&mut self, room: &str) -> Page {
        self.page(room, Range::After { after: Position::START, upto: END }, usize::MAX, usize::MAX)
    }
}

fn positions(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position.0).collect()
}

fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_equal(what, true, condition);
}

fn wait_until_equal<T: PartialEq + fmt::Debug>(what: &str, expected: T, mut told: impl FnMut() -> T) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let told = told();
        if told == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {told:?} after 20 s, not {expected:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn what_was_emitted_is_there_after_a_restart() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    let drafts = [raw("lobby", "one"), said("kitchen", (7, "Ann"), "n1", "two"), raw("lobby", "three")];
    let mut entries = desk.store(drafts);
    let (epoch, secret) = (desk.journal.epoch(), desk.journal.secret());
    assert_eq!((desk.journal.opened_at(), desk.journal.keeps_history()), (Position(0), true));
    drop(desk);

    let mut desk = open(&path);
    assert_eq!((desk.journal.epoch(), desk.journal.secret()), (epoch, secret));
    assert_eq!(desk.journal.opened_at(), Position(3));
    entries.iter_mut().for_each(|entry| entry.origin = None);
    let page = desk.all("lobby");
    assert_eq!(page.entries.unwrap(), [entries[0].clone(), entries[2].clone()]);
    assert_eq!((page.room, page.more, page.floor), (room("lobby"), false, Position(0)));
    desk.say([said("kitchen", (7, "Ann"), "n1", "two again"), raw("kitchen", "four")]);
    let events: Vec<_> = desk.events(2).iter().map(brief).collect();
    assert_eq!(events, [("repeat", 2, "two".to_owned()), ("entry", 4, "four".to_owned())]);
    assert!(!path.with_extension("db-wal").metadata().is_ok_and(|wal| wal.len() > 1 << 20));
}

#[test]
fn drafts_that_were_not_flushed_or_told_of_are_stored_at_the_end() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.say((0..5_000).map(|n| raw("lobby", &n.to_string())));
    desk.journal.append(raw("lobby", "last"));
    drop(desk);
    let mut desk = open(&path);
    assert_eq!(desk.journal.opened_at(), Position(5_001));
    let page = desk.page("lobby", Range::Before(END), 2, 1000);
    assert_eq!(page.entries.unwrap().iter().map(text).collect::<Vec<_>>(), ["4999", "last"]);
}

#[test]
fn pages_of_every_range_and_limit() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    // In "lobby" are 1, 3, 4, 6, 7.
    let rooms = ["lobby", "kitchen", "lobby", "lobby", "kitchen", "lobby", "lobby"];
    desk.store(rooms.map(|room| raw(room, "12345")));
    let lobby = [1_u64, 3, 4, 6, 7];
    for limit in 1..=6 {
        for bytes in [0, 9, 10, 11, 1000] {
            let most = limit.min(1.max(bytes / 5));
            for after in 0..=8 {
                for upto in (0..=8).chain([u64::MAX]) {
                    let range = Range::After { after: Position(after), upto: Position(upto) };
                    let page = desk.page("lobby", range, limit, bytes);
                    let expected: Vec<u64> = lobby.into_iter().filter(|it| (after + 1..=upto).contains(it)).collect();
                    let (entries, more) = (positions(&page.entries.unwrap()), page.more);
                    assert_eq!(entries, expected[..most.min(expected.len())], "{after}..={upto} {limit} {bytes}");
                    assert_eq!(more, expected.len() > most, "{after}..={upto} {limit} {bytes}");
                }
            }
            for before in (0..=8).chain([u64::MAX]) {
                let page = desk.page("lobby", Range::Before(Position(before)), limit, bytes);
                let expected: Vec<u64> = lobby.into_iter().filter(|position| *position < before).collect();
                let (entries, more) = (positions(&page.entries.unwrap()), page.more);
                assert_eq!(entries, expected[expected.len().saturating_sub(most)..], "<{before} {limit} {bytes}");
                assert_eq!(more, expected.len() > most, "<{before} {limit} {bytes}");
            }
        }
    }
    assert_eq!(desk.all("nobody was here").entries, Ok(vec![]));
}

#[test]
fn nothing_is_read_before_it_was_emitted() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store([raw("lobby", "one")]);
    desk.say([raw("lobby", "two")]);
    wait_until("it is stored, and not emitted", || desk.count("entries") == 2);
    let ranges = [
        Range::After { after: Position::START, upto: END },
        Range::Before(END),
        Range::Matching { before: END, query: "one ".into() },
        Range::Matching { before: END, query: "two ".into() },
    ];
    for range in ranges {
        desk.journal.read(Read { ticket: 0, room: room("lobby"), range, limit: 10, max_bytes: 1000, count: 0 });
    }
    let (mut entries, mut read) = (Vec::new(), Vec::new());
    for event in desk.events(5) {
        match event {
            Event::Entry(entry) => entries.push(text(&entry)),
            Event::Page(page) => read.extend(page.entries.unwrap().iter().map(text)),
            Event::Found(found) => read.extend(found.hits.unwrap().iter().map(|hit| text(&hit.entry))),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((entries, read), (vec!["two".to_owned()], vec!["one".to_owned(); 3]));
}

#[test]
fn a_kind_of_a_newer_program_is_skipped() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store(["one", "two", "three"].map(|text| raw("lobby", text)));
    desk.with(|connection| connection.execute("UPDATE entries SET kind = 99 WHERE position = 2", []).unwrap());
    let page = desk.page("lobby", Range::After { after: Position(0), upto: END }, 2, 1000);
    assert_eq!((positions(&page.entries.unwrap()), page.more), (vec![1, 3], false));
    assert_eq!(positions_found(&desk.find("lobby", "two", u64::MAX, 10)), [0_u64; 0]);
    desk.store([said("lobby", (1, "Ann"), "n", "four")]);
    desk.with(|connection| connection.execute("UPDATE entries SET kind = 99 WHERE position = 4", []).unwrap());
    let again = said("lobby", (1, "Ann"), "n", "four");
    desk.say([again.clone(), raw("lobby", "five")]);
    assert_eq!(desk.event(), Event::Refused { draft: again, reason: Refused::Unavailable }, "its original is unknown");
    assert_eq!(brief(&desk.event()), ("entry", 5, "five".to_owned()));
}

fn positions_found(found: &Found) -> Vec<u64> {
    found.hits.as_ref().unwrap().iter().map(|hit| hit.entry.position.0).collect()
}

#[test]
fn searches() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    let (ann, ben) = ((1, "Ann Smith"), (2, "Ben"));
    desk.store([
        said("lobby", ann, "1", "The quick brown fox"),
        said("lobby", ben, "1", "quick! said the FOX"),
        said("kitchen", ann, "2", "a fox in the kitchen"),
        said("lobby", ann, "3", "Crème brûlée 👍 fox"),
        raw("lobby", "ann or ben; r1 lobby"),
        Draft { content: Content::Binary(Bytes::from_static(b"fox")), ..raw("lobby", "") },
        said("lobby", ben, "2", "東京タワーへ行こう"),
        said("lobby", ben, "3", "before\0after"),
    ]);
    for (query, expected) in [
        ("fox ", &[1, 2, 4][..]),
        ("FOX quick", &[1, 2]),
        ("qui", &[1, 2]),
        ("qui ", &[]),
        ("\"quick brown\"", &[1]),
        ("\"brown quick\"", &[]),
        ("brulee", &[4]),
        ("from:ann", &[1, 4]),
        ("from:smith fox ", &[1, 4]),
        ("from:\"ann smith\" quick ", &[1]),
        ("from:\"smith ann\"", &[]),
        ("ann", &[5]),
        ("r1", &[5]),
        ("lobby", &[5]),
        ("fox OR brown ", &[]),
        ("fo* ", &[]),
        ("-fox ", &[1, 2, 4]),
        ("東京", &[7]),
        ("タワ ", &[7]),
        ("京東 ", &[]),
        ("after", &[8]),
    ] {
        let found = desk.find("lobby", query, u64::MAX, 100);
        assert_eq!((positions_found(&found).as_slice(), found.more), (expected, false), "{query:?}");
    }
    assert_eq!(positions_found(&desk.find("kitchen", "fox", u64::MAX, 100)), [3]);
    assert_eq!(positions_found(&desk.find("nowhere", "fox", u64::MAX, 100)), [0_u64; 0]);
    assert_eq!(desk.find("lobby", " - ", u64::MAX, 100).hits, Err(SearchError::NoWords));

    // The newest first, and on from there.
    let found = desk.find("lobby", "fox", u64::MAX, 2);
    assert_eq!((positions_found(&found), found.more), (vec![2, 4], true));
    let found = desk.find("lobby", "fox", 2, 2);
    assert_eq!((positions_found(&found), found.more), (vec![1], false));
    let hit = &desk.find("lobby", "fox crème ", u64::MAX, 1).hits.unwrap()[0];
    assert_eq!((text(&hit.entry).as_str(), hit.matches.as_slice()), ("Crème brûlée 👍 fox", &[(0, 5), (16, 19)][..]));
}

#[test]
fn the_index_goes_on_where_it_was() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store((0..1_200).map(|n| raw("lobby", &format!("number{n} ."))));
    assert_eq!(positions_found(&desk.find("lobby", "number1199 ", u64::MAX, 10)), [1_200]);
    // As after a crash between a batch and its index.
    desk.with(|connection| {
        connection.execute("DELETE FROM search WHERE rowid > 300", []).unwrap();
        schema::set(connection, schema::INDEXED, 300).unwrap();
    });
    drop(desk);
    let mut desk = open(&path);
    for n in [0, 299, 300, 700, 1_199] {
        assert_eq!(positions_found(&desk.find("lobby", &format!("number{n} "), u64::MAX, 10)), [n + 1]);
    }
}

/// Nothing that people write is an error to the index.
#[test]
fn hostile_queries() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store([raw("lobby", "some text"), raw("kitchen", "a secret")]);
    let desk = Mutex::new(desk);
    let ask = |query: &str| {
        let found = desk.lock().unwrap().find("lobby", query, u64::MAX, 10);
        match found.hits {
            Ok(hits) => assert!(hits.iter().all(|hit| hit.entry.room == room("lobby")), "{query:?}"),
            Err(error) => assert_ne!(error, SearchError::Unavailable, "{query:?}"),
        }
    };
    for query in [
        "\" OR room : \"r2",
        "a\" OR room:r2 OR \"",
        "secret\" * OR \"x",
        "{room}: r2 a",
        "NEAR(a b, 1)",
        "^some",
        "a + b",
        "content : x",
        "- content : x",
        "a AND",
        "NOT a",
        "(((a",
        "a)))",
        "\u{0}a",
        "a\u{0}\" OR secret",
        "'; DROP TABLE x",
        "x\\\" y",
        "\u{301}",
        "ः",
        "\u{e000}",
        "a\u{feff}b",
        "from:\"",
        "from:\"\"\"a",
        "from:from:a",
        "\"\"\"\"\"a\"",
    ] {
        ask(query);
    }
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    proptest!(config, |(query in "[a\" :*^(){}+\\-\0,OR'ä東\u{301}\u{903}\\PC]{0,20}")| ask(&query));
}
