//! Listeners to Server-Sent Events: one room each, with `Last-Event-ID` when they come back.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::line::{Line, Temper};
use super::oracle::{Asked, ROOMS, View, room_name};
use super::scene::Scene;

/// A program that follows a room.
#[derive(Debug)]
pub(super) struct Listener {
    room: usize,
    /// The last id, and the epoch in which it was given.
    last: Option<(String, String)>,
    stream: Option<Stream>,
    retry_at: Instant,
}

#[derive(Debug)]
struct Stream {
    line: Line,
    is_open: bool,
    /// Nothing was told.
    is_new: bool,
    /// The id with which it resumes.
    resumed: Option<(String, String)>,
    asked: Asked,
    /// How far it has heard; `None` until it is told where the stream begins, unless it resumes in the same epoch.
    view: Option<View>,
}

impl Listener {
    pub(super) fn new(number: usize, now: Instant) -> Listener {
        Listener { room: number % ROOMS, last: None, stream: None, retry_at: now }
    }

    /// It listens to this room.
    pub(super) fn room(&self) -> Option<usize> {
        self.stream.as_ref().filter(|stream| stream.is_open).map(|_| self.room)
    }

    pub(super) fn act(&mut self, scene: &mut Scene) {
        let Some(stream) = &mut self.stream else {
            if scene.now >= self.retry_at {
                self.connect(scene);
            }
            return;
        };
        if !scene.is_quiet {
            match scene.rng.u32(..1000) {
                0..6 => stream.line.cut(scene),
                6..9 if !stream.line.has_ended() => stream.line.half_close(scene),
                9..25 => stream.line.temper = Temper::any(&mut scene.rng),
                _ => {}
            }
        }
        stream.line.exchange(scene);
        self.listen(scene);
        if self.stream.as_ref().is_some_and(|stream| stream.line.is_over()) {
            if let Some(stream) = self.stream.take() {
                stream.line.hang_up(scene);
            }
            self.retry_at = scene.later(Duration::from_secs(5));
        }
    }

    fn connect(&mut self, scene: &mut Scene) {
        let temper = Temper::any(&mut scene.rng);
        let begins_anew = scene.chance(150);
        let Some(mut line) = scene.open(temper) else { return };
        let truth = &scene.truths[line.at.0];
        self.last.take_if(|_| begins_anew);
        let resumed = self.last.clone();
        let header = resumed.as_ref().map(|(id, _)| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        line.send(format!("GET /rooms/{}/events HTTP/1.1\r\nHost: x\r\n{header}\r\n", room_name(self.room)));
        let asked = truth.asked(scene.now);
        let view = resumed.as_ref().filter(|(_, given_in)| *given_in == truth.epoch);
        let view = view.map(|(id, epoch)| {
            let upto = position_of(id);
            truth.view(self.room, epoch, upto, upto, asked.unread)
        });
        self.stream = Some(Stream { line, is_open: false, is_new: true, resumed, asked, view });
    }

    fn listen(&mut self, scene: &mut Scene) {
        let Some(stream) = &mut self.stream else { return };
        if !stream.is_open && !stream.open(scene) {
            return;
        }
        while let Some(end) = stream.line.received.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = stream.line.received.drain(..end + 2).collect();
            let event = String::from_utf8(event).expect("a stream is UTF-8");
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            let Some(id) = field("id: ") else {
                assert_eq!(event, ":\n\n", "a comment");
                continue;
            };
            match field("data: ") {
                Some(data) => stream.hear(self.room, id, field("event: "), data, scene),
                None => stream.begin(self.room, id, scene),
            }
            self.last = Some((id.to_owned(), epoch_of(id).to_owned()));
        }
    }

    /// It has heard all that was said.
    pub(super) fn check_level(&self, scene: &Scene) {
        let Some(stream) = self.stream.as_ref().filter(|stream| !stream.line.has_ended()) else { return };
        assert!(stream.is_open, "{self:?} is not answered");
        let upto = stream.view.as_ref().map_or(0, |view| view.upto);
        let last = scene.truths[stream.line.at.0].last_of(self.room);
        assert!(upto >= last, "{self:?} has not heard all of its room");
    }

