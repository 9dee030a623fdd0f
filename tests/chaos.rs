//! Chaos: while people talk on several instances, the broker, the network and the instances fail, again and again.
//!
//! Three instances, two of which have stores, reach one broker through relays that can hold and cut connections. People
//! and raw clients talk in several rooms and go from one instance to another, because they like to or have to. Faults
//! come at seeded times. Then it is quiet, everybody says last words, and hears those of all others. What a new
//! instance reads from the broker is the truth: everybody must have heard it, in that order, and nothing else, and all
//! instances must tell the same.
//!
//! `CHAT_CHAOS_SEED` repeats the faults of a failed run (what they meet is up to the machine), and `CHAT_CHAOS_ROUNDS`
//! makes it longer: in each round there is one fault of each kind.

#![allow(clippy::print_stderr, reason = "what is printed here belongs to the output of a test")]
#![allow(unreachable_pub, reason = "the modules are private here")]

mod common;

#[path = "chaos/broker.rs"]
mod broker;
#[path = "chaos/scene.rs"]
mod scene;
#[path = "chaos/talker.rs"]
mod talker;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use broker::{Broker, save};
use common::{ChatClient, NatsServer, RabbitServer, RedisServer, wait_until};
use scene::{Fault, History, Scene};
use talker::{Heard, Person, ROOMS, Shouter};

#[test]
fn nothing_is_lost_through_redis() {
    // Whatever Redis has answered is on its disk.
    everybody_hears_everything_once(RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]));
}

#[test]
fn nothing_is_lost_through_rabbitmq() {
    everybody_hears_everything_once(RabbitServer::start());
}

#[test]
fn nothing_is_lost_through_nats() {
    everybody_hears_everything_once(NatsServer::start());
}

/// The test of a broker that keeps what it has confirmed.
fn everybody_hears_everything_once(broker: impl Broker) {
    let mut scene = Scene::start(broker, false);
    scene.play(|scene| {
        for _ in 0..scene::rounds() {
            let mut faults = Fault::ALL;
            scene.rng.shuffle(&mut faults);
            for fault in faults {
                scene.rest();
                scene.suffer(fault);
            }
        }
    });
    let truth = scene.truth();
    for (place, entries) in truth.iter().enumerate() {
        check_order(entries, &scene.people, place);
        for person in &scene.people {
            check_heard(person, place, &person.seats[place].heard, entries);
        }
    }
    for person in &scene.people {
        let places: HashMap<&str, (usize, u64)> = own(person, &truth).collect();
        assert_eq!(places.len(), person.said + ROOMS.len(), "{}: everything that was said is there", person.name);
        for (nonce, place) in &person.acknowledged {
            assert_eq!(places.get(nonce.as_str()), Some(place), "{nonce} was acknowledged there");
        }
    }
    for shouter in &scene.shouters {
        check_shouter(shouter, &truth);
    }
    for (number, history) in scene.histories().into_iter().enumerate() {
        for (place, entries) in history.iter().enumerate() {
            check_history(number, place, entries, &truth[place]);
        }
    }
    scene.stop();
}

#[test]
fn a_redis_that_goes_back_to_a_snapshot_is_a_gap_for_everybody() {
    /// Messages that are heard before and after a snapshot.
    const SOME: usize = 1_500;
    // It is only saved when it is told to.
    let mut scene = Scene::start(RedisServer::start(&["--save", "3600 1000000"]), true);
    let world = Arc::clone(&scene.world);
    scene.play(|scene| {
        for _ in 0..2 {
            let talk = |what| {
                let enough = world.heard() + SOME;
                wait_until(what, || world.heard() >= enough);
            };
            talk("people talk before the snapshot");
            save(&scene.broker);
            talk("people talk behind the snapshot");
            let before: HashSet<String> = world.epochs().into_iter().collect();
            let (mut client, _) = ChatClient::hello(world.instances[0].address, "Zoe");
            let joined = client.join(ROOMS[0]);
            let position = joined["position"].as_u64().expect("a position");
            scene.suffer(Fault::KillBroker);
            wait_until("everybody is told", || {
                let now: HashSet<String> = world.epochs().into_iter().collect();
                now.len() == 1 && now.is_disjoint(&before)
            });
            // One that has not noticed yet tells it later.
            scene.wait_until_ready();
            for place in &world.instances {
                let (mut client, _) = ChatClient::hello(place.address, "Zoe");
                let resumed = client.resume(ROOMS[0], position, &joined["epoch"]);
                assert_eq!(resumed["gap"], true, "a position of a life that is over: {resumed}");
            }
        }
    });
    let truth = scene.truth();
    let histories = scene.histories();
    // What was lost is below; nothing above is.
    let seats = scene.people.iter().flat_map(|person| &person.seats);
    let base = seats.map(|seat| seat.lost_upto).max().expect("people");
    let epochs: HashSet<_> =
        scene.people.iter().flat_map(|person| person.seats.iter().map(|seat| seat.epoch.clone())).collect();
    assert_eq!(epochs.len(), 1, "one life for all");
    assert!(base > 0 && scene.people.iter().all(|person| person.figures.gaps >= 2 * ROOMS.len()));
    let above =
        |entries: &[Heard]| -> Vec<Heard> { entries.iter().filter(|entry| entry.position > base).cloned().collect() };
    for (place, entries) in truth.iter().enumerate() {
        let mut known: BTreeMap<u64, &Heard> = BTreeMap::new();
        let heard = scene.people.iter().map(|person| &person.seats[place].heard);
        for entry in heard.chain(histories.iter().map(|history| &history[place])).chain([entries]).flatten() {
            let first = *known.entry(entry.position).or_insert(entry);
            assert!(first.is_same(entry), "a position is given once: {first:?}, {entry:?}");
        }
        let last = above(entries);
        check_order(&last, &scene.people, place);
        for person in &scene.people {
            let heard = above(&person.seats[place].heard);
            check_heard(person, place, &heard, &last);
        }
        for (number, history) in histories.iter().enumerate() {
            check_history(number, place, &above(&history[place]), &last);
        }
        // Who has a store keeps what the broker has lost, too.
        for (history, _) in histories.iter().zip(&scene.instances).filter(|(_, instance)| instance.has_store()) {
            let kept: HashSet<u64> = history[place].iter().map(|entry| entry.position).collect();
            assert!(entries.iter().all(|entry| kept.contains(&entry.position)), "{}", ROOMS[place]);
        }
    }
    for person in &scene.people {
        let places: HashMap<&str, (usize, u64)> = own(person, &truth).collect();
        for (nonce, place) in person.acknowledged.iter().filter(|(_, (_, position))| *position > base) {
            assert_eq!(places.get(nonce.as_str()), Some(place), "{nonce} was acknowledged there");
        }
    }
    scene.stop();
}

