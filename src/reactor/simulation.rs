//! The whole core in a seeded simulation: the real reactor, with sockets that exist in memory and a clock that jumps.
//!
//! Clients come, talk, read slowly or never, stop in mid-frame, cut their connection and go. One witness per room reads
//! all; what anybody else hears must be a part of the witness's sequence without gap or repeat. Visitors ask for pages
//! meanwhile, and each is answered in order. There are more of them than are let in. Bounds are checked at
//! every step, and when all have left, or the server has drained, nothing may remain. A failure prints its seed; `CHAT_SIM_SEED` runs that one,
//! `CHAT_SIM_RUNS` more of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::Poll;

use crate::chat::entry::Epoch;
use crate::chat::identity::Identities;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::net::connection::ConnectionId;
use crate::net::simulated::{SimulatedSocket, Wire};
use crate::net::transport::Transport;
use crate::site::{Root, Site};
use crate::ws::origin::OriginPolicy;

use super::Reactor;
use super::talk::Gate;

mod visitor;

use visitor::{Seen, VISITORS, Visitor};

const ROOMS: usize = 3;
const STEPS: usize = 1500;

fn limits() -> Limits {
    Limits {
        max_connections: Some(25),
        requests_per_turn: 30,
        entries_per_turn: 15,
        message_timeout: Duration::from_secs(8),
        outbox_high_water_bytes: 600,
        outbox_low_water_bytes: 200,
        outboxes_total_bytes: 20_000,
        max_message_bytes: 300,
        tail_entries: 60,
        tail_bytes: 100_000,
        read_bytes_per_connection: 500,
        read_bytes_per_turn: 2_000,
        max_drafts_in_flight: 20,
        ping_interval: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(30),
        ..Limits::default()
    }
}

/// How a simulated client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temper {
    /// Reads all, answers pings, stays to the end.
    Witness,
    /// Reads all, sooner or later.
    Eager,
    /// Reads a few bytes now and then.
    Slow,
    /// Reads nothing at all.
    Stuck,
}

struct Client {
    number: usize,
    room: usize,
    temper: Temper,
    wire: Rc<RefCell<Wire>>,
    id: ConnectionId,
    /// Bytes it will send, of which some have gone onto the wire.
    unsent: Vec<u8>,
    said: usize,
    /// Bytes it has received and not understood yet.
    received: Vec<u8>,
    is_upgraded: bool,
    heard: Vec<String>,
    closed_with: Option<u16>,
    has_left: bool,
}

