//! A turn has an end, and everybody a share of it.

use super::*;

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

/// Whoever has nothing yet is given something, so that everybody gets on: that must not be much.
#[test]
fn downloads_that_nobody_takes_stay_within_the_bound_of_all_outboxes() {
    const CLIENTS: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("film"), vec![b'x'; 1_000_000]).unwrap();
    let limits = Limits { outbox_high_water_bytes: 100_000, outboxes_total_bytes: 1_000_000, ..Limits::default() };
    let most = limits.outboxes_total_bytes + CLIENTS * (4_096 + 1_000);
    let mut stand = Stand::with_folder(folder.path(), limits);
    let peers: Vec<Peer> = (0..CLIENTS).map(|_| stand.connect(0)).collect();
    for peer in &peers {
        stand.send(peer, get("/film"));
    }
    let waiting = |stand: &Stand, peer: &Peer| stand.connection(peer).unwrap().outbox.len();
    // Some have no more than the head.
    while stand.reactor.streams.len() < CLIENTS {
        if !stand.reactor.is_carried_over() {
            stand.await_file();
        }
        stand.turn();
    }
    stand.settle();
    let sum = stand.reactor.connections.outbox_bytes();
    assert!(sum > most / 3 && sum <= most, "{sum} bytes");
    // Whoever takes what it has asked for gets all of it nevertheless.
    let mut taken = 0;
    peers[0].wire.borrow_mut().capacity = WIDE;
    stand.reactor.connections.mark(peers[0].id.slot, false, true, false);
    while taken < 1_000_000 {
        if !stand.reactor.is_carried_over() && waiting(&stand, &peers[0]) == 0 {
            stand.await_file();
        }
        stand.turn();
        taken += stand.take(&peers[0], usize::MAX).len();
    }
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
