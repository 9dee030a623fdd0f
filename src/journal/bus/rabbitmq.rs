//! RabbitMQ (3.9 or later): the log is a stream queue, spoken to over AMQP 0-9-1; its offsets are those of the stream,
//! counted from 1.
//!
//! AMQP has no question for the last offset of a stream, and a consumer that asks for an offset beyond the end is given
//! what comes next, without a word. So whoever wants to know where a stream ends publishes a *mark* to it and reads
//! until it comes: what is behind it came later. Marks are passed over by everybody, which makes holes in the offsets. Those
//! of the meta log stay for ever, so now and then a digest spares later sessions the reading of all of them.
//!
//! Streams: <https://www.rabbitmq.com/docs/streams>.

mod digest;
mod line;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures_util::future::{FutureExt, maybe_done};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{Channel, Confirmation, ErrorKind, ExchangeKind};

use super::driver::{Bounds, Driver, Ears, Failure, Session};
use line::Line;
use reader::{Deliveries, Follower, Kind, Message, Reader};

/// The type of a message that is a mark.
const MARK: &str = "application/x-chat-app-mark";
/// The argument that says where a reader begins, and the header that says where a message is.
const OFFSET: &str = "x-stream-offset";
/// Messages that are on the way to us before we acknowledge some.
const PREFETCH: u16 = 500;
/// Records of one batch of the tail.
const BATCH: usize = 250;
/// A server refuses longer messages by default (since 4.0; before, it was 128 MiB).
const MAX_RECORD_BYTES: usize = 16 << 20;
/// What is reckoned for one record, since a stream is bounded in bytes. Most are smaller: then more of them are kept.
const RECORD_BYTES: u64 = 1 << 10;
/// Trimmed is a whole segment at a time, so there are so many of them.
const SEGMENTS: u64 = 16;
/// A silent server is given up after this many seconds, unless the URL says otherwise.
const HEARTBEAT_SECONDS: u16 = 10;
/// lapin has buffers of 32 frames: these make them 1 MiB.
const FRAME_BYTES: u32 = 32 << 10;
/// Whispers that wait for one instance, and how long, in milliseconds. They are of no use later.
const WHISPERS: i32 = 1_000;
const WHISPER_MILLIS: i32 = 10_000;

/// A RabbitMQ server, and what is ours there.
pub(super) struct RabbitMq {
    uri: AMQPUri,
    names: Arc<Names>,
    /// Bytes that the log keeps, at least.
    keep_bytes: u64,
    /// It was told that the log keeps something else.
    is_told: AtomicBool,
}

/// The names of what is on the server.
#[derive(Debug)]
struct Names {
    log: ShortString,
    meta: ShortString,
    whispers: ShortString,
}

impl fmt::Debug for RabbitMq {
    /// Leaves out the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq").field("names", &self.names).finish_non_exhaustive()
    }
}

impl RabbitMq {
    /// The server at a URL, which is not yet connected to. The log keeps about `keep` records.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL.
    pub(super) fn new(url: &str, prefix: &str, keep: u64) -> Result<Self, String> {
        // What the parser has to say may have the whole URL in it.
        let wrong = |_| "the URL is not one of RabbitMQ, such as amqp://user:password@host:5672/vhost".to_owned();
        let mut uri: AMQPUri = url.parse().map_err(wrong)?;
        // A slash at the end is not meant as a virtual host without a name.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        // The parser knows no addresses in brackets, and would reach for this machine.
        let authority = url.split(['/', '?', '#']).nth(2).unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            address.clone_into(&mut uri.authority.host);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_BYTES);
        let name = |name| ShortString::from(format!("{prefix}.{name}"));
        let names = Names { log: name("log"), meta: name("meta"), whispers: name("whispers") };
        let keep_bytes = keep.saturating_mul(RECORD_BYTES);
        Ok(RabbitMq { uri, names: Arc::new(names), keep_bytes, is_told: AtomicBool::new(false) })
    }

    /// Makes what is not there yet.
    async fn declare(&self, line: &Line) -> Result<(), Failure> {
        // The active segment is never trimmed.
        let segment = (self.keep_bytes / SEGMENTS).clamp(1 << 20, 500 << 20);
        let kept = [
            ("x-max-length-bytes", number(self.keep_bytes.saturating_add(segment))),
            ("x-stream-max-segment-size-bytes", number(segment)),
        ];
        for (name, bounds) in [(&self.names.log, &kept[..]), (&self.names.meta, &[])] {
            let kind = ("x-queue-type", word("stream"));
            let arguments = table([kind].iter().chain(bounds).cloned());
            // A refusal closes the channel.
            let channel = line.channel().await?;
            match channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments).await {
                Ok(_) => {}
                Err(error) => self.judge(name, &error)?,
            }
        }
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let channel = line.channel().await?;
        let whispers = self.names.whispers.clone();
        let declared = channel.exchange_declare(whispers, ExchangeKind::Fanout, options, FieldTable::default());
        declared.await.map_err(|error| failure(&error))
    }

    /// A stream that is there and keeps more or less than we would like is good enough.
    fn judge(&self, name: &ShortString, error: &lapin::Error) -> Result<(), Failure> {
        let reason = error.to_string();
        match Undeclared::of(&reason) {
            Undeclared::OtherBounds => {
                if !self.is_told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the stream {name} of RabbitMQ was made to keep something else: a policy can change that"
                    );
                }
                Ok(())
            }
            Undeclared::Foreign => Err(foreign(name)),
            Undeclared::NoStreams => Err(Failure::new(format_args!(
                "this RabbitMQ has no streams: 3.9 or later is needed, with the feature flag stream_queue ({reason})"
            ))),
            Undeclared::Other => Err(failure(error)),
        }
    }
}

