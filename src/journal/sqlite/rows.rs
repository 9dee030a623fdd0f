//! Entries as rows.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Row;

use crate::chat::entry::{Author, Content, Entry, Nonce, PersonId, RoomName, Timestamp};

use super::schema;

/// The columns of an entry, for a `SELECT`, in the order in which [`entry`] reads them.
macro_rules! columns {
    () => {
        "entries.position, entries.at, entries.kind, entries.author, entries.author_name, entries.nonce, entries.content"
    };
}
pub(super) use columns;

/// UTF-8. A kind is never used for anything else again; what a change of format makes unreadable to older programs is a
/// new kind.
pub(super) const TEXT: i64 = 1;
/// Any bytes.
pub(super) const BINARY: i64 = 2;

pub(super) fn kind(content: &Content) -> i64 {
    match content {
        Content::Text(_) => TEXT,
        Content::Binary(_) => BINARY,
    }
}

/// The entry of a row that begins with the [`columns`]; `None` if it is of a kind that only a newer program knows.
pub(super) fn entry(row: &Row<'_>, room: &RoomName) -> rusqlite::Result<Option<Entry>> {
    let kind: fn(Bytes) -> Content = match row.get(2)? {
        TEXT => Content::Text,
        BINARY => Content::Binary,
        _ => return Ok(None),
    };
    let content = kind(Bytes::copy_from_slice(row.get_ref(6)?.as_bytes()?));
    let author = match row.get::<_, Option<i64>>(3)? {
        Some(id) => Some(Author { id: PersonId(id.cast_unsigned()), name: text(row, 4)?.unwrap_or_default() }),
        None => None,
    };
    Ok(Some(Entry {
        position: schema::position(row.get(0)?),
        room: room.clone(),
        origin: None,
        author,
        nonce: text(row, 5)?.map(Nonce),
        at: Timestamp(row.get::<_, i64>(1)?.cast_unsigned()),
        content,
    }))
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Arc<str>>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.map(Arc::from))
}
