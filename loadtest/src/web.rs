//! Requests to the site beside the chat: connections that stay open, each with one request under way.

use std::collections::BTreeMap;
use std::io;

use mio::event::Event as Readiness;
use mio::{Registry, Token};

use crate::client::{Client, Phase, Route};
use crate::clock;
use crate::fleet::count;
use crate::handshake;
use crate::schedule::Schedule;
use crate::times::Times;
use crate::trust::Secure;

/// A body longer than this is taken for a mistake.
const MAX_BODY_BYTES: usize = 1024 * 1024 * 1024;

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct WebFacts {
    /// Whole answers with a status of 200 to 399.
    pub answered: u64,
    /// Everything else, by what it was.
    pub failed: BTreeMap<String, u64>,
    /// From when a request was due to when its answer was whole.
    pub times: Times,
    /// Bytes of answers.
    pub bytes: u64,
}

/// All connections that ask.
#[derive(Debug)]
pub struct Web {
    connections: Vec<Connection>,
    route: Route,
    secure: Option<Secure>,
    request: Vec<u8>,
    /// With a schedule, who waits for the next request; else each asks again at once.
    schedule: Option<Schedule>,
    idle: Vec<usize>,
    facts: WebFacts,
    is_over: bool,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    /// When the request was due.
    asked: u64,
    answer: Answer,
}

/// How much of an answer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// Nothing is asked.
    None,
    /// The head, as far as it has come.
    Head(Vec<u8>),
    /// So many bytes of the body are to come; the status was this.
    Body(usize, u16),
}

