//! The contract of catching up, under every circumstance that chance brings about: each member hears each of its rooms
//! as the journal has it, from where it joined, without a gap that was not announced, without repeat, in order.

use std::collections::{HashMap, VecDeque};

use fastrand::Rng;
use serde_json::{Value, json};

use super::talk::{Talk, former, tenant};
use super::*;

const ROOMS: [&str; 3] = ["a", "b", "c"];

/// What a client knows of a room.
#[derive(Debug, Default)]
struct Seen {
    /// Answers that it waits for, in this order.
    awaited: VecDeque<Awaited>,
    /// Everything up to here; `None` while it is not told anything of the room.
    upto: Option<u64>,
    /// From where it would resume.
    resume: Option<u64>,
    is_in: bool,
}

#[derive(Debug)]
enum Awaited {
    Joined { after: Option<u64>, is_this_life: bool },
    Left,
}

#[derive(Debug, Default)]
struct Client {
    /// Which of its connections this is.
    serial: u32,
    is_there: bool,
    /// What it was told when it was welcome last.
    welcome: Value,
    nonces: u32,
    seen: HashMap<&'static str, Seen>,
}

struct Walk {
    rng: Rng,
    /// Reads of each kind that may be under way.
    most_reads: [usize; 4],
    talk: Talk,
    clients: Vec<Client>,
    /// What cannot be had again is lost from here on: the store forgets, or there is none.
    may_lose: bool,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let keeps_history = rng.bool();
        let limits = Limits {
            page_entries: rng.usize(1..8),
            backfill_entries: rng.usize(1..30),
            tail_entries: rng.usize(1..20),
            tails_total_bytes: rng.usize(500..20_000),
            max_tails: rng.usize(1..4),
            outbox_high_water_bytes: rng.usize(1..2000),
            feed_entries: rng.usize(1..10),
            feed_reads: rng.usize(1..4),
            join_reads: rng.usize(1..4),
            ask_reads: rng.usize(1..3),
            feeds_per_turn: rng.usize(1..5),
            max_rooms_per_member: 2,
            say_rate: 0,
            ask_rate: 0,
            ..Limits::default()
        };
        let talk = if keeps_history {
            let past: Vec<Entry> = (1..50).flat_map(|at| former(ROOMS[at % 3], [at as u64])).collect();
            Talk::stored(&limits, past)
        } else {
            Talk::in_memory(&limits)
        };
        let clients = (0..6).map(|_| Client::default()).collect();
        let most_reads = [limits.feed_reads, limits.join_reads, limits.ask_reads, limits.ask_reads];
        Walk { rng, most_reads, talk, clients, may_lose: !keeps_history }
    }

    /// The connection of a client. The one after it has another slot, so that it can come before this one has gone.
    fn id(&self, slot: usize) -> MemberId {
        let serial = self.clients[slot].serial;
        tenant((slot + self.clients.len() * (serial as usize % 2)) as u32, serial)
    }

    fn step(&mut self) {
        let slot = self.rng.usize(..self.clients.len());
        let id = self.id(slot);
        if !self.clients[slot].is_there {
            self.talk.hub.enter(id, Dialect::V1);
            self.talk.ask_as(id, &json!({"type": "hello", "name": format!("c{slot}")}));
            self.clients[slot].is_there = true;
            return self.look(slot);
        }
        let room = ROOMS[self.rng.usize(..3)];
        match self.rng.u32(..100) {
            0..25 => {
                let client = &mut self.clients[slot];
                if client.seen.entry(room).or_default().is_in {
                    // Now and then it says again what it has said.
                    client.nonces += u32::from(self.rng.u32(..8) > 0);
                    let nonce = format!("{slot} {} {}", client.serial, client.nonces);
                    self.talk.ask_as(id, &json!({"type": "say", "room": room, "text": "x", "nonce": nonce}));
                }
            }
            25..40 => self.join(slot, room),
            40..48 => self.leave(slot, room),
            48..50 if self.rng.bool() => {
                self.talk.exit(id);
                self.clients[slot].is_there = false;
                self.leave_behind(slot);
            }
            48..50 => {
                // It comes back before it is known that it has gone.
                let welcome = self.clients[slot].welcome.clone();
                self.leave_behind(slot);
                let heir = self.id(slot);
                self.talk.hub.enter(heir, Dialect::V1);
                let hello = json!({"type": "hello", "token": welcome["token"], "session": welcome["session"]});
                self.talk.ask_as(heir, &hello);
                assert_eq!(self.talk.told.pop(), Some(Command::TakenOver(id)));
                self.talk.ask_as(id, &json!({"type": "join", "room": room}));
                assert!(!self.talk.stage.has_heard(id), "it is told no more");
            }
            50..60 => self.talk.drain(id),
            60..75 => {
                // The store answers out of order as well, and now and then not at all.
                if !self.talk.reads.is_empty() {
                    let place = self.rng.usize(..self.talk.reads.len());
                    let wanted = self.talk.reads.remove(place).unwrap();
                    let mut pages = self.talk.answer(&wanted);
                    if self.rng.u32(..10) == 0 {
                        pages.entries = Err(SearchError::Unavailable);
                        self.may_lose = true;
                    }
                    self.talk.bring(pages);
                }
            }
            75..77 => {
                if !self.may_lose && self.rng.u32(..10) > 0 {
                    return;
                }
                self.may_lose = true;
                let last = self.talk.said.last().map_or(0, |entry| entry.position.0);
                self.talk.floor = self.talk.floor.max(Position(self.rng.u64(..=last)));
            }
            77..80 => self.talk.order(),
            _ => self.talk.turn(),
        }
        self.look(slot);
        let reads = self.talk.hub.reads();
        for (reads, most) in reads.into_iter().zip(self.most_reads) {
            assert!(reads.under_way <= most, "of {most}: {reads:?}");
        }
        assert!(self.talk.reads.len() <= reads.iter().map(|it| it.under_way).sum(), "{reads:?}");
    }

    /// Looks at what a client has heard on a connection that it leaves for the next.
    fn leave_behind(&mut self, slot: usize) {
        self.talk.drain(self.id(slot));
        self.look(slot);
        let client = &mut self.clients[slot];
        client.serial += 1;
        for seen in client.seen.values_mut() {
            *seen = Seen { resume: seen.upto.or(seen.resume), ..Seen::default() };
        }
    }

    fn join(&mut self, slot: usize, room: &'static str) {
        let client = &mut self.clients[slot];
        let rooms = client.seen.values().filter(|seen| seen.is_in).count();
        let seen = client.seen.entry(room).or_default();
        if seen.is_in || rooms == 2 {
            return;
        }
        let after = seen.resume.filter(|_| self.rng.u32(..4) > 0);
        let is_this_life = self.rng.u32(..10) > 0;
        let epoch = if is_this_life { "000000000000000e" } else { "000000000000000d" };
        seen.is_in = true;
        seen.awaited.push_back(Awaited::Joined { after, is_this_life });
        let id = self.id(slot);
        self.talk.ask_as(id, &json!({"type": "join", "room": room, "after": after, "epoch": epoch}));
    }

    fn leave(&mut self, slot: usize, room: &'static str) {
        let client = &mut self.clients[slot];
        let seen = client.seen.entry(room).or_default();
        if !seen.is_in {
            return;
        }
        seen.is_in = false;
        seen.awaited.push_back(Awaited::Left);
        let id = self.id(slot);
        self.talk.ask_as(id, &json!({"type": "leave", "room": room}));
    }

    /// Looks at what a client has heard.
    fn look(&mut self, slot: usize) {
        let id = self.id(slot);
        for message in self.talk.heard_by(id) {
            let Some(room) = ROOMS.into_iter().find(|room| message["room"] == *room) else {
                assert_eq!(message["type"], "welcome", "{message}");
                self.clients[slot].welcome = message;
                continue;
            };
            let log: Vec<u64> =
                self.talk.said.iter().filter(|entry| entry.room == name(room)).map(|entry| entry.position.0).collect();
            let seen = self.clients[slot].seen.get_mut(room).expect("it has asked for this room");
            match message["type"].as_str().unwrap() {
                "joined" => {
                    let Some(Awaited::Joined { after, is_this_life }) = seen.awaited.pop_front() else {
                        panic!("nobody asked for {message}");
                    };
                    seen.upto = Some(joined(&message, &log, after, is_this_life, self.may_lose));
                }
                "left" => {
                    loop {
                        match seen.awaited.pop_front() {
                            Some(Awaited::Left) => break,
                            // Whoever left before being told is not told any more.
                            Some(Awaited::Joined { .. }) => {}
                            None => panic!("nobody asked for {message}"),
                        }
                    }
                    seen.resume = seen.upto.take().or(seen.resume);
                }
                "said" if message["repeat"] == true => {}
                "said" => {
                    let upto = seen.upto.unwrap_or_else(|| panic!("it is not in the room of {message}"));
                    let expected = log.iter().copied().find(|position| *position > upto);
                    assert_eq!(message["position"].as_u64(), expected, "after {upto}");
                    seen.upto = expected;
                }
                "gap" => {
                    assert!(self.may_lose, "{message}");
                    let position = message["position"].as_u64().unwrap();
                    assert!(seen.upto.is_some_and(|upto| upto < position), "{message} after {:?}", seen.upto);
                    seen.upto = Some(position);
                }
                "presence" => assert!(seen.upto.is_some(), "it is not in the room of {message}"),
                other => panic!("{other}: {message}"),
            }
        }
    }

    fn end(mut self) {
        self.talk.settle();
        for slot in 0..self.clients.len() {
            self.look(slot);
            let id = self.id(slot);
            for (room, seen) in &self.clients[slot].seen {
                let last = self.talk.said.iter().rfind(|entry| entry.room == name(room)).map_or(0, |it| it.position.0);
                assert!(!seen.is_in || seen.upto >= Some(last), "{slot} has heard {room} to {:?} of {last}", seen.upto);
            }
            if self.clients[slot].is_there {
                self.talk.exit(id);
            }
        }
        self.talk.assert_empty();
    }
}

