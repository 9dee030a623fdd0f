//! Members of the raw dialect: one room each, nothing but frames, no resume.

use std::time::{Duration, Instant};

use crate::chat::entry::Entry;

use super::line::{Heard, Socket, Temper, masked};
use super::oracle::{ROOMS, raw_form, room_name};
use super::scene::Scene;

/// Somebody who connects again and again, each time as somebody else.
#[derive(Debug)]
pub(super) struct RawMember {
    number: usize,
    /// How often it has come.
    visits: usize,
    connection: Option<Connection>,
    retry_at: Instant,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    room: usize,
    said: usize,
    has_misbehaved: bool,
    /// The last entry when it asked to come in, and when it was told that it is in: it hears what came after the first,
    /// perhaps, and what came after the second, certainly.
    asked: u64,
    admitted: Option<u64>,
    /// What it has heard last: one of these, if the same was said more than once, as it may be after a loss.
    upto: Vec<u64>,
    /// Drafts that had been refused, and reads that had failed, when it came.
    excuses: (u64, u64),
}

impl RawMember {
    pub(super) fn new(number: usize, now: Instant) -> RawMember {
        RawMember { number, visits: 0, connection: None, retry_at: now }
    }

    /// It is in this room, and will be.
    pub(super) fn room(&self) -> Option<usize> {
        self.connection.as_ref().filter(|it| it.admitted.is_some()).map(|it| it.room)
    }

    pub(super) fn act(&mut self, scene: &mut Scene) {
        let Some(connection) = &mut self.connection else {
            if scene.now >= self.retry_at {
                self.connect(scene);
            }
            return;
        };
        if !scene.is_quiet {
            connection.act_up(&format!("w{}-{}", self.number, self.visits), scene);
        }
        connection.socket.line.exchange(scene);
        connection.listen(scene);
        if connection.socket.line.is_over() {
            if let Some(connection) = self.connection.take() {
                connection.socket.line.hang_up(scene);
            }
            self.retry_at = scene.later(Duration::from_secs(5));
        }
    }

    fn connect(&mut self, scene: &mut Scene) {
        let temper = Temper::lazy(&mut scene.rng);
        let room = scene.rng.usize(..ROOMS);
        let Some(line) = scene.open(temper) else { return };
        self.visits += 1;
        let truth = &scene.truths[line.at.0];
        let store = truth.store.borrow();
        self.connection = Some(Connection {
            socket: Socket::new(line, &format!("/?room={}", room_name(room)), None),
            room,
            said: 0,
            has_misbehaved: false,
            asked: truth.last,
            admitted: None,
            upto: Vec::new(),
            excuses: (store.refused, store.unread),
        });
    }

    /// It has heard all that was said, as far as it can hear.
    pub(super) fn check_level(&self, scene: &Scene) {
        let Some(connection) = &self.connection else { return };
        assert!(connection.admitted.is_some() || connection.socket.closed_with.is_some(), "{self:?} is not let in");
        if connection.socket.closed_with.is_some() || connection.socket.line.has_ended() {
            return;
        }
        let heard = connection.upto.iter().copied().max().max(connection.admitted).unwrap_or(0);
        assert!(
            heard >= scene.truths[connection.place()].last_of(connection.room),
            "{self:?} has not heard all of its room"
        );
        assert!(connection.socket.line.received.is_empty(), "{self:?} has received half a frame");
    }

    /// It has been told that the server ends.
    pub(super) fn check_told(&self) {
        let is_told = |it: &Connection| it.socket.closed_with.is_some() || it.socket.line.has_ended();
        assert!(self.connection.as_ref().is_none_or(is_told), "{self:?} was not told");
    }

    pub(super) fn cut(&mut self, scene: &mut Scene) {
        if let Some(mut connection) = self.connection.take() {
            connection.socket.line.cut(scene);
        }
    }

    /// Cuts its connection if it would not be heard to the end.
    pub(super) fn cut_if_stuck(&mut self, scene: &mut Scene) {
        if self.connection.as_ref().is_some_and(|it| it.has_misbehaved || it.socket.line.has_ended()) {
            self.cut(scene);
        }
    }
}

