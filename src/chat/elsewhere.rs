//! Who is with other instances, as far as they have reported it: bounded, and forgotten when they fall silent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::entry::{Author, PersonId, RoomName};
use super::report::{InstanceId, Named, Report, RoomReport};

/// An instance, or a room of one, of which nothing was heard for this long is gone. With the pace at which changes are
/// told to members this stays below 15 seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(12);
/// People of an instance that has said goodbye are kept for this long: they are about to come back elsewhere.
pub(super) const GOODBYE: Duration = Duration::from_secs(20);

/// All other instances.
#[derive(Debug)]
pub(super) struct Elsewhere {
    instances: HashMap<InstanceId, Instance>,
    /// Everybody who is in any of their rooms, at each of the instances.
    people: People,
    /// Rooms and people in them, of all instances together.
    remembered: usize,
    max_instances: usize,
    max_remembered: usize,
}

type People = HashMap<PersonId, SmallVec<[Known; 1]>>;

#[derive(Debug)]
struct Instance {
    number: u64,
    heard: Instant,
    is_leaving: bool,
    rooms: HashMap<RoomName, Record>,
}

/// A room of an instance.
#[derive(Debug)]
struct Record {
    people: HashSet<PersonId>,
    crowd: usize,
    strangers: usize,
    heard: Instant,
}

/// How an instance calls somebody who is in its rooms.
#[derive(Debug)]
struct Known {
    instance: InstanceId,
    name: Arc<str>,
    version: u32,
    /// In how many of its rooms.
    rooms: usize,
}

impl Record {
    fn is_empty(&self) -> bool {
        self.people.is_empty() && self.crowd == 0 && self.strangers == 0
    }

    /// What it takes of what can be remembered.
    fn cost(&self) -> usize {
        1 + self.people.len()
    }
}

/// What has become different in a room.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) room: RoomName,
    /// Who is there at an instance where they were not.
    pub(super) came: Vec<PersonId>,
    /// Who was kept for an instance that has said goodbye and is not any more, having come to this one; once for each.
    pub(super) back: Vec<PersonId>,
    /// Who is no longer there at an instance.
    pub(super) went: Vec<PersonId>,
    /// Since when they are not.
    pub(super) since: Instant,
}

/// What a report has brought.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Nothing was known of that instance.
    pub(super) is_new: bool,
    /// It is not one to be ignored.
    pub(super) is_taken: bool,
    /// For each room of the report, in its order.
    pub(super) changes: Vec<Change>,
}

