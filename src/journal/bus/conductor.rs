//! The thread of the bus: one session after the other, and within each what is published, followed and whispered.
//!
//! A session begins by finding out where the log stands. Then it publishes a mark, and follows the log until the mark
//! comes back: whatever of ours was published without an answer has come before it, and only what has not is published
//! again. When for some time nothing comes, another mark is published. A log that brings none back is as good as gone,
//! however friendly the connection is: the session ends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use crate::chat::entry::{Draft, Epoch, Position};
use crate::journal::contract::{Event, Refused, Status};
use crate::journal::ordered::{DraftId, Mark, Ordered, Stamp};
use crate::journal::outbound::Outbound;
use crate::journal::sqlite::Keeper;

use super::Unready;
use super::driver::{Driver, Ears, Failure, Record, Session, Tail};
use super::sequence::{Found, Keeping, Sequence, Verdict, What};
use super::wire::{self, Body, Declared, Decoder, Message, Meta};

/// Pauses between attempts are random up to this: the first time, and at the most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An answer of the broker takes no longer, or the session ends.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Members are told that the bus is down when it has been for this long.
const DOWN_GRACE: Duration = Duration::from_secs(1);
/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(250);
/// What is published at once: records, and about so many bytes.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;
/// Events and about so many bytes that the loop has not taken, above which the log is not read.
const AHEAD: usize = 20_000;
const AHEAD_BYTES: usize = 16 << 20;
/// Records that nobody is told of, after which it is noted that they were read.
const QUIET_RECORDS: u64 = 1_000;
/// What else a record has than its content, about.
const RECORD_BYTES: usize = 1_024;
/// Whispers that wait for the bus. Beyond, the oldest are dropped.
const WHISPERS: usize = 1_000;
/// So many intervals of the canary pass at the most without a record of our own, even if others send theirs.
const OWN_INTERVALS: u32 = 6;
/// Lives that are declared in one session at the most.
const DECLARATIONS: usize = 10;

/// What the loop asks for.
pub(super) enum Order {
    /// Publish these.
    Append(Vec<Draft>),
    /// Tell the other instances.
    Whisper(Bytes),
    /// Publish what was sent before, if it can be, and end.
    Close,
}

/// Where what is new goes.
pub(super) enum Keeps {
    /// To a store that stands here.
    Store { keeper: Keeper, mark: Option<Mark>, last: Position },
    /// To the loop alone.
    Nothing,
}

/// What both sides see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// One of the constants below.
    state: AtomicU8,
    pub(super) lag: AtomicU64,
    pub(super) reconnects: AtomicU64,
    /// Events that the loop has taken.
    taken: AtomicUsize,
    /// Events that had been handed on when the session had read everything that was missed.
    missed: AtomicUsize,
    /// The thread waits until more is taken.
    is_held: AtomicBool,
    /// Bytes of their contents.
    taken_bytes: AtomicUsize,
    took: Notify,
}

const AWAY: u8 = 0;
const BEHIND: u8 = 1;
const UP: u8 = 2;

impl Shared {
    pub(super) fn readiness(&self) -> Result<(), Unready> {
        match self.state.load(Ordering::Acquire) {
            AWAY => Err(Unready::Away),
            BEHIND => Err(Unready::Behind),
            // What was read may still be on its way, through the store perhaps.
            _ if self.is_taken(self.missed.load(Ordering::Acquire)) => Ok(()),
            _ => Err(Unready::Behind),
        }
    }

    /// Whether the loop has taken so many events. Both numbers wrap.
    fn is_taken(&self, given: usize) -> bool {
        given.wrapping_sub(self.taken.load(Ordering::Acquire)).cast_signed() <= 0
    }

    /// Whether what is published comes back.
    pub(super) fn is_up(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UP
    }

    /// The loop has taken an event of which [`weight`] gives the bytes.
    pub(super) fn took(&self, bytes: usize) {
        self.taken_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.taken.fetch_add(1, Ordering::AcqRel);
        if self.is_held.load(Ordering::Acquire) {
            self.took.notify_one();
        }
    }
}

