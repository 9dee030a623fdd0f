//! What one client could do to the others, step by step: the real reactor with sockets that exist in memory, a clock that
//! moves when the test says so, and turns that are counted.

mod heirs;
mod lives;
mod shares;
mod slow;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mio::Poll;

use crate::chat::entry::Epoch;
use crate::chat::identity::Identities;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::net::connection::{Connection, ConnectionId};
use crate::net::listener::{Listener, Sharing};
use crate::net::simulated::{SimulatedSocket, Wire};
use crate::net::transport::Transport;
use crate::site::{Root, Site};
use crate::ws::origin::OriginPolicy;

use super::Reactor;
use super::simulation::{masked, take_frame};
use super::talk::Gate;

/// Room for all that a test lets a client receive.
const WIDE: usize = 1 << 30;

/// A server under test.
struct Stand {
    reactor: Reactor,
    now: Instant,
    /// One for each answer of the thread that reads files.
    files: Receiver<()>,
}

/// A client's end.
#[derive(Clone)]
struct Peer {
    id: ConnectionId,
    wire: Rc<RefCell<Wire>>,
}

impl Stand {
    fn new(limits: Limits) -> Stand {
        Stand::with_site(Root::Embedded, limits)
    }

    fn with_folder(folder: &Path, limits: Limits) -> Stand {
        Stand::with_site(Root::Folder(folder.to_owned()), limits)
    }

    fn with_site(root: Root, limits: Limits) -> Stand {
        let journal = Journal::memory(&limits, Epoch(1));
        Stand::with(root, journal, limits)
    }

    fn with(root: Root, journal: Journal, limits: Limits) -> Stand {
        let now = Instant::now();
        let (wake, files) = channel();
        let site = Site::start(root, &limits, move || _ = wake.send(())).unwrap();
        let gate = Gate { origins: OriginPolicy::new(&[]).unwrap(), trusted_proxies: Vec::new(), refuses_raw: false };
        let identities = Identities::new([1; 32], [2; 32]);
        let reactor = Reactor::new(Poll::new().unwrap(), journal, identities, site, gate, limits, now);
        Stand { reactor, now, files }
    }

    /// Takes in a client that has room for so many bytes.
    fn connect(&mut self, capacity: usize) -> Peer {
        let wire = Rc::new(RefCell::new(Wire { capacity, ..Wire::default() }));
        let slot = self.reactor.connections.next_slot();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        self.reactor.admit(Transport::Simulated(SimulatedSocket(Rc::clone(&wire))), address, self.now);
        Peer { id: self.reactor.connections.at_mut(slot).unwrap().id, wire }
    }

    /// Takes in a member of the lobby.
    fn member(&mut self, capacity: usize) -> Peer {
        let peer = self.connect(WIDE);
        self.send(&peer, UPGRADE);
        self.turn();
        let received = self.received(&peer);
        assert!(received.starts_with("HTTP/1.1 101 "), "{received}");
        peer.wire.borrow_mut().capacity = capacity;
        peer
    }

    /// What a client sends arrives.
    fn send(&mut self, peer: &Peer, bytes: impl AsRef<[u8]>) {
        peer.wire.borrow_mut().to_server.extend(bytes.as_ref());
        self.reactor.connections.mark(peer.id.slot, true, false, false);
    }

    fn say(&mut self, peer: &Peer, text: &str) {
        self.send(peer, masked(0x81, text.as_bytes()));
    }

    /// The client ends its stream and still reads.
    fn half_close(&mut self, peer: &Peer) {
        peer.wire.borrow_mut().client_ended = true;
        self.reactor.connections.mark(peer.id.slot, true, false, true);
    }

    fn reset(&mut self, peer: &Peer) {
        peer.wire.borrow_mut().is_reset = true;
        self.reactor.connections.mark(peer.id.slot, true, true, true);
    }

    /// The client takes up to so many bytes, which makes room for more.
    fn take(&mut self, peer: &Peer, most: usize) -> Vec<u8> {
        let mut wire = peer.wire.borrow_mut();
        let taken = most.min(wire.to_client.len());
        let bytes = wire.to_client.drain(..taken).collect();
        if wire.writer_waits && wire.to_client.len() < wire.capacity {
            wire.writer_waits = false;
            self.reactor.connections.mark(peer.id.slot, false, true, false);
        }
        bytes
    }

    /// All that has come, as text.
    fn received(&mut self, peer: &Peer) -> String {
        String::from_utf8(self.take(peer, usize::MAX)).expect("text")
    }

    /// All frames that have come.
    fn frames(&mut self, peer: &Peer) -> Vec<(u8, Vec<u8>)> {
        let mut bytes = self.take(peer, usize::MAX);
        let frames = std::iter::from_fn(|| take_frame(&mut bytes)).collect();
        assert!(bytes.is_empty(), "half a frame");
        frames
    }

    fn turn(&mut self) {
        self.reactor.turn(self.now);
    }

    fn pass(&mut self, time: Duration) {
        // In steps that no timer can be missed in.
        for _ in 0..10 {
            self.now += time / 10;
            self.turn();
        }
    }

    /// Turns until nothing is carried over; how many there were.
    fn settle(&mut self) -> usize {
        let mut turns = 0;
        while self.reactor.is_carried_over() {
            self.turn();
            turns += 1;
            assert!(turns < 10_000, "it never comes to rest");
        }
        turns
    }

    /// Waits for the thread that reads files, without giving its answer to the loop yet.
    fn await_file(&self) {
        self.files.recv_timeout(Duration::from_secs(20)).expect("an answer of the worker");
    }

    /// A series as `/metrics` would tell it.
    fn metric(&self, series: &str) -> u64 {
        let text = self.reactor.metrics_text(self.now);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{series} is not in {text}")).parse().unwrap()
    }