impl Elsewhere {
    pub(super) fn new(max_instances: usize, max_remembered: usize) -> Self {
        let (instances, people) = (HashMap::new(), HashMap::new());
        Elsewhere { instances, people, remembered: 0, max_instances, max_remembered }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Other instances that are heard.
    pub(super) fn instances(&self) -> usize {
        self.instances.len()
    }

    /// Their rooms, and people in them.
    pub(super) fn remembered(&self) -> usize {
        self.remembered
    }

    /// The newest name of somebody who is with another instance.
    pub(super) fn naming(&self, person: PersonId) -> Option<Named> {
        let known = self.people.get(&person)?.iter().max_by_key(|known| (known.version, &known.name))?;
        Some(Named { author: Author { id: person, name: known.name.clone() }, version: known.version })
    }

    /// Everybody who is in a room of other instances, once for each of them.
    pub(super) fn people_in(&self, room: &RoomName) -> Vec<Author> {
        let records = self.instances.values().filter_map(|instance| instance.rooms.get(room));
        let ids = records.flat_map(|record| &record.people);
        ids.filter_map(|id| Some(self.naming(*id)?.author)).collect()
    }

    /// People in crowds of a room, and strangers in it, at all other instances.
    pub(super) fn counts_in(&self, room: &RoomName) -> (usize, usize) {
        let records = self.instances.values().filter_map(|instance| instance.rooms.get(room));
        records.fold((0, 0), |(crowd, strangers), record| {
            (crowd.saturating_add(record.crowd), strangers.saturating_add(record.strangers))
        })
    }

    /// Takes a report. Late ones, and those of more instances than are remembered, are ignored.
    pub(super) fn hear(&mut self, report: &Report, now: Instant) -> Heard {
        let Report { instance: id, number, is_leaving, .. } = *report;
        let is_new = !self.instances.contains_key(&id);
        if is_new && (is_leaving || self.instances.len() >= self.max_instances) {
            return Heard::default();
        }
        let fresh = Instance { number: 0, heard: now, is_leaving: false, rooms: HashMap::new() };
        let instance = self.instances.entry(id).or_insert(fresh);
        if !is_new && number <= instance.number || instance.is_leaving && !is_leaving {
            return Heard::default();
        }
        (instance.number, instance.heard) = (number, now);
        if is_leaving {
            // From here on it has nothing more to say, and what it has said stands for a while.
            instance.is_leaving = true;
            return Heard::default();
        }
        let mut changes: Vec<Change> = report.rooms.iter().map(|room| self.replace(id, room, now)).collect();
        if self.instances.values().any(|instance| instance.is_leaving) {
            for Change { room, came, back, .. } in &mut changes {
                for person in came {
                    back.extend(std::iter::repeat_n(*person, self.come_back(*person, room)));
                }
            }
        }
        Heard { is_new, is_taken: true, changes }
    }

    /// Puts what is reported of a room in the place of what was.
    fn replace(&mut self, id: InstanceId, report: &RoomReport, now: Instant) -> Change {
        let rooms = &mut self.instances.get_mut(&id).expect("it has just been heard").rooms;
        let was = match rooms.remove(&report.room) {
            Some(record) => {
                self.remembered -= record.cost();
                record.people
            }
            None => HashSet::new(),
        };
        let left = self.max_remembered.saturating_sub(self.remembered);
        let mut record =
            Record { people: HashSet::new(), crowd: report.crowd, strangers: report.strangers, heard: now };
        if left > report.people.len() {
            record.people.extend(report.people.iter().map(|named| named.author.id));
            learn(&mut self.people, id, &report.people, &was);
        } else {
            record.crowd = record.crowd.saturating_add(report.people.len());
        }
        let came = record.people.difference(&was).copied().collect();
        let went: Vec<PersonId> = was.difference(&record.people).copied().collect();
        forget(&mut self.people, id, &went);
        if left > 0 && !record.is_empty() {
            self.remembered += record.cost();
            rooms.insert(report.room.clone(), record);
        }
        Change { room: report.room.clone(), came, back: Vec::new(), went, since: now }
    }

    /// Somebody has come to a room, who may be kept in it for an instance that has said goodbye: they are no longer. Gives
    /// for how many they were.
    pub(super) fn come_back(&mut self, person: PersonId, room: &RoomName) -> usize {
        let (people, remembered) = (&mut self.people, &mut self.remembered);
        let leaving = self.instances.iter_mut().filter(|(_, instance)| instance.is_leaving);
        let came_back = leaving.filter_map(|(id, instance)| {
            instance.rooms.get_mut(room)?.people.remove(&person).then(|| {
                *remembered -= 1;
                forget(people, *id, &[person]);
            })
        });
        came_back.count()
    }

    /// Nobody can be heard now: that they are silent means nothing.
    pub(super) fn excuse(&mut self, now: Instant) {
        for instance in self.instances.values_mut() {
            instance.heard = now;
            instance.rooms.values_mut().for_each(|record| record.heard = now);
        }
    }

    /// Forgets those of whom nothing was heard for too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let (people, remembered) = (&mut self.people, &mut self.remembered);
        self.instances.retain(|id, instance| {
            let is_leaving = instance.is_leaving;
            let patience = if is_leaving { GOODBYE } else { SILENCE };
            let is_there = now < instance.heard + patience;
            instance.rooms.retain(|room, record| {
                // What a leaving instance has said last holds as long as itself.
                let is_kept = is_there && (is_leaving || now < record.heard + SILENCE);
                if !is_kept {
                    *remembered -= record.cost();
                    let went: Vec<PersonId> = record.people.drain().collect();
                    forget(people, *id, &went);
                    changes.push(Change {
                        room: room.clone(),
                        came: Vec::new(),
                        back: Vec::new(),
                        went,
                        since: record.heard,
                    });
                }
                is_kept
            });
            is_there
        });
        // What is told of them is told in this order, which is no chance.
        changes.sort_unstable_by(|one, other| one.room.cmp(&other.room).then(one.since.cmp(&other.since)));
        changes
    }
}

/// Learns how an instance calls the people in a room, of whom those who `were` in it are known already.
fn learn(people: &mut People, instance: InstanceId, named: &[Named], were: &HashSet<PersonId>) {
    for Named { author, version } in named {
        let at = people.entry(author.id).or_default();
        let place = at.iter().position(|known| known.instance == instance).unwrap_or_else(|| {
            at.push(Known { instance, name: author.name.clone(), version: *version, rooms: 0 });
            at.len() - 1
        });
        let known = &mut at[place];
        // What it says now counts, and not what it has said before.
        (known.name, known.version) = (author.name.clone(), *version);
        known.rooms += usize::from(!were.contains(&author.id));
    }
}

/// These are no longer in a room of an instance.
fn forget(people: &mut People, instance: InstanceId, went: &[PersonId]) {
    for id in went {
        let Some(at) = people.get_mut(id) else { continue };
        at.retain(|known| {
            known.rooms -= usize::from(known.instance == instance);
            known.rooms > 0
        });
        if at.is_empty() {
            people.remove(id);
        }
    }
}