    pub(super) fn check_told(&self) {
        let is_told = |stream: &Stream| stream.line.is_over() || stream.line.has_ended();
        assert!(self.stream.as_ref().is_none_or(is_told), "{self:?} goes on");
    }

    pub(super) fn cut(&mut self, scene: &mut Scene) {
        if let Some(mut stream) = self.stream.take() {
            stream.line.cut(scene);
        }
    }

    /// Cuts its stream if it would end of itself.
    pub(super) fn cut_if_stuck(&mut self, scene: &mut Scene) {
        if self.stream.as_ref().is_some_and(|stream| stream.line.has_ended()) {
            self.cut(scene);
        }
    }
}

impl Stream {
    fn open(&mut self, scene: &mut Scene) -> bool {
        let received = &mut self.line.received;
        if !received.starts_with(b"HTTP/1.1 200 ") {
            if let Some(response) = self.line.take_response() {
                scene.refused(response.status);
            }
            return false;
        }
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
        received.drain(..end + 4);
        self.is_open = true;
        true
    }

    /// An id alone says where the stream begins.
    fn begin(&mut self, room: usize, id: &str, scene: &Scene) {
        let position = position_of(id);
        let truth = &scene.truths[self.line.at.0];
        match &self.view {
            Some(view) => assert_eq!(view.upto, position, "it goes on where it was"),
            None => {
                // The instance may have come to the epoch after that was asked.
                let is_known = self.resumed.as_ref().is_none_or(|(resumed, _)| truth.common.is_some() && resumed == id);
                assert!(is_known, "it comes from another epoch, and is not told of a gap");
                let is_present = (self.asked.present..=truth.last).contains(&position);
                assert!(is_present || self.resumed.is_some(), "{position} is not the present");
                self.view = Some(truth.view(room, epoch_of(id), position, position, self.asked.unread));
            }
        }
    }

    fn hear(&mut self, room: usize, id: &str, event: Option<&str>, data: &str, scene: &mut Scene) {
        let truth = &scene.truths[self.line.at.0];
        let position = position_of(id);
        // A stream that has begun nowhere begins with the newest page, of which some was heard before, perhaps.
        let is_first = std::mem::take(&mut self.is_new);
        let resumed = self.resumed.as_ref().map(|(id, epoch)| (position_of(id), &**epoch));
        let is_unknown = resumed.is_some_and(|resumed| truth.is_unknown(resumed, epoch_of(id), self.asked, scene.now));
        if is_first && is_unknown && event == Some("gap") && truth.common.is_some() {
            self.view = None;
        }
        match (event, &mut self.view) {
            (Some("gap"), Some(view)) => {
                scene.tally.gaps += 1;
                view.skip(truth, position, epoch_of(id));
            }
            // Of another epoch: it begins with the newest page.
            (Some("gap"), None) => {
                scene.tally.gaps += 1;
                let Some((resumed, epoch)) = resumed else { panic!("a gap behind nothing") };
                let may_skip = epoch == epoch_of(id) && truth.may_skip(room, resumed, self.asked.unread);
                assert!(is_unknown || may_skip, "no reason for a gap up to {id} behind {resumed} of {epoch}");
                assert!(position <= truth.last, "a gap up to {position} of {}", truth.last);
                assert!(truth.has_lived(epoch_of(id), position), "a gap up to {id}");
                self.view = Some(truth.view(room, epoch_of(id), position, position, self.asked.unread));
            }
            (None, Some(view)) => {
                scene.tally.heard += 1;
                scene.tally.streams_resumed += u64::from(self.resumed.is_some());
                let said: Value = serde_json::from_str(data).expect("JSON");
                assert_eq!(said["position"].as_u64(), Some(position), "{said} has the id {id}");
                assert_eq!(said["room"].as_str(), Some(&*room_name(room)), "{said}");
                view.hear(truth, &said);
            }
            (event, view) => panic!("{event:?} {data} after {view:?}"),
        }
    }
}

/// The epoch of an id.
fn epoch_of(id: &str) -> &str {
    id.split_once('-').expect("an epoch and a position").0
}

/// The position of an id, which names its epoch before it.
fn position_of(id: &str) -> u64 {
    id.split_once('-').and_then(|(_, position)| position.parse().ok()).expect("an epoch and a position")
}
