//! Those who talk: people of chat.v1 who come back and go on where they were, and raw clients who hear the present.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Error, Message};

use crate::common::WsClient;

/// The rooms in which they talk.
pub const ROOMS: [&str; 3] = ["red", "green", "blue"];
/// What stands in everybody's last words.
const FAREWELL: &str = " ends in ";
/// What a person has said and not heard yet, at most.
const WINDOW: usize = 32;
/// How long somebody waits before they say the next thing, at most.
const SAY_PAUSE: Duration = Duration::from_millis(80);
/// How long somebody stays at one instance, at most.
const STAY: Duration = Duration::from_secs(6);
/// How long somebody waits before they connect again, at most.
const PAUSE: Duration = Duration::from_millis(150);
/// The longest that an instance may take to tell how it is, before it is passed over.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest that it may take, when all is well again, until everybody has heard everything.
const SETTLE_TIME: Duration = Duration::from_secs(60);

/// An entry as a client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub position: u64,
    pub author: Option<String>,
    pub name: Option<String>,
    pub nonce: Option<String>,
    pub text: String,
}

impl Heard {
    pub fn new(said: &Value) -> Heard {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Heard {
            position: said["position"].as_u64().expect("a position"),
            author: text(&said["from"]["id"]),
            name: text(&said["from"]["name"]),
            nonce: text(&said["nonce"]),
            text: text(&said["text"]).expect("a text"),
        }
    }

    /// Whether it is the same, but for a nonce that it may have lost.
    pub fn is_same(&self, other: &Heard) -> bool {
        let has_lost = self.nonce.is_none() || other.nonce.is_none();
        *self == Heard { nonce: if has_lost { self.nonce.clone() } else { other.nonce.clone() }, ..other.clone() }
    }

    /// What raw members hear of it.
    pub fn rendered(&self) -> String {
        self.name.as_ref().map_or(self.text.clone(), |name| format!("{name}: {}", self.text))
    }
}

/// What all share: where the instances are, and how far the test is.
#[derive(Debug)]
pub struct World {
    pub instances: Vec<Place>,
    /// The broker does not keep everything: there may be gaps.
    may_lose: bool,
    people: usize,
    phase: AtomicU8,
    /// People who are in all rooms for the first time.
    present: AtomicUsize,
    /// The epoch that each person believes in, by room.
    epochs: Mutex<BTreeMap<(String, &'static str), String>>,
    heard: AtomicUsize,
}

/// An instance as clients know it.
#[derive(Debug)]
pub struct Place {
    pub address: SocketAddr,
    /// It knows its epoch, whether it reaches the bus or not.
    pub has_store: bool,
    /// It is going to be stopped, and nobody is sent there.
    pub is_leaving: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Everybody talks.
    Talk,
    /// Nothing is broken any more. Everybody says what is left over, last words, and hears those of all others.
    Settle,
    /// Something has failed.
    Abort,
}

impl World {
    pub fn new(instances: Vec<Place>, people: usize, may_lose: bool) -> Self {
        World {
            instances,
            may_lose,
            people,
            phase: AtomicU8::new(Phase::Talk as u8),
            present: AtomicUsize::new(0),
            epochs: Mutex::default(),
            heard: AtomicUsize::new(0),
        }
    }

