//! The yardstick: the least that a single-threaded epoll server can do to broadcast.
//!
//! A turn reads and unmasks what has come from any socket, encodes it once into one batch, and gives that batch to every
//! socket with one `send()`. There are no rooms, no history, no limits, no timers, no checks of UTF-8; fragmented
//! messages end the connection. What a real server costs beyond this is what its features cost.
//!
//! Nothing is lost: what a socket does not take is kept for it, without a bound, so this is no server to expose.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use argh::FromArgs;
use loadtest::frame::{self, Opcode};
use loadtest::{handshake, options, process};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};

/// Room for reads, shared by all sockets.
const BUFFER_BYTES: usize = 256 * 1024;
/// What a client may send at once.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// The listener, among the event data that are otherwise slots.
const LISTENER: u64 = u64::MAX;

/// The bare-bones broadcast server that others are compared with.
#[derive(FromArgs)]
struct Options {
    /// port to listen on; 0 picks a free one (default 0)
    #[argh(option, default = "0")]
    port: u16,
}

fn main() -> ExitCode {
    let arguments = options::normalise(std::env::args().skip(1));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let options = match Options::from_args(&["yardstick"], &arguments) {
        Ok(options) => options,
        Err(exit) if exit.status.is_ok() => {
            let _ = writeln!(io::stdout(), "{}", exit.output.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(exit) => {
            let _ = writeln!(io::stderr(), "yardstick: {}", exit.output.lines().next().unwrap_or_default());
            return ExitCode::from(2);
        }
    };
    process::raise_file_limit();
    match Yardstick::listen(options.port).and_then(|mut yardstick| {
        loop {
            yardstick.turn()?;
        }
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            let _ = writeln!(io::stderr(), "yardstick: cannot serve port {}: {err}", options.port);
            ExitCode::FAILURE
        }
    }
}

/// One socket.
struct Member {
    fd: OwnedFd,
    state: State,
    /// The beginning of a head or frame whose end has not come yet.
    tail: Vec<u8>,
    /// What the socket has not taken.
    pending: Vec<u8>,
}

/// How far a socket has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The request is awaited.
    Asking,
    /// It hears and talks.
    Open,
    /// It is closed at the end of the turn, when no event can name its slot any more.
    Ended,
}

struct Yardstick {
    poll: OwnedFd,
    listener: OwnedFd,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    ended: Vec<usize>,
    buffer: Vec<u8>,
    /// What this turn has read, as it will be sent.
    batch: Vec<u8>,
    events: Vec<epoll::Event>,
}

impl Yardstick {
    /// Listens on all addresses and says so in one line on standard output.
    fn listen(port: u16) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
        net::listen(&listener, 4096)?;
        let port = SocketAddrV4::try_from(net::getsockname(&listener)?)?.port();
        writeln!(io::stdout(), "listening on http://127.0.0.1:{port}")?;

        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
        Ok(Yardstick {
            poll,
            listener,
            members: Vec::new(),
            free: Vec::new(),
            ended: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            batch: Vec::new(),
            events: Vec::with_capacity(4096),
        })
    }

    /// Waits, reads everything that is there, and sends it to everybody.
    fn turn(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
        for &epoll::Event { flags, data } in &events {
            match data.u64() {
                LISTENER => self.accept()?,
                slot => self.on_ready(slot as usize, flags),
            }
        }
        self.events = events;
        self.broadcast();
        while let Some(slot) = self.ended.pop() {
            self.members[slot] = None;
            self.free.push(slot);
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let fd = match net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(err) => return Err(err.into()),
            };
            sockopt::set_tcp_nodelay(&fd, true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.members.push(None);
                self.members.len() - 1
            });
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.poll, &fd, EventData::new_u64(slot as u64), interest)?;
            self.members[slot] = Some(Member { fd, state: State::Asking, tail: Vec::new(), pending: Vec::new() });
        }
    }

    fn on_ready(&mut self, slot: usize, flags: EventFlags) {
        let Some(member) = &mut self.members[slot] else { return };
        if flags.contains(EventFlags::OUT) && !member.pending.is_empty() {
            member.flush();
        }
        let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if flags.contains(EventFlags::IN) || hung_up {
            member.read(&mut self.buffer, &mut self.batch, hung_up);
        }
        if member.state == State::Ended {
            self.ended.push(slot);
        }
    }

    fn broadcast(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        for member in self.members.iter_mut().flatten() {
            if member.state != State::Open {
                continue;
            }
            if member.pending.is_empty() {
                // A socket that fails says so in an event as well, and is closed then.
                let sent = net::send(&member.fd, &self.batch, SendFlags::NOSIGNAL).unwrap_or(0);
                if sent < self.batch.len() {
                    member.pending.extend_from_slice(&self.batch[sent..]);
                }
            } else {
                member.pending.extend_from_slice(&self.batch);
            }
        }
        self.batch.clear();
    }
}

