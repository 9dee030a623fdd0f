//! The threads that read: pages of rooms, and searches. Each has a connection of its own, so that no append ever waits
//! for a reader, and no reader of a page for a search.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, params};

use crate::chat::entry::{Entry, Position, RoomName};
use crate::journal::contract::{Event, Found, Hit, Page, Range, Read, Refused, SearchError};

use super::append;
use super::query::Query;
use super::queue::WorkQueue;
use super::rows::{self, columns};
use super::schema;
use super::writer::Work;
use crate::journal::outbound::Outbound;

/// How long a search waits for the index. It is behind only by a moment, unless the disk is failing.
const INDEX_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers reads.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) events: Outbound,
    /// Where the index is brought up to date.
    pub(super) writer: WorkQueue,
}

/// What is known of a room.
struct Room {
    /// `None` if nothing was ever said there, or it was so long ago that this is forgotten.
    id: Option<i64>,
    floor: Position,
}

impl Reader {
    /// Reads until nobody can ask any more.
    pub(super) fn run(self, reads: &Receiver<Read>) {
        let mut is_failing = false;
        for read in reads {
            let answer = match read.range {
                Range::Matching { .. } => self.search(&read),
                Range::After { .. } | Range::Before(_) => self.page(&read),
            };
            append::roll_back(&self.connection);
            let failed = answer.is_err();
            let event = answer.unwrap_or_else(|error| {
                if !is_failing {
                    tracing::warn!("messages cannot be read: {error}");
                }
                unavailable(read)
            });
            is_failing = failed;
            self.events.send(vec![event]);
        }
    }

    fn page(&self, read: &Read) -> rusqlite::Result<Event> {
        append::execute(&self.connection, "BEGIN")?;
        let room = self.room(&read.room)?;
        let mut entries = Vec::new();
        let mut more = false;
        let mut left = Left::of(read);
        let mut take = |entry: Entry| {
            if !left.take(&entry) {
                more = true;
                return ControlFlow::Break(());
            }
            entries.push(entry);
            ControlFlow::Continue(())
        };
        let statement = |sql| self.connection.prepare_cached(sql);
        match (&read.range, room.id) {
            (Range::After { after, upto }, Some(id)) => each(
                statement(concat!(
                    "SELECT ",
                    columns!(),
                    " FROM entries WHERE room = ? AND position > ? AND position <= ? ORDER BY position"
                ))?,
                params![id, schema::number(*after), schema::number(*upto)],
                &read.room,
                &mut take,
            )?,
            (Range::Before(before), Some(id)) => each(
                statement(concat!(
                    "SELECT ",
                    columns!(),
                    " FROM entries WHERE room = ? AND position < ? ORDER BY position DESC"
                ))?,
                params![id, schema::number(*before)],
                &read.room,
                &mut take,
            )?,
            (Range::Matching { .. }, _) | (_, None) => {}
        }
        let in_range = match (&read.range, room.id) {
            (Range::After { after, upto }, Some(id)) if more && read.count > entries.len() => {
                self.count(id, *after, *upto, read.count)?
            }
            _ => entries.len() as u64,
        };
        if matches!(read.range, Range::Before(_)) {
            entries.reverse();
        }
        let (ticket, room, floor) = (read.ticket, read.room.clone(), room.floor);
        Ok(Event::Page(Page { ticket, room, entries: Ok(entries), more, in_range, floor }))
    }

