//! Who is in a room: people, not connections, told in updates that add up.
//!
//! Whoever leaves is kept for a grace, so that a reload does not flicker. Changes are gathered, and given out as one
//! update when it is time; who comes and goes in between is not mentioned.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{Author, PersonId};

/// How long somebody without a connection still counts as present.
pub const GRACE: Duration = Duration::from_secs(3);
/// Updates of one room are at least so far apart.
pub const PACE: Duration = Duration::from_secs(1);

/// So many are named as writing; beyond them it is a crowd.
pub const WRITING_NAMES: usize = 5;

/// The people of one room.
#[derive(Debug, Default)]
pub struct Presence {
    people: HashMap<PersonId, Here>,
    /// The sum of theirs.
    connections: usize,
    /// Whoever has changed since the last update, and how they stood in it.
    changed: HashMap<PersonId, Before>,
    /// Connections of people who have no name: those of the raw dialect.
    strangers: usize,
    /// People of other instances that are too many to be named there.
    crowd_elsewhere: usize,
    /// Connections of other instances that have no name.
    strangers_elsewhere: usize,
    /// Those who have no name are another number than before.
    strangers_changed: bool,
    /// People in their grace.
    leaving: usize,
    last_update: Option<Instant>,
    /// Whether they were too many to be named in the last update; `None` if nobody was told yet.
    is_crowd: Option<bool>,
    /// Since then somebody was told by [`tell_names`](Presence::tell_names) that it is the other way round.
    was_told_otherwise: bool,
}

/// Whether somebody was there in the last update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Present,
}

#[derive(Debug)]
struct Here {
    name: Arc<str>,
    connections: usize,
    /// Other instances at which they are.
    elsewhere: usize,
    /// Set when the last connection went.
    gone_since: Option<Instant>,
}

/// What has changed in a room since the last update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Who has come.
    pub joined: Vec<Author>,
    /// Who has gone.
    pub left: Vec<PersonId>,
    /// Who is called otherwise now.
    pub renamed: Vec<Author>,
    /// How many are there.
    pub count: usize,
    /// They have become too many to be named, or are not any more: what was told of them is void.
    pub is_named_anew: bool,
}

impl Presence {
    /// How many are there.
    #[must_use]
    pub fn count(&self) -> usize {
        let elsewhere = self.crowd_elsewhere.saturating_add(self.strangers_elsewhere);
        (self.people.len() + self.strangers).saturating_add(elsewhere)
    }

    /// Connections of people who have a name.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Everybody who has a name, for somebody who is told of them apart from updates.
    #[must_use]
    pub fn tell_names(&mut self, max_names: usize) -> Vec<Author> {
        let is_crowd = self.is_crowd_of(max_names);
        self.was_told_otherwise |= *self.is_crowd.get_or_insert(is_crowd) != is_crowd;
        self.names(max_names)
    }

    /// Everybody who has a name, in the order of their names; nobody, if they are more than `max_names`.
    #[must_use]
    pub fn names(&self, max_names: usize) -> Vec<Author> {
        if self.is_crowd_of(max_names) {
            return Vec::new();
        }
        let mut names: Vec<Author> =
            self.people.iter().map(|(id, here)| Author { id: *id, name: here.name.clone() }).collect();
        names.sort_unstable_by(|one, other| one.name.cmp(&other.name).then(one.id.cmp(&other.id)));
        names
    }

    /// People who have a connection here, at this instance: as many as `most` of them, in order, and how many there are.
    #[must_use]
    pub fn people_here(&self, most: usize) -> (Vec<PersonId>, usize) {
        let here = || self.people.iter().filter(|(_, here)| here.connections > 0).map(|(id, _)| *id);
        let mut some: Vec<PersonId> = here().take(most).collect();
        some.sort_unstable();
        (some, here().count())
    }

    /// Connections without a name at this instance.
    #[must_use]
    pub fn strangers_here(&self) -> usize {
        self.strangers
    }

    /// A connection of this person has come.
    pub fn arrive(&mut self, person: &Author) {
        self.connections += 1;
        self.come(person).connections += 1;
        self.rename(person);
    }

    /// This person has come to another instance.
    pub fn arrive_elsewhere(&mut self, person: &Author) {
        self.come(person).elsewhere += 1;
        self.rename(person);
    }

    fn come(&mut self, person: &Author) -> &mut Here {
        let (changed, leaving) = (&mut self.changed, &mut self.leaving);
        let here = self.people.entry(person.id).or_insert_with(|| {
            changed.entry(person.id).or_insert(Before::Absent);
            Here { name: person.name.clone(), connections: 0, elsewhere: 0, gone_since: None }
        });
        if here.gone_since.take().is_some() {
            *leaving -= 1;
        }
        here
    }

    /// A connection of this person has gone.
    pub fn depart(&mut self, id: PersonId, now: Instant) {
        let Some(here) = self.people.get_mut(&id) else { return };
        self.connections -= 1;
        here.connections -= 1;
        self.go(id, now);
    }

