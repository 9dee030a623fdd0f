//! What is kept, what is read of it, and what happens when the file is not as it should be.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use bytes::Bytes;
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::chat::entry::{Content, Entry, Timestamp};
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

/// Opens as if the machine had been started as `boot`.
fn open_after(boot: &str, path: &Path, sync: SyncMode) -> Desk {
    let open = |bell: Arc<crate::journal::tests::Bell>| {
        SqliteJournal::open_after(boot, path, sync, &Limits::default(), move || bell.ring()).unwrap()
    };
    Desk::new(|bell| Journal::Sqlite(Box::new(open(bell))))
}

fn refused(path: &Path) -> String {
    Journal::sqlite(path, SyncMode::Normal, &Limits::default(), || ()).unwrap_err().to_string()
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

    fn all(&mut self, room: &str) -> Page {
        self.page(room, Range::After { after: Position::START, upto: END }, usize::MAX, usize::MAX)
    }
}

fn positions(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position.0).collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
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
        desk.journal.read(Read { ticket: 0, room: room("lobby"), range, limit: 10, max_bytes: 1000 });
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

#[test]
fn the_oldest_entries_go_by_number_and_every_room_has_its_own_floor() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store([raw("old", "1"), said("both", (1, "Ann"), "n", "2"), raw("quiet", "3")]);
    desk.store((4..2_000).map(|n| raw("busy", &format!("number{n} ."))));
    desk.store([raw("both", "2000")]);
    assert_eq!(positions_found(&desk.find("old", "1 ", u64::MAX, 1)), [1]);
    drop(desk);
    let mut desk = Desk::sqlite(&path, &Limits { keep_entries: Some(100), ..Limits::default() });
    wait_until("the oldest are gone", || desk.count("entries") == 100);
    let floor = |desk: &mut Desk, room| desk.all(room).floor.0;
    let floors = ["old", "both", "quiet", "busy", "never"].map(|room| floor(&mut desk, room));
    assert_eq!(floors, [1, 2, 3, 1_900, 1_900]);
    assert_eq!(positions(&desk.all("both").entries.unwrap()), [2_000]);
    assert_eq!(desk.all("busy").entries.unwrap().len(), 99);
    assert_eq!(positions_found(&desk.find("busy", "number1800 ", u64::MAX, 10)), [0_u64; 0]);
    assert_eq!(positions_found(&desk.find("busy", "number1950 ", u64::MAX, 10)), [1_950]);
    assert_eq!(positions_found(&desk.find("old", "1 ", u64::MAX, 1)), [0_u64; 0]);

    // Positions go on, even when all that was there is gone, and whose nonce was forgotten may say it again.
    desk.store((0..100).map(|_| raw("busy", "x")));
    wait_until("the next are gone", || desk.count("entries") == 100);
    desk.say([said("both", (1, "Ann"), "n", "2 again")]);
    assert_eq!(brief(&desk.event()), ("entry", 2_101, "2 again".to_owned()));
    wait_until("the floor has moved", || floor(&mut desk, "never") == 2_001);
}

#[test]
fn the_oldest_entries_go_by_age() {
    let (_folder, path) = folder();
    let limits = Limits { keep_age: Some(Duration::from_secs(3_600)), ..Limits::default() };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let at = |age: i64| Timestamp((now.as_millis() as u64).saturating_add_signed(-age * 1_000));
    let mut desk = Desk::sqlite(&path, &limits);
    let ages = [7_200, 4_000, -1_000_000, 4_000, 3_000, 3_700, 100, 0];
    desk.store(ages.map(|age| Draft { at: at(age), ..raw("lobby", "x") }));
    wait_until("the old are gone", || desk.count("entries") == 2);
    assert_eq!((positions(&desk.all("lobby").entries.unwrap()), desk.all("lobby").floor), (vec![7, 8], Position(6)));
    drop(desk);
    let (_folder, path) = folder();
    let mut desk = Desk::sqlite(&path, &limits);
    desk.store([Draft { at: at(4_000), ..raw("lobby", "x") }]);
    wait_until("the only one is gone", || desk.count("entries") == 0);
    drop(desk);
    let mut desk = Desk::sqlite(&path, &limits);
    assert_eq!(desk.store([Draft { at: at(0), ..raw("lobby", "x") }])[0].position, Position(2));
}

