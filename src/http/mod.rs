//! HTTP/1.1 as a machine: bytes in, requests out, responses as bytes (RFC 9110, RFC 9112).
//!
//! [`Http`] takes what was read from one connection and gives its requests one after the other: the next is given
//! when the one before has been answered, so pipelined responses go out in order. In this order a head is worked
//! on: `head` looks at every byte once as it arrives, finds the end and enforces the limits; [`request`] reads the
//! whole head and decides what it means; [`framing`] decides whether a body follows. [`response`] is the way back.
//!
//! The module is stricter than its recipients have to be. Wherever two readers of one stream could disagree about
//! where a request ends, it refuses the request and lets nothing after it be read. It has never seen a socket, a
//! file or a clock.

mod body;
pub mod coding;
pub mod conditional;
pub mod date;
pub mod forwarded;
pub mod framing;
mod head;
pub mod host;
pub mod list;
pub mod range;
pub mod request;
pub mod response;

use bytes::{Buf, BytesMut};
use http::{Method, StatusCode};

use crate::limits::Limits;
use body::Body as RequestBody;
use framing::Content;
use head::Scan;

pub use date::DateCache;
pub use request::{Request, Target};
pub use response::{Body, Encoded, Recipient, Response};

/// Empty lines that are skipped before a request (RFC 9112, section 2.2), for clients that send one too many.
const MAX_EMPTY_LINES: u8 = 4;

/// Why a request was refused. It is answered by [`Response::refusal`], and the connection closes: nothing after a
/// request that was not understood can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The status of the answer.
    pub status: StatusCode,
    /// What was wrong, as a sentence for the body of the answer.
    pub message: &'static str,
}

impl Fault {
    pub(crate) const fn new(status: StatusCode, message: &'static str) -> Self {
        Fault { status, message }
    }

    pub(crate) const fn bad_request(message: &'static str) -> Self {
        Fault::new(StatusCode::BAD_REQUEST, message)
    }
}

/// The server's side of HTTP on one connection. It owns no heap memory between requests.
///
/// ```
/// # use chat_app::{http::Http, limits::Limits};
/// let mut http = Http::new();
/// http.receive(b"GET /style.css HTTP/1.1\r\nHost: example.org\r\n\r\n");
/// let request = http.poll_request(&Limits::default()).unwrap().unwrap();
/// assert_eq!(request.target.path(), "/style.css");
/// http.responded();
/// ```
#[derive(Debug, Default)]
pub struct Http {
    state: State,
    /// What was received and not yet given out: the head that is coming, or what was pipelined behind the request
    /// that is being answered. A request takes its head out of here whole; header values are slices of it.
    buffer: BytesMut,
    scan: Scan,
    empty_lines: u8,
    /// The content that is being received.
    body: Option<Box<RequestBody>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A request is awaited, or its head is coming.
    #[default]
    Reading,
    /// A request was given out, and its content is coming. Whether the connection may live on after it.
    Receiving(bool),
    /// A request was given out and is not answered; what follows it waits.
    Answering,
    /// As `Answering`, and the connection ends after the response (RFC 9112, section 9.6).
    AnsweringLast,
    /// The last response has been queued; further input is dropped.
    Finished,
    /// A request was refused; further input is dropped.
    Failed(Fault),
}

impl Http {
    /// A machine for a new connection.
    #[must_use]
    pub fn new() -> Self {
        Http::default()
    }

    /// Takes what was read. An incomplete head is kept; bytes after a complete head wait until its response is done,
    /// bounded by [`wants_input`](Http::wants_input).
    pub fn receive(&mut self, input: &[u8]) {
        if !matches!(self.state, State::Finished | State::Failed(_)) {
            self.buffer.extend_from_slice(input);
        }
    }

