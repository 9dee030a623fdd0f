//! What all clients of the simulation share: the chance, the clock, the instances of the server, and the truth.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::Poll;

use crate::chat::identity::Identities;
use crate::chat::report::InstanceId;
use crate::journal::Journal;
use crate::journal::simulated::{Broker, Keeps, SimulatedJournal};
use crate::limits::Limits;
use crate::net::connection::{Connection, ConnectionId, Protocol};
use crate::net::simulated::{SimulatedSocket, Wire};
use crate::net::transport::Transport;
use crate::site::{Root, Site};
use crate::ws::origin::OriginPolicy;

use super::common::Common;
use super::ghost::Ghost;
use super::line::{Line, Temper};
use super::oracle::Truth;
use crate::reactor::talk::Gate;
use crate::reactor::{REFUSALS_AT_ONCE, Reactor};

/// A server, and what remains of it while it is down.
pub(super) struct Instance {
    /// `None` while it is down.
    pub(super) reactor: Option<Reactor>,
    /// Counts its processes.
    pub(super) life: u32,
    /// Something has happened on a socket since it last looked.
    has_edge: bool,
    /// Steps until it is started again.
    pub(super) rest: u32,
}

/// What several instances share.
pub(super) struct Bus {
    pub(super) broker: Rc<RefCell<Broker>>,
    pub(super) common: Rc<RefCell<Common>>,
}

/// How often the simulation saw what it is there to see.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) heard: u64,
    pub(super) said: u64,
    pub(super) repeats: u64,
    pub(super) resumed: u64,
    pub(super) gaps: u64,
    pub(super) histories: u64,
    pub(super) found: u64,
    pub(super) refused: u64,
    pub(super) takeovers: u64,
    /// Members that left a room before they were let in.
    pub(super) withdrawn: u64,
    pub(super) fell_behind: u64,
    pub(super) drained: u64,
    pub(super) posts: u64,
    pub(super) streams_resumed: u64,
    pub(super) pictures: u64,
    pub(super) responses: u64,
    pub(super) full: u64,
    pub(super) late_heads: u64,
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) outages: u64,
    /// Joins at another instance than before that were told what was missed.
    pub(super) moved: u64,
    /// Joins that waited until what they had heard came to their instance, and that were told of a gap instead.
    pub(super) waited: u64,
    pub(super) waited_in_vain: u64,
    /// And requests for what was said.
    pub(super) polls_waited: u64,
    pub(super) polls_waited_in_vain: u64,
    /// Turns behind which somebody waited until less was read for those who join, or for those who are behind.
    pub(super) joins_queued: u64,
    pub(super) feeds_queued: u64,
    /// Sessions that were cut, and brokers that were away.
    pub(super) cuts: u64,
    /// How often the log has lost something.
    pub(super) losses: u64,
    /// Made of how full all outboxes were behind each turn: it tells runs apart.
    course: u64,
}

impl Tally {
    /// Adds what another run has seen.
    pub(super) fn add(&mut self, other: &Tally) {
        self.heard += other.heard;
        self.said += other.said;
        self.repeats += other.repeats;
        self.resumed += other.resumed;
        self.gaps += other.gaps;
        self.histories += other.histories;
        self.found += other.found;
        self.refused += other.refused;
        self.takeovers += other.takeovers;
        self.withdrawn += other.withdrawn;
        self.fell_behind += other.fell_behind;
        self.drained += other.drained;
        self.posts += other.posts;
        self.streams_resumed += other.streams_resumed;
        self.pictures += other.pictures;
        self.responses += other.responses;
        self.full += other.full;
        self.late_heads += other.late_heads;
        self.kills += other.kills;
        self.stops += other.stops;
        self.outages += other.outages;
        self.moved += other.moved;
        self.waited += other.waited;
        self.waited_in_vain += other.waited_in_vain;
        self.polls_waited += other.polls_waited;
        self.polls_waited_in_vain += other.polls_waited_in_vain;
        self.joins_queued += other.joins_queued;
        self.feeds_queued += other.feeds_queued;
        self.cuts += other.cuts;
        self.losses += other.losses;
    }

