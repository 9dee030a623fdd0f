//! What the tasks of the conductor do, done step by step by the simulation, without a thread, a runtime, or a clock.
//!
//! A task that waits for something is a step that does nothing yet. What is decided is decided by the conductor itself.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::simulated::{Broker, SimulatedDriver, SimulatedEars, SimulatedSession, SimulatedTail};
use super::super::{BusJournal, Kept};
use super::{ANSWER_TIMEOUT, Begun, Conductor, FIRST_PAUSE, Failure, Keeps, LONGEST_PAUSE, Order};
use crate::chat::entry::{Epoch, Position};
use crate::journal::bus::shared::Shared;
use crate::journal::in_flight::InFlight;
use crate::journal::outbound::Outbound;
use crate::journal::simulated::KeptForBus;
use crate::journal::sqlite::Keeper;
use crate::limits::Limits;

/// The thread of the bus.
pub(crate) struct StandIn {
    conductor: Rc<Conductor<SimulatedDriver>>,
    orders: UnboundedReceiver<Order>,
    rng: Rng,
    standing: Standing,
    pause: Duration,
    /// The loop is to be woken.
    has_rung: Arc<AtomicBool>,
}

type Attempt = Pin<Box<dyn Future<Output = Result<Begun<SimulatedDriver>, Failure>>>>;

enum Standing {
    /// Another session begins then.
    Away { retry_at: Instant },
    /// It begins.
    Beginning { attempt: Attempt, since: Instant },
    /// It goes on, and this is being published.
    Open { session: SimulatedSession, tail: SimulatedTail, ears: SimulatedEars, published: Option<Vec<Bytes>> },
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standing = match &self.standing {
            Standing::Away { .. } => "away",
            Standing::Beginning { .. } => "beginning",
            Standing::Open { .. } => "open",
        };
        let state = self.conductor.state.borrow();
        let pending: Vec<u64> = state.pending.iter().map(|pending| pending.number).collect();
        f.debug_struct("StandIn")
            .field("standing", &standing)
            .field("pending", &pending)
            .field("sent", &state.sent)
            .field("opening", &state.opening)
            .finish_non_exhaustive()
    }
}

impl BusJournal {
    /// A journal of the simulation, and what stands in for its thread.
    pub(crate) fn simulated(
        broker: Rc<RefCell<Broker>>,
        place: usize,
        kept: Option<Box<KeptForBus>>,
        limits: &Limits,
        mut rng: Rng,
        now: Instant,
    ) -> (BusJournal, StandIn) {
        let has_rung = Arc::new(AtomicBool::new(true));
        let bell = Arc::clone(&has_rung);
        let (events_out, events) = channel();
        let outbound = Outbound { events: events_out, wake: Arc::new(move || bell.store(true, Ordering::Relaxed)) };
        let (to_bus, orders) = unbounded_channel();
        let shared = Arc::new(Shared::default());
        let (mut key, mut epoch) = ([0; 32], Epoch(rng.u64(..)));
        rng.fill(&mut key);
        let mut kept = kept;
        let keeps = match &mut kept {
            Some(kept) => {
                (key, epoch) = (kept.secret(), kept.epoch());
                let (keeper, handed) = Keeper::simulated();
                kept.take_over(handed);
                Keeps::Store { keeper, mark: kept.mark(), last: kept.opened_at() }
            }
            None => Keeps::Nothing,
        };
        let emitted = kept.as_ref().map_or(Position::START, |kept| kept.opened_at());
        let driver = SimulatedDriver { broker, place };
        let (instance, canary) = (rng.u64(..), limits.bus_canary_interval);
        let (begin, _) = channel();
        let conductor =
            Conductor::new(driver, keeps, outbound, Some(key), instance, canary, Arc::clone(&shared), begin);
        conductor.state.borrow_mut().down_since = Some(now);
        let (_, running) = channel();
        let journal = BusJournal {
            epoch,
            key,
            store: kept.map(Kept::Simulated),
            to_bus,
            drafts: Vec::new(),
            in_flight: InFlight::new(limits),
            returned: Vec::new(),
            emitted,
            ready: std::collections::VecDeque::new(),
            events,
            is_down: false,
            is_store_failing: false,
            shared,
            running,
        };
        let standing = Standing::Away { retry_at: now };
        let conductor = Rc::new(conductor);
        (journal, StandIn { conductor, orders, rng, standing, pause: FIRST_PAUSE, has_rung })
    }

