//! The options of the command line, and how the environment fills the gaps they leave.
//!
//! [`Args`] is the one table: argh parses by it and writes the help from it, and what argh does not know, values after
//! `=` and values from the environment, is brought into its form by the names that argh itself reports.

use std::path::PathBuf;

use argh::{ArgsInfo, EarlyExit, FlagInfo, FlagInfoKind, FromArgs};

use super::bus::BusUrl;
use super::fields::{CacheRule, Field, Lines};
use super::values::{
    BusPrefix, Count, Host, Keep, List, LogFilter, Network, Origin, Port, Size, Span, Switch, SyncMode,
};
use crate::limits::{LEAST_BUS_KEEP, Limits};

/// A chat server in one binary: one port, a chat page, every WebSocket.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    name = "chat-app",
    usage = "[<port>] [<options>]",
    help_triggers("-h", "--help", "help"),
    example = "chat-app --port 8080\nchat-app --host 127.0.0.1 --public ./site --max-message 1MiB",
    note = "Bytes are written as 65536, 64KiB, 8MiB or 1GiB, durations as 500ms, 30s, 2m or 1h.\n\
            --name=value works like --name value. Lists are repeated or separated by commas, those of\n\
            --header and --cache-control by line ends.\n\
            Each option can come from the environment as well, where the command line leaves\n\
            it open: CHAT_PORT for --port, CHAT_MAX_MESSAGE for --max-message and so on.",
    error_code(1, "The server could not start or go on."),
    error_code(2, "An option or its value is wrong.")
)]
pub(super) struct Args {
    /// same as --port
    #[argh(positional)]
    pub(super) port: Option<Port>,
    /// port to listen on; 0 takes a free one (default: 8080)
    #[argh(option, long = "port")]
    pub(super) named_port: Option<Port>,
    /// address to listen on, repeatable (default: 0.0.0.0 and ::)
    #[argh(option)]
    pub(super) host: Vec<List<Host>>,
    /// folder to serve (default: ./public if it holds an index.html, else the page inside the binary)
    #[argh(option)]
    pub(super) public: Option<PathBuf>,
    /// serve index.html for addresses that are not found and have no extension, for pages that route by themselves
    #[argh(switch)]
    pub(super) spa: bool,
    /// show what is in folders that have no index.html
    #[argh(switch)]
    pub(super) listing: bool,
    /// the Cache-Control of files whose path or name matches a pattern, such as "/assets/*: max-age=3600", repeatable; the
    /// first that matches counts (default: immutable for names with a hash, else no-cache)
    #[argh(option)]
    pub(super) cache_control: Vec<Lines<CacheRule>>,
    /// field for responses of the site, such as "X-Team: garden", repeatable; it replaces ours of the same name
    /// (default: none)
    #[argh(option)]
    pub(super) header: Vec<Lines<Field>>,
    /// folder in which messages are kept, in a file named after the port (default: chat-data)
    #[argh(option)]
    pub(super) data: Option<PathBuf>,
    /// file whose content signs the tokens of people, at least 16 bytes (default: a key kept with the messages)
    #[argh(option)]
    pub(super) secret_file: Option<PathBuf>,
    /// refuse clients that do not speak chat.v1
    #[argh(switch)]
    pub(super) no_raw: bool,
    /// let other instances listen on the same port, to use all cores; each needs a --data of its own
    #[argh(switch)]
    pub(super) reuse_port: bool,
    /// keep messages in memory only; --port 0 without --data does so too
    #[argh(switch)]
    pub(super) memory: bool,
    /// what a machine that loses its power may lose: normal, the last moments of messages; full, nothing, and
    /// every message waits for the disk (default: normal)
    #[argh(option)]
    pub(super) sync: Option<SyncMode>,
    /// which messages are kept: an age such as 90d or 12h, a number such as 1000000, or a size of the file such as
    /// 10GiB; the oldest that exceed any of those given are removed; repeatable (default: all)
    #[argh(option)]
    keep: Vec<List<Keep>>,
    /// bus that makes several instances one chat, such as redis://127.0.0.1, rediss://user:password@host:6380/0 or
    /// redis+unix:///run/redis.sock (default: none)
    #[argh(option)]
    pub(super) bus: Option<BusUrl>,
    /// what the names of everything on the bus begin with; another one is another chat (default: chat-app)
    #[argh(option)]
    pub(super) bus_prefix: Option<BusPrefix>,
    /// messages that the bus keeps, about, for instances that were away (default: 1000000)
    #[argh(option)]
    bus_keep: Option<Count<LEAST_BUS_KEEP>>,
    /// silence after which it is tried whether the bus still brings anything (default: 5s)
    #[argh(option)]
    bus_canary: Option<Span<50>>,
    /// least level of log lines on standard error: error, warn, info, debug or trace; or levels by module such as
    /// info,chat_app::net=debug (default: info)
    #[argh(option)]
    pub(super) log: Option<LogFilter>,
    /// origin whose pages may open WebSockets here besides our own, repeatable; * for all (default: none)
    #[argh(option)]
    pub(super) allow_origin: Vec<List<Origin>>,
    /// address or network of a proxy that is believed when it tells the client's address and host, repeatable
    /// (default: none)
    #[argh(option)]
    pub(super) trust_proxy: Vec<List<Network>>,

