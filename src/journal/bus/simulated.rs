//! A broker of the simulation: it exists in memory, keeps the contract of a driver, and fails in every way that this allows.
//!
//! Nothing in it happens by itself. A call of a session may take several steps, since others act in between, and whoever
//! drives the simulation cuts sessions, holds tails back, trims the log, or brings the broker back as it once was. What the
//! log has had is told as [`News`], so that somebody else can judge what instances make of it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use fastrand::Rng;

use crate::chat::entry::{Draft, Epoch};

use super::driver::{Bounds, Driver, Ears, Failure, Record, Run, Session, Tail};
use super::wire::{Body, Decoder};

/// Publishes of sessions that have ended, which still may arrive.
const STRAYS: usize = 3;

/// What has become of the log.
#[derive(Debug)]
pub(crate) enum News {
    /// It has another record, which was published in this life.
    Record {
        offset: u64,
        epoch: Epoch,
        base: u64,
        /// The instance, and its number.
        id: (u64, u64),
        /// `None` for a mark.
        draft: Option<Draft>,
    },
    /// It has lost everything behind this offset, and has never had it.
    Rewound { last: u64 },
    /// Everything up to here has been trimmed.
    Trimmed { upto: u64 },
}

/// A broker that all instances share.
#[derive(Debug)]
pub(crate) struct Broker {
    rng: Rng,
    log: VecDeque<Bytes>,
    trimmed: u64,
    meta: Vec<Bytes>,
    places: Vec<Place>,
    /// No session begins.
    is_away: bool,
    /// Counts its processes: what was sent to one does not reach the next.
    life: u32,
    /// Restarts that may have cost it something.
    runs: u32,
    /// Whispers are lost.
    pub(crate) is_forgetful: bool,
    /// All that it is asked is done, and at once.
    pub(crate) is_calm: bool,
    snapshot: Option<Snapshot>,
    strays: Vec<Vec<Bytes>>,
    news: Vec<News>,
}

/// What the broker has to do with one instance.
#[derive(Debug, Default)]
struct Place {
    /// Sessions of another number are cut.
    generation: u64,
    /// Its tail brings nothing.
    is_held: bool,
    /// What it publishes has no answer, nor effect.
    is_mute: bool,
    /// What is whispered to it.
    ears: VecDeque<Bytes>,
}

#[derive(Debug)]
struct Snapshot {
    log: VecDeque<Bytes>,
    trimmed: u64,
    meta: Vec<Bytes>,
}

impl Broker {
    /// A broker with nothing on it, for so many instances.
    pub(crate) fn new(places: usize, rng: Rng) -> Rc<RefCell<Broker>> {
        Rc::new(RefCell::new(Broker {
            rng,
            log: VecDeque::new(),
            trimmed: 0,
            meta: Vec::new(),
            places: (0..places).map(|_| Place::default()).collect(),
            is_away: false,
            life: 0,
            runs: 0,
            is_forgetful: false,
            is_calm: false,
            snapshot: None,
            strays: Vec::new(),
            news: Vec::new(),
        }))
    }

