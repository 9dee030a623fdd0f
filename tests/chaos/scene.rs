//! The instances, their broker, what is between them, and what happens to all of them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::broker::Broker;
use crate::common::{Held, Kept, Port, Relay, Server, WsClient, get, wait_until};
use crate::talker::{Heard, Person, Phase, Place, ROOMS, Shouter, World, readiness};

/// What was said in each of [`ROOMS`].
pub type History = [Vec<Heard>; ROOMS.len()];

/// What all instances have in common. A broker that is gone or silent is noticed soon, and nobody misses more than they
/// are told.
const OPTIONS: [&str; 10] =
    ["--bus-canary", "500ms", "--say-rate", "0", "--backfill", "1000000", "--page", "500", "--drain-timeout", "1s"];
/// An instance without a store has everything in memory.
const MEMORY_OPTIONS: [&str; 6] = ["--tail-entries", "1000000", "--tail-bytes", "256MiB", "--tails-total", "1GiB"];
/// One with a store is asked for what it has there.
const STORE_OPTIONS: [&str; 2] = ["--tail-entries", "64"];

/// Those who speak chat.v1, and those who are raw.
const PEOPLE: [&str; 6] = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Fay"];
const SHOUTERS: [&str; 3] = ["raw-one", "raw-two", "raw-three"];

/// What is said at once before something happens.
const BURST: usize = 100;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The broker is killed, and is away until everybody has noticed.
    KillBroker,
    /// The broker is killed and comes back at once.
    RestartBroker,
    /// The broker does nothing, until everybody has noticed.
    PauseBroker,
    /// The broker does nothing, for so short a time that it may be overlooked.
    DelayBroker,
    /// The connections of all instances end.
    CutAll,
    /// The connections of one instance end.
    CutOne,
    /// What the broker answers to one instance is lost, and then the connections are.
    LoseAnswers,
    /// What one instance sends is late: it arrives when other connections have taken the place of those.
    DelayPackets,
    /// An instance is killed, and started again.
    KillInstance,
    /// An instance does nothing for a while.
    PauseInstance,
    /// An instance is asked to stop, and started again.
    DrainInstance,
    /// All instances are killed at once.
    KillAllInstances,
    /// An instance is killed while the broker is away, and is back before it.
    KillInstanceAndBroker,
}

impl Fault {
    pub const ALL: [Fault; 13] = [
        Fault::KillBroker,
        Fault::RestartBroker,
        Fault::PauseBroker,
        Fault::DelayBroker,
        Fault::CutAll,
        Fault::CutOne,
        Fault::LoseAnswers,
        Fault::DelayPackets,
        Fault::KillInstance,
        Fault::PauseInstance,
        Fault::DrainInstance,
        Fault::KillAllInstances,
        Fault::KillInstanceAndBroker,
    ];
}

/// How many rounds of faults there are.
pub fn rounds() -> usize {
    number("CHAT_CHAOS_ROUNDS").map_or(1, |rounds| usize::try_from(rounds).expect("a number of rounds"))
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value:?}")))
}

/// An instance, or one that has been killed and may be started again.
///
/// What is dropped first stands first, here and below.
#[derive(Debug)]
pub struct Instance {
    server: Option<Server>,
    relay: Relay,
    store: Option<Kept>,
    /// Where it listens if it has no store; a store has a port of its own.
    port: Port,
    bus: String,
}

impl Instance {
    fn new(broker: &impl Broker, store: Option<Kept>) -> Self {
        let relay = Relay::start(broker.address());
        let bus = format!("{}://{}", broker.scheme(), relay.address());
        let port = Port::take().expect("a free port");
        Instance { server: None, relay, store, port, bus }
    }

    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// Starts it, ready or not.
    fn start(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let bus = [&["--bus", &self.bus], &OPTIONS[..]].concat();
        self.server = Some(match &self.store {
            Some(store) => store.start(&[&bus, &STORE_OPTIONS[..]].concat()),
            None => Server::start(&[&["--port", &self.port.to_string()], &bus[..], &MEMORY_OPTIONS].concat()),
        });
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }
}

