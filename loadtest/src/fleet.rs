//! The loop: one thread that opens, feeds and reads all clients.
//!
//! [`Fleet::turn`] polls once and handles what has come. Sockets are edge-triggered, so a turn reads each one until a read
//! leaves room in the buffer; those that read slowly wait for the next tick of the loop instead. What is sent, and what a
//! run goes through, is decided elsewhere: in [`crate::talk`] and [`crate::scenario`].

mod hear;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use mio::{Events, Token};

use crate::chat::{self, Person, Sayer};
use crate::client::{Client, Phase, Reading, Route};
use crate::clock::{self, MILLISECOND, SECOND};
use crate::facts::Sample;
use crate::frame::Opcode;
use crate::handshake::Request;
use crate::ledger::Ledger;
use crate::monitor::{Monitor, Snapshot};
use crate::plan::{Dialect, Pace, Plan};
use crate::poller::Poller;
use crate::process;
use crate::returns::Returns;
use crate::schedule::Schedule;
use crate::target;
use crate::times::Times;
use crate::trust::Secure;
use crate::web::Web;

/// Handshakes under way at once: what fits into the smallest backlog that servers commonly listen with.
pub const MAX_HANDSHAKES: usize = 128;
/// Handshakes are given up when none has succeeded for this long.
const HANDSHAKE_PATIENCE: u64 = 30 * SECOND;
/// With much to read a turn is long, so it is interrupted for what is due.
const EVENTS_BETWEEN_SENDS: usize = 32;
/// Room for reads, shared by all clients.
const BUFFER_BYTES: usize = 256 * 1024;
/// What the kernel may hold for a client that is going to read slowly, so that the server notices.
const NARROW_BUFFER_BYTES: usize = 16 * 1024;
/// How often those that read slowly read.
pub const TICK: u64 = 50 * MILLISECOND;
/// The first token of the connections that ask the site.
const WEB_TOKENS: usize = usize::MAX / 2;

/// What is counted beside messages.
#[derive(Debug, Default)]
pub struct Tally {
    /// Duration of handshakes, from the first packet.
    pub handshake_times: Times,
    /// Clients that did not get in, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Clients that were thrown out, by reason.
    pub closes: BTreeMap<String, u64>,
    /// What the server has refused to do, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Members that were told that something they have missed does not come.
    pub gaps: u64,
    /// Pings that were answered.
    pub pings: u64,
    /// Bytes of members' sockets.
    pub bytes_received: u64,
    /// What a member may say per second, as the server has told; 0 for any.
    pub say_per_second: f64,
}

/// All clients of a run and the loop that serves them.
#[derive(Debug)]
pub struct Fleet {
    pub(crate) plan: Plan,
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    pub(crate) monitor: Monitor,
    pub(crate) returns: Returns,
    pub(crate) web: Option<Web>,
    pub(crate) schedule: Schedule,
    /// When a full socket has last kept us from sending. Lateness until then is not the generator's.
    pub(crate) held_back_until: u64,
    /// Senders of a closed loop that may send, once for each message.
    pub(crate) may_proceed: Vec<usize>,
    /// Clients that were given something to send.
    pub(crate) dirty: Vec<usize>,
    pub(crate) lag: Times,
    pub(crate) clients: Vec<Client>,
    pub(crate) masks: Masks,
    pub(crate) sayer: Option<Sayer>,
    /// Members, and places for those that come and go behind them.
    pub(crate) members: usize,
    /// Those that are going to read slowly.
    pub(crate) slow: usize,
    /// Those that are going to come back if they are thrown out.
    pub(crate) comes_back: Range<usize>,
    pub(crate) servers: Vec<SocketAddr>,
    /// How to be sure of each, where TLS is spoken.
    pub(crate) secure: Vec<Option<Secure>>,
    room: String,
    requests: Vec<Request>,
    people: Vec<Person>,
    poller: Poller,
    events: Option<Events>,
    buffer: Vec<u8>,
    /// Handshakes that have neither succeeded nor failed.
    handshakes: usize,
    last_handshake: u64,
    /// Clients that do not read at once.
    unhurried: Vec<usize>,
    next_tick: u64,
}