    /// connections held at once; further ones get 503 (default: as many as the limit of open files allows)
    #[argh(option)]
    max_connections: Option<Count>,
    /// connections of one address at once, not counting those of --trust-proxy; 0 for no limit (default: 0)
    #[argh(option)]
    max_per_address: Option<Count<0>>,
    /// connections accepted in one turn of the loop (default: 256)
    #[argh(option)]
    accepts_per_turn: Option<Count>,
    /// bytes read from one connection in one turn (default: 64KiB)
    #[argh(option)]
    read_per_connection: Option<Size>,
    /// bytes read from all connections in one turn (default: 1MiB)
    #[argh(option)]
    read_per_turn: Option<Size>,

    /// bytes of one request head; longer ones get 431 (default: 16KiB)
    #[argh(option)]
    max_head: Option<Size>,
    /// bytes of one request target; longer ones get 414 (default: 8KiB)
    #[argh(option)]
    max_target: Option<Size>,
    /// fields in one request head; more get 431 (default: 100)
    #[argh(option)]
    max_header_fields: Option<Count<1, 4_096>>,
    /// time for a request head to arrive; then 408 (default: 10s)
    #[argh(option)]
    handshake_timeout: Option<Span>,
    /// rest allowed between two requests of a connection (default: 60s)
    #[argh(option)]
    keep_alive_timeout: Option<Span>,
    /// requests answered on one connection (default: 10000)
    #[argh(option)]
    max_requests: Option<Count>,
    /// requests answered in one turn, for all connections (default: 256)
    #[argh(option)]
    requests_per_turn: Option<Count>,
    /// bytes of files kept in memory, and as many more on their way; 0 to keep none (default: 32MiB)
    #[argh(option)]
    cache_bytes: Option<Size<0>>,
    /// bytes up to which a file is kept in memory; larger ones are streamed (default: 256KiB)
    #[argh(option)]
    cached_file: Option<Size<0>>,
    /// bytes up to which a text is compressed; 0 for none (default: 4MiB)
    #[argh(option)]
    compressed_file: Option<Size<0>>,
    /// files that --listing shows of one folder (default: 10000)
    #[argh(option)]
    max_listed: Option<Count>,
    /// bytes of a streamed file that are queued at once (default: 128KiB)
    #[argh(option)]
    file_piece: Option<Size<{ 4 * 1024 }>>,
    /// streamed files that are open at once; for further ones it is 503 (default: a sixteenth of what the limit of open
    /// files leaves, or as many as --max-connections)
    #[argh(option)]
    max_open_files: Option<Count>,
    /// files in memory that are sent with less work, from pipes, whose pages the kernel bounds for each user; 0 for none
    /// (default: 64)
    #[argh(option)]
    piped_files: Option<Count<0>>,
    /// requests that wait for the disk at once; further ones get 503 (default: 1024)
    #[argh(option)]
    max_lookups: Option<Count>,
    /// bytes of streamed files that are read in one turn, for all connections (default: 4MiB)
    #[argh(option)]
    stream_per_turn: Option<Size>,

