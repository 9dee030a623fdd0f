//! One client's WebSocket after the upgrade: bytes in, messages out.
//!
//! Frames are decoded by tungstenite's [`WebSocketContext`] over an in-memory stream. A context has a buffer, so none is
//! kept where it can be helped: `scan` cuts the input into runs of whole frames, and each run goes through a
//! context of its own, on the stack, with a buffer as long as the run needs. Only two things outlive a call:
//!
//! - the bytes of a frame that is not whole yet, never more than have come (twice, while they grow): a length that a
//!   header only promises costs nothing;
//! - the context of a fragmented message that is not whole yet, which holds its fragments, and a buffer as long as the
//!   longest of them.
//!
//! So a client that rests between two messages costs the size of [`Session`] and nothing else, and what a large message
//! took is given back with it. Nothing of one client ever stands in a buffer that another one uses.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

use super::frame;
use super::scan::{self, Header, Run};
use crate::close::CloseReason;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;

/// Buffer of the context of a fragmented message: it is kept, and fed seldom.
const KEPT_BUFFER_BYTES: usize = 128;
/// Buffer of a run at most; more is decoded piece by piece. It bounds what a message of some bytes can keep alive.
const RUN_BUFFER_BYTES: usize = 16 * 1024;

/// What all sessions of a loop share: the configuration of their contexts, and space for passing work.
#[derive(Debug)]
pub struct Workbench {
    config: WebSocketConfig,
    /// Payload bytes of an unfinished frame, unmasked in order to be looked at.
    unmasked: Vec<u8>,
}

impl Workbench {
    /// A workbench for sessions that take messages of at most [`max_message_bytes`](crate::limits::Limits::max_message_bytes),
    /// whole or in fragments.
    #[must_use]
    pub fn new(max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .write_buffer_size(0)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        Workbench { config, unmasked: Vec::new() }
    }

    fn max_message_bytes(&self) -> usize {
        self.config.max_message_size.expect("set in `new`")
    }

    fn context(&self, buffer_bytes: usize) -> WebSocketContext {
        WebSocketContext::new(Role::Server, Some(self.config.read_buffer_size(buffer_bytes)))
    }
}

