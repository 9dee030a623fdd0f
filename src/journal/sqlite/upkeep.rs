//! What keeps the file in good order, in small steps between the batches: the search index, what is trimmed, free pages,
//! and when the write-ahead log goes into the file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, params};

use crate::chat::entry::Position;
use crate::limits::Limits;

use super::append::{self, Appender};
use super::counts::Counts;
use super::query;
use super::rows;
use super::schema::{self, FLOOR, INDEXED};

/// An append waits for one step at the most, so a step ends after about this.
const STEP_TIME: Duration = Duration::from_millis(8);
/// Entries of one step at the most.
const STEP_ENTRIES: usize = 2_048;
/// Bytes of the entries that one step removes.
const STEP_BYTES: i64 = 1 << 20;
/// Entries are indexed when nothing has come for a moment, so that a burst has the processor to itself and many of them
/// share a transaction. When the first of them has waited for so long it begins among the appends as well, with a rest from
/// one step to the next; without any when there are so many. A search does not wait for any of this.
const INDEX_AFTER: Duration = Duration::from_millis(100);
const INDEX_LATEST: Duration = Duration::from_secs(2);
const INDEX_REST: Duration = Duration::from_millis(80);
const INDEX_ENTRIES: u64 = 1_000_000;
/// How often it is looked whether anything is to be trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// When a step has failed, nothing more is done for this long.
const PAUSE: Duration = Duration::from_secs(10);
/// Free pages are given back to the system when there are so many, and they are half of the file.
const MANY_FREE_PAGES: i64 = 4096;
const FREED_PAGES: usize = 256;
/// Rooms without entries are forgotten when their last one lies so far behind what was trimmed.
const ROOM_MEMORY: u64 = 1_000_000;
/// Pages in the write-ahead log that are moved into the file by the other thread.
const CHECKPOINT_PAGES: u32 = 1_000;
/// Pages in the log at which this thread moves the last ones itself, if the other one is not at it. As long as there is
/// always one more, the log cannot begin anew.
const FINISH_PAGES: u32 = 4_000;
/// Pages in the log at which appends wait until it can begin anew.
const MAX_PAGES: u32 = 8_000;

/// What is due, and when.
#[derive(Debug)]
pub(super) struct Upkeep {
    keep: Keep,
    counts: Counts,
    /// Storing has failed, and it is not known whether it had been done before it did.
    is_count_unsure: bool,
    indexed: Position,
    unindexed: Option<Unindexed>,
    floor: Position,
    /// The floor when it was last looked for rooms that can be forgotten.
    forgotten: Position,
    trim_at: Instant,
    /// What was done last.
    last_step: Step,
    paused_until: Option<Instant>,
    log: LogSize,
    checkpointer: SyncSender<()>,
    /// Of two checkpoints at once, SQLite lets the second fail.
    checkpoints: Arc<Mutex<()>>,
}

/// What is done between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// More is indexed.
    Index,
    /// Something is removed, or tidied up.
    Trim,
}

/// Since when there are entries that are not indexed.
#[derive(Debug, Clone, Copy)]
struct Unindexed {
    first: Instant,
    last: Instant,
    /// When some of them were indexed last.
    step: Option<Instant>,
}

impl Unindexed {
    /// When the next step is due, with so many entries behind.
    fn due(&self, behind: u64, now: Instant) -> Instant {
        if behind >= INDEX_ENTRIES {
            return now;
        }
        let latest = self.first + INDEX_LATEST;
        (self.last + INDEX_AFTER).min(self.step.map_or(latest, |step| latest.max(step + INDEX_REST)))
    }
}

/// What the thread needs that moves pages from the write-ahead log into the file.
#[derive(Debug)]
pub(super) struct Checkpointer {
    told: Receiver<()>,
    checkpoints: Arc<Mutex<()>>,
}

/// What is kept; all of it where nothing is said.
#[derive(Debug)]
struct Keep {
    age: Option<Duration>,
    entries: Option<u64>,
    bytes: Option<u64>,
}

impl Keep {
    fn is_everything(&self) -> bool {
        self.age.is_none() && self.entries.is_none() && self.bytes.is_none()
    }
}

/// Pages in the write-ahead log.
#[derive(Debug)]
struct LogSize {
    pages: Arc<AtomicU32>,
    /// How many there were at the last checkpoint, since the log began.
    seen: u32,
}