impl Connection {
    /// Which instance it is to.
    fn place(&self) -> usize {
        self.socket.line.at.0
    }

    fn act_up(&mut self, speaker: &str, scene: &mut Scene) {
        let line = &mut self.socket.line;
        let may_speak = self.socket.closed_with.is_none() && !line.has_ended() && !self.has_misbehaved;
        match scene.rng.u32(..1000) {
            0..40 if may_speak && line.unsent.len() < 2_000 => {
                for _ in 0..scene.rng.usize(1..4) {
                    let padding = "x".repeat(scene.rng.usize(..120));
                    let text = format!("{speaker}:{} {padding}", self.said);
                    self.said += 1;
                    line.send(masked(0x81, text.as_bytes()));
                }
            }
            60..64 if may_speak => {
                // It says nothing twice, and nobody takes it for a text.
                let number = scene.rng.u32(..).to_be_bytes();
                let binary = [speaker.as_bytes(), &[0xff], &number].concat();
                line.send(masked(0x82, &binary));
            }
            64..67 => line.cut(scene),
            67..70 if may_speak => line.half_close(scene),
            70..73 if may_speak => {
                line.send(masked(0x88, &1000_u16.to_be_bytes()));
                self.has_misbehaved = true;
            }
            73..75 if may_speak => {
                line.send([0x83, 0x80, 0, 0, 0, 0]);
                self.has_misbehaved = true;
            }
            75..76 if may_speak => {
                line.send(masked(0x81, &vec![b'x'; scene.limits.max_message_bytes + 1]));
                self.has_misbehaved = true;
            }
            76..77 if may_speak => {
                // A frame that never ends, unless by its pongs or its reply to a close: then it is no text.
                line.send(&masked(0x81, b"begun and left")[..9]);
                self.has_misbehaved = true;
            }
            77..90 => line.temper = Temper::lazy(&mut scene.rng),
            _ => {}
        }
    }

    fn listen(&mut self, scene: &mut Scene) {
        while let Some(heard) = self.socket.poll() {
            match heard {
                Heard::Refused(status) => scene.refused(status),
                Heard::Upgraded => self.admitted = Some(scene.truths[self.place()].last),
                Heard::Message(opcode, payload) => self.hear(&(opcode, payload), scene),
                Heard::Closed(code) => self.check_close(code, scene),
            }
        }
    }

    fn hear(&mut self, message: &(u8, Vec<u8>), scene: &mut Scene) {
        scene.tally.heard += 1;
        let text = || String::from_utf8_lossy(&message.1).into_owned();
        let admitted = self.admitted.expect("it was let in before");
        let truth = &scene.truths[self.place()];
        let is_it = |entry: &&Entry| raw_form(entry) == *message;
        let next: Vec<u64> = if self.upto.is_empty() {
            // The first may be any of those that came while it was let in.
            let entries = truth.between(self.room, self.asked, u64::MAX).iter();
            let is_first = |position: &u64| truth.between(self.room, admitted, position - 1).is_empty();
            entries.filter(is_it).map(|entry| entry.position.0).filter(is_first).collect()
        } else {
            let next = |upto: &u64| truth.between(self.room, *upto, u64::MAX).first();
            self.upto.iter().filter_map(next).filter(is_it).map(|entry| entry.position.0).collect()
        };
        assert!(!next.is_empty(), "{} is not what comes next: {self:?}", text());
        self.upto = next;
    }

    fn check_close(&self, code: u16, scene: &mut Scene) {
        let upto = self.upto.first().copied().unwrap_or(self.asked);
        let truth = &scene.truths[self.place()];
        let store = truth.store.borrow();
        let (refused, unread) = self.excuses;
        match code {
            1013 => {
                let is_justified = store.refused > refused || truth.may_skip(self.room, upto, unread);
                assert!(is_justified, "no reason to close with 1013: {self:?}");
                scene.tally.fell_behind += 1;
            }
            1001 => scene.tally.drained += 1,
            1000 | 1002 | 1007 | 1008 | 1009 => {
                assert!(self.has_misbehaved || code == 1008, "closed with {code}: {self:?}");
            }
            other => panic!("closed with {other}: {self:?}"),
        }
    }
}
