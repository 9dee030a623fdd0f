//! What is told and not kept: who comes and goes, and who is writing.
//!
//! Changes mark their room as restless. A tick, four times a second while any room is, sends what has gathered, for each
//! room at most once a second. Whoever has no room for it in its outbox is sent a snapshot later.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use super::{Author, Dialect, Hub, MemberId, Message, PersonId, Stage};
use crate::chat::presence::{PACE, Update, WRITING_NAMES};
use crate::chat::v1::{self, Person, Reply};

const TICK: Duration = Duration::from_millis(250);
/// Somebody who has not typed for this long is not writing any more.
const TYPING_LASTS: Duration = Duration::from_secs(5);

/// Who is writing in a room.
#[derive(Debug, Default)]
pub(super) struct Typing {
    writing: Vec<Writer>,
    has_changed: bool,
    last_update: Option<Instant>,
}

#[derive(Debug)]
struct Writer {
    author: Author,
    until: Instant,
    /// They are at this instance, which tells the others of it.
    is_here: bool,
}

impl Typing {
    fn is_restless(&self) -> bool {
        !self.writing.is_empty() || self.has_changed
    }

    fn note(&mut self, author: &Author, now: Instant) {
        self.write(Writer { author: author.clone(), until: now + TYPING_LASTS, is_here: true });
    }

    /// Somebody is writing at another instance.
    pub(super) fn hear(&mut self, author: &Author, now: Instant) {
        self.write(Writer { author: author.clone(), until: now + TYPING_LASTS, is_here: false });
    }

    fn write(&mut self, writer: Writer) {
        if let Some(known) = self.writing.iter_mut().find(|known| known.author.id == writer.author.id) {
            known.until = writer.until;
            known.is_here |= writer.is_here;
        } else if self.writing.len() < WRITING_NAMES {
            self.writing.push(writer);
            self.has_changed = true;
        }
    }

    /// Who has been writing at this instance in the last moments. Others have been reported before.
    pub(super) fn writing_here(&self, now: Instant) -> Vec<Author> {
        let recent = now + TYPING_LASTS - 2 * PACE;
        let writing = self.writing.iter().filter(|writer| writer.is_here && writer.until > recent);
        writing.map(|writer| writer.author.clone()).collect()
    }

    pub(super) fn stop(&mut self, person: PersonId) {
        let before = self.writing.len();
        self.writing.retain(|writer| writer.author.id != person);
        self.has_changed |= self.writing.len() != before;
    }

    fn update(&mut self, now: Instant) -> Option<Vec<Author>> {
        let before = self.writing.len();
        self.writing.retain(|writer| writer.until > now);
        self.has_changed |= self.writing.len() != before;
        if !self.has_changed || self.last_update.is_some_and(|last| now < last + PACE) {
            return None;
        }
        self.has_changed = false;
        self.last_update = Some(now);
        Some(self.writing.iter().map(|writer| writer.author.clone()).collect())
    }
}

