//! Files that cannot be used, disks that fail, processes that are killed, machines that lose their power.

use std::collections::BTreeMap;

use super::*;
use crate::journal::tests::Bell;

/// Opens as if the machine had been started as `boot`.
fn open_after(boot: &str, path: &Path, sync: SyncMode) -> Desk {
    let open = |bell: Arc<Bell>| {
        let limits = Limits::default();
        SqliteJournal::open_after(boot, path, sync, &limits, Order::Here, move || bell.ring()).unwrap()
    };
    Desk::new(|bell| Journal::Sqlite(Box::new(open(bell))))
}

fn refused(path: &Path) -> String {
    Journal::sqlite(path, SyncMode::Normal, &Limits::default(), || ()).unwrap_err().to_string()
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

/// An error of a commit may come after the deed; then the deed counts.
#[test]
fn a_commit_that_succeeds_and_fails_is_found_out() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store([raw("lobby", "before")]);
    desk.with(|connection| {
        let fail = |_: &mut rusqlite::hooks::Wal, _| Err(rusqlite::Error::InvalidQuery);
        connection.wal_hook(Some(fail)).unwrap();
    });
    desk.say([raw("lobby", "stored"), said("lobby", (1, "Ann"), "n", "stored"), said("lobby", (1, "Ann"), "n", "")]);
    let events: Vec<_> = desk.events(3).iter().map(brief).collect();
    let stored = |what, position| (what, position, "stored".to_owned());
    assert_eq!(events, [stored("entry", 2), stored("entry", 3), stored("repeat", 3)]);
    assert_eq!(positions(&desk.all("lobby").entries.unwrap()), [1, 2, 3]);
    assert_eq!(positions(&desk.store([raw("lobby", "stored")])), [4]);
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
