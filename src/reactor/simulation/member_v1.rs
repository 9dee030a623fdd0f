//! Members of chat.v1 as good clients are (`docs/PROTOCOL.md`): they come back with their token and their session, resume
//! their rooms, say again what was not confirmed, and keep a picture of who is there. `view` has what they know of a room.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat::identity::Identities;
use crate::net::connection::ConnectionId;

use super::ghost::Ghost;
use super::line::{Heard, Line, Socket, Temper, masked};
use super::oracle::{ROOMS, room_name};
use super::scene::Scene;
use super::seat::Seat;

/// So much may be unconfirmed before it says nothing new, so that all of it can be said again within its rate.
const UNCONFIRMED: usize = 12;

/// A page of the chat in somebody's browser.
#[derive(Debug)]
pub(super) struct Page {
    number: usize,
    pub(super) name: String,
    /// Who it is, and the token that proves it.
    pub(super) person: Option<(String, String)>,
    session: Option<String>,
    /// In which epoch it was told who it is; a memory journal's server forgets its key.
    known_in: String,
    connection: Option<Connection>,
    retry_at: Instant,
    /// The connections on which it was welcome in its session, and that it has left: the server may still have one.
    left: Vec<((usize, u32), ConnectionId)>,
    pub(super) seats: [Seat; ROOMS],
    /// What it has said and did not hear, in the order in which it was said.
    unconfirmed: Vec<Saying>,
    said: usize,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    is_welcome: bool,
    /// It has sent a close frame.
    has_closed: bool,
    /// What was said here for the first time: a number in that order, and its position.
    order: Vec<(usize, u64)>,
    history: Option<HistoryAsked>,
    search: Option<usize>,
    /// What signed tokens at this instance when it came.
    key: [u8; 32],
}

#[derive(Debug)]
struct HistoryAsked {
    room: usize,
    before: Option<u64>,
    limit: u64,
    present: u64,
}

/// Something it says until it hears it.
#[derive(Debug)]
struct Saying {
    room: usize,
    nonce: String,
    text: String,
    number: usize,
    /// How often it was sent, over all connections.
    attempts: u32,
    /// It was sent on this connection, and not answered.
    is_under_way: bool,
    retry_at: Instant,
}

impl Page {
    /// A page of somebody new, or another tab of somebody.
    pub(super) fn new(number: usize, tab_of: Option<&Page>, now: Instant) -> Page {
        let name = tab_of.map_or_else(|| format!("N{number}"), |other| other.name.clone());
        let known_in = tab_of.map(|other| other.known_in.clone()).unwrap_or_default();
        let person = tab_of.and_then(|other| other.person.clone());
        let seats = std::array::from_fn(|room| Seat::new(room, now));
        let (connection, session, unconfirmed, left) = (None, None, Vec::new(), Vec::new());
        Page { number, name, person, session, known_in, connection, retry_at: now, left, seats, unconfirmed, said: 0 }
    }

    pub(super) fn act(&mut self, scene: &mut Scene) {
        if self.connection.is_none() && scene.now >= self.retry_at {
            self.connect(scene);
        }
        let Some(connection) = &mut self.connection else { return };
        let is_free = connection.is_welcome && !connection.has_closed && !connection.socket.line.has_ended();
        if is_free && connection.socket.closed_with.is_none() {
            self.say_again(scene);
            if scene.is_quiet {
                self.take_seats(scene);
            } else {
                self.do_something(scene);
            }
        }
        if !scene.is_quiet {
            self.misbehave(scene);
        }
        let Some(connection) = &mut self.connection else { return };
        connection.socket.line.exchange(scene);
        while let Some(heard) = self.connection.as_mut().and_then(|connection| connection.socket.poll()) {
            match heard {
                Heard::Refused(status) => scene.refused(status),
                Heard::Upgraded => {}
                Heard::Message(opcode, message) => {
                    assert_eq!(opcode, 0x81, "chat.v1 is text");
                    let message = serde_json::from_slice(&message).expect("JSON");
                    self.hear(&message, scene);
                }
                Heard::Closed(code) => self.closed(code, scene),
            }
        }
        if self.connection.as_ref().is_some_and(|connection| connection.socket.line.is_over()) {
            self.disconnect(scene).into_iter().for_each(|socket| socket.line.hang_up(scene));
        }
    }

