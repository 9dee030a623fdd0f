//! Visitors of the simulation: they ask for pages over HTTP, many at once, and go in every way there is.

use std::collections::{HashMap, VecDeque};

use super::*;

/// What visitors ask for, and with which status it is answered.
const TARGETS: [(&str, u16); 5] =
    [("/healthz", 200), ("/", 200), ("/favicon.svg", 200), ("/nothing", 404), ("/%00", 400)];
pub(super) const VISITORS: usize = 12;

pub(super) struct Visitor {
    temper: Temper,
    wire: Rc<RefCell<Wire>>,
    id: ConnectionId,
    unsent: Vec<u8>,
    /// Requests, whole ones, that are not answered.
    asked: VecDeque<(&'static str, u16)>,
    received: Vec<u8>,
    /// It has begun something that it will not finish, or was told that this response is the last.
    is_done: bool,
    /// It has ended its stream, and is owed what it has asked for.
    has_ended: bool,
    has_left: bool,
}

/// What all visitors have seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) responses: usize,
    pub(super) refusals: usize,
    pub(super) timeouts: usize,
    /// The content of each target, which is the same each time.
    content: HashMap<&'static str, Vec<u8>>,
}

impl World {
    pub(super) fn visit(&mut self) {
        let capacity = self.rng.usize(300..4_000);
        let Some((wire, id)) = self.open(capacity) else { return };
        let temper = *self.rng.choice(&[Temper::Eager, Temper::Eager, Temper::Slow, Temper::Stuck]).unwrap();
        self.visitors.push(Visitor {
            temper,
            wire,
            id,
            unsent: Vec::new(),
            asked: VecDeque::new(),
            received: Vec::new(),
            is_done: false,
            has_ended: false,
            has_left: false,
        });
    }

    pub(super) fn act_as_visitor(&mut self, place: usize) {
        let visitor = &mut self.visitors[place];
        if visitor.has_left {
            return;
        }
        let is_free = !visitor.is_done && !visitor.has_ended && !visitor.wire.borrow().server_ended;
        match self.rng.u32(..1000) {
            0..60 if is_free && visitor.asked.len() < 20 => {
                for _ in 0..self.rng.usize(1..40) {
                    let (target, status) = *self.rng.choice(&TARGETS).unwrap();
                    visitor.unsent.extend(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").bytes());
                    visitor.asked.push_back((target, status));
                }
            }
            60..64 if is_free => {
                visitor.unsent.extend(b"GET / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n");
                visitor.asked.push_back(("/", 200));
                visitor.is_done = true;
            }
            64..66 if is_free => {
                visitor.unsent.extend(b"GET / HTTP/1.1\r\nHost: ");
                visitor.is_done = true;
            }
            66..68 if is_free => {
                visitor.unsent.extend(b"\x16\x03\x01");
                visitor.asked.push_back(("garbage", 400));
                visitor.is_done = true;
            }
            68..72 if is_free && visitor.unsent.is_empty() => {
                visitor.wire.borrow_mut().client_ended = true;
                visitor.has_ended = true;
            }
            72..75 => {
                visitor.wire.borrow_mut().is_reset = true;
                visitor.has_left = true;
            }
            _ => {}
        }
        let piece = self.rng.usize(..=visitor.unsent.len().min(2_000));
        visitor.wire.borrow_mut().to_server.extend(visitor.unsent.drain(..piece));
        self.read_as_visitor(place);
    }

    pub(super) fn read_as_visitor(&mut self, place: usize) {
        let visitor = &mut self.visitors[place];
        let bytes = exchange(&mut self.reactor, &mut self.rng, visitor.temper, &visitor.wire, visitor.id);
        visitor.received.extend(bytes);
        while let Some((status, is_last, content)) = take_response(&mut visitor.received) {
            assert!(!visitor.received.starts_with(b"HTTP/1.1") || !is_last, "seed {}: nothing follows", self.seed);
            visitor.is_done |= is_last;
            if status == 503 && content.ends_with(b"The server is full. Please try again later.\n") {
                self.seen.refusals += 1;
                visitor.asked.clear();
                continue;
            }
            if status == 408 {
                self.seen.timeouts += 1;
                assert!(is_last && visitor.asked.is_empty(), "seed {}: it waits for {:?}", self.seed, visitor.asked);
                continue;
            }
            let Some((target, expected)) = visitor.asked.pop_front() else {
                panic!("seed {}: {status} to nothing that was asked", self.seed)
            };
            self.seen.responses += 1;
            if target == "/healthz" && self.reactor.drain_until.is_some() {
                continue;
            }
            assert_eq!(status, expected, "seed {}: {target}", self.seed);
            let first = self.seen.content.entry(target).or_insert_with(|| content.clone());
            assert!(*first == content, "seed {}: {target} is what it was", self.seed);
        }
    }

    /// Whoever can still be answered, and reads, has been.
    pub(super) fn check_what_visitors_saw(&self) {
        for visitor in self.visitors.iter().filter(|visitor| visitor.temper != Temper::Stuck && !visitor.has_left) {
            let is_owed = visitor.has_ended || !visitor.wire.borrow().server_ended;
            assert!(!is_owed || visitor.asked.is_empty(), "seed {}: {:?} is not answered", self.seed, visitor.asked);
        }
    }

    pub(super) fn forget_visitors_who_left(&mut self) {
        self.visitors.retain(|visitor| {
            let wire = visitor.wire.borrow();
            let sees_the_end = visitor.has_left || wire.to_client.is_empty() || visitor.temper == Temper::Stuck;
            !(wire.is_closed && sees_the_end && (!visitor.has_ended || visitor.asked.is_empty()))
        });
    }

    /// They say what they have begun to say, and read.
    pub(super) fn hurry_visitors(&mut self) {
        for place in 0..self.visitors.len() {
            let visitor = &mut self.visitors[place];
            if visitor.temper != Temper::Stuck {
                visitor.temper = Temper::Witness;
            }
            let bytes = std::mem::take(&mut visitor.unsent);
            if !visitor.has_left {
                visitor.wire.borrow_mut().to_server.extend(bytes);
            }
            self.read_as_visitor(place);
        }
    }

    pub(super) fn reset_visitors(&mut self) {
        for visitor in &mut self.visitors {
            visitor.wire.borrow_mut().is_reset = true;
            visitor.has_left = true;
            exchange(&mut self.reactor, &mut self.rng, Temper::Stuck, &visitor.wire, visitor.id);
        }
    }
}

/// Takes a whole response off the front: its status, whether it is the last, its content.
fn take_response(bytes: &mut Vec<u8>) -> Option<(u16, bool, Vec<u8>)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("a head is text");
    let status = text.strip_prefix("HTTP/1.1 ").expect(text)[..3].parse().expect(text);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let length: usize = field("Content-Length: ").expect(text).parse().expect(text);
    let is_last = field("Connection: ") == Some("close");
    if bytes.len() < head + length {
        return None;
    }
    let content = bytes[head..head + length].to_vec();
    bytes.drain(..head + length);
    Some((status, is_last, content))
}