#[test]
fn the_file_stays_within_its_size() {
    let (_folder, path) = folder();
    // The least that the option takes is larger than a test wants to write.
    let bytes: u64 = 2 << 20;
    let mut desk = Desk::sqlite(&path, &Limits { keep_bytes: Some(bytes), ..Limits::default() });
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..40 {
        let mut text = || (0..30).map(|_| format!("word{} ", random.u16(..2_000))).collect::<String>();
        desk.store((0..250).map(|_| raw("lobby", &text())).collect::<Vec<_>>());
    }
    assert_eq!(desk.journal.poll_event(), None);
    let used = || {
        let pragma = |name: &'static str| {
            desk.with(move |connection| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap())
        };
        ((pragma("page_count") - pragma("freelist_count")) * pragma("page_size")) as u64
    };
    wait_until("it is small enough", || used() <= bytes);
    assert!(used() > bytes / 2, "no more is removed than must be: {}", used());
    assert!(path.metadata().unwrap().len() < 4 * bytes, "pages are used again: {}", path.metadata().unwrap().len());
}

#[test]
fn a_file_that_cannot_be_used_is_told_in_a_sentence() {
    let (folder, path) = folder();
    let shown = path.display().to_string();
    let first = open(&path);
    let expected = format!("{shown} is in use by another chat-app (process {}); stop that one", std::process::id());
    assert!(refused(&path).starts_with(&expected), "{}", refused(&path));
    drop(first);
    drop(open(&path));

    let other = folder.path().join("a file/8080.db");
    fs::write(folder.path().join("a file"), "").unwrap();
    let expected = format!("cannot keep messages in the folder {}/a file: ", folder.path().display());
    assert!(refused(&other).starts_with(&expected), "{}", refused(&other));
    assert!(refused(&other).ends_with("; choose another with --data, or keep none with --memory"));
    let other = folder.path().join("folder.db");
    fs::create_dir(&other).unwrap();
    assert!(refused(&other).starts_with(&format!("cannot write {}: ", other.display())), "{}", refused(&other));

    let edit = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    edit("PRAGMA user_version = 99");
    let version = schema::VERSION;
    let expected = format!("{shown} was written by a newer chat-app (format 99, and this one knows {version}); ");
    assert!(refused(&path).starts_with(&expected), "{}", refused(&path));
    edit("PRAGMA application_id = 1");
    assert!(refused(&path).starts_with(&format!("{shown} holds something else than messages of chat-app; ")));

    fs::write(&path, "This is a diary, and no database at all. ".repeat(100)).unwrap();
    assert!(refused(&path).starts_with(&format!("{shown} is damaged (file is not a database)")), "{}", refused(&path));
    fs::write(&path, "").unwrap();
    let mut desk = open(&path);
    desk.store((0..2_000).map(|n| raw("lobby", &format!("{n} {}", "x".repeat(200)))));
    drop(desk);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 40_960].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    assert!(refused(&path).starts_with(&format!("{shown} is damaged (")), "{}", refused(&path));
    assert!(refused(&path).ends_with(&format!("with `sqlite3 {shown} .recover`")));
}

#[test]
fn a_file_cannot_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/for it/8080.db");
    let mut desk = open(&path);
    desk.store([raw("lobby", "x")]);
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store([raw("lobby", "before")]);
    desk.with(|connection| {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    });
    let large = "x".repeat(60_000);
    let drafts = [said("lobby", (1, "Ann"), "n", &large), raw("new room", "small")];
    desk.say(drafts.clone());
    let refusal = |draft: &Draft| Event::Refused { draft: draft.clone(), reason: Refused::Unavailable };
    let events = desk.events(3);
    assert_eq!(events, [Event::Status(Status::Waiting), refusal(&drafts[0]), refusal(&drafts[1])]);
    assert_eq!((desk.journal.in_flight(), desk.journal.in_flight_bytes()), (0, 0));
    desk.say(drafts.clone());
    assert_eq!(desk.events(2), [refusal(&drafts[0]), refusal(&drafts[1])], "it is told once that this is so");
    assert_eq!(desk.all("lobby").entries.unwrap().len(), 1, "reading goes on");

    desk.with(|connection| {
        connection.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(())).unwrap();
    });
    assert_eq!(desk.event(), Event::Status(Status::Ok), "nobody had to say anything");
    let entries = desk.store(drafts);
    assert_eq!(positions(&entries), [2, 3], "what was refused is not there");
    assert_eq!(positions(&desk.all("lobby").entries.unwrap()), [1, 2]);
    assert_eq!(desk.count("meta WHERE key = 'probe'"), 0);
}