    /// Everything that clients can meet was met.
    pub(super) fn is_lively(&self) -> bool {
        let often = [self.heard, self.said, self.resumed, self.posts, self.responses, self.histories];
        let seen = [self.gaps, self.takeovers, self.fell_behind, self.drained, self.streams_resumed, self.pictures];
        let refused = [self.repeats, self.full, self.late_heads, self.refused, self.kills, self.withdrawn];
        often.iter().all(|count| *count > 100) && seen.iter().chain(&refused).all(|count| *count > 0)
    }

    /// The bus was in trouble, and people went from one instance to another.
    pub(super) fn is_clustered(&self) -> bool {
        self.moved > 20
            && self.cuts > 20
            && self.waited > 5
            && self.waited_in_vain > 5
            && self.polls_waited > 5
            && self.polls_waited_in_vain > 5
            && self.losses > 0
    }

    /// The store was in trouble.
    pub(super) fn is_troubled(&self) -> bool {
        [self.stops, self.outages, self.found, self.joins_queued, self.feeds_queued].iter().all(|count| *count > 0)
    }
}

/// What everybody acts upon.
pub(super) struct Scene {
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) limits: Limits,
    /// Several share a bus.
    pub(super) instances: Vec<Instance>,
    pub(super) bus: Option<Bus>,
    /// What is true at each instance.
    pub(super) truths: Vec<Truth>,
    pub(super) tally: Tally,
    /// Connections whose clients are gone, of which the server does not know.
    pub(super) ghosts: Vec<Ghost>,
    /// Every connection of which there is something left.
    wires: Vec<(usize, Weak<RefCell<Wire>>)>,
    /// Nobody begins anything new, everybody reads, and the store works.
    pub(super) is_quiet: bool,
}

impl Scene {
    pub(super) fn new(rng: Rng, limits: Limits, bus: Option<Bus>, truths: Vec<Truth>) -> Scene {
        let down = |_: &Truth| Instance { reactor: None, life: 0, has_edge: false, rest: 0 };
        let instances = truths.iter().map(down).collect();
        let (now, tally, ghosts, wires) = (Instant::now(), Tally::default(), Vec::new(), Vec::new());
        let mut scene = Scene { rng, now, limits, instances, bus, truths, tally, ghosts, wires, is_quiet: false };
        for place in 0..scene.instances.len() {
            scene.start(place);
        }
        scene
    }

    /// Starts an instance over what the store has.
    pub(super) fn start(&mut self, place: usize) {
        let (truth, limits) = (&self.truths[place], &self.limits);
        let store = Rc::clone(&truth.store);
        let life = self.instances[place].life + 1;
        let journal = match &self.bus {
            Some(bus) => {
                let (broker, rng) = (Rc::clone(&bus.broker), self.rng.fork());
                let keeps = if truth.keeps { Keeps::All } else { Keeps::Nothing };
                SimulatedJournal::on_bus(broker, place, store, keeps, limits, rng, self.now)
            }
            None if truth.keeps => SimulatedJournal::kept(store, limits, self.rng.fork()),
            None => SimulatedJournal::memory(store, limits),
        };
        // A memory journal's key and epoch are gone with its process.
        let key = if truth.keeps { [1; 32] } else { [life as u8; 32] };
        let mut seed = [2; 32];
        seed[..4].copy_from_slice(&life.to_be_bytes());
        seed[4] = place as u8;
        let gate = Gate { origins: OriginPolicy::new(&[]).unwrap(), trusted_proxies: Vec::new(), refuses_raw: false };
        let site = Site::start(Root::Embedded, &self.limits, || {}).unwrap();
        let journal = Journal::Simulated(journal);
        let (epoch, key) = (journal.epoch(), journal.secret().unwrap_or(key));
        let (poll, identities) = (Poll::new().unwrap(), Identities::new(key, seed));
        let mut reactor = Reactor::new(poll, journal, identities, site, gate, self.limits.clone(), self.now);
        if self.bus.is_some() {
            reactor.hub.report_as(InstanceId(self.rng.u64(..)), self.now);
            self.truths[place].reopen_on_bus(epoch, key);
        }
        self.instances[place] = Instance { reactor: Some(reactor), life, has_edge: false, rest: 0 };
        if self.bus.is_none() && self.truths[place].reopen() {
            // What is still on its way from another epoch is not judged.
            self.lose(place, 1000);
        }
        self.wires.retain(|(_, wire)| wire.strong_count() > 0);
    }

