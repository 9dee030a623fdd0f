//! Who is there, across instances that tell each other of it over a channel that loses, doubles and delays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::talk::Talk;
use super::*;
use crate::chat::report::{InstanceId, Named, Report, RoomReport};

/// Some instances and the channel between them.
struct Cluster {
    instances: Vec<Talk>,
    /// What is under way: when it comes, to whom.
    channel: Vec<(Instant, usize, Bytes)>,
    limits: Limits,
    now: Instant,
    started: u64,
    rng: Rng,
    /// Of a hundred reports, so many are lost, and as many come twice; and how late others may be.
    loss: u32,
    delay: Duration,
    sent: usize,
}

impl Cluster {
    fn new(count: usize, limits: Limits, seed: u64) -> Self {
        let mut cluster = Cluster {
            instances: Vec::new(),
            channel: Vec::new(),
            limits,
            now: Instant::now(),
            started: 0,
            rng: Rng::with_seed(seed),
            loss: 0,
            delay: Duration::ZERO,
            sent: 0,
        };
        cluster.instances = (0..count).map(|_| cluster.start()).collect();
        cluster
    }

    fn start(&mut self) -> Talk {
        let mut talk = Talk::in_memory(&self.limits);
        talk.now = self.now;
        self.started += 1;
        // People that are made at different instances differ.
        talk.hub.identities = Identities::new([1; 32], [self.started as u8; 32]);
        talk.hub.report_as(InstanceId(self.started), self.now);
        talk
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(100);
            for place in 0..self.instances.len() {
                self.instances[place].pass_to(self.now);
                self.report(place);
            }
            self.deliver();
        }
    }

    fn report(&mut self, from: usize) {
        let hub = &mut self.instances[from].hub;
        let due = hub.next_report().expect("there is a bus");
        let mut reports = Vec::new();
        while let Some(report) = hub.poll_report(self.now) {
            reports.push(report);
        }
        assert!(reports.is_empty() || due <= self.now, "whoever sleeps until then misses nothing");
        assert!(hub.next_report().unwrap() > self.now, "and does not spin");
        self.sent += reports.iter().map(Bytes::len).sum::<usize>();
        for report in reports {
            for to in 0..self.instances.len() {
                let copies = match self.rng.u32(..100) {
                    dice if dice < self.loss => 0,
                    dice if dice < 2 * self.loss => 2,
                    _ => 1,
                };
                for _ in 0..copies {
                    let late = Duration::from_millis(self.rng.u64(0..=self.delay.as_millis() as u64));
                    self.channel.push((self.now + late, to, report.clone()));
                }
            }
        }
    }

    fn deliver(&mut self) {
        let (due, later) = std::mem::take(&mut self.channel).into_iter().partition(|(at, ..)| *at <= self.now);
        self.channel = later;
        for (_, to, report) in due {
            self.instances[to].hear_report(&report);
        }
    }

    /// Somebody comes to an instance; with a token they are who they were.
    fn come(&mut self, at: usize, slot: u32, hello: Value, rooms: &[&str]) -> (String, String) {
        let talk = &mut self.instances[at];
        talk.hub.enter(member(slot), Dialect::V1);
        let mut hello = hello;
        hello["type"] = "hello".into();
        talk.ask(slot, hello);
        let welcome = talk.heard(slot).into_iter().find(|it| it["type"] == "welcome").expect("welcome");
        for room in rooms {
            talk.ask(slot, json!({"type": "join", "room": room}));
            talk.drain(member(slot));
        }
        talk.turn();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        (text(&welcome["token"]), text(&welcome["you"]["id"]))
    }

    /// The names in a room as an instance tells them.
    fn names(&self, at: usize, room: &str) -> Vec<String> {
        let hub = &self.instances[at].hub;
        let Some(key) = hub.by_name.get(room) else { return Vec::new() };
        hub.rooms[*key].presence.names(hub.bounds.presence_names).iter().map(|author| author.name.to_string()).collect()
    }

    fn count(&self, at: usize, room: &str) -> usize {
        let hub = &self.instances[at].hub;
        hub.by_name.get(room).map_or(0, |key| hub.rooms[*key].presence.count())
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn people_of_all_instances_are_there_and_go() {
    let mut cluster = Cluster::new(3, Limits::default(), 1);
    cluster.come(0, 0, json!({"name": "Ann"}), &["a"]);
    cluster.come(1, 0, json!({"name": "Bob"}), &["a", "b"]);
    let (token, id) = cluster.come(2, 0, json!({"name": "Cleo"}), &["a"]);
    cluster.instances[0].hub.enter(member(1), Dialect::Raw);
    cluster.instances[0].hub.sit(member(1), name("a"), Start::Present);
    cluster.pass(seconds(3));
    for at in 0..3 {
        assert_eq!(cluster.names(at, "a"), ["Ann", "Bob", "Cleo"], "instance {at}");
        assert_eq!(cluster.count(at, "a"), 4, "and somebody without a name");
    }
    let update = cluster.instances[0].heard(0);
    assert!(
        update.iter().any(|it| it["type"] == "presence" && it["joined"].to_string().contains("Cleo")),
        "{update:?}"
    );

    // One person at two instances is one, and keeps the name.
    let (_, same) = cluster.come(0, 2, json!({"token": token}), &["a"]);
    assert_eq!(same, id);
    cluster.pass(seconds(3));
    assert_eq!((cluster.count(0, "a"), cluster.count(1, "a")), (4, 4));
    assert_eq!(cluster.names(1, "a"), ["Ann", "Bob", "Cleo"]);

    // A new name holds everywhere, also for the person's other tab.
    cluster.instances[2].heard(0);
    cluster.instances[0].ask(2, json!({"type": "rename", "name": "Cleopatra"}));
    cluster.pass(seconds(3));
    for at in 0..3 {
        assert_eq!(cluster.names(at, "a"), ["Ann", "Bob", "Cleopatra"], "instance {at}");
    }
    let told = cluster.instances[2].heard(0);
    assert!(told.iter().any(|it| it["type"] == "renamed" && it["you"]["name"] == "Cleopatra"), "{told:?}");
    // And another one back, from the other side.
    cluster.instances[2].ask(0, json!({"type": "rename", "name": "Cleo"}));
    cluster.pass(seconds(3));
    for at in 0..3 {
        assert_eq!(cluster.names(at, "a"), ["Ann", "Bob", "Cleo"], "instance {at}");
    }

    cluster.instances[1].exit(member(0));
    cluster.instances[2].exit(member(0));
    cluster.pass(seconds(6));
    assert_eq!(cluster.names(0, "a"), ["Ann", "Cleo"], "who has another connection stays");
    assert_eq!(cluster.names(1, "a"), NOBODY, "a room without members costs nothing");
    // Who comes first to a room is told who is there elsewhere.
    let talk = &mut cluster.instances[1];
    talk.hello(5, "Dan");
    let joined = talk.join(5, "a");
    assert_eq!(joined["members"]["count"], 4, "{joined}");
    assert_eq!(joined["members"]["names"].as_array().unwrap().len(), 3, "{joined}");
}

const NOBODY: [&str; 0] = [];

#[test]
fn an_instance_that_dies_takes_its_people_with_it_and_one_that_leaves_does_not() {
    let mut cluster = Cluster::new(3, Limits::default(), 2);
    cluster.come(0, 0, json!({"name": "Ann"}), &["a"]);
    let (token, _) = cluster.come(1, 0, json!({"name": "Bob"}), &["a"]);
    cluster.come(2, 0, json!({"name": "Cleo"}), &["a"]);
    cluster.pass(seconds(3));
    assert_eq!(cluster.instances[0].hub.instances_elsewhere(), 2);
    cluster.instances[0].heard(0);

    // A rolling restart: it says goodbye, its people go, and come to another one some seconds later.
    cluster.instances[1].hub.report_goodbye(cluster.now);
    cluster.report(1);
    cluster.deliver();
    cluster.instances[1].exit(member(0));
    cluster.pass(seconds(8));
    cluster.instances[1] = cluster.start();
    cluster.pass(seconds(6));
    assert_eq!(cluster.names(0, "a"), ["Ann", "Bob", "Cleo"]);
    cluster.come(2, 1, json!({"token": token}), &["a"]);
    cluster.pass(seconds(3));
    // Once they are back they are there as all others, and not kept for the one that has gone.
    let id = cluster.instances[0].hub.identities.recognise(&token).unwrap();
    let room = cluster.instances[0].hub.by_name["a"];
    assert_eq!(cluster.instances[0].hub.rooms[room].presence.elsewhere(id), 1);
    cluster.pass(seconds(27));
    assert_eq!(cluster.names(0, "a"), ["Ann", "Bob", "Cleo"]);
    let told = cluster.instances[0].heard(0);
    assert!(told.iter().all(|it| it["type"] != "presence"), "nobody is seen to flicker: {told:?}");
    assert_eq!(cluster.instances[0].hub.instances_elsewhere(), 2, "the former one is forgotten");

    // A crash: those who do not come back are gone within 15 seconds.
    cluster.instances[2] = cluster.start();
    cluster.pass(seconds(7));
    assert_eq!(cluster.names(0, "a"), ["Ann", "Bob", "Cleo"], "it may only be slow");
    cluster.pass(seconds(8));
    assert_eq!(cluster.names(0, "a"), ["Ann"]);
    let told = cluster.instances[0].heard(0);
    let left: usize =
        told.iter().filter(|it| it["type"] == "presence").map(|it| it["left"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(left, 2, "and that has been told: {told:?}");
}

#[test]
fn nobody_is_taken_for_dead_while_the_bus_is_down() {
    let mut cluster = Cluster::new(2, Limits::default(), 8);
    cluster.come(0, 0, json!({"name": "Ann"}), &["a"]);
    cluster.come(1, 0, json!({"name": "Bob"}), &["a"]);
    cluster.pass(seconds(3));
    cluster.loss = 100;
    for trouble in [Some(Trouble::Bus), None] {
        for Talk { hub, stage, .. } in &mut cluster.instances {
            hub.journal_status(trouble, stage);
        }
        cluster.pass(seconds(if trouble.is_some() { 60 } else { 9 }));
        assert_eq!(cluster.names(0, "a"), ["Ann", "Bob"], "{trouble:?}");
    }
    cluster.pass(seconds(9));
    assert_eq!(cluster.names(0, "a"), ["Ann"], "it is really gone");
}

#[test]
fn who_is_writing_is_seen_at_other_instances() {
    let mut cluster = Cluster::new(2, Limits::default(), 3);
    cluster.come(0, 0, json!({"name": "Ann"}), &["a"]);
    cluster.come(1, 0, json!({"name": "Bob"}), &["a"]);
    cluster.pass(seconds(3));
    cluster.instances[0].heard(0);
    cluster.instances[1].ask(0, json!({"type": "typing", "room": "a"}));
    cluster.pass(seconds(2));
    let writing = |heard: Vec<Value>| -> Vec<usize> {
        let typing = heard.into_iter().filter(|it| it["type"] == "typing");
        typing.map(|it| it["names"].as_array().unwrap().len()).collect()
    };
    assert_eq!(writing(cluster.instances[0].heard(0)), [1]);
    cluster.pass(seconds(8));
    assert_eq!(writing(cluster.instances[0].heard(0)), [0], "it ends by itself");
    cluster.instances[1].ask(0, json!({"type": "typing", "room": "a"}));
    cluster.pass(seconds(2));
    let author = cluster.instances[1].hub.author(member(0));
    let hub = &mut cluster.instances[0].hub;
    let position = hub.position().next();
    let content = Content::Text(Bytes::from_static(b"written"));
    let (at, room) = (Timestamp(0), name("a"));
    hub.committed(Entry { position, room, origin: None, author, nonce: None, at, content });
    cluster.instances[0].turn();
    cluster.pass(seconds(2));
    assert_eq!(writing(cluster.instances[0].heard(0)), [1, 0], "with what they have written");
}

#[test]
fn crowds_are_counted_and_reports_of_them_are_small() {
    let limits = Limits { presence_names: 20, ..Limits::default() };
    let mut cluster = Cluster::new(2, limits, 4);
    for slot in 0..300 {
        cluster.come(1, slot, json!({"name": format!("person {slot}")}), &["a"]);
    }
    cluster.come(0, 0, json!({"name": "Ann"}), &["a"]);
    cluster.pass(seconds(3));
    assert_eq!((cluster.count(0, "a"), cluster.names(0, "a").len()), (301, 0));
    assert_eq!((cluster.count(1, "a"), cluster.names(1, "a").len()), (301, 0));
    cluster.sent = 0;
    cluster.pass(seconds(20));
    assert!(cluster.sent < 5_000, "{} bytes in 20 seconds in which nothing happens", cluster.sent);
    for slot in 10..300 {
        cluster.instances[1].exit(member(slot));
    }
    cluster.pass(seconds(6));
    assert_eq!((cluster.count(0, "a"), cluster.names(0, "a").len()), (11, 11), "they are named again");
}

#[test]
fn what_others_report_is_bounded() {
    let limits = Limits { max_instances: 3, max_elsewhere: 10, presence_names: 5, ..Limits::default() };
    let mut cluster = Cluster::new(1, limits, 5);
    cluster.come(0, 0, json!({"name": "Ann"}), &["r0"]);
    let person = |id: u64| Named { author: Author { id: PersonId(id), name: format!("p{id}").into() }, version: 0 };
    for instance in 100..120 {
        for round in 1..4 {
            let room = |number: u64| RoomReport {
                room: name(&format!("r{number}")),
                people: (0..4).map(|id| person(instance * 1_000 + number * 10 + id)).collect(),
                crowd: 0,
                strangers: 1,
                writing: vec![],
            };
            let rooms = (0..20).map(room).collect();
            let report =
                Report { instance: InstanceId(instance), number: round, is_leaving: false, names: vec![], rooms };
            cluster.instances[0].hear_report(&report.encode());
        }
    }
    for bytes in [&b""[..], b"\xff\x00", b"{\"v\":9}", &[b'['; 100_000], b"{\"v\":1,\"i\":1,\"n\":1,\"rooms\":[{}]}"] {
        cluster.instances[0].hear_report(bytes);
    }
    cluster.pass(seconds(2));
    let hub = &cluster.instances[0].hub;
    assert_eq!(hub.instances_elsewhere(), 3);
    assert!(hub.remembered_elsewhere() <= 10, "{}", hub.remembered_elsewhere());
    cluster.pass(seconds(20));
    let hub = &cluster.instances[0].hub;
    assert_eq!((hub.instances_elsewhere(), hub.remembered_elsewhere()), (0, 0), "they fell silent");
    assert_eq!(cluster.names(0, "r0"), ["Ann"]);
    assert_eq!(cluster.count(0, "r0"), 1);
}

#[test]
fn without_a_bus_nothing_is_reported() {
    let mut talk = Talk::in_memory(&Limits::default());
    talk.hello(0, "Ann");
    talk.join(0, "a");
    assert_eq!((talk.hub.next_report(), talk.hub.poll_report(talk.now)), (None, None));
    let report = Report { instance: InstanceId(1), number: 1, is_leaving: false, names: vec![], rooms: vec![] };
    talk.hear_report(&report.encode());
    talk.hub.report_goodbye(talk.now);
    assert_eq!((talk.hub.next_report(), talk.hub.instances_elsewhere()), (None, 0));
}

/// Where somebody is in the simulation.
#[derive(Clone)]
struct Somebody {
    token: Option<String>,
    /// Instance, slot, rooms.
    tabs: Vec<(usize, u32, BTreeSet<&'static str>)>,
}

const ROOMS: [&str; 3] = ["a", "b", "c"];

fn simulate(seed: u64) {
    let limits = Limits { presence_names: 12, ask_rate: 0, ..Limits::default() };
    let mut cluster = Cluster::new(3, limits, seed);
    let mut people = vec![Somebody { token: None, tabs: vec![] }; 15];
    let (mut slots, mut names) = (0, 0);
    for _ in 0..400 {
        cluster.loss = if cluster.rng.u8(..) < 30 { 40 } else { 5 };
        cluster.delay = Duration::from_millis(if cluster.rng.u8(..) < 30 { 6_000 } else { 50 });
        let at = cluster.rng.usize(..3);
        let who = cluster.rng.usize(..people.len());
        let rooms: BTreeSet<&str> = ROOMS.into_iter().filter(|_| cluster.rng.bool()).collect();
        match cluster.rng.u32(..100) {
            0..45 => {
                let mut hello = json!({});
                if let Some(token) = &people[who].token {
                    hello["token"] = token.as_str().into();
                }
                if cluster.rng.bool() {
                    names += 1;
                    hello["name"] = format!("n{names}").into();
                }
                slots += 1;
                let joined: Vec<&str> = rooms.iter().copied().collect();
                let (token, _) = cluster.come(at, slots, hello, &joined);
                people[who].token = Some(token);
                people[who].tabs.push((at, slots, rooms));
            }
            45..75 => {
                if !people[who].tabs.is_empty() {
                    let tab = cluster.rng.usize(..people[who].tabs.len());
                    let (at, slot, _) = people[who].tabs.swap_remove(tab);
                    cluster.instances[at].exit(member(slot));
                }
            }
            75..95 => {
                if let Some((at, slot, _)) = people[who].tabs.first().cloned() {
                    names += 1;
                    cluster.instances[at].ask(slot, json!({"type": "rename", "name": format!("n{names}")}));
                }
            }
            dice => {
                // It ends, in order or not, and another one starts in its place.
                if dice < 98 {
                    cluster.instances[at].hub.report_goodbye(cluster.now);
                    cluster.pass(seconds(1));
                }
                cluster.instances[at] = cluster.start();
                people.iter_mut().for_each(|somebody| somebody.tabs.retain(|(there, ..)| *there != at));
            }
        }
        let time = Duration::from_millis(cluster.rng.u64(0..1_500));
        cluster.pass(time);
    }
    (cluster.loss, cluster.delay) = (0, Duration::ZERO);
    cluster.pass(seconds(40));
    for room in ROOMS {
        let expected = people.iter().filter(|it| it.tabs.iter().any(|(_, _, rooms)| rooms.contains(room))).count();
        let mut told: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for at in 0..3 {
            if people.iter().any(|it| it.tabs.iter().any(|(there, _, rooms)| *there == at && rooms.contains(room))) {
                let names = cluster.names(at, room);
                if expected <= 12 {
                    assert_eq!(names.len(), expected, "seed {seed}: {room} at {at}: {names:?}");
                    assert_eq!(cluster.count(at, room), expected, "seed {seed}: {room} at {at}");
                }
                *told.entry(names).or_default() += 1;
            }
        }
        assert!(told.len() <= 1, "seed {seed}: {room} is the same everywhere: {told:?}");
    }
    for somebody in people {
        for (at, slot, _) in somebody.tabs {
            cluster.instances[at].exit(member(slot));
        }
    }
    cluster.pass(seconds(20));
    for at in 0..3 {
        let hub = &cluster.instances[at].hub;
        assert_eq!((hub.rooms(), hub.remembered_elsewhere()), (0, 0), "seed {seed}: nothing stays behind");
    }
}

#[test]
fn instances_agree_on_who_is_there() {
    let read = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = read("CHAT_SIM_SEED").map_or(0..read("CHAT_SIM_RUNS").unwrap_or(6), |seed| seed..seed + 1);
    seeds.for_each(simulate);
}

#[test]
fn reports_that_are_late_do_not_undo_later_ones() {
    let mut cluster = Cluster::new(1, Limits::default(), 6);
    cluster.come(0, 0, json!({"name": "Ann"}), &["a"]);
    let report = |number, people: &[u64]| {
        let named = |id: &u64| Named { author: Author { id: PersonId(*id), name: "Bob".into() }, version: 0 };
        let people = people.iter().map(named).collect();
        let room = RoomReport { room: name("a"), people, crowd: 0, strangers: 0, writing: vec![] };
        Report { instance: InstanceId(99), number, is_leaving: false, names: vec![], rooms: vec![room] }.encode()
    };
    for (number, people, count) in [(1, &[7][..], 2), (3, &[7, 8], 3), (2, &[], 3), (3, &[], 3)] {
        cluster.instances[0].hear_report(&report(number, people));
        assert_eq!(cluster.count(0, "a"), count, "{number}");
    }
}

#[test]
fn bounds_are_the_same_for_whoever_writes_and_reads() {
    // Names of the longest kind, as many as are named, come through in one report.
    let limits = Limits { presence_names: 300, ..Limits::default() };
    let mut cluster = Cluster::new(2, limits, 7);
    for slot in 0..300 {
        cluster.come(1, slot, json!({"name": format!("{slot:03}{}", "\"".repeat(61))}), &["a"]);
    }
    cluster.pass(seconds(2));
    cluster.come(0, 0, json!({"name": "Ann"}), &["a"]);
    cluster.pass(seconds(2));
    assert_eq!(cluster.count(0, "a"), 301);
}