    /// The offset of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.trimmed + self.log.len() as u64
    }

    /// Records that are there.
    pub(crate) fn len(&self) -> usize {
        self.log.len()
    }

    /// What has become of the log since this was last asked.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// The session of an instance ends.
    pub(crate) fn cut(&mut self, place: usize) {
        self.places[place].generation += 1;
        self.places[place].ears.clear();
    }

    /// Its process ends.
    fn cut_all(&mut self) {
        self.life += 1;
        self.strays.clear();
        (0..self.places.len()).for_each(|place| self.cut(place));
    }

    /// Ends all sessions, and lets none begin.
    pub(crate) fn go_away(&mut self) {
        self.is_away = true;
        self.cut_all();
    }

    pub(crate) fn come_back(&mut self) {
        self.is_away = false;
    }

    pub(crate) fn hold(&mut self, place: usize, is_held: bool) {
        self.places[place].is_held = is_held;
    }

    pub(crate) fn mute(&mut self, place: usize, is_mute: bool) {
        self.places[place].is_mute = is_mute;
    }

    /// Everything is well from here on.
    pub(crate) fn calm(&mut self) {
        (self.is_away, self.is_forgetful, self.is_calm) = (false, false, true);
        self.strays.clear();
        for place in &mut self.places {
            (place.is_held, place.is_mute) = (false, false);
        }
    }

    /// Trims the oldest records, so many of them.
    pub(crate) fn trim(&mut self, count: usize) {
        self.log.drain(..count);
        self.trimmed += count as u64;
        self.news.push(News::Trimmed { upto: self.trimmed });
    }

    /// Notes what there is, to come back with it.
    pub(crate) fn remember(&mut self) {
        let Broker { log, trimmed, meta, .. } = self;
        self.snapshot = Some(Snapshot { log: log.clone(), trimmed: *trimmed, meta: meta.clone() });
    }

    /// Comes back with what it had when that was noted, or with nothing. Whether it has lost anything.
    pub(crate) fn go_back(&mut self, is_empty: bool) -> bool {
        let snapshot = self.snapshot.take().filter(|_| !is_empty);
        let Snapshot { log, trimmed, meta } =
            snapshot.unwrap_or(Snapshot { log: VecDeque::new(), trimmed: 0, meta: Vec::new() });
        let before = (self.last(), self.meta.len());
        (self.log, self.trimmed, self.meta) = (log, trimmed, meta);
        self.runs += 1;
        self.cut_all();
        self.news.push(News::Rewound { last: self.last() });
        before != (self.last(), self.meta.len())
    }

    fn append(&mut self, records: &[Bytes]) {
        for record in records {
            self.log.push_back(record.clone());
            let message = Decoder::new().decode(record).expect("the program reads what it writes");
            let draft = match message.body {
                Body::Said(draft) => Some(draft),
                Body::Mark => None,
                Body::Unknown => panic!("the program knows what it writes"),
            };
            self.news.push(News::Record {
                offset: self.last(),
                epoch: message.stamp.epoch,
                base: message.stamp.base.0,
                id: (message.id.instance, message.id.number),
                draft,
            });
        }
    }

    /// Some of what a session had published without an answer is there: its beginning, now or later.
    fn cut_short(&mut self, batch: &[Bytes]) {
        let there = self.rng.usize(..=batch.len());
        if self.rng.u8(..) < 128 && self.strays.len() < STRAYS {
            self.strays.push(batch[..there].to_vec());
        } else {
            self.append(&batch[..there]);
        }
    }

    /// What was on its way arrives.
    pub(crate) fn let_strays_in(&mut self) {
        if !self.strays.is_empty() {
            let stray = self.strays.remove(0);
            self.append(&stray);
        }
    }
}

/// The way of an instance to the broker.
#[derive(Debug)]
pub(super) struct SimulatedDriver {
    pub(super) broker: Rc<RefCell<Broker>>,
    pub(super) place: usize,
}

#[derive(Debug, Clone)]
pub(super) struct SimulatedSession {
    broker: Rc<RefCell<Broker>>,
    place: usize,
    generation: u64,
    life: u32,
}

impl SimulatedSession {
    /// It has ended while this was being published.
    pub(super) fn cut_short(&self, batch: &[Bytes]) {
        let broker = &mut *self.broker.borrow_mut();
        if broker.life == self.life {
            broker.cut_short(batch);
        }
    }

    /// Whether it has not been cut.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let is_cut = self.broker.borrow().places[self.place].generation != self.generation;
        if is_cut { Err(Failure::new("it was cut")) } else { Ok(()) }
    }

    /// Others act before this goes on.
    async fn pause(&self) -> Result<(), Failure> {
        let may_pause = |broker: &RefCell<Broker>| {
            let broker = &mut *broker.borrow_mut();
            !broker.is_calm && broker.rng.u8(..) < 80
        };
        poll_fn(|_| if may_pause(&self.broker) { Poll::Pending } else { Poll::Ready(()) }).await;
        self.check()
    }

    /// What is published now is answered.
    pub(super) fn is_answered(&self) -> bool {
        !self.broker.borrow().places[self.place].is_mute
    }

    /// Publishes all of a batch. It may be cut before that is known.
    pub(super) fn publish_now(&self, batch: &[Bytes]) -> Result<(), Failure> {
        self.check()?;
        let broker = &mut *self.broker.borrow_mut();
        broker.append(batch);
        if !broker.is_calm && broker.rng.u8(..) < 2 {
            return Err(Failure::new("its answer is lost"));
        }
        Ok(())
    }

    pub(super) fn whisper_now(&self, message: &Bytes) {
        let broker = &mut *self.broker.borrow_mut();
        for place in &mut broker.places {
            if !broker.is_forgetful || broker.rng.bool() {
                place.ears.push_back(message.clone());
            }
        }
    }
}

