//! What the server counts, and how it tells it to Prometheus.
//!
//! The counters are plain numbers: the loop owns them and its thread alone touches them. What others know best at the
//! moment of asking, sums over outboxes and the like, comes as [`Gauges`] when the text is rendered.

use std::fmt::{Display, Write};
use std::time::Duration;

use http::StatusCode;

use crate::close::CloseReason;
use crate::histogram::{Histogram, SECONDS};

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// HTTP; every connection begins so.
    Http,
    /// WebSocket, after the upgrade.
    WebSocket,
}

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// As many connections as are allowed were open.
    Full,
    /// A WebSocket was asked for by a page of an origin that is not allowed.
    Origin,
    /// The request for a WebSocket was not a valid one.
    Upgrade,
    /// The server was shutting down.
    Draining,
    /// An address posted more than its rate.
    TooFast,
}

/// A bound on the work of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Connections accepted.
    Accepts,
    /// Bytes read from sockets.
    Reads,
    /// Requests answered.
    Requests,
    /// Bytes of streamed files.
    Streams,
    /// Entries handed out.
    Entries,
}

/// Counters since the start. All of them only grow, but for the connections that are open.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Connections accepted.
    pub accepts: u64,
    /// Times that accepting paused because descriptors or slots had run out.
    pub accept_pauses: u64,
    /// Messages received from members, whole.
    pub messages_in: u64,
    /// Messages queued to members: one message to three members counts three.
    pub messages_out: u64,
    /// Bytes read from sockets.
    pub bytes_read: u64,
    /// Bytes that sockets have taken.
    pub bytes_written: u64,
    open: [u64; Kind::ALL.len()],
    refusals: [u64; Refusal::ALL.len()],
    responses: [u64; STATUS_CLASSES.len()],
    closes: [u64; CloseReason::ALL.len()],
    turns: Histogram,
    returns: Histogram,
    budgets_spent: [u64; Budget::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            accepts: 0,
            accept_pauses: 0,
            messages_in: 0,
            messages_out: 0,
            bytes_read: 0,
            bytes_written: 0,
            open: Default::default(),
            refusals: Default::default(),
            responses: Default::default(),
            closes: Default::default(),
            turns: Histogram::new(SECONDS),
            returns: Histogram::new(SECONDS),
            budgets_spent: Default::default(),
        }
    }
}