    /// bytes of one message; longer ones are closed with 1009 (default: 64KiB)
    #[argh(option)]
    max_message: Option<Size>,
    /// time for a message to arrive; then 1008 (default: 60s)
    #[argh(option)]
    message_timeout: Option<Span>,
    /// silence after which a client is pinged; after two it is closed (default: 30s)
    #[argh(option)]
    ping_interval: Option<Span>,
    /// wait for a client to read our last bytes and close as well (default: 2s)
    #[argh(option)]
    linger_timeout: Option<Span<0>>,
    /// bytes read and thrown away during that wait (default: 256KiB)
    #[argh(option)]
    linger_bytes: Option<Size<0>>,

    /// unsent bytes above which a client is sent nothing new until it has caught up (default: 256KiB)
    #[argh(option)]
    outbox_high_water: Option<Size>,
    /// unsent bytes below which it is sent more again (default: 64KiB)
    #[argh(option)]
    outbox_low_water: Option<Size>,
    /// unsent bytes of all clients together (default: 256MiB)
    #[argh(option)]
    outboxes_total: Option<Size>,
    /// time without taking a byte after which a client is cut off (default: 30s)
    #[argh(option)]
    stall_timeout: Option<Span>,
    /// bytes of a response that a client takes in a second at the least, averaged over two --stall-timeout; 0 for no limit
    /// (default: 240)
    #[argh(option)]
    min_response_rate: Option<Size<0>>,
    /// unsent bytes that the kernel holds for one client (default: 128KiB)
    #[argh(option)]
    notsent_low_water: Option<Size>,

    /// messages on their way through the journal; then senders wait (default: 10000)
    #[argh(option)]
    drafts_in_flight: Option<Count>,
    /// bytes of messages on their way through the journal; then senders wait (default: 8MiB)
    #[argh(option)]
    draft_bytes_in_flight: Option<Size>,