/// Bytes that an event of the log holds.
pub(super) fn weight(event: &Event) -> usize {
    match event {
        Event::Entry(entry) | Event::Repeat(entry) => entry.content.bytes().len(),
        Event::Refused { draft, .. } => draft.content.bytes().len(),
        _ => 0,
    }
}

/// A draft on its way.
struct Pending {
    number: u64,
    draft: Draft,
}

/// What the tasks of a session share. It is never borrowed across an await.
struct State {
    sequence: Sequence,
    decoder: Decoder,
    /// Drafts that have not come back, in the order in which they were said.
    pending: VecDeque<Pending>,
    /// How many of them have been handed to the broker in this session.
    sent: usize,
    sent_since: Option<Instant>,
    next_number: u64,
    /// The life that is to be published in, if the log does not show a higher one.
    life: Option<Stamp>,
    key: Option<[u8; 32]>,
    /// The mark with which the session began, as long as it has not come back.
    opening: Option<DraftId>,
    /// A mark is to be published.
    is_mark_due: bool,
    /// Since when a mark is to come back. It may still wait behind what the broker does not answer.
    mark_since: Option<Instant>,
    last_return: Instant,
    last_own_return: Instant,
    /// Events that were handed on.
    given: usize,
    given_bytes: usize,
    /// The offset up to which the store was last told that the log was read.
    kept: u64,
    whispers: VecDeque<Bytes>,
    down_since: Option<Instant>,
    is_down_told: bool,
    is_down_logged: bool,
}

/// The thread, as it waits for everything at once.
pub(super) struct Conductor<D: Driver> {
    driver: D,
    outbound: Outbound,
    keeper: Option<Keeper>,
    key_to_propose: Option<[u8; 32]>,
    instance: u64,
    canary: Duration,
    shared: Arc<Shared>,
    /// Told once how the first attempt went.
    begin: Sender<()>,
    state: RefCell<State>,
    /// There is something to be published.
    publishable: Notify,
    /// There is something to be whispered.
    whispered: Notify,
    /// Something of ours has come back.
    settled: Notify,
}

impl<D: Driver> Conductor<D> {
    #[expect(clippy::too_many_arguments, reason = "all that a thread is given when it begins")]
    pub(super) fn new(
        driver: D,
        keeps: Keeps,
        outbound: Outbound,
        key_to_propose: Option<[u8; 32]>,
        instance: u64,
        canary: Duration,
        shared: Arc<Shared>,
        begin: Sender<()>,
    ) -> Self {
        let (keeping, keeper, last, mark) = match keeps {
            Keeps::Store { keeper, mark, last } => (Keeping::Store, Some(keeper), last, mark),
            Keeps::Nothing => (Keeping::Memory, None, Position::START, None),
        };
        let now = Instant::now();
        let state = State {
            sequence: Sequence::new(keeping, D::IS_DENSE, last, mark),
            decoder: Decoder::new(),
            pending: VecDeque::new(),
            sent: 0,
            sent_since: None,
            next_number: 1,
            life: None,
            key: None,
            opening: None,
            is_mark_due: false,
            mark_since: None,
            last_return: now,
            last_own_return: now,
            given: 0,
            given_bytes: 0,
            kept: 0,
            whispers: VecDeque::new(),
            down_since: Some(now),
            is_down_told: false,
            is_down_logged: false,
        };
        Conductor {
            driver,
            outbound,
            keeper,
            key_to_propose,
            instance,
            canary,
            shared,
            begin,
            state: RefCell::new(state),
            publishable: Notify::new(),
            whispered: Notify::new(),
            settled: Notify::new(),
        }
    }

