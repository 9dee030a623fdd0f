//! A client's end of a connection: what it has still to send, what it has received, and how it reads; and a WebSocket on
//! top of that.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::net::connection::ConnectionId;
use crate::net::simulated::Wire;

use super::scene::Scene;

/// How a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temper {
    /// All, sooner or later.
    Eager,
    /// A few bytes now and then.
    Slow,
    /// Nothing at all.
    Stuck,
}

impl Temper {
    pub(super) fn any(rng: &mut fastrand::Rng) -> Temper {
        *rng.choice(&[Temper::Eager, Temper::Eager, Temper::Eager, Temper::Slow, Temper::Stuck])
            .expect("there are five")
    }

    /// Of somebody who falls behind more often than others. Whoever is stuck for long is cut off before that.
    pub(super) fn lazy(rng: &mut fastrand::Rng) -> Temper {
        *rng.choice(&[Temper::Eager, Temper::Slow, Temper::Slow, Temper::Slow, Temper::Stuck]).expect("there are five")
    }
}

/// A client's end of a connection to an instance.
pub(super) struct Line {
    pub(super) wire: Rc<RefCell<Wire>>,
    pub(super) id: ConnectionId,
    /// Which instance, and which of the processes that it was.
    pub(super) at: (usize, u32),
    pub(super) temper: Temper,
    /// What it will send, of which some has gone onto the wire.
    pub(super) unsent: Vec<u8>,
    /// What it has received and not understood yet.
    pub(super) received: Vec<u8>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = self.wire.borrow();
        let (to_server, to_client) = (wire.to_server.len() + self.unsent.len(), wire.to_client.len());
        write!(
            f,
            "{:?} at {:?}, {:?}, {to_server} bytes to the server, {to_client} back, ended by client {} by server {}",
            self.id, self.at, self.temper, wire.client_ended, wire.server_ended
        )
    }
}

impl Line {
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.unsent.extend_from_slice(bytes.as_ref());
    }

    /// Some of what it has to say arrives, and it takes as much as its temper allows. The edges that follow are raised
    /// once each, as with a socket.
    pub(super) fn exchange(&mut self, scene: &mut Scene) {
        let mut wire = self.wire.borrow_mut();
        if wire.is_reset {
            return;
        }
        if scene.is_quiet {
            // Else a large page would take too many steps to come through.
            wire.capacity = usize::MAX;
        }
        let mut has_input = false;
        if !wire.client_ended && !wire.is_closed && !self.unsent.is_empty() {
            let piece = match scene.is_quiet {
                true => self.unsent.len(),
                false => scene.rng.usize(..=self.unsent.len().min(800)),
            };
            wire.to_server.extend(self.unsent.drain(..piece));
            has_input = piece > 0;
        }
        let most = match self.temper {
            _ if scene.is_quiet => wire.to_client.len(),
            Temper::Eager => scene.rng.usize(..=wire.to_client.len()),
            Temper::Slow if scene.rng.u8(..) < 40 => wire.to_client.len().min(100),
            Temper::Slow | Temper::Stuck => 0,
        };
        self.received.extend(wire.to_client.drain(..most));
        let has_room = wire.writer_waits && wire.to_client.len() < wire.capacity;
        if has_room {
            wire.writer_waits = false;
        }
        drop(wire);
        if has_input || has_room {
            scene.edge(self, has_input, has_room, false);
        }
    }

    /// The connection is cut; what was under way is lost.
    pub(super) fn cut(&mut self, scene: &mut Scene) {
        let mut wire = self.wire.borrow_mut();
        wire.is_reset = true;
        wire.to_client.clear();
        drop(wire);
        scene.edge(self, true, true, true);
    }

    /// The client ends its stream and still reads.
    pub(super) fn half_close(&mut self, scene: &mut Scene) {
        self.wire.borrow_mut().client_ended = true;
        self.unsent.clear();
        scene.edge(self, true, false, true);
    }

    /// The client closes its socket.
    pub(super) fn hang_up(mut self, scene: &mut Scene) {
        let is_told = self.wire.borrow().server_ended;
        if is_told {
            self.half_close(scene);
        } else {
            self.cut(scene);
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.wire.borrow().client_ended
    }

    /// Nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        let wire = self.wire.borrow();
        wire.is_reset || (wire.server_ended && wire.to_client.is_empty())
    }

    /// The server has closed the socket.
    pub(super) fn is_closed(&self) -> bool {
        self.wire.borrow().is_closed
    }

    /// Takes a whole response off the front of what was received.
    pub(super) fn take_response(&mut self) -> Option<Response> {
        loop {
            let head = self.received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            let text = std::str::from_utf8(&self.received[..head]).expect("a head is text");
            let status = text.strip_prefix("HTTP/1.1 ").expect(text)[..3].parse().expect(text);
            if status == 100 {
                self.received.drain(..head);
                continue;
            }
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            let length = field("Content-Length: ").map_or(0, |length| length.parse().expect(text));
            let is_last = field("Connection: ") == Some("close");
            if self.received.len() < head + length {
                return None;
            }
            let content = self.received[head..head + length].to_vec();
            self.received.drain(..head + length);
            return Some(Response { status, is_last, content });
        }
    }
}