struct World {
    seed: u64,
    rng: Rng,
    now: Instant,
    reactor: Reactor,
    clients: Vec<Client>,
    departed: Vec<Client>,
    made: usize,
    visitors: Vec<Visitor>,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let gate = Gate { origins: OriginPolicy::new(&[]).unwrap(), trusted_proxies: Vec::new(), refuses_raw: false };
        let limits = limits();
        let identities = Identities::new([1; 32], [2; 32]);
        let journal = Journal::memory(&limits, Epoch(seed));
        let site = Site::start(Root::Embedded, &limits, || {}).unwrap();
        let reactor = Reactor::new(Poll::new().unwrap(), journal, identities, site, gate, limits, now);
        let mut world = World {
            seed,
            rng: Rng::with_seed(seed),
            now,
            reactor,
            clients: vec![],
            departed: vec![],
            made: 0,
            visitors: vec![],
            seen: Seen::default(),
        };
        for room in 0..ROOMS {
            world.connect(room, Temper::Witness);
        }
        // Nobody speaks before the witnesses are there.
        world.quiesce();
        world
    }

    fn connect(&mut self, room: usize, temper: Temper) {
        let capacity = if temper == Temper::Witness { 1 << 20 } else { self.rng.usize(100..400) };
        let Some((wire, id)) = self.open(capacity) else { return };
        let unsent = format!(
            "GET /?room=r{room} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.clients.push(Client {
            number: self.made,
            room,
            temper,
            wire,
            id,
            unsent: unsent.into_bytes(),
            said: 0,
            received: Vec::new(),
            is_upgraded: false,
            heard: Vec::new(),
            closed_with: None,
            has_left: false,
        });
        self.made += 1;
    }

    /// A connection, unless whoever comes would have to wait in the backlog.
    fn open(&mut self, capacity: usize) -> Option<(Rc<RefCell<Wire>>, ConnectionId)> {
        if !self.reactor.has_slot() {
            return None;
        }
        let wire = Rc::new(RefCell::new(Wire { capacity, ..Wire::default() }));
        let slot = self.reactor.connections.next_slot();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        self.reactor.admit(Transport::Simulated(SimulatedSocket(wire.clone())), peer, self.now);
        Some((wire, self.reactor.connections.at_mut(slot).unwrap().id))
    }

    fn step(&mut self) {
        if self.rng.u8(..) < 20 && self.clients.len() < 40 {
            let temper = *self.rng.choice(&[Temper::Eager, Temper::Eager, Temper::Slow, Temper::Stuck]).unwrap();
            let room = self.rng.usize(..ROOMS);
            self.connect(room, temper);
        }
        if self.rng.u8(..) < 20 && self.visitors.len() < VISITORS {
            self.visit();
        }
        for place in 0..self.clients.len() {
            self.act(place);
        }
        for place in 0..self.visitors.len() {
            self.act_as_visitor(place);
        }
        self.now += Duration::from_millis(self.rng.u64(0..200));
        self.turn();
    }

    fn act(&mut self, place: usize) {
        let client = &mut self.clients[place];
        if client.has_left {
            return;
        }
        let dice = self.rng.u32(..1000);
        if client.temper != Temper::Witness {
            match dice {
                0..100 if client.closed_with.is_none() => {
                    let padding = "x".repeat(self.rng.usize(..250));
                    let text = format!("{}:{}:{padding}", client.number, client.said);
                    client.said += 1;
                    client.unsent.extend(masked(0x81, text.as_bytes()));
                }
                100..103 => {
                    client.wire.borrow_mut().is_reset = true;
                    client.has_left = true;
                }
                103..106 => {
                    // A half-close: it still reads.
                    client.wire.borrow_mut().client_ended = true;
                }
                106..109 => client.unsent.extend(masked(0x88, &1000_u16.to_be_bytes())),
                109..110 => client.unsent.extend([0x83, 0x80, 0, 0, 0, 0]),
                _ => {}
            }
        }
        // Pieces of what it has to say arrive.
        let piece = self.rng.usize(..=client.unsent.len().min(400));
        let has_ended = client.wire.borrow().client_ended;
        if piece > 0 && !has_ended {
            let bytes: Vec<u8> = client.unsent.drain(..piece).collect();
            client.wire.borrow_mut().to_server.extend(bytes);
        }
        self.read(place);
    }

    /// The client reads as much as its temper allows, and the edges that follow are raised.
    fn read(&mut self, place: usize) {
        let client = &mut self.clients[place];
        let bytes = exchange(&mut self.reactor, &mut self.rng, client.temper, &client.wire, client.id);
        client.received.extend(bytes);
    }

    fn turn(&mut self) {
        self.reactor.turn(self.now);
        while self.reactor.connections.has_carried_over() && self.rng.bool() {
            self.reactor.turn(self.now);
        }
        self.check_bounds();
        for place in 0..self.clients.len() {
            self.understand(place);
        }
        self.forget_visitors_who_left();
        let (gone, there): (Vec<_>, Vec<_>) = std::mem::take(&mut self.clients).into_iter().partition(|client| {
            let wire = client.wire.borrow();
            wire.is_closed && (client.has_left || wire.to_client.is_empty() || client.temper == Temper::Stuck)
        });
        self.clients = there;
        self.departed.extend(gone);
    }

    fn check_bounds(&self) {
        let limits = &self.reactor.limits;
        // One batch may overshoot: what a turn reads, and its frames.
        let batch = 2 * limits.read_bytes_per_turn + 300;
        let mut sum = 0;
        for connection in self.reactor.connections.iter() {
            let len = connection.outbox.load();
            assert!(len <= limits.outbox_high_water_bytes + batch, "seed {}: {len} bytes in an outbox", self.seed);
            sum += len;
        }
        assert_eq!(sum, self.reactor.connections.outbox_bytes(), "seed {}: the sum is kept right", self.seed);
        let connections = self.reactor.connections.len();
        assert!(connections <= 25 + super::REFUSALS_AT_ONCE, "seed {}: {connections} connections", self.seed);
        assert!(sum <= limits.outboxes_total_bytes + connections * batch, "seed {}", self.seed);
    }

    /// Parses what a client has received, and answers pings and close frames.
    fn understand(&mut self, place: usize) {
        let client = &mut self.clients[place];
        if !client.is_upgraded {
            let Some(end) = client.received.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            if client.received.starts_with(b"HTTP/1.1 503 ") {
                client.closed_with = Some(503);
                return client.received.clear();
            }
            assert!(client.received.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&client.received));
            client.received.drain(..end + 4);
            client.is_upgraded = true;
        }
        while let Some((opcode, payload)) = take_frame(&mut client.received) {
            assert!(client.closed_with.is_none(), "seed {}: a frame follows the close frame", self.seed);
            match opcode {
                0x81 => client.heard.push(String::from_utf8(payload).expect("text is UTF-8")),
                0x88 => {
                    client.closed_with = Some(u16::from_be_bytes([payload[0], payload[1]]));
                    client.unsent.extend(masked(0x88, &payload[..2]));
                }
                0x89 => client.unsent.extend(masked(0x8a, &payload)),
                other => panic!("seed {}: an unexpected frame {other:#x}", self.seed),
            }
        }
    }

    /// Lets everything that is under way arrive, without the clock moving much.
    fn quiesce(&mut self) {
        for _ in 0..400 {
            for place in 0..self.clients.len() {
                let client = &mut self.clients[place];
                if client.has_left || client.wire.borrow().client_ended {
                    client.unsent.clear();
                }
                if client.temper != Temper::Stuck && client.temper != Temper::Witness {
                    client.temper = Temper::Eager;
                }
                let bytes = std::mem::take(&mut client.unsent);
                client.wire.borrow_mut().to_server.extend(bytes);
                self.read(place);
            }
            self.hurry_visitors();
            self.turn();
        }
    }

    /// The server ends, and nobody has to be cut off for it.
    fn drain(&mut self) {
        self.reactor.begin_draining(self.now);
        self.quiesce();
        for client in &self.clients {
            let wire = client.wire.borrow();
            let is_present = !client.has_left && !wire.client_ended && client.temper != Temper::Stuck;
            assert!(!is_present || client.closed_with.is_some(), "seed {}: {} is told", self.seed, client.number);
        }
        // Who reads nothing has its time, and who is in the middle of a request.
        for _ in 0..200 {
            self.now += Duration::from_secs(1);
            self.hurry_visitors();
            self.turn();
        }
        assert!(self.reactor.connections.is_empty(), "seed {}: {:?}", self.seed, self.reactor.connections);
    }

    fn check_what_was_heard(&self) {
        for room in 0..ROOMS {
            let witness =
                &self.clients.iter().find(|it| it.room == room && it.temper == Temper::Witness).unwrap().heard;
            let place_of: HashMap<&str, usize> =
                witness.iter().enumerate().map(|(place, text)| (text.as_str(), place)).collect();
            assert_eq!(place_of.len(), witness.len(), "seed {}: something was heard twice", self.seed);
            let mut next = HashMap::new();
            for text in witness {
                let mut parts = text.split(':').map(str::parse::<usize>);
                let (Some(Ok(sender)), Some(Ok(number))) = (parts.next(), parts.next()) else { panic!("{text}") };
                let expected = next.entry(sender).or_insert(0);
                assert_eq!(number, *expected, "seed {}: {sender} is heard in order, without gap", self.seed);
                *expected += 1;
            }
            for client in self.clients.iter().chain(&self.departed).filter(|client| client.room == room) {
                let Some(first) = client.heard.first() else { continue };
                let start = place_of[first.as_str()];
                assert_eq!(
                    client.heard,
                    witness[start..start + client.heard.len()],
                    "seed {}: {} ({:?}) hears a part of what the witness hears",
                    self.seed,
                    client.number,
                    client.temper
                );
                let is_present = client.closed_with.is_none() && !client.wire.borrow().client_ended;
                if is_present && client.temper == Temper::Eager && !client.has_left {
                    assert_eq!(client.heard.last(), witness.last(), "seed {}: {} is level", self.seed, client.number);
                }
            }
        }
    }

    /// Everybody goes; nothing may remain.
    fn end(&mut self) {
        for place in 0..self.clients.len() {
            self.clients[place].wire.borrow_mut().is_reset = true;
            self.read(place);
        }
        self.reset_visitors();
        for _ in 0..10 {
            self.turn();
        }
        let reactor = &self.reactor;
        assert!(reactor.connections.is_empty(), "seed {}: {} slots", self.seed, reactor.connections.len());
        assert_eq!(reactor.connections.outbox_bytes(), 0, "seed {}", self.seed);
        assert!(reactor.hub.is_empty() && reactor.hub.rooms() == 0, "seed {}", self.seed);
        assert_eq!((reactor.hub.catching_up(), reactor.journal.in_flight()), (0, 0), "seed {}", self.seed);
        assert!(reactor.timers.is_empty(), "seed {}: {} timers", self.seed, reactor.timers.len());
        assert!(reactor.streams.is_empty() && reactor.waiting.is_empty(), "seed {}", self.seed);
        assert!(reactor.connections.held() == 0 && reactor.farewells.is_empty(), "seed {}", self.seed);
    }
}