    /// Runs until it is closed.
    pub(super) fn run(self, orders: UnboundedReceiver<Order>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("the bus cannot be used: {error}"),
        };
        runtime.block_on(async {
            tokio::select! {
                () = self.obey(orders) => {}
                () = self.live() => {}
                () = self.complain() => {}
            }
        });
    }

    /// Takes what the loop asks for, until it is to end.
    async fn obey(&self, mut orders: UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Append(drafts) => self.accept(drafts),
                Order::Whisper(message) => {
                    let mut state = self.state.borrow_mut();
                    state.whispers.push_back(message);
                    if state.whispers.len() > WHISPERS {
                        state.whispers.pop_front();
                    }
                    self.whispered.notify_one();
                }
                Order::Close => break,
            }
        }
        let published = async {
            // The log may hold more than anybody takes now; what is ours is in it when the broker says so.
            while self.shared.is_up() && !self.state.borrow().pending.is_empty() {
                self.settled.notified().await;
            }
        };
        let _ = timeout(DOWN_GRACE, published).await;
    }

    fn accept(&self, drafts: Vec<Draft>) {
        let mut refused = Vec::new();
        {
            let state = &mut *self.state.borrow_mut();
            for draft in drafts {
                if draft.content.bytes().len() + RECORD_BYTES > self.driver.max_record_bytes() {
                    refused.push(Event::Refused { draft, reason: Refused::Unavailable });
                    continue;
                }
                state.pending.push_back(Pending { number: state.next_number, draft });
                state.next_number += 1;
            }
            state.give(&refused);
        }
        self.outbound.send(refused);
        self.publishable.notify_one();
    }

    /// One session after the other.
    async fn live(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match timeout(ANSWER_TIMEOUT, self.begin()).await {
                Ok(Ok((session, tail, ears))) => {
                    let failure = self.converse(&session, tail, ears).await;
                    if self.state.borrow().opening.is_none() {
                        pause = FIRST_PAUSE;
                    }
                    failure
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(format_args!("it has not answered within {ANSWER_TIMEOUT:?}")),
            };
            self.went_down(&failure);
            let _ = self.begin.send(());
            // Full jitter: instances that lost the bus together do not come back together.
            let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
            sleep(pause.mul_f64(share)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn went_down(&self, failure: &Failure) {
        self.shared.state.store(AWAY, Ordering::Relaxed);
        let mut state = self.state.borrow_mut();
        state.down_since.get_or_insert_with(Instant::now);
        if state.is_down_logged {
            tracing::debug!("the bus still cannot be used: {failure}");
        } else {
            state.is_down_logged = true;
            tracing::warn!("the bus cannot be used, and what is said waits until it can: {failure}");
        }
    }

    fn came_up(&self) {
        let mut state = self.state.borrow_mut();
        self.shared.missed.store(state.given, Ordering::Release);
        self.shared.state.store(UP, Ordering::Release);
        let waiting = state.pending.len();
        if state.is_down_logged {
            tracing::info!("the bus is back; {waiting} messages have waited for it");
        } else {
            tracing::info!("the bus is reached, and everything that was missed has been read");
        }
        (state.down_since, state.is_down_logged) = (None, false);
        if std::mem::take(&mut state.is_down_told) {
            self.outbound.send(vec![Event::Status(Status::Ok)]);
        }
        let _ = self.begin.send(());
        self.publishable.notify_one();
    }

    /// Tells when the bus has been down for a while.
    async fn complain(&self) {
        loop {
            sleep(TICK).await;
            let mut state = self.state.borrow_mut();
            let is_long = state.down_since.is_some_and(|since| since.elapsed() >= DOWN_GRACE);
            // What is read at the beginning may take longer.
            let is_away = self.shared.readiness() == Err(Unready::Away);
            if is_long && is_away && !state.is_down_told {
                state.is_down_told = true;
                self.outbound.send(vec![Event::Status(Status::BusDown)]);
            }
        }
    }

    /// Connects, agrees with the others on the life of the log and the key, and finds out where to go on.
    async fn begin(&self) -> Result<SessionOf<D>, Failure> {
        let session = self.driver.connect().await?;
        let mut meta = Meta::read(&session.meta().await?);
        if let Some(key) = self.key_to_propose {
            if meta.key.is_none() {
                session.append_meta(wire::encode_key(&key)).await?;
                meta = Meta::read(&session.meta().await?);
            }
            self.learn_key(meta.key);
        }
        for _ in 0..DECLARATIONS {
            let bounds = session.bounds().await?;
            let mark = self.state.borrow().sequence.mark();
            let found = match mark.filter(|mark| (bounds.first..=bounds.last).contains(&mark.offset)) {
                None => Found::Unknown,
                Some(mark) => match session.get(mark.offset).await? {
                    Some(record) => {
                        let message = self.state.borrow_mut().decoder.decode(&record);
                        Found::Record(message.map(|message| message.id))
                    }
                    // It may just have been trimmed.
                    None if session.bounds().await?.first > mark.offset => Found::Unknown,
                    None => Found::Nothing,
                },
            };
            let verdict = self.state.borrow().sequence.judge(&meta, bounds, found);
            match verdict {
                Verdict::Declare { base } => {
                    let epoch = Epoch(getrandom::u64().map_err(Failure::new)?);
                    if mark.is_some() {
                        tracing::warn!("the bus has lost messages that are known here: a new epoch begins at {base}");
                    }
                    let life = Declared { stamp: Stamp { epoch, base }, after: bounds.last };
                    session.append_meta(wire::encode_life(&life)).await?;
                    meta = Meta::read(&session.meta().await?);
                }
                Verdict::Follow(route) => {
                    let tail = session.tail(route.after).await?;
                    let ears = session.listen().await?;
                    self.open(meta.best(), route);
                    return Ok((session, tail, ears));
                }
            }
        }
        Err(Failure::new("its records of what it has lost contradict each other"))
    }

    fn learn_key(&self, key: Option<[u8; 32]>) {
        let mut state = self.state.borrow_mut();
        if let Some(key) = key.filter(|key| state.key != Some(*key)) {
            state.key = Some(key);
            if let Some(keeper) = &self.keeper {
                keeper.keep_key(key);
            }
            self.outbound.send(vec![Event::Key(key)]);
        }
    }

    /// Everything is as at the beginning of a session.
    fn open(&self, life: Option<Stamp>, route: super::sequence::Route) {
        self.shared.state.store(BEHIND, Ordering::Relaxed);
        let state = &mut *self.state.borrow_mut();
        state.sequence.follow(route);
        (state.life, state.sent, state.sent_since) = (life, 0, None);
        let now = Instant::now();
        (state.last_return, state.last_own_return, state.mark_since) = (now, now, None);
        state.is_mark_due = true;
        state.opening = Some(DraftId { instance: self.instance, number: state.next_number });
    }

    /// Everything that goes on in a session, until something fails.
    async fn converse(
        &self,
        session: &D::Session,
        tail: <D::Session as Session>::Tail,
        ears: <D::Session as Session>::Ears,
    ) -> Failure {
        tokio::select! {
            failure = self.publish(session) => failure,
            failure = self.follow(tail) => failure,
            failure = self.watch() => failure,
            failure = self.measure(session) => failure,
            failure = self.whisper(session) => failure,
            failure = self.listen(ears) => failure,
        }
    }

    /// Publishes drafts and marks, as many at once as there are.
    async fn publish(&self, session: &D::Session) -> Failure {
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                self.publishable.notified().await;
                continue;
            }
            if let Err(failure) = answered(session.publish(&batch)).await {
                return failure;
            }
        }
    }

    fn next_batch(&self) -> Vec<Bytes> {
        let state = &mut *self.state.borrow_mut();
        let mut batch = Vec::new();
        // A life that the log has shown holds, whatever was known when the session began.
        let lives = [state.life, state.sequence.in_force()].into_iter().flatten();
        let Some(stamp) = lives.reduce(|best, next| if next.base > best.base { next } else { best }) else {
            return batch;
        };
        if std::mem::take(&mut state.is_mark_due) {
            let id = DraftId { instance: self.instance, number: state.next_number };
            // Drafts that came since the session began have taken the number.
            if let Some(opening) = &mut state.opening {
                *opening = id;
            }
            state.next_number += 1;
            state.mark_since.get_or_insert_with(Instant::now);
            batch.push(wire::encode_mark(stamp, id));
        }
        if state.opening.is_some() {
            return batch;
        }
        let mut bytes = 0;
        for Pending { number, draft } in state.pending.range(state.sent..) {
            if batch.len() == BATCH || bytes > BATCH_BYTES {
                break;
            }
            let record = wire::encode_draft(stamp, DraftId { instance: self.instance, number: *number }, draft);
            bytes += record.len();
            batch.push(record);
            state.sent += 1;
        }
        if state.sent > 0 {
            state.sent_since.get_or_insert_with(Instant::now);
        }
        batch
    }

    /// Follows the log, as fast as what comes is taken.
    async fn follow(&self, mut tail: impl Tail) -> Failure {
        loop {
            let records = match tail.next().await {
                Ok(records) => records,
                Err(failure) => return failure,
            };
            self.take(records);
            while self.is_ahead() {
                self.shared.is_held.store(true, Ordering::Release);
                let _ = self.begin.send(());
                if self.is_ahead() {
                    self.shared.took.notified().await;
                }
                self.shared.is_held.store(false, Ordering::Release);
                // What was held is no silence.
                self.state.borrow_mut().last_return = Instant::now();
            }
        }
    }

    fn is_ahead(&self) -> bool {
        let state = self.state.borrow();
        state.given.wrapping_sub(self.shared.taken.load(Ordering::Acquire)) > AHEAD
            || state.given_bytes.wrapping_sub(self.shared.taken_bytes.load(Ordering::Acquire)) > AHEAD_BYTES
    }

    /// Takes records of the log, and hands on what they bring.
    fn take(&self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let mut events = Vec::with_capacity(records.len());
        let mut is_up = false;
        let mark = {
            let state = &mut *self.state.borrow_mut();
            state.last_return = Instant::now();
            for Record { offset, bytes } in records {
                let message = state.decoder.decode(&bytes);
                let id = message.as_ref().map(|message| message.id);
                is_up |= id.is_some() && id == state.opening;
                if id.is_some_and(|id| id.instance == self.instance) {
                    (state.last_own_return, state.mark_since) = (state.last_return, None);
                }
                state.take(self.instance, offset, message, &mut events);
            }
            if is_up {
                state.opening = None;
            }
            state.give(&events);
            state.sequence.mark()
        };
        self.hand_on(events, mark);
        self.settled.notify_one();
        if is_up {
            self.came_up();
        }
    }

    /// Gives events to whatever keeps them. Where the log stands is kept with them, and now and then without any, so that
    /// a quiet night is not read again.
    fn hand_on(&self, events: Vec<Event>, mark: Option<Mark>) {
        let (Some(keeper), Some(mark)) = (&self.keeper, mark) else { return self.outbound.send(events) };
        let kept = &mut self.state.borrow_mut().kept;
        if !events.is_empty() || mark.offset.abs_diff(*kept) >= QUIET_RECORDS {
            *kept = mark.offset;
            keeper.keep(Ordered { events, mark });
        }
    }

    /// Sees to it that the log moves, and ends the session when it does not.
    async fn watch(&self) -> Failure {
        loop {
            sleep(TICK.min(self.canary / 4)).await;
            if let Some(failure) = self.check() {
                return failure;
            }
        }
    }

    /// Measures now and then how far behind the log we are.
    async fn measure(&self, session: &D::Session) -> Failure {
        loop {
            sleep(self.canary).await;
            match answered(session.bounds()).await {
                Ok(bounds) => {
                    let read = self.state.borrow().sequence.mark().map_or(0, |mark| mark.offset);
                    self.shared.lag.store(bounds.last.saturating_sub(read), Ordering::Relaxed);
                }
                Err(failure) => return failure,
            }
        }
    }

    fn check(&self) -> Option<Failure> {
        if self.shared.is_held.load(Ordering::Acquire) {
            return None;
        }
        let state = &mut *self.state.borrow_mut();
        let patience = self.canary.max(Duration::from_secs(1));
        // Others may still be heard; and while much is read, our own is behind it.
        let waited = state.mark_since.map_or(Duration::ZERO, |since| since.elapsed());
        let is_behind = state.opening.is_some();
        if waited.max(if is_behind { patience } else { Duration::ZERO }) >= patience
            && state.last_return.elapsed() > patience
            || waited > patience.max(ANSWER_TIMEOUT) && !is_behind
        {
            return Some(Failure::new(format_args!("what is published does not come back within {patience:?}")));
        }
        if state.sent_since.is_some_and(|since| since.elapsed() > ANSWER_TIMEOUT) {
            return Some(Failure::new(format_args!("messages have not come back within {ANSWER_TIMEOUT:?}")));
        }
        let is_silent = state.last_return.elapsed() >= self.canary;
        let is_mute = state.last_own_return.elapsed() >= self.canary * OWN_INTERVALS;
        if (is_silent || is_mute) && state.opening.is_none() && state.mark_since.is_none() {
            (state.is_mark_due, state.mark_since) = (true, Some(Instant::now()));
            self.publishable.notify_one();
        }
        None
    }

    /// Whispers what there is.
    async fn whisper(&self, session: &D::Session) -> Failure {
        loop {
            let Some(message) = self.next_whisper() else {
                self.whispered.notified().await;
                continue;
            };
            if let Err(failure) = answered(session.whisper(message)).await {
                return failure;
            }
        }
    }

    /// Our name goes before it, so that we know it when we hear it ourselves.
    fn next_whisper(&self) -> Option<Bytes> {
        let message = self.state.borrow_mut().whispers.pop_front()?;
        Some([&self.instance.to_be_bytes()[..], &message].concat().into())
    }

    /// Hears what others whisper.
    async fn listen(&self, mut ears: impl Ears) -> Failure {
        loop {
            match ears.next().await {
                Ok(mut message) if message.len() >= 8 => {
                    if message.split_to(8)[..] != self.instance.to_be_bytes() {
                        self.outbound.send(vec![Event::Whisper(message)]);
                    }
                }
                Ok(_) => {}
                Err(failure) => return failure,
            }
        }
    }
}

