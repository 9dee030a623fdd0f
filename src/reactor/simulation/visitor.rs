//! Visitors of the site: they ask for pages over HTTP, many at once, and go in every way there is.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::line::{Line, Response, Temper};
use super::scene::Scene;

/// What visitors ask for, and with which status it is answered.
const TARGETS: [(&str, u16); 5] =
    [("/healthz", 200), ("/", 200), ("/favicon.svg", 200), ("/nothing", 404), ("/%00", 400)];

/// Somebody who comes again and again.
#[derive(Debug)]
pub(super) struct Visitor {
    visit: Option<Visit>,
    retry_at: Instant,
    /// The content of each target, which is the same each time.
    content: HashMap<&'static str, Vec<u8>>,
}

#[derive(Debug)]
struct Visit {
    line: Line,
    opened: Instant,
    /// Requests, whole ones, that are not answered.
    asked: VecDeque<(&'static str, u16)>,
    /// When the last byte of what it has asked was sent.
    sent: Instant,
    /// It has begun something that it will not finish, or was told that this response is the last.
    is_done: bool,
}

impl Visitor {
    pub(super) fn new(now: Instant) -> Visitor {
        Visitor { visit: None, retry_at: now, content: HashMap::new() }
    }

    pub(super) fn act(&mut self, scene: &mut Scene) {
        let Some(visit) = &mut self.visit else {
            if scene.now >= self.retry_at && !scene.is_quiet {
                let temper = Temper::any(&mut scene.rng);
                let (opened, asked) = (scene.now, VecDeque::new());
                self.visit = scene.open(temper).map(|line| Visit { line, opened, asked, sent: opened, is_done: false });
            }
            return;
        };
        if !scene.is_quiet {
            visit.ask(scene);
        }
        let had_unsent = !visit.line.unsent.is_empty();
        visit.line.exchange(scene);
        if had_unsent && visit.line.unsent.is_empty() {
            visit.sent = scene.now;
        }
        while let Some(response) = visit.line.take_response() {
            visit.check(response, &mut self.content, scene);
        }
        // When it has all that it has asked for, it makes room for others.
        let is_served = scene.is_quiet && visit.asked.is_empty() && visit.line.unsent.is_empty();
        if visit.line.is_over() || is_served {
            self.leave(scene);
            self.retry_at = scene.later(Duration::from_secs(5));
        }
    }

    fn leave(&mut self, scene: &mut Scene) {
        let Some(visit) = self.visit.take() else { return };
        let is_owed = !visit.is_done && scene.is_quiet && scene.is_up(&visit.line);
        assert!(!is_owed || visit.asked.is_empty(), "it is not answered: {visit:?}");
        visit.line.hang_up(scene);
    }

    /// Whoever can still be answered has been.
    pub(super) fn check_level(&self) {
        let Some(visit) = self.visit.as_ref().filter(|visit| !visit.line.wire.borrow().server_ended) else { return };
        assert!(visit.asked.is_empty(), "it is not answered: {visit:?}");
    }

    pub(super) fn cut(&mut self, scene: &mut Scene) {
        if let Some(mut visit) = self.visit.take() {
            visit.line.cut(scene);
        }
    }
}

impl Visit {
    fn ask(&mut self, scene: &mut Scene) {
        let line = &mut self.line;
        let is_free = !self.is_done && !line.has_ended() && !line.wire.borrow().server_ended;
        match scene.rng.u32(..1000) {
            0..60 if is_free && self.asked.len() < 20 => {
                for _ in 0..scene.rng.usize(1..40) {
                    let (target, status) = *scene.rng.choice(&TARGETS).unwrap();
                    line.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
                    self.asked.push_back((target, status));
                }
            }
            60..64 if is_free => {
                line.send("GET / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n");
                self.asked.push_back(("/", 200));
                self.is_done = true;
            }
            64..68 if is_free => {
                line.send("GET / HTTP/1.1\r\nHost: ");
                self.is_done = true;
            }
            68..70 if is_free => {
                line.send(b"\x16\x03\x01");
                self.asked.push_back(("garbage", 400));
                self.is_done = true;
            }
            70..74 if is_free && line.unsent.is_empty() => line.half_close(scene),
            74..80 => line.cut(scene),
            80..90 => line.temper = Temper::any(&mut scene.rng),
            _ => {}
        }
    }

    fn check(&mut self, response: Response, content: &mut HashMap<&'static str, Vec<u8>>, scene: &mut Scene) {
        let Response { status, is_last, content: body } = response;
        assert!(!is_last || !self.line.received.starts_with(b"HTTP/1.1"), "nothing follows the last: {self:?}");
        self.is_done |= is_last;
        if status == 503 && body.ends_with(b"The server is full. Please try again later.\n") {
            scene.tally.full += 1;
            return self.asked.clear();
        }
        if status == 408 {
            // What it has asked was not there when its time was up, though it may have come since.
            let is_late = self.sent >= self.opened + scene.limits.handshake_timeout;
            let is_late = is_late || self.asked.is_empty() || !self.line.unsent.is_empty();
            assert!(is_last && is_late, "it waits for {:?}", self.asked);
            scene.tally.late_heads += 1;
            return self.asked.clear();
        }
        let Some((target, expected)) = self.asked.pop_front() else { panic!("{status} to nothing that was asked") };
        scene.tally.responses += 1;
        if target == "/healthz" && status == 503 && is_last {
            assert!(body.ends_with(b"draining\n"), "it is well");
            self.asked.clear();
            return;
        }
        assert_eq!(status, expected, "{target}");
        let first = content.entry(target).or_insert_with(|| body.clone());
        assert!(*first == body, "{target} is what it was");
        if is_last {
            // What else it has asked is not answered.
            self.asked.clear();
        }
    }
}
