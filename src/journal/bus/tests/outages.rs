//! A bus that is away, silent, or too fast, and a thread that is gone: nothing is lost, and all is told.

use super::*;
use crate::journal::bus::conductor::ANSWER_TIMEOUT;

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

#[test]
fn what_is_too_long_for_a_bus_that_comes_holds_nothing_up() {
    let bus = LocalBus::new();
    bus.down();
    let mut one = Instance::new(&bus, None);
    let long = "x".repeat(10_000);
    one.desk.say(["before", &long, "after"].map(|text| by(1, raw("room", text))));
    // By then it has been taken.
    one.until("it is told", |it| it.heard.statuses == [Status::BusDown]);
    bus.bound_records(5_000);
    bus.up();
    let (mut heard, mut refused) = (Vec::new(), 0);
    while one.desk.journal.in_flight() > 0 {
        match one.desk.event() {
            Event::Entry(entry) => heard.push(text(&entry)),
            Event::Refused { draft, .. } => refused += draft.content.bytes().len(),
            _ => {}
        }
    }
    assert_eq!((heard, refused), (vec!["before".to_owned(), "after".to_owned()], long.len()));
}