/// Why a stream was not declared, as far as RabbitMQ's sentence tells. It has no codes for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undeclared {
    /// It is there, and keeps something else.
    OtherBounds,
    /// There is something else of that name.
    Foreign,
    /// The server is too old for streams, or was told not to have any.
    NoStreams,
    Other,
}

impl Undeclared {
    fn of(reason: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        if has(&["inequivalent arg 'x-max", "inequivalent arg 'x-stream"]) {
            Undeclared::OtherBounds
        } else if has(&["inequivalent arg"]) {
            Undeclared::Foreign
        } else if has(&["x-queue-type", "stream_queue", "feature flag"]) {
            Undeclared::NoStreams
        } else {
            Undeclared::Other
        }
    }
}

impl Driver for RabbitMq {
    type Session = RabbitMqSession;

    fn is_dense(&self) -> bool {
        false
    }

    fn max_record_bytes(&self) -> usize {
        MAX_RECORD_BYTES
    }

    async fn connect(&self) -> Result<RabbitMqSession, Failure> {
        let line = Arc::new(Line::connect(&self.uri).await?);
        self.declare(&line).await?;
        let (publisher, whisperer) = (line.channel().await?, line.channel().await?);
        let confirmed = publisher.confirm_select(ConfirmSelectOptions::default());
        confirmed.await.map_err(|error| failure(&error))?;
        Ok(RabbitMqSession { line, publisher, whisperer, names: Arc::clone(&self.names) })
    }
}

/// One connection. Whatever may fail or wait has a channel of its own.
#[derive(Debug)]
pub(super) struct RabbitMqSession {
    line: Arc<Line>,
    publisher: Channel,
    whisperer: Channel,
    names: Arc<Names>,
}

impl RabbitMqSession {
    /// Publishes to a stream, and waits until all of it is there.
    async fn confirmed<'a>(
        &self,
        stream: &ShortString,
        messages: impl IntoIterator<Item = &'a [u8]>,
        properties: &BasicProperties,
    ) -> Result<(), Failure> {
        // Without a queue to go to a message would be confirmed and dropped.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = async |message| {
            let sent = self.publisher.basic_publish("".into(), stream.clone(), options, message, properties.clone());
            sent.await?.await
        };
        let mut confirmations: Vec<_> =
            messages.into_iter().map(|message| Box::pin(maybe_done(publish(message)))).collect();
        // The first poll of each hands it to lapin: so they are in order, and none waits for the one before it.
        poll_fn(|context| {
            for confirmation in &mut confirmations {
                let _ = confirmation.poll_unpin(context);
            }
            Poll::Ready(())
        })
        .await;
        for mut confirmation in confirmations {
            let confirmed = async {
                confirmation.as_mut().await;
                confirmation.as_mut().take_output().expect("it has just been waited for")
            };
            match self.line.answer(confirmed).await? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(_)) => return Err(Failure::new(format_args!("the stream {stream} is gone"))),
                _ => return Err(Failure::new(format_args!("the stream {stream} has not taken a message"))),
            }
        }
        Ok(())
    }

    /// Publishes a mark. Whoever consumes already will come to it.
    async fn mark(&self, stream: &ShortString) -> Result<[u8; 16], Failure> {
        let mut mark = [0; 16];
        getrandom::fill(&mut mark).map_err(Failure::new)?;
        let properties = BasicProperties::default().with_content_type(MARK.into());
        self.confirmed(stream, [&mark[..]], &properties).await?;
        Ok(mark)
    }

    /// Reads a stream from a place on.
    async fn read(&self, stream: &ShortString, from: AMQPValue) -> Result<Reader, Failure> {
        Reader::begin(&self.line, stream, from).await
    }

    /// Reads up to a message: where that began, and the last record before it.
    async fn survey(mut reader: Reader, is_end: impl Fn(&Message) -> bool) -> Result<(u64, Option<u64>), Failure> {
        let (mut begin, mut last) = (None, None);
        loop {
            let message = reader.message().await?;
            let begin = *begin.get_or_insert(message.offset);
            if is_end(&message) {
                return Ok((begin, last));
            }
            last = if message.kind == Kind::Record { Some(message.offset) } else { last };
        }
    }
}