type SessionOf<D> =
    (<D as Driver>::Session, <<D as Driver>::Session as Session>::Tail, <<D as Driver>::Session as Session>::Ears);

impl State {
    /// Counts what is handed on.
    fn give(&mut self, events: &[Event]) {
        self.given += events.len();
        self.given_bytes += events.iter().map(weight).sum::<usize>();
    }

    /// Takes a record of the log.
    fn take(&mut self, instance: u64, offset: u64, message: Option<Message>, events: &mut Vec<Event>) {
        let is_unknown = message.as_ref().is_some_and(|message| message.body == Body::Unknown);
        let Some(taken) = self.sequence.take(offset, message) else { return };
        events.extend(taken.lost.map(Event::Lost));
        let ours = (taken.id.instance == instance).then(|| self.settle(taken.id.number)).flatten();
        let origin = ours.as_ref().and_then(|draft| draft.origin);
        match (taken.what, ours) {
            (What::Entry(entry), _) => {
                events.push(Event::Entry(crate::chat::entry::Entry { origin, ..entry }));
            }
            (What::Repeat(entry), Some(_)) => {
                events.push(Event::Repeat(crate::chat::entry::Entry { origin, ..entry }));
            }
            // Nobody could read it, so nobody has heard it.
            (What::Nothing, Some(draft)) if is_unknown => {
                events.push(Event::Refused { draft, reason: Refused::Unavailable });
            }
            (What::Repeat(_), None) | (What::Nothing, _) => {}
        }
    }

    /// A draft of ours has come back.
    fn settle(&mut self, number: u64) -> Option<Draft> {
        let place = match self.pending.front() {
            Some(first) if first.number == number => 0,
            _ => self.pending.binary_search_by_key(&number, |pending| pending.number).ok()?,
        };
        let pending = self.pending.remove(place)?;
        if place < self.sent {
            self.sent -= 1;
        }
        self.sent_since = (self.sent > 0).then(Instant::now);
        Some(pending.draft)
    }
}

/// What the broker answers, if it does so in time.
async fn answered<T>(answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::new(format_args!("it has not answered within {ANSWER_TIMEOUT:?}"))),
    }
}