/// A client takes as much as its temper allows, and the edges that follow are raised.
fn exchange(reactor: &mut Reactor, rng: &mut Rng, temper: Temper, wire: &RefCell<Wire>, id: ConnectionId) -> Vec<u8> {
    let wire = &mut *wire.borrow_mut();
    let most = match temper {
        Temper::Witness => wire.to_client.len(),
        Temper::Eager => rng.usize(..=wire.to_client.len()),
        Temper::Slow if rng.u8(..) < 30 => wire.to_client.len().min(30),
        Temper::Slow | Temper::Stuck => 0,
    };
    let bytes = wire.to_client.drain(..most).collect();
    let has_input = !wire.to_server.is_empty() || wire.client_ended || wire.is_reset;
    let has_room = wire.to_client.len() < wire.capacity;
    let writable = (wire.writer_waits && has_room) || wire.is_reset;
    if most > 0 && wire.writer_waits {
        wire.writer_waits = !has_room;
    }
    if !wire.is_closed {
        reactor.connections.mark(id.slot, has_input, writable, wire.client_ended || wire.is_reset);
    }
    bytes
}

/// A client's frame, masked with a key that is easy to read.
pub(super) fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![head];
    match u8::try_from(payload.len()) {
        Ok(len @ 0..=125) => frame.push(0x80 | len),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    let key = [1, 2, 3, 4];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Takes a whole server's frame off the front, if there is one.
pub(super) fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (head, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        len @ 0..=125 => (2, usize::from(len)),
        len => panic!("no message is that long, nor is a server's frame masked: {len}"),
    };
    if bytes.len() < head + len {
        return None;
    }
    let opcode = bytes[0];
    let payload = bytes[head..head + len].to_vec();
    bytes.drain(..head + len);
    Some((opcode, payload))
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.quiesce();
    world.check_what_was_heard();
    world.check_what_visitors_saw();
    if seed.is_multiple_of(3) {
        world.drain();
    }
    world.end();
    world
}

#[test]
fn members_hear_the_same_in_order_within_bounds_and_nothing_remains() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("CHAT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CHAT_SIM_RUNS").unwrap_or(12),
    };
    let (mut heard, mut behind, mut drained) = (0, 0, 0);
    let (mut responses, mut refusals, mut timeouts) = (0, 0, 0);
    for seed in seeds {
        let world = run(seed);
        let clients = world.clients.iter().chain(&world.departed);
        heard += clients.clone().map(|client| client.heard.len()).sum::<usize>();
        let closed_with = |code| clients.clone().filter(|client| client.closed_with == Some(code)).count();
        behind += closed_with(1013);
        drained += closed_with(1001);
        refusals += closed_with(503) + world.seen.refusals;
        responses += world.seen.responses;
        timeouts += world.seen.timeouts;
    }
    assert!(heard > 10_000, "the simulation is lively: {heard} messages were heard");
    assert!(behind > 0, "somebody fell behind everything that is kept");
    assert!(drained > 0 && refusals > 0 && timeouts > 0, "{drained} drained, {refusals} refused, {timeouts} too slow");
    assert!(responses > 1_000, "visitors are lively: {responses} responses");
}