impl Hub {
    /// When [`tick`](Hub::tick) has something to do, if at all.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        self.next_tick
    }

    /// Tells the rooms what has gathered in them.
    pub fn tick<S: Stage>(&mut self, stage: &mut S, now: Instant) {
        if self.next_tick.is_none_or(|at| now < at) {
            return;
        }
        for key in std::mem::take(&mut self.restless) {
            self.rooms[key].is_restless = false;
            if let Some(update) = self.rooms[key].presence.update(self.bounds.presence_names, now) {
                let name = self.rooms[key].name.clone();
                let all = update.is_named_anew.then(|| self.tell_names(key));
                let reply = Reply::presence(name.as_str(), &update, all.as_deref());
                self.tell(key, &reply, Told::Presence, stage);
            }
            if let Some(writing) = self.rooms[key].typing.update(now) {
                let name = self.rooms[key].name.clone();
                let reply = Reply::Typing { room: name.as_str(), names: Person::all(&writing) };
                self.tell(key, &reply, Told::Typing, stage);
            }
            self.stir_if_restless(key);
        }
        self.tick_ahead(stage, now);
        self.next_tick = self.needs_tick().then_some(now + TICK);
    }

    /// Offers something fleeting to the live members of chat.v1 in a room.
    fn tell<S: Stage>(&mut self, key: usize, reply: &Reply<'_>, told: Told, stage: &mut S) {
        if told == Told::Presence {
            // Whoever is not live finds out by this number that it has missed something.
            self.rooms[key].updates = self.rooms[key].updates.wrapping_add(1);
        }
        if self.rooms[key].live[Dialect::V1.index()].is_empty() {
            return;
        }
        let bytes = framed::<S>(reply);
        for place in 0..self.rooms[key].live[Dialect::V1.index()].len() {
            let member = self.rooms[key].live[Dialect::V1.index()][place];
            if !stage.offer(member, &bytes, 0)
                && told == Told::Presence
                && let Some(seat) = self.seat_mut(member, key)
            {
                seat.missed_presence = true;
            }
        }
    }

    /// Everybody who is in a room, for a member that has missed something of it.
    pub(super) fn snapshot<S: Stage>(&mut self, key: usize) -> Bytes {
        let names = self.tell_names(key);
        let room = &self.rooms[key];
        let update = Update { count: room.presence.count(), ..Update::default() };
        framed::<S>(&Reply::presence(room.name.as_str(), &update, Some(&names)))
    }

    /// Everybody who is in a room, unless they are too many to be named, for whoever is told so.
    pub(super) fn tell_names(&mut self, key: usize) -> Vec<Author> {
        self.rooms[key].presence.tell_names(self.bounds.presence_names)
    }

    /// Somebody has taken a seat.
    pub(super) fn arrived(&mut self, key: usize, author: Option<&Author>) {
        match author {
            Some(author) => {
                self.rooms[key].presence.arrive(author);
                self.came_back(key, author.id);
            }
            None => self.count_strangers(key),
        }
        self.stir(key);
        self.note_for_report(key);
    }

    /// Somebody has left a seat, and others are still there.
    pub(super) fn departed(&mut self, key: usize, person: Option<PersonId>, now: Instant) {
        match person {
            Some(person) => {
                self.rooms[key].presence.depart(person, now);
                self.rooms[key].typing.stop(person);
            }
            None => self.count_strangers(key),
        }
        self.stir(key);
        self.note_for_report(key);
    }

    fn count_strangers(&mut self, key: usize) {
        let room = &mut self.rooms[key];
        let strangers = room.members.saturating_sub(room.presence.connections());
        room.presence.strangers(strangers);
    }

    /// Somebody is called otherwise.
    pub(super) fn renamed(&mut self, key: usize, author: &Author) {
        self.rooms[key].presence.rename(author);
        self.stir(key);
        self.note_for_report(key);
    }

    /// Somebody is writing.
    pub(super) fn writes(&mut self, key: usize, author: &Author, now: Instant) {
        self.rooms[key].typing.note(author, now);
        self.stir(key);
        self.note_for_report(key);
    }

    /// Somebody has written.
    pub(super) fn wrote(&mut self, key: usize, person: PersonId) {
        self.rooms[key].typing.stop(person);
        self.stir_if_restless(key);
    }

    /// Lets the next tick look at a room, if there is anything to be told in it.
    pub(super) fn stir_if_restless(&mut self, key: usize) {
        let room = &self.rooms[key];
        if room.presence.is_restless() || room.typing.is_restless() {
            self.stir(key);
        }
    }

    /// Lets the next tick look at a room.
    pub(super) fn stir(&mut self, key: usize) {
        let room = &mut self.rooms[key];
        if !room.is_restless {
            room.is_restless = true;
            self.restless.push(key);
        }
    }

    /// Sees to it that there is a tick for what was stirred up at `now`.
    pub fn wind(&mut self, now: Instant) {
        if self.next_tick.is_none() && self.needs_tick() {
            self.next_tick = Some(now + TICK);
        }
    }

    fn needs_tick(&self) -> bool {
        !self.restless.is_empty() || !self.ahead.is_empty()
    }

    /// Tells a member, if it speaks chat.v1, something about the server.
    pub fn inform<S: Stage>(&self, id: MemberId, reply: &Reply<'_>, stage: &mut S) {
        let member = self.members.get(id.slot as usize).and_then(Option::as_ref);
        if member.is_some_and(|member| member.serial == id.serial && member.speaker.is_some()) {
            stage.send(id, framed::<S>(reply));
        }
    }

    /// Tells everybody who speaks chat.v1 something about the server.
    pub fn announce<S: Stage>(&mut self, stage: &mut S, mut reply: impl FnMut(usize) -> Reply<'static>) {
        let mut number = 0;
        for (slot, member) in self.members.iter().enumerate() {
            if let Some(member) = member.as_ref().filter(|member| member.speaker.is_some()) {
                stage.send(MemberId { slot: slot as u32, serial: member.serial }, framed::<S>(&reply(number)));
                number += 1;
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Presence,
    Typing,
}

/// A reply as a frame.
pub(super) fn framed<S: Stage>(reply: &impl Serialize) -> Bytes {
    let mut json = Vec::new();
    v1::write(reply, &mut json);
    let mut frame = Vec::with_capacity(json.len() + 10);
    S::frame(Message::Text(&json), &mut frame);
    frame.into()
}
