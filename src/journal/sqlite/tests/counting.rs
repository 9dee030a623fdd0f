//! How many entries there are, whoever gives the positions.

use super::*;
use crate::chat::entry::Draft;
use crate::journal::ordered::{DraftId, Ordered, Stamp};

/// A store behind a bus.
struct Bused {
    desk: Desk,
    next: u64,
}

impl Bused {
    fn open(path: &Path, limits: &Limits) -> Self {
        let desk = Desk::new(|bell| {
            let journal = SqliteJournal::open_for_bus(path, SyncMode::Normal, limits, move || bell.ring()).unwrap();
            Journal::Sqlite(Box::new(journal))
        });
        let next = desk.kept().opened_at().0;
        Bused { desk, next }
    }

    /// Keeps so many, each with nine positions before it that nobody is told of.
    fn keep(&mut self, drafts: impl IntoIterator<Item = Draft>) {
        for draft in drafts {
            self.next += 10;
            self.keep_at(self.next, draft);
        }
        let last = Position(self.next);
        wait_until("it is kept", || {
            while self.desk.journal.poll_event().is_some() {}
            self.desk.kept().emitted == last
        });
    }

    fn keep_at(&self, position: u64, draft: Draft) {
        let stamp = Stamp { epoch: Epoch(1), base: Position::START };
        let mark = Mark { stamp, offset: position, id: Some(DraftId { instance: 1, number: position }) };
        self.desk.kept().keeper().keep(Ordered { events: vec![Event::Entry(draft.at(Position(position)))], mark });
    }
}

/// Waits until this is told of entries, those not indexed, and those trimmed.
fn wait_until_told(desk: &Desk, entries: u64, unindexed: u64, trimmed: u64) {
    wait_until_equal("what is told", (entries, unindexed, trimmed), || {
        let stats = desk.kept().stats();
        (stats.entries, stats.unindexed, stats.trimmed)
    });
    assert_eq!(desk.count("entries"), entries.cast_signed());
}

fn texts(count: u64) -> impl Iterator<Item = Draft> {
    (0..count).map(|number| raw("lobby", &number.to_string()))
}

#[test]
fn positions_that_are_left_out_are_not_counted() {
    let (_folder, path) = folder();
    let mut bused = Bused::open(&path, &Limits::default());
    bused.keep(texts(300));
    wait_until_told(&bused.desk, 300, 0, 0);
    // What is kept again is not counted again; what is said anew under an old nonce is.
    bused.keep_at(bused.next, raw("lobby", "again"));
    bused.keep([said("lobby", (1, "Ann"), "n", "first"), said("lobby", (1, "Ann"), "n", "long after")]);
    wait_until_told(&bused.desk, 302, 0, 0);
    drop(bused);
    let mut bused = Bused::open(&path, &Limits::default());
    wait_until_told(&bused.desk, 302, 0, 0);
    bused.keep(texts(5));
    wait_until_told(&bused.desk, 307, 0, 0);
}

#[test]
fn so_many_are_kept_as_were_asked_for() {
    let (_folder, path) = folder();
    let limits = Limits { keep_entries: Some(100), ..Limits::default() };
    let mut bused = Bused::open(&path, &limits);
    bused.keep(texts(250));
    wait_until_told(&bused.desk, 100, 0, 150);
    drop(bused);
    let mut bused = Bused::open(&path, &limits);
    wait_until_told(&bused.desk, 100, 0, 0);
    bused.keep(texts(3_000));
    wait_until_told(&bused.desk, 100, 0, 3_000);
}

#[test]
fn a_file_whose_entries_were_not_counted_is_counted_once() {
    let (_folder, path) = folder();
    let mut bused = Bused::open(&path, &Limits::default());
    bused.keep(texts(20));
    wait_until_told(&bused.desk, 20, 0, 0);
    // As an older program leaves it, and as one leaves it that has trimmed and not counted.
    let changes = [
        "DELETE FROM meta WHERE key = 'counted'",
        "UPDATE meta SET value = '7 0 1000' WHERE key = 'counted'",
        "UPDATE meta SET value = value || '000 0 1000' WHERE key = 'counted'",
        "UPDATE meta SET value = 'rubbish' WHERE key = 'counted'",
    ];
    for change in changes {
        bused.desk.with(move |connection| assert_eq!(connection.execute(change, []).unwrap(), 1));
        drop(bused);
        bused = Bused::open(&path, &Limits::default());
        wait_until_told(&bused.desk, 20, 0, 0);
    }
    // What the index does not know yet is found when the file is opened, whatever happened to whoever wrote it.
    let store = "INSERT INTO entries (position, room, at, kind, content) VALUES (100000, 1, 1, 1, x'78')";
    bused.desk.with(move |connection| connection.execute(store, []).unwrap());
    drop(bused);
    let bused = Bused::open(&path, &Limits::default());
    wait_until_told(&bused.desk, 21, 0, 0);
}

#[test]
fn a_batch_of_which_it_is_unclear_whether_it_was_stored_is_counted_once() {
    let (_folder, path) = folder();
    let mut bused = Bused::open(&path, &Limits::default());
    bused.keep(texts(3));
    wait_until_told(&bused.desk, 3, 0, 0);
    // Nothing can be written for a while, and what is given meanwhile waits; then it is there already.
    bused.desk.with(|connection| connection.pragma_update(None, "query_only", true).unwrap());
    let position = bused.next + 10;
    bused.keep_at(position, raw("lobby", "unclear"));
    wait_until("it is told", || matches!(bused.desk.journal.poll_event(), Some(Event::Status(Status::Waiting))));
    bused.desk.with(move |connection| {
        connection.pragma_update(None, "query_only", false).unwrap();
        let store = "INSERT INTO entries (position, room, at, kind, content) VALUES (?, 1, 1, 1, x'78')";
        connection.execute(store, [position.cast_signed()]).unwrap();
    });
    wait_until_told(&bused.desk, 4, 0, 0);
}

#[test]
fn an_instance_of_its_own_counts_alike() {
    let (_folder, path) = folder();
    let limits = Limits { keep_entries: Some(1_000), ..Limits::default() };
    let mut desk = Desk::sqlite(&path, &limits);
    desk.store(texts(1_500));
    desk.say([said("lobby", (1, "Ann"), "n", "once"), said("lobby", (1, "Ann"), "n", "again")]);
    desk.events(2);
    wait_until_told(&desk, 1_000, 0, 501);
}
