//! Programs that post over HTTP, with a key for each thing they say, and read the history.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::line::{Line, Response, Temper};
use super::oracle::{self, ROOMS, room_name};
use super::scene::Scene;

/// A program that says again what was not confirmed.
#[derive(Debug)]
pub(super) struct Poster {
    number: usize,
    said: usize,
    connection: Option<Connection>,
    retry_at: Instant,
    /// What it has said and was not told the position of, the oldest first.
    unconfirmed: VecDeque<Post>,
    /// The last position that it was told, and its epoch, from whichever instance.
    known: Option<(u64, String)>,
}

#[derive(Debug)]
struct Connection {
    line: Line,
    asked: VecDeque<Asked>,
    is_done: bool,
}

#[derive(Debug, Clone)]
struct Post {
    room: usize,
    key: String,
    text: String,
    has_been_sent: bool,
}

#[derive(Debug)]
enum Asked {
    Post {
        post: Post,
        is_first: bool,
    },
    Before {
        room: usize,
        before: Option<u64>,
        limit: u64,
        present: u64,
    },
    After {
        room: usize,
        after: u64,
        limit: u64,
        asked: oracle::Asked,
    },
    /// Behind what it knows, which this instance may not know.
    Behind {
        room: usize,
        known: (u64, String),
        limit: u64,
        asked: oracle::Asked,
    },
}

impl Poster {
    pub(super) fn new(number: usize, now: Instant) -> Poster {
        Poster { number, said: 0, connection: None, retry_at: now, unconfirmed: VecDeque::new(), known: None }
    }

    pub(super) fn act(&mut self, scene: &mut Scene) {
        if self.connection.is_none() {
            if scene.now < self.retry_at {
                return;
            }
            let temper = Temper::any(&mut scene.rng);
            let Some(line) = scene.open(temper) else { return };
            let mut connection = Connection { line, asked: VecDeque::new(), is_done: false };
            if !scene.is_quiet && scene.rng.bool() {
                connection.ask_behind(&self.known, scene);
            }
            self.connection = Some(connection);
        }
        self.ask(scene);
        let Some(connection) = &mut self.connection else { return };
        connection.line.exchange(scene);
        while let Some(response) = connection.line.take_response() {
            connection.is_done |= response.is_last;
            if response.is_refusal() {
                scene.tally.full += 1;
                connection.asked.clear();
                break;
            }
            if let Some(confirmed) = connection.check(&response, &mut self.known, scene) {
                self.unconfirmed.retain(|post| post.key != confirmed);
            }
            if response.is_last {
                connection.asked.clear();
            }
        }
        if connection.line.is_over() {
            if let Some(connection) = self.connection.take() {
                connection.line.hang_up(scene);
            }
            // Another instance may not have come to where this one is, if it is asked at once.
            let most = if scene.rng.bool() { Duration::ZERO } else { Duration::from_secs(3) };
            self.retry_at = scene.later(most);
        }
    }

    fn ask(&mut self, scene: &mut Scene) {
        let Some(connection) = &mut self.connection else { return };
        let line = &mut connection.line;
        let is_free = !connection.is_done && !line.has_ended() && !line.is_over();
        if is_free && connection.asked.is_empty() && !self.unconfirmed.is_empty() && scene.chance(100) {
            // It does not know what has become of it: it says it again.
            return connection.post(&mut self.unconfirmed[0], self.number, scene);
        }
        if scene.is_quiet {
            return;
        }
        let (room, limit) = (scene.rng.usize(..ROOMS), scene.rng.u64(1..20));
        let truth = &scene.truths[line.at.0];
        let asked = truth.asked(scene.now);
        let present = asked.present;
        match scene.rng.u32(..1000) {
            0..40 if is_free && connection.asked.len() < 3 && self.unconfirmed.len() < 5 => {
                let text = format!("p{}.{} {}", self.number, self.said, "x".repeat(scene.rng.usize(..100)));
                let key = format!("p{}-{}", self.number, self.said);
                self.said += 1;
                self.unconfirmed.push_back(Post { room, key, text, has_been_sent: false });
                if let Some(post) = self.unconfirmed.back_mut() {
                    connection.post(post, self.number, scene);
                }
            }
            40..50 if is_free => {
                let before = scene.rng.bool().then(|| scene.rng.u64(1..=present + 1));
                let query = before.map(|before| format!("&before={before}")).unwrap_or_default();
                connection.get(room, &format!("limit={limit}{query}"));
                connection.asked.push_back(Asked::Before { room, before, limit, present });
            }
            50..60 if is_free => {
                let after = scene.rng.u64(..=present);
                connection.get(room, &format!("after={after}&limit={limit}"));
                connection.asked.push_back(Asked::After { room, after, limit, asked });
            }
            80..160 if is_free && connection.asked.len() < 3 => connection.ask_behind(&self.known, scene),
            60..66 => line.cut(scene),
            66..69 if is_free => line.half_close(scene),
            69..80 => line.temper = Temper::any(&mut scene.rng),
            _ => {}
        }
    }