    /// The threads get on with their work. Whether the loop is to be woken for what they have to say.
    pub(crate) fn advance(&mut self, stand_in: &mut StandIn, now: Instant) -> bool {
        stand_in.advance(now);
        self.returned.clear();
        let has_kept = match &mut self.store {
            Some(Kept::Simulated(kept)) => kept.advance(),
            Some(Kept::File(_)) | None => false,
        };
        stand_in.has_rung.swap(false, Ordering::Relaxed) || has_kept
    }
}

impl StandIn {
    fn advance(&mut self, now: Instant) {
        self.obey();
        let is_calm = self.conductor.driver.broker.borrow().is_calm;
        for _ in 0..if is_calm { 3 } else { self.rng.usize(..5) } {
            self.go_on(now);
        }
        self.conductor.complain_if_down(now);
    }

    /// Takes what the loop asks for.
    fn obey(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Append(drafts) => self.conductor.accept(drafts),
                Order::Whisper(message) => self.conductor.queue_whisper(message),
                Order::Level(question) => self.conductor.be_asked(question),
                Order::Close => {}
            }
        }
    }

    fn go_on(&mut self, now: Instant) {
        let failure = match &mut self.standing {
            Standing::Away { retry_at } => {
                if now >= *retry_at {
                    let conductor = Rc::clone(&self.conductor);
                    let attempt = Box::pin(async move { conductor.begin().await });
                    self.standing = Standing::Beginning { attempt, since: now };
                }
                return;
            }
            Standing::Beginning { attempt, since } => {
                match attempt.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(Begun { session, tail, ears, life, route })) => {
                        self.conductor.open(life, route, now);
                        self.standing = Standing::Open { session, tail, ears, published: None };
                        return;
                    }
                    Poll::Ready(Err(failure)) => failure,
                    Poll::Pending if now > *since + ANSWER_TIMEOUT => Failure::new("it has not answered"),
                    Poll::Pending => return,
                }
            }
            Standing::Open { .. } => match self.converse(now) {
                Ok(()) => return,
                Err(failure) => failure,
            },
        };
        self.end_session();
        self.conductor.went_down(&failure, now);
        if self.conductor.state.borrow().opening.is_none() {
            self.pause = FIRST_PAUSE;
        }
        self.standing = Standing::Away { retry_at: now + self.pause.mul_f32(self.rng.f32()) };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.conductor.shared.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Some of what goes on in a session.
    fn converse(&mut self, now: Instant) -> Result<(), Failure> {
        let StandIn { conductor, rng, standing, .. } = self;
        let Standing::Open { session, tail, ears, published } = standing else { return Ok(()) };
        session.check()?;
        match published.take() {
            None => *published = Some(conductor.next_batch(now)).filter(|batch| !batch.is_empty()),
            Some(batch) if !session.is_answered() => *published = Some(batch),
            // It is there, whether the answer arrives or not.
            Some(batch) => session.publish_now(&batch)?,
        }
        if rng.u8(..) < 200 {
            let mut records = tail.poll_next(rng.usize(1..=40))?.into_iter();
            conductor.take(&mut records, now);
            while let [behind_hole, ..] = records.as_slice() {
                conductor.cross(behind_hole.offset, session.bounds_now())?;
                conductor.take(&mut records, now);
            }
        }
        while rng.u8(..) < 200
            && let Some(message) = conductor.next_whisper()
        {
            session.whisper_now(&message);
        }
        while rng.u8(..) < 200
            && let Some(message) = ears.poll_next()
        {
            conductor.hear(message);
        }
        conductor.check(now).map_or(Ok(()), Err)
    }

    /// What was being published is there in part.
    fn end_session(&mut self) {
        if let Standing::Open { session, published, .. } = &mut self.standing
            && let Some(batch) = published.take()
        {
            session.cut_short(&batch);
        }
    }

    /// The process ends. What was said is published first, if it can be.
    pub(crate) fn close(&mut self, now: Instant) {
        self.obey();
        while self.conductor.shared.is_up()
            && let Standing::Open { session, published, .. } = &mut self.standing
            && session.check().is_ok()
            && session.is_answered()
        {
            let batch = published.take().unwrap_or_else(|| self.conductor.next_batch(now));
            if batch.is_empty() || session.publish_now(&batch).is_err() {
                break;
            }
        }
        self.end_session();
    }

    /// The process is killed.
    pub(crate) fn kill(&mut self) {
        self.end_session();
    }
}
