//! The journal of several instances on one bus inside the process, with everything that may happen to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::conductor::ANSWER_TIMEOUT;
use super::local::{LocalBus, Snapshot};
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
fn what_was_published_without_an_answer_is_there_once_and_in_order() {
    for get_through in [0, 1, 7, 40] {
        let bus = LocalBus::new();
        let (mut one, mut other) = (Instance::new(&bus, None), Instance::new(&bus, None));
        one.say("before");
        one.until_heard("before");
        bus.lose_answer_after(get_through);
        one.desk.say((0..40).map(|number| by(1, raw("room", &number.to_string()))));
        one.until_heard("39");
        other.until_heard("39");
        let expected: Vec<String> =
            ["before".to_owned()].into_iter().chain((0..40).map(|number| number.to_string())).collect();
        assert_eq!(one.texts(), expected, "{get_through}");
        assert_eq!(other.heard.entries, one.heard.entries);
        assert_eq!(one.desk.journal.in_flight(), 0);
        assert_eq!(one.heard.losses.len(), 1, "that of the beginning");
    }
}

#[test]
fn what_is_said_while_the_bus_is_away_waits() {
    let bus = LocalBus::new();
    let limits = Limits { max_drafts_in_flight: 3, ..limits() };
    bus.down();
    let mut one = Instance { desk: open(&bus, None, &limits), heard: Heard::default() };
    assert_eq!(one.desk.journal.readiness(), Err(Unready::Away));
    one.until("it is told", |it| it.heard.statuses == [Status::BusDown]);
    for text in ["one", "two", "three"] {
        assert!(one.desk.journal.has_room());
        one.say(text);
    }
    assert!(!one.desk.journal.has_room(), "whoever says more is not read");
    bus.up();
    one.until_heard("three");
    assert_eq!(one.texts(), ["one", "two", "three"]);
    one.until_ready();
    assert_eq!((&one.heard.statuses[..], one.desk.journal.has_room()), (&[Status::BusDown, Status::Ok][..], true));
    // A moment is nothing to be told.
    bus.cut();
    one.say("four");
    one.until_heard("four");
    assert_eq!(one.heard.statuses.len(), 2);
    assert!(one.desk.journal.bus_gauges().unwrap().reconnects > 0);
}

#[test]
fn a_silent_bus_is_noticed_and_left() {
    let bus = LocalBus::new();
    let mut one = Instance::new(&bus, None);
    one.until_ready();
    bus.stick(true);
    one.until("it is noticed", |it| it.desk.journal.readiness().is_err());
    bus.stick(false);
    one.until_ready();
    one.say("again");
    one.until_heard("again");
    // While all is well and nobody speaks, now and then a mark comes back.
    let marks = bus.log().len();
    one.until("a mark", |_| bus.log().len() > marks);
    assert_eq!(one.desk.journal.readiness(), Ok(()));
}

#[test]
fn a_bus_that_does_not_answer_is_noticed_as_soon_while_people_talk() {
    let bus = LocalBus::new();
    let mut one = Instance::new(&bus, None);
    one.until_ready();
    bus.mute(true);
    one.say("stuck");
    let since = Instant::now();
    one.until("it is noticed", |it| it.desk.journal.readiness().is_err());
    assert!(since.elapsed() < ANSWER_TIMEOUT * 8 / 10, "the mark waits behind what is not answered, and is due");
    bus.mute(false);
    one.until_ready();
    one.until_heard("stuck");
    assert_eq!(one.texts(), ["stuck"]);
}