    /// This person has been no longer at another instance since then.
    pub fn depart_elsewhere(&mut self, id: PersonId, since: Instant) {
        let Some(here) = self.people.get_mut(&id) else { return };
        here.elsewhere = here.elsewhere.saturating_sub(1);
        self.go(id, since);
    }

    /// At how many other instances somebody is.
    #[cfg(test)]
    pub(super) fn elsewhere(&self, id: PersonId) -> usize {
        self.people.get(&id).map_or(0, |here| here.elsewhere)
    }

    /// This person was kept for another instance that ends, and has come back by another way.
    pub fn no_longer_kept(&mut self, id: PersonId) {
        if let Some(here) = self.people.get_mut(&id) {
            debug_assert!(here.connections + here.elsewhere > 1, "they are there otherwise");
            here.elsewhere = here.elsewhere.saturating_sub(1);
        }
    }

    fn go(&mut self, id: PersonId, since: Instant) {
        if let Some(here) = self.people.get_mut(&id)
            && here.connections + here.elsewhere == 0
            && here.gone_since.is_none()
        {
            here.gone_since = Some(since);
            self.leaving += 1;
        }
    }

    /// So many people, and connections without a name, are at other instances and are not named.
    pub fn count_elsewhere(&mut self, crowd: usize, strangers: usize) {
        let before = (self.crowd_elsewhere, self.strangers_elsewhere);
        self.strangers_changed |= before != (crowd, strangers);
        (self.crowd_elsewhere, self.strangers_elsewhere) = (crowd, strangers);
    }

    /// Nobody has to be told of what has changed so far: nobody was there to be told anything else.
    pub fn begin(&mut self) {
        self.changed.clear();
        self.strangers_changed = false;
        (self.is_crowd, self.was_told_otherwise) = (None, false);
    }

    fn is_crowd_of(&self, max_names: usize) -> bool {
        self.crowd_elsewhere > 0 || self.people.len() > max_names
    }

    /// The person is called so from now on.
    pub fn rename(&mut self, person: &Author) {
        let Some(here) = self.people.get_mut(&person.id) else { return };
        if here.name != person.name {
            here.name = person.name.clone();
            self.changed.entry(person.id).or_insert(Before::Present);
        }
    }

    /// A connection without a name has come or gone.
    pub fn strangers(&mut self, now_there: usize) {
        self.strangers_changed |= self.strangers != now_there;
        self.strangers = now_there;
    }

    /// Whether an update will be due at some time.
    #[must_use]
    pub fn is_restless(&self) -> bool {
        !self.changed.is_empty() || self.strangers_changed || self.was_told_otherwise || self.leaving > 0
    }

    /// What has changed, if it is time for an update and there is something to tell. Above `max_names` people nobody is
    /// named any more.
    pub fn update(&mut self, max_names: usize, now: Instant) -> Option<Update> {
        if self.last_update.is_some_and(|last| now < last + PACE) {
            return None;
        }
        if self.leaving > 0 {
            self.people.retain(|id, here| {
                let is_gone = here.gone_since.is_some_and(|since| now >= since + GRACE);
                if is_gone {
                    self.leaving -= 1;
                    self.changed.entry(*id).or_insert(Before::Present);
                }
                !is_gone
            });
        }
        let mut update = Update { count: self.count(), ..Update::default() };
        for (id, before) in self.changed.drain() {
            match (before, self.people.get(&id)) {
                (Before::Absent, Some(here)) => update.joined.push(Author { id, name: here.name.clone() }),
                (Before::Present, None) => update.left.push(id),
                // Also if the name is the former one again: somebody may have joined and seen the one in between.
                (Before::Present, Some(here)) => update.renamed.push(Author { id, name: here.name.clone() }),
                (Before::Absent, None) => {}
            }
        }
        let strangers_changed = std::mem::take(&mut self.strangers_changed);
        let is_news = !(update.joined.is_empty() && update.left.is_empty() && update.renamed.is_empty());
        let was_told_otherwise = std::mem::take(&mut self.was_told_otherwise);
        if !is_news && !strangers_changed && !was_told_otherwise {
            return None;
        }
        self.last_update = Some(now);
        let is_crowd = self.is_crowd_of(max_names);
        let was_crowd = self.is_crowd.replace(is_crowd).unwrap_or(false);
        // If they were a crowd in between, or not, whoever came then knows other names than the others.
        let is_named_anew = was_crowd != is_crowd || was_told_otherwise;
        if is_crowd || is_named_anew {
            update = Update { count: update.count, is_named_anew, ..Update::default() };
        }
        update.joined.sort_unstable_by_key(|person| person.id);
        update.left.sort_unstable();
        update.renamed.sort_unstable_by_key(|person| person.id);
        Some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(id: u64, name: &str) -> Author {
        Author { id: PersonId(id), name: name.into() }
    }

    #[test]
    fn updates_add_up_to_who_is_there() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut room = Presence::default();
        room.arrive(&person(1, "Ann"));
        room.arrive(&person(2, "Bob"));
        room.arrive(&person(1, "Ann"));
        let update = room.update(200, at(0)).unwrap();
        assert_eq!(update.joined, [person(1, "Ann"), person(2, "Bob")]);
        assert_eq!(update.count, 2, "people are counted, not connections");

        room.rename(&person(2, "Bo"));
        assert_eq!(room.update(200, start + Duration::from_millis(500)), None, "one update per second");
        assert_eq!(room.update(200, at(1)).unwrap().renamed, [person(2, "Bo")]);

        room.depart(PersonId(2), at(2));
        room.depart(PersonId(1), at(2));
        assert_eq!(room.update(200, at(3)), None, "a grace for whoever reloads");
        room.arrive(&person(2, "Bo"));
        assert_eq!(room.update(200, at(9)), None, "Ann has another connection, Bo came back");
        room.depart(PersonId(2), at(10));
        let update = room.update(200, at(13)).unwrap();
        assert_eq!((update.left, update.count), (vec![PersonId(2)], 1));
        assert!(!room.is_restless());
    }

