//! The journal of several instances on one bus inside the process, with everything that may happen to it.

mod losses;
mod outages;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::local::LocalBus;
use super::sequence::Reach;
use super::*;
use crate::chat::entry::{Entry, MemberId};
use crate::journal::Journal;
use crate::journal::ordered::{DraftId, Stamp};
use crate::journal::tests::{Bell, Desk, keeps_its_promises, raw, said, text};

const DEADLINE: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits { bus_canary_interval: Duration::from_millis(200), ..Limits::default() }
}

/// An instance on a bus, with a store at `path` or without one.
fn open(bus: &LocalBus, path: Option<&Path>, limits: &Limits) -> Desk {
    let open = |bell: Arc<Bell>| {
        let journal = BusJournal::over(bus.clone(), false, path, SyncMode::Normal, limits, move || bell.ring());
        Journal::Bus(Box::new(journal.unwrap()))
    };
    Desk::new(open)
}

/// A member of an instance.
fn by(slot: u32, draft: Draft) -> Draft {
    Draft { origin: Some(MemberId { slot, serial: 1 }), ..draft }
}

/// What an instance has heard: entries, and losses as `lost`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Heard {
    entries: Vec<(u64, String)>,
    losses: Vec<Lost>,
    statuses: Vec<Status>,
}

struct Instance {
    desk: Desk,
    heard: Heard,
}

impl Instance {
    fn new(bus: &LocalBus, path: Option<&Path>) -> Self {
        Instance { desk: open(bus, path, &limits()), heard: Heard::default() }
    }

