//! Redis (7 or later) and Valkey: the log is a stream, its offsets the ids `0-n` that `XADD key 0-*` gives.
//!
//! One connection carries commands, one is blocked by the tail, one is subscribed to the whispers. A batch is one
//! transaction, so that none of its records is there without those before it. `XREAD` passes over what was trimmed
//! without a word, which the journal notices by the first id that comes.
//!
//! Streams: <https://redis.io/docs/latest/develop/data-types/streams/>.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, Value, cmd, pipe};

use super::driver::{Bounds, Driver, Ears, Failure, Record, Run, Session, Tail};

/// The first version that gives ids of the form `0-n` by itself.
const LEAST_VERSION: u32 = 7;
/// The one field of a record.
const FIELD: &str = "r";
/// Records read at once.
const READ: usize = 500;
/// How long a read blocks when nothing comes, in milliseconds.
const BLOCK_MILLIS: usize = 5_000;
/// The server may refuse larger strings by default (`proto-max-bulk-len`).
const MAX_RECORD_BYTES: usize = 512 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A Redis server, and what is ours there.
#[derive(Debug)]
pub(super) struct Redis {
    client: Client,
    keys: Keys,
    /// Records that the log keeps, about.
    keep: u64,
}

/// The names of what is on the server.
#[derive(Debug, Clone)]
struct Keys {
    log: String,
    meta: String,
    whispers: String,
}

impl Redis {
    /// The server at a URL, which is not yet connected to.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL.
    pub(super) fn new(url: &str, prefix: &str, keep: u64) -> Result<Self, String> {
        let wrong = |_| "the URL is not one of a Redis server, such as redis://user:password@host:6379/0".to_owned();
        // A batch or a whisper is small, and nothing follows it for a while.
        let settings = TcpSettings::default().set_nodelay(true);
        let server = url.into_connection_info().map_err(wrong)?.set_tcp_settings(settings);
        let client = Client::open(server).map_err(wrong)?;
        let key = |name| format!("{prefix}:{name}");
        let keys = Keys { log: key("log"), meta: key("meta"), whispers: key("whispers") };
        Ok(Redis { client, keys, keep })
    }
}

impl Driver for Redis {
    type Session = RedisSession;

    fn max_record_bytes(&self) -> usize {
        MAX_RECORD_BYTES
    }

    async fn connect(&self) -> Result<RedisSession, Failure> {
        let commands = connection(&self.client).await?;
        let run = present_run(commands.clone()).await?;
        Ok(RedisSession { client: self.client.clone(), commands, keys: self.keys.clone(), keep: self.keep, run })
    }
}

/// The journal has timeouts of its own, and a tail waits as long as it likes.
async fn connection(client: &Client) -> Result<MultiplexedConnection, Failure> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| failure(&error))
}

/// Finds out whether the server can be used, and what it says of its restarts. Nothing needs to be allowed but to use it:
/// whoever may not ask finds out by the first record that a server is too old, and believes that it loses nothing.
async fn present_run(mut commands: MultiplexedConnection) -> Result<Run, Failure> {
    let Ok(server) = cmd("INFO").arg("server").query_async::<String>(&mut commands).await else {
        return Ok(Run::Unmarked);
    };
    check_version(&server)?;
    let Some(run) = field(&server, "run_id").filter(|run| !run.is_empty()) else { return Ok(Run::Unmarked) };
    let persistence = cmd("INFO").arg("persistence").query_async::<String>(&mut commands).await.unwrap_or_default();
    let mut has = async |name: &str, wanted: &str| {
        let config = cmd("CONFIG").arg("GET").arg(name).query_async::<Vec<String>>(&mut commands).await;
        config.is_ok_and(|config| config.get(1).is_some_and(|value| value == wanted))
    };
    // It may have been told not to wait for the disk while it writes its file anew.
    let is_always = has("appendfsync", "always").await && has("no-appendfsync-on-rewrite", "no").await;
    if is_always && field(&persistence, "aof_enabled") == Some("1") {
        return Ok(Run::Unmarked);
    }
    Ok(Run::Named(run.to_owned()))
}

/// A field of what `INFO` tells.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Whether a server of which `INFO` tells this has what is needed. One that does not tell its version is tried.
fn check_version(info: &str) -> Result<(), Failure> {
    if field(info, "valkey_version").is_some() {
        return Ok(());
    }
    let version = field(info, "redis_version").unwrap_or_default();
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major < LEAST_VERSION => Err(too_old(version)),
        _ => Ok(()),
    }
}

fn too_old(version: &str) -> Failure {
    Failure::new(format_args!("Redis {version} is too old: {LEAST_VERSION} or later is needed, or Valkey"))
}

fn failure(error: &RedisError) -> Failure {
    if error.detail().is_some_and(|detail| detail.contains("Invalid stream ID")) {
        return too_old("before 7");
    }
    Failure::new(error)
}

fn strange(what: &str) -> Failure {
    Failure::new(format_args!("{what} on the server is not one of chat-app; choose another with --bus-prefix"))
}

/// A connection for commands, and what is needed to make others.
#[derive(Debug)]
pub(super) struct RedisSession {
    client: Client,
    commands: MultiplexedConnection,
    keys: Keys,
    keep: u64,
    run: Run,
}

impl Session for RedisSession {
    type Tail = RedisTail;
    type Ears = RedisEars;

    async fn meta(&self) -> Result<Vec<Bytes>, Failure> {
        let records = self.ask(cmd("XRANGE").arg(&self.keys.meta).arg("-").arg("+")).await?;
        Ok(entries(records)?.into_iter().map(|(_, record)| record).collect())
    }

