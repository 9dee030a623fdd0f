//! A broker of the simulation: it exists in memory, keeps the contract of a driver, and fails in every way that this allows.
//!
//! Its offsets may have holes, and the window of repeats is short, so that the log can be trimmed behind it: an operator lets
//! it keep more than that, and so does whoever drives the simulation ([`Broker::spare`]).
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
use super::sequence::Reach;
use super::wire::{Body, Decoder};

/// Publishes of sessions that have ended, which still may arrive.
const STRAYS: usize = 3;

/// Offsets that may be left out between two records.
const HOLE: u64 = 3;

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
    /// Somebody has deleted the record at this offset.
    Deleted { offset: u64 },
}

/// A broker that all instances share.
#[derive(Debug)]
pub(crate) struct Broker {
    rng: Rng,
    /// Each record has the offset after that of the one before.
    is_dense: bool,
    reach: Reach,
    kept: Kept,
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
    snapshot: Option<Kept>,
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

/// What a broker has.
#[derive(Debug, Clone, Default)]
struct Kept {
    log: VecDeque<Record>,
    /// The offset of the last record, trimmed or not.
    last: u64,
    /// The offset up to which records were trimmed.
    trimmed: u64,
    meta: Vec<Bytes>,
}

impl Kept {
    /// The records behind an offset that are there.
    fn behind(&self, after: u64) -> impl Iterator<Item = &Record> {
        self.log.range(self.log.partition_point(|record| record.offset <= after)..)
    }
}

impl Broker {
    /// A broker with nothing on it, for so many instances.
    pub(crate) fn new(places: usize, mut rng: Rng) -> Rc<RefCell<Broker>> {
        let reach = Reach { window: rng.u64(15..50), slack: 15, edge: rng.u64(0..4), fill: rng.u64(20..150) };
        Rc::new(RefCell::new(Broker {
            is_dense: rng.bool(),
            rng,
            reach,
            kept: Kept::default(),
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

    /// Positions behind which what is said again is new.
    pub(crate) fn window(&self) -> u64 {
        self.reach.window
    }

    /// Offsets behind what was trimmed that whoever does not know it passes over, at the most.
    pub(crate) fn passed_over(&self) -> u64 {
        let Reach { window, slack, edge, .. } = self.reach;
        window + slack + edge + HOLE
    }

    /// Records that can be trimmed, so that whoever begins to read finds more than the window.
    pub(crate) fn spare(&self) -> usize {
        let needed = self.kept.last.saturating_sub(self.passed_over() + 10);
        self.kept.log.partition_point(|record| record.offset <= needed)
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
        if let Some(newest) = self.kept.log.drain(..count).next_back() {
            self.kept.trimmed = newest.offset;
            self.news.push(News::Trimmed { upto: newest.offset });
        }
    }

    /// Deletes a record from the midst of the log, if that can be told from other holes. It has begun no life.
    pub(crate) fn delete(&mut self) {
        if !self.is_dense || self.kept.log.len() < 2 {
            return;
        }
        let place = self.rng.usize(1..self.kept.log.len());
        let life = |place: usize| Decoder::new().decode(&self.kept.log[place].bytes).map(|message| message.stamp);
        if life(place) == life(place - 1)
            && let Some(deleted) = self.kept.log.remove(place)
        {
            self.news.push(News::Deleted { offset: deleted.offset });
        }
    }

    /// Notes what there is, to come back with it.
    pub(crate) fn remember(&mut self) {
        self.snapshot = Some(self.kept.clone());
    }

    /// Comes back with what it had when that was noted, or with nothing. Whether it has lost anything.
    pub(crate) fn go_back(&mut self, is_empty: bool) -> bool {
        let before = (self.kept.last, self.kept.meta.len());
        self.kept = self.snapshot.take().filter(|_| !is_empty).unwrap_or_default();
        self.runs += 1;
        self.cut_all();
        self.news.push(News::Rewound { last: self.kept.last });
        before != (self.kept.last, self.kept.meta.len())
    }

    fn append(&mut self, records: &[Bytes]) {
        for bytes in records {
            let hole = if self.is_dense || self.rng.u8(..) < 200 { 0 } else { self.rng.u64(1..=HOLE) };
            let offset = self.kept.last + 1 + hole;
            self.kept.last = offset;
            self.kept.log.push_back(Record { offset, bytes: bytes.clone() });
            let message = Decoder::new().decode(bytes).expect("the program reads what it writes");
            let draft = match message.body {
                Body::Said(draft) => Some(draft),
                Body::Mark => None,
                Body::Unknown => panic!("the program knows what it writes"),
            };
            self.news.push(News::Record {
                offset,
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

    pub(super) fn bounds_now(&self) -> Bounds {
        let broker = self.broker.borrow();
        Bounds { first: broker.kept.trimmed + 1, last: broker.kept.last }
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

    fn is_dense(&self) -> bool {
        self.broker.borrow().is_dense
    }

    fn reach(&self) -> Reach {
        self.broker.borrow().reach
    }

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
        Ok(self.broker.borrow().kept.meta.clone())
    }

    async fn append_meta(&self, record: Bytes) -> Result<(), Failure> {
        self.pause().await?;
        self.broker.borrow_mut().kept.meta.push(record);
        self.pause().await
    }

    async fn run(&self) -> Result<Run, Failure> {
        self.pause().await?;
        Ok(Run::Named(self.broker.borrow().runs.to_string()))
    }

    async fn bounds(&self) -> Result<Bounds, Failure> {
        self.pause().await?;
        Ok(self.bounds_now())
    }

    async fn get(&self, offset: u64) -> Result<Option<Bytes>, Failure> {
        self.pause().await?;
        let broker = self.broker.borrow();
        let found = broker.kept.behind(offset - 1).next().filter(|record| record.offset == offset);
        Ok(found.map(|record| record.bytes.clone()))
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
    pub(super) fn poll_next(&mut self, most: usize) -> Result<Vec<Record>, Failure> {
        let broker = self.session.broker.borrow();
        if broker.places[self.session.place].is_held {
            return Ok(Vec::new());
        }
        if !broker.is_dense && self.after < broker.kept.trimmed {
            return Err(Failure::new("it was trimmed"));
        }
        let records: Vec<Record> = broker.kept.behind(self.after).take(most).cloned().collect();
        if let Some(last) = records.last() {
            self.after = last.offset;
        }
        Ok(records)
    }
}

impl Tail for SimulatedTail {
    async fn next(&mut self) -> Result<Vec<Record>, Failure> {
        self.session.check()?;
        self.poll_next(100)
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
