//! What is in the file: its tables, how older ones become these, and what is known of the file's lives.

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OptionalExtension, params};

use crate::chat::entry::{Epoch, Position};

use super::{Order, SyncMode};
use crate::journal::ordered::{DraftId, Mark, Stamp};

/// Says in the file's header that it is ours: "CHAT".
pub(super) const APPLICATION_ID: i32 = 0x4348_4154;

/// What makes each version of the file from the one before, beginning with an empty file. `user_version` counts them.
/// What has been released is never changed.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- `floor`: the last entry of the room that has been trimmed.
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        floor INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    -- `at`: milliseconds since 1970. `kind`: what `content` is, and in which format; who does not know it skips it.
    -- `author`: 64 bits, of which SQLite takes one for a sign.
    CREATE TABLE entries (
        position INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        at INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        author INTEGER,
        author_name TEXT,
        nonce TEXT,
        content BLOB NOT NULL
    ) STRICT;
    CREATE INDEX entries_by_room ON entries (room);
    CREATE UNIQUE INDEX entries_by_nonce ON entries (author, nonce) WHERE nonce IS NOT NULL;

    -- By position. `room` is one word made of the id, so that a search never looks at other rooms.
    CREATE VIRTUAL TABLE search USING fts5 (
        room, author, content,
        content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
    );
"];

/// The version of the file that this program reads and writes.
pub(super) const VERSION: i32 = MIGRATIONS.len() as i32;

/// Brings a file of any older version, or an empty one, to this one: whole, or not at all.
pub(super) fn migrate(connection: &mut Connection, from: i32) -> rusqlite::Result<()> {
    if from == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for migration in &MIGRATIONS[usize::try_from(from).unwrap_or(0)..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// The last entry that has been trimmed.
pub(super) const FLOOR: &str = "floor";
/// Up to here something may be missing that a bus has lost, or had no longer.
pub(super) const LOST: &str = "lost";
/// The last entry that the search index knows.
pub(super) const INDEXED: &str = "indexed";

/// How many entries there are up to there, and for which state of the file that holds: see `counts`.
pub(super) const COUNTED: &str = "counted";

/// Where the log of a bus stood behind the last entry.
const BUS: &str = "bus";
const EPOCH: &str = "epoch";
const SECRET: &str = "secret";
const BOOT: &str = "boot";
const SYNC: &str = "sync";
const IS_CLEAN: &str = "is_clean";

pub(super) fn get<T: FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
    statement.query_row([key], |row| row.get(0)).optional()
}

pub(super) fn set(connection: &Connection, key: &str, value: impl ToSql) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")?;
    statement.execute(params![key, value]).map(drop)
}

/// A mark that is the start as long as nobody has set it.
pub(super) fn mark(connection: &Connection, key: &str) -> rusqlite::Result<Position> {
    Ok(get(connection, key)?.map_or(Position::START, position))
}

/// The last position that was ever told: that of the last entry, of the last one trimmed, or of what was lost.
pub(super) fn last(connection: &Connection) -> rusqlite::Result<Position> {
    let last: Option<i64> = connection.query_row("SELECT max(position) FROM entries", [], |row| row.get(0))?;
    Ok(last.map_or(Position::START, position).max(mark(connection, FLOOR)?).max(mark(connection, LOST)?))
}

/// Positions and all else that counts from zero fit into the 63 bits of a number in the file.
pub(super) fn position(number: i64) -> Position {
    Position(number.cast_unsigned())
}

pub(super) fn number(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// What one life of the file goes by.
pub(super) struct Life {
    pub(super) epoch: Epoch,
    pub(super) secret: [u8; 32],
    pub(super) mark: Option<Mark>,
}

/// Notes that the file is in use, and gives it a new epoch if it may have lost its end.
///
/// With [`SyncMode::Normal`] what the system had not written to the disk is gone when the machine loses its power: the
/// file then ends before positions that clients have seen, and those will be given again. It cannot have happened if
/// the machine has not started anew since, or if the last life was closed in order. `fresh` is random: what is not
/// known yet is taken from it. The caller sees to it that this is durable.
///
/// What a bus puts in order is read from it again, so nothing is given another position. When this process puts in order
/// what follows entries of a bus, their epoch is over: the bus gives the same positions to others.
pub(super) fn begin_life(
    connection: &mut Connection,
    sync: SyncMode,
    boot: &str,
    order: Order,
    fresh: &Life,
) -> rusqlite::Result<Life> {
    let transaction = connection.transaction()?;
    let epoch = get::<i64>(&transaction, EPOCH)?.map(|epoch| Epoch(epoch.cast_unsigned()));
    let was_closed = get(&transaction, IS_CLEAN)?.unwrap_or(false);
    let was_full = get::<String>(&transaction, SYNC)?.is_some_and(|sync| sync == SyncMode::Full.name());
    let same_boot = !boot.is_empty() && get::<String>(&transaction, BOOT)?.is_some_and(|known| known == boot);
    let mark = get::<String>(&transaction, BUS)?.and_then(|text| read_mark(&text));
    let mark = mark.filter(|mark| order == Order::Bus && mark.position() >= last(&transaction).unwrap_or_default());
    let had_bus = transaction.execute("DELETE FROM meta WHERE key = ? AND ?", params![BUS, mark.is_none()])? > 0;
    let is_whole = was_closed || was_full || same_boot || order == Order::Bus;
    let epoch = match (mark, epoch) {
        (Some(mark), _) => mark.stamp.epoch,
        (None, Some(epoch)) if is_whole && !had_bus => epoch,
        _ => fresh.epoch,
    };
    let secret = get(&transaction, SECRET)?.unwrap_or(fresh.secret);
    set(&transaction, EPOCH, epoch.0.cast_signed())?;
    set(&transaction, SECRET, secret)?;
    set(&transaction, SYNC, sync.name())?;
    set(&transaction, BOOT, boot)?;
    set(&transaction, IS_CLEAN, false)?;
    transaction.commit()?;
    Ok(Life { epoch, secret, mark })
}

/// Notes the key that all instances on a bus have.
pub(super) fn keep_secret(connection: &Connection, secret: [u8; 32]) -> rusqlite::Result<()> {
    set(connection, SECRET, secret)
}

/// Notes where the log of the bus stands, and in which life.
pub(super) fn set_mark(connection: &Connection, mark: &Mark) -> rusqlite::Result<()> {
    let Mark { stamp: Stamp { epoch, base }, offset, id } = mark;
    let id = id.map_or(String::new(), |id| format!("{:016x} {}", id.instance, id.number));
    set(connection, BUS, format!("{epoch} {base} {offset} {id}"))?;
    set(connection, EPOCH, epoch.0.cast_signed())
}

fn read_mark(text: &str) -> Option<Mark> {
    let mut parts = text.split_ascii_whitespace();
    let stamp = Stamp { epoch: parts.next()?.parse().ok()?, base: Position(parts.next()?.parse().ok()?) };
    let offset = parts.next()?.parse().ok()?;
    let id = match (parts.next(), parts.next()) {
        (Some(instance), Some(number)) => {
            Some(DraftId { instance: u64::from_str_radix(instance, 16).ok()?, number: number.parse().ok()? })
        }
        _ => None,
    };
    Some(Mark { stamp, offset, id })
}

/// Notes that everything is in the file. The caller sees to it that this is durable, and with it all that came before.
pub(super) fn end_life(connection: &Connection) -> rusqlite::Result<()> {
    set(connection, IS_CLEAN, true)
}
