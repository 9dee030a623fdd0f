//! Who is where, across instances: what this one tells the others, and what it hears from them.
//!
//! With a bus, [`Hub::poll_report`] gives reports: of each room that has changed, at most once a second, and of all rooms
//! every few seconds, and whenever another instance appears. [`Hub::hear_report`] takes those of others. Somebody at
//! another instance is in the room like somebody with one more connection, so a person at two is one, and has the same
//! grace. Without a bus nothing of this happens.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Author, Hub, PersonId, RoomName, Stage, Trouble};
use crate::chat::elsewhere::{Change, Elsewhere, Heard};
use crate::chat::presence::PACE;
use crate::chat::report::{InstanceId, Named, Report, ReportBounds, RoomReport};

/// All rooms are reported so often. An instance may lose two such reports and is not taken for dead.
const REFRESH: Duration = Duration::from_secs(4);
/// Bytes of rooms after which a report is closed, and another one follows.
const REPORT_BYTES: usize = 24 * 1024;
/// People whose names are put right in one report.
const NAMES_AT_ONCE: usize = 100;
/// How often it is looked who has fallen silent.
const CHECK: Duration = Duration::from_secs(1);

/// What an instance of several knows of the others, and what it has yet to tell them.
#[derive(Debug)]
pub(super) struct Reports {
    instance: InstanceId,
    number: u64,
    elsewhere: Elsewhere,
    bounds: ReportBounds,
    /// Rooms that have changed since they were reported.
    changed: BTreeSet<RoomName>,
    /// People whom another instance calls by an older name than this one.
    misnamed: BTreeSet<PersonId>,
    /// Rooms that are about to be reported.
    queue: VecDeque<RoomName>,
    /// A report is due even if there is nothing in it: it shows that we live.
    owes_sign: bool,
    /// When changes may be told again.
    changes_at: Instant,
    refresh_at: Instant,
    check_at: Instant,
    is_leaving: bool,
}

impl Hub {
    /// Several instances are one chat, and this one is called so from now on.
    pub fn report_as(&mut self, instance: InstanceId, now: Instant) {
        let bounds = &self.bounds;
        let name_cost = bounds.max_person_name_bytes * 2 + 40;
        self.reports = Some(Box::new(Reports {
            instance,
            number: 0,
            elsewhere: Elsewhere::new(bounds.max_instances, bounds.max_elsewhere),
            bounds: ReportBounds {
                // The room that closes a report may have all the names that are told.
                bytes: REPORT_BYTES
                    + 1_000
                    + NAMES_AT_ONCE * name_cost
                    + bounds.max_room_name_bytes * 2
                    + bounds.presence_names * name_cost,
                names: bounds.presence_names,
                room_name_bytes: bounds.max_room_name_bytes,
                person_name_bytes: bounds.max_person_name_bytes,
            },
            changed: BTreeSet::new(),
            misnamed: BTreeSet::new(),
            queue: VecDeque::new(),
            owes_sign: false,
            changes_at: now,
            refresh_at: now,
            check_at: now,
            is_leaving: false,
        }));
    }

    /// Other instances that are heard.
    #[must_use]
    pub fn instances_elsewhere(&self) -> usize {
        self.reports.as_ref().map_or(0, |reports| reports.elsewhere.instances())
    }

    /// Rooms of other instances and people in them that are known.
    #[must_use]
    pub fn remembered_elsewhere(&self) -> usize {
        self.reports.as_ref().map_or(0, |reports| reports.elsewhere.remembered())
    }

    /// This instance is about to end: the others keep its people until these have come to them. Nothing is reported from
    /// here on but that.
    pub fn report_goodbye(&mut self, now: Instant) {
        if let Some(reports) = &mut self.reports {
            reports.is_leaving = true;
            reports.refresh_at = now;
            reports.queue.clear();
            reports.changed.clear();
            reports.misnamed.clear();
        }
    }

    /// When [`poll_report`](Hub::poll_report) has something to do, if at all.
    #[must_use]
    pub fn next_report(&self) -> Option<Instant> {
        let reports = self.reports.as_ref()?;
        let has_changes = !reports.changed.is_empty() || !reports.misnamed.is_empty();
        let change = has_changes.then_some(reports.changes_at);
        let check = (!reports.elsewhere.is_empty()).then_some(reports.check_at);
        [change, check, Some(reports.refresh_at)].into_iter().flatten().min()
    }