    fn connect(&mut self, scene: &mut Scene) {
        let temper = Temper::any(&mut scene.rng);
        let Some(line) = scene.open(temper) else { return };
        let socket = Socket::new(line, "/", Some("chat.v1"));
        let (order, history, search) = (Vec::new(), None, None);
        let (is_welcome, key) = (false, scene.truths[socket.line.at.0].keys[0]);
        self.connection = Some(Connection { socket, is_welcome, has_closed: false, order, history, search, key });
        let token = self.person.as_ref().map(|(_, token)| token.clone());
        let session = self.session.clone();
        self.ask(&json!({"type": "hello", "name": self.name, "token": token, "session": session}));
    }

    /// Which instance it is connected to.
    fn place(&self) -> usize {
        self.connection.as_ref().expect("it is connected").socket.line.at.0
    }

    /// Forgets the connection, and returns its socket.
    fn disconnect(&mut self, scene: &mut Scene) -> Option<Socket> {
        let connection = self.connection.take()?;
        if connection.is_welcome {
            let Line { at, id, .. } = connection.socket.line;
            self.left.push((at, id));
        }
        self.seats.iter_mut().for_each(Seat::lose);
        self.unconfirmed.iter_mut().for_each(|saying| saying.is_under_way = false);
        self.retry_at = self.retry_at.max(scene.later(Duration::from_secs(4)));
        Some(connection.socket)
    }

    fn ask(&mut self, request: &Value) {
        if let Some(connection) = &mut self.connection {
            connection.socket.line.send(masked(0x81, request.to_string().as_bytes()));
        }
    }

    fn do_something(&mut self, scene: &mut Scene) {
        let room = scene.rng.usize(..ROOMS);
        let is_in = self.seats[room].is_in();
        let may_leave = self.may_leave(room);
        let Some(connection) = &mut self.connection else { return };
        let truth = &scene.truths[connection.socket.line.at.0];
        let (present, keeps) = (truth.last, truth.keeps);
        let is_behind = connection.socket.line.unsent.len() > 2_000;
        match scene.rng.u32(..1000) {
            0..90 if is_in && !is_behind && self.unconfirmed.len() < UNCONFIRMED => {
                for _ in 0..scene.rng.usize(1..4) {
                    self.say(room, scene);
                }
            }
            90..200 if self.seats[room].is_out() => self.join(room, scene),
            200..206 if is_in && may_leave => {
                let request = self.seats[room].leave();
                self.ask(&request);
            }
            206..216 if is_in => self.ask(&json!({"type": "typing", "room": room_name(room)})),
            216..218 => {
                let name = format!("N{} {}", self.number, scene.rng.u8(..9));
                self.ask(&json!({"type": "rename", "name": name}));
            }
            218..230 if is_in && connection.history.is_none() => {
                let limit = scene.rng.u64(1..20).min(scene.limits.page_entries as u64);
                let before = scene.rng.bool().then(|| scene.rng.u64(1..=present + 1));
                connection.history = Some(HistoryAsked { room, before, limit, present });
                let request = json!({"type": "history", "room": room_name(room), "before": before, "limit": limit});
                self.ask(&request);
            }
            230..236 if is_in && connection.search.is_none() && keeps => {
                connection.search = Some(room);
                let word = format!("n{}", scene.rng.usize(..8));
                self.ask(&json!({"type": "search", "room": room_name(room), "query": word}));
            }
            242..246 if is_in && may_leave => {
                let request = self.seats[room].leave();
                self.ask(&request);
                self.join(room, scene);
            }
            246..270 if self.seats[room].is_joining() => {
                scene.tally.withdrawn += 1;
                let request = self.seats[room].leave();
                self.ask(&request);
                if scene.rng.bool() {
                    self.join(room, scene);
                }
            }
            236..242 if self.said > 0 => {
                // It has forgotten that this was confirmed.
                let number = scene.rng.usize(..self.said);
                let (nonce, text) = (format!("n{}-{number}", self.number), format!("n{}.{number} again", self.number));
                if is_in && self.unconfirmed.iter().all(|saying| saying.nonce != nonce) {
                    self.ask(&json!({"type": "say", "room": room_name(room), "nonce": nonce, "text": text}));
                    let (attempts, is_under_way, retry_at) = (2, true, scene.now);
                    self.unconfirmed.push(Saying { room, nonce, text, number, attempts, is_under_way, retry_at });
                }
            }
            _ => {}
        }
    }