impl Web {
    /// `connections` of them ask for `path` of `host` along `route`, as `schedule` says, or each when it was answered.
    pub fn new(
        route: Route,
        secure: Option<Secure>,
        host: &str,
        path: &str,
        connections: usize,
        schedule: Option<Schedule>,
    ) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let connection = || Connection { client: Client::gone(), asked: 0, answer: Answer::None };
        Web {
            connections: (0..connections).map(|_| connection()).collect(),
            route,
            secure,
            request,
            schedule,
            idle: (0..connections).collect(),
            facts: WebFacts::default(),
            is_over: false,
        }
    }

    /// Opens all connections; their tokens begin with `first_token`.
    pub fn open(&mut self, registry: &Registry, first_token: usize) -> io::Result<()> {
        for (at, connection) in self.connections.iter_mut().enumerate() {
            connection.client =
                Client::open(self.route, self.secure.as_ref(), registry, Token(first_token + at), clock::now())?;
        }
        Ok(())
    }

    /// Asks what is due at `now`; returns when something is due again.
    pub fn ask_due(&mut self, now: u64) -> u64 {
        while let Some(&at) = self.idle.last() {
            let asked = match &mut self.schedule {
                None => now,
                Some(schedule) => match schedule.due() {
                    Some(due) if due <= now => {
                        schedule.advance();
                        due
                    }
                    due => return due.unwrap_or(u64::MAX),
                },
            };
            self.idle.pop();
            self.ask(at, asked);
        }
        u64::MAX
    }

    fn ask(&mut self, at: usize, asked: u64) {
        let connection = &mut self.connections[at];
        connection.asked = asked;
        connection.answer = Answer::Head(Vec::new());
        connection.client.push_bytes(&self.request);
        self.flush(at);
    }

    fn flush(&mut self, at: usize) {
        if let Err(err) = self.connections[at].client.flush()
            && err.kind() != io::ErrorKind::NotConnected
        {
            self.fail(at, err.to_string());
        }
    }

    /// Handles `event` of the connection at `at`, by means of `buffer`.
    pub fn on_ready(&mut self, at: usize, event: &Readiness, buffer: &mut [u8]) {
        if self.connections[at].client.phase == Phase::Gone {
            return;
        }
        if event.is_writable() {
            self.flush(at);
        }
        loop {
            match self.connections[at].client.read(buffer) {
                Ok(0) => return self.fail(at, "end of stream".into()),
                Ok(bytes) => {
                    self.facts.bytes += bytes as u64;
                    if let Err(reason) = self.receive(at, &buffer[..bytes]) {
                        return self.fail(at, reason);
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return,
                Err(err) => return self.fail(at, err.to_string()),
            }
        }
    }

    fn receive(&mut self, at: usize, mut bytes: &[u8]) -> Result<(), String> {
        let connection = &mut self.connections[at];
        if let Answer::Head(head) = &mut connection.answer {
            let before = head.len();
            head.extend_from_slice(bytes);
            let Some(head_bytes) = handshake::head_end(head) else {
                return if head.len() > handshake::MAX_HEAD_BYTES { Err("an endless head".into()) } else { Ok(()) };
            };
            let (status, length) = read_head(&head[..head_bytes])?;
            bytes = &bytes[head_bytes - before..];
            connection.answer = Answer::Body(length, status);
        }
        let Answer::Body(left, status) = &mut connection.answer else {
            return Err("an answer that nobody has asked for".into());
        };
        *left = left.checked_sub(bytes.len()).ok_or("more than was asked for")?;
        if *left > 0 {
            return Ok(());
        }
        let (status, asked) = (*status, connection.asked);
        connection.answer = Answer::None;
        if (200..400).contains(&status) {
            self.facts.answered += 1;
        } else {
            count(&mut self.facts.failed, format!("status {status}"));
        }
        self.facts.times.record(clock::now() - asked);
        self.idle.push(at);
        if !self.is_over {
            self.ask_due(clock::now());
        }
        Ok(())
    }

    fn fail(&mut self, at: usize, reason: String) {
        self.connections[at].client.drop_socket();
        if !self.is_over {
            count(&mut self.facts.failed, reason);
        }
    }

    /// Nothing more is asked from now on; gives what came of it.
    pub fn finish(&mut self) -> WebFacts {
        self.is_over = true;
        self.connections.iter_mut().for_each(|connection| connection.client.drop_socket());
        std::mem::take(&mut self.facts)
    }
}

/// Status and length of the body; the error says why the connection cannot go on.
fn read_head(head: &[u8]) -> Result<(u16, usize), String> {
    let line = String::from_utf8_lossy(head.split(|&byte| byte == b'\r').next().unwrap_or_default()).into_owned();
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let Some(status) = status else { return Err(format!("`{line}` is no answer of HTTP/1.1")) };
    if matches!(status, 204 | 304) {
        return Ok((status, 0));
    }
    let length = handshake::field(head, "content-length").map(String::from_utf8_lossy);
    match length.and_then(|length| length.parse().ok()) {
        Some(length) if length <= MAX_BODY_BYTES => Ok((status, length)),
        _ => Err("an answer without a Content-Length".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let table = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((200, 5))),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Ok((404, 0))),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", Ok((304, 0))),
            ("HTTP/1.1 200 OK\r\n\r\n", Err("an answer without a Content-Length".to_owned())),
            ("SSH-2.0\r\n\r\n", Err("`SSH-2.0` is no answer of HTTP/1.1".to_owned())),
        ];
        for (head, expected) in table {
            assert_eq!(read_head(head.as_bytes()), expected, "{head}");
        }
    }

    #[test]
    fn answers_in_pieces_of_every_size() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        let route = Route { server: "127.0.0.1:1".parse().unwrap(), source: None, receive_buffer: None };
        for size in 1..=whole.len() {
            // A schedule without due times: nobody asks again.
            let mut web = Web::new(route, None, "a", "/", 1, Some(Schedule::default()));
            web.idle.clear();
            web.connections[0].answer = Answer::Head(Vec::new());
            for piece in whole.chunks(size) {
                assert_eq!(web.facts.answered, 0, "{size}");
                web.receive(0, piece).unwrap();
            }
            assert_eq!((web.facts.answered, web.idle.len()), (1, 1), "{size}");
            assert!(web.receive(0, b"x").is_err(), "{size}");
        }
    }
}
