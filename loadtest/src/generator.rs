//! The loop: one thread that opens, feeds and reads all clients.
//!
//! A run goes through `connect → settle → talk → drain → close`. In all of them `turn` polls once and handles
//! what has come; between turns the phase sends what is due. Sockets are edge-triggered, so a turn reads each one until
//! a read leaves room in the buffer.
//!
//! It keeps account of itself: time on the CPU less what was spent polling for nothing, and how late messages went out.
//! Without that, a slow generator would be taken for a slow server.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use mio::event::Event as Readiness;
use mio::{Events, Token};

use crate::client::{Client, Phase};
use crate::clock::{self, MILLISECOND, SECOND};
use crate::frame::{self, Fault, Opcode};
use crate::handshake::{Request, Response};
use crate::inbound::Event;
use crate::ledger::Ledger;
use crate::options::{Pace, Plan};
use crate::poller::Poller;
use crate::process;
use crate::report::{Facts, Sample};
use crate::schedule::Schedule;
use crate::target;
use crate::times::Times;

/// Handshakes under way at once: what fits into the smallest backlog that servers commonly listen with.
const MAX_HANDSHAKES: usize = 128;
/// Handshakes are given up when none has succeeded for this long.
const HANDSHAKE_PATIENCE: u64 = 30 * SECOND;
/// Servers get this long to close their side at the end.
const CLOSE_PATIENCE: u64 = 2 * SECOND;
/// After everything was delivered we listen this long for duplicates.
const DUPLICATE_PATIENCE: u64 = SECOND / 10;
/// A sender with more unsent bytes is given no more messages. They stay due, and their latency counts on.
const MAX_UNSENT_BYTES: usize = 1024 * 1024;
/// With much to read a turn is long, so it is interrupted for what is due.
const EVENTS_BETWEEN_SENDS: usize = 32;
/// Room for reads, shared by all clients.
const BUFFER_BYTES: usize = 256 * 1024;
/// What a server may wrap around a message, beyond its size.
const MAX_WRAPPING_BYTES: usize = 64 * 1024;

/// All clients of a run and the loop that serves them.
#[derive(Debug)]
pub struct Generator {
    plan: Plan,
    poller: Poller,
    events: Option<Events>,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    request: Request,
    ledger: Ledger,
    /// Handshakes that have neither succeeded nor failed.
    handshakes: usize,
    last_handshake: u64,
    schedule: Schedule,
    /// When a full socket has last kept us from sending. Lateness until then is not the generator's.
    held_back_until: u64,
    /// Senders of a closed loop that may send, once for each message.
    may_proceed: Vec<usize>,
    /// Clients that were given something to send.
    dirty: Vec<usize>,
    masks: Masks,
    lag: Times,
    handshake_times: Times,
    refusals: BTreeMap<String, u64>,
    closes: BTreeMap<String, u64>,
    pings: u64,
}

impl Generator {
    /// Prepares a run; `run` tells its messages from those of others.
    pub fn new(plan: Plan, run: u32) -> io::Result<Self> {
        // Servers walk their members in the order they came, so the senders are spread over it.
        let sender_clients = (0..plan.senders).map(|sender| sender * plan.clients / plan.senders).collect();
        let closed_loop = match plan.pace {
            Pace::ClosedLoop { until, .. } => Some(until),
            Pace::Idle | Pace::OnSchedule { .. } => None,
        };
        let mut seed = [0; 16];
        seed[..4].copy_from_slice(&run.to_ne_bytes());
        Ok(Generator {
            poller: Poller::new(plan.spin)?,
            events: Some(Events::with_capacity(4096)),
            clients: Vec::with_capacity(plan.clients),
            buffer: vec![0; BUFFER_BYTES],
            request: Request::new(&plan.target.authority, &plan.target.path, seed),
            ledger: Ledger::new(run, plan.size, plan.clients, sender_clients, closed_loop),
            handshakes: 0,
            last_handshake: 0,
            schedule: Schedule::default(),
            held_back_until: 0,
            may_proceed: Vec::new(),
            dirty: Vec::new(),
            masks: Masks(u64::from(run) << 1 | 1),
            lag: Times::default(),
            handshake_times: Times::default(),
            refusals: BTreeMap::new(),
            closes: BTreeMap::new(),
            pings: 0,
            plan,
        })
    }