#[test]
fn a_bus_that_has_lost_everything_is_gone_on_with_behind_all_that_is_known() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let (file, absent) = (folder.file("a.db"), folder.file("b.db"));
    let (mut one, mut other) = (Instance::new(&bus, Some(&file)), Instance::new(&bus, None));
    let mut third = Instance::new(&bus, Some(&absent));
    one.say("old 1");
    one.say("old 2");
    for instance in [&mut one, &mut other, &mut third] {
        instance.until_heard("old 2");
    }
    drop(third);
    one.say("old 3");
    other.until_heard("old 3");
    one.until_heard("old 3");
    let (epoch, known) = (one.desk.journal.epoch(), one.heard.entries[2].0);
    bus.wipe();
    one.say("new 1");
    other.say("new 2");
    for instance in [&mut one, &mut other] {
        instance.until("both are heard", |it| it.heard.entries.len() == 5);
        assert_eq!(instance.heard.losses.len(), 2, "at the beginning, and now");
        assert_ne!(instance.desk.journal.epoch(), epoch);
        assert!(instance.heard.losses[1].upto >= Position(known));
    }
    assert_eq!(one.heard.entries, other.heard.entries);
    assert!(one.heard.entries.is_sorted_by(|one, next| one.0 < next.0));
    // Who was not there finds that something is missing, and is with the others from then on.
    let mut third = Instance::new(&bus, Some(&absent));
    third.until("both are heard", |it| it.heard.entries.len() == 2);
    assert_eq!(third.heard.entries, one.heard.entries[3..]);
    assert_eq!(third.desk.journal.epoch(), one.desk.journal.epoch());
    assert_eq!(third.heard.losses.len(), 1);
    let page = third.desk.page("room", Range::Before(Position(u64::MAX)), 10, usize::MAX);
    assert_eq!(page.entries.unwrap().iter().map(text).collect::<Vec<_>>()[..2], ["old 1", "old 2"]);
    assert!(page.floor >= Position(known), "nobody goes on from before the loss");
}

#[test]
fn a_bus_that_comes_back_as_it_was_is_noticed() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let file = folder.file("a.db");
    let (mut one, mut other) = (Instance::new(&bus, None), Instance::new(&bus, Some(&file)));
    one.say("kept");
    other.until_heard("kept");
    let snapshot = bus.snapshot();
    for text in ["lost 1", "lost 2", "lost 3"] {
        one.say(text);
    }
    one.until_heard("lost 3");
    other.until_heard("lost 3");
    bus.restore(snapshot);
    other.say("after");
    one.until_heard("after");
    other.until_heard("after");
    assert_eq!(one.heard.entries, other.heard.entries);
    assert_eq!((one.heard.losses.len(), one.heard.losses[1].epoch), (2, other.desk.journal.epoch()));
    // Whoever comes now has never known what was lost.
    let mut late = Instance::new(&bus, None);
    late.until_heard("after");
    assert_eq!(late.texts(), ["kept", "after"]);
    assert_eq!(late.heard.entries[1], one.heard.entries[4]);
}

#[test]
fn instances_that_keep_nothing_find_out_that_the_bus_was_restarted_when_they_were() {
    let restart = |bus: &LocalBus, had: Snapshot, lasts: bool| {
        if lasts {
            bus.keep_everything();
        }
        bus.restore(had);
    };
    for (name, is_whole, lasts, stays, is_new) in [
        ("its end is lost", false, false, false, true),
        ("nobody knows that it is not", true, false, false, true),
        ("it says that it keeps everything", true, true, false, false),
        ("whoever is there", true, false, true, true),
        ("somebody is there who knows better", false, false, true, true),
    ] {
        let bus = LocalBus::new();
        let mut one = Instance::new(&bus, None);
        one.say("kept");
        one.until_heard("kept");
        let snapshot = bus.snapshot();
        one.say("heard");
        one.until_heard("heard");
        let (epoch, known) = (one.desk.journal.epoch(), one.heard.entries[1].0);
        let snapshot = if is_whole { bus.snapshot() } else { snapshot };
        if !stays {
            drop(one);
            restart(&bus, snapshot, lasts);
        } else {
            restart(&bus, snapshot, lasts);
            one.say("again");
            one.until_heard("again");
            drop(one);
        }
        let mut all = [Instance::new(&bus, None), Instance::new(&bus, None)];
        for number in 0..5 {
            all[number % 2].say(&format!("new {number}"));
        }
        for instance in &mut all {
            instance.until("everything", |it| it.texts().iter().filter(|text| text.starts_with("new")).count() == 5);
        }
        assert_eq!(all[0].heard.entries, all[1].heard.entries, "{name}");
        let epochs = all.each_ref().map(|it| it.desk.journal.epoch());
        assert_eq!((epochs[0] == epochs[1], epochs[0] != epoch), (true, is_new), "{name}");
        let again =
            all[0].heard.entries.iter().filter(|(position, text)| *position <= known && text.starts_with("new"));
        assert_eq!(again.count(), 0, "{name}: no position is given again");
        assert!(all[0].heard.entries.is_sorted_by(|one, next| one.0 < next.0), "{name}");
        // Whoever restarts while the bus stays finds it as it was.
        drop(all);
        let mut late = Instance::new(&bus, None);
        late.until_ready();
        assert_eq!(late.desk.journal.epoch(), epochs[0], "{name}");
    }
}