    fn connection(&self, peer: &Peer) -> Option<&Connection> {
        self.reactor.connections.get(peer.id)
    }
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// The worker's answer comes in the turn in which its connection is reset: after the reset, before the slot is given back.
#[test]
fn what_is_made_for_a_connection_that_was_reset_is_not_counted_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small"), [b'x'; 5_000]).unwrap();
    std::fs::write(folder.path().join("large"), [b'x'; 500_000]).unwrap();
    for file in ["/small", "/large", "/nothing"] {
        let mut stand = Stand::with_folder(folder.path(), Limits::default());
        let peer = stand.connect(1_000);
        stand.send(&peer, get(file));
        stand.turn();
        stand.await_file();
        stand.reset(&peer);
        stand.turn();
        assert!(stand.connection(&peer).is_none(), "{file}");
        assert_eq!((stand.reactor.connections.outbox_bytes(), stand.reactor.streams.len()), (0, 0), "{file}");
    }
}

/// Every flooder alone would use up the budget of a turn.
#[test]
fn a_post_that_is_refused_at_once_does_not_hold_up_what_came_behind_it() {
    let mut stand = Stand::new(Limits::default());
    let peer = stand.connect(100_000);
    // There is nothing in it.
    let post = "POST /rooms/r/messages HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n ";
    stand.send(&peer, format!("{post}{post}{}", get("/healthz")));
    stand.settle();
    let received = stand.received(&peer);
    let statuses = received.split("HTTP/1.1 ").skip(1).map(|response| &response[..3]);
    assert_eq!(statuses.collect::<Vec<_>>(), ["400", "400", "200"], "{received}");
}

fn ended(peer: &Peer) -> bool {
    peer.wire.borrow().server_ended
}

#[test]
fn whoever_asks_while_the_server_drains_is_answered_once_and_none_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small"), "small").unwrap();
    std::fs::write(folder.path().join("film"), vec![b'x'; 500_000]).unwrap();
    let mut stand = Stand::with_folder(folder.path(), Limits::default());
    let [resting, asking, upgrading, slow, downloading] = [(); 5].map(|()| stand.connect(WIDE));
    stand.send(&upgrading, &UPGRADE[..20]);
    stand.send(&slow, &get("/small")[..20]);
    stand.send(&resting, get("/healthz"));
    downloading.wire.borrow_mut().capacity = 1_000;
    stand.send(&downloading, get("/film").repeat(2));
    stand.turn();
    stand.await_file();
    stand.turn();
    stand.settle();
    assert!(stand.received(&resting).starts_with("HTTP/1.1 200 "));

    stand.reactor.begin_draining(stand.now);
    // This comes in the turn in which it would have been said farewell to.
    stand.send(&asking, &get("/small")[..20]);
    stand.turn();
    assert!(ended(&resting) && !ended(&asking) && !ended(&upgrading) && !ended(&slow) && !ended(&downloading));
    stand.send(&slow, &get("/small")[20..]);
    stand.send(&upgrading, &UPGRADE[20..]);
    stand.turn();
    stand.await_file();
    stand.send(&asking, &get("/small").repeat(2).as_bytes()[20..]);
    stand.turn();
    let mut film = stand.take(&downloading, usize::MAX);
    downloading.wire.borrow_mut().capacity = WIDE;
    for _ in 0..10 {
        stand.turn();
        film.extend(stand.take(&downloading, usize::MAX));
    }
    assert!(film.starts_with(b"HTTP/1.1 200 ") && film.len() > 500_000 && ended(&downloading), "{}", film.len());
    assert!(film.len() < 501_000, "one response and no second");
    for (peer, start) in [(&asking, "HTTP/1.1 200 "), (&slow, "HTTP/1.1 200 "), (&upgrading, "HTTP/1.1 503 ")] {
        let answer = stand.received(peer);
        assert!(answer.starts_with(start) && answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(ended(peer), "{answer}");
    }
    assert!(stand.reactor.hub.is_empty());
    assert_eq!(stand.metric("chat_refusals_total{cause=\"draining\"}"), 1);
}

/// Others use up what a turn may read.
#[test]
fn whoever_has_asked_before_the_server_drains_is_answered_though_there_was_no_time_to_read_it() {
    let mut stand = Stand::new(Limits { read_bytes_per_turn: 100, ..Limits::default() });
    let [flooding, asking, resting] = [(); 3].map(|()| stand.connect(WIDE));
    for peer in [&asking, &resting] {
        stand.send(peer, get("/favicon.svg"));
    }
    stand.settle();
    stand.take(&asking, usize::MAX);
    stand.send(&flooding, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(500)));
    stand.send(&asking, get("/favicon.svg"));
    stand.reactor.begin_draining(stand.now);
    stand.turn();
    assert!(ended(&resting) && !ended(&asking) && stand.take(&asking, 1).is_empty());
    stand.settle();
    let answer = stand.received(&asking);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(ended(&asking) && stand.reactor.farewells.is_empty());
}

#[test]
fn whoever_ended_its_stream_before_its_upgrade_came_to_pass_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small"), "small").unwrap();
    let mut stand = Stand::with_folder(folder.path(), Limits::default());
    let peer = stand.connect(WIDE);
    stand.send(&peer, get("/small") + UPGRADE);
    stand.half_close(&peer);
    stand.turn();
    stand.turn();
    stand.await_file();
    stand.turn();
    let answer = stand.received(&peer);
    assert!(answer.contains("\r\n\r\nsmallHTTP/1.1 101 "), "{answer}");
    stand.settle();
    assert!(stand.connection(&peer).is_none() && stand.reactor.hub.is_empty());
}