/// Checks what a joiner is told against the room as the journal has it, and returns up to where it knows the room then.
fn joined(message: &Value, log: &[u64], after: Option<u64>, is_this_life: bool, may_lose: bool) -> u64 {
    let entries = super::talk::positions(message["entries"].as_array().unwrap());
    let position = message["position"].as_u64().unwrap();
    let (gap, more) = (message["gap"] == true, message["more"] == true);
    let told: Vec<u64> = match (after, entries.first()) {
        (Some(after), _) if !gap => log.iter().copied().filter(|it| *it > after && *it <= position).collect(),
        (_, Some(first)) => log.iter().copied().filter(|it| it >= first && *it <= position).collect(),
        (_, None) => Vec::new(),
    };
    assert_eq!(entries, told, "{message} of {log:?} after {after:?}");
    if after.is_none() {
        assert!(!gap && !more, "{message}");
    }
    if let Some(after) = after {
        assert!(is_this_life || gap, "{message}");
        let missed = message["missed"].as_u64();
        assert_eq!(missed.is_some(), !gap, "{message}");
        if let Some(missed) = missed {
            assert_eq!(more, missed > entries.len() as u64, "{message}");
            assert!(log.iter().filter(|it| **it > after).count() as u64 >= missed, "{message}");
        }
    }
    if entries.is_empty() && !gap && !may_lose && after.is_none() {
        assert!(log.iter().all(|it| *it > position), "{message} of {log:?}");
    }
    position
}

#[test]
fn every_walk_is_heard_without_gap_repeat_or_disorder() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seed, runs) = (number("CHAT_SIM_SEED"), number("CHAT_SIM_RUNS"));
    let first = seed.unwrap_or(0);
    for seed in first..first + runs.unwrap_or(if seed.is_some() { 1 } else { 200 }) {
        let walk = std::panic::catch_unwind(|| {
            let mut walk = Walk::new(seed);
            for _ in 0..600 {
                walk.step();
            }
            walk.end();
        });
        assert!(walk.is_ok(), "this was CHAT_SIM_SEED={seed}");
    }
}