#[test]
fn a_store_that_was_behind_does_not_give_positions_again() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let file = folder.file("a.db");
    let mut kept = Instance::new(&bus, Some(&file));
    kept.say("kept");
    kept.until_heard("kept");
    drop(kept);
    // What comes back is all that the store knows of, and more was heard.
    let snapshot = bus.snapshot();
    let mut memory = Instance::new(&bus, None);
    memory.say("lost");
    memory.until_heard("lost");
    let heard = (memory.desk.journal.epoch(), memory.heard.entries.last().unwrap().0);
    drop(memory);
    bus.restore(snapshot);
    let mut back = Instance::new(&bus, Some(&file));
    back.say("new");
    back.until_heard("new");
    let given = (back.desk.journal.epoch(), back.heard.entries.last().unwrap().0);
    assert!(given.0 != heard.0, "{given:?} was given after {heard:?}");
}

#[test]
fn what_was_trimmed_before_it_was_read_is_told() {
    let bus = LocalBus::looking_back(Reach { window: 3, slack: 1, edge: 1, fill: 100 });
    let folder = Folder::new();
    let file = folder.file("a.db");
    let mut one = Instance::new(&bus, Some(&file));
    one.say("kept");
    one.until_heard("kept");
    let epoch = one.desk.journal.epoch();
    drop(one);
    let mut other = Instance::new(&bus, None);
    for text in ["missed", "trimmed", "1", "2", "3", "4", "5", "6", "there"] {
        other.say(text);
    }
    other.until_heard("there");
    let [.., (trimmed, _), _, _, _, _, _, _, (last, _)] = &other.heard.entries[..] else { panic!("{:?}", other.heard) };
    bus.trim(trimmed + 1);
    let mut one = Instance::new(&bus, Some(&file));
    one.until_heard("there");
    // What comes first may be a repeat of what was trimmed.
    assert_eq!(one.texts(), ["6", "there"]);
    assert_eq!(one.heard.losses, [Lost { epoch, upto: Position(last - 2) }]);
    // Nobody is told twice.
    drop(one);
    let mut one = Instance::new(&bus, Some(&file));
    other.say("then");
    one.until_heard("then");
    assert_eq!((one.texts(), one.heard.losses.len()), (vec!["then"], 0));
}

#[test]
fn whoever_comes_back_begins_behind_what_was_told_to_be_lost() {
    let bus = LocalBus::looking_back(Reach { window: 3, slack: 1, edge: 1, fill: 100 });
    let folder = Folder::new();
    let file = folder.file("a.db");
    let mut one = Instance::new(&bus, Some(&file));
    one.say("kept");
    one.until_heard("kept");
    drop(one);
    let mut other = Instance::new(&bus, None);
    for text in ["1", "2", "3"] {
        other.say(text);
    }
    other.until_heard("3");
    bus.trim(other.heard.entries[3].0);
    let mut one = Instance::new(&bus, Some(&file));
    one.until("the loss is told", |it| it.heard.losses.len() == 1);
    one.until_ready();
    let Lost { epoch, upto } = one.heard.losses[0];
    assert!(one.heard.entries.is_empty() && upto >= Position(other.heard.entries[3].0), "{:?}", one.heard);
    drop(one);
    let back = Instance::new(&bus, Some(&file));
    let journal = &back.desk.journal;
    assert_eq!((journal.epoch(), journal.opened_at()), (epoch, upto), "as it was when the process ended");
    drop(back);
    // Nor does anybody who goes on alone give a position that was said to be lost.
    let mut alone = Desk::sqlite(&file, &limits());
    alone.store([raw("room", "alone")]);
    let page = alone.page("room", Range::Before(Position(u64::MAX)), 1, usize::MAX);
    assert!(page.entries.unwrap()[0].position > upto);
}

