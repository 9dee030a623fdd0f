//! The world of the simulation: the clients, what befalls the servers and their store, and how it all comes to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;

use crate::chat::entry::Epoch;
use crate::journal::Journal;
use crate::journal::simulated::{Broker, Store};
use crate::limits::Limits;

use super::common::Common;
use super::listener::Listener;
use super::member_raw::RawMember;
use super::member_v1::Page;
use super::oracle::{ROOMS, Truth, room_name};
use super::poster::Poster;
use super::scene::{Bus, Scene, Tally};
use super::visitor::Visitor;

const PAGES: usize = 7;
const TABS: usize = 2;
const RAW_MEMBERS: usize = 4;
const LISTENERS: usize = 4;
const POSTERS: usize = 2;
const VISITORS: usize = 4;
/// Those who must all have a place in the end. Visitors come and go.
const CLIENTS: usize = PAGES + TABS + RAW_MEMBERS + LISTENERS + POSTERS;
/// The longest time between two steps.
const STEP: u64 = 200;
/// Passes in which all falls quiet after the last was level.
const AFTER_FEEDS: u32 = 100;

/// Bounds so narrow that all of them are met, others with each seed.
fn limits(rng: &mut Rng) -> Limits {
    let tail_entries = rng.usize(15..60);
    Limits {
        max_connections: Some(rng.usize(CLIENTS..CLIENTS + 8)),
        requests_per_turn: 30,
        entries_per_turn: rng.usize(3..15),
        feed_entries: rng.usize(1..20),
        feed_reads: 1 + tail_entries % 3,
        join_reads: 1 + tail_entries / 3 % 2,
        ask_reads: 1 + tail_entries / 9 % 2,
        feeds_per_turn: rng.usize(1..10),
        message_timeout: Duration::from_secs(8),
        outbox_high_water_bytes: rng.usize(300..2_000),
        outbox_low_water_bytes: 200,
        outboxes_total_bytes: 20_000,
        max_message_bytes: 400,
        tail_entries,
        tail_bytes: if rng.u8(..) < 60 { 5_000 } else { 100_000 },
        tails_total_bytes: if rng.u8(..) < 60 { 10_000 } else { 300_000 },
        max_tails: if rng.u8(..) < 60 { 1 } else { 100 },
        page_entries: rng.usize(2..12),
        backfill_entries: rng.usize(10..60),
        read_bytes_per_connection: 500,
        read_bytes_per_turn: 2_000,
        max_drafts_in_flight: 20,
        presence_names: if rng.bool() { rng.usize(2..PAGES) } else { 100 },
        say_rate: if rng.bool() { 2 } else { 0 },
        say_burst: 10,
        ask_rate: if rng.bool() { 2 } else { 0 },
        ask_burst: 10,
        raw_rate: if rng.bool() { 5 } else { 0 },
        raw_burst: 10,
        ping_interval: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(30),
        ..Limits::default()
    }
}

/// Which journal is under the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Under {
    Memory,
    Store,
    /// A bus, and two or three instances on it, each of which keeps all or nothing.
    Bus,
}

pub(super) struct World {
    scene: Scene,
    pages: Vec<Page>,
    raw_members: Vec<RawMember>,
    listeners: Vec<Listener>,
    posters: Vec<Poster>,
    visitors: Vec<Visitor>,
}

impl World {
    pub(super) fn new(under: Under, seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let mut limits = limits(&mut rng);
        let instances = if under == Under::Bus { rng.usize(2..=3) } else { 1 };
        let bus = (under == Under::Bus).then(|| {
            limits.ahead_timeout = Duration::from_secs(rng.u64(5..30));
            let broker = Broker::new(instances, rng.fork());
            Bus { common: Common::new(Rc::clone(&broker)), broker }
        });
        // All of them keep, or none does, or each as it likes.
        let manner = rng.u8(..3);
        let truth = |place: usize| {
            let keeps = match under {
                Under::Memory => false,
                Under::Store => true,
                Under::Bus => manner == 0 || (manner == 1 && rng.bool()),
            };
            let store = Store::new(Epoch((seed << 16) + ((place as u64) << 60)));
            Truth::new(store, keeps, limits.clone(), bus.as_ref().map(|bus| Rc::clone(&bus.common)))
        };
        let truths = (0..instances).map(truth).collect();
        let scene = Scene::new(rng, limits, bus, truths);
        let now = scene.now;
        World {
            pages: (0..PAGES).map(|number| Page::new(number, None, now)).collect(),
            raw_members: (0..RAW_MEMBERS).map(|number| RawMember::new(number, now)).collect(),
            listeners: (0..LISTENERS).map(|number| Listener::new(number, now)).collect(),
            posters: (0..POSTERS).map(|number| Poster::new(number, now)).collect(),
            visitors: (0..VISITORS).map(|_| Visitor::new(now)).collect(),
            scene,
        }
    }