    fn take(&mut self) {
        while let Some(event) = self.desk.journal.poll_event() {
            match event {
                Event::Entry(entry) => self.heard.entries.push((entry.position.0, text(&entry))),
                Event::Lost(lost) => self.heard.losses.push(lost),
                Event::Status(status) => self.heard.statuses.push(status),
                Event::Key(_) | Event::Repeat(_) | Event::Level(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes what comes until `enough`.
    fn until(&mut self, what: &str, mut enough: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.take();
            if enough(self) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", self.heard);
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    fn until_heard(&mut self, last: &str) {
        self.until(last, |it| it.heard.entries.last().is_some_and(|(_, text)| text == last));
    }

    fn until_ready(&mut self) {
        self.until("ready", |it| it.desk.journal.readiness() == Ok(()));
    }

    fn texts(&self) -> Vec<&str> {
        self.heard.entries.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn say(&mut self, text: &str) {
        self.desk.say([by(1, said("room", (1, "Ann"), text, text))]);
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn the_journal_on_a_bus_keeps_its_promises() {
    let folder = Folder::new();
    let limits = Limits { max_drafts_in_flight: 20, max_draft_bytes_in_flight: 1000, ..Limits::default() };
    for path in [None, Some(folder.file("a.db"))] {
        let mut desk = open(&LocalBus::new(), path.as_deref(), &limits);
        keeps_its_promises(&mut desk);
    }
}

#[test]
fn all_instances_hear_the_same() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let file = folder.file("c.db");
    let mut all = [Instance::new(&bus, None), Instance::new(&bus, None), Instance::new(&bus, Some(&file))];
    for number in 0..300 {
        let instance = &mut all[number % 3];
        instance.desk.say([
            by(1, raw("room", &format!("raw {number}"))),
            by(2, said("other", (7, "Ann"), &format!("n{}", number / 2), &format!("said {number}"))),
        ]);
    }
    for instance in &mut all {
        instance.until("everything has been heard", |it| it.heard.entries.len() == 450);
        assert_eq!(instance.desk.journal.in_flight(), 0);
    }
    assert_eq!(all[0].heard.entries, all[1].heard.entries);
    assert_eq!(all[0].heard.entries, all[2].heard.entries);
    assert_eq!(all[0].desk.journal.epoch(), all[1].desk.journal.epoch());
    // One who comes later has it all.
    let mut late = Instance::new(&bus, None);
    late.until("everything has been heard", |it| it.heard.entries.len() == 450);
    assert_eq!(late.heard.entries, all[0].heard.entries);
    // So has one that comes back, and its store has it as well.
    drop(all);
    late.say("meanwhile");
    late.until_heard("meanwhile");
    let mut back = Instance::new(&bus, Some(&file));
    back.until_heard("meanwhile");
    assert_eq!(back.texts(), ["meanwhile"], "only what was missed");
    let page = back.desk.page("room", Range::Before(Position(u64::MAX)), 1_000, usize::MAX);
    let kept: Vec<u64> = page.entries.unwrap().iter().map(|entry| entry.position.0).collect();
    let heard = late.heard.entries.iter().filter(|(_, text)| !text.starts_with("said")).map(|(position, _)| *position);
    assert_eq!(kept, heard.collect::<Vec<_>>());
    assert!(back.heard.losses.is_empty(), "{:?}", back.heard.losses);
}

#[test]
fn who_is_ready_has_taken_everything() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let mut one = Instance::new(&bus, None);
    for number in 0..500 {
        one.say(&number.to_string());
    }
    one.until_heard("499");
    for path in [None, Some(folder.file("late.db"))] {
        let mut late = Instance::new(&bus, path.as_deref());
        assert_eq!(late.desk.journal.readiness(), Err(Unready::Behind), "it has been read, and nobody knows of it");
        late.until_ready();
        assert_eq!(late.heard.entries, one.heard.entries);
    }
}

#[test]
fn a_repeat_is_told_to_whoever_repeats_wherever_the_original_was_said() {
    let bus = LocalBus::new();
    let (mut one, mut other) = (Instance::new(&bus, None), Instance::new(&bus, None));
    one.say("first");
    other.until_heard("first");
    let position = other.heard.entries[0].0;
    other.desk.say([by(9, said("room", (1, "Ann"), "first", "first, changed"))]);
    match other.desk.event() {
        Event::Repeat(Entry { position: at, origin: Some(origin), content, .. }) => {
            assert_eq!((at.0, origin.slot, &content.bytes()[..]), (position, 9, &b"first"[..]));
        }
        event => panic!("{event:?}"),
    }
    one.say("second");
    other.until_heard("second");
    one.until_heard("second");
    assert_eq!(one.texts(), ["first", "second"]);
}

#[test]
fn what_no_instance_has_written_harms_nobody() {
    let bus = LocalBus::new();
    let mut one = Instance::new(&bus, None);
    one.say("before");
    one.until_heard("before");
    let life = Stamp { epoch: Epoch(1), base: Position(u64::MAX) };
    let id = DraftId { instance: 1, number: 1 };
    let meta = wire::encode_life(&wire::Declared { stamp: life, after: u64::MAX }, &driver::Run::Unmarked);
    bus.put(wire::encode_mark(life, id), meta);
    bus.put(Bytes::from_static(b"rubbish"), Bytes::from_static(b"rubbish"));
    one.say("after");
    one.until_heard("after");
    let mut late = Instance::new(&bus, None);
    late.until_heard("after");
    assert_eq!(late.heard, one.heard);
}

#[test]
fn what_was_kept_without_a_bus_comes_first() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let file = folder.file("a.db");
    let mut alone = Desk::sqlite(&file, &limits());
    alone.store((0..5).map(|number| raw("room", &format!("alone {number}"))));
    let (epoch, key) = (alone.journal.epoch(), alone.journal.secret());
    drop(alone);
    let (mut one, mut other) = (Instance::new(&bus, Some(&file)), Instance::new(&bus, None));
    one.say("together");
    other.until_heard("together");
    one.until_heard("together");
    assert_eq!(one.heard.entries, other.heard.entries);
    assert!(one.heard.entries[0].0 > 5);
    assert_ne!(one.desk.journal.epoch(), epoch);
    assert_eq!(one.desk.journal.secret(), key, "people stay who they are");
    let together = one.desk.journal.epoch();
    drop(one);
    // Alone again, and back: nobody takes the positions of the one for those of the other.
    let mut alone = Desk::sqlite(&file, &limits());
    alone.store([raw("room", "alone again")]);
    assert_ne!(alone.journal.epoch(), together);
    drop(alone);
    let mut one = Instance::new(&bus, Some(&file));
    other.say("with it");
    one.until_heard("with it");
    other.until_heard("with it");
    assert_eq!(one.heard.entries.last(), other.heard.entries.last());
    assert_eq!(one.desk.journal.epoch(), other.desk.journal.epoch());
}

#[test]
fn all_instances_get_one_key_and_keep_it() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let key = |desk: &mut Desk| loop {
        if let Event::Key(key) = desk.event() {
            return key;
        }
    };
    let (mut one, mut other) = (open(&bus, None, &limits()), open(&bus, Some(&folder.file("a.db")), &limits()));
    let common = key(&mut one);
    assert_eq!(key(&mut other), common);
    drop(one);
    bus.wipe();
    other.say([by(1, raw("room", "again"))]);
    while !matches!(other.event(), Event::Entry(_)) {}
    assert_eq!(key(&mut open(&bus, None, &limits())), common, "also when the bus has lost it");
    drop(other);
    bus.down();
    let other = open(&bus, Some(&folder.file("a.db")), &limits());
    assert_eq!(other.journal.secret(), Some(common), "also when the bus is not there");
}

#[test]
fn whispers_reach_the_others() {
    let bus = LocalBus::new();
    let (mut one, mut other) = (Instance::new(&bus, None), Instance::new(&bus, None));
    one.until_ready();
    other.until_ready();
    one.desk.journal.whisper(Bytes::from_static(b"psst"));
    other.desk.journal.whisper(Bytes::from_static(b"yes?"));
    let whisper = |desk: &mut Desk| loop {
        if let Event::Whisper(message) = desk.event() {
            return message;
        }
    };
    assert_eq!((whisper(&mut one.desk), whisper(&mut other.desk)), ("yes?".into(), "psst".into()));
}

#[test]
fn whoever_asks_learns_when_everything_has_been_told() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let level = |instance: &mut Instance, question: u64| loop {
        match instance.desk.event() {
            Event::Level(answered) if answered == question => return,
            Event::Entry(entry) => instance.heard.entries.push((entry.position.0, text(&entry))),
            Event::Level(answered) => assert!(answered < question),
            _ => {}
        }
    };
    for path in [None, Some(folder.file("a.db"))] {
        let (mut one, mut other) = (Instance::new(&bus, None), Instance::new(&bus, path.as_deref()));
        one.until_ready();
        other.until_ready();
        other.heard.entries.clear();
        bus.stick(true);
        for number in 0..500 {
            one.say(&format!("{} {number}", path.is_some()));
        }
        // It is asked while nothing comes, and while sessions end.
        other.desk.journal.level(1);
        other.desk.journal.level(2);
        other.until("the silence is noticed", |it| it.desk.journal.readiness().is_err());
        bus.down();
        other.desk.journal.level(3);
        bus.stick(false);
        bus.up();
        one.until("it is published", |it| it.desk.journal.in_flight() == 0);
        other.desk.journal.level(4);
        level(&mut other, 4);
        assert_eq!(other.heard.entries.len(), 500, "everything that was there before");
        other.desk.journal.level(5);
        level(&mut other, 5);
        one.until_ready();
        other.until_ready();
    }
}