/// Everything there is.
#[derive(Debug)]
pub struct Scene<B> {
    pub instances: Vec<Instance>,
    pub broker: B,
    pub people: Vec<Person>,
    pub shouters: Vec<Shouter>,
    pub world: Arc<World>,
    pub rng: fastrand::Rng,
    seed: u64,
    began: Instant,
    /// What has happened, and when.
    past: Vec<(Duration, String)>,
}

impl<B: Broker> Scene<B> {
    /// Starts two instances with stores and one without, and wakes those who are going to talk.
    pub fn start(broker: B, may_lose: bool) -> Self {
        let seed = number("CHAT_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
        let mut rng = fastrand::Rng::with_seed(seed);
        let stores = [Some(Kept::new()), Some(Kept::new()), None];
        let mut instances: Vec<Instance> = stores.map(|store| Instance::new(&broker, store)).into();
        instances.iter_mut().for_each(Instance::start);
        let places = instances.iter().map(|instance| Place {
            address: instance.server().address(),
            has_store: instance.has_store(),
            is_leaving: AtomicBool::new(false),
        });
        let people: Vec<Person> = PEOPLE.iter().map(|name| Person::new(name, rng.u64(..))).collect();
        let shouters = SHOUTERS.iter().map(|name| Shouter::new(name, rng.u64(..))).collect();
        let world = Arc::new(World::new(places.collect(), people.len(), may_lose));
        let scene =
            Scene { instances, broker, people, shouters, world, rng, seed, began: Instant::now(), past: vec![] };
        scene.wait_until_ready();
        scene
    }

    /// Lets everybody talk while `act` goes on, and until all have heard each other.
    pub fn play(&mut self, act: impl FnOnce(&mut Self)) {
        let world = Arc::clone(&self.world);
        let (mut people, mut shouters) = (std::mem::take(&mut self.people), std::mem::take(&mut self.shouters));
        thread::scope(|scope| {
            // Nobody waits for somebody who has failed.
            let _alarm = Alarm(&world);
            for person in &mut people {
                scope.spawn(|| {
                    let _alarm = Alarm(&world);
                    person.live(&world);
                });
            }
            for shouter in &mut shouters {
                scope.spawn(|| {
                    let _alarm = Alarm(&world);
                    shouter.live(&world);
                });
            }
            wait_until("everybody is there", || world.is_complete());
            act(self);
            self.wait_until_ready();
            self.note("all is well");
            world.enter(Phase::Settle);
        });
        (self.people, self.shouters) = (people, shouters);
        self.note("everybody has heard everybody");
        for person in &self.people {
            eprintln!("{} said {}: {:?}", person.name, person.said, person.figures);
        }
    }

    /// Lets people talk for a while, most often until all is well.
    pub fn rest(&mut self) {
        if self.rng.u8(..4) > 0 {
            self.wait_until_ready();
        }
        self.pass(50..700);
    }

    fn pass(&mut self, millis: Range<u64>) {
        thread::sleep(Duration::from_millis(self.rng.u64(millis)));
        assert!(!self.world.is_in(Phase::Abort), "somebody has failed");
    }

    /// Lets something happen, from its beginning to its end.
    pub fn suffer(&mut self, fault: Fault) {
        let one = self.rng.usize(..self.instances.len());
        self.note(&format!("{fault:?}, instance {one}"));
        let _burst = self.burst(one);
        match fault {
            Fault::KillBroker => {
                self.broker.kill();
                self.wait_until_noticed();
                self.pass(0..1_000);
                self.broker.start_again();
            }
            Fault::RestartBroker => {
                self.broker.kill();
                self.broker.start_again();
            }
            Fault::PauseBroker => {
                self.broker.pause();
                self.wait_until_noticed();
                self.pass(0..1_000);
                self.broker.resume();
            }
            Fault::DelayBroker => {
                self.broker.pause();
                self.pass(50..1_000);
                self.broker.resume();
            }
            Fault::CutAll => self.instances.iter().for_each(|instance| instance.relay.cut()),
            Fault::CutOne => self.instances[one].relay.cut(),
            Fault::LoseAnswers => {
                self.instances[one].relay.hold(Held::Answers);
                self.pass(100..800);
                self.instances[one].relay.cut();
            }
            Fault::DelayPackets => {
                self.instances[one].relay.hold(Held::Everything);
                // It gives these connections up, and says everything again on others.
                self.wait_until_is(one, "the silence is noticed", 503);
                self.wait_until_is(one, "it has connected again", 200);
                self.pass(0..300);
                self.instances[one].relay.release();
            }
            Fault::KillInstance => {
                self.instances[one].kill();
                self.pass(0..1_000);
                self.instances[one].start();
            }
            Fault::PauseInstance => {
                self.instances[one].server().signal(Signal::STOP);
                self.pass(100..2_500);
                self.instances[one].server().signal(Signal::CONT);
            }
            Fault::DrainInstance => self.drain(one),
            Fault::KillAllInstances => {
                self.instances.iter_mut().for_each(Instance::kill);
                self.instances.iter_mut().for_each(Instance::start);
            }
            Fault::KillInstanceAndBroker => {
                self.broker.kill();
                self.instances[one].kill();
                self.instances[one].start();
                self.pass(0..500);
                self.broker.start_again();
            }
        }
    }

    /// Says much at once, so that a part of it is on its way when something happens. The connection must stay.
    fn burst(&self, one: usize) -> WsClient {
        let room = ROOMS[self.past.len() % ROOMS.len()];
        let mut client = WsClient::connect(self.world.instances[one].address, &format!("/?room={room}"), &[]);
        for number in 0..BURST {
            client.send_text(&format!("burst-{}.{number}", self.past.len()));
        }
        client
    }

    fn drain(&mut self, one: usize) {
        let is_leaving = &self.world.instances[one].is_leaving;
        is_leaving.store(true, Ordering::Relaxed);
        let server = self.instances[one].server.take().expect("it runs");
        assert!(server.stop().success(), "it stops in order");
        self.instances[one].start();
        is_leaving.store(false, Ordering::Relaxed);
    }

    fn wait_until_noticed(&self) {
        self.wait_until_all("the broker is missed", 503);
    }

    /// Waits until all instances do their part.
    pub fn wait_until_ready(&self) {
        self.wait_until_all("the instances are ready", 200);
    }

    fn wait_until_all(&self, what: &str, expected: u16) {
        (0..self.instances.len()).for_each(|one| self.wait_until_is(one, what, expected));
    }

    fn wait_until_is(&self, one: usize, what: &str, expected: u16) {
        wait_until(what, || {
            assert!(!self.world.is_in(Phase::Abort), "somebody has failed");
            readiness(self.world.instances[one].address) == Some(expected)
        });
    }

    fn note(&mut self, what: &str) {
        self.past.push((self.began.elapsed(), what.to_owned()));
    }

    /// What the broker has: all of it, as a new instance reads it.
    pub fn truth(&self) -> History {
        let mut observer = Instance::new(&self.broker, Some(Kept::new()));
        observer.start();
        wait_until("the observer has read everything", || readiness(observer.server().address()) == Some(200));
        let truth = history(&observer);
        assert!(truth.iter().all(|entries| entries.len() > 50), "people have talked");
        truth
    }

    /// What each instance tells.
    pub fn histories(&self) -> Vec<History> {
        self.instances.iter().map(history).collect()
    }

    /// Ends everything in order.
    pub fn stop(mut self) {
        for instance in &mut self.instances {
            let server = instance.server.take().expect("it runs");
            assert_eq!(server.metric("chat_drafts_in_flight"), 0.0);
            assert!(server.stop().success(), "it stops in order");
        }
    }
}

impl<B> Drop for Scene<B> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("CHAT_CHAOS_SEED={} ({:?} since the beginning)", self.seed, self.began.elapsed());
            for (time, what) in &self.past {
                eprintln!("{:8.3} {what}", time.as_secs_f64());
            }
        }
    }
}

/// Whoever panics ends the play for all.
struct Alarm<'a>(&'a World);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.enter(Phase::Abort);
        }
    }
}

/// All that an instance tells, room by room and page by page.
fn history(instance: &Instance) -> History {
    ROOMS.map(|room| {
        let mut entries: Vec<Heard> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |last| last.position);
            let response = get(instance.server().address(), &format!("/rooms/{room}/messages?after={after}&limit=500"));
            assert_eq!(response.status, 200, "{}", response.text());
            let page: Value = serde_json::from_slice(&response.body).expect("JSON");
            entries.extend(page["entries"].as_array().expect("entries").iter().map(Heard::new));
            if page["more"] == false {
                return entries;
            }
        }
    })
}