    async fn append_meta(&self, record: Bytes) -> Result<(), Failure> {
        self.ask(cmd("XADD").arg(&self.keys.meta).arg("*").arg(FIELD).arg(&record[..])).await.map(drop)
    }

    async fn run(&self) -> Result<Run, Failure> {
        Ok(self.run.clone())
    }

    async fn bounds(&self) -> Result<Bounds, Failure> {
        let mut commands = self.commands.clone();
        let info: Value = match cmd("XINFO").arg("STREAM").arg(&self.keys.log).query_async(&mut commands).await {
            Ok(info) => info,
            Err(error) if error.to_string().contains("no such key") => return Ok(Bounds { first: 1, last: 0 }),
            Err(error) => return Err(failure(&error)),
        };
        let unreadable = || strange("the stream");
        let fields = items(info).ok_or_else(unreadable)?;
        let field = |name: &[u8]| {
            let place = fields.iter().step_by(2).position(|field| bytes_of(field) == Some(name))?;
            fields.get(place * 2 + 1)
        };
        let last = field(b"last-generated-id").and_then(offset).ok_or_else(unreadable)?;
        let first = match field(b"first-entry") {
            Some(Value::Array(entry)) => entry.first().and_then(offset).ok_or_else(unreadable)?,
            _ => last + 1,
        };
        Ok(Bounds { first, last })
    }

    async fn get(&self, offset: u64) -> Result<Option<Bytes>, Failure> {
        let id = id(offset);
        let found = self.ask(cmd("XRANGE").arg(&self.keys.log).arg(&id).arg(&id)).await?;
        Ok(entries(found)?.pop().map(|(_, record)| record))
    }

    async fn publish(&self, batch: &[Bytes]) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut transaction = pipe();
        transaction.atomic();
        for record in batch {
            let add = transaction.cmd("XADD").arg(&self.keys.log).arg("MAXLEN").arg("~").arg(self.keep);
            add.arg("0-*").arg(FIELD).arg(&record[..]).ignore();
        }
        transaction.query_async(&mut self.commands.clone()).await.map_err(|error| failure(&error))
    }

    async fn tail(&self, after: u64) -> Result<RedisTail, Failure> {
        Ok(RedisTail { connection: connection(&self.client).await?, log: self.keys.log.clone(), after })
    }

    async fn whisper(&self, message: Bytes) -> Result<(), Failure> {
        self.ask(cmd("PUBLISH").arg(&self.keys.whispers).arg(&message[..])).await.map(drop)
    }

    async fn listen(&self) -> Result<RedisEars, Failure> {
        let mut subscription = self.client.get_async_pubsub().await.map_err(|error| failure(&error))?;
        subscription.subscribe(&self.keys.whispers).await.map_err(|error| failure(&error))?;
        Ok(RedisEars(subscription.into_on_message()))
    }
}

impl RedisSession {
    async fn ask(&self, command: &redis::Cmd) -> Result<Value, Failure> {
        command.query_async(&mut self.commands.clone()).await.map_err(|error| failure(&error))
    }
}

/// The stream, read from a connection of its own.
#[derive(Debug)]
pub(super) struct RedisTail {
    connection: MultiplexedConnection,
    log: String,
    after: u64,
}

impl Tail for RedisTail {
    async fn next(&mut self) -> Result<Vec<Record>, Failure> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(READ).arg("BLOCK").arg(BLOCK_MILLIS).arg("STREAMS").arg(&self.log).arg(id(self.after));
        let read: Value = read.query_async(&mut self.connection).await.map_err(|error| failure(&error))?;
        // One stream was asked for: its name, and its records.
        let of_log = match read {
            Value::Nil => return Ok(Vec::new()),
            read => items(read).and_then(|streams| items(streams.into_iter().next()?)?.into_iter().nth(1)),
        };
        let records = entries(of_log.ok_or_else(|| strange("the stream"))?)?;
        let records: Vec<Record> = records.into_iter().map(|(offset, bytes)| Record { offset, bytes }).collect();
        match records.last() {
            // An id of another kind is behind all of ours, so that none of ours would follow it.
            Some(Record { offset: 0, .. }) => return Err(strange("the stream")),
            Some(last) => self.after = last.offset,
            None => {}
        }
        Ok(records)
    }
}

/// The channel.
pub(super) struct RedisEars(PubSubStream);

impl Ears for RedisEars {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        match self.0.next().await {
            Some(message) => Ok(Bytes::copy_from_slice(message.get_payload_bytes())),
            None => Err(Failure::new("the subscription has ended")),
        }
    }
}

fn id(offset: u64) -> String {
    format!("0-{offset}")
}

/// The offset that an id is. Those of the meta log are times, and have none; and none is the last that there can be, since
/// nothing would follow it.
fn offset(id: &Value) -> Option<u64> {
    str::from_utf8(bytes_of(id)?).ok()?.strip_prefix("0-")?.parse().ok().filter(|offset| *offset < u64::MAX)
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn items(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        Value::Map(pairs) => Some(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        _ => None,
    }
}

/// The records of a list of entries: offset, or 0 where the id is none, and content.
fn entries(list: Value) -> Result<Vec<(u64, Bytes)>, Failure> {
    let entry = |entry: Value| {
        let mut parts = items(entry)?.into_iter();
        let offset = offset(&parts.next()?).unwrap_or(0);
        match items(parts.next()?)?.into_iter().nth(1)? {
            Value::BulkString(record) => Some((offset, Bytes::from(record))),
            _ => None,
        }
    };
    let list = items(list).and_then(|list| list.into_iter().map(entry).collect::<Option<Vec<_>>>());
    list.ok_or_else(|| strange("a stream"))
}