/// What a client has done.
///
/// The payloads share a buffer with their neighbours. Whoever keeps one beyond the turn must copy it, or it keeps
/// that buffer (up to 16 KiB and one message) alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole text message; the bytes are UTF-8.
    Text(Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// The peer has sent its close frame; nothing after it is read.
    Closed {
        /// The code it gave, if any.
        code: Option<u16>,
        /// The close frame that answers it, the last thing to be sent. It is not in the output of
        /// [`Session::receive`], because what this turn broadcasts comes before it. `None` if our own close frame has
        /// gone before: then the handshake is complete.
        reply: Option<Bytes>,
    },
    /// The peer has broken a rule; nothing after that is read. [`Session::close`] is still to be called, with the code of
    /// this reason.
    Fault(CloseReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Both sides may speak.
    Open,
    /// The peer has broken a rule. We ignore it from here on and have not told it yet.
    Faulted,
    /// We have sent a close frame and wait for the peer's.
    Closing,
    /// A close frame has been sent (or handed out as a reply), and nothing more is read.
    Closed,
}

/// A client's WebSocket. Pings and pongs are handled within and give no events.
///
/// The order in which it ends: after [`Event::Closed`] send its reply; after [`Event::Fault`] call [`close`](Self::close)
/// with the reason's code; to end it from our side call [`close`](Self::close) and wait for [`Event::Closed`]. In each
/// case at most one close frame is made, and nothing after it.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    /// The beginning of a frame.
    partial: Option<Box<Partial>>,
    /// The context of a fragmented message, from its first frame until its last.
    message: Option<Box<WebSocketContext>>,
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// A session right after the upgrade.
    #[must_use]
    pub fn new() -> Self {
        Session { phase: Phase::Open, partial: None, message: None }
    }

    /// Whether messages may be sent: neither side has closed and no rule was broken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether nothing more is read from the peer: it has closed, or has broken a rule.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        matches!(self.phase, Phase::Faulted | Phase::Closed)
    }

    /// Whether the session waits for the rest of a frame or message, and so holds memory.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        self.partial.is_some() || self.message.is_some()
    }

    /// Takes what was read from the socket, all of it, in pieces of any size, and appends what it means to `events`, in
    /// order. Pongs are appended to `output`, in the order of their pings and never longer than them.
    ///
    /// After [`close`](Self::close) only [`Event::Closed`] and [`Event::Fault`] come, and no pongs. After either of them
    /// input is ignored.
    pub fn receive(&mut self, input: &[u8], bench: &mut Workbench, events: &mut Vec<Event>, output: &mut Vec<u8>) {
        let (first_event, first_byte) = (events.len(), output.len());
        let closing = match self.phase {
            Phase::Open => false,
            Phase::Closing => true,
            Phase::Faulted | Phase::Closed => return,
        };
        let ended = self.decode(input, bench, events, output);
        if closing {
            events.truncate(first_event);
            output.truncate(first_byte);
        }
        let (event, phase) = match ended {
            Ok(None) => return,
            Ok(Some(PeerClose { code })) => {
                let reply = (!closing).then(|| {
                    let mut reply = Vec::new();
                    frame::close(code, "", &mut reply);
                    Bytes::from(reply)
                });
                (Event::Closed { code, reply }, Phase::Closed)
            }
            Err(reason) => (Event::Fault(reason), if closing { Phase::Closed } else { Phase::Faulted }),
        };
        events.push(event);
        *self = Session { phase, partial: None, message: None };
    }

    /// Ends the session from our side: appends a close frame, the first time and unless the peer closed before. After a
    /// fault that was all; else the peer's close frame is waited for.
    pub fn close(&mut self, code: u16, words: &str, output: &mut Vec<u8>) {
        self.phase = match self.phase {
            Phase::Open => Phase::Closing,
            Phase::Faulted => Phase::Closed,
            Phase::Closing | Phase::Closed => return,
        };
        frame::close(Some(code), words, output);
    }

    /// Appends an empty ping if the session is open.
    pub fn ping(&self, output: &mut Vec<u8>) {
        if self.is_open() {
            frame::ping(&[], output);
        }
    }

    fn decode(
        &mut self,
        mut input: &[u8],
        bench: &mut Workbench,
        events: &mut Vec<Event>,
        output: &mut Vec<u8>,
    ) -> Result<Option<PeerClose>, CloseReason> {
        let max_message_bytes = bench.max_message_bytes();
        if let Some(mut partial) = self.partial.take() {
            input = partial.fill(input, self.message.is_some(), max_message_bytes)?;
            match scan::next_run(&partial.bytes, self.message.is_some(), max_message_bytes)? {
                None => {
                    partial.check_text(&mut bench.unmasked)?;
                    self.partial = Some(partial);
                    return Ok(None);
                }
                Some(run) => {
                    if let Some(close) = self.take_run(&partial.bytes, run, bench, events, output)? {
                        return Ok(Some(close));
                    }
                }
            }
        }
        while !input.is_empty() {
            let Some(run) = scan::next_run(input, self.message.is_some(), max_message_bytes)? else {
                let mut partial = Partial { bytes: input.to_vec(), checked_text_bytes: 0 };
                partial.check_text(&mut bench.unmasked)?;
                self.partial = Some(Box::new(partial));
                break;
            };
            let (frames, rest) = input.split_at(run.len);
            if let Some(close) = self.take_run(frames, run, bench, events, output)? {
                return Ok(Some(close));
            }
            input = rest;
        }
        Ok(None)
    }

    /// Has the frames of a run decoded by the context they need.
    fn take_run(
        &mut self,
        frames: &[u8],
        run: Run,
        bench: &Workbench,
        events: &mut Vec<Event>,
        output: &mut Vec<u8>,
    ) -> Result<Option<PeerClose>, CloseReason> {
        let mut stream = Memory { input: frames, output };
        if self.message.is_none() && !run.unfinished {
            // Room for one frame more than it will hold: tungstenite reserves space for a payload even if that is in the
            // buffer already.
            let buffer_bytes = (run.len + run.longest).min(RUN_BUFFER_BYTES);
            return drive(&mut bench.context(buffer_bytes), &mut stream, run, events);
        }
        let context = self.message.get_or_insert_with(|| Box::new(bench.context(KEPT_BUFFER_BYTES)));
        let ended = drive(context, &mut stream, run, events);
        if !run.unfinished {
            self.message = None;
        }
        ended
    }
}

