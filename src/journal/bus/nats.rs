//! NATS with JetStream (2.9 or later): the log is a stream, its offsets the sequence numbers of the stream.
//!
//! A batch is sent without waiting for the answers in between. A server, or a cluster that changes its leader, may take
//! some messages and not those before them. So each says which message must be the last one in the stream when it comes:
//! the one before it in the batch. If that was not taken, or another instance came in between, the rest of the batch is
//! refused, and sent again when all answers are there.
//!
//! Whispers are core messages, which reach whoever is subscribed.
//!
//! Streams: <https://docs.nats.io/nats-concepts/jetstream/streams>.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::error::Error as _;
use std::fmt::{self, Display};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Config as ConsumerConfig, Stream as Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config as StreamConfig, RawMessageErrorKind, Stream};
use async_nats::jetstream::{Context, ContextBuilder, ErrorCode};
use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use super::driver::{Bounds, Driver, Ears, Failure, Record, Session, Tail};

/// Messages that are sent before the first answer is waited for.
const CHAIN: usize = 250;
/// Records of one batch of the tail.
const BATCH: usize = 250;
/// Messages that are on the way to us before we ask for more.
const PREFETCH: usize = 500;
/// A server is asked whether it is still there after this silence, and given up at the third question.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A stream without news says so this often, and has broken when it does not say so twice.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// What the server remembers of a reader that is gone.
const READER_LIFE: Duration = Duration::from_secs(60);
/// The journal has its own idea of how long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the server knows the ids of messages. Only the last one is of use here.
const ID_LIFE: Duration = Duration::from_secs(1);
/// A server takes such messages by default, with their headers.
const MAX_PAYLOAD: usize = 1 << 20;
/// Our headers: two ids of less than 40 bytes, and their names.
const HEADERS: usize = 256;

/// NATS servers, and what is ours there.
pub(super) struct Nats {
    /// Without users and passwords.
    servers: Vec<ServerAddr>,
    login: Login,
    names: Arc<Names>,
    /// Records that the log keeps.
    keep: u64,
    /// What the server said that was reached last.
    max_payload: AtomicUsize,
    /// It was told that the log keeps something else.
    is_told: AtomicBool,
}

enum Login {
    Nobody,
    Token(String),
    User(String, String),
}

/// The names of what is on the server: streams, and the subjects they listen to.
#[derive(Debug)]
struct Names {
    log: String,
    log_subject: Subject,
    meta: String,
    meta_subject: Subject,
    whispers: Subject,
}

impl fmt::Debug for Nats {
    /// Leaves out the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Nats {
    /// The servers at a URL, or at several with commas between them, which are not yet connected to. User and password,
    /// or a token, are those of the first URL. The log keeps `keep` records.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL.
    pub(super) fn new(url: &str, prefix: &str, keep: u64) -> Result<Self, String> {
        const WRONG: &str = "the URL is not one of NATS, such as nats://user:password@host:4222";
        let (mut servers, mut login) = (Vec::new(), Login::Nobody);
        for url in url.split(',') {
            let server: ServerAddr = url.trim().parse().map_err(|_| WRONG)?;
            if !matches!(server.scheme(), "nats" | "tls") || server.host().is_empty() {
                return Err(WRONG.to_owned());
            }
            let plain = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| WRONG);
            if let (Login::Nobody, Some(user)) = (&login, server.username()) {
                login = match server.password() {
                    Some(password) => Login::User(plain(user)?, plain(password)?),
                    None => Login::Token(plain(user)?),
                };
            }
            // The client writes addresses to its log.
            let mut address = server.into_inner();
            address.set_username("").and_then(|()| address.set_password(None)).map_err(|()| WRONG)?;
            servers.push(ServerAddr::from_url(address).map_err(|_| WRONG)?);
        }
        let subject = |name| Subject::from(format!("{prefix}.{name}"));
        let names = Names {
            log: format!("{prefix}-log"),
            log_subject: subject("log"),
            meta: format!("{prefix}-meta"),
            meta_subject: subject("meta"),
            whispers: subject("whispers"),
        };
        let (max_payload, is_told) = (AtomicUsize::new(MAX_PAYLOAD), AtomicBool::new(false));
        Ok(Nats { servers, login, names: Arc::new(names), keep, max_payload, is_told })
    }

    async fn client(&self) -> Result<(Client, watch::Receiver<Option<String>>), Failure> {
        let (end, ended) = watch::channel(None);
        let options = match &self.login {
            Login::Nobody => ConnectOptions::new(),
            Login::Token(token) => ConnectOptions::with_token(token.clone()),
            Login::User(user, password) => ConnectOptions::with_user_and_password(user.clone(), password.clone()),
        };
        let told = move |event| {
            let reason = match event {
                // The client would go on with another connection, and what was sent on this one is unclear.
                Event::Disconnected | Event::Closed => "the connection is lost".to_owned(),
                Event::ServerError(error) => error.to_string(),
                _ => return ready(()),
            };
            end.send_if_modified(|end| end.is_none() && end.replace(reason).is_none());
            ready(())
        };
        let options = options.name("chat-app").ping_interval(PING_INTERVAL).request_timeout(Some(ANSWER_TIMEOUT));
        let options = options.max_reconnects(self.servers.len()).event_callback(told);
        let client = options.connect(&self.servers[..]).await.map_err(failure)?;
        Ok((client, ended))
    }

    /// A stream, which is made if it is not there.
    async fn stream(&self, context: &Context, name: &str, subject: &Subject, keep: u64) -> Result<Stream<()>, Failure> {
        let max_messages = i64::try_from(keep).unwrap_or(i64::MAX);
        let (name, subjects) = (name.to_owned(), vec![subject.to_string()]);
        let wanted =
            StreamConfig { name, subjects, max_messages, duplicate_window: ID_LIFE, ..StreamConfig::default() };
        let (name, subjects) = (wanted.name.clone(), wanted.subjects.clone());
        let stream = context.get_or_create_stream(wanted).await.map_err(|error| {
            use async_nats::jetstream::context::CreateStreamErrorKind as Kind;
            match error.kind() {
                Kind::JetStream(error) if is_off(error.error_code()) => off(),
                Kind::JetStreamUnavailable => off(),
                _ => failure(error),
            }
        })?;
        let config = &stream.cached_info().config;
        if config.subjects != subjects {
            return Err(Failure::new(format_args!(
                "the stream {name} is not one of chat-app; choose another --bus-prefix"
            )));
        }
        // Zero and -1 both mean no bound.
        if config.max_messages.max(0) != max_messages && !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the stream {name} of NATS was made to keep something else: \"nats stream edit\" can change that"
            );
        }
        context.get_stream_no_info(name).await.map_err(failure)
    }
}

