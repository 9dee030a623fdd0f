//! What one client could do to the others, step by step: the real reactor with sockets that exist in memory, a clock that
//! moves when the test says so, and turns that are counted.

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
        let now = Instant::now();
        let (wake, files) = channel();
        let site = Site::start(root, &limits, move || _ = wake.send(())).unwrap();
        let gate = Gate { origins: OriginPolicy::new(&[]).unwrap(), trusted_proxies: Vec::new(), refuses_raw: false };
        let journal = Journal::memory(&limits, Epoch(1));
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

#[test]
fn many_downloads_make_no_long_turn_and_share_it() {
    const CLIENTS: usize = 20;
    const LENGTH: usize = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("film"), vec![b'x'; LENGTH]).unwrap();
    // High water above the file: nothing but the budget stops a download that is in memory.
    let limits = Limits {
        outbox_high_water_bytes: 2 * LENGTH,
        file_piece_bytes: 4_096,
        stream_bytes_per_turn: 50_000,
        ..Limits::default()
    };
    let most = limits.stream_bytes_per_turn + limits.file_piece_bytes;
    let mut stand = Stand::with_folder(folder.path(), limits);
    let peers: Vec<Peer> = (0..CLIENTS).map(|_| stand.connect(WIDE)).collect();
    for peer in &peers {
        stand.send(peer, get("/film"));
    }
    let came = |peer: &Peer| peer.wire.borrow().to_client.len();
    let (mut before, mut turns) = (0, 0);
    while peers.iter().any(|peer| came(peer) < LENGTH) {
        if !stand.reactor.is_carried_over() {
            stand.await_file();
        }
        stand.turn();
        let sum = peers.iter().map(came).sum::<usize>();
        // Heads are not counted.
        assert!(sum - before <= most + CLIENTS * 1_000, "{} bytes in one turn", sum - before);
        (before, turns) = (sum, turns + 1);
        assert!(stand.metric("chat_open_files") <= 1, "one for all");
        if turns == 2 * CLIENTS {
            let least = peers.iter().map(came).min().unwrap();
            assert!(least >= 40_000, "everybody has had a turn: {least}");
        }
        assert!(turns < 10 * CLIENTS * LENGTH / 50_000, "it goes on and on");
    }
    stand.settle();
    assert!(stand.metric("chat_spent_budgets_total{budget=\"streams\"}") >= (CLIENTS * LENGTH / 60_000) as u64);
    assert_eq!((stand.metric("chat_streamed_responses"), stand.metric("chat_open_files")), (0, 0));
}

/// So many pieces that one call for each, within the other, would be too deep.
#[test]
fn a_download_of_many_pieces_in_one_turn_is_a_loop() {
    const LENGTH: usize = 24 << 20;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("film"), vec![b'x'; LENGTH]).unwrap();
    let limits = Limits {
        outbox_high_water_bytes: 2 * LENGTH,
        file_piece_bytes: 1_024,
        stream_bytes_per_turn: 2 * LENGTH,
        ..Limits::default()
    };
    let mut stand = Stand::with_folder(folder.path(), limits);
    let peer = stand.connect(0);
    stand.send(&peer, get("/film"));
    let waiting = |stand: &Stand| stand.connection(&peer).unwrap().outbox.len();
    while waiting(&stand) < LENGTH {
        stand.turn();
        if waiting(&stand) < LENGTH {
            stand.await_file();
        }
    }
    assert!(stand.reactor.streams.is_empty());
}

