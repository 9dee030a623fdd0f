//! Reading a stream, message by message, and other queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::time::timeout;

use super::super::driver::{Failure, Record, Tail};
use super::digest::DIGEST;
use super::line::Line;
use super::{BATCH, MARK, OFFSET, PREFETCH, failure, foreign, no_stream, place, table, word};

/// All deliveries are acknowledged after so long.
const LONGEST_OPEN: Duration = Duration::from_secs(1);

/// A stream from a place on, with its marks and digests.
#[derive(Debug)]
pub(super) struct Reader(Deliveries);

impl Reader {
    pub(super) async fn begin(line: &Line, stream: &ShortString, from: AMQPValue) -> Result<Self, Failure> {
        let begun = Deliveries::begin(line.channel().await?, stream.clone(), table([(OFFSET, from)]));
        match line.answer(begun).await {
            Ok(deliveries) => Ok(Reader(deliveries)),
            // Other queues know no such argument.
            Err(failure) if failure.to_string().contains(OFFSET) => Err(foreign(stream)),
            Err(failure) => Err(failure),
        }
    }

    /// The next message, of any kind.
    pub(super) async fn message(&mut self) -> Result<Message, Failure> {
        let delivery = self.0.wait().await?;
        self.0.acknowledge().await?;
        Message::new(delivery)
    }
}

/// The records of a stream that is trimmed, from a place on.
#[derive(Debug)]
pub(in super::super) struct Follower {
    line: Arc<Line>,
    stream: ShortString,
    deliveries: Deliveries,
    /// The offset of the message that comes next.
    next: u64,
}

impl Follower {
    /// Follows from a message on, which need not be there yet.
    pub(super) async fn begin(line: Arc<Line>, stream: ShortString, next: u64) -> Result<Self, Failure> {
        let Reader(deliveries) = Reader::begin(&line, &stream, place(next)).await?;
        Ok(Follower { line, stream, deliveries, next })
    }

    async fn checked(&mut self, delivery: Delivery) -> Result<Message, Failure> {
        let message = Message::new(delivery)?;
        if message.offset < self.next {
            return Err(Failure::new("what was read before has changed"));
        }
        // Who reads more slowly than the stream is trimmed gets what is left, without a word. The next session will find
        // out what it has missed.
        if message.offset > self.next && !self.was_never_there(message.offset).await? {
            return Err(Failure::new("messages were trimmed before they were read"));
        }
        self.next = message.offset + 1;
        Ok(message)
    }

    /// Whether there was never a message from the next one on until this offset. RabbitMQ uses some for itself: one where
    /// a segment begins, and as many as readers of its own protocol tell it how far they have come.
    async fn was_never_there(&self, offset: u64) -> Result<bool, Failure> {
        let first_from = async |from| Reader::begin(&self.line, &self.stream, from).await?.message().await;
        let again = first_from(place(self.next)).await?.offset;
        // It is trimmed from its beginning on: what is behind a message that is still there is there, too.
        let first = first_from(word("first")).await?.offset;
        Ok(again == offset && first < self.next)
    }
}

impl Tail for Follower {
    async fn next(&mut self) -> Result<Vec<Record>, Failure> {
        let first = self.deliveries.wait().await?;
        let mut messages = vec![self.checked(first).await?];
        while messages.len() < BATCH {
            let Some(delivery) = self.deliveries.ready() else { break };
            messages.push(self.checked(delivery?).await?);
        }
        self.deliveries.acknowledge().await?;
        let records = messages.into_iter().filter(|message| message.kind == Kind::Record);
        Ok(records.map(|Message { offset, bytes, .. }| Record { offset, bytes }).collect())
    }
}

/// What a stream is made of.
#[derive(Debug)]
pub(super) struct Message {
    /// Its place, counted from 1.
    pub(super) offset: u64,
    pub(super) kind: Kind,
    pub(super) bytes: Bytes,
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The journal has published it.
    Record,
    /// Whoever has published it looks for the end.
    Mark,
    /// It repeats records.
    Digest,
}

impl Message {
    fn new(delivery: Delivery) -> Result<Self, Failure> {
        let headers = delivery.properties.headers().as_ref();
        let Some(AMQPValue::LongLongInt(offset)) = headers.and_then(|headers| headers.inner().get(OFFSET)) else {
            return Err(no_stream(&delivery.routing_key));
        };
        let offset = u64::try_from(*offset).map_err(Failure::new)? + 1;
        let kind = match delivery.properties.content_type().as_ref().map(ShortString::as_str) {
            Some(MARK) => Kind::Mark,
            Some(DIGEST) => Kind::Digest,
            _ => Kind::Record,
        };
        Ok(Message { offset, kind, bytes: delivery.data.into() })
    }

    /// Whether it is this mark.
    pub(super) fn is(&self, mark: &[u8]) -> bool {
        self.kind == Kind::Mark && self.bytes == mark
    }
}

/// A consumer on a channel of its own.
#[derive(Debug)]
pub(super) struct Deliveries {
    channel: Channel,
    consumer: Consumer,
    /// The newest delivery, and how many have not been acknowledged.
    newest: u64,
    open: u16,
    acknowledged_at: Instant,
}

impl Deliveries {
    pub(super) async fn begin(channel: Channel, queue: ShortString, arguments: FieldTable) -> lapin::Result<Self> {
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, "".into(), options, arguments).await?;
        Ok(Deliveries { channel, consumer, newest: 0, open: 0, acknowledged_at: Instant::now() })
    }

    /// The next delivery. By then its caller has done with those before.
    pub(super) async fn wait(&mut self) -> Result<Delivery, Failure> {
        if self.open > 0 {
            // Perhaps nothing more comes, with which these would be acknowledged.
            let rest = LONGEST_OPEN.saturating_sub(self.acknowledged_at.elapsed());
            match timeout(rest, self.consumer.next()).await {
                Ok(delivery) => return self.taken(delivery),
                Err(_) => self.acknowledge_all().await?,
            }
        }
        let delivery = self.consumer.next().await;
        self.taken(delivery)
    }

    /// A delivery that is there already.
    fn ready(&mut self) -> Option<Result<Delivery, Failure>> {
        let delivery = self.consumer.next().now_or_never()?;
        Some(self.taken(delivery))
    }

    fn taken(&mut self, delivery: Option<lapin::Result<Delivery>>) -> Result<Delivery, Failure> {
        let delivery = delivery.ok_or_else(|| Failure::new("the server has ended the reading of a queue"))?;
        let delivery = delivery.map_err(|error| failure(&error))?;
        (self.newest, self.open) = (delivery.delivery_tag, self.open + 1);
        Ok(delivery)
    }

    /// Lets the server send more, when half of what it may send has come, and now and then: it gives up a consumer that has
    /// left anything open for half an hour, in which less may come, or nothing.
    pub(super) async fn acknowledge(&mut self) -> Result<(), Failure> {
        if self.open < PREFETCH / 2 && self.acknowledged_at.elapsed() < LONGEST_OPEN {
            return Ok(());
        }
        self.acknowledge_all().await
    }

    async fn acknowledge_all(&mut self) -> Result<(), Failure> {
        (self.open, self.acknowledged_at) = (0, Instant::now());
        let acknowledged = self.channel.basic_ack(self.newest, BasicAckOptions { multiple: true });
        acknowledged.await.map_err(|error| failure(&error))
    }
}