/// The peer's close frame.
struct PeerClose {
    code: Option<u16>,
}

/// Reads all messages of a run. A context that has given a close frame or a fault is of no further use.
fn drive(
    context: &mut WebSocketContext,
    stream: &mut Memory<'_>,
    run: Run,
    events: &mut Vec<Event>,
) -> Result<Option<PeerClose>, CloseReason> {
    // One look further would find the end of the input; but only fragments without an end need it.
    let mut reads_left = if run.unfinished { usize::MAX } else { run.messages };
    while reads_left > 0 {
        match context.read(stream) {
            Ok(Message::Text(text)) => events.push(Event::Text(text.into())),
            Ok(Message::Binary(payload)) => events.push(Event::Binary(payload)),
            Ok(Message::Close(close)) => return Ok(Some(PeerClose { code: close.map(|close| close.code.into()) })),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                debug_assert!(run.unfinished, "the run ends with a whole message");
                break;
            }
            Err(error) => return Err(reason_of(&error)),
        }
        reads_left -= 1;
    }
    // The pong that answers the last frame.
    context.flush(stream).map_err(|error| reason_of(&error))?;
    Ok(None)
}

fn reason_of(error: &Error) -> CloseReason {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseReason::MessageTooBig,
        Error::Utf8(_) => CloseReason::InvalidUtf8,
        _ => CloseReason::Protocol,
    }
}

/// The beginning of a frame, not whole yet.
#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    /// Payload bytes at the front that are known to be UTF-8, if the frame begins a text message.
    checked_text_bytes: usize,
}

impl Partial {
    /// Takes from `input` what belongs to this frame, and gives back the rest.
    fn fill<'i>(
        &mut self,
        mut input: &'i [u8],
        inside: bool,
        max_message_bytes: usize,
    ) -> Result<&'i [u8], CloseReason> {
        let header = loop {
            if let Some(header) = Header::parse(&self.bytes) {
                break header;
            }
            if input.is_empty() {
                return Ok(input);
            }
            input = self.take_until(scan::header_len(&self.bytes), input);
        };
        header.check(inside, max_message_bytes)?;
        Ok(self.take_until(header.frame_len(), input))
    }

    fn take_until<'i>(&mut self, len: usize, input: &'i [u8]) -> &'i [u8] {
        let (ours, rest) = input.split_at(input.len().min(len - self.bytes.len()));
        let needed = self.bytes.len() + ours.len();
        if needed > self.bytes.capacity() {
            // Twice as much as has come, but never more than the frame will need.
            let capacity = needed.max(2 * self.bytes.len()).min(len);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(ours);
        rest
    }

    /// Finds broken UTF-8 in a text message as soon as it comes. tungstenite would find it at the end of the frame;
    /// RFC 6455, section 8.1, asks for it at whatever moment it is seen, and until then the bytes would be held.
    ///
    /// Only the first frame of a message is looked at: where a later one begins, a character may be half told.
    fn check_text(&mut self, unmasked: &mut Vec<u8>) -> Result<(), CloseReason> {
        let Some(header) = Header::parse(&self.bytes) else { return Ok(()) };
        let Some(mut mask) = header.mask_of_text() else { return Ok(()) };
        mask.rotate_left(self.checked_text_bytes % 4);
        unmasked.clear();
        unmasked.extend_from_slice(&self.bytes[header.len() + self.checked_text_bytes..]);
        unmask(unmasked, mask);
        match std::str::from_utf8(unmasked) {
            Ok(text) => self.checked_text_bytes += text.len(),
            Err(error) if error.error_len().is_some() => return Err(CloseReason::InvalidUtf8),
            Err(error) => self.checked_text_bytes += error.valid_up_to(),
        }
        Ok(())
    }
}

/// Removes the mask (RFC 6455, section 5.3), eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

/// The stream that tungstenite reads from and writes to.
struct Memory<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
