//! What a bus has put in order, on its way to whatever keeps it.

use crate::chat::entry::{Epoch, Position};

use super::contract::Event;

/// A life of a log: a record at an offset has the position `base` + offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) epoch: Epoch,
    pub(super) base: Position,
}

/// Names a draft among those of all instances, so that it is recognised when it comes back, and when it comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DraftId {
    /// A random number of one process.
    pub(super) instance: u64,
    /// Counts its drafts.
    pub(super) number: u64,
}

/// Where an instance stands in a log: the last record that it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The life in which it was.
    pub(super) stamp: Stamp,
    /// Its place.
    pub(super) offset: u64,
    /// What was there; `None` if it could not be read.
    pub(super) id: Option<DraftId>,
}

impl Mark {
    /// The position of the record.
    pub(super) fn position(&self) -> Position {
        Position(self.stamp.base.0.saturating_add(self.offset))
    }
}

/// Events in their order, which are to be kept before they are told, and where the log stood behind them.
#[derive(Debug)]
pub(super) struct Ordered {
    /// Entries, repeats, and what was lost.
    pub(super) events: Vec<Event>,
    /// The last record of the log that they come from.
    pub(super) mark: Mark,
}