    /// One step: everybody does something, time goes on, and the servers that are woken work.
    pub(super) fn step(&mut self) {
        if self.pages.len() < PAGES + TABS && self.scene.chance(10) {
            self.open_tab();
        }
        self.trouble();
        let most = if self.scene.chance(10) { 30 * STEP } else { STEP };
        let time = Duration::from_millis(self.scene.rng.u64(0..most));
        self.pass(time);
    }

    fn pass(&mut self, time: Duration) {
        let scene = &mut self.scene;
        self.pages.iter_mut().for_each(|page| page.act(scene));
        self.raw_members.iter_mut().for_each(|member| member.act(scene));
        self.listeners.iter_mut().for_each(|listener| listener.act(scene));
        self.posters.iter_mut().for_each(|poster| poster.act(scene));
        self.visitors.iter_mut().for_each(|visitor| visitor.act(scene));
        let mut ghosts = std::mem::take(&mut scene.ghosts);
        ghosts.iter_mut().for_each(|ghost| ghost.act(scene));
        ghosts.retain(|ghost| !ghost.is_closed());
        scene.ghosts = ghosts;
        scene.now += time;
        scene.turn();
    }

    fn open_tab(&mut self) {
        let place = self.scene.rng.usize(..PAGES);
        if self.pages[place].person.is_some() {
            let tab = Page::new(self.pages.len(), Some(&self.pages[place]), self.scene.now);
            self.pages.push(tab);
        }
    }

    /// What befalls the servers and the store.
    fn trouble(&mut self) {
        self.trouble_bus();
        for place in 0..self.scene.instances.len() {
            self.trouble_store(place);
            self.befall(place);
        }
    }

    /// What befalls the bus.
    fn trouble_bus(&mut self) {
        let scene = &mut self.scene;
        let Some(bus) = &scene.bus else { return };
        let broker = &mut *bus.broker.borrow_mut();
        let (rng, tally) = (&mut scene.rng, &mut scene.tally);
        let place = rng.usize(..scene.instances.len());
        match rng.u32(..2000) {
            0..6 => {
                tally.cuts += 1;
                broker.go_away();
            }
            6..60 => broker.come_back(),
            60..100 => {
                tally.cuts += 1;
                broker.cut(place);
            }
            100..112 => broker.hold(place, true),
            112..160 => broker.hold(place, false),
            160..168 => broker.mute(place, true),
            168..220 => broker.mute(place, false),
            220..228 => broker.is_forgetful = true,
            228..260 => broker.is_forgetful = false,
            260..340 => broker.let_strays_in(),
            340..355 => broker.remember(),
            355..361 => {
                let is_empty = rng.u8(..) < 50;
                tally.losses += u64::from(broker.go_back(is_empty));
            }
            361..391 => {
                let most = if rng.bool() { broker.spare() } else { broker.spare() / 3 };
                broker.trim(rng.usize(..=most));
            }
            391..400 => broker.delete(),
            _ => {}
        }
    }

    /// What befalls a store.
    fn trouble_store(&mut self, place: usize) {
        let scene = &mut self.scene;
        let store = Rc::clone(&scene.truths[place].store);
        match scene.rng.u32(..1000) {
            0..3 => store.borrow_mut().is_failing = true,
            3..15 => store.borrow_mut().is_failing = false,
            15..17 => store.borrow_mut().is_unreadable = true,
            17..40 => store.borrow_mut().is_unreadable = false,
            40..45 => store.borrow_mut().sync(),
            45..50 => {
                let kept = store.borrow().entries().len();
                let count = if scene.chance(100) { kept } else { kept / 4 };
                store.borrow_mut().trim(scene.rng.usize(..=count));
            }
            _ => {}
        }
    }