    /// messages taken from the journal in one turn (default: 20000)
    #[argh(option)]
    entries_per_turn: Option<Count>,
    /// messages among which one that is sent again is recognised, with --memory (default: 10000)
    #[argh(option)]
    repeat_window: Option<Count>,
    /// recent messages of a room kept in memory (default: 10000)
    #[argh(option)]
    tail_entries: Option<Count>,
    /// bytes of recent messages of a room kept in memory (default: 4MiB)
    #[argh(option)]
    tail_bytes: Option<Size>,
    /// bytes of recent messages of all rooms kept in memory; a quarter may be older ones, read for clients that have
    /// fallen behind (default: 64MiB)
    #[argh(option)]
    tails_total: Option<Size>,
    /// rooms whose recent messages are kept in memory (default: 10000)
    #[argh(option)]
    max_tails: Option<Count>,
    /// bytes of a room's name (default: 64)
    #[argh(option)]
    max_room_name: Option<Size<{ "lobby".len() }>>,
    /// bytes of a person's name (default: 64)
    #[argh(option)]
    max_name: Option<Size<16>>,
    /// bytes of a text said by a client of chat.v1 (default: 16KiB)
    #[argh(option)]
    max_text: Option<Size>,
    /// bytes of the nonce that a client of chat.v1 gives to what it says (default: 64)
    #[argh(option)]
    max_nonce: Option<Size<16>>,
    /// rooms that a client of chat.v1 may be in at once (default: 50)
    #[argh(option)]
    max_rooms: Option<Count>,
    /// messages in one page of history (default: 100)
    #[argh(option)]
    page: Option<Count>,
    /// missed messages that are sent to whoever comes back; more are a gap (default: 1000)
    #[argh(option)]
    backfill: Option<Count>,
    /// missed messages that are read at once for clients that have fallen behind (default: 1000)
    #[argh(option)]
    feed_entries: Option<Count>,
    /// such reads that are under way at once; further clients wait for their turn (default: 4)
    #[argh(option)]
    feed_reads: Option<Count>,
    /// reads for clients that join or come back which are under way at once; further clients wait for their turn (default:
    /// 4)
    #[argh(option)]
    join_reads: Option<Count>,
    /// pages of history, and searches, for clients of chat.v1 that are under way at once; further ones wait for their turn
    /// (default: 4)
    #[argh(option)]
    ask_reads: Option<Count>,
    /// with --bus: clients that wait at once until this instance has heard what they have heard from another; further
    /// ones are told of a gap (default: 10000)
    #[argh(option)]
    max_ahead: Option<Count<0>>,
    /// time for that, while the bus is away or much is still to be read; then they are told of a gap (default: 30s)
    #[argh(option)]
    ahead_timeout: Option<Span>,
    /// clients that are sent missed messages in one turn of the loop (default: 50)
    #[argh(option)]
    feeds_per_turn: Option<Count>,
    /// people up to whom a room tells names; above it only how many there are (default: 200)
    #[argh(option)]
    presence_names: Option<Count<0>>,
    /// other instances whose people are known (default: 64)
    #[argh(option)]
    max_instances: Option<Count>,
    /// rooms of other instances, and people in them, that are known; further people are only counted (default: 200000)
    #[argh(option)]
    max_elsewhere: Option<Count>,
    /// texts per second of a client of chat.v1, 0 for no limit (default: 20)
    #[argh(option)]
    say_rate: Option<Count<0>>,
    /// texts at once of a client of chat.v1 (default: 200)
    #[argh(option)]
    say_burst: Option<Count>,
    /// messages per second of a raw client, which is read no faster; 0 for no limit (default: 0)
    #[argh(option)]
    raw_rate: Option<Count<0>>,
    /// messages at once of a raw client (default: 200)
    #[argh(option)]
    raw_burst: Option<Count>,
    /// other requests per second of a client of chat.v1, 0 for no limit (default: 20)
    #[argh(option)]
    ask_rate: Option<Count<0>>,
    /// other requests at once of a client of chat.v1 (default: 200)
    #[argh(option)]
    ask_burst: Option<Count>,
    /// texts per second that one address posts over HTTP; further ones get 429; 0 for no limit (default: 100)
    #[argh(option)]
    post_rate: Option<Count<0>>,
    /// texts that one address posts over HTTP at once (default: 1000)
    #[argh(option)]
    post_burst: Option<Count>,

    /// time to finish after a signal to stop (default: 10s)
    #[argh(option)]
    drain_timeout: Option<Span<0>>,
    /// clients told goodbye per second then, so that they do not all come back at once; more if time is short; 0 for all
    /// at once (default: 1000)
    #[argh(option)]
    drain_rate: Option<Count<0>>,

    /// print the version
    #[argh(switch, short = 'V')]
    pub(super) version: bool,
}