#[test]
fn whoever_pipelines_without_end_has_a_share_of_each_turn() {
    let limits = Limits { requests_per_turn: 40, ..Limits::default() };
    let most = limits.read_bytes_per_connection;
    for target in ["/healthz", "/", "/metrics"] {
        let mut stand = Stand::new(limits.clone());
        let flooders: Vec<Peer> = (0..10).map(|_| stand.connect(WIDE)).collect();
        let request = get(target);
        for peer in &flooders {
            stand.send(peer, request.repeat(10_000));
        }
        let quiet = stand.connect(WIDE);
        let count = |peer: &Peer| {
            let wire = peer.wire.borrow();
            let bytes = wire.to_client.as_slices();
            assert!(bytes.1.is_empty(), "nothing was taken");
            bytes.0.windows(9).filter(|window| window == b"HTTP/1.1 ").count()
        };
        let mut answered = [0; 10];
        for turn in 0..30 {
            if turn == 5 {
                stand.send(&quiet, get("/healthz"));
            }
            stand.turn();
            let now: Vec<usize> = flooders.iter().map(count).collect();
            let news: Vec<usize> = now.iter().zip(answered).map(|(now, before)| now - before).collect();
            answered.copy_from_slice(&now);
            let in_all = news.iter().sum::<usize>();
            assert!((1..=40).contains(&in_all) && news.iter().all(|it| *it <= 16), "{target}: {news:?}");
            for (peer, answered) in flooders.iter().zip(&answered) {
                let read = 10_000 * request.len() - peer.wire.borrow().to_server.len();
                let waits = read - answered * request.len();
                assert!(waits <= most, "{target}: {waits} bytes of requests wait in memory");
            }
            if turn == 5 + 4 {
                assert_eq!(count(&quiet), 1, "{target}: everybody has had a turn");
            }
        }
        assert_eq!(stand.metric("chat_spent_budgets_total{budget=\"requests\"}"), 30);
        let least = answered.iter().min().unwrap();
        assert!(2 * least >= *answered.iter().max().unwrap(), "{target}: {answered:?}");
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

#[test]
fn a_quiet_member_is_read_however_many_flood() {
    const FLOODERS: usize = 12;
    for max_drafts_in_flight in [10_000, 1] {
        let limits = Limits {
            read_bytes_per_connection: 500,
            read_bytes_per_turn: 1_000,
            max_drafts_in_flight,
            ..Limits::default()
        };
        let mut stand = Stand::new(limits);
        let flooders: Vec<Peer> = (0..FLOODERS).map(|_| stand.member(WIDE)).collect();
        let quiet = stand.member(WIDE);
        let mut worst = 0;
        for round in 0..20 {
            for peer in &flooders {
                let missing = 10_000 - peer.wire.borrow().to_server.len();
                stand.send(peer, vec![masked(0x82, &[0; 94]); missing / 100].concat());
            }
            stand.say(&quiet, &format!("round {round}"));
            let mut turns = 0;
            while !peer_has_heard(&mut stand, &quiet, &format!("round {round}")) {
                stand.turn();
                turns += 1;
                assert!(turns < 100, "{max_drafts_in_flight} drafts: the quiet member starves");
            }
            worst = worst.max(turns);
        }
        assert!(stand.metric("chat_spent_budgets_total{budget=\"reads\"}") > 0 || max_drafts_in_flight == 1);
        // Two are read in a turn, one if the journal takes no more than one draft.
        assert!(worst <= FLOODERS + 2, "{max_drafts_in_flight} drafts: {worst} turns");
    }
}

fn peer_has_heard(stand: &mut Stand, peer: &Peer, text: &str) -> bool {
    stand.frames(peer).iter().any(|(opcode, payload)| *opcode == 0x81 && payload == text.as_bytes())
}

/// Edges come while it is parked; and while it is, its silence is ours.
#[test]
fn whoever_is_parked_is_parked_once_and_not_pinged() {
    let limits = Limits { max_drafts_in_flight: 1, ..Limits::default() };
    let interval = limits.ping_interval;
    let mut stand = Stand::new(limits);
    let [first, second] = [(); 2].map(|()| stand.member(WIDE));
    // Somebody's draft is on its way and does not come back.
    let draft = stand.reactor.hub.draft(
        super::member_id(first.id),
        crate::chat::dialect::Message::Text(b"held up"),
        crate::chat::entry::Timestamp(0),
    );
    for _ in 0..10 {
        stand.reactor.journal.append(draft.clone().unwrap());
        stand.say(&second, "waits");
        stand.reactor.read(stand.now);
        assert_eq!(stand.metric("chat_held_connections"), 1);
        stand.now += interval;
        stand.reactor.expire(stand.now);
        stand.reactor.flush(stand.now);
    }
    assert_eq!(stand.frames(&second), [], "neither a ping nor a farewell");
    stand.turn();
    assert_eq!((stand.reactor.connections.held(), stand.reactor.connections.readable()), (0, 1));
    stand.settle();
    let heard = stand.frames(&second);
    assert_eq!(heard.iter().filter(|(_, payload)| payload == b"waits").count(), 10);
    // Its timer runs again.
    stand.pass(interval + Duration::from_secs(1));
    assert_eq!(stand.frames(&second).last(), Some(&(0x89, Vec::new())));
}

#[test]
fn a_reader_is_not_taken_for_dead_because_it_is_slow() {
    let limits = Limits { stall_timeout: Duration::from_secs(10), ..Limits::default() };
    let (interval, second) = (limits.ping_interval, Duration::from_secs(1));
    let mut stand = Stand::new(limits);
    let (slow, sender) = (stand.member(100), stand.member(WIDE));
    stand.say(&sender, &"x".repeat(1_000));
    stand.say(&sender, "the end");
    stand.turn();
    let mut heard = Vec::new();
    // It takes ten bytes in eight seconds, for much longer than two ping intervals, and says nothing.
    while !stand.connection(&slow).unwrap().outbox.is_empty() {
        stand.pass(8 * second);
        heard.extend(stand.take(&slow, 10));
        stand.turn();
    }
    heard.extend(stand.take(&slow, usize::MAX));
    assert!(heard.ends_with(b"the end"), "{:?}", heard.last_chunk::<12>());
    // Since it has taken everything, its silence counts.
    stand.pass(interval - second);
    assert_eq!(stand.frames(&slow), []);
    stand.pass(2 * second);
    assert_eq!(stand.frames(&slow), [(0x89, Vec::new())]);
    stand.pass(interval);
    assert_eq!(stand.frames(&slow)[0].0, 0x88);
}

#[test]
fn a_head_that_drips_gets_408_as_early_as_one_that_stops() {
    let limits = Limits::default();
    let (timeout, second) = (limits.handshake_timeout, Duration::from_secs(1));
    for requests_before in [0, 1] {
        let mut stand = Stand::new(limits.clone());
        let peer = stand.connect(WIDE);
        stand.pass(second);
        for _ in 0..requests_before {
            stand.send(&peer, get("/healthz"));
            stand.pass(20 * second);
            assert!(stand.received(&peer).starts_with("HTTP/1.1 200 "));
        }
        let (opened, began) = (stand.now - second, stand.now);
        stand.send(&peer, "GET / HTTP/1.1\r\nX: ");
        stand.turn();
        let answer = loop {
            stand.send(&peer, "x");
            stand.pass(second / 2);
            let answer = stand.received(&peer);
            if !answer.is_empty() {
                break answer;
            }
            assert!(stand.now < began + 2 * timeout, "{requests_before} requests before: it is waited for again");
        };
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        let due = if requests_before == 0 { opened + timeout } else { began + timeout };
        assert!((due..due + second).contains(&stand.now), "{requests_before} requests before");
    }
}

#[test]
fn a_farewell_that_is_taken_byte_by_byte_comes_to_an_end() {
    let limits = Limits { outbox_high_water_bytes: 3_000, ..Limits::default() };
    let stall = limits.stall_timeout;
    for (pace, is_dropped) in [(1, true), (200, false)] {
        let mut stand = Stand::new(limits.clone());
        let peer = stand.connect(1);
        stand.send(
            &peer,
            format!("{}GET / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n", get("/healthz").repeat(8)),
        );
        stand.turn();
        let began = stand.now;
        let waits = stand.connection(&peer).unwrap().outbox.len();
        assert!((3_000..20_000).contains(&waits), "{waits}");
        let mut came = 0;
        while stand.connection(&peer).is_some() {
            stand.pass(Duration::from_secs(1));
            peer.wire.borrow_mut().capacity = pace;
            came += stand.take(&peer, pace).len();
            assert!(stand.now < began + 4 * stall, "{pace} bytes a second: it goes on for ever");
        }
        assert_eq!(came < waits, is_dropped, "{pace} bytes a second");
        if is_dropped {
            assert!(stand.now > began + stall, "it had its time");
        }
    }
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

#[test]
fn a_message_that_is_begun_is_finished_in_time_or_its_sender_goes() {
    let limits = Limits { message_timeout: Duration::from_secs(20), ..Limits::default() };
    let second = Duration::from_secs(1);
    let mut whole = masked(0x81, b"in time");
    let rest = whole.split_off(5);
    let ping = masked(0x89, b"");
    for (name, first, then, last, is_closed) in [
        ("half a frame, and silence", &whole[..], &b""[..], &b""[..], true),
        ("a fragment, and pings", &masked(0x01, b"frag"), &ping, &b""[..], true),
        ("a fragment, and fragments", &masked(0x01, b"frag"), &masked(0x00, b"more"), &b""[..], true),
        ("half a frame, and the rest", &whole, &b""[..], &rest, false),
        ("one half after the other", &whole, &[&rest[..], &whole].concat(), &rest, false),
        ("whole messages", &masked(0x81, b"one"), &masked(0x81, b"next"), &masked(0x81, b"last"), false),
    ] {
        let mut stand = Stand::new(limits.clone());
        let [peer, other] = [(); 2].map(|()| stand.member(WIDE));
        stand.send(&peer, first);
        for _ in 0..18 {
            stand.pass(second);
            stand.send(&peer, then);
        }
        stand.turn();
        assert!(stand.connection(&peer).unwrap().is_open(), "{name}: it has its time");
        stand.send(&peer, last);
        stand.pass(3 * second);
        let codes: Vec<_> = stand.frames(&peer).into_iter().filter(|(opcode, _)| *opcode == 0x88).collect();
        match &codes[..] {
            [] => assert!(!is_closed, "{name}"),
            [(_, payload)] => assert!(is_closed && payload[..2] == 1008_u16.to_be_bytes(), "{name}: {payload:?}"),
            _ => panic!("{name}: {codes:?}"),
        }
        assert!(stand.connection(&other).unwrap().is_open(), "{name}");
    }
}

#[test]
fn a_turn_hands_out_so_many_entries_and_the_next_goes_on() {
    let mut stand = Stand::new(Limits { entries_per_turn: 100, ..Limits::default() });
    let [speaker, listener] = [(); 2].map(|()| stand.member(WIDE));
    let texts: Vec<String> = (0..1_050).map(|number| number.to_string()).collect();
    stand.send(&speaker, texts.iter().map(|text| masked(0x81, text.as_bytes())).collect::<Vec<_>>().concat());
    let mut heard = Vec::new();
    for turn in 1..=11 {
        stand.turn();
        assert_eq!(stand.reactor.is_carried_over(), turn < 11, "turn {turn}");
        let frames = stand.frames(&listener);
        assert_eq!(frames.len(), if turn < 11 { 100 } else { 50 }, "turn {turn}");
        heard.extend(frames.into_iter().map(|(_, payload)| String::from_utf8(payload).unwrap()));
    }
    assert_eq!(heard, texts);
    assert_eq!(stand.metric("chat_spent_budgets_total{budget=\"entries\"}"), 10);
}

/// A byte in the queue is not a byte of memory.
#[test]
fn members_that_read_nothing_hold_no_more_small_slices_than_fit() {
    const HIGH_WATER: usize = 8 * 1024;
    let mut stand = Stand::new(Limits { outbox_high_water_bytes: HIGH_WATER, ..Limits::default() });
    let members: Vec<Peer> = (0..100).map(|_| stand.member(0)).collect();
    let speaker = stand.member(WIDE);
    let most = HIGH_WATER / size_of::<bytes::Bytes>() + 2;
    for _ in 0..2 * most {
        stand.say(&speaker, "x");
        stand.turn();
    }
    assert_eq!(stand.reactor.hub.catching_up(), 100);
    for member in &members {
        let waiting = stand.connection(member).unwrap().outbox.len();
        assert!((1..=most * 3).contains(&waiting), "{} slices of 3 bytes", waiting / 3);
    }
    let sum = stand.reactor.connections.outbox_bytes();
    assert!((50 * HIGH_WATER..101 * HIGH_WATER).contains(&sum), "{sum}");
    for member in &members {
        stand.reset(member);
    }
    stand.turn();
    assert_eq!(stand.reactor.connections.outbox_bytes(), 0);
}

/// Between high and low water there are thousands of short messages; as many more are said meanwhile.
#[test]
fn by_default_a_reader_that_keeps_the_pace_does_not_fall_behind() {
    let mut stand = Stand::new(Limits::default());
    let (reader, speaker) = (stand.member(0), stand.member(WIDE));
    let said = vec![masked(0x81, &[b'x'; 64]); 100].concat();
    let turn = 100 * 66;
    let mut was_behind = false;
    for number in 0..200 {
        stand.send(&speaker, &said);
        stand.turn();
        was_behind |= stand.reactor.hub.catching_up() == 1;
        if was_behind {
            reader.wire.borrow_mut().capacity = turn;
            stand.take(&reader, turn);
        }
        assert!(stand.connection(&reader).is_some_and(Connection::is_open), "turn {number}");
    }
    assert!(was_behind && stand.reactor.hub.catching_up() == 1, "it keeps the pace from behind");
}

/// While it is held for its rate it is not read; the first ping after that is the first that it can answer.
#[test]
fn whoever_was_held_for_its_rate_has_time_to_answer_a_ping() {
    let limits = Limits { raw_rate: 1, raw_burst: 1, ..Limits::default() };
    let (interval, second) = (limits.ping_interval, Duration::from_secs(1));
    let mut stand = Stand::new(limits);
    let peer = stand.member(WIDE);
    let half = masked(0x81, b"half a message");
    stand.send(&peer, [masked(0x81, b"x").repeat(100), half[..6].to_vec()].concat());
    stand.turn();
    assert_eq!(stand.metric("chat_held_connections"), 1);
    for _ in 0..100 {
        stand.pass(second);
    }
    assert_eq!(stand.metric("chat_held_connections"), 0);
    stand.pass(second);
    assert!(stand.frames(&peer).iter().all(|(opcode, _)| *opcode == 0x81), "neither a ping nor a farewell");
    stand.send(&peer, &half[6..]);
    for _ in 0..32 {
        stand.pass(second);
    }
    assert!(stand.frames(&peer).ends_with(&[(0x89, Vec::new())]), "a ping after {interval:?} of silence");
    stand.pass(interval - 3 * second);
    assert_eq!(stand.frames(&peer), [], "it has its time");
}

#[test]
fn a_flood_on_one_listener_keeps_nobody_from_another() {
    let mut stand = Stand::new(Limits { accepts_per_turn: 2, ..Limits::default() });
    let listen = |_| Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), Sharing::Exclusive, 1 << 17).unwrap();
    stand.reactor.listeners = (0..3).map(listen).collect();
    let connect = |address: SocketAddr| TcpStream::connect(address).unwrap();
    let addresses: Vec<SocketAddr> = stand.reactor.listeners.iter().map(Listener::address).collect();
    for flooded in 0..addresses.len() {
        let flood: Vec<TcpStream> = (0..20).map(|_| connect(addresses[flooded])).collect();
        let others = addresses.iter().enumerate().filter(|(place, _)| *place != flooded);
        let others: Vec<TcpStream> = others.map(|(_, address)| connect(*address)).collect();
        // As their edges would.
        stand.reactor.listeners.iter_mut().for_each(|listener| listener.ready = true);
        for _ in 0..addresses.len() {
            stand.turn();
        }
        for other in &others {
            let address = other.local_addr().unwrap();
            let is_there = stand.reactor.connections.iter().any(|connection| connection.peer == address);
            assert!(is_there, "{flooded} is flooded, and {address} waits");
        }
        while stand.reactor.listeners.iter().any(|listener| listener.ready) {
            stand.turn();
        }
        drop(flood);
    }
}
