//! Who is slow, and who is slow on purpose.

use super::*;

/// Edges come while it is parked; and while it is, its silence is ours.
#[test]
fn whoever_is_parked_is_parked_once_and_not_pinged() {
    let limits = Limits { max_drafts_in_flight: 1, ..Limits::default() };
    let interval = limits.ping_interval;
    let mut stand = Stand::new(limits);
    let [first, second] = [(); 2].map(|()| stand.member(WIDE));
    // Somebody's draft is on its way and does not come back.
    let draft = stand.reactor.hub.draft(
        crate::reactor::member_id(first.id),
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

/// Others, who came first, use up what a turn may read.
#[test]
fn what_has_come_is_read_before_anybody_is_told_that_it_did_not_come_in_time() {
    let limits = Limits { read_bytes_per_turn: 200, message_timeout: Duration::from_secs(20), ..Limits::default() };
    let (first, next, pong) = (limits.handshake_timeout, limits.keep_alive_timeout, 2 * limits.ping_interval);
    let message = limits.message_timeout;
    let (asked, said, answer) = (get("/healthz").into_bytes(), masked(0x81, b"in time"), masked(0x8a, b""));
    let (late, ok, close, heard) = (&b"HTTP/1.1 408 "[..], &b"HTTP/1.1 200 "[..], &[0x88], b"\x81\x07in time");
    // name, whether it is a member; what comes before, and just before so much time is over; what it is told, if it is
    let table: [(_, _, &[u8], _, &[u8], &[u8]); 10] = [
        ("a first request", false, b"", first, &asked, ok),
        ("no first request", false, b"", first, b"", b""),
        ("the rest of a head", false, &asked[..9], first, &asked[9..], ok),
        ("half a head", false, &asked[..9], first, b"x", late),
        ("a second request", false, &asked, next, &asked, ok),
        ("no second request", false, &asked, next, b"", b""),
        ("a pong", true, b"", pong, &answer, b""),
        ("no pong", true, b"", pong, b"", close),
        ("the rest of a message", true, &said[..9], message, &said[9..], heard),
        ("half a message", true, &said[..9], message, &said[9..10], close),
    ];
    for (name, is_member, before, time, then, told) in table {
        let mut stand = Stand::new(limits.clone());
        let peer = if is_member { stand.member(WIDE) } else { stand.connect(WIDE) };
        stand.send(&peer, before);
        stand.settle();
        let end = stand.now + time;
        // A ping comes after half of the time, and is taken at once.
        stand.pass(time / 2 + Duration::from_secs(1));
        stand.take(&peer, usize::MAX);
        stand.pass(time / 2 - Duration::from_secs(2));
        stand.take(&peer, usize::MAX);
        stand.now = end + Duration::from_millis(50);
        for _ in 0..3 {
            let other = stand.connect(WIDE);
            stand.send(&other, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(300)));
        }
        stand.send(&peer, then);
        stand.turn();
        assert!(
            stand.connection(&peer).unwrap().is_open() && stand.take(&peer, 1).is_empty(),
            "{name}: it is not read"
        );
        stand.settle();
        stand.now += Duration::from_millis(50);
        stand.turn();
        let came = stand.take(&peer, usize::MAX);
        assert!(came.starts_with(told) && came.is_empty() == told.is_empty(), "{name}: {}", came.escape_ascii());
        let goes_on = !then.is_empty() && told != late && told != close;
        assert_eq!(stand.connection(&peer).is_some_and(Connection::is_open), goes_on, "{name}");
    }
}

#[test]
fn a_message_that_is_not_finished_is_not_waited_for_because_much_else_comes() {
    let limits = Limits { read_bytes_per_turn: 200, message_timeout: Duration::from_secs(20), ..Limits::default() };
    let longest = limits.message_timeout + limits.handshake_timeout;
    let mut stand = Stand::new(limits);
    let peer = stand.member(WIDE);
    let began = stand.now;
    stand.send(&peer, masked(0x01, b"fragment"));
    while stand.connection(&peer).unwrap().is_open() {
        stand.send(&peer, masked(0x89, b"").repeat(10 * 200 / 6 + 1));
        stand.pass(Duration::from_millis(500));
        assert!(stand.now < began + longest + Duration::from_secs(1), "there is always something to be read");
    }
    assert!(stand.frames(&peer).ends_with(&[(0x88, b"\x03\xf0message took too long".to_vec())]));
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

/// A byte now and then is progress, and would hold a file open for weeks.
#[test]
fn a_download_that_is_taken_too_slowly_ends_and_members_may_be_slower() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("film"), vec![b'x'; 500_000]).unwrap();
    let limits =
        Limits { min_response_bytes_per_second: 100, stall_timeout: Duration::from_secs(10), ..Limits::default() };
    let (second, text) = (Duration::from_secs(1), "x".repeat(50_000));
    for (name, request, bytes, every, expected) in [
        ("a byte a second", get("/film"), 1, 1, Some(20)),
        ("half of the rate", get("/film"), 50, 1, Some(39)),
        ("half of it, of many responses", get("/healthz").repeat(100), 50, 1, Some(39)),
        ("a little more than the rate", get("/film"), 102, 1, None),
        ("lumps", get("/film"), 900, 8, None),
        ("a member", UPGRADE.to_owned(), 1, 8, None),
        ("an event stream", get("/rooms/lobby/events"), 1, 8, None),
    ] {
        let mut stand = Stand::with_folder(folder.path(), limits.clone());
        let (slow, speaker) = (stand.connect(1_000), stand.member(WIDE));
        stand.send(&slow, &request);
        stand.turn();
        while request == get("/film") && stand.connection(&slow).unwrap().outbox.len() < 100_000 {
            if !stand.reactor.is_carried_over() {
                stand.await_file();
            }
            stand.turn();
        }
        for _ in 0..3 {
            // What is heard is more than fits, as a file is.
            stand.say(&speaker, &text);
            stand.pass(second / 10);
        }
        let began = stand.now;
        let mut rounds = 0;
        while stand.connection(&slow).is_some() && rounds * every < 600 {
            stand.pass(every * second);
            stand.take(&slow, bytes);
            rounds += 1;
        }
        let ended = stand.connection(&slow).is_none().then(|| (stand.now - began).as_secs());
        assert_eq!(ended, expected, "{name}");
    }
}