    /// All that it has asked is answered.
    pub(super) fn check_level(&self) {
        assert!(self.unconfirmed.is_empty(), "nobody knows what became of this: {self:?}");
        let is_answered = |it: &Connection| it.asked.is_empty() || it.line.has_ended();
        assert!(self.connection.as_ref().is_none_or(is_answered), "it waits: {self:?}");
    }

    pub(super) fn cut(&mut self, scene: &mut Scene) {
        if let Some(mut connection) = self.connection.take() {
            connection.line.cut(scene);
        }
    }
}

impl Connection {
    fn get(&mut self, room: usize, query: &str) {
        self.line.send(format!("GET /rooms/{}/messages?{query} HTTP/1.1\r\nHost: x\r\n\r\n", room_name(room)));
    }

    /// Asks for what follows what it knows from whichever instance.
    fn ask_behind(&mut self, known: &Option<(u64, String)>, scene: &mut Scene) {
        let Some(known) = known.clone() else { return };
        let (room, limit) = (scene.rng.usize(..ROOMS), scene.rng.u64(1..20));
        let asked = scene.truths[self.line.at.0].asked(scene.now);
        self.get(room, &format!("after={}&epoch={}&limit={limit}", known.0, known.1));
        self.asked.push_back(Asked::Behind { room, known, limit, asked });
    }

    fn post(&mut self, post: &mut Post, number: usize, scene: &mut Scene) {
        let json = json!({"text": post.text, "name": format!("P{number}")}).to_string();
        let (field, content) = match scene.rng.bool() {
            true => (format!("Content-Length: {}", json.len()), json),
            false => {
                let (one, other) = json.split_at(json.len() / 2);
                let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
                ("Transfer-Encoding: chunked".to_owned(), format!("{}{}0\r\n\r\n", chunk(one), chunk(other)))
            }
        };
        let expect = if scene.chance(100) { "Expect: 100-continue\r\n" } else { "" };
        self.line.send(format!(
            "POST /rooms/{}/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Idempotency-Key: {}\r\n{expect}{field}\r\n\r\n{content}",
            room_name(post.room),
            post.key,
        ));
        let is_first = !std::mem::replace(&mut post.has_been_sent, true);
        self.asked.push_back(Asked::Post { post: post.clone(), is_first });
    }

    /// Judges a response, and returns the key of what it confirms.
    fn check(&mut self, response: &Response, known: &mut Option<(u64, String)>, scene: &mut Scene) -> Option<String> {
        let Response { status, content, .. } = response;
        let text = String::from_utf8_lossy(content);
        if *status == 408 {
            return None;
        }
        let Some(asked) = self.asked.pop_front() else { panic!("{status} to nothing: {text}") };
        if *status == 503 {
            scene.tally.refused += 1;
            return None;
        }
        let answer: Value = serde_json::from_slice(content).unwrap_or_else(|err| panic!("{status} {err}: {text}"));
        let truth = &scene.truths[self.line.at.0];
        let epoch = answer["epoch"].as_str().expect("an epoch");
        assert!(truth.has_lived(epoch, 0), "{answer}");
        if let Some(position) = answer["position"].as_u64() {
            assert!(position <= truth.last, "{answer} is ahead of {}", truth.last);
            *known = Some((position, epoch.to_owned()));
        }
        match asked {
            Asked::Post { post, is_first } => {
                let position = answer["position"].as_u64().expect("a position");
                let is_known = !is_first || truth.has_passed_over(post.room, position);
                assert!(*status == 201 || (*status == 200 && is_known), "{status} to {post:?}: {answer}");
                truth.check_post(post.room, position, &post.text, &post.key);
                scene.tally.posts += 1;
                scene.tally.repeats += u64::from(*status == 200);
                return Some(post.key);
            }
            Asked::Before { room, before, limit, present } => {
                truth.page_before(room, &answer, before, limit, present);
            }
            Asked::After { room, after, limit, asked } => truth.page_after(room, &answer, after, limit, asked),
            Asked::Behind { room, known, limit, asked } => {
                let was_ahead = known.0 > asked.present;
                scene.tally.polls_waited += u64::from(was_ahead && answer["gap"] == false);
                scene.tally.polls_waited_in_vain += u64::from(was_ahead && answer["gap"] == true);
                truth.page_behind(room, &answer, &known, limit, asked, scene.now);
            }
        }
        scene.tally.histories += 1;
        None
    }
}