    /// The whole run. `progress` is told of each phase in a few words.
    pub fn run(mut self, server: SocketAddr, mut progress: impl FnMut(&str)) -> io::Result<Facts> {
        let mut facts = Facts { resident_at_start: self.resident(), ..Facts::default() };
        progress(&format!("opening {} connections", self.plan.clients));
        facts.connect_time = self.connect(server)?;
        self.idle_until(clock::now() + self.plan.settle)?;
        facts.connected = self.ledger.receivers();
        facts.resident_connected = self.resident();
        if facts.connected > 0 {
            progress(&format!("{} connected, running", facts.connected));
            (facts.from, facts.to, facts.unsent) = self.talk()?;
            facts.resident_at_end = self.resident();
            progress("waiting for the last deliveries");
            self.drain()?;
            self.close()?;
        }
        (facts.counts, facts.to_each, facts.to_last) = self.ledger.close();
        facts.lag = self.lag;
        facts.handshake_times = self.handshake_times;
        facts.refusals = self.refusals;
        facts.closes = self.closes;
        facts.pings = self.pings;
        Ok(facts)
    }

    /// Opens all clients and returns how long that took, in nanoseconds.
    fn connect(&mut self, server: SocketAddr) -> io::Result<u64> {
        let started = clock::now();
        self.last_handshake = started;
        let mut ramp = self.plan.ramp.map(|rate| Schedule::new(started, u64::MAX, rate));
        while self.clients.len() < self.plan.clients || self.handshakes > 0 {
            let now = clock::now();
            let mut wake_at = now + SECOND;
            while self.clients.len() < self.plan.clients && self.handshakes < MAX_HANDSHAKES {
                if let Some(ramp) = &mut ramp {
                    match ramp.due() {
                        Some(due) if due > now => {
                            wake_at = wake_at.min(due);
                            break;
                        }
                        _ => ramp.advance(),
                    }
                }
                self.open(server);
            }
            if self.handshakes > 0 && now > self.last_handshake + HANDSHAKE_PATIENCE {
                self.give_up_handshakes();
            }
            self.turn(wake_at)?;
        }
        Ok(clock::now() - started)
    }

    fn open(&mut self, server: SocketAddr) {
        let index = self.clients.len();
        let source = target::source_for(index, self.plan.clients, server);
        match Client::open(server, source, self.poller.registry(), Token(index), clock::now()) {
            Ok(client) => {
                self.clients.push(client);
                self.handshakes += 1;
            }
            Err(err) => {
                self.clients.push(Client::gone());
                count(&mut self.refusals, err.to_string());
            }
        }
    }

    fn give_up_handshakes(&mut self) {
        for index in 0..self.clients.len() {
            if matches!(self.clients[index].phase, Phase::Connecting { .. } | Phase::Asked { .. }) {
                self.lose(index, "no answer to the handshake");
            }
        }
    }

    /// Sends and hears until the time is over; gives the samples at both ends of the measured interval and how many
    /// messages that were due could not be sent.
    fn talk(&mut self) -> io::Result<(Sample, Sample, u64)> {
        let start = clock::now() + MILLISECOND;
        let measured = start + self.plan.warmup..start + self.plan.warmup + self.plan.measure;
        self.ledger.measure(measured.clone());
        match self.plan.pace {
            Pace::Idle => {}
            Pace::OnSchedule { per_second } => self.schedule = Schedule::new(start, measured.end, per_second),
            Pace::ClosedLoop { window, .. } => {
                let senders = 0..self.plan.senders;
                self.may_proceed = senders.flat_map(|sender| (0..window).map(move |_| sender)).collect();
            }
        }

        let mut from = None;
        loop {
            let now = clock::now();
            if from.is_none() && now >= measured.start {
                from = Some(self.sample());
            }
            if now >= measured.end || self.ledger.receivers() == 0 {
                break;
            }
            self.ledger.take_may_proceed(&mut self.may_proceed);
            self.send_due(now);
            let boundary = if from.is_none() { measured.start } else { measured.end };
            let wake_at = match self.schedule.due() {
                // Who is held back is woken by its socket.
                Some(due) if due > now => boundary.min(due),
                _ => boundary,
            };
            self.turn(wake_at)?;
        }

        let to = self.sample();
        // A closed loop ends here; what was due on schedule is still sent.
        self.may_proceed.clear();
        self.send_due(measured.end);
        Ok((from.unwrap_or_default(), to, std::mem::take(&mut self.schedule).count()))
    }

