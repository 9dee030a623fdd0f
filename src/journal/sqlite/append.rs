//! A batch of drafts becomes entries: one transaction, whole or not at all.

use std::num::NonZeroUsize;

use lru::LruCache;
use rusqlite::{Connection, OptionalExtension, params};

use crate::chat::entry::{Draft, Entry, Position, RoomName};
use crate::journal::contract::{Event, Refused};
use crate::journal::ordered::Ordered;

use super::rows::{self, columns};
use super::schema;

/// Room numbers that are known without asking.
const KNOWN_ROOMS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Puts drafts in order, behind everything that is there.
#[derive(Debug)]
pub(super) struct Appender {
    last: Position,
    rooms: LruCache<RoomName, i64>,
}

/// The batch is not in the file, or it is not known whether it is.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) batch: Batch,
    pub(super) error: rusqlite::Error,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing of it is in the file.
    NotStored,
    /// Its last step failed: it is in the file if the entry at this position is.
    Unclear(Position),
}

/// Drafts, and what became of the first of them.
#[derive(Debug)]
pub(super) struct Batch {
    drafts: Vec<Draft>,
    outcomes: Vec<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    Stored(Position),
    Known(Box<Entry>),
    /// It repeats what cannot be told of: a newer program, or older rules for names, have left it.
    Unspeakable,
}