    fn befall(&mut self, place: usize) {
        let scene = &mut self.scene;
        let dice = scene.rng.u32(..1000);
        let instance = &mut scene.instances[place];
        let Some(reactor) = &mut instance.reactor else {
            instance.rest = instance.rest.saturating_sub(1);
            if instance.rest == 0 {
                scene.start(place);
            }
            return;
        };
        if reactor.drain_until.is_some() {
            if reactor.is_finished(scene.now) {
                self.stop(place);
            }
            return;
        }
        match dice {
            0..3 => self.kill(place),
            3..5 => {
                scene.tally.stops += 1;
                reactor.begin_draining(scene.now);
            }
            _ => {}
        }
    }

    /// The process is killed, or the machine loses its power.
    fn kill(&mut self, place: usize) {
        let scene = &mut self.scene;
        scene.tally.kills += 1;
        if let Some(reactor) = &mut scene.instances[place].reactor
            && let Journal::Simulated(journal) = &mut reactor.journal
        {
            journal.kill();
        }
        self.stop(place);
        let scene = &mut self.scene;
        scene.lose(place, 300);
        if scene.truths[place].keeps && scene.chance(300) {
            let store = Rc::clone(&scene.truths[place].store);
            match scene.bus {
                Some(_) => store.borrow_mut().lose_batches(&mut scene.rng),
                None => store.borrow_mut().lose_power(&mut scene.rng),
            }
        }
    }

    /// The process has ended.
    fn stop(&mut self, place: usize) {
        let scene = &mut self.scene;
        scene.instances[place].reactor = None;
        scene.instances[place].rest = scene.rng.u32(1..20);
        if scene.bus.is_some() {
            // Who comes from here knows what it has been told by now, and no more.
            scene.lose(place, 1000);
        } else if !scene.truths[place].keeps {
            scene.truths[place].store.borrow_mut().begin_anew();
        }
    }

    /// Lets everything that is under way arrive, and everybody come back who was away; then judges what they know.
    pub(super) fn settle(&mut self) {
        let scene = &mut self.scene;
        scene.is_quiet = true;
        for truth in &scene.truths {
            let mut store = truth.store.borrow_mut();
            (store.is_failing, store.is_unreadable) = (false, false);
        }
        if let Some(bus) = &scene.bus {
            bus.broker.borrow_mut().calm();
        }
        for place in 0..self.scene.instances.len() {
            let is_up =
                self.scene.instances[place].reactor.as_ref().is_some_and(|reactor| reactor.drain_until.is_none());
            if !is_up {
                self.stop(place);
                self.scene.start(place);
            }
        }
        let scene = &mut self.scene;
        std::mem::take(&mut scene.ghosts).iter_mut().for_each(|ghost| ghost.cut(scene));
        self.pages.iter_mut().for_each(|page| page.cut_if_stuck(scene));
        self.raw_members.iter_mut().for_each(|member| member.cut_if_stuck(scene));
        self.listeners.iter_mut().for_each(|listener| listener.cut_if_stuck(scene));
        // People of instances that have said goodbye are expected for a while.
        let mut passes = if self.scene.bus.is_some() { 900 } else { 500 };
        let mut most = 20_000;
        while passes > 0 {
            self.pass(Duration::from_millis(50));
            // Under some bounds people are fed an entry at a time, one after the other. When the last of them is level,
            // there is a while left.
            passes = if self.is_anybody_behind() { AFTER_FEEDS.max(passes - 1) } else { passes - 1 };
            most -= 1;
            assert!(most > 0, "somebody never catches up");
        }
        self.check_that_all_have_the_same();
        self.check_levels();
        self.check_that_all_sleep();
    }

    fn is_anybody_behind(&self) -> bool {
        let mut reactors = self.scene.instances.iter().filter_map(|instance| instance.reactor.as_ref());
        reactors.any(|reactor| reactor.hub.catching_up() > 0)
    }