    /// Sends what is due at `now`, and in a closed loop what may follow.
    fn send_due(&mut self, now: u64) {
        while let Some(due) = self.schedule.due() {
            let sender = (self.schedule.index() % self.plan.senders as u64) as usize;
            if due > now {
                break;
            }
            if self.is_held_back(sender) {
                self.held_back_until = now;
                break;
            }
            self.lag.record(now - due.max(self.held_back_until.min(now)));
            self.send(sender, due);
            self.schedule.advance();
        }
        while let Some(sender) = self.may_proceed.pop() {
            self.send(sender, now);
        }
        while let Some(client) = self.dirty.pop() {
            self.flush(client);
        }
    }

    /// Hears what is still on its way.
    fn drain(&mut self) -> io::Result<()> {
        let patience = clock::now() + self.plan.drain;
        while !self.ledger.is_settled() && self.ledger.receivers() > 0 {
            let now = clock::now();
            if now >= patience {
                return Ok(());
            }
            self.turn(patience.min(now + SECOND))?;
        }
        if self.ledger.counts().sent > 0 {
            self.idle_until(clock::now() + DUPLICATE_PATIENCE)?;
        }
        Ok(())
    }

    /// Says goodbye and waits a while for the server to do the same.
    fn close(&mut self) -> io::Result<()> {
        let mut leaving = 0;
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            if client.phase == Phase::Open {
                client.phase = Phase::Leaving;
                client.push(Opcode::Close, &1000_u16.to_be_bytes(), self.masks.next());
                leaving += 1;
                self.flush(index);
            }
        }
        let patience = clock::now() + CLOSE_PATIENCE;
        while leaving > 0 && clock::now() < patience {
            self.turn(patience)?;
            leaving = self.clients.iter().filter(|client| client.phase == Phase::Leaving).count();
        }
        Ok(())
    }

    fn idle_until(&mut self, time: u64) -> io::Result<()> {
        while clock::now() < time {
            self.turn(time)?;
        }
        Ok(())
    }

    fn is_held_back(&self, sender: usize) -> bool {
        let client = self.ledger.client_of(sender);
        client.is_some_and(|client| self.clients[client].unsent_bytes() > MAX_UNSENT_BYTES)
    }

    /// Queues a message of `sender`, to be written together with others that are due.
    fn send(&mut self, sender: usize, scheduled: u64) {
        let Some(client) = self.ledger.client_of(sender) else { return };
        let payload = self.ledger.send(sender, scheduled);
        self.clients[client].push(Opcode::Text, payload, self.masks.next());
        self.dirty.push(client);
    }

    fn flush(&mut self, index: usize) {
        if self.clients[index].unsent_bytes() > 0
            && let Err(err) = self.clients[index].flush()
        {
            self.lose(index, &err.to_string());
        }
    }

    /// Waits for readiness until `wake_at` at the latest, and handles all of it.
    fn turn(&mut self, wake_at: u64) -> io::Result<()> {
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(4096));
        self.poller.wait(wake_at, &mut events)?;
        for (handled, event) in events.iter().enumerate() {
            self.on_ready(event);
            if handled % EVENTS_BETWEEN_SENDS == EVENTS_BETWEEN_SENDS - 1 {
                self.send_due(clock::now());
            }
        }
        self.events = Some(events);
        Ok(())
    }

    fn on_ready(&mut self, event: &Readiness) {
        let index = event.token().0;
        match self.clients[index].phase {
            Phase::Gone => return,
            Phase::Connecting { since } => {
                // A connection that failed says why when it is written to.
                self.clients[index].phase = Phase::Asked { since };
                self.clients[index].push_bytes(&self.request.bytes);
                self.flush(index);
                return;
            }
            Phase::Asked { .. } | Phase::Open | Phase::Leaving => {}
        }
        if event.is_writable() {
            self.flush(index);
        }
        let hung_up = event.is_read_closed() || event.is_error();
        if event.is_readable() || hung_up {
            self.read(index, hung_up);
        }
    }

    /// Reads what there is. A read that leaves room has emptied the socket, unless its end is still to be read.
    fn read(&mut self, index: usize, hung_up: bool) {
        while self.clients[index].phase != Phase::Gone {
            let client = &mut self.clients[index];
            let kept = client.inbound.begin(&mut self.buffer);
            match client.read(&mut self.buffer[kept..]) {
                Ok(0) => return self.lose(index, "end of stream without a close frame"),
                Ok(count) => {
                    let drained = kept + count < self.buffer.len();
                    self.receive(index, kept + count);
                    if drained && !hung_up {
                        return;
                    }
                }
                Err(err) => {
                    client.inbound.keep(&self.buffer[..kept]);
                    match err.kind() {
                        io::ErrorKind::WouldBlock => return,
                        io::ErrorKind::Interrupted => {}
                        _ => return self.lose(index, &err.to_string()),
                    }
                }
            }
        }
    }

    /// Handles the first `filled` bytes of the buffer, which are those of client `index`.
    fn receive(&mut self, index: usize, filled: usize) {
        let head_bytes = match self.clients[index].phase {
            Phase::Asked { since } => match self.request.judge(&self.buffer[..filled]) {
                Response::NotYet => return self.clients[index].inbound.keep(&self.buffer[..filled]),
                Response::Refused(reason) => return self.lose(index, &reason),
                Response::Upgraded { head_bytes } => {
                    self.upgraded(index, since);
                    head_bytes
                }
            },
            _ => 0,
        };

        let now = clock::now();
        let Generator { clients, buffer, ledger, masks, pings, plan, .. } = self;
        let client = &mut clients[index];
        let is_open = client.phase == Phase::Open;
        let bytes = &buffer[head_bytes..filled];
        let may_skip = is_open && client.inbound.is_between_messages();
        let mut at = if may_skip { ledger.hear_again(index, bytes, now) } else { 0 };
        let mut pongs: Vec<u8> = Vec::new();
        let end = loop {
            let start = at;
            match client.inbound.next(bytes, &mut at, plan.size + MAX_WRAPPING_BYTES) {
                Ok(Some(Event::Message(payload))) => {
                    if is_open {
                        ledger.hear(index, payload, &bytes[start..at], now);
                    }
                }
                Ok(Some(Event::Ping(payload))) => {
                    *pings += 1;
                    frame::push_masked(&mut pongs, Opcode::Pong, payload, masks.next().to_ne_bytes());
                }
                Ok(Some(Event::Close { code })) => break Some(End::Closed(code)),
                Ok(None) => break None,
                Err(fault) => break Some(End::Fault(fault)),
            }
        };
        client.inbound.keep(&bytes[at..]);
        if !pongs.is_empty() && is_open {
            client.push_bytes(&pongs);
            self.flush(index);
        }
        match end {
            Some(End::Closed(code)) => self.on_close(index, code),
            Some(End::Fault(fault)) => self.lose(index, &format!("protocol error: {fault}")),
            None => {}
        }
    }

    fn upgraded(&mut self, index: usize, since: u64) {
        let now = clock::now();
        self.handshake_times.record(now - since);
        self.last_handshake = now;
        self.handshakes -= 1;
        self.clients[index].phase = Phase::Open;
        self.ledger.join(index);
    }

    /// The server closes; if it began, its frame is answered before the socket goes (RFC 6455, section 5.5.1).
    fn on_close(&mut self, index: usize, code: u16) {
        let client = &mut self.clients[index];
        if client.phase == Phase::Open {
            let payload = if code == 1005 { Vec::new() } else { code.to_be_bytes().to_vec() };
            client.push(Opcode::Close, &payload, self.masks.next());
            // That the answer cannot be sent any more changes nothing.
            let _ = client.flush();
        }
        self.lose(index, &format!("closed with {code}"));
    }

    /// The end of a client, for `reason` unless we wanted it.
    fn lose(&mut self, index: usize, reason: &str) {
        match self.clients[index].phase {
            Phase::Gone => return,
            Phase::Leaving => {}
            Phase::Connecting { .. } | Phase::Asked { .. } => {
                self.handshakes -= 1;
                self.last_handshake = clock::now();
                count(&mut self.refusals, reason.to_owned());
            }
            Phase::Open => {
                count(&mut self.closes, reason.to_owned());
                self.ledger.leave(index);
            }
        }
        self.clients[index].drop_socket();
    }

    fn sample(&self) -> Sample {
        Sample {
            at: clock::now(),
            delivered: self.ledger.counts().delivered,
            thread_cpu: clock::thread_cpu(),
            spun: self.poller.spun(),
            waited: process::cpu_time(std::process::id()).map_or(0, |time| time.waited),
            server: self.plan.pid.and_then(|pid| process::cpu_time(pid).ok()),
        }
    }

    fn resident(&self) -> Option<u64> {
        self.plan.pid.and_then(|pid| process::resident_bytes(pid).ok())
    }
}

fn count(table: &mut BTreeMap<String, u64>, reason: String) {
    *table.entry(reason).or_default() += 1;
}

/// Why nothing more is heard from a server.
enum End {
    Closed(u16),
    Fault(Fault),
}

/// Masking keys, from a xorshift generator: they need only differ here, since nothing between us and the server is
/// to be protected from what a page might send (RFC 6455, section 10.3).
#[derive(Debug)]
struct Masks(u64);

impl Masks {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
}