impl Args {
    /// Reads the command line and, for options it leaves open, the environment.
    ///
    /// `variable` looks up an environment variable. The exit asks for help, or says in one sentence what is wrong.
    pub(super) fn read(line: Vec<String>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, EarlyExit> {
        let flags = Args::get_args_info().flags;
        let flags: Vec<_> = flags.iter().filter(|flag| !matches!(flag.long, "--help" | "--version")).collect();
        let (mut line, mut given) = normalised(line, &flags)?;
        let args = Args::parse(&line)?;
        if args.version {
            return Ok(args);
        }
        if args.port.is_some() {
            given.push("--port");
        }
        for flag in flags.iter().filter(|flag| !given.contains(&flag.long)) {
            let name = flag.long.replacen("--", "CHAT_", 1).replace('-', "_").to_ascii_uppercase();
            let Some(value) = variable(&name) else { continue };
            if value.is_empty() || is_service_link(&name, &value) {
                continue;
            }
            let option = spelled(flag, Some(value)).and_then(|option| Args::parse(&option).and(Ok(option)));
            let option = option.map_err(|exit| exit.output.replace(&format!("option '{}'", flag.long), &name))?;
            line.splice(0..0, option);
        }
        Args::parse(&line)
    }

    fn parse(line: &[String]) -> Result<Self, EarlyExit> {
        Args::from_args(&["chat-app"], &line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The limits as given; `default` where nothing was.
    pub(super) fn limits(&self, default: &Limits) -> Limits {
        fn or<T: Copy, V: Copy + Into<T>>(given: Option<V>, default: T) -> T {
            given.map_or(default, Into::into)
        }
        let keep = || self.keep.iter().flat_map(|List(bounds)| bounds.iter().copied());
        Limits {
            max_connections: or(self.max_connections, default.max_connections),
            max_connections_per_address: or(self.max_per_address, default.max_connections_per_address),
            accepts_per_turn: or(self.accepts_per_turn, default.accepts_per_turn),
            read_bytes_per_connection: or(self.read_per_connection, default.read_bytes_per_connection),
            read_bytes_per_turn: or(self.read_per_turn, default.read_bytes_per_turn),
            max_head_bytes: or(self.max_head, default.max_head_bytes),
            max_target_bytes: or(self.max_target, default.max_target_bytes),
            max_header_fields: or(self.max_header_fields, default.max_header_fields),
            handshake_timeout: or(self.handshake_timeout, default.handshake_timeout),
            keep_alive_timeout: or(self.keep_alive_timeout, default.keep_alive_timeout),
            max_requests_per_connection: or(self.max_requests, default.max_requests_per_connection),
            requests_per_turn: or(self.requests_per_turn, default.requests_per_turn),
            cache_bytes: or(self.cache_bytes, default.cache_bytes),
            cached_file_bytes: or(self.cached_file, default.cached_file_bytes),
            compressed_file_bytes: or(self.compressed_file, default.compressed_file_bytes),
            listed_entries: or(self.max_listed, default.listed_entries),
            file_piece_bytes: or(self.file_piece, default.file_piece_bytes),
            max_open_files: or(self.max_open_files, default.max_open_files),
            piped_files: or(self.piped_files, default.piped_files),
            max_lookups: or(self.max_lookups, default.max_lookups),
            stream_bytes_per_turn: or(self.stream_per_turn, default.stream_bytes_per_turn),
            max_message_bytes: or(self.max_message, default.max_message_bytes),
            message_timeout: or(self.message_timeout, default.message_timeout),
            ping_interval: or(self.ping_interval, default.ping_interval),
            linger_timeout: or(self.linger_timeout, default.linger_timeout),
            linger_bytes: or(self.linger_bytes, default.linger_bytes),
            outbox_high_water_bytes: or(self.outbox_high_water, default.outbox_high_water_bytes),
            outbox_low_water_bytes: or(self.outbox_low_water, default.outbox_low_water_bytes),
            outboxes_total_bytes: or(self.outboxes_total, default.outboxes_total_bytes),
            stall_timeout: or(self.stall_timeout, default.stall_timeout),
            min_response_bytes_per_second: or(self.min_response_rate, default.min_response_bytes_per_second),
            notsent_low_water_bytes: or(self.notsent_low_water, default.notsent_low_water_bytes),
            max_drafts_in_flight: or(self.drafts_in_flight, default.max_drafts_in_flight),
            max_draft_bytes_in_flight: or(self.draft_bytes_in_flight, default.max_draft_bytes_in_flight),
            bus_keep_entries: or(self.bus_keep, default.bus_keep_entries),
            bus_canary_interval: or(self.bus_canary, default.bus_canary_interval),
            entries_per_turn: or(self.entries_per_turn, default.entries_per_turn),
            repeat_window: or(self.repeat_window, default.repeat_window),
            tail_entries: or(self.tail_entries, default.tail_entries),
            tail_bytes: or(self.tail_bytes, default.tail_bytes),
            tails_total_bytes: or(self.tails_total, default.tails_total_bytes),
            max_tails: or(self.max_tails, default.max_tails),
            max_room_name_bytes: or(self.max_room_name, default.max_room_name_bytes),
            max_person_name_bytes: or(self.max_name, default.max_person_name_bytes),
            max_text_bytes: or(self.max_text, default.max_text_bytes),
            max_nonce_bytes: or(self.max_nonce, default.max_nonce_bytes),
            max_rooms_per_member: or(self.max_rooms, default.max_rooms_per_member),
            page_entries: or(self.page, default.page_entries),
            backfill_entries: or(self.backfill, default.backfill_entries),
            feed_entries: or(self.feed_entries, default.feed_entries),
            feed_reads: or(self.feed_reads, default.feed_reads),
            join_reads: or(self.join_reads, default.join_reads),
            ask_reads: or(self.ask_reads, default.ask_reads),
            max_ahead: or(self.max_ahead, default.max_ahead),
            ahead_timeout: or(self.ahead_timeout, default.ahead_timeout),
            feeds_per_turn: or(self.feeds_per_turn, default.feeds_per_turn),
            presence_names: or(self.presence_names, default.presence_names),
            max_instances: or(self.max_instances, default.max_instances),
            max_elsewhere: or(self.max_elsewhere, default.max_elsewhere),
            say_rate: or(self.say_rate, default.say_rate),
            say_burst: or(self.say_burst, default.say_burst),
            raw_rate: or(self.raw_rate, default.raw_rate),
            raw_burst: or(self.raw_burst, default.raw_burst),
            ask_rate: or(self.ask_rate, default.ask_rate),
            ask_burst: or(self.ask_burst, default.ask_burst),
            post_rate: or(self.post_rate, default.post_rate),
            post_burst: or(self.post_burst, default.post_burst),
            keep_age: keep().filter_map(Keep::age).min().or(default.keep_age),
            keep_entries: keep().filter_map(Keep::entries).min().or(default.keep_entries),
            keep_bytes: keep().filter_map(Keep::bytes).min().or(default.keep_bytes),
            drain_timeout: or(self.drain_timeout, default.drain_timeout),
            drain_rate: or(self.drain_rate, default.drain_rate),
        }
    }
}

/// The command line with `--name=value` in two parts, and the options that are on it.
fn normalised(line: Vec<String>, flags: &[&FlagInfo<'static>]) -> Result<(Vec<String>, Vec<&'static str>), EarlyExit> {
    let (mut parts, mut given) = (Vec::new(), Vec::new());
    let mut line = line.into_iter();
    while let Some(part) = line.next() {
        let (name, value) = part.split_once('=').map_or((part.as_str(), None), |(name, value)| (name, Some(value)));
        let Some(flag) = flags.iter().find(|flag| flag.long == name) else {
            let ended = part == "--";
            parts.push(part);
            if ended {
                parts.extend(line);
                break;
            }
            continue;
        };
        given.push(flag.long);
        match (&flag.kind, value) {
            (FlagInfoKind::Option { .. }, None) => parts.extend([part].into_iter().chain(line.next())),
            (_, value) => parts.extend(spelled(flag, value.map(str::to_owned))?),
        }
    }
    Ok((parts, given))
}

/// An option as argh wants to see it: a name and a value, or for a switch its name if it is on.
fn spelled(flag: &FlagInfo<'_>, value: Option<String>) -> Result<Vec<String>, EarlyExit> {
    let name = flag.long.to_owned();
    match (&flag.kind, value) {
        (FlagInfoKind::Option { .. }, value) => Ok([name].into_iter().chain(value).collect()),
        (FlagInfoKind::Switch, None) => Ok(vec![name]),
        (FlagInfoKind::Switch, Some(value)) => match value.parse() {
            Ok(Switch(on)) => Ok(if on { vec![name] } else { Vec::new() }),
            Err(expected) => Err(format!("Error parsing option '{name}' with value '{value}': {expected}").into()),
        },
    }
}

/// Beside a service called `chat`, Kubernetes sets `CHAT_PORT=tcp://10.0.0.1:80` in every container. It is not for us.
fn is_service_link(name: &str, value: &str) -> bool {
    name == "CHAT_PORT" && value.starts_with("tcp://")
}

#[cfg(test)]
mod tests;