impl Appender {
    pub(super) fn new(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Appender { last: schema::last(connection)?, rooms: LruCache::new(KNOWN_ROOMS) })
    }

    /// The last position given.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Rooms have been removed.
    pub(super) fn forget_rooms(&mut self) {
        self.rooms.clear();
    }

    /// Stores the drafts. What came of them is in the file when this returns `Ok`.
    #[inline(never)] // It is counted by its name (benches/counts).
    pub(super) fn append(&mut self, connection: &Connection, drafts: Vec<Draft>) -> Result<Vec<Event>, Box<Failed>> {
        let mut batch = Batch { outcomes: Vec::with_capacity(drafts.len()), drafts };
        let stored = match self.fill(connection, &mut batch) {
            Ok(stored) => stored,
            Err(error) => {
                self.roll_back(connection);
                return Err(Box::new(Failed { batch, error, what: What::NotStored }));
            }
        };
        match execute(connection, "COMMIT") {
            Ok(()) => Ok(self.committed(batch)),
            Err(error) => {
                self.roll_back(connection);
                let what = stored.map_or(What::NotStored, What::Unclear);
                Err(Box::new(Failed { batch, error, what }))
            }
        }
    }

    /// Keeps what a bus has put in order, with what it needs to be followed from there. It is in the file when this
    /// returns `Ok`; if not, it may be, and doing it again does no harm.
    /// Gives how many entries were not there before.
    pub(super) fn keep(&mut self, connection: &Connection, batch: &[Ordered]) -> rusqlite::Result<u64> {
        let kept = self.fill_ordered(connection, batch).and_then(|kept| execute(connection, "COMMIT").map(|()| kept));
        match kept {
            Ok((last, new)) => {
                self.last = last;
                Ok(new)
            }
            Err(error) => {
                self.roll_back(connection);
                Err(error)
            }
        }
    }

    /// Gives the last position, and how many entries are new.
    fn fill_ordered(&mut self, connection: &Connection, batch: &[Ordered]) -> rusqlite::Result<(Position, u64)> {
        roll_back(connection);
        execute(connection, "BEGIN IMMEDIATE")?;
        let (mut last, mut new) = (self.last, 0);
        for event in batch.iter().flat_map(|ordered| &ordered.events) {
            match event {
                Event::Entry(entry) => {
                    new += self.insert_entry(connection, entry)? as u64;
                    last = last.max(entry.position);
                }
                Event::Lost(lost) if lost.upto > Position::START => {
                    schema::set(connection, schema::LOST, schema::number(lost.upto))?;
                    last = last.max(lost.upto);
                }
                _ => {}
            }
        }
        if let Some(Ordered { mark, .. }) = batch.last() {
            schema::set_mark(connection, mark)?;
        }
        Ok((last, new))
    }

    /// Gives how many rows were added: one, or none if it was there.
    fn insert_entry(&mut self, connection: &Connection, entry: &Entry) -> rusqlite::Result<usize> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO entries (position, room, at, kind, author, author_name, nonce, content)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (position) DO NOTHING
             ON CONFLICT (author, nonce) WHERE nonce IS NOT NULL DO NOTHING",
        )?;
        let author = entry.author.as_ref();
        let (id, nonce) = (author.map(|it| it.id.0.cast_signed()), author.and(entry.nonce.as_ref()).map(|it| &*it.0));
        let row = params![
            schema::number(entry.position),
            self.room(connection, &entry.room)?,
            entry.at.0.cast_signed(),
            rows::kind(&entry.content),
            id,
            author.map(|author| &*author.name),
            nonce,
            &**entry.content.bytes(),
        ];
        let mut added = insert.execute(row)?;
        if added == 0 && nonce.is_some() {
            // It is there already, or the same was said so long ago that for all instances it is something new.
            let sql = "UPDATE entries SET nonce = NULL WHERE author = ? AND nonce = ? AND position <> ?";
            connection.prepare_cached(sql)?.execute(params![id, nonce, schema::number(entry.position)])?;
            added = insert.execute(row)?;
        }
        Ok(added)
    }

    /// What came of a batch that is in the file.
    pub(super) fn committed(&mut self, batch: Batch) -> Vec<Event> {
        let event = |(draft, outcome): (Draft, Outcome)| match outcome {
            Outcome::Stored(position) => {
                self.last = position;
                Event::Entry(draft.at(position))
            }
            Outcome::Known(original) => Event::Repeat(Entry { origin: draft.origin, ..*original }),
            Outcome::Unspeakable => Event::Refused { draft, reason: Refused::Unavailable },
        };
        batch.drafts.into_iter().zip(batch.outcomes).map(event).collect()
    }

    /// Ends a transaction that is still open. What was learnt in it is not true.
    fn roll_back(&mut self, connection: &Connection) {
        self.rooms.clear();
        roll_back(connection);
    }

    /// Gives the last position that is new, if there is one.
    fn fill(&mut self, connection: &Connection, batch: &mut Batch) -> rusqlite::Result<Option<Position>> {
        roll_back(connection);
        execute(connection, "BEGIN IMMEDIATE")?;
        let mut insert = connection.prepare_cached(
            "INSERT INTO entries (position, room, at, kind, author, author_name, nonce, content)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (author, nonce) WHERE nonce IS NOT NULL DO NOTHING",
        )?;
        let mut last = self.last;
        for draft in &batch.drafts {
            let position = last.next();
            let author = draft.author.as_ref();
            let inserted = insert.execute(params![
                schema::number(position),
                self.room(connection, &draft.room)?,
                draft.at.0.cast_signed(),
                rows::kind(&draft.content),
                author.map(|author| author.id.0.cast_signed()),
                author.map(|author| &*author.name),
                author.and(draft.nonce.as_ref()).map(|nonce| &*nonce.0),
                &**draft.content.bytes(),
            ])?;
            batch.outcomes.push(if inserted > 0 {
                last = position;
                Outcome::Stored(position)
            } else {
                original(connection, draft)?.map_or(Outcome::Unspeakable, |entry| Outcome::Known(Box::new(entry)))
            });
        }
        Ok((last > self.last).then_some(last))
    }

    fn room(&mut self, connection: &Connection, name: &RoomName) -> rusqlite::Result<i64> {
        if let Some(&room) = self.rooms.get(name) {
            return Ok(room);
        }
        let mut known = connection.prepare_cached("SELECT id FROM rooms WHERE name = ?")?;
        let room = match known.query_row([name.as_str()], |row| row.get(0)).optional()? {
            Some(room) => room,
            None => connection.prepare_cached("INSERT INTO rooms (name) VALUES (?)")?.insert([name.as_str()])?,
        };
        self.rooms.put(name.clone(), room);
        Ok(room)
    }
}

impl Batch {
    pub(super) fn into_drafts(self) -> Vec<Draft> {
        self.drafts
    }
}

/// The entry that has the author and nonce of a draft.
fn original(connection: &Connection, draft: &Draft) -> rusqlite::Result<Option<Entry>> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        ", (SELECT name FROM rooms WHERE id = room) FROM entries WHERE author = ? AND nonce = ?"
    ))?;
    let author = draft.author.as_ref().map(|author| author.id.0.cast_signed());
    let nonce = draft.nonce.as_ref().map(|nonce| &*nonce.0);
    statement.query_row(params![author, nonce], |row| {
        let name: String = row.get(7)?;
        let room = if name == draft.room.as_str() { Some(draft.room.clone()) } else { room_name(&name) };
        Ok(room.map(|room| rows::entry(row, &room)).transpose()?.flatten())
    })
}

fn room_name(name: &str) -> Option<RoomName> {
    RoomName::new(name, name.len()).ok()
}

/// Ends a transaction, if one is open. If that fails as well, the next attempt begins with it again.
pub(super) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        let _ = execute(connection, "ROLLBACK");
    }
}

pub(super) fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