    /// Begins another phase. There is no way back.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Whether this is the phase.
    pub fn is_in(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    /// Messages that were heard for the first time, by all people together.
    pub fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether all people have been in all rooms.
    pub fn is_complete(&self) -> bool {
        self.present.load(Ordering::Relaxed) == self.people
    }

    /// The epochs in which people believe.
    pub fn epochs(&self) -> Vec<String> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// An instance as a load balancer would choose it. While none is ready, somebody may go where there is a store.
    fn choose(&self, rng: &mut fastrand::Rng) -> Option<SocketAddr> {
        let place = rng.choice(&self.instances)?;
        if place.is_leaving.load(Ordering::Relaxed) {
            return None;
        }
        let readiness = readiness(place.address)?;
        (readiness == 200 || place.has_store && rng.u8(..4) == 0).then_some(place.address)
    }
}

/// The status of `/readyz`, if there is an answer.
pub fn readiness(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// A person, who talks in all rooms.
#[derive(Debug)]
pub struct Person {
    pub name: String,
    pub id: Option<String>,
    /// One in each of [`ROOMS`].
    pub seats: Vec<Seat>,
    /// By nonce: the room and the position of everything that came back.
    pub acknowledged: BTreeMap<String, (usize, u64)>,
    /// Nonces, which are the texts too, of what was said and has not come back, with the room.
    unheard: Vec<(usize, String)>,
    pub said: usize,
    /// Was in all rooms.
    is_present: bool,
    has_said_last: bool,
    token: Option<String>,
    pub figures: Figures,
    rng: fastrand::Rng,
}

/// What a person did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub visits: usize,
    pub repeats: usize,
    /// Joins at an instance that had not heard yet what the person knew.
    pub behind: usize,
    pub gaps: usize,
}

/// A person in a room.
#[derive(Debug)]
pub struct Seat {
    pub room: &'static str,
    pub heard: Vec<Heard>,
    pub epoch: Option<String>,
    /// Everything up to here is known.
    known: u64,
    /// Up to here nothing is to come any more.
    pub lost_upto: u64,
    is_in: bool,
    /// What is known already may come again, since the instance did not know what was known.
    may_repeat: bool,
    /// Texts of those whose last words were heard.
    farewells: HashSet<String>,
}

impl Person {
    pub fn new(name: &str, seed: u64) -> Self {
        let seat = |room| Seat {
            room,
            heard: Vec::new(),
            epoch: None,
            known: 0,
            lost_upto: 0,
            is_in: false,
            may_repeat: false,
            farewells: HashSet::new(),
        };
        Person {
            name: name.to_owned(),
            id: None,
            seats: ROOMS.into_iter().map(seat).collect(),
            acknowledged: BTreeMap::new(),
            unheard: Vec::new(),
            said: 0,
            is_present: false,
            has_said_last: false,
            token: None,
            figures: Figures::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Talks here and there until everybody has heard everybody.
    pub fn live(&mut self, world: &World) {
        let mut deadline = None;
        while !self.has_finished(world) && !world.is_in(Phase::Abort) {
            if world.is_in(Phase::Settle) {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + SETTLE_TIME);
                assert!(Instant::now() < deadline, "{}", self.describe());
            }
            if let Some(address) = world.choose(&mut self.rng) {
                // That the connection ends is what all this is about.
                let _ = self.visit(world, address);
            }
            thread::park_timeout(PAUSE.mul_f64(self.rng.f64()));
        }
    }

    fn has_finished(&self, world: &World) -> bool {
        self.unheard.is_empty() && self.seats.iter().all(|seat| seat.farewells.len() == world.people)
    }

    fn describe(&self) -> String {
        let seats: Vec<_> =
            self.seats.iter().map(|seat| (seat.room, seat.heard.len(), seat.known, &seat.farewells)).collect();
        format!("{} has not heard everything: unheard {:?}, {seats:?}", self.name, self.unheard)
    }

    /// Talks at one instance, until the connection ends or it is enough.
    fn visit(&mut self, world: &World, address: SocketAddr) -> Result<(), Error> {
        let mut client = WsClient::try_connect(address, "/", &[("Sec-WebSocket-Protocol", "chat.v1")])?;
        self.figures.visits += 1;
        send(&mut client, &json!({"type": "hello", "name": self.name, "token": self.token}))?;
        for seat in &mut self.seats {
            (seat.is_in, seat.may_repeat) = (false, false);
            let after = seat.epoch.as_ref().map(|_| seat.known);
            send(&mut client, &json!({"type": "join", "room": seat.room, "after": after, "epoch": seat.epoch}))?;
        }
        let leave_at = Instant::now() + STAY.mul_f64(self.rng.f64());
        let settle_by = Instant::now() + SETTLE_TIME;
        let mut say_at = Instant::now();
        loop {
            let is_over =
                if world.is_in(Phase::Talk) { Instant::now() >= leave_at } else { Instant::now() >= settle_by };
            if is_over || self.has_finished(world) || world.is_in(Phase::Abort) {
                return Ok(());
            }
            if Instant::now() >= say_at {
                say_at = Instant::now() + SAY_PAUSE.mul_f64(self.rng.f64());
                self.speak(world, &mut client)?;
            }
            match client.poll(say_at.saturating_duration_since(Instant::now()))? {
                Some(Message::Text(text)) => {
                    let told = serde_json::from_str(&text).expect("JSON");
                    self.take(world, &mut client, &told)?;
                }
                Some(Message::Close(_)) => return Err(Error::ConnectionClosed),
                _ => {}
            }
        }
    }

    /// Says something, if it is time to.
    fn speak(&mut self, world: &World, client: &mut WsClient) -> Result<(), Error> {
        if !world.is_complete() {
            return Ok(());
        }
        if world.is_in(Phase::Talk) {
            let room = self.rng.usize(..self.seats.len());
            if self.unheard.len() < WINDOW && self.seats[room].is_in {
                self.said += 1;
                let text = format!("{}.{}", self.name, self.said);
                self.unheard.push((room, text.clone()));
                say(client, self.seats[room].room, &text)?;
            }
        } else if !self.has_said_last && self.seats.iter().all(|seat| seat.is_in) {
            self.has_said_last = true;
            let last = |(room, seat): (usize, &Seat)| (room, format!("{}{FAREWELL}{}", self.name, seat.room));
            let last: Vec<_> = self.seats.iter().enumerate().map(last).collect();
            self.unheard.extend(last.clone());
            for (room, text) in last {
                say(client, self.seats[room].room, &text)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, world: &World, client: &mut WsClient, told: &Value) -> Result<(), Error> {
        match told["type"].as_str().expect("a type") {
            "welcome" => {
                let id = told["you"]["id"].as_str().expect("an id").to_owned();
                assert_eq!(*self.id.get_or_insert(id.clone()), id, "{} stays who they are", self.name);
                self.token = told["token"].as_str().map(str::to_owned);
            }
            "joined" => return self.enter(world, client, told),
            "gap" => {
                assert!(world.may_lose, "{}: nothing was lost: {told}", self.name);
                let upto = told["position"].as_u64().expect("a position");
                let (place, name) = (place_of(told), &self.name);
                let seat = &mut self.seats[place];
                assert!(upto >= seat.known || seat.may_repeat, "{name}: nothing is numbered again: {told}");
                (seat.known, seat.lost_upto) = (seat.known.max(upto), upto);
                seat.believe(world, name, told);
                self.figures.gaps += 1;
            }
            "said" => {
                let place = place_of(told);
                let heard = Heard::new(told);
                if told["repeat"] == true {
                    self.figures.repeats += 1;
                    self.settle(world, place, &heard);
                } else {
                    self.hear(world, place, heard);
                }
            }
            // The connection ends soon, and whoever comes back goes elsewhere.
            "draining" => return Err(Error::ConnectionClosed),
            "presence" | "typing" | "status" | "behind" => {}
            _ => panic!("{}: {told}", self.name),
        }
        Ok(())
    }

    /// Is in a room (again): hears what was missed, and says again what has not come back.
    fn enter(&mut self, world: &World, client: &mut WsClient, told: &Value) -> Result<(), Error> {
        let place = place_of(told);
        let position = told["position"].as_u64().expect("a position");
        let seat = &mut self.seats[place];
        let is_same = seat.epoch.as_ref().is_none_or(|epoch| told["epoch"] == **epoch);
        let is_gap = told["gap"] == true;
        if is_gap && is_same && position < seat.known {
            // Nothing is lost: the instance has not heard yet what we know.
            self.figures.behind += 1;
        } else if is_gap {
            assert!(world.may_lose, "{}: nothing was lost: {told}, after {}", self.name, seat.known);
            self.figures.gaps += 1;
        } else {
            assert!(is_same, "{}: another epoch is a gap: {told}, after {}", self.name, seat.known);
        }
        (seat.is_in, seat.may_repeat) = (true, is_gap);
        seat.believe(world, &self.name, told);
        for said in told["entries"].as_array().expect("entries") {
            self.hear(world, place, Heard::new(said));
        }
        let seat = &mut self.seats[place];
        seat.known = seat.known.max(position);
        if !self.is_present && self.seats.iter().all(|seat| seat.is_in) {
            self.is_present = true;
            world.present.fetch_add(1, Ordering::Relaxed);
        }
        for (_, text) in self.unheard.iter().filter(|(of, _)| *of == place) {
            say(client, ROOMS[place], text)?;
        }
        Ok(())
    }

    fn hear(&mut self, world: &World, place: usize, heard: Heard) {
        if heard.author == self.id {
            self.settle(world, place, &heard);
        }
        let seat = &mut self.seats[place];
        if heard.text.contains(FAREWELL) {
            seat.farewells.insert(heard.text.clone());
        }
        if heard.position > seat.known {
            (seat.known, seat.may_repeat) = (heard.position, false);
            seat.heard.push(heard);
            world.heard.fetch_add(1, Ordering::Relaxed);
            return;
        }
        assert!(seat.may_repeat, "{}: {heard:?} comes again, or too late, after {}", self.name, seat.known);
        match seat.heard.binary_search_by_key(&heard.position, |known| known.position) {
            Ok(known) => assert!(seat.heard[known].is_same(&heard), "{}: {heard:?} was another", self.name),
            Err(_) => assert!(world.may_lose, "{}: {heard:?} was skipped", self.name),
        }
    }

    /// Something that was said here has come back. What was said again behind a loss has its nonce there, and no more at
    /// the place where it was lost.
    fn settle(&mut self, world: &World, place: usize, heard: &Heard) {
        let Some(nonce) = heard.nonce.clone() else {
            assert!(world.may_lose, "{}: {heard:?} has no nonce", self.name);
            return;
        };
        self.unheard.retain(|(_, unheard)| *unheard != nonce);
        let before = self.acknowledged.insert(nonce, (place, heard.position));
        let is_same = before.is_none_or(|before| before == (place, heard.position));
        assert!(is_same || world.may_lose, "{}: {heard:?} was at {before:?}", self.name);
    }
}

impl Seat {
    fn believe(&mut self, world: &World, name: &str, told: &Value) {
        let epoch = told["epoch"].as_str().expect("an epoch");
        if self.epoch.as_deref() != Some(epoch) {
            self.epoch = Some(epoch.to_owned());
            let mut epochs = world.epochs.lock().unwrap_or_else(PoisonError::into_inner);
            epochs.insert((name.to_owned(), self.room), epoch.to_owned());
        }
    }
}

fn place_of(told: &Value) -> usize {
    ROOMS.iter().position(|room| told["room"] == *room).expect("a room in which we are")
}

fn send(client: &mut WsClient, request: &Value) -> Result<(), Error> {
    client.try_send(Message::text(request.to_string()))
}

fn say(client: &mut WsClient, room: &str, text: &str) -> Result<(), Error> {
    send(client, &json!({"type": "say", "room": room, "text": text, "nonce": text}))
}

/// Somebody raw, who hears what is said while they are there.
#[derive(Debug)]
pub struct Shouter {
    name: String,
    said: usize,
    /// What was heard on each connection, with its room.
    pub visits: Vec<(usize, Vec<String>)>,
    rng: fastrand::Rng,
}

impl Shouter {
    pub fn new(name: &str, seed: u64) -> Self {
        Shouter { name: name.to_owned(), said: 0, visits: Vec::new(), rng: fastrand::Rng::with_seed(seed) }
    }

    /// Talks here and there as long as people do.
    pub fn live(&mut self, world: &World) {
        while world.is_in(Phase::Talk) {
            if let Some(address) = world.choose(&mut self.rng).filter(|_| world.is_complete()) {
                let place = self.rng.usize(..ROOMS.len());
                let mut heard = Vec::new();
                let _ = self.visit(world, address, ROOMS[place], &mut heard);
                self.visits.push((place, heard));
            }
            thread::park_timeout(PAUSE.mul_f64(self.rng.f64()));
        }
    }

    fn visit(&mut self, world: &World, address: SocketAddr, room: &str, heard: &mut Vec<String>) -> Result<(), Error> {
        let mut client = WsClient::try_connect(address, &format!("/?room={room}"), &[])?;
        let leave_at = Instant::now() + STAY.mul_f64(self.rng.f64());
        let mut say_at = Instant::now();
        while Instant::now() < leave_at && world.is_in(Phase::Talk) {
            if Instant::now() >= say_at {
                say_at = Instant::now() + SAY_PAUSE.mul_f64(self.rng.f64());
                self.said += 1;
                client.try_send(Message::text(format!("{}.{}", self.name, self.said)))?;
            }
            if let Some(Message::Text(text)) = client.poll(say_at.saturating_duration_since(Instant::now()))? {
                heard.push(text.to_string());
            }
        }
        Ok(())
    }
}