    fn check_levels(&mut self) {
        let mut people = vec![BTreeMap::new(); ROOMS];
        let mut at_instances = vec![BTreeSet::new(); ROOMS];
        let mut counts = [(0, 0); ROOMS];
        for page in &self.pages {
            let (place, id, name) = page.whereabouts();
            (0..ROOMS).filter(|room| page.seats[*room].is_in()).for_each(|room| {
                people[room].insert(id.clone(), name.clone());
                at_instances[room].insert((place, id.clone()));
            });
        }
        let strangers = self.raw_members.iter().filter_map(RawMember::room);
        for room in strangers.chain(self.listeners.iter().filter_map(Listener::room)) {
            counts[room].0 += 1;
            counts[room].1 += 1;
        }
        for (room, (count, most)) in counts.iter_mut().enumerate() {
            *count += people[room].len();
            *most += at_instances[room].len();
        }
        let scene = &mut self.scene;
        self.pages.iter().for_each(|page| page.check_level(&people, &counts, scene));
        self.raw_members.iter().for_each(|member| member.check_level(scene));
        self.listeners.iter().for_each(|listener| listener.check_level(scene));
        self.posters.iter().for_each(Poster::check_level);
        self.visitors.iter().for_each(Visitor::check_level);
    }

    /// All instances on a bus have come to the same end of each room, in the same epoch.
    fn check_that_all_have_the_same(&self) {
        let Some(bus) = &self.scene.bus else { return };
        let common = bus.common.borrow();
        for (place, truth) in self.scene.truths.iter().enumerate() {
            assert_eq!(truth.epoch, self.scene.truths[0].epoch, "instance {place}");
            let reactor = self.scene.instances[place].reactor.as_ref().expect("it is up");
            let waits = reactor.journal.in_flight();
            assert_eq!(waits, 0, "what was said at instance {place} is not heard: {:?}", reactor.journal);
            for room in 0..ROOMS {
                let last = common.last_of(&room_name(room)).unwrap_or(0);
                let has_it = truth.last_of(room) >= last || truth.floor(room) >= last || truth.is_told_lost(last);
                assert!(has_it, "instance {place}, room {room} up to {last}");
            }
        }
    }

    /// Whoever has nothing to do sleeps.
    fn check_that_all_sleep(&mut self) {
        self.scene.turn();
        for (instance, truth) in self.scene.instances.iter_mut().zip(&mut self.scene.truths) {
            let reactor = instance.reactor.as_mut().expect("it is up");
            for _ in 0..50 {
                reactor.turn(self.scene.now);
            }
            truth.absorb();
            let sleep = reactor.sleep(self.scene.now);
            assert!(sleep.is_none_or(|sleep| !sleep.is_zero()), "it spins");
        }
    }

    /// The servers end, and nobody has to be cut off for it.
    pub(super) fn drain(&mut self) {
        for place in 0..self.scene.instances.len() {
            let now = self.scene.now;
            self.scene.instances[place].reactor.as_mut().expect("it is up").begin_draining(now);
        }
        for _ in 0..100 {
            self.pass(Duration::from_millis(50));
        }
        self.pages.iter().for_each(Page::check_told);
        self.raw_members.iter().for_each(RawMember::check_told);
        self.listeners.iter().for_each(Listener::check_told);
    }

    /// Everybody goes; nothing may remain.
    pub(super) fn end(mut self) -> Tally {
        let scene = &mut self.scene;
        self.pages.iter_mut().for_each(|page| page.cut(scene));
        self.raw_members.iter_mut().for_each(|member| member.cut(scene));
        self.listeners.iter_mut().for_each(|listener| listener.cut(scene));
        self.posters.iter_mut().for_each(|poster| poster.cut(scene));
        self.visitors.iter_mut().for_each(|visitor| visitor.cut(scene));
        for _ in 0..100 {
            scene.now += Duration::from_millis(100);
            scene.turn();
        }
        (0..scene.instances.len()).for_each(|place| scene.check_empty(place));
        scene.truths.iter_mut().for_each(Truth::end_claim);
        // What they have heard is judged with what they are.
        drop((self.pages, self.raw_members, self.listeners));
        if let Some(bus) = &scene.bus {
            bus.common.borrow_mut().check_claims();
        }
        std::mem::take(&mut scene.tally)
    }
}