/// A kernel holds so much for a slow line that it takes nothing for minutes: that the line moves is seen nevertheless.
#[test]
fn who_takes_what_the_kernel_holds_is_not_stalled() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("film"), vec![b'x'; 500_000]).unwrap();
    let limits = Limits {
        min_response_bytes_per_second: 100,
        stall_timeout: Duration::from_secs(10),
        outbox_high_water_bytes: 60_000,
        ..Limits::default()
    };
    let (second, text) = (Duration::from_secs(1), "x".repeat(50_000));
    for (name, is_member, bytes, expected) in [
        ("a line that moves", false, 300, None),
        ("hardly", false, 50, Some((38..42, "too_slow"))),
        ("not at all", false, 0, Some((10..12, "stalled"))),
        ("the line of a member", true, 300, None),
        ("hardly", true, 1, None),
        ("not at all", true, 0, Some((10..12, "stalled"))),
    ] {
        let mut stand = Stand::with_folder(folder.path(), limits.clone());
        let (slow, speaker) = if is_member {
            (stand.member(WIDE), stand.member(WIDE))
        } else {
            (stand.connect(WIDE), stand.member(WIDE))
        };
        (slow.wire.borrow_mut().capacity, slow.wire.borrow_mut().lump) = (100_000, 50_000);
        if is_member {
            for _ in 0..3 {
                stand.say(&speaker, &text);
                stand.turn();
            }
        } else {
            stand.send(&slow, get("/film"));
            stand.turn();
        }
        while !stand.connection(&slow).unwrap().backed_up {
            if !stand.reactor.is_carried_over() {
                stand.await_file();
            }
            stand.turn();
        }
        let began = stand.now;
        while stand.connection(&slow).is_some() && stand.now < began + 300 * second {
            stand.pass(second);
            stand.take(&slow, bytes);
        }
        let ended = stand.connection(&slow).is_none().then(|| (stand.now - began).as_secs());
        let Some((when, why)) = expected else {
            assert_eq!(ended, None, "{name}, a member: {is_member}");
            continue;
        };
        assert!(ended.is_some_and(|ended| when.contains(&ended)), "{name}, a member: {is_member}, after {ended:?} s");
        assert_eq!(stand.metric(&format!("chat_closes_total{{reason=\"{why}\"}}")), 1, "{name}, a member: {is_member}");
    }
}

/// All that was written for it is the kernel's, so nothing is seen to wait; and it comes to a ping only after that.
#[test]
fn who_is_still_taking_what_the_kernel_holds_need_not_answer_a_ping() {
    let limits = Limits { ping_interval: Duration::from_secs(10), ..Limits::default() };
    let second = Duration::from_secs(1);
    // bytes held at first; bytes taken, and said by another, in each second; until when a ping is not answered
    for (name, held, bytes, said, expected) in [
        ("a line that moves", 50_000, 300, 0, None),
        ("and has more written to it", 50_000, 300, 100, None),
        ("and even more than it takes", 50_000, 300, 350, None),
        ("not at all", 50_000, 0, 0, Some(20..22)),
        ("not at all, and has more written to it", 50_000, 0, 100, Some(20..22)),
        ("all taken at once", 50_000, 100_000, 0, Some(20..22)),
        ("all taken at once, and what follows", 50_000, 100_000, 100, Some(30..32)),
        ("taken for a while", 50_000, 1_600, 0, Some(50..52)),
    ] {
        let mut stand = Stand::new(limits.clone());
        let (slow, speaker) = (stand.member(WIDE), stand.member(WIDE));
        stand.say(&speaker, &"x".repeat(held));
        stand.turn();
        let began = stand.now;
        while stand.connection(&slow).is_some_and(Connection::is_open) && stand.now < began + 150 * second {
            stand.take(&slow, bytes);
            if said > 0 {
                stand.say(&speaker, &"x".repeat(said));
            }
            stand.pass(second);
            assert!(stand.connection(&slow).is_none_or(|connection| !connection.backed_up), "{name}");
            stand.take(&speaker, usize::MAX);
            stand.send(&speaker, masked(0x8a, b""));
        }
        let ended = (!stand.connection(&slow).is_some_and(Connection::is_open)).then(|| (stand.now - began).as_secs());
        match expected {
            None => assert_eq!(ended, None, "{name}"),
            Some(when) => assert!(ended.is_some_and(|ended| when.contains(&ended)), "{name}: after {ended:?} s"),
        }
    }
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