    /// What the other instances are to be told now, in one or several pieces.
    pub fn poll_report(&mut self, now: Instant) -> Option<Bytes> {
        let reports = self.reports.as_mut()?;
        if now >= reports.check_at {
            reports.check_at = now + CHECK;
            if self.trouble == Some(Trouble::Bus) {
                reports.elsewhere.excuse(now);
            }
            for change in reports.elsewhere.expire(now) {
                self.take_change(&change);
            }
            self.wind(now);
        }
        let reports = self.reports.as_mut()?;
        if now >= reports.refresh_at {
            (reports.refresh_at, reports.owes_sign) = (now + REFRESH, true);
            if !reports.is_leaving {
                let rooms = self.rooms.iter().filter(|(_, room)| room.members > 0);
                reports.changed.extend(rooms.map(|(_, room)| room.name.clone()));
                reports.changes_at = now;
            }
        }
        let mut misnamed = Vec::new();
        if now >= reports.changes_at && !(reports.changed.is_empty() && reports.misnamed.is_empty()) {
            reports.changes_at = now + PACE;
            reports.queue.extend(std::mem::take(&mut reports.changed));
            // The others will be called wrong again.
            misnamed.extend(std::mem::take(&mut reports.misnamed).into_iter().take(NAMES_AT_ONCE));
        }
        if !std::mem::take(&mut reports.owes_sign) && reports.queue.is_empty() && misnamed.is_empty() {
            return None;
        }
        let names = misnamed.into_iter().filter_map(|id| self.naming_here(id)).collect();
        let (mut rooms, mut bytes) = (Vec::new(), 0);
        while bytes < REPORT_BYTES
            && let Some(room) = self.reports.as_mut()?.queue.pop_front()
        {
            let report = self.report_of(room, now);
            bytes += report.cost();
            rooms.push(report);
        }
        let reports = self.reports.as_mut()?;
        reports.number += 1;
        let Reports { instance, number, is_leaving, .. } = **reports;
        Some(Report { instance, number, is_leaving, names, rooms }.encode())
    }

    /// Who of a room is here.
    fn report_of(&self, name: RoomName, now: Instant) -> RoomReport {
        let nobody = RoomReport { room: name, people: Vec::new(), crowd: 0, strangers: 0, writing: Vec::new() };
        let Some(room) = self.by_name.get(&nobody.room).map(|key| &self.rooms[*key]).filter(|room| room.members > 0)
        else {
            return nobody;
        };
        let most = self.bounds.presence_names;
        let (ids, count) = room.presence.people_here(most + 1);
        let strangers = room.presence.strangers_here();
        let writing = room.typing.writing_here(now);
        if count > most {
            return RoomReport { crowd: count, strangers, writing, ..nobody };
        }
        let people = ids.into_iter().filter_map(|id| self.naming_here(id)).collect();
        RoomReport { people, strangers, writing, ..nobody }
    }

    /// Takes what another instance tells. What is not understood is ignored.
    pub fn hear_report<S: Stage>(&mut self, report: &[u8], stage: &mut S, now: Instant) {
        let Some(reports) = &mut self.reports else { return };
        let Some(report) = Report::read(report, reports.bounds) else { return };
        if report.instance == reports.instance {
            return;
        }
        let Heard { is_new, is_taken, changes } = reports.elsewhere.hear(&report, now);
        if !is_taken {
            return;
        }
        if is_new {
            // It knows nothing of us. Many that appear at once are told together.
            reports.refresh_at = reports.refresh_at.min(reports.changes_at);
        }
        for named in &report.names {
            self.adopt_name(named, stage);
        }
        for (change, room) in changes.iter().zip(&report.rooms) {
            for named in &room.people {
                self.adopt_name(named, stage);
            }
            self.take_change(change);
            self.take_names(room, now);
        }
        self.wind(now);
    }

    /// Lets a room know who has come to other instances, or has gone from them.
    fn take_change(&mut self, change: &Change) {
        let Some(key) = self.by_name.get(&change.room).copied().filter(|key| self.rooms[*key].members > 0) else {
            return;
        };
        for id in &change.came {
            if let Some(named) = self.naming(*id) {
                self.rooms[key].presence.arrive_elsewhere(&named.author);
            }
        }
        for id in &change.back {
            self.rooms[key].presence.no_longer_kept(*id);
        }
        for id in &change.went {
            self.rooms[key].presence.depart_elsewhere(*id, change.since);
            self.rooms[key].typing.stop(*id);
        }
        self.count_elsewhere(key);
        self.stir_if_restless(key);
    }