    /// Whether nothing is under way that it would not hear any more.
    fn may_leave(&self, room: usize) -> bool {
        let Some(connection) = &self.connection else { return false };
        let asks =
            connection.history.as_ref().is_some_and(|asked| asked.room == room) || connection.search == Some(room);
        !asks && self.unconfirmed.iter().all(|saying| saying.room != room)
    }

    fn misbehave(&mut self, scene: &mut Scene) {
        let Some(connection) = &mut self.connection else { return };
        let line = &mut connection.socket.line;
        match scene.rng.u32(..1000) {
            0..4 => line.cut(scene),
            4..6 if !line.has_ended() => line.half_close(scene),
            6..8 if connection.is_welcome && !connection.has_closed => {
                line.send(masked(0x88, &1000_u16.to_be_bytes()));
                connection.has_closed = true;
            }
            8..12 => {
                // It has lost its network, and the server does not know: its connection is a ghost.
                let was_welcome = connection.is_welcome && !connection.has_closed;
                let Some(socket) = self.disconnect(scene) else { return };
                let ghost = if was_welcome { Ghost::of_welcome(socket, scene) } else { Ghost::gone(socket) };
                scene.ghosts.push(ghost);
            }
            12..30 => line.temper = Temper::any(&mut scene.rng),
            _ => {}
        }
    }

    fn join(&mut self, room: usize, scene: &mut Scene) {
        let begins_anew = scene.chance(100) && !scene.is_quiet;
        let request = self.seats[room].join(&scene.truths[self.place()], begins_anew, scene.now);
        self.ask(&request);
    }

    /// Sits down everywhere.
    fn take_seats(&mut self, scene: &mut Scene) {
        for room in 0..ROOMS {
            if self.seats[room].is_out() && scene.now >= self.seats[room].retry_at {
                self.join(room, scene);
            }
        }
    }

    fn say(&mut self, room: usize, scene: &mut Scene) {
        let number = self.said;
        self.said += 1;
        let nonce = format!("n{}-{number}", self.number);
        let text = format!("n{}.{number} {}", self.number, "x".repeat(scene.rng.usize(..120)));
        let (attempts, is_under_way, retry_at) = (1, true, scene.now);
        self.ask(&json!({"type": "say", "room": room_name(room), "nonce": nonce, "text": text}));
        self.unconfirmed.push(Saying { room, nonce, text, number, attempts, is_under_way, retry_at });
        scene.tally.said += 1;
    }

    /// Says what nobody has confirmed, in the rooms where it is.
    fn say_again(&mut self, scene: &mut Scene) {
        let Some(connection) = &mut self.connection else { return };
        for saying in &mut self.unconfirmed {
            if !saying.is_under_way && scene.now >= saying.retry_at && self.seats[saying.room].is_in() {
                let Saying { nonce, text, .. } = &*saying;
                let request = json!({"type": "say", "room": room_name(saying.room), "nonce": nonce, "text": text});
                connection.socket.line.send(masked(0x81, request.to_string().as_bytes()));
                saying.attempts += 1;
                saying.is_under_way = true;
            }
        }
    }