    /// The next whole request; `None` while it has not come, while one is being answered, and after the last.
    ///
    /// # Errors
    ///
    /// The request is refused. This is final: the same fault is returned from then on, whatever is received.
    #[must_use = "a request that is not answered stops the connection"]
    pub fn poll_request(&mut self, limits: &Limits) -> Result<Option<Request>, Fault> {
        match self.state {
            State::Reading => {}
            State::Receiving(_) | State::Answering | State::AnsweringLast | State::Finished => return Ok(None),
            State::Failed(fault) => return Err(fault),
        }
        match self.next_request(limits) {
            Ok(Some(request)) => {
                self.state = if request.keep_alive { State::Answering } else { State::AnsweringLast };
                Ok(Some(request))
            }
            Ok(None) => Ok(None),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Has the content of the polled request received, if it has any and is at most `max_bytes` long. Without this call
    /// it is not read, and the connection ends with the response.
    ///
    /// # Errors
    ///
    /// 413 if it is announced to be longer. This is final.
    pub fn receive_body(&mut self, request: &Request, max_bytes: usize) -> Result<(), Fault> {
        match RequestBody::new(request.content, max_bytes) {
            Ok(body) => {
                self.body = Some(Box::new(body));
                self.state = State::Receiving(request.may_keep_alive);
                Ok(())
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// The whole content, once, after [`receive_body`](Http::receive_body); `None` while it has not come.
    ///
    /// # Errors
    ///
    /// The content is malformed or too long. This is final.
    #[must_use = "a request that is not answered stops the connection"]
    pub fn poll_body(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let Some(body) = &mut self.body else { return Ok(None) };
        match body.take(&mut self.buffer) {
            Ok(Some(content)) => {
                let may_keep_alive = matches!(self.state, State::Receiving(true));
                self.state = if may_keep_alive { State::Answering } else { State::AnsweringLast };
                self.body = None;
                Ok(Some(content))
            }
            Ok(None) => Ok(None),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.state = State::Failed(fault);
        self.buffer = BytesMut::new();
        self.body = None;
        fault
    }

    /// The response to the polled request has been queued whole: the next one, if it is there, may be polled.
    pub fn responded(&mut self) {
        match self.state {
            State::Answering => self.state = State::Reading,
            State::AnsweringLast => {
                self.state = State::Finished;
                self.buffer = BytesMut::new();
            }
            State::Reading | State::Receiving(_) | State::Finished | State::Failed(_) => {
                debug_assert!(false, "no request to respond to");
            }
        }
    }

    /// A request was polled and its response has not been queued whole.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        matches!(self.state, State::Answering | State::AnsweringLast)
    }

    /// Bytes of a head or its content have come, but not all: if time runs out now, the answer is 408.
    #[must_use]
    pub fn is_mid_head(&self) -> bool {
        matches!(self.state, State::Receiving(_)) || (self.state == State::Reading && !self.buffer.is_empty())
    }

    /// Whether the socket should be read: not while something pipelined already waits for a response to be done. So
    /// no more is buffered than one head and one read.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.is_answering() || self.buffer.is_empty()
    }

    /// What came behind the polled request: the first bytes of another protocol, after an upgrade.
    #[must_use]
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer.into()
    }

    fn next_request(&mut self, limits: &Limits) -> Result<Option<Request>, Fault> {
        if !self.scan.is_started() && !self.skip_empty_lines()? {
            return Ok(None);
        }
        let Some(head) = self.scan.advance(&self.buffer, limits)? else { return Ok(None) };
        self.scan = Scan::default();
        self.empty_lines = 0;
        // The request takes over the allocation where it can, so that nothing is held, or copied, twice.
        let bytes = if head.end == self.buffer.len() {
            std::mem::take(&mut self.buffer).freeze()
        } else {
            self.buffer.split_to(head.end).freeze()
        };
        let request = request::read(&bytes, head)?;
        match (&request.method, request.content) {
            (&Method::GET | &Method::HEAD, Content::Length(_) | Content::Chunked) => {
                Err(Fault::bad_request("A GET or HEAD request must not have a body here."))
            }
            _ => Ok(Some(request)),
        }
    }

    /// Skips empty lines before a start line. False while the first byte of a start line has not come.
    fn skip_empty_lines(&mut self) -> Result<bool, Fault> {
        loop {
            match self.buffer.as_ref() {
                [b'\r', b'\n', ..] if self.empty_lines == MAX_EMPTY_LINES => {
                    return Err(Fault::bad_request("Too many empty lines before the request."));
                }
                [b'\r', b'\n', ..] => {
                    self.empty_lines += 1;
                    self.buffer.advance(2);
                }
                [b'\r'] => return Ok(false),
                [] => {
                    self.buffer = BytesMut::new();
                    return Ok(false);
                }
                _ => return Ok(true),
            }
        }
    }
}

#[cfg(test)]
mod tests;