/// What is true at the moment of rendering.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Time since the start.
    pub uptime: Duration,
    /// Resident memory of the process in bytes, where the system tells it.
    pub resident_bytes: Option<u64>,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// Rooms with members.
    pub rooms: usize,
    /// What all outboxes hold, with its places in their queues.
    pub outbox_bytes: usize,
    /// Connections that are not read: their own outbox is full, or the journal.
    pub held: usize,
    /// Responses whose content is being streamed.
    pub streams: usize,
    /// Large files that are open for them.
    pub open_files: usize,
    /// The most of them.
    pub max_open_files: usize,
    /// Bytes of files that are kept in memory.
    pub cache_bytes: usize,
    /// Bytes of files in memory, kept or only on their way to clients.
    pub content_bytes: usize,
    /// Members that are fed from their position because they are behind.
    pub catching_up: usize,
    /// Reads of the store that are under way, by what they are for.
    pub reads: [(&'static str, usize); 5],
    /// What waits until fewer are.
    pub waiting_reads: [(&'static str, usize); 4],
    /// Drafts handed to the journal that have not come back.
    pub drafts_in_flight: usize,
    /// Payload bytes of those drafts.
    pub draft_bytes_in_flight: usize,
    /// Bytes that the tails of all rooms keep.
    pub tail_bytes: usize,
    /// What is known of the file of messages, if there is one.
    pub store: Option<Store>,
    /// The bus, if there is one.
    pub bus: Option<Bus>,
}

/// The file of messages, as its own thread last reported it.
#[derive(Debug, Clone)]
pub struct Store {
    /// Entries that are kept.
    pub entries: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the write-ahead log beside it.
    pub log_bytes: u64,
    /// Entries that a search does not find yet.
    pub unindexed: u64,
    /// Entries that were removed since the start, because they were more than is kept.
    pub trimmed: u64,
    /// Entries of each batch that was stored.
    pub batches: Histogram,
    /// Seconds that storing each batch took.
    pub commits: Histogram,
}

/// What is known of the bus.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bus {
    /// It is reached, and what is published comes back.
    pub is_up: bool,
    /// Records that have not been read.
    pub lag: u64,
    /// Sessions begun after the first.
    pub reconnects: u64,
    /// Other instances that have told who is with them.
    pub instances: usize,
    /// Rooms of theirs, and people in them, that are known.
    pub elsewhere: usize,
    /// Clients that wait for what they have heard from other instances.
    pub ahead: usize,
    /// Those that were told of a gap since the start, by reason.
    pub ahead_lost: [(&'static str, u64); 4],
}

/// The classes of status codes (RFC 9110, section 15).
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Kind {
    const ALL: [Kind; 2] = [Kind::Http, Kind::WebSocket];

    const fn label(self) -> &'static str {
        match self {
            Kind::Http => "http",
            Kind::WebSocket => "websocket",
        }
    }
}

impl Refusal {
    const ALL: [Refusal; 5] = [Refusal::Full, Refusal::Origin, Refusal::Upgrade, Refusal::Draining, Refusal::TooFast];

    const fn label(self) -> &'static str {
        match self {
            Refusal::Full => "full",
            Refusal::Origin => "origin",
            Refusal::Upgrade => "upgrade",
            Refusal::Draining => "draining",
            Refusal::TooFast => "too_fast",
        }
    }
}

impl Budget {
    const ALL: [Budget; 5] = [Budget::Accepts, Budget::Reads, Budget::Requests, Budget::Streams, Budget::Entries];

    const fn label(self) -> &'static str {
        match self {
            Budget::Accepts => "accepts",
            Budget::Reads => "reads",
            Budget::Requests => "requests",
            Budget::Streams => "streams",
            Budget::Entries => "entries",
        }
    }
}

impl Metrics {
    /// A connection was accepted and has a slot. It speaks HTTP.
    pub fn opened(&mut self) {
        self.accepts += 1;
        self.open[Kind::Http as usize] += 1;
    }

    /// A connection turned from HTTP to WebSocket.
    pub fn upgraded(&mut self) {
        self.open[Kind::Http as usize] -= 1;
        self.open[Kind::WebSocket as usize] += 1;
    }

    /// A connection has ended and its slot is free.
    pub fn closed(&mut self, kind: Kind, reason: CloseReason) {
        self.open[kind as usize] -= 1;
        self.closes[reason.index()] += 1;
    }

    /// Connections of this kind that are open.
    #[must_use]
    pub fn open(&self, kind: Kind) -> u64 {
        self.open[kind as usize]
    }

    /// Somebody was turned away.
    pub fn refused(&mut self, refusal: Refusal) {
        self.refusals[refusal as usize] += 1;
    }

    /// A response was begun.
    pub fn responded(&mut self, status: StatusCode) {
        if let Some(count) = self.responses.get_mut(usize::from(status.as_u16() / 100) - 1) {
            *count += 1;
        }
    }

    /// A turn has used up this budget, and perhaps left work to the next.
    pub fn spent(&mut self, budget: Budget) {
        self.budgets_spent[budget as usize] += 1;
    }

    /// A turn of the loop is over; `worked` is its time without the time spent waiting in poll.
    pub fn turned(&mut self, worked: Duration) {
        self.turns.record(worked.as_secs_f64());
    }

    /// A message has come back from the bus after so long.
    pub fn returned(&mut self, after: Duration) {
        self.returns.record(after.as_secs_f64());
    }

    /// Appends everything in the Prometheus text format, version 0.0.4.
    pub fn render(&self, gauges: &Gauges, out: &mut String) {
        let text = &mut Exposition { out };
        text.labelled("chat_build_info", GAUGE, "The running version.", "version", [(env!("CARGO_PKG_VERSION"), 1)]);
        text.single("chat_uptime_seconds", GAUGE, "Time since the start.", gauges.uptime.as_secs_f64());
        if let Some(bytes) = gauges.resident_bytes {
            text.single("chat_resident_memory_bytes", GAUGE, "Resident memory of the process.", bytes);
        }

        let open = Kind::ALL.into_iter().map(|kind| (kind.label(), self.open(kind)));
        text.labelled("chat_connections", GAUGE, "Open connections.", "kind", open);
        let max = gauges.max_connections;
        text.single("chat_connections_max", GAUGE, "Connections that may be open at once.", max);
        text.single("chat_accepts_total", COUNTER, "Connections accepted.", self.accepts);
        let help = "Times that accepting paused because descriptors or slots had run out.";
        text.single("chat_accept_pauses_total", COUNTER, help, self.accept_pauses);
        let refusals = Refusal::ALL.into_iter().map(|refusal| (refusal.label(), self.refusals[refusal as usize]));
        text.labelled("chat_refusals_total", COUNTER, "Clients turned away.", "cause", refusals);
        let closes = CloseReason::ALL.iter().map(|reason| (reason.label(), self.closes[reason.index()]));
        text.labelled("chat_closes_total", COUNTER, "Connections ended.", "reason", closes);
        let responses = STATUS_CLASSES.into_iter().zip(self.responses);
        text.labelled("chat_http_responses_total", COUNTER, "HTTP responses.", "class", responses);

        text.single("chat_messages_in_total", COUNTER, "Messages received from members.", self.messages_in);
        let help = "Messages queued to members, counted once for each of them.";
        text.single("chat_messages_out_total", COUNTER, help, self.messages_out);
        text.single("chat_read_bytes_total", COUNTER, "Bytes read from sockets.", self.bytes_read);
        text.single("chat_written_bytes_total", COUNTER, "Bytes that sockets have taken.", self.bytes_written);

        text.single("chat_held_connections", GAUGE, "Connections not read until there is room.", gauges.held);
        text.single("chat_streamed_responses", GAUGE, "Responses with content still to be read.", gauges.streams);
        text.single("chat_open_files", GAUGE, "Large files that are open in order to be sent.", gauges.open_files);
        let max = gauges.max_open_files;
        text.single("chat_open_files_max", GAUGE, "Large files that may be open at once.", max);
        text.single("chat_cache_bytes", GAUGE, "Bytes of files that are kept in memory.", gauges.cache_bytes);
        let help = "Bytes of files in memory, kept or on their way to clients.";
        text.single("chat_file_content_bytes", GAUGE, help, gauges.content_bytes);

        text.single("chat_rooms", GAUGE, "Rooms with members.", gauges.rooms);
        text.single("chat_catching_up_members", GAUGE, "Members that are behind and catch up.", gauges.catching_up);
        let help = "Reads of older messages that are under way.";
        text.labelled("chat_reads", GAUGE, help, "for", counts(gauges.reads));
        let help = "Members, and requests of theirs, that wait until fewer are.";
        text.labelled("chat_waiting_reads", GAUGE, help, "for", counts(gauges.waiting_reads));
        text.single("chat_outbox_bytes", GAUGE, "Memory of what waits for clients to take it.", gauges.outbox_bytes);
        text.single("chat_tail_bytes", GAUGE, "Bytes of recent messages kept in memory.", gauges.tail_bytes);
        let drafts = gauges.drafts_in_flight;
        text.single("chat_drafts_in_flight", GAUGE, "Messages on their way through the journal.", drafts);
        let bytes = gauges.draft_bytes_in_flight;
        text.single("chat_drafts_in_flight_bytes", GAUGE, "Bytes of messages in the journal's hands.", bytes);

        if let Some(store) = &gauges.store {
            text.single("chat_store_entries", GAUGE, "Messages in the store.", store.entries);
            text.single("chat_store_file_bytes", GAUGE, "Bytes of the store's file.", store.file_bytes);
            text.single("chat_store_log_bytes", GAUGE, "Bytes of its write-ahead log.", store.log_bytes);
            let help = "Messages that a search does not find yet.";
            text.single("chat_store_unindexed_entries", GAUGE, help, store.unindexed);
            let help = "Messages removed because they were more than is kept.";
            text.single("chat_store_trimmed_entries_total", COUNTER, help, store.trimmed);
            text.histogram("chat_store_batch_entries", "Messages stored in one transaction.", &store.batches);
            let help = "Time that storing a batch of messages took.";
            text.histogram("chat_store_commit_duration_seconds", help, &store.commits);
        }
        if let Some(bus) = gauges.bus {
            text.single("chat_bus_up", GAUGE, "Whether the bus brings what is published.", u8::from(bus.is_up));
            text.single("chat_bus_lag", GAUGE, "Records on the bus that were not read yet when last looked.", bus.lag);
            let help = "Other instances that have told who is with them.";
            text.single("chat_bus_instances", GAUGE, help, bus.instances);
            let help = "Rooms of other instances, and people in them, that are known.";
            text.single("chat_bus_elsewhere", GAUGE, help, bus.elsewhere);
            let help = "Joins and requests that wait until this instance has heard what they name from another.";
            text.single("chat_bus_clients_ahead", GAUGE, help, bus.ahead);
            let help = "Those of them that were told of a gap.";
            text.labelled("chat_bus_clients_ahead_lost_total", COUNTER, help, "reason", bus.ahead_lost);
            let help = "Times that the bus was lost, or not reached.";
            text.single("chat_bus_reconnects_total", COUNTER, help, bus.reconnects);
            let help = "Time from saying something here until it had come back from the bus and was stored.";
            text.histogram("chat_bus_return_seconds", help, &self.returns);
        }

        let spent = Budget::ALL.into_iter().map(|budget| (budget.label(), self.budgets_spent[budget as usize]));
        text.labelled("chat_spent_budgets_total", COUNTER, "Turns that used up a budget.", "budget", spent);
        let help = "Time that a turn of the loop worked, without waiting.";
        text.histogram("chat_turn_duration_seconds", help, &self.turns);
    }
}

fn counts<const N: usize>(by_label: [(&'static str, usize); N]) -> [(&'static str, u64); N] {
    by_label.map(|(label, count)| (label, count as u64))
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
///
/// Names, help texts and label values are our own and hold nothing that would have to be escaped.
struct Exposition<'a> {
    out: &'a mut String,
}

impl Exposition<'_> {
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn labelled(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        self.head(name, kind, help);
        for (of, value) in samples {
            self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, values: &Histogram) {
        self.head(name, "histogram", help);
        for (bound, up_to) in values.buckets() {
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {up_to}"));
        }
        let count = values.count();
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum {}", values.sum()));
        self.line(format_args!("{name}_count {count}"));
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{line}");
    }
}

#[cfg(test)]
mod tests;