impl Session for RabbitMqSession {
    type Tail = Follower;
    type Ears = RabbitMqEars;

    async fn meta(&self) -> Result<Vec<Bytes>, Failure> {
        self.meta_records().await
    }

    async fn append_meta(&self, record: Bytes) -> Result<(), Failure> {
        self.confirmed(&self.names.meta, [&record[..]], &BasicProperties::default()).await
    }

    async fn bounds(&self) -> Result<Bounds, Failure> {
        let log = &self.names.log;
        // It begins with the last messages that were stored together, or with the mark.
        let reader = self.read(log, word("last")).await?;
        let mark = self.mark(log).await?;
        let (mut begin, mut last) = Self::survey(reader, |message| message.is(&mark)).await?;
        // They may be marks alone. The records are before them.
        let mut step = u64::from(PREFETCH);
        while last.is_none() && begin > 1 {
            let from = begin.saturating_sub(step).max(1);
            let reader = self.read(log, place(from)).await?;
            let seen;
            (seen, last) = Self::survey(reader, |message| message.offset >= begin).await?;
            begin = seen;
            if seen > from {
                // Everything before has been trimmed.
                break;
            }
            step *= 8;
        }
        let first = match last {
            Some(_) => self.read(log, word("first")).await?.message().await?.offset,
            None => begin,
        };
        // By now even the last one may have been trimmed. What comes behind it may be an offset without a message.
        Ok(Bounds { first, last: last.filter(|last| *last >= first).unwrap_or(first - 1) })
    }

    async fn get(&self, offset: u64) -> Result<Option<Bytes>, Failure> {
        let Some(place) = offset.checked_sub(1).map(|_| place(offset)) else { return Ok(None) };
        let mut reader = self.read(&self.names.log, place).await?;
        let mark = self.mark(&self.names.log).await?;
        loop {
            let message = reader.message().await?;
            if message.offset >= offset || message.is(&mark) {
                return Ok((message.offset == offset && message.kind == Kind::Record).then_some(message.bytes));
            }
        }
    }

    async fn publish(&self, batch: &[Bytes]) -> Result<(), Failure> {
        let messages = batch.iter().map(|record| &record[..]);
        self.confirmed(&self.names.log, messages, &BasicProperties::default()).await
    }

    async fn tail(&self, after: u64) -> Result<Follower, Failure> {
        Follower::begin(Arc::clone(&self.line), self.names.log.clone(), after + 1).await
    }

    async fn whisper(&self, message: Bytes) -> Result<(), Failure> {
        let (exchange, options) = (self.names.whispers.clone(), BasicPublishOptions::default());
        let sent = self.whisperer.basic_publish(exchange, "".into(), options, &message, BasicProperties::default());
        self.line.answer(sent).await.map(drop)
    }

    async fn listen(&self) -> Result<RabbitMqEars, Failure> {
        let channel = self.line.channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let bounds =
            [("x-max-length", AMQPValue::LongInt(WHISPERS)), ("x-message-ttl", AMQPValue::LongInt(WHISPER_MILLIS))];
        let declared = channel.queue_declare("".into(), options, table(bounds));
        let queue = self.line.answer(declared).await?;
        let (name, exchange) = (queue.name().clone(), self.names.whispers.clone());
        let bound = channel.queue_bind(name.clone(), exchange, "".into(), QueueBindOptions::default(), table([]));
        self.line.answer(bound).await?;
        self.line.answer(Deliveries::begin(channel, name, table([]))).await.map(RabbitMqEars)
    }
}

/// What comes from the whispers' exchange.
#[derive(Debug)]
pub(super) struct RabbitMqEars(Deliveries);

impl Ears for RabbitMqEars {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        let delivery = self.0.wait().await?;
        self.0.acknowledge().await?;
        Ok(delivery.data.into())
    }
}

fn word(word: &str) -> AMQPValue {
    AMQPValue::LongString(word.into())
}

/// An offset of ours as one of the stream.
fn place(offset: u64) -> AMQPValue {
    number(offset - 1)
}

fn number(number: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX))
}

fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// A queue that was to be a stream has messages without offsets. A server that is so old that it does not know what a
/// queue can be makes one of its own kind, without a word.
fn no_stream(queue: &ShortString) -> Failure {
    Failure::new(format_args!(
        "the queue {queue} is no stream: RabbitMQ 3.9 or later is needed, or another --bus-prefix if the queue is not one \
         of chat-app"
    ))
}

fn foreign(queue: &ShortString) -> Failure {
    Failure::new(format_args!("the queue {queue} is not one of chat-app; choose another --bus-prefix"))
}

fn failure(error: &lapin::Error) -> Failure {
    match error.kind() {
        ErrorKind::IOError(error) => Failure::new(error),
        ErrorKind::ProtocolError(error) => Failure::new(error.get_message()),
        ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) => {
            Failure::new("the connection is lost")
        }
        ErrorKind::MissingHeartbeatError => Failure::new("RabbitMQ has been silent for too long"),
        _ => Failure::new(error),
    }
}