    fn hear(&mut self, message: &Value, scene: &mut Scene) {
        let room = (0..ROOMS).find(|room| message["room"].as_str() == Some(&room_name(*room)));
        let place = self.place();
        let kind = message["type"].as_str().expect("a type");
        match (kind, room) {
            ("welcome", None) => self.welcomed(message, scene),
            ("renamed", None) => self.name = message["you"]["name"].as_str().expect("a name").to_owned(),
            ("status", None) => scene.tally.outages += u64::from(message["journal"] == "waiting"),
            ("draining", None) => {
                let wait = message["reconnect_ms"].as_u64().expect("a time").min(3_000);
                self.retry_at = scene.now + Duration::from_millis(wait);
            }
            ("said", Some(room)) if message["repeat"] == true => {
                // It may have been said in another room, and with another text.
                scene.tally.repeats += 1;
                scene.truths[place].check_original(room, message);
                let author = message["from"]["id"].as_str();
                assert_eq!(author, self.person.as_ref().map(|(id, _)| &**id), "{message} is another's");
                self.confirm(message, scene);
            }
            ("said", Some(room)) => {
                scene.tally.heard += 1;
                self.seats[room].hear(&scene.truths[place], message);
                self.confirm(message, scene);
            }
            ("joined", Some(room)) => {
                self.seats[room].joined(message, place, scene);
                for said in message["entries"].as_array().into_iter().flatten() {
                    self.confirm(said, scene);
                }
            }
            ("history", Some(room)) => {
                let asked = self.connection.as_mut().and_then(|it| it.history.take()).expect("it has asked");
                assert_eq!(asked.room, room, "{message}");
                scene.truths[place].page_before(room, message, asked.before, asked.limit, asked.present);
                scene.tally.histories += 1;
            }
            ("found", Some(room)) => {
                let asked = self.connection.as_mut().and_then(|it| it.search.take());
                assert_eq!(asked, Some(room), "{message}");
                for found in message["entries"].as_array().expect("a list") {
                    scene.truths[place].entry(room, found);
                    scene.tally.found += 1;
                }
            }
            ("error", _) => self.refused(message, room, scene),
            // It waits for what it knows already.
            ("behind", Some(_)) => {}
            ("left" | "gap" | "presence" | "typing", Some(room)) => {
                self.seats[room].told(message, place, scene);
                if kind == "gap" {
                    // What it has said may have been in there.
                    let lost = self.unconfirmed.iter_mut().filter(|saying| saying.room == room);
                    lost.for_each(|saying| saying.is_under_way = false);
                }
            }
            _ => panic!("{message}"),
        }
    }

    fn welcomed(&mut self, welcome: &Value, scene: &mut Scene) {
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let person = (text(&welcome["you"]["id"]), text(&welcome["token"]));
        let connection = self.connection.as_mut().expect("it hears");
        connection.is_welcome = true;
        let (at, truth) = (connection.socket.line.at, &scene.truths[connection.socket.line.at.0]);
        if truth.common.is_some() {
            let signed_here = Identities::new(connection.key, [0; 32]);
            if let Some((id, token)) = &self.person
                && signed_here.recognise(token).is_some()
            {
                assert_eq!(*id, person.0, "it is the same person");
            }
        } else if let Some(former) = &self.person
            && (truth.keeps || self.known_in == truth.epoch)
        {
            assert_eq!(*former, person, "it is the same person");
        }
        let session = text(&welcome["session"]);
        if self.session.as_ref() == Some(&session) {
            scene.tally.takeovers += 1;
            let goes_on = self.left.iter().find(|(at, id)| scene.is_open(*at, *id));
            assert_eq!(goes_on, None, "the connection whose place it has taken goes on: {self:?}");
        }
        // Those of another session may be there still, and nobody will take their place.
        self.left.clear();
        (self.person, self.session) = (Some(person), Some(session));
        self.known_in = scene.truths[at.0].epoch.clone();
    }

    /// Something was said, perhaps by this page.
    fn confirm(&mut self, said: &Value, scene: &Scene) {
        let Some(nonce) = said["nonce"].as_str() else { return };
        if said["from"]["id"].as_str() != self.person.as_ref().map(|(id, _)| &**id) {
            return;
        }
        let Some(place) = self.unconfirmed.iter().position(|saying| saying.nonce == nonce) else { return };
        let saying = self.unconfirmed.remove(place);
        let Some(connection) = self.connection.as_mut().filter(|_| saying.attempts == 1 && saying.is_under_way) else {
            return;
        };
        let position = said["position"].as_u64().expect("a position");
        assert_eq!(said["text"].as_str(), Some(&*saying.text), "{said}");
        let is_in_order = |&(number, other): &(usize, u64)| (number < saying.number) == (other < position);
        assert!(connection.order.iter().all(is_in_order), "{said} is out of the order in {:?}", connection.order);
        connection.order.push((saying.number, position));
        assert!(position <= scene.truths[connection.socket.line.at.0].last);
    }

