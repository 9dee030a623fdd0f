//! What becomes of what a bus has lost, or no longer has.

use super::*;
use crate::journal::bus::local::Snapshot;

/// Leaves a store at `file` that has taken «kept» from the bus; gives the epoch of that.
fn leave_store(bus: &LocalBus, file: &Path) -> Epoch {
    let mut kept = Instance::new(bus, Some(file));
    kept.say("kept");
    kept.until_heard("kept");
    kept.desk.journal.epoch()
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
    leave_store(&bus, &file);
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
    let epoch = leave_store(&bus, &file);
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
    leave_store(&bus, &file);
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
    leave_store(&bus, &file);
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
