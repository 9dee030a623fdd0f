//! The thread of the bus: one session after the other, and within each what is published, followed and whispered.
//!
//! A session begins by finding out where the log stands. Then it publishes a mark, and follows the log until the mark
//! comes back: whatever of ours was published without an answer has come before it, and only what has not is published
//! again. When for some time nothing comes, another mark is published. A log that brings none back is as good as gone,
//! however friendly the connection is: the session ends.
//!
//! This file has the thread, what the loop asks of it, and the life of sessions. `agree` begins one, `publish` and `follow`
//! are its two directions, and `watch` notices what does not come.

mod agree;
mod follow;
mod publish;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;
mod watch;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use crate::chat::entry::{Draft, Position};
use crate::journal::contract::{Event, Refused, Status};
use crate::journal::ordered::{Mark, Stamp};
use crate::journal::outbound::Outbound;
use crate::journal::sqlite::Keeper;

use super::driver::{Driver, Failure, Session};
use super::sequence::{Keeping, Route, Sequence};
use super::shared::Shared;
use super::state::{Pending, State};

#[cfg(test)]
pub(in crate::journal) use stand_in::StandIn;

/// Pauses between attempts are random up to this: the first time, and at the most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An answer of the broker takes no longer, or the session ends.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Members are told that the bus is down when it has been for this long.
const DOWN_GRACE: Duration = Duration::from_secs(1);
/// What else a record has than its content, about.
const RECORD_BYTES: usize = 1_024;
/// Whispers that wait for the bus. Beyond, the oldest are dropped.
const WHISPERS: usize = 1_000;

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
                if self.is_too_long(&draft) {
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

    /// Refuses what was taken before it was known that the broker does not take it. It would hold up all behind it.
    fn refuse_what_is_too_long(&self) {
        let mut refused = Vec::new();
        {
            let state = &mut *self.state.borrow_mut();
            let handed = state.handed;
            state.pending.retain(|Pending { number, draft }| {
                let is_refused = *number > handed && self.is_too_long(draft);
                if is_refused {
                    refused.push(Event::Refused { draft: draft.clone(), reason: Refused::Unavailable });
                }
                !is_refused
            });
            state.give(&refused);
        }
        self.outbound.send(refused);
    }

    fn is_too_long(&self, draft: &Draft) -> bool {
        draft.content.bytes().len() + RECORD_BYTES > self.driver.max_record_bytes()
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