    /// Somebody has come here who may have been kept for an instance that has said goodbye.
    pub(super) fn came_back(&mut self, key: usize, person: PersonId) {
        let Some(reports) = &mut self.reports else { return };
        for _ in 0..reports.elsewhere.come_back(person, &self.rooms[key].name) {
            self.rooms[key].presence.no_longer_kept(person);
        }
    }

    /// Lets a room know how people are called and who is writing, at another instance.
    fn take_names(&mut self, report: &RoomReport, now: Instant) {
        let Some(key) = self.by_name.get(&report.room).copied().filter(|key| self.rooms[*key].members > 0) else {
            return;
        };
        for named in &report.people {
            if let Some(named) = self.naming(named.author.id) {
                self.rooms[key].presence.rename(&named.author);
            }
        }
        for author in &report.writing {
            let author = self.naming(author.id).map_or_else(|| author.clone(), |named| named.author);
            self.rooms[key].typing.hear(&author, now);
        }
        self.stir_if_restless(key);
    }

    /// A room has its first member here: those who are in it elsewhere are there already.
    pub(super) fn find_elsewhere(&mut self, key: usize) {
        let Some(reports) = &self.reports else { return };
        let people = reports.elsewhere.people_in(&self.rooms[key].name);
        for author in people {
            let author = self.naming(author.id).map_or(author, |named| named.author);
            self.rooms[key].presence.arrive_elsewhere(&author);
        }
        self.count_elsewhere(key);
        self.rooms[key].presence.begin();
    }

    fn count_elsewhere(&mut self, key: usize) {
        let Some(reports) = &self.reports else { return };
        let (crowd, strangers) = reports.elsewhere.counts_in(&self.rooms[key].name);
        self.rooms[key].presence.count_elsewhere(crowd, strangers);
    }

    /// Something in a room is to be reported.
    pub(super) fn note_for_report(&mut self, key: usize) {
        if let Some(reports) = self.reports.as_mut().filter(|reports| !reports.is_leaving) {
            let name = &self.rooms[key].name;
            if !reports.changed.contains(name) {
                reports.changed.insert(name.clone());
            }
        }
    }

    /// Somebody is called so at another instance. If they are here too, the newer name holds for both.
    fn adopt_name<S: Stage>(&mut self, named: &Named, stage: &mut S) {
        let Some(here) = self.naming_here(named.author.id) else { return };
        if is_newer(named, &here) {
            self.call_anew(named, stage);
        } else if is_newer(&here, named)
            && let Some(reports) = self.reports.as_mut().filter(|reports| !reports.is_leaving)
        {
            reports.misnamed.insert(named.author.id);
        }
    }

    /// Calls a person so who may be called otherwise here, or may not be here at all.
    pub(super) fn call_anew<S: Stage>(&mut self, named: &Named, stage: &mut S) {
        match self.naming_here(named.author.id) {
            Some(here) if here.author.name != named.author.name => self.call(named, stage),
            Some(here) if here.version != named.version => self.set_version(named.author.id, named.version),
            Some(_) | None => {}
        }
    }

    /// How a person is called: by the newest name that is known.
    pub(super) fn naming(&self, person: PersonId) -> Option<Named> {
        let elsewhere = self.reports.as_ref().and_then(|reports| reports.elsewhere.naming(person));
        match (self.naming_here(person), elsewhere) {
            (Some(here), Some(elsewhere)) if is_newer(&elsewhere, &here) => Some(elsewhere),
            (Some(here), _) => Some(here),
            (None, elsewhere) => elsewhere,
        }
    }

    /// How a person is called who has a connection here.
    fn naming_here(&self, person: PersonId) -> Option<Named> {
        let connection = self.people.get(&person)?.first()?;
        let speaker = self.member(*connection)?.speaker.as_ref()?;
        Some(Named { author: speaker.author.clone(), version: speaker.name_version })
    }

    /// A name that a person gives to themselves now.
    pub(super) fn named_anew(&self, author: Author) -> Named {
        let version = match self.naming(author.id) {
            Some(known) if known.author.name == author.name => known.version,
            Some(known) => known.version.saturating_add(1),
            None => 0,
        };
        Named { author, version }
    }

    fn set_version(&mut self, person: PersonId, version: u32) {
        for connection in self.people.get(&person).cloned().unwrap_or_default() {
            if let Some(speaker) = self.speaker_mut(connection) {
                speaker.name_version = version;
            }
        }
    }
}

fn is_newer(one: &Named, other: &Named) -> bool {
    (one.version, &one.author.name) > (other.version, &other.author.name)
}