    #[test]
    fn who_comes_and_goes_between_updates_is_not_mentioned() {
        let start = Instant::now();
        let mut room = Presence::default();
        room.arrive(&person(1, "Ann"));
        room.depart(PersonId(1), start);
        assert!(room.is_restless());
        assert_eq!(room.update(200, start + GRACE), None);
        assert_eq!(room.count(), 0);
    }

    #[test]
    fn a_crowd_is_counted_and_not_named() {
        let start = Instant::now();
        let mut room = Presence::default();
        for id in 1..=5 {
            room.arrive(&person(id, "x"));
        }
        room.strangers(3);
        assert_eq!(room.update(4, start), Some(Update { count: 8, is_named_anew: true, ..Update::default() }));
        room.strangers(2);
        assert_eq!(room.update(4, start + PACE), Some(Update { count: 7, ..Update::default() }));
        assert_eq!(room.names(4), []);

        room.depart(PersonId(1), start + PACE);
        let expected = Update { count: 6, is_named_anew: true, ..Update::default() };
        assert_eq!(room.update(4, start + PACE + GRACE), Some(expected), "who joined meanwhile was not told any names");
        assert_eq!(room.names(4).len(), 4);
        room.depart(PersonId(2), start + PACE + GRACE);
        let update = room.update(4, start + PACE + GRACE + GRACE).unwrap();
        assert_eq!((update.left, update.is_named_anew), (vec![PersonId(2)], false));
    }

    #[test]
    fn whoever_came_while_they_were_a_crowd_or_were_none_is_told_anew() {
        let start = Instant::now();
        // how many of a crowd are elsewhere at first, when somebody comes, and then; how many names it is told, and whether
        // all are told names anew
        let table = [
            ("never a crowd", [0, 0, 0], 2, false),
            ("a crowd in between", [0, 9, 0], 0, true),
            ("a crowd from then on", [0, 9, 9], 0, true),
            ("a crowd afterwards", [0, 0, 9], 2, true),
            ("always a crowd", [9, 9, 8], 0, false),
            ("no crowd in between", [9, 0, 9], 2, true),
            ("no crowd from then on", [9, 0, 0], 2, true),
            ("no crowd afterwards", [9, 9, 0], 0, true),
        ];
        for (name, [first, between, then], names, is_named_anew) in table {
            for is_first_told in [true, false] {
                let mut room = Presence::default();
                room.arrive(&person(1, "Ann"));
                room.count_elsewhere(first, 0);
                if is_first_told {
                    let _ = room.tell_names(200);
                    assert!(room.update(200, start).is_some());
                } else {
                    room.begin();
                    let _ = room.tell_names(200);
                }
                room.count_elsewhere(between, 0);
                room.arrive(&person(2, "Bob"));
                assert_eq!(room.tell_names(200).len(), names, "{name}");
                room.count_elsewhere(then, 0);
                let update = room.update(200, start + PACE).unwrap();
                assert_eq!((update.is_named_anew, update.count), (is_named_anew, 2 + then), "{name}");
                assert!(!room.is_restless(), "{name}");
                assert_eq!(room.update(200, start + 2 * PACE), None, "{name}");
            }
        }
    }

    #[test]
    fn a_name_that_was_changed_and_changed_back_is_told() {
        let start = Instant::now();
        let mut room = Presence::default();
        room.arrive(&person(1, "Ann"));
        assert!(room.update(200, start).is_some());
        room.rename(&person(1, "Bob"));
        assert_eq!(room.names(200), [person(1, "Bob")], "which is what somebody who joins now is told");
        room.rename(&person(1, "Ann"));
        assert_eq!(room.update(200, start + PACE).unwrap().renamed, [person(1, "Ann")]);
    }
}