impl Fleet {
    /// Prepares a run against `servers`; `run` tells its messages from those of others.
    pub fn new(plan: Plan, servers: Vec<SocketAddr>, run: u32, monitor: Monitor) -> io::Result<Self> {
        let closed_loop = match plan.pace {
            Pace::ClosedLoop { until, .. } => Some(until),
            Pace::Idle | Pace::OnSchedule { .. } => None,
        };
        let mut seed = [0; 16];
        seed[..4].copy_from_slice(&run.to_ne_bytes());
        let protocol = (plan.dialect == Dialect::V1).then_some(chat::PROTOCOL);
        let request = |target: &target::Target| Request::new(&target.authority, &target.path, seed, protocol);
        let members = plan.own_clients();
        let places = members + plan.visitors();
        let room = plan.targets[0].room();
        let tls = plan.tls.as_ref().map(|(_, config)| config);
        let secure: Result<_, String> = plan.targets.iter().map(|target| target.secure(tls)).collect();
        let secure = secure.map_err(io::Error::other)?;
        let mut ledger = Ledger::new(run, plan.size, places, plan.sender_clients(), closed_loop);
        if plan.part.of > 1 {
            ledger.share();
        }
        Ok(Fleet {
            ledger,
            tally: Tally::default(),
            monitor,
            returns: Returns::default(),
            web: None,
            schedule: Schedule::default(),
            held_back_until: 0,
            may_proceed: Vec::new(),
            dirty: Vec::new(),
            lag: Times::default(),
            clients: (0..places).map(|_| Client::gone()).collect(),
            masks: Masks::new(run),
            sayer: (plan.dialect == Dialect::V1).then(|| Sayer::new(&room)),
            members,
            slow: 0,
            comes_back: 0..0,
            servers,
            secure,
            room,
            requests: plan.targets.iter().map(request).collect(),
            people: vec![Person::default(); if plan.dialect == Dialect::V1 { places } else { 0 }],
            poller: Poller::new(plan.spin)?,
            events: Some(Events::with_capacity(4096)),
            buffer: vec![0; BUFFER_BYTES],
            handshakes: 0,
            last_handshake: 0,
            unhurried: Vec::new(),
            next_tick: 0,
            plan,
        })
    }

    /// Opens `places` and waits for their handshakes, at most `at_once` of them under way; returns how long that took, in
    /// nanoseconds.
    pub fn open_all(&mut self, places: impl Iterator<Item = usize>, at_once: usize) -> io::Result<u64> {
        let started = clock::now();
        self.last_handshake = started;
        let mut places: VecDeque<usize> = places.collect();
        let mut ramp = self.plan.ramp.map(|rate| Schedule::new(started, u64::MAX, rate));
        while !places.is_empty() || self.handshakes > 0 {
            let now = clock::now();
            let mut wake_at = now + SECOND;
            while self.handshakes < at_once
                && let Some(&place) = places.front()
            {
                if let Some(ramp) = &mut ramp {
                    match ramp.due() {
                        Some(due) if due > now => {
                            wake_at = wake_at.min(due);
                            break;
                        }
                        _ => ramp.advance(),
                    }
                }
                places.pop_front();
                self.open(place);
            }
            if self.handshakes > 0 && now > self.last_handshake + HANDSHAKE_PATIENCE {
                self.give_up_handshakes();
            }
            self.turn(wake_at)?;
        }
        Ok(clock::now() - started)
    }

    /// Which of all clients, in all processes, the one at `place` is.
    pub(crate) fn index_of(&self, place: usize) -> usize {
        place * self.plan.part.of + self.plan.part.index
    }

    /// Begins to open the client at `place`.
    pub fn open(&mut self, place: usize) {
        let server = self.servers[place % self.servers.len()];
        let is_slow = (self.members - self.slow..self.members).contains(&place);
        let route = Route {
            server,
            source: target::source_for(self.index_of(place), self.plan.clients + self.plan.visitors(), server),
            receive_buffer: is_slow.then_some(NARROW_BUFFER_BYTES),
        };
        let secure = self.secure[place % self.servers.len()].as_ref();
        match Client::open(route, secure, self.poller.registry(), Token(place), clock::now()) {
            Ok(client) => {
                self.clients[place] = client;
                self.handshakes += 1;
            }
            Err(err) => {
                self.clients[place] = Client::gone();
                count(&mut self.tally.refusals, err.to_string());
            }
        }
    }

    fn give_up_handshakes(&mut self) {
        for place in 0..self.clients.len() {
            if !matches!(self.clients[place].phase, Phase::Open | Phase::Leaving | Phase::Gone) {
                self.lose(place, "no answer to the handshake");
            }
        }
    }

    /// The client at `place` is cut off without a word; it means to come back, and to miss nothing.
    pub fn cut(&mut self, place: usize) {
        self.clients[place].cut();
        self.ledger.stay_away(place);
    }