    fn refused(&mut self, error: &Value, room: Option<usize>, scene: &mut Scene) {
        let code = error["code"].as_str().expect("a code");
        let retry_at = scene.now + Duration::from_millis(error["retry_ms"].as_u64().unwrap_or(0));
        let is_of_seat = matches!((&error["request"], code), (request, "already_joined") if request == "join")
            || matches!((&error["request"], code), (request, "not_joined") if request == "leave");
        assert!(is_of_seat || matches!(code, "too_fast" | "busy" | "unavailable"), "{error}");
        assert!(code != "unavailable" || scene.truths[self.place()].keeps, "{error}");
        scene.tally.refused += 1;
        let connection = self.connection.as_mut().expect("it hears");
        let truth = &scene.truths[connection.socket.line.at.0];
        match (error["request"].as_str().expect("a request"), room) {
            ("say", Some(_)) => {
                let nonce = error["nonce"].as_str().expect("a nonce");
                let saying = self.unconfirmed.iter_mut().find(|saying| saying.nonce == nonce);
                // It said again what it then heard.
                let Some(saying) = saying else { return };
                if saying.attempts == 1 {
                    let is_there = (0..ROOMS).any(|room| {
                        let mut entries = truth.between(room, 0, u64::MAX).iter();
                        entries.any(|entry| entry.content.bytes() == saying.text.as_bytes())
                    });
                    assert!(!is_there, "{error} was said");
                }
                (saying.is_under_way, saying.retry_at) = (false, retry_at);
            }
            ("join" | "leave", Some(room)) => self.seats[room].refused(error, retry_at),
            ("history", Some(_)) => drop(connection.history.take().expect("it has asked")),
            ("search", Some(_)) => drop(connection.search.take().expect("it has asked")),
            ("typing", Some(_)) | ("rename", None) => {}
            _ => panic!("{error}"),
        }
    }

    fn closed(&mut self, code: u16, scene: &mut Scene) {
        let has_closed = self.connection.as_ref().is_some_and(|connection| connection.has_closed);
        match code {
            1001 => scene.tally.drained += 1,
            1000 => assert!(has_closed, "nobody has closed"),
            1008 => {}
            other => panic!("closed with {other}: {self:?}"),
        }
    }

    /// It knows all that was said, was told what became of everything, and its picture of a room is that of `people`,
    /// all who have names, and `count`, all who are there.
    pub(super) fn check_level(
        &self,
        people: &[BTreeMap<String, String>],
        counts: &[(usize, usize)],
        scene: &mut Scene,
    ) {
        let Some(connection) = &self.connection else { panic!("it did not get in: {self:?}") };
        assert!(connection.history.is_none() && connection.search.is_none(), "it waits for an answer: {connection:?}");
        assert!(self.unconfirmed.is_empty(), "nobody knows what became of this: {:?}", self.unconfirmed);
        for (room, seat) in self.seats.iter().enumerate() {
            assert!(seat.is_in(), "it is not in room {room}: {self:?}");
            seat.check(&people[room], counts[room], self.place(), scene);
        }
    }

    /// Where it is connected, and who it is.
    pub(super) fn whereabouts(&self) -> (usize, String, String) {
        let (id, _) = self.person.clone().expect("it was welcome");
        (self.place(), id, self.name.clone())
    }

    pub(super) fn check_told(&self) {
        let is_told = |it: &Connection| it.socket.closed_with.is_some() || it.socket.line.has_ended();
        assert!(self.connection.as_ref().is_none_or(is_told), "{self:?} was not told");
    }

    pub(super) fn cut(&mut self, scene: &mut Scene) {
        self.disconnect(scene).iter_mut().for_each(|socket| socket.line.cut(scene));
    }

    /// Cuts its connection if that would not last.
    pub(super) fn cut_if_stuck(&mut self, scene: &mut Scene) {
        if self.connection.as_ref().is_some_and(|it| it.has_closed || it.socket.line.has_ended()) {
            self.cut(scene);
        }
    }
}
