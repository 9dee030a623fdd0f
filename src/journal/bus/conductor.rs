//! The thread of the bus: one session after the other, and within each what is published, followed and whispered.
//!
//! A session begins by finding out where the log stands. Then it publishes a mark, and follows the log until the mark
//! comes back: whatever of ours was published without an answer has come before it, and only what has not is published
//! again. When for some time nothing comes, another mark is published. A log that brings none back is as good as gone,
//! however friendly the connection is: the session ends.

#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use std::vec;

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
use super::driver::{Bounds, Driver, Ears, Failure, Record, Run, Session, Tail};
use super::sequence::{Found, Keeping, Route, Sequence, Trust, Verdict};
use super::shared::Shared;
use super::state::{Pending, State};
use super::wire::{self, Declared, Meta};

#[cfg(test)]
pub(in crate::journal) use stand_in::StandIn;

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
    /// Tell when everything has been told that is in the log by now.
    Level(u64),
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
        let sequence = Sequence::new(keeping, driver.is_dense(), driver.reach(), last, mark);
        Conductor {
            driver,
            outbound,
            keeper,
            key_to_propose,
            instance,
            canary,
            shared,
            begin,
            state: RefCell::new(State::new(sequence)),
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
        self.keep_mark();
    }

    /// Takes what the loop asks for, until it is to end.
    async fn obey(&self, mut orders: UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Append(drafts) => self.accept(drafts),
                Order::Whisper(message) => self.queue_whisper(message),
                Order::Level(question) => self.be_asked(question),
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

    fn queue_whisper(&self, message: Bytes) {
        let mut state = self.state.borrow_mut();
        state.whispers.push_back(message);
        if state.whispers.len() > WHISPERS {
            state.whispers.pop_front();
        }
        self.whispered.notify_one();
    }

    fn be_asked(&self, question: u64) {
        self.state.borrow_mut().question = Some(question);
        self.ask();
    }

    /// Has a mark published for the question that waits, unless one is on its way already: what was in the log when it
    /// was asked comes before that.
    fn ask(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.question.is_some() && state.asked.is_none() && state.opening.is_none() {
            state.is_mark_due = true;
            self.publishable.notify_one();
        }
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
                Ok(Ok(Begun { session, tail, ears, life, route })) => {
                    self.open(life, route, Instant::now());
                    let failure = self.converse(&session, tail, ears).await;
                    if self.state.borrow().opening.is_none() {
                        pause = FIRST_PAUSE;
                    }
                    failure
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(format_args!("it has not answered within {ANSWER_TIMEOUT:?}")),
            };
            self.went_down(&failure, Instant::now());
            let _ = self.begin.send(());
            // Full jitter: instances that lost the bus together do not come back together.
            let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
            sleep(pause.mul_f64(share)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn went_down(&self, failure: &Failure, now: Instant) {
        self.shared.went_away();
        self.keep_mark();
        let mut state = self.state.borrow_mut();
        state.down_since.get_or_insert(now);
        if state.is_down_logged {
            tracing::debug!("the bus still cannot be used: {failure}");
        } else {
            state.is_down_logged = true;
            tracing::warn!("the bus cannot be used, and what is said waits until it can: {failure}");
        }
    }

    fn came_up(&self) {
        let mut state = self.state.borrow_mut();
        self.shared.came_up(state.given);
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
            self.complain_if_down(Instant::now());
        }
    }

    fn complain_if_down(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        let is_long = state.down_since.is_some_and(|since| now.duration_since(since) >= DOWN_GRACE);
        // What is read at the beginning may take longer.
        let is_away = self.shared.readiness() == Err(Unready::Away);
        if is_long && is_away && !state.is_down_told {
            state.is_down_told = true;
            self.outbound.send(vec![Event::Status(Status::BusDown)]);
        }
    }

    /// Connects, agrees with the others on the life of the log and the key, and finds out where to go on.
    async fn begin(&self) -> Result<Begun<D>, Failure> {
        let session = self.driver.connect().await?;
        let run = session.run().await?;
        let mut meta = Meta::read(&session.meta().await?);
        if let Some(key) = self.key_to_propose {
            if meta.key.is_none() {
                // A bus that has lost the key is given it again, so that people stay who they are.
                let key = self.state.borrow().key.unwrap_or(key);
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
                        Found::Record(message.map(|message| (message.stamp, message.id)))
                    }
                    // It may just have been trimmed.
                    None if session.bounds().await?.first > mark.offset => Found::Unknown,
                    None => Found::Nothing,
                },
            };
            let trust = Trust::of(&run, meta.run.as_deref());
            let verdict = self.state.borrow().sequence.judge(&meta, bounds, found, trust);
            match verdict {
                Verdict::Declare { base } => {
                    let epoch = Epoch(getrandom::u64().map_err(Failure::new)?);
                    if trust == Trust::Doubtful {
                        tracing::warn!(
                            "the bus was restarted, and may have lost messages that were heard: a new epoch begins at {base}"
                        );
                    } else if mark.is_some() {
                        tracing::warn!("the bus has lost messages that are known here: a new epoch begins at {base}");
                    }
                    let life = Declared { stamp: Stamp { epoch, base }, after: bounds.last };
                    session.append_meta(wire::encode_life(&life, &run)).await?;
                    meta = Meta::read(&session.meta().await?);
                }
                Verdict::Follow(route) => {
                    if let Run::Named(run) = run
                        && meta.run.as_deref() != Some(&*run)
                        // Another may just have said so.
                        && Meta::read(&session.meta().await?).run.as_deref() != Some(&*run)
                    {
                        session.append_meta(wire::encode_run(&run)).await?;
                    }
                    let tail = session.tail(route.after).await?;
                    let ears = session.listen().await?;
                    return Ok(Begun { session, tail, ears, life: meta.best(), route });
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
    fn open(&self, life: Option<Stamp>, route: Route, now: Instant) {
        self.shared.fell_behind();
        let state = &mut *self.state.borrow_mut();
        state.sequence.follow(route);
        (state.life, state.sent, state.sent_since) = (life, 0, None);
        (state.last_return, state.last_own_return, state.mark_since) = (now, now, None);
        // Its mark may be lost.
        state.question = state.question.or(state.asked.take().map(|(_, question)| question));
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
            failure = self.follow(session, tail) => failure,
            failure = self.watch() => failure,
            failure = self.measure(session) => failure,
            failure = self.whisper(session) => failure,
            failure = self.listen(ears) => failure,
        }
    }

    /// Publishes drafts and marks, as many at once as there are.
    async fn publish(&self, session: &D::Session) -> Failure {
        loop {
            let batch = self.next_batch(Instant::now());
            if batch.is_empty() {
                self.publishable.notified().await;
                continue;
            }
            if let Err(failure) = answered(session.publish(&batch)).await {
                return failure;
            }
        }
    }

    fn next_batch(&self, now: Instant) -> Vec<Bytes> {
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
            if state.asked.is_none() {
                state.asked = state.question.take().map(|question| (id.number, question));
            }
            state.mark_since.get_or_insert(now);
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
            state.sent_since.get_or_insert(now);
        }
        batch
    }

    /// Follows the log, as fast as what comes is taken.
    async fn follow(&self, session: &D::Session, mut tail: <D::Session as Session>::Tail) -> Failure {
        loop {
            let mut records = match tail.next().await {
                Ok(records) => records.into_iter(),
                Err(failure) => return failure,
            };
            self.take(&mut records, Instant::now());
            while let [behind_hole, ..] = records.as_slice() {
                let crossed = match answered(session.bounds()).await {
                    Ok(bounds) => self.cross(behind_hole.offset, bounds),
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = crossed {
                    return failure;
                }
                self.take(&mut records, Instant::now());
            }
            while self.is_ahead() {
                let _ = self.begin.send(());
                let since = Instant::now();
                self.shared.hold(|| self.is_ahead()).await;
                self.was_held(since.elapsed());
            }
        }
    }

    /// Nothing was read for so long, and what is ours may be in what was not: that was no silence.
    fn was_held(&self, time: Duration) {
        let state = &mut *self.state.borrow_mut();
        state.last_return += time;
        state.last_own_return += time;
        for since in [&mut state.mark_since, &mut state.sent_since].into_iter().flatten() {
            *since += time;
        }
    }

    fn is_ahead(&self) -> bool {
        let state = self.state.borrow();
        self.shared.is_behind(state.given, state.given_bytes)
    }

    /// Goes on behind a hole in the log, if that cannot be one of those that were trimmed, of a log that has these `bounds`.
    fn cross(&self, offset: u64, bounds: Bounds) -> Result<(), Failure> {
        if self.state.borrow_mut().sequence.cross(offset, bounds) {
            return Ok(());
        }
        // What came between may have begun a life. The next session will find out what it has missed.
        Err(Failure::new("messages were trimmed before they were read"))
    }

    /// Takes records of the log, up to a hole in what is needed, and hands on what they bring.
    fn take(&self, records: &mut vec::IntoIter<Record>, now: Instant) {
        if records.as_slice().is_empty() {
            return;
        }
        let mut events = Vec::with_capacity(records.len());
        let mut is_up = false;
        let mark = {
            let state = &mut *self.state.borrow_mut();
            state.last_return = now;
            while records.as_slice().first().is_some_and(|record| !state.sequence.has_hole_before(record.offset))
                && let Some(Record { offset, bytes }) = records.next()
            {
                let message = state.decoder.decode(&bytes);
                let id = message.as_ref().map(|message| message.id);
                is_up |= id.is_some() && id == state.opening;
                let ours = id.filter(|id| id.instance == self.instance);
                if ours.is_some() {
                    (state.last_own_return, state.mark_since) = (state.last_return, None);
                }
                state.take(self.instance, offset, message, now, &mut events);
                if let Some(id) = ours
                    && let Some((_, question)) = state.asked.take_if(|(number, _)| *number == id.number)
                {
                    events.push(Event::Level(question));
                }
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
        self.ask();
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

    /// Whoever comes back goes on from where it has read to, told or not, and finds out if the broker has lost that.
    fn keep_mark(&self) {
        let state = &mut *self.state.borrow_mut();
        if let (Some(keeper), Some(mark)) = (&self.keeper, state.sequence.mark())
            && mark.offset != state.kept
        {
            state.kept = mark.offset;
            keeper.keep(Ordered { events: Vec::new(), mark });
        }
    }

    /// Sees to it that the log moves, and ends the session when it does not.
    async fn watch(&self) -> Failure {
        loop {
            sleep(TICK.min(self.canary / 4)).await;
            if let Some(failure) = self.check(Instant::now()) {
                return failure;
            }
        }
    }

    /// Measures how far behind the log we are, and not often: some brokers can only be asked by writing to the log.
    async fn measure(&self, session: &D::Session) -> Failure {
        loop {
            sleep(self.canary * OWN_INTERVALS).await;
            match answered(session.bounds()).await {
                Ok(bounds) => {
                    let read = self.state.borrow().sequence.mark().map_or(0, |mark| mark.offset);
                    self.shared.lag.store(bounds.last.saturating_sub(read), Ordering::Relaxed);
                }
                Err(failure) => return failure,
            }
        }
    }

    fn check(&self, now: Instant) -> Option<Failure> {
        if self.shared.is_held() {
            return None;
        }
        let state = &mut *self.state.borrow_mut();
        let patience = self.canary.max(Duration::from_secs(1));
        // Others may still be heard; and while much is read, our own is behind it.
        let waited = state.mark_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let is_behind = state.opening.is_some();
        if waited.max(if is_behind { patience } else { Duration::ZERO }) >= patience
            && now.duration_since(state.last_return) > patience
            || waited > patience.max(ANSWER_TIMEOUT) && !is_behind
        {
            return Some(Failure::new(format_args!("what is published does not come back within {patience:?}")));
        }
        if state.sent_since.is_some_and(|since| now.duration_since(since) > ANSWER_TIMEOUT) {
            return Some(Failure::new(format_args!("messages have not come back within {ANSWER_TIMEOUT:?}")));
        }
        let is_silent = now.duration_since(state.last_return) >= self.canary;
        let is_mute = now.duration_since(state.last_own_return) >= self.canary * OWN_INTERVALS;
        if (is_silent || is_mute) && state.opening.is_none() && state.mark_since.is_none() {
            (state.is_mark_due, state.mark_since) = (true, Some(now));
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
                Ok(message) => self.hear(message),
                Err(failure) => return failure,
            }
        }
    }

    fn hear(&self, mut message: Bytes) {
        if message.len() >= 8 && message.split_to(8)[..] != self.instance.to_be_bytes() {
            self.outbound.send(vec![Event::Whisper(message)]);
        }
    }
}

/// A session that can be opened.
struct Begun<D: Driver> {
    session: D::Session,
    tail: <D::Session as Session>::Tail,
    ears: <D::Session as Session>::Ears,
    /// The life to publish in.
    life: Option<Stamp>,
    route: Route,
}

/// What the broker answers, if it does so in time.
async fn answered<T>(answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::new(format_args!("it has not answered within {ANSWER_TIMEOUT:?}"))),
    }
}