    /// Entries of a room behind `after`, up to and with `upto`, but not more than `limit`.
    fn count(&self, room: i64, after: Position, upto: Position, limit: usize) -> rusqlite::Result<u64> {
        let sql =
            "SELECT count(*) FROM (SELECT 1 FROM entries WHERE room = ? AND position > ? AND position <= ? LIMIT ?)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let count: i64 =
            statement.query_row(params![room, schema::number(after), schema::number(upto), limit], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    fn search(&self, read: &Read) -> rusqlite::Result<Event> {
        let Range::Matching { before, query } = &read.range else { unreachable!("it is a search") };
        let (ticket, name) = (read.ticket, read.room.clone());
        let query = match Query::parse(query) {
            Ok(query) => query,
            Err(error) => {
                let floor = self.room(&name)?.floor;
                return Ok(Event::Found(Found { ticket, room: name, hits: Err(error), more: false, floor }));
            }
        };
        self.catch_up();
        append::execute(&self.connection, "BEGIN")?;
        let room = self.room(&name)?;
        let (mut hits, mut more) = (Vec::new(), false);
        if let Some(id) = room.id {
            let mut left = Left::of(read);
            let mut take = |entry: Entry| {
                if !left.take(&entry) {
                    more = true;
                    return ControlFlow::Break(());
                }
                let text = String::from_utf8_lossy(entry.content.bytes());
                let matches = query.places(&text);
                hits.push(Hit { entry, matches });
                ControlFlow::Continue(())
            };
            // The index gives positions in this order by itself, so that no more of them are looked at than are needed.
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM search CROSS JOIN entries ON entries.position = search.rowid",
                " WHERE search MATCH ? AND search.rowid < ? ORDER BY search.rowid DESC"
            );
            let asked = params![query.expression(id), schema::number(*before)];
            each(self.connection.prepare_cached(sql)?, asked, &name, &mut take)?;
            hits.reverse();
        }
        Ok(Event::Found(Found { ticket, room: name, hits: Ok(hits), more, floor: room.floor }))
    }

    /// Lets the index learn what was committed before now. When it takes too long, what it knows must do.
    fn catch_up(&self) {
        let deadline = Instant::now() + INDEX_TIMEOUT;
        loop {
            let (done, is_done) = channel();
            let patience = deadline.saturating_duration_since(Instant::now());
            if self.writer.send(Work::Index(done)).is_err() || is_done.recv_timeout(patience) != Ok(false) {
                return;
            }
        }
    }

    fn room(&self, name: &RoomName) -> rusqlite::Result<Room> {
        let mut statement = self.connection.prepare_cached("SELECT id, floor FROM rooms WHERE name = ?")?;
        let found = statement
            .query_row([name.as_str()], |row| Ok(Room { id: row.get(0)?, floor: schema::position(row.get(1)?) }));
        let room = match found.optional()? {
            Some(room) => room,
            None => Room { id: None, floor: schema::mark(&self.connection, schema::FLOOR)? },
        };
        // Nobody can go on from before a loss, whatever is kept from there.
        Ok(Room { floor: room.floor.max(schema::mark(&self.connection, schema::LOST)?), ..room })
    }
}

/// What still fits into an answer.
struct Left {
    entries: usize,
    bytes: usize,
    is_first: bool,
}

impl Left {
    fn of(read: &Read) -> Self {
        Left { entries: read.limit.max(1), bytes: read.max_bytes, is_first: true }
    }

    /// Whether the entry still fits. The first one always does.
    fn take(&mut self, entry: &Entry) -> bool {
        let len = entry.content.bytes().len();
        if self.entries == 0 || len > self.bytes && !self.is_first {
            return false;
        }
        self.entries -= 1;
        self.bytes = self.bytes.saturating_sub(len);
        self.is_first = false;
        true
    }
}

/// Gives the entries that a statement selects to `take`, one by one, until it breaks off. Rows that are not asked for
/// are never read.
fn each(
    mut statement: CachedStatement<'_>,
    params: impl Params,
    room: &RoomName,
    take: &mut impl FnMut(Entry) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        if let Some(entry) = rows::entry(row, room)?
            && take(entry).is_break()
        {
            break;
        }
    }
    Ok(())
}

pub(super) fn unavailable(read: Read) -> Event {
    let Read { ticket, room, range, .. } = read;
    let (more, floor) = (false, Position::START);
    match range {
        Range::Matching { .. } => {
            Event::Found(Found { ticket, room, hits: Err(SearchError::Unavailable), more, floor })
        }
        _ => Event::Page(Page { ticket, room, entries: Err(Refused::Unavailable), more, in_range: 0, floor }),
    }
}