impl Upkeep {
    pub(super) fn new(connection: &mut Connection, limits: &Limits) -> rusqlite::Result<(Self, Checkpointer)> {
        let pages = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            counter.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let (checkpointer, told) = sync_channel(1);
        let checkpoints = Arc::new(Mutex::new(()));
        let now = Instant::now();
        let (indexed, floor) = (schema::mark(connection, INDEXED)?, schema::mark(connection, FLOOR)?);
        let upkeep = Upkeep {
            keep: Keep { age: limits.keep_age, entries: limits.keep_entries, bytes: limits.keep_bytes },
            counts: Counts::open(connection, indexed, floor)?,
            is_count_unsure: false,
            indexed,
            unindexed: (indexed < schema::last(connection)?).then_some(Unindexed { first: now, last: now, step: None }),
            floor,
            forgotten: Position::START,
            trim_at: now,
            last_step: Step::Trim,
            paused_until: None,
            log: LogSize { pages, seen: 0 },
            checkpointer,
            checkpoints: Arc::clone(&checkpoints),
        };
        Ok((upkeep, Checkpointer { told, checkpoints }))
    }

    /// How many entries there are.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// So many entries are new. There may be none: a bus also has it noted how far it was read.
    pub(super) fn appended(&mut self, connection: &Connection, entries: u64, now: Instant) {
        self.counts.stored(entries);
        let was_unsure = self.is_count_unsure;
        if was_unsure {
            self.is_count_unsure = self.counts.recount(connection, self.indexed).is_err();
        }
        // What had been stored before a failure is not new any more, and not indexed.
        if entries == 0 && !was_unsure {
            return;
        }
        self.unindexed.get_or_insert(Unindexed { first: now, last: now, step: None }).last = now;
    }

    /// Something may have been stored, and it will be stored again.
    pub(super) fn doubt_count(&mut self) {
        self.is_count_unsure = true;
    }

    /// When the next step is due.
    pub(super) fn due(&self, last: Position, now: Instant) -> Option<Instant> {
        let index = self.index_due(last, now);
        let trim = (!self.keep.is_everything()).then_some(self.trim_at);
        let due = [index, trim].into_iter().flatten().min()?;
        Some(self.paused_until.map_or(due, |until| until.max(due)))
    }

    fn index_due(&self, last: Position, now: Instant) -> Option<Instant> {
        Some(self.unindexed?.due(last.0.saturating_sub(self.indexed.0), now))
    }

    /// Takes a step if one is due, and tells which. If both are, they take turns.
    pub(super) fn step(&mut self, connection: &mut Connection, appender: &mut Appender, now: Instant) -> Option<Step> {
        self.checkpoint(connection);
        if self.due(appender.last(), now).is_none_or(|due| due > now) {
            return None;
        }
        self.paused_until = None;
        let is_index_due = self.index_due(appender.last(), now).is_some_and(|due| due <= now);
        let is_trim_due = !self.keep.is_everything() && self.trim_at <= now;
        let step = match (is_index_due, is_trim_due, self.last_step) {
            (true, false, _) | (true, true, Step::Trim) => Step::Index,
            (false, true, _) | (true, true, Step::Index) => Step::Trim,
            (false, false, _) => return None,
        };
        self.last_step = step;
        if let (Step::Index, Some(unindexed)) = (step, &mut self.unindexed) {
            unindexed.step = Some(now);
        }
        let outcome = match step {
            Step::Index => self.index(connection, appender.last(), STEP_TIME),
            Step::Trim => self.trim(connection, appender, now),
        };
        if let Err(error) = outcome {
            append::roll_back(connection);
            tracing::warn!("the store cannot be kept in order, and that is tried again in {PAUSE:?}: {error}");
            self.paused_until = Some(now + PAUSE);
        }
        Some(step)
    }

    /// Indexes what there is now, for about `time`, and gives whether that was everything that can be done. A failure
    /// will be told of when the step is due.
    pub(super) fn index_now(&mut self, connection: &mut Connection, last: Position, time: Duration) -> bool {
        let begun = Instant::now();
        while self.indexed < last && begun.elapsed() < time {
            let left = time.saturating_sub(begun.elapsed());
            if self.index(connection, last, left.min(STEP_TIME)).is_err() {
                append::roll_back(connection);
                return true;
            }
        }
        self.indexed >= last
    }