/// What came back for a request.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) is_last: bool,
    pub(super) content: Vec<u8>,
}

impl Response {
    /// The server has no place for whoever asked, or is about to stop.
    pub(super) fn is_refusal(&self) -> bool {
        self.status == 503 && self.is_last
    }
}

/// A WebSocket of a client. It answers pings and close frames by itself.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) line: Line,
    pub(super) is_upgraded: bool,
    pub(super) closed_with: Option<u16>,
}

/// What a WebSocket has heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// The upgrade was refused with this status.
    Refused(u16),
    /// It is a WebSocket now.
    Upgraded,
    /// A message: its opcode with the bit that says that it is whole, and its content.
    Message(u8, Vec<u8>),
    /// The server closes, with this code.
    Closed(u16),
}

impl Socket {
    /// Asks for an upgrade.
    pub(super) fn new(mut line: Line, target: &str, protocol: Option<&str>) -> Socket {
        let offered = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        line.send(format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{offered}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        Socket { line, is_upgraded: false, closed_with: None }
    }

    /// The next thing that was received whole.
    pub(super) fn poll(&mut self) -> Option<Heard> {
        if !self.is_upgraded {
            let end = self.line.received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            if self.line.received.starts_with(b"HTTP/1.1 101 ") {
                self.line.received.drain(..end);
                self.is_upgraded = true;
                return Some(Heard::Upgraded);
            }
            return self.line.take_response().map(|response| Heard::Refused(response.status));
        }
        loop {
            let (opcode, payload) = take_frame(&mut self.line.received)?;
            assert!(self.closed_with.is_none(), "a frame follows the close frame: {opcode:#x} {payload:?}");
            match opcode {
                0x81 | 0x82 => return Some(Heard::Message(opcode, payload)),
                0x88 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    self.closed_with = Some(code);
                    self.line.send(masked(0x88, &payload[..2]));
                    return Some(Heard::Closed(code));
                }
                0x89 => self.line.send(masked(0x8a, &payload)),
                other => panic!("an unexpected frame {other:#x}"),
            }
        }
    }
}

/// A client's frame, masked with a key that is easy to read.
pub(in crate::reactor) fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![head];
    match u8::try_from(payload.len()) {
        Ok(len @ 0..=125) => frame.push(0x80 | len),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    let key = [1, 2, 3, 4];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Takes a whole server's frame off the front, if there is one.
pub(in crate::reactor) fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (head, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        len @ 0..=125 => (2, usize::from(len)),
        len => panic!("no message is that long, nor is a server's frame masked: {len}"),
    };
    if bytes.len() < head + len {
        return None;
    }
    let opcode = bytes[0];
    let payload = bytes[head..head + len].to_vec();
    bytes.drain(..head + len);
    Some((opcode, payload))
}
