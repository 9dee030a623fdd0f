//! What a member of chat.v1 knows of one room: what was said, and who is there.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde_json::{Value, json};

use super::oracle::{Asked, Truth, View, room_name};
use super::scene::Scene;

/// A member's place in a room.
#[derive(Debug)]
pub(super) struct Seat {
    room: usize,
    /// What it has asked for and waits for, in this order: all is answered at once, but for a join that is let in later.
    asks: VecDeque<Ask>,
    /// Where it resumes: the position it has heard, and the epoch of that.
    resume: Option<(u64, String)>,
    /// The instance that told it so.
    known_at: usize,
    view: Option<View>,
    /// Who is there, by id: none if they are too many to be named.
    people: BTreeMap<String, String>,
    count: u64,
    pub(super) retry_at: Instant,
}

/// What a member asks about its place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ask {
    /// To be let in, behind a position of an epoch.
    Join { after: Option<(u64, String)>, asked: Asked, answer: Answer },
    /// To be let out.
    Leave,
}

/// Whether a join was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// That is not known.
    Unknown,
    /// It was not, since what was asked behind it has been answered.
    Accepted,
}

impl Ask {
    fn is_join(&self, expected: Answer) -> bool {
        matches!(self, Ask::Join { answer, .. } if *answer == expected)
    }
}

impl Seat {
    pub(super) fn new(room: usize, now: Instant) -> Seat {
        let (resume, view, people) = (None, None, BTreeMap::new());
        Seat { room, asks: VecDeque::new(), resume, known_at: 0, view, people, count: 0, retry_at: now }
    }

    /// It is in, and stays.
    pub(super) fn is_in(&self) -> bool {
        self.view.is_some() && self.asks.is_empty()
    }

    /// It is not in, and does not want to be.
    pub(super) fn is_out(&self) -> bool {
        self.view.is_none() && self.asks.is_empty()
    }

    /// It waits to be let in.
    pub(super) fn is_joining(&self) -> bool {
        self.view.is_none() && self.asks.len() == 1
    }

    /// Asks to be let in; the request.
    pub(super) fn join(&mut self, truth: &Truth, begins_anew: bool, now: Instant) -> Value {
        self.resume.take_if(|_| begins_anew);
        let (after, asked) = (self.resume.clone(), truth.asked(now));
        self.asks.push_back(Ask::Join { after, asked, answer: Answer::Unknown });
        let (after, epoch) = self.resume.clone().unzip();
        json!({"type": "join", "room": room_name(self.room), "after": after, "epoch": epoch})
    }

    /// Asks to be let out; the request.
    pub(super) fn leave(&mut self) -> Value {
        self.asks.push_back(Ask::Leave);
        json!({"type": "leave", "room": room_name(self.room)})
    }

    /// The connection is gone.
    pub(super) fn lose(&mut self) {
        self.asks.clear();
        self.get_up();
    }

    fn get_up(&mut self) {
        self.view = None;
        self.people.clear();
    }

    pub(super) fn refused(&mut self, error: &Value, retry_at: Instant) {
        self.retry_at = retry_at;
        let is_it = |ask: &Ask| match error["request"].as_str() {
            Some("join") => ask.is_join(Answer::Unknown),
            _ => *ask == Ask::Leave,
        };
        let Some(place) = self.asks.iter().position(is_it) else { panic!("{error} to nothing: {self:?}") };
        self.asks.remove(place);
        // What was asked before it was not refused.
        for ask in self.asks.range_mut(..place) {
            if let Ask::Join { answer, .. } = ask {
                *answer = Answer::Accepted;
            }
        }
        let is_there = self.view.is_some() || place > 0;
        match error["code"].as_str() {
            Some("already_joined") => assert!(is_there, "{error}: {self:?}"),
            Some("not_joined") => assert!(!is_there, "{error}: {self:?}"),
            _ => {}
        }
    }