impl Driver for SimulatedDriver {
    type Session = SimulatedSession;
    const IS_DENSE: bool = true;

    async fn connect(&self) -> Result<SimulatedSession, Failure> {
        let SimulatedDriver { broker, place } = self;
        let (generation, life) = (broker.borrow().places[*place].generation, broker.borrow().life);
        let session = SimulatedSession { broker: Rc::clone(broker), place: *place, generation, life };
        session.pause().await?;
        if broker.borrow().is_away { Err(Failure::new("it is away")) } else { Ok(session) }
    }
}

impl Session for SimulatedSession {
    type Tail = SimulatedTail;
    type Ears = SimulatedEars;

    async fn meta(&self) -> Result<Vec<Bytes>, Failure> {
        self.pause().await?;
        Ok(self.broker.borrow().meta.clone())
    }

    async fn append_meta(&self, record: Bytes) -> Result<(), Failure> {
        self.pause().await?;
        self.broker.borrow_mut().meta.push(record);
        self.pause().await
    }

    async fn run(&self) -> Result<Run, Failure> {
        self.pause().await?;
        Ok(Run::Named(self.broker.borrow().runs.to_string()))
    }

    async fn bounds(&self) -> Result<Bounds, Failure> {
        self.pause().await?;
        let broker = self.broker.borrow();
        Ok(Bounds { first: broker.trimmed + 1, last: broker.last() })
    }

    async fn get(&self, offset: u64) -> Result<Option<Bytes>, Failure> {
        self.pause().await?;
        let broker = self.broker.borrow();
        Ok(offset.checked_sub(broker.trimmed + 1).and_then(|place| broker.log.get(place as usize).cloned()))
    }

    async fn publish(&self, batch: &[Bytes]) -> Result<(), Failure> {
        self.publish_now(batch)
    }

    async fn tail(&self, after: u64) -> Result<SimulatedTail, Failure> {
        self.pause().await?;
        Ok(SimulatedTail { session: self.clone(), after })
    }

    async fn whisper(&self, message: Bytes) -> Result<(), Failure> {
        self.whisper_now(&message);
        self.check()
    }

    async fn listen(&self) -> Result<SimulatedEars, Failure> {
        self.pause().await?;
        self.broker.borrow_mut().places[self.place].ears.clear();
        Ok(SimulatedEars(self.clone()))
    }
}

#[derive(Debug)]
pub(super) struct SimulatedTail {
    session: SimulatedSession,
    after: u64,
}

impl SimulatedTail {
    /// The next records that are there, at most so many; none if it is held back.
    pub(super) fn poll_next(&mut self, most: usize) -> Vec<Record> {
        let broker = self.session.broker.borrow();
        if broker.places[self.session.place].is_held {
            return Vec::new();
        }
        let first = (self.after + 1).max(broker.trimmed + 1);
        let log = broker.log.iter().skip((first - broker.trimmed - 1) as usize).take(most).cloned();
        let records: Vec<Record> = (first..).zip(log).map(|(offset, bytes)| Record { offset, bytes }).collect();
        if let Some(last) = records.last() {
            self.after = last.offset;
        }
        records
    }
}

impl Tail for SimulatedTail {
    async fn next(&mut self) -> Result<Vec<Record>, Failure> {
        self.session.check()?;
        Ok(self.poll_next(100))
    }
}

#[derive(Debug)]
pub(super) struct SimulatedEars(SimulatedSession);

impl SimulatedEars {
    /// The next message that is there.
    pub(super) fn poll_next(&mut self) -> Option<Bytes> {
        self.0.broker.borrow_mut().places[self.0.place].ears.pop_front()
    }
}

impl Ears for SimulatedEars {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        self.0.check()?;
        let message = poll_fn(|_| self.poll_next().map_or(Poll::Pending, Poll::Ready)).await;
        Ok(message)
    }
}
