//! Members come and go, and take seats in rooms.

use std::time::Instant;

use super::{
    DIALECTS, Dialect, Hub, Member, MemberId, PersonId, Presence, RoomName, Seat, SmallVec, Standing, Start, ephemeral,
};

impl Hub {
    /// Somebody has come, and is in no room yet.
    ///
    /// # Panics
    ///
    /// When another member with the same slot has not left.
    pub fn enter(&mut self, member: MemberId, dialect: Dialect) {
        let slot = member.slot as usize;
        if slot >= self.members.len() {
            self.members.resize_with(slot + 1, || None);
        }
        assert!(self.members[slot].is_none(), "the former member of slot {slot} has not left");
        self.members[slot] = Some(Member {
            serial: member.serial,
            dialect,
            is_hungry: false,
            in_flight: 0,
            raw: None,
            seats: SmallVec::new(),
            speaker: None,
        });
        self.present += 1;
    }

    /// Gives a member a seat in a room. It hears what it asked for from the next commit on.
    pub fn sit(&mut self, member: MemberId, room: RoomName, start: Start) {
        if self.member(member).is_none() {
            return;
        }
        let room = self.room(room);
        if self.rooms[room].members == 0 {
            self.empty_rooms -= 1;
            self.find_elsewhere(room);
        }
        self.rooms[room].members += 1;
        let present = self.journaled.position;
        let found = self.member_mut(member).expect("looked up above");
        let standing = match (found.dialect, start) {
            (Dialect::V1, start) | (Dialect::Events, start @ Start::Ahead { .. }) => Standing::Joining(start),
            (_, Start::After(after)) if after <= present => Standing::CatchingUp { after },
            (_, _) => Standing::CatchingUp { after: present },
        };
        found.seats.push(Seat { room, standing, missed_presence: false, knows_update: 0 });
        let author = found.speaker.as_ref().map(|speaker| speaker.author.clone());
        self.catching_up += 1;
        self.arrived(room, author.as_ref());
        self.drained(member);
    }

    /// Takes a member out of a room. `false` if it was not there.
    pub(super) fn stand_up(&mut self, member: MemberId, room: usize, now: Instant) -> bool {
        let Some(found) = self.member_mut(member) else { return false };
        let Some(place) = found.seats.iter().position(|seat| seat.room == room) else { return false };
        let (seat, dialect) = (found.seats.remove(place), found.dialect);
        let author = found.speaker.as_ref().map(|speaker| speaker.author.id);
        self.ahead.forget(member, room);
        self.vacate(&seat, dialect, author, now);
        true
    }

    /// A member has gone, out of all its rooms.
    pub fn exit(&mut self, member: MemberId, now: Instant) {
        if self.member(member).is_none() {
            return;
        }
        let gone = self.members[member.slot as usize].take().expect("found in the line before");
        self.present -= 1;
        if self.present == 0 {
            self.members = Vec::new();
        }
        let author = gone.speaker.as_ref().map(|speaker| speaker.author.id);
        if let Some(person) = author {
            self.disconnect(person, member);
        }
        if gone.speaker.is_some_and(|speaker| speaker.reads > 0) {
            self.asks.iter_mut().for_each(|asks| asks.forget(member));
        }
        for seat in &gone.seats {
            self.ahead.forget(member, seat.room);
            self.vacate(seat, gone.dialect, author, now);
        }
        // It may be the last that happens for a long time.
        self.wind(now);
    }

    pub(super) fn disconnect(&mut self, person: PersonId, member: MemberId) {
        if let Some(connections) = self.people.get_mut(&person) {
            connections.retain(|connection| *connection != member);
            if connections.is_empty() {
                self.people.remove(&person);
            }
        }
    }

    fn vacate(&mut self, seat: &Seat, dialect: Dialect, person: Option<PersonId>, now: Instant) {
        match seat.standing {
            Standing::Live { place } => self.unseat(seat.room, dialect, place),
            Standing::Joining(_) | Standing::CatchingUp { .. } | Standing::Reading { .. } => self.catching_up -= 1,
            Standing::Queued { turn, .. } => {
                self.recall_queue.remove(turn);
                self.catching_up -= 1;
            }
            Standing::Waiting { turn } => {
                self.arrivals.remove(turn);
                self.catching_up -= 1;
            }
        }
        let room = &mut self.rooms[seat.room];
        room.members -= 1;
        if room.members == 0 {
            self.note_for_report(seat.room);
            let room = &mut self.rooms[seat.room];
            room.live = [const { Vec::new() }; DIALECTS];
            room.presence = Presence::default();
            room.typing = ephemeral::Typing::default();
            self.empty_rooms += 1;
            self.forget_if_useless(seat.room);
        } else {
            self.departed(seat.room, person, now);
        }
    }
}