/// What a person said, by nonce.
fn own<'a>(person: &Person, truth: &'a History) -> impl Iterator<Item = (&'a str, (usize, u64))> {
    let entries = truth.iter().enumerate().flat_map(|(place, entries)| entries.iter().map(move |entry| (place, entry)));
    let own = entries.filter(|(_, entry)| entry.author.is_some() && entry.author == person.id);
    own.filter_map(|(place, entry)| Some((entry.nonce.as_deref()?, (place, entry.position))))
}

/// Nothing twice, positions that increase, and what a person said in the order in which they said it.
fn check_order(entries: &[Heard], people: &[Person], place: usize) {
    assert!(entries.is_sorted_by(|one, next| one.position < next.position), "{}: in order", ROOMS[place]);
    let mut texts = HashSet::new();
    for entry in entries {
        assert!(texts.insert(&entry.text), "{}: twice: {entry:?}", ROOMS[place]);
    }
    for person in people {
        let own = entries.iter().filter(|entry| entry.author == person.id);
        // What has no number are the last words.
        let number = |entry: &Heard| entry.text.rsplit('.').next().and_then(|number| number.parse().ok());
        let numbers: Vec<usize> = own.map(|entry| number(entry).unwrap_or(usize::MAX)).collect();
        assert!(numbers.is_sorted(), "{}: {} has not said it in this order: {numbers:?}", ROOMS[place], person.name);
    }
}

/// What an instance tells is the truth.
fn check_history(number: usize, place: usize, entries: &[Heard], truth: &[Heard]) {
    let differs = entries.iter().zip(truth).find(|(entry, truth)| entry != truth);
    assert_eq!(differs, None, "instance {number} has the first in {}, and the second is true", ROOMS[place]);
    assert_eq!(entries.len(), truth.len(), "instance {number} has all of {}", ROOMS[place]);
}

/// What a person heard is the truth, up to their last message.
fn check_heard(person: &Person, place: usize, heard: &[Heard], entries: &[Heard]) {
    let differs = heard.iter().zip(entries).find(|(heard, entry)| heard != entry);
    assert_eq!(differs, None, "{} in {} heard the first, and the second is true", person.name, ROOMS[place]);
    let more = heard.get(entries.len());
    assert_eq!(more, None, "{} in {} heard what is not there", person.name, ROOMS[place]);
}

/// What a raw client heard on each connection is a piece of the truth.
fn check_shouter(shouter: &Shouter, truth: &History) {
    let rendered: Vec<Vec<String>> =
        truth.iter().map(|entries| entries.iter().map(Heard::rendered).collect()).collect();
    for (place, heard) in shouter.visits.iter().filter(|(_, heard)| !heard.is_empty()) {
        let rendered = &rendered[*place];
        let first = rendered.iter().position(|text| *text == heard[0]);
        let first = first.unwrap_or_else(|| panic!("{} was heard and is not there", heard[0]));
        let expected = &rendered[first..rendered.len().min(first + heard.len())];
        assert_eq!(heard[..], *expected, "what a raw client heard in {}", ROOMS[*place]);
    }
}