#[test]
fn a_commit_that_fails_is_a_refusal() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store([raw("lobby", "before")]);
    desk.with(|connection| connection.commit_hook(Some(|| true)).unwrap());
    desk.say([raw("lobby", "lost"), raw("new room", "lost")]);
    let events = desk.events(3);
    assert_eq!(events[0], Event::Status(Status::Waiting));
    assert!(events[1..].iter().all(|event| matches!(event, Event::Refused { .. })), "{events:?}");
    desk.with(|connection| connection.commit_hook(None::<fn() -> bool>).unwrap());
    assert_eq!(desk.event(), Event::Status(Status::Ok));
    assert_eq!(positions(&desk.store([raw("lobby", "kept"), raw("new room", "kept")])), [2, 3]);
    assert_eq!(desk.all("new room").entries.unwrap().len(), 1, "its number was learnt anew");
    assert_eq!(desk.count("entries"), 3);
}

/// The file with its log, as a killed process leaves them.
fn as_if_killed(path: &Path) -> (TempDir, PathBuf) {
    let (folder, copy) = folder();
    for ending in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
        if name(path).exists() {
            fs::copy(name(path), name(&copy)).unwrap();
        }
    }
    (folder, copy)
}

#[test]
fn nothing_that_was_emitted_is_lost_with_the_process() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    let mut emitted = BTreeMap::new();
    for round in 0..20 {
        // The last batch is on its way when it happens.
        desk.say((0..round * 7 % 50 + 1).map(|n| said("lobby", (1, "Ann"), &format!("{round}/{n}"), "x")));
        while round < 19 && desk.journal.in_flight() > 0 {
            if let Event::Entry(entry) = desk.event() {
                emitted.insert(entry.position.0, entry.nonce);
            }
        }
        let (_folder, copy) = as_if_killed(&path);
        let mut survivor = open(&copy);
        assert_eq!(survivor.journal.epoch(), desk.journal.epoch());
        let kept = survivor.all("lobby").entries.unwrap();
        assert!(kept.len() >= emitted.len(), "round {round}");
        assert!(positions(&kept).into_iter().eq(1..=kept.len() as u64), "round {round}");
        assert!(kept.iter().zip(&emitted).all(|(kept, emitted)| kept.nonce == *emitted.1), "round {round}");
    }
}

#[test]
fn lives_and_epochs() {
    use SyncMode::{Full, Normal};
    for (name, sync, closed, boot, sync_after, same) in [
        ("closed in order", Normal, true, "two", Normal, true),
        ("killed", Normal, false, "one", Normal, true),
        ("killed, then full", Normal, false, "one", Full, true),
        ("lost power", Normal, false, "two", Normal, false),
        ("lost power, then full", Normal, false, "two", Full, false),
        ("lost power with everything on the disk", Full, false, "two", Normal, true),
        ("nothing is known of the machine", Normal, false, "", Normal, false),
    ] {
        let (_folder, path) = folder();
        let mut desk = open_after("one", &path, sync);
        desk.store([raw("lobby", "x")]);
        let (epoch, secret) = (desk.journal.epoch(), desk.journal.secret());
        let (_copies, copy) = as_if_killed(&path);
        drop(desk);
        let path = if closed { path } else { copy };
        let desk = open_after(boot, &path, sync_after);
        assert_eq!(desk.journal.epoch() == epoch, same, "{name}");
        assert_eq!((desk.journal.secret(), desk.journal.opened_at()), (secret, Position(1)), "{name}");
        // A life in which nothing was said decides nothing.
        let (epoch, _) = (desk.journal.epoch(), drop(desk));
        assert_eq!(open_after("three", &path, Normal).journal.epoch(), epoch, "{name}");
    }
    let (_folder, path) = folder();
    assert_ne!(open(&path).journal.epoch(), open(&folder().1).journal.epoch(), "each file has its own");
}