    pub(super) fn joined(&mut self, joined: &Value, place: usize, scene: &mut Scene) {
        let Some(Ask::Join { after, asked, .. }) = self.asks.pop_front() else { panic!("nobody asked for {joined}") };
        assert!(self.view.is_none(), "it was in: {joined}");
        let view = scene.truths[place].joined(self.room, joined, after.as_ref(), asked, scene.now);
        let was_ahead = after.as_ref().is_some_and(|(after, _)| *after > asked.present);
        scene.tally.waited += u64::from(was_ahead && joined["gap"] == false);
        scene.tally.waited_in_vain += u64::from(was_ahead && joined["gap"] == true);
        let told = joined["entries"].as_array().map_or(0, Vec::len) as u64;
        scene.tally.heard += told;
        scene.tally.resumed += u64::from(after.is_some() && joined["gap"] == false && told > 0);
        scene.tally.gaps += u64::from(joined["gap"] == true);
        let has_moved = std::mem::replace(&mut self.known_at, place) != place;
        scene.tally.moved += u64::from(has_moved && after.is_some() && joined["gap"] == false && told > 0);
        self.know(view);
        self.replace_people(&joined["members"]["names"]);
        self.count = joined["members"]["count"].as_u64().expect("a count");
    }

    /// Something was said.
    pub(super) fn hear(&mut self, truth: &Truth, said: &Value) {
        let Some(view) = &mut self.view else { panic!("it is not in the room of {said}") };
        view.hear(truth, said);
        self.resume = Some((view.upto, view.epoch.clone()));
    }

    fn know(&mut self, view: View) {
        self.resume = Some((view.upto, view.epoch.clone()));
        self.view = Some(view);
    }

    /// Takes what is told of the room beyond what was said.
    pub(super) fn told(&mut self, message: &Value, place: usize, scene: &mut Scene) {
        if message["type"] == "left" {
            let Some(place) = self.asks.iter().position(|ask| *ask == Ask::Leave) else {
                panic!("nobody asked for {message}");
            };
            assert!(place == 0 || self.view.is_none(), "{message}");
            // Whoever left before it was let in is not let in any more.
            self.asks.drain(..=place);
            return self.get_up();
        }
        let Some(view) = &mut self.view else { panic!("it is not in the room of {message}") };
        match message["type"].as_str() {
            Some("gap") => {
                scene.tally.gaps += 1;
                let (position, epoch) = (message["position"].as_u64(), message["epoch"].as_str());
                view.skip(&scene.truths[place], position.expect("a position"), epoch.expect("an epoch"));
                self.resume = Some((view.upto, view.epoch.clone()));
            }
            Some("presence") => {
                self.count = message["count"].as_u64().expect("a count");
                for person in message["joined"].as_array().into_iter().flatten() {
                    self.add(person);
                }
                for person in message["renamed"].as_array().into_iter().flatten() {
                    self.add(person);
                }
                for id in message["left"].as_array().into_iter().flatten() {
                    self.people.remove(id.as_str().expect("an id"));
                }
                if message.get("names").is_some() {
                    self.replace_people(&message["names"]);
                }
            }
            _ => assert!(message["names"].as_array().expect("a list").len() <= 5, "{message}"),
        }
    }

    fn add(&mut self, person: &Value) {
        let [id, name] = ["id", "name"].map(|field| person[field].as_str().expect("a string").to_owned());
        self.people.insert(id, name);
    }

    fn replace_people(&mut self, names: &Value) {
        self.people.clear();
        names.as_array().expect("a list").iter().for_each(|person| self.add(person));
    }

    /// It has heard all of the room, and knows who is there. `most` is how many they are if those who are at several
    /// instances count at each.
    pub(super) fn check(
        &self,
        people: &BTreeMap<String, String>,
        (count, most): (usize, usize),
        place: usize,
        scene: &mut Scene,
    ) {
        let (upto, last) = (self.view.as_ref().map_or(0, |view| view.upto), scene.truths[place].last_of(self.room));
        assert!(upto >= last, "{upto} of {last} is heard");
        // Nobody knows of whom the crowd at another instance consists.
        let most = if people.len() <= scene.limits.presence_names { count } else { most };
        let is_right = (count as u64..=most as u64).contains(&self.count);
        assert!(is_right, "{count} to {most} are in {}, not {}", room_name(self.room), self.count);
        if people.len() <= scene.limits.presence_names {
            assert_eq!(self.people, *people, "these are in {}", room_name(self.room));
        } else {
            assert!(self.people.is_empty(), "a crowd is not named: {:?}", self.people);
        }
        scene.tally.pictures += 1;
    }
}
