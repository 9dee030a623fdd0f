//! Every bound of the server, in one place.
//!
//! A limit has a field here, an option in [`crate::config`], and, where a connection ends because of it, a
//! [`CloseReason`](crate::close::CloseReason) and a counter. Units come last in the name; a `Duration` carries its own.

use std::time::Duration;

/// The least that [`Limits::bus_keep_entries`] may be.
pub const LEAST_BUS_KEEP: u32 = 100_000;

/// The longest file whose pages are held by a pipe as well, so that they need not be looked up whenever it is sent: 64 of
/// 4 KiB.
pub const MOST_PIPED_BYTES: usize = 256 * 1024;

/// The bounds within which the server works. Constructed by [`crate::config`]; the defaults are those of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections held at once; further ones are refused with 503. `None` derives it from `RLIMIT_NOFILE`.
    pub max_connections: Option<usize>,
    /// Connections of one address; further ones are refused with 429. 0 for no limit: everybody may sit behind one proxy.
    pub max_connections_per_address: usize,
    /// Connections accepted in one turn; the rest wait in the backlog for the next.
    pub accepts_per_turn: usize,
    /// Bytes read from one connection in one turn.
    pub read_bytes_per_connection: usize,
    /// Bytes read from all connections together in one turn, so that no batch grows without bound.
    pub read_bytes_per_turn: usize,

    /// Bytes of one request head (RFC 9112, section 2.1): start line and fields together.
    pub max_head_bytes: usize,
    /// Bytes of one request target (RFC 9112, section 3.2); longer ones get 414.
    pub max_target_bytes: usize,
    /// Fields in one request head; more get 431. At most 4,096, since each costs memory and time before it is read.
    pub max_header_fields: usize,
    /// From the first byte of a connection or request until its head is complete; then 408.
    pub handshake_timeout: Duration,
    /// How long a connection may rest between two requests.
    pub keep_alive_timeout: Duration,
    /// Requests answered on one connection before it is closed.
    pub max_requests_per_connection: u32,
    /// Requests answered in one turn, for all connections together; the others wait for the next.
    pub requests_per_turn: usize,
    /// Bytes of files and their compressed forms kept in memory. As many more, and 8 MiB at least, may be on their way to
    /// clients without being kept; what finds no room is streamed from the disk.
    pub cache_bytes: usize,
    /// Files up to this size are kept in memory; larger ones are streamed.
    pub cached_file_bytes: usize,
    /// Texts up to this size are compressed, where nobody has done so.
    pub compressed_file_bytes: usize,
    /// Files that are listed of one folder.
    pub listed_entries: usize,
    /// Bytes of a streamed file that are read, and queued in an outbox, at once.
    pub file_piece_bytes: usize,
    /// Files that are open at once in order to be streamed, each for any number of clients; for others it is 503. `None`
    /// derives it from `RLIMIT_NOFILE`.
    pub max_open_files: Option<usize>,
    /// Files in memory whose pages a pipe holds as well, so that they are sent with less work.
    pub piped_files: usize,
    /// Requests that wait for the disk at once; further ones get 503.
    pub max_lookups: usize,
    /// Bytes of streamed files that are read in one turn, for all connections together; the others wait for the next.
    pub stream_bytes_per_turn: usize,

    /// Payload bytes of one WebSocket message, whole or reassembled; longer ones are closed with 1009.
    pub max_message_bytes: usize,
    /// From the first byte of a message until it is whole; then 1008. So what is begun and left holds memory for no longer.
    pub message_timeout: Duration,
    /// Silence after which a peer is pinged; after two intervals without any byte it is closed, unless it is seen to take what
    /// was written before the ping.
    pub ping_interval: Duration,
    /// How long we wait for the peer to finish a close that we began, or to read our last bytes.
    pub linger_timeout: Duration,
    /// Bytes read and thrown away while a connection lingers.
    pub linger_bytes: usize,

    /// Above this an outbox is not pushed to (each slice counts with its place in the queue): the member catches up later, and its own socket is not read.
    pub outbox_high_water_bytes: usize,
    /// Below this a member that fell behind is fed again.
    pub outbox_low_water_bytes: usize,
    /// All outboxes together; as it fills, the high-water mark of each sinks, and history over HTTP gets 503. Also the bound
    /// of what is copied out of files in memory for one client each.
    pub outboxes_total_bytes: usize,
    /// A peer that takes no byte at all for this long is reset.
    pub stall_timeout: Duration,
    /// Bytes of its responses that an HTTP client takes in a second at the least while some wait for it, on average over two
    /// stall timeouts; else it is reset. 0 for no limit. Members and event streams may be slower.
    pub min_response_bytes_per_second: usize,
    /// Unsent bytes the kernel holds for one socket before it reports it as not writable (`TCP_NOTSENT_LOWAT`).
    pub notsent_low_water_bytes: u32,

    /// Drafts handed to the journal that have not come back as entries.
    pub max_drafts_in_flight: usize,
    /// Payload bytes of those drafts.
    pub max_draft_bytes_in_flight: usize,

    /// Records that a bus keeps, about, for instances that were away. Some are marks that show that it moves.
    pub bus_keep_entries: u64,
    /// Silence of a bus after which an instance publishes a mark, which must come back in the same time.
    pub bus_canary_interval: Duration,

    /// Entries taken from the journal in one turn; the others come with the next.
    pub entries_per_turn: usize,
    /// Entries among which a repeated nonce is recognised where nothing is stored; a store knows all that it keeps.
    pub repeat_window: usize,
    /// Entries kept in memory for one room.
    pub tail_entries: usize,
    /// Bytes kept in memory for one room.
    pub tail_bytes: usize,
    /// Bytes kept in memory for all rooms together. A quarter may be what was read for members that are behind.
    pub tails_total_bytes: usize,
    /// Rooms with a tail; the one unused for longest goes first.
    pub max_tails: usize,
    /// Bytes of a room's name in UTF-8.
    pub max_room_name_bytes: usize,
    /// Bytes of a person's name in UTF-8.
    pub max_person_name_bytes: usize,
    /// Bytes of a text of chat.v1 in UTF-8; a frame that carries it may be longer.
    pub max_text_bytes: usize,
    /// Bytes of a nonce.
    pub max_nonce_bytes: usize,
    /// Rooms one member may be in.
    pub max_rooms_per_member: usize,
    /// Entries in one page of history.
    pub page_entries: usize,
    /// Missed entries that are replayed to whoever resumes; more are a gap.
    pub backfill_entries: usize,
    /// Missed entries that are read from the store at once for members that are behind.
    pub feed_entries: usize,
    /// Such reads that are under way at once; who needs another waits until it is its turn.
    pub feed_reads: usize,
    /// Reads of the store for members that join or come back which are under way at once; who needs another waits until it
    /// is its turn.
    pub join_reads: usize,
    /// Pages of history that are read for members of chat.v1 who ask for them, and as many searches, which are under way at
    /// once; what else is asked waits until it is its turn.
    pub ask_reads: usize,
    /// Who comes from another instance with a position that this one has not heard yet waits for it, so many at once;
    /// further ones are told of a gap.
    pub max_ahead: usize,
    /// How long it waits at the most. It is told of a gap earlier if the bus shows that there is no such position.
    pub ahead_timeout: Duration,
    /// Members that are given pages in one turn; the others are given theirs in the next. As many of those who join are told
    /// what was read for them, and as many of those who have waited go on, so that no kind keeps the others from it.
    pub feeds_per_turn: usize,
    /// People up to whom a room tells names; above it tells only how many there are.
    pub presence_names: usize,
    /// Other instances whose people are known.
    pub max_instances: usize,
    /// Rooms, and people in them, of all other instances together; beyond them people are counted, then nothing is.
    pub max_elsewhere: usize,
    /// Texts that a member of chat.v1 may say in a second; 0 for no limit.
    pub say_rate: u32,
    /// Texts that it may say at once.
    pub say_burst: u32,
    /// Messages that a raw member may say in a second; it is read no faster. 0 for no limit: it is a program.
    pub raw_rate: u32,
    /// Messages that it may say at once.
    pub raw_burst: u32,
    /// Other requests that a member of chat.v1 may make in a second; 0 for no limit.
    pub ask_rate: u32,
    /// Requests that it may make at once.
    pub ask_burst: u32,
    /// Texts that one address may post over HTTP in a second; further ones get 429. 0 for no limit.
    pub post_rate: u32,
    /// Texts that it may post at once.
    pub post_burst: u32,

    /// Entries older than this are removed from the store. `None` keeps them.
    pub keep_age: Option<Duration>,
    /// Entries that the store keeps. `None` keeps all.
    pub keep_entries: Option<u64>,
    /// Bytes of the store above which its oldest entries are removed. `None` lets it grow.
    pub keep_bytes: Option<u64>,

    /// From the signal to stop until everything is closed, finished or not.
    pub drain_timeout: Duration,
    /// WebSockets and event streams that are told goodbye in one second when the server stops; more, if it takes more
    /// to be done in time. None waits if it is 0.
    pub drain_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        Limits {
            max_connections: None,
            max_connections_per_address: 0,
            accepts_per_turn: 256,
            read_bytes_per_connection: 64 * KIB,
            read_bytes_per_turn: MIB,
            max_head_bytes: 16 * KIB,
            max_target_bytes: 8 * KIB,
            max_header_fields: 100,
            handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            max_requests_per_connection: 10_000,
            requests_per_turn: 256,
            cache_bytes: 32 * MIB,
            cached_file_bytes: 256 * KIB,
            compressed_file_bytes: 4 * MIB,
            listed_entries: 10_000,
            file_piece_bytes: 128 * KIB,
            max_open_files: None,
            piped_files: 64,
            max_lookups: 1_024,
            stream_bytes_per_turn: 4 * MIB,
            max_message_bytes: 64 * KIB,
            message_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(2),
            linger_bytes: 256 * KIB,
            outbox_high_water_bytes: 256 * KIB,
            outbox_low_water_bytes: 64 * KIB,
            outboxes_total_bytes: 256 * MIB,
            stall_timeout: Duration::from_secs(30),
            min_response_bytes_per_second: 240,
            notsent_low_water_bytes: 128 * 1024,
            max_drafts_in_flight: 10_000,
            max_draft_bytes_in_flight: 8 * MIB,
            bus_keep_entries: 1_000_000,
            bus_canary_interval: Duration::from_secs(5),
            entries_per_turn: 20_000,
            repeat_window: 10_000,
            tail_entries: 10_000,
            tail_bytes: 4 * MIB,
            tails_total_bytes: 64 * MIB,
            max_tails: 10_000,
            max_room_name_bytes: 64,
            max_person_name_bytes: 64,
            max_text_bytes: 16 * KIB,
            max_nonce_bytes: 64,
            max_rooms_per_member: 50,
            page_entries: 100,
            backfill_entries: 1_000,
            feed_entries: 1_000,
            feed_reads: 4,
            join_reads: 4,
            ask_reads: 4,
            max_ahead: 10_000,
            ahead_timeout: Duration::from_secs(30),
            feeds_per_turn: 50,
            presence_names: 200,
            max_instances: 64,
            max_elsewhere: 200_000,
            say_rate: 20,
            say_burst: 200,
            raw_rate: 0,
            raw_burst: 200,
            ask_rate: 20,
            ask_burst: 200,
            post_rate: 100,
            post_burst: 1_000,
            keep_age: None,
            keep_entries: None,
            keep_bytes: None,
            drain_timeout: Duration::from_secs(10),
            drain_rate: 1_000,
        }
    }
}