impl Driver for Nats {
    type Session = NatsSession;

    fn max_record_bytes(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed).saturating_sub(HEADERS)
    }

    async fn connect(&self) -> Result<NatsSession, Failure> {
        let (client, ended) = self.client().await?;
        self.max_payload.store(client.server_info().max_payload, Ordering::Relaxed);
        let context = ContextBuilder::new().timeout(ANSWER_TIMEOUT).ack_timeout(ANSWER_TIMEOUT).build(client.clone());
        let names = Arc::clone(&self.names);
        let opened = async {
            let log = self.stream(&context, &names.log, &names.log_subject, self.keep).await?;
            let meta = self.stream(&context, &names.meta, &names.meta_subject, 0).await?;
            Ok((log, meta))
        };
        let (log, meta) = unless_ended(&ended, opened).await?;
        let id = getrandom::u64().map_err(Failure::new)?;
        Ok(NatsSession { client, context, log, meta, names, ended, id, sent: Cell::new(0) })
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct NatsSession {
    client: Client,
    context: Context,
    log: Stream<()>,
    meta: Stream<()>,
    names: Arc<Names>,
    ended: watch::Receiver<Option<String>>,
    /// What the ids of its messages begin with.
    id: u64,
    /// Messages sent.
    sent: Cell<usize>,
}

impl NatsSession {
    /// Sends messages to the log so that none is there without the one before it: how many are there, at least one.
    async fn chain(&self, messages: &[Bytes]) -> Result<usize, Failure> {
        let first = self.sent.replace(self.sent.get() + messages.len());
        let id = |place| format!("{:x}-{:x}", self.id, first + place);
        let mut answers = Vec::with_capacity(messages.len());
        for (place, message) in messages.iter().enumerate() {
            let mut sent = PublishMessage::build().payload(message.clone()).message_id(id(place));
            if let Some(before) = place.checked_sub(1) {
                sent = sent.expected_last_message_id(id(before));
            }
            answers.push(self.context.send_publish(self.names.log_subject.clone(), sent).await.map_err(failure)?);
        }
        let mut stored = 0;
        for (place, answer) in answers.into_iter().enumerate() {
            match answer.await {
                Ok(_) if place == stored => stored += 1,
                Ok(_) => return Err(Failure::new("the stream has taken a message and not the one before it")),
                Err(error) if place > 0 && error.kind() == PublishErrorKind::WrongLastMessageId => {}
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(stored)
    }

    /// One message of a stream, if it is there.
    async fn message(stream: &Stream<()>, sequence: u64) -> Result<Option<Bytes>, Failure> {
        match stream.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(owned(&message.payload))),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    async fn unless_ended<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        unless_ended(&self.ended, answer).await
    }
}

impl Session for NatsSession {
    type Tail = NatsTail;
    type Ears = NatsEars;

    async fn meta(&self) -> Result<Vec<Bytes>, Failure> {
        self.unless_ended(async {
            let last = self.meta.get_info().await.map_err(failure)?.state.last_sequence;
            let mut records = Vec::new();
            for sequence in 1..=last {
                records.extend(Self::message(&self.meta, sequence).await?);
            }
            Ok(records)
        })
        .await
    }

    async fn append_meta(&self, record: Bytes) -> Result<(), Failure> {
        self.unless_ended(async {
            let sent = self.context.publish(self.names.meta_subject.clone(), record).await.map_err(failure)?;
            sent.await.map(drop).map_err(failure)
        })
        .await
    }

    async fn bounds(&self) -> Result<Bounds, Failure> {
        self.unless_ended(async {
            let state = self.log.get_info().await.map_err(failure)?.state;
            let last = state.last_sequence;
            Ok(Bounds { first: if state.messages > 0 { state.first_sequence } else { last + 1 }, last })
        })
        .await
    }

    async fn get(&self, offset: u64) -> Result<Option<Bytes>, Failure> {
        self.unless_ended(Self::message(&self.log, offset)).await
    }

    async fn publish(&self, batch: &[Bytes]) -> Result<(), Failure> {
        self.unless_ended(async {
            let mut rest = batch;
            while !rest.is_empty() {
                let stored = self.chain(&rest[..rest.len().min(CHAIN)]).await?;
                rest = &rest[stored..];
            }
            Ok(())
        })
        .await
    }

    async fn tail(&self, after: u64) -> Result<NatsTail, Failure> {
        let config = ConsumerConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            ack_policy: AckPolicy::None,
            inactive_threshold: READER_LIFE,
            memory_storage: true,
            num_replicas: 1,
            ..ConsumerConfig::default()
        };
        let begun = async {
            let consumer = self.log.create_consumer(config).await.map_err(failure)?;
            let messages = consumer.stream().max_messages_per_batch(PREFETCH).heartbeat(HEARTBEAT);
            messages.messages().await.map_err(failure)
        };
        let messages = self.unless_ended(begun).await?;
        Ok(NatsTail { messages: Box::new(messages), ended: self.ended.clone(), delivered: 0 })
    }

    async fn whisper(&self, message: Bytes) -> Result<(), Failure> {
        let sent = self.client.publish(self.names.whispers.clone(), message);
        self.unless_ended(sent.map(|sent| sent.map_err(failure))).await
    }

    async fn listen(&self) -> Result<NatsEars, Failure> {
        self.unless_ended(async {
            let whispers = self.client.subscribe(self.names.whispers.clone()).await.map_err(failure)?;
            // The server does one thing after the other: when it has answered this, it listens for us.
            self.log.get_info().await.map_err(failure)?;
            Ok(NatsEars { whispers, ended: self.ended.clone() })
        })
        .await
    }
}

/// A stream from a place on.
pub(super) struct NatsTail {
    messages: Box<Messages>,
    ended: watch::Receiver<Option<String>>,
    /// Messages that the server has given to this reader, which it counts.
    delivered: u64,
}

impl fmt::Debug for NatsTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsTail").field("delivered", &self.delivered).finish_non_exhaustive()
    }
}

