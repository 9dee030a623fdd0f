//! What members of chat.v1 ask of former times: pages of history, and searches.
//!
//! What memory has is told at once. Of what is to be read for all of them only so much is under way at once, pages and
//! searches each for themselves, since the store works on the two side by side; the rest waits in the order in which it
//! was asked. It waits as long as whoever has asked is there, who may ask [so much](super::converse) and no more.

use std::collections::{BTreeMap, BTreeSet};

use super::ephemeral::framed;
use super::feed::Whom;
use super::{Command, Hub, Looked, MemberId, Pages, Position, Range, RoomName, Stage};
use crate::chat::v1::{Hit, Reply, Said};

/// A member's outbox has no room for an answer.
#[derive(Debug)]
pub(super) struct OutboxFull;

/// What a member has asked for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Older entries.
    History,
    /// Those that match this.
    Search {
        /// The words as they were given.
        query: String,
    },
}

impl Purpose {
    fn index(&self) -> usize {
        match self {
            Purpose::History => 0,
            Purpose::Search { .. } => 1,
        }
    }
}

/// A part of a room that a member wants to read.
#[derive(Debug)]
struct Asked {
    id: MemberId,
    room: RoomName,
    before: Position,
    limit: usize,
    purpose: Purpose,
}

/// What is asked by all members, of one kind.
#[derive(Debug, Default)]
pub(super) struct Asks {
    under_way: usize,
    /// What waits until less is under way, in the order in which it was asked.
    queue: BTreeMap<u64, Asked>,
    /// The same by who has asked.
    by_member: BTreeSet<(MemberId, u64)>,
    last_turn: u64,
}

impl Asks {
    /// Reads that are under way.
    pub(super) fn len(&self) -> usize {
        self.under_way
    }

    /// Those that wait until fewer are.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// What is noted down of who has asked.
    #[cfg(test)]
    pub(super) fn askers(&self) -> usize {
        self.by_member.len()
    }

    fn push(&mut self, asked: Asked) {
        self.last_turn += 1;
        self.by_member.insert((asked.id, self.last_turn));
        self.queue.insert(self.last_turn, asked);
    }

    fn pop(&mut self) -> Option<Asked> {
        let (turn, asked) = self.queue.pop_first()?;
        self.by_member.remove(&(asked.id, turn));
        Some(asked)
    }

    /// A member has gone, and waits for nothing.
    pub(super) fn forget(&mut self, id: MemberId) {
        while let Some(&(member, turn)) = self.by_member.range((id, 0)..=(id, u64::MAX)).next() {
            self.by_member.remove(&(member, turn));
            self.queue.remove(&turn);
        }
    }
}

impl Hub {
    /// A member of chat.v1 asked for older entries.
    ///
    /// # Errors
    ///
    /// When its outbox has no room for them.
    pub(super) fn history<S: Stage>(
        &mut self,
        id: MemberId,
        key: usize,
        before: Position,
        limit: usize,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) -> Result<(), OutboxFull> {
        let room = self.rooms[key].name.clone();
        let Some(Looked { entries, more, .. }) = self.look(&room, &Range::Before(before), limit) else {
            self.ask(Asked { id, room, before, limit, purpose: Purpose::History }, commands);
            return Ok(());
        };
        let reply = Reply::History { room: room.as_str(), entries: Said::all_within(&entries), more };
        if !stage.offer(id, &framed::<S>(&reply), entries.len()) {
            return Err(OutboxFull);
        }
        Ok(())
    }

    /// A member of chat.v1 searches.
    pub(super) fn search(
        &mut self,
        id: MemberId,
        key: usize,
        query: String,
        before: Position,
        limit: usize,
        commands: &mut Vec<Command>,
    ) {
        let room = self.rooms[key].name.clone();
        self.ask(Asked { id, room, before, limit, purpose: Purpose::Search { query } }, commands);
    }

    fn ask(&mut self, asked: Asked, commands: &mut Vec<Command>) {
        let kind = asked.purpose.index();
        if let Some(speaker) = self.speaker_mut(asked.id) {
            speaker.reads += 1;
        }
        self.asks[kind].push(asked);
        self.ask_next(kind, commands);
    }

    /// Has read what waits, as far as it may be under way.
    fn ask_next(&mut self, kind: usize, commands: &mut Vec<Command>) {
        while self.asks[kind].under_way < self.bounds.ask_reads
            && let Some(Asked { id, room, before, limit, purpose }) = self.asks[kind].pop()
        {
            let range = match &purpose {
                Purpose::History => Range::Before(before),
                Purpose::Search { query } => Range::Matching { before, query: query.clone() },
            };
            self.asks[kind].under_way += 1;
            self.read(room, range, limit, Whom::Member(id, purpose), commands);
        }
    }

    /// Answers a member with what was read for it.
    pub(super) fn take_asked<S: Stage>(
        &mut self,
        (id, purpose): (MemberId, Purpose),
        room: &RoomName,
        pages: &Pages,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) {
        self.asks[purpose.index()].under_way -= 1;
        self.ask_next(purpose.index(), commands);
        let Some(speaker) = self.speaker_mut(id) else { return };
        speaker.reads -= 1;
        if !self.by_name.contains_key(room) {
            return;
        }
        let (request, answer, entries) = match (&purpose, &pages.entries) {
            (Purpose::History, Err(error)) => return Self::refuse_read(id, "history", room, *error, stage),
            (Purpose::Search { .. }, Err(error)) => return Self::refuse_read(id, "search", room, *error, stage),
            (Purpose::History, Ok(entries)) => {
                let (count, entries, more) = (entries.len(), Said::all_within(entries), pages.more);
                ("history", framed::<S>(&Reply::History { room: room.as_str(), entries, more }), count)
            }
            (Purpose::Search { query }, Ok(entries)) => {
                let none = Vec::new();
                let matches = pages.matches.iter().chain(std::iter::repeat(&none));
                let hits = entries.iter().zip(matches).map(|(entry, matches)| Hit::new(entry, matches)).collect();
                let reply = Reply::Found { room: room.as_str(), query, entries: hits, more: pages.more };
                ("search", framed::<S>(&reply), 0)
            }
        };
        // It has asked for several pages at once, and they may be large: they are not all to wait for it.
        if !stage.offer(id, &answer, entries) {
            Self::refuse_answer(id, request, room, stage);
        }
    }
}