    /// Tells the index of the next entries, for about `time`. They and the mark are written together, so after a crash it goes on where
    /// it was.
    #[inline(never)] // It is counted by its name (benches/counts).
    fn index(&mut self, connection: &mut Connection, last: Position, time: Duration) -> rusqlite::Result<()> {
        let begun = Instant::now();
        let transaction = connection.transaction()?;
        let mut mark = self.indexed;
        let (mut count, mut is_complete) = (0, true);
        {
            let mut entries = transaction.prepare_cached(
                "SELECT position, room, kind, author_name, content FROM entries WHERE position > ? ORDER BY position",
            )?;
            let mut insert =
                transaction.prepare_cached("INSERT INTO search (rowid, room, author, content) VALUES (?, ?, ?, ?)")?;
            let mut rows = entries.query([schema::number(mark)])?;
            while let Some(row) = rows.next()? {
                if count == STEP_ENTRIES || count > 0 && begun.elapsed() > time {
                    is_complete = false;
                    break;
                }
                let position: i64 = row.get(0)?;
                if row.get::<_, i64>(2)? == rows::TEXT {
                    let text = String::from_utf8_lossy(row.get_ref(4)?.as_bytes()?);
                    let author = row.get_ref(3)?.as_str_or_null()?.map(query::indexed);
                    insert.execute(params![
                        position,
                        query::room_word(row.get(1)?),
                        author,
                        &*query::indexed(&text)
                    ])?;
                }
                mark = schema::position(position);
                count += 1;
            }
        }
        if is_complete {
            mark = mark.max(last);
        }
        schema::set(&transaction, INDEXED, schema::number(mark))?;
        let counts = self.counts.after_indexing(count as u64);
        counts.note(&transaction, mark, self.floor)?;
        transaction.commit()?;
        (self.indexed, self.counts) = (mark, counts);
        if mark >= last {
            self.unindexed = None;
        }
        Ok(())
    }

    /// Removes the oldest entries that are more than is kept. It goes in journal order over all rooms, so that each
    /// room misses nothing behind its own floor.
    fn trim(&mut self, connection: &mut Connection, appender: &mut Appender, now: Instant) -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        let Some((floor, rooms)) = self.excess(&transaction)? else {
            drop(transaction);
            let is_done = self.tidy(connection, appender)?;
            self.trim_at = if is_done { now + TRIM_EVERY } else { now };
            return Ok(());
        };
        transaction
            .prepare_cached("DELETE FROM search WHERE rowid <= ?")?
            .execute([schema::number(floor.min(self.indexed))])?;
        let trimmed =
            transaction.prepare_cached("DELETE FROM entries WHERE position <= ?")?.execute([schema::number(floor)])?;
        for (room, floor) in rooms {
            transaction.prepare_cached("UPDATE rooms SET floor = ? WHERE id = ?")?.execute([floor, room])?;
        }
        let indexed = self.indexed.max(floor);
        schema::set(&transaction, FLOOR, schema::number(floor))?;
        schema::set(&transaction, INDEXED, schema::number(indexed))?;
        let counts = self.counts.after_trimming(trimmed as u64);
        counts.note(&transaction, indexed, floor)?;
        // What the index has forgotten takes space until it is merged.
        transaction.prepare_cached("INSERT INTO search (search, rank) VALUES ('merge', 16)")?.execute([])?;
        transaction.commit()?;
        (self.floor, self.indexed, self.counts) = (floor, indexed, counts);
        Ok(())
    }

    /// Up to where the next step trims, and the new floors of the rooms that lose something.
    fn excess(&self, connection: &Connection) -> rusqlite::Result<Option<(Position, BTreeMap<i64, i64>)>> {
        let too_many = self.keep.entries.map_or(0, |entries| self.counts.kept().saturating_sub(entries));
        let before = self.keep.age.map(|age| milliseconds(SystemTime::now()).saturating_sub(milliseconds_of(age)));
        let is_too_large = match self.keep.bytes {
            Some(bytes) => used_bytes(connection)? > bytes,
            None => false,
        };
        if too_many == 0 && before.is_none() && !is_too_large {
            return Ok(None);
        }
        let mut oldest =
            connection.prepare_cached("SELECT position, room, at, length(content) FROM entries ORDER BY position")?;
        let mut rows = oldest.query([])?;
        let (mut rooms, mut seen) = (BTreeMap::new(), BTreeMap::new());
        let mut floor = None;
        let (mut count, mut bytes) = (0, 0);
        while count < STEP_ENTRIES
            && bytes < STEP_BYTES
            && let Some(row) = rows.next()?
        {
            count += 1;
            bytes += row.get::<_, i64>(3)?;
            let (position, room, at): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            seen.insert(room, position);
            // Clocks differ: one entry that comes from the future does not keep those before and behind it alive.
            let is_old = before.is_some_and(|before| at.cast_unsigned() < before);
            if is_old || is_too_large || count as u64 <= too_many {
                floor = Some(schema::position(position));
                rooms.append(&mut seen);
            }
        }
        Ok(floor.map(|floor| (floor, rooms)))
    }

    /// What is left to do when nothing is to be trimmed, and whether that was all of it.
    fn tidy(&mut self, connection: &Connection, appender: &mut Appender) -> rusqlite::Result<bool> {
        let mut is_done = true;
        if self.floor.0 >= self.forgotten.0 + ROOM_MEMORY / 100 {
            self.forget_rooms(connection, appender)?;
        }
        let free = pragma(connection, "freelist_count")?;
        if free > MANY_FREE_PAGES && free * 2 > pragma(connection, "page_count")? {
            connection.execute_batch(&format!("PRAGMA incremental_vacuum({FREED_PAGES})"))?;
            is_done = false;
        }
        Ok(is_done)
    }

    /// Forgets rooms in which nothing has been kept for long.
    fn forget_rooms(&mut self, connection: &Connection, appender: &mut Appender) -> rusqlite::Result<()> {
        let forgotten = connection
            .prepare_cached(
                "DELETE FROM rooms WHERE id IN (
                     SELECT id FROM rooms WHERE floor BETWEEN 1 AND ?
                     AND NOT EXISTS (SELECT 1 FROM entries WHERE room = rooms.id) LIMIT ?)",
            )?
            .execute(params![
                schema::number(Position(self.floor.0.saturating_sub(ROOM_MEMORY))),
                STEP_ENTRIES as i64
            ])?;
        appender.forget_rooms();
        if forgotten < STEP_ENTRIES {
            self.forgotten = self.floor;
        }
        Ok(())
    }

    /// Sees to it that the write-ahead log does not grow for ever. The other thread does the work, and the waiting for
    /// the disk, while appends go on.
    fn checkpoint(&mut self, connection: &Connection) {
        let pages = self.log.pages.load(Ordering::Relaxed);
        if pages < self.log.seen {
            self.log.seen = 0;
        }
        if pages.saturating_sub(self.log.seen) < CHECKPOINT_PAGES {
            return;
        }
        self.log.seen = pages;
        let turn = match pages {
            MAX_PAGES.. => self.checkpoints.lock().ok(),
            FINISH_PAGES.. => self.checkpoints.try_lock().ok(),
            _ => None,
        };
        if turn.is_some() {
            checkpoint(connection);
        } else {
            // If it has not finished what it was told before, that is as good.
            let _ = self.checkpointer.try_send(());
        }
    }
}