impl Tail for NatsTail {
    async fn next(&mut self) -> Result<Vec<Record>, Failure> {
        let mut records = Vec::new();
        while records.len() < BATCH {
            let message = if records.is_empty() {
                let message = self.messages.next().map(Ok);
                unless_ended(&self.ended, message).await?
            } else {
                let Some(message) = self.messages.next().now_or_never() else { break };
                message
            };
            let message = message.ok_or_else(|| Failure::new("the server has ended the reading of the stream"))?;
            let message = message.map_err(failure)?;
            let info = message.info().map_err(Failure::new)?;
            self.delivered += 1;
            if info.consumer_sequence != self.delivered {
                return Err(Failure::new("a message of the stream was lost on its way"));
            }
            records.push(Record { offset: info.stream_sequence, bytes: owned(&message.payload) });
        }
        Ok(records)
    }
}

/// What is whispered.
#[derive(Debug)]
pub(super) struct NatsEars {
    whispers: Subscriber,
    ended: watch::Receiver<Option<String>>,
}

impl Ears for NatsEars {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        let message = unless_ended(&self.ended, self.whispers.next().map(Ok)).await?;
        let message = message.ok_or_else(|| Failure::new("the server has ended the subscription"))?;
        Ok(owned(&message.payload))
    }
}

/// Waits for an answer as long as there is the connection on which it may come.
async fn unless_ended<T>(
    ended: &watch::Receiver<Option<String>>,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut ended = ended.clone();
    tokio::select! {
        biased;
        answer = answer => answer,
        reason = ended.wait_for(Option::is_some) => {
            Err(Failure::new(reason.ok().as_deref().and_then(Option::as_deref).unwrap_or("the connection is lost")))
        }
    }
}

/// The client gives slices of its buffers.
fn owned(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(payload)
}

fn is_off(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT)
}

fn off() -> Failure {
    Failure::new("this NATS server has no JetStream: it has to be started with it (nats-server -js)")
}

/// An error of the client with its reason, which its own text leaves out now and then.
#[expect(clippy::needless_pass_by_value, reason = "it stands where a function is passed")]
fn failure<Kind>(error: async_nats::error::Error<Kind>) -> Failure
where
    Kind: Clone + fmt::Debug + Display + PartialEq,
{
    let text = error.to_string();
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    let source = source.trim_start_matches("nats: ");
    if text.contains(source) { Failure::new(text) } else { Failure::new(format_args!("{text}: {source}")) }
}
