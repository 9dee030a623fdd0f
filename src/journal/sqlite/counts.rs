//! How many entries there are. Positions do not tell that: a bus leaves some out.
//!
//! The search index comes by every entry anyhow, so that is where they are counted; the number is noted together with
//! how far the index goes, in the same transaction. What is behind that is few enough to be counted when the file is
//! opened.

use rusqlite::{Connection, params};

use crate::chat::entry::Position;

use super::schema::{self, COUNTED};

/// The numbers of entries of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Up to where the search index goes.
    indexed: u64,
    /// Behind that.
    unindexed: u64,
    /// Removed since the file was opened.
    trimmed: u64,
}

impl Counts {
    /// The numbers of a file, of which the index goes up to `indexed` and everything up to `floor` is removed. Where
    /// they were not noted, or by a program that did not know how, all entries are counted, this once.
    pub(super) fn open(connection: &Connection, indexed: Position, floor: Position) -> rusqlite::Result<Self> {
        let mut counts = Counts { unindexed: behind(connection, indexed)?, ..Counts::default() };
        let noted: Option<String> = schema::get(connection, COUNTED)?;
        match noted.as_deref().and_then(|noted| noted_for(noted, indexed, floor)) {
            Some(noted) => counts.indexed = noted,
            None => {
                let all: i64 = connection.query_row("SELECT count(*) FROM entries", [], |row| row.get(0))?;
                counts.indexed = all.cast_unsigned().saturating_sub(counts.unindexed);
                counts.note(connection, indexed, floor)?;
            }
        }
        Ok(counts)
    }

    /// Entries in the file.
    pub(super) fn kept(&self) -> u64 {
        self.indexed + self.unindexed
    }

    /// Of these, so many that a search does not know.
    pub(super) fn unindexed(&self) -> u64 {
        self.unindexed
    }

    /// Entries removed since the file was opened.
    pub(super) fn trimmed(&self) -> u64 {
        self.trimmed
    }

    /// So many have been stored.
    pub(super) fn stored(&mut self, entries: u64) {
        self.unindexed += entries;
    }

    /// It is not known how many have been stored.
    pub(super) fn recount(&mut self, connection: &Connection, indexed: Position) -> rusqlite::Result<()> {
        self.unindexed = behind(connection, indexed)?;
        Ok(())
    }

    /// What it will be when the next so many are in the index.
    pub(super) fn after_indexing(self, entries: u64) -> Self {
        Counts { indexed: self.indexed + entries, unindexed: self.unindexed.saturating_sub(entries), ..self }
    }

    /// What it will be when the oldest so many are removed.
    pub(super) fn after_trimming(self, entries: u64) -> Self {
        let beyond_index = entries.saturating_sub(self.indexed);
        Counts {
            indexed: self.indexed.saturating_sub(entries),
            unindexed: self.unindexed.saturating_sub(beyond_index),
            trimmed: self.trimmed + entries,
        }
    }

    /// Notes how many there are up to where the index goes.
    pub(super) fn note(&self, connection: &Connection, indexed: Position, floor: Position) -> rusqlite::Result<()> {
        schema::set(connection, COUNTED, format!("{indexed} {floor} {}", self.indexed))
    }
}

/// What was noted, if it is for a file that stands here.
fn noted_for(noted: &str, indexed: Position, floor: Position) -> Option<u64> {
    noted.strip_prefix(&format!("{indexed} {floor} "))?.parse().ok()
}

fn behind(connection: &Connection, position: Position) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM entries WHERE position > ?";
    let count: i64 = connection.query_row(sql, params![schema::number(position)], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}