    /// Loses what is on its way from processes of an instance that have ended, on so many connections in a thousand.
    pub(super) fn lose(&mut self, place: usize, per_mille: u32) {
        for wire in self.wires.iter().filter(|(at, _)| *at == place).filter_map(|(_, wire)| wire.upgrade()) {
            if self.rng.u32(..1000) < per_mille {
                let mut wire = wire.borrow_mut();
                wire.is_reset = true;
                wire.to_client.clear();
            }
        }
    }

    /// A chance of so many in a thousand.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.u32(..1000) < per_mille
    }

    /// A moment some time from now.
    pub(super) fn later(&mut self, most: Duration) -> Instant {
        self.now + most.mul_f32(self.rng.f32())
    }

    /// A connection, unless the server is down or stopping, or whoever comes would have to wait in the backlog.
    pub(super) fn open(&mut self, temper: Temper) -> Option<Line> {
        let place = self.rng.usize(..self.instances.len());
        let capacity = self.rng.usize(100..4_000);
        let Instance { reactor, life, .. } = &mut self.instances[place];
        let reactor = reactor.as_mut().filter(|it| it.drain_until.is_none() && it.has_slot())?;
        let wire = Rc::new(RefCell::new(Wire { capacity, ..Wire::default() }));
        let slot = reactor.connections.next_slot();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        reactor.admit(Transport::Simulated(SimulatedSocket(wire.clone())), peer, self.now);
        let id = reactor.connections.at_mut(slot).unwrap().id;
        let at = (place, *life);
        self.wires.push((place, Rc::downgrade(&wire)));
        let line = Line { wire, id, at, temper, unsent: Vec::new(), received: Vec::new() };
        self.edge(&line, false, true, false);
        Some(line)
    }

    /// Whoever has asked in order is refused only without place, or because it was too slow.
    pub(super) fn refused(&mut self, status: u16) {
        match status {
            503 => self.tally.full += 1,
            408 => self.tally.late_heads += 1,
            other => panic!("refused with {other}"),
        }
    }

    /// The process is there to which a connection was opened, and has not been cut off.
    pub(super) fn is_up(&self, line: &Line) -> bool {
        let instance = &self.instances[line.at.0];
        instance.life == line.at.1 && instance.reactor.is_some() && !line.wire.borrow().is_reset
    }

    /// The server has a connection, and has not begun to end it.
    pub(super) fn is_open(&self, (place, life): (usize, u32), id: ConnectionId) -> bool {
        let instance = &self.instances[place];
        let reactor = instance.reactor.as_ref().filter(|_| instance.life == life);
        reactor.and_then(|reactor| reactor.connections.get(id)).is_some_and(Connection::is_open)
    }

    /// Tells the server what has happened on its socket, if it is still the same process.
    pub(super) fn edge(&mut self, line: &Line, readable: bool, writable: bool, hung_up: bool) {
        let instance = &mut self.instances[line.at.0];
        if instance.life == line.at.1
            && !line.is_closed()
            && let Some(reactor) = &mut instance.reactor
        {
            reactor.connections.mark(line.id.slot, readable, writable, hung_up);
            instance.has_edge = true;
        }
    }

    /// Lets every instance work that has been woken: by an edge, by its journal, by a deadline, or because it was not
    /// done. Whoever is not woken sleeps on, as the real loop would.
    pub(super) fn turn(&mut self) {
        for place in 0..self.instances.len() {
            let mut is_first = true;
            while let Instance { reactor: Some(reactor), has_edge, .. } = &mut self.instances[place] {
                let mut is_woken = std::mem::take(has_edge);
                if let Journal::Simulated(journal) = &mut reactor.journal
                    && is_first
                {
                    is_woken |= journal.advance(self.now);
                }
                is_woken |= reactor.sleep(self.now).is_some_and(|sleep| sleep.is_zero());
                if !is_woken {
                    break;
                }
                reactor.turn(self.now);
                is_first = false;
                self.tally.course = self.tally.course.rotate_left(7) ^ reactor.connections.outbox_bytes() as u64;
                let [feeds, joins, ..] = reactor.hub.reads();
                self.tally.feeds_queued += u64::from(feeds.waiting > 0);
                self.tally.joins_queued += u64::from(joins.waiting > 0);
                self.truths[place].absorb();
                self.check_bounds(place);
                if self.rng.bool() {
                    break;
                }
            }
        }
    }

    /// Memory stays within its limits, whatever happens.
    fn check_bounds(&self, place: usize) {
        let Some(reactor) = &self.instances[place].reactor else { return };
        let limits = &self.limits;
        // One batch may overshoot: a turn's entries, or the pages and answers to what was asked before the outbox was full.
        let entry = limits.max_message_bytes + 400;
        let batch = entry * limits.entries_per_turn.max(5 * limits.page_entries) + 10_000;
        let mut sum = 0;
        for connection in reactor.connections.iter() {
            let load = connection.outbox.load();
            let most = match connection.protocol {
                // A page of the site.
                Protocol::Http(_) => 64 * 1024,
                Protocol::WebSocket(_) | Protocol::Events => batch,
            };
            assert!(load <= limits.outbox_high_water_bytes + most, "{load} bytes in an outbox of {connection:?}");
            sum += load;
        }
        assert_eq!(sum, reactor.connections.outbox_bytes(), "the sum of all outboxes is kept right");
        let connections = reactor.connections.len();
        assert!(connections <= reactor.max_connections + REFUSALS_AT_ONCE, "{connections} connections");
        assert!(sum <= limits.outboxes_total_bytes + connections * batch, "{sum} bytes in all outboxes");
        let most_reads = [limits.feed_reads, limits.join_reads, limits.ask_reads, limits.ask_reads];
        let shared = reactor.hub.reads();
        for (reads, most) in shared.into_iter().zip(most_reads) {
            assert!(reads.under_way <= most, "of {most}: {reads:?}");
        }
        let tails = reactor.hub.tails_bytes();
        assert!(tails <= limits.tails_total_bytes, "{tails} bytes in tails");
        // One read may bring several drafts.
        let (drafts, bytes) = (reactor.journal.in_flight(), reactor.journal.in_flight_bytes());
        let read = limits.read_bytes_per_connection;
        assert!(drafts <= limits.max_drafts_in_flight + read / 6, "{drafts} drafts in flight");
        assert!(bytes <= limits.max_draft_bytes_in_flight + read + limits.max_message_bytes, "{bytes} in flight");
        let reads = reactor.hub.pending_reads();
        assert!(reads <= shared.iter().map(|it| it.under_way).sum(), "{reads} reads under way, and known {shared:?}");
        let pages = reactor.desk.reads_under_way() * limits.outbox_high_water_bytes;
        assert!(pages < limits.outboxes_total_bytes + limits.outbox_high_water_bytes, "{pages} bytes for HTTP");
        let is_there = |id| reactor.connections.get(id).is_some();
        assert!(reactor.desk.waiting().all(is_there), "somebody who has gone waits: {:?}", reactor.desk);
    }

    /// Nothing is left of anybody.
    pub(super) fn check_empty(&self, place: usize) {
        let Some(reactor) = &self.instances[place].reactor else { return };
        assert!(reactor.connections.is_empty(), "{:?}", reactor.connections);
        assert_eq!((reactor.connections.outbox_bytes(), reactor.connections.held(), reactor.surplus), (0, 0, 0));
        assert!(!reactor.connections.has_carried_over() && reactor.addresses_there.is_empty());
        assert_eq!(reactor.hub.leftovers(), "", "something is left in the hub");
        assert_eq!((reactor.journal.in_flight(), reactor.journal.in_flight_bytes()), (0, 0));
        assert!(reactor.timers.is_empty(), "{} timers are left", reactor.timers.len());
        assert!(reactor.streams.is_empty() && reactor.waiting.is_empty() && reactor.farewells.is_empty());
        let requests = (reactor.desk.waiting().count(), reactor.desk.reads_under_way());
        assert_eq!(requests, (0, 0), "{:?}", reactor.desk);
    }
}