#[test]
fn what_was_deleted_from_the_midst_of_the_log_holds_nobody_up() {
    let (bus, folder) = (LocalBus::new(), Folder::new());
    let file = folder.file("a.db");
    let mut kept = Instance::new(&bus, Some(&file));
    kept.say("kept");
    kept.until_heard("kept");
    drop(kept);
    let mut one = Instance::new(&bus, None);
    for text in ["before", "deleted", "between", "deleted as well", "after"] {
        one.say(text);
    }
    one.until_heard("after");
    let deleted = [2, 4].map(|place: usize| one.heard.entries[place].0);
    for position in deleted {
        // Of the first life of a log.
        bus.delete(position);
    }
    for (name, path, texts) in [
        ("whoever knows nothing", None, &["kept", "before", "between", "after"][..]),
        ("whoever was away", Some(&*file), &["before", "between", "after"]),
    ] {
        let mut late = Instance::new(&bus, path);
        late.until_heard("after");
        late.until_ready();
        assert_eq!(late.texts(), texts, "{name}");
        let losses = late.heard.losses.iter().map(|lost| lost.upto.0).filter(|upto| deleted.contains(upto));
        assert_eq!(losses.collect::<Vec<_>>(), deleted, "{name}");
        assert!(late.heard.losses.iter().all(|lost| lost.epoch == one.desk.journal.epoch()), "{name}");
    }
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
fn an_instance_whose_thread_is_gone_is_not_ready() {
    let bus = LocalBus::new();
    let mut one = Instance::new(&bus, None);
    one.until_ready();
    bus.confound();
    one.until("it is told", |it| it.heard.statuses == [Status::BusDown]);
    assert_eq!(one.desk.journal.readiness(), Err(Unready::Away));
    assert!(!one.desk.journal.bus_gauges().unwrap().is_up);
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

#[test]
fn nobody_reads_ahead_of_a_loop_that_does_not_take() {
    let bus = LocalBus::new();
    let slow = Instance::new(&bus, None);
    let mut one = Instance::new(&bus, None);
    for _ in 0..10 {
        one.desk.say((0..5_000).map(|number| by(1, raw("room", &number.to_string()))));
        one.until("all are back", |it| it.desk.journal.in_flight() == 0);
    }
    let mut slow = slow;
    slow.until("the lag is measured", |it| {
        it.desk.journal.bus_gauges().unwrap().lag == 0 || !it.heard.entries.is_empty()
    });
    slow.until("everything", |it| it.heard.entries.len() == 50_000);
    assert_eq!(slow.heard.entries, one.heard.entries);
}

#[test]
fn a_session_that_ends_while_it_is_held_leaves_nothing_held() {
    let bus = LocalBus::new();
    let mut slow = Instance::new(&bus, None);
    let mut one = Instance::new(&bus, None);
    slow.until_ready();
    one.until_ready();
    for _ in 0..5 {
        one.desk.say((0..5_000).map(|number| by(1, raw("room", &number.to_string()))));
        one.until("all are back", |it| it.desk.journal.in_flight() == 0);
    }
    let shared = match &slow.desk.journal {
        Journal::Bus(journal) => Arc::clone(&journal.shared),
        journal => panic!("{journal:?}"),
    };
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + DEADLINE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            thread::park_timeout(Duration::from_millis(2));
        }
    };
    wait("it is held", &|| shared.is_held());
    bus.down();
    wait("the session has ended", &|| shared.readiness() == Err(Unready::Away));
    slow.take();
    bus.up();
    slow.until_ready();
    bus.stick(true);
    slow.until("the silence is noticed", |it| it.desk.journal.readiness() == Err(Unready::Away));
}
