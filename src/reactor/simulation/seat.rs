//! What a member of chat.v1 knows of one room: what was said, and who is there.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::oracle::{Asked, Truth, View, room_name};
use super::scene::Scene;

/// A member's place in a room.
#[derive(Debug)]
pub(super) struct Seat {
    room: usize,
    pub(super) standing: Standing,
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

/// Whether it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not.
    Out,
    /// It has asked, and resumes behind a position of an epoch.
    Joining { after: Option<(u64, String)>, asked: Asked },
    /// It is.
    In,
    /// It wants out.
    Leaving,
}

impl Seat {
    pub(super) fn new(room: usize, now: Instant) -> Seat {
        let (resume, view, people) = (None, None, BTreeMap::new());
        Seat { room, standing: Standing::Out, resume, known_at: 0, view, people, count: 0, retry_at: now }
    }

    pub(super) fn is_in(&self) -> bool {
        self.standing == Standing::In
    }

    /// Asks to be let in; the request.
    pub(super) fn join(&mut self, truth: &Truth, begins_anew: bool, now: Instant) -> Value {
        self.resume.take_if(|_| begins_anew);
        self.standing = Standing::Joining { after: self.resume.clone(), asked: truth.asked(now) };
        let (after, epoch) = self.resume.clone().unzip();
        json!({"type": "join", "room": room_name(self.room), "after": after, "epoch": epoch})
    }

    /// It has asked to be let out.
    pub(super) fn leave(&mut self) {
        self.standing = Standing::Leaving;
    }

    /// The connection is gone.
    pub(super) fn lose(&mut self) {
        self.standing = Standing::Out;
        self.view = None;
        self.people.clear();
    }

    pub(super) fn refused(&mut self, error: &Value, retry_at: Instant) {
        self.retry_at = retry_at;
        self.standing = match self.standing {
            Standing::Joining { .. } => Standing::Out,
            Standing::Leaving => Standing::In,
            Standing::In | Standing::Out => panic!("{error} to nothing"),
        };
    }

    pub(super) fn joined(&mut self, joined: &Value, place: usize, scene: &mut Scene) {
        let Standing::Joining { after, asked } = std::mem::replace(&mut self.standing, Standing::In) else {
            panic!("nobody asked for {joined}");
        };
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
        let Some(view) = &mut self.view else { panic!("it is not in the room of {message}") };
        match message["type"].as_str() {
            Some("left") => {
                assert_eq!(self.standing, Standing::Leaving, "{message}");
                self.lose();
            }
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