impl Checkpointer {
    /// Works until nobody can tell it to any more.
    pub(super) fn run(self, connection: &Connection) {
        for () in self.told {
            let _turn = self.checkpoints.lock();
            checkpoint(connection);
        }
    }
}

/// Moves what can be moved without making anybody wait. If the disk is failing, those who append will tell.
pub(super) fn checkpoint(connection: &Connection) {
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        tracing::debug!("no checkpoint: {error}");
    }
}

/// Bytes of the file, without those that are free.
fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pages = pragma(connection, "page_count")? - pragma(connection, "freelist_count")?;
    Ok(pages.max(0).cast_unsigned() * pragma(connection, "page_size")?.cast_unsigned())
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn milliseconds(time: SystemTime) -> u64 {
    milliseconds_of(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_new_nothing_is_indexed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(crate::journal::tests::Desk::sqlite(&path, &Limits::default()));
        let mut connection = Connection::open(&path).unwrap();
        for (name, entries, is_unsure, is_due) in [
            ("how far a bus was read", 0, false, false),
            ("an entry", 1, false, true),
            ("one that was stored when that seemed to fail", 0, true, true),
        ] {
            let (mut upkeep, _checkpointer) = Upkeep::new(&mut connection, &Limits::default()).unwrap();
            if is_unsure {
                upkeep.doubt_count();
            }
            let now = Instant::now();
            upkeep.appended(&connection, entries, now);
            assert_eq!(upkeep.due(Position(7), now).is_some(), is_due, "{name}");
        }
    }

    #[test]
    fn entries_are_indexed_in_quiet_moments_or_a_few_at_a_time() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        for (name, last, step, behind, due) in [
            ("nothing else comes", 30, None, 10, 130),
            ("others come all the time", 1_990, None, 10, 2_000),
            ("and go on coming", 2_090, Some(2_000), 10, 2_080),
            ("and have ended", 2_001, Some(2_090), 10, 2_101),
            ("one was taken, and they have ended", 1_000, Some(500), 10, 1_100),
            ("there are very many", 2_090, Some(2_000), INDEX_ENTRIES, 2_010),
        ] {
            let unindexed = Unindexed { first: at(0), last: at(last), step: step.map(at) };
            assert_eq!(unindexed.due(behind, at(2_010)), at(due), "{name}");
        }
    }
}