    /// The client at `place` is cut off without a word, and does not mind what it misses.
    pub fn forsake(&mut self, place: usize) {
        self.clients[place].cut();
        self.ledger.leave(place);
    }

    /// The visitor at `place` goes: half of them say goodbye, half are cut.
    pub fn end_visit(&mut self, place: usize, politely: Option<()>) {
        match (&self.clients[place].phase, politely) {
            (Phase::Gone | Phase::Leaving, _) => {}
            (Phase::Open, Some(())) => {
                self.ledger.leave(place);
                self.say_goodbye(place);
            }
            (Phase::Open, None) => self.forsake(place),
            _ => {
                // It was not in yet.
                self.handshake_done(clock::now());
                self.forsake(place);
            }
        }
    }

    /// Sends a close frame to the client at `place`.
    pub fn say_goodbye(&mut self, place: usize) {
        let client = &mut self.clients[place];
        client.phase = Phase::Leaving;
        client.push(Opcode::Close, &1000_u16.to_be_bytes(), self.masks.next());
        self.flush(place);
    }

    /// How the client at `place` reads from now on.
    pub fn set_reading(&mut self, place: usize, reading: Reading) {
        self.clients[place].reading = reading;
        self.unhurried.retain(|&other| other != place);
        match reading {
            Reading::Eager => self.read(place, false),
            Reading::Throttled(_) | Reading::Stopped => self.unhurried.push(place),
        }
    }

    /// Turns until `time`.
    pub fn idle_until(&mut self, time: u64) -> io::Result<()> {
        while clock::now() < time {
            self.turn(time)?;
        }
        Ok(())
    }

    /// Waits for readiness until `wake_at` at the latest, and handles all of it.
    pub fn turn(&mut self, wake_at: u64) -> io::Result<()> {
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(4096));
        let tick = if self.unhurried.is_empty() { u64::MAX } else { self.next_tick };
        let wake_at = wake_at.min(tick).min(self.monitor.next());
        self.poller.wait(wake_at, &mut events)?;
        for (handled, event) in events.iter().enumerate() {
            self.on_ready(event);
            if handled % EVENTS_BETWEEN_SENDS == EVENTS_BETWEEN_SENDS - 1 {
                self.send_due(clock::now());
            }
        }
        self.events = Some(events);
        let now = clock::now();
        if now >= tick {
            self.next_tick = now + TICK;
            self.read_a_little();
        }
        if now >= self.monitor.next() {
            let snapshot = self.snapshot();
            self.monitor.take(snapshot, self.ledger.to_each());
        }
        Ok(())
    }

    /// The site is asked by `web` from now on.
    pub fn attach(&mut self, mut web: Web) -> io::Result<()> {
        web.open(self.poller.registry(), WEB_TOKENS)?;
        self.web = Some(web);
        Ok(())
    }

    /// Clients that take part now.
    pub fn connected(&self) -> u32 {
        self.clients.iter().filter(|client| client.phase == Phase::Open).count() as u32
    }

    /// What both sides have done up to now.
    pub fn sample(&self) -> Sample {
        Sample {
            at: clock::now(),
            sent: self.ledger.counts().sent,
            delivered: self.ledger.counts().delivered,
            bytes_received: self.tally.bytes_received,
            thread_cpu: clock::thread_cpu(),
            spun: self.poller.spun(),
            waited: process::usage(std::process::id()).map_or(0, |usage| usage.waited),
            servers: process::usages(&self.plan.pids),
        }
    }

    /// Resident memory of the server, of all its instances together, in bytes.
    pub fn resident(&self) -> Option<u64> {
        process::resident_bytes_of_all(&self.plan.pids)
    }

    fn snapshot(&self) -> Snapshot {
        let worked = clock::thread_cpu().saturating_sub(self.poller.spun());
        let servers = process::usages(&self.plan.pids);
        Snapshot {
            at: clock::now(),
            counts: *self.ledger.counts(),
            connected: self.connected(),
            worked,
            server_cpu: (!servers.is_empty()).then(|| servers.iter().map(|usage| usage.total).sum()),
            resident: self.resident(),
        }
    }
}

pub(crate) fn count(table: &mut BTreeMap<String, u64>, reason: String) {
    *table.entry(reason).or_default() += 1;
}

/// Masking keys, from a xorshift generator: they need only differ here, since nothing between us and the server is
/// to be protected from what a page might send (RFC 6455, section 10.3).
#[derive(Debug)]
pub(crate) struct Masks(u64);

impl Masks {
    fn new(seed: u32) -> Self {
        Masks(u64::from(seed) << 1 | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
}