impl Member {
    /// Reads what there is and appends its messages to `batch`. A read that leaves room has emptied the socket, unless
    /// its end is still to be read.
    fn read(&mut self, buffer: &mut Vec<u8>, batch: &mut Vec<u8>, hung_up: bool) {
        while self.state != State::Ended {
            let kept = self.tail.len();
            if buffer.len() < 2 * kept {
                buffer.resize(2 * kept, 0);
            }
            match rustix::io::read(&self.fd, &mut buffer[kept..]) {
                Ok(0) => self.state = State::Ended,
                Ok(count) => {
                    if kept > 0 {
                        buffer[..kept].copy_from_slice(&self.tail);
                        self.tail.clear();
                    }
                    self.receive(&mut buffer[..kept + count], batch);
                    if kept + count < buffer.len() && !hung_up {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.state = State::Ended,
            }
        }
    }

    fn receive(&mut self, mut bytes: &mut [u8], batch: &mut Vec<u8>) {
        if self.state == State::Asking {
            let Some(head_bytes) = handshake::head_end(bytes) else {
                if bytes.len() > handshake::MAX_HEAD_BYTES {
                    self.state = State::Ended;
                }
                return self.tail.extend_from_slice(bytes);
            };
            let Some(response) = handshake::response_to(&bytes[..head_bytes]) else {
                self.state = State::Ended;
                return;
            };
            self.pending = response;
            self.flush();
            self.state = State::Open;
            bytes = &mut bytes[head_bytes..];
        }
        match take_frames(bytes, batch) {
            Some(taken) => self.tail.extend_from_slice(&bytes[taken..]),
            None => self.state = State::Ended,
        }
    }

    fn flush(&mut self) {
        // A socket that fails says so in an event as well, and is closed then.
        let sent = net::send(&self.fd, &self.pending, SendFlags::NOSIGNAL).unwrap_or(0);
        if sent == self.pending.len() {
            self.pending = Vec::new();
        } else {
            self.pending.drain(..sent);
        }
    }
}

/// Appends the messages in `bytes`, unmasked, to `batch` and returns how many bytes were whole frames; `None` if the
/// client closes or sends what is not understood here.
fn take_frames(bytes: &mut [u8], batch: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    while let Some(header) = frame::header(&bytes[at..]).ok()? {
        let start = at + header.header_bytes;
        let end = start + header.payload_bytes;
        if header.payload_bytes > MAX_MESSAGE_BYTES {
            return None;
        }
        if end > bytes.len() {
            break;
        }
        match (header.opcode, header.fin, header.mask) {
            (Opcode::Text | Opcode::Binary, true, Some(mask)) => {
                frame::push_header(batch, header.opcode, header.payload_bytes, None);
                let payload = batch.len();
                batch.extend_from_slice(&bytes[start..end]);
                frame::apply_mask(&mut batch[payload..], mask);
            }
            (Opcode::Ping | Opcode::Pong, ..) => {}
            _ => return None,
        }
        at = end;
    }
    Some(at)
}
