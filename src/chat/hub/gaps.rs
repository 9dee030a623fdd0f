//! What cannot be had any more, and how that is told.

use bytes::Bytes;

use super::ephemeral::framed;
use super::{Command, Dialect, Epoch, Hub, MemberId, Position, RoomName, Stage, Standing};
use crate::chat::dialect::EventId;
use crate::chat::v1::{self, Reply};

impl Hub {
    /// What a member needs next is kept nowhere: it is told, and goes on behind it. `false` if it cannot be told.
    pub(super) fn skip<S: Stage>(
        &mut self,
        id: MemberId,
        key: usize,
        dialect: Dialect,
        to: Position,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) -> bool {
        match dialect {
            Dialect::Raw => {
                commands.push(Command::FellBehind(id));
                false
            }
            Dialect::V1 => {
                stage.send(id, self.gap_of::<S>(key, to));
                self.stand(id, key, Standing::CatchingUp { after: to });
                true
            }
            Dialect::Events => {
                stage.send(id, self.gap_event(&self.rooms[key].name, to));
                self.stand(id, key, Standing::CatchingUp { after: to });
                true
            }
        }
    }

    /// Tells a member of chat.v1 that nothing of a room up to a position will come.
    fn gap_of<S: Stage>(&self, key: usize, to: Position) -> Bytes {
        let epoch = self.journaled.epoch.to_string();
        framed::<S>(&Reply::Gap { room: self.rooms[key].name.as_str(), position: to.0, epoch })
    }

    /// What was not heard up to a position will never be, and the journal may have begun another life: those who are
    /// level are told so, and whoever is behind, or comes back with a position up to there, is told when it asks.
    ///
    /// What was emitted before must have been handed out by [`commit`](Hub::commit).
    pub fn lost<S: Stage>(&mut self, epoch: Epoch, upto: Position, stage: &mut S) {
        let is_known = epoch == self.journaled.epoch && upto <= self.journaled.position;
        let former = std::mem::replace(&mut self.journaled.epoch, epoch);
        if former != epoch {
            self.former_epoch = Some(former);
        }
        self.journaled.position = self.journaled.position.max(upto);
        self.forgotten = self.forgotten.max(upto);
        self.lose_ahead(former);
        self.close_opened();
        self.recalled.clear();
        for (_, room) in &mut self.rooms {
            debug_assert!(room.news.is_empty(), "what came before the loss is heard before it is told");
            room.tail.lose(upto);
        }
        if is_known {
            // Whoever is level has been told so, or has begun behind it.
            return;
        }
        let keys: Vec<usize> = self.rooms.iter().map(|(key, _)| key).collect();
        for key in keys {
            for dialect in [Dialect::V1, Dialect::Events] {
                let told = match dialect {
                    Dialect::V1 => self.gap_of::<S>(key, upto),
                    _ => self.gap_event(&self.rooms[key].name, upto),
                };
                // Raw members know of no positions: they hear what comes next.
                for member in &self.rooms[key].live[dialect.index()] {
                    stage.send(*member, told.clone());
                }
            }
        }
    }

    /// What a stream of events is told when it misses everything up to a position.
    #[must_use]
    pub fn gap_event(&self, room: &RoomName, to: Position) -> Bytes {
        let id = self.event_id(to);
        let mut event = format!("id: {id}\nevent: gap\ndata: ").into_bytes();
        let gap = Reply::Gap { room: room.as_str(), position: to.0, epoch: id.epoch.to_string() };
        v1::write(&gap, &mut event);
        event.extend_from_slice(b"\n\n");
        event.into()
    }

    /// A place in this life of the journal.
    #[must_use]
    pub fn event_id(&self, position: Position) -> EventId {
        EventId { epoch: self.journaled.epoch, position }
    }

    /// Before the newest page of a room that is in memory: where whoever goes on of whom nothing is known.
    #[must_use]
    pub fn before_newest_page(&self, room: &RoomName) -> Position {
        let tail = self.by_name.get(room).map(|key| &self.rooms[*key].tail);
        let page = tail.map(|tail| tail.before(Position(u64::MAX), self.page_size())).unwrap_or_default();
        page.first().map_or(self.journaled.position, |first| first.position.before())
    }
}
