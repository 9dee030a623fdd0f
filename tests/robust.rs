//! What one client could do to all others, from outside: memory and descriptors come back, and nobody else notices.

mod common;

use std::fs;
use std::io::Read;
use std::time::Duration;

use common::{DEADLINE, End, Raw, Server, WsClient, connect_narrow, frame, get, upgrade_request, wait_until};
use socket2::SockRef;

const TEXT: u8 = 0x81;

#[test]
fn whoever_asks_and_resets_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("small"), [b'x'; 5_000]).unwrap();
    fs::write(folder.path().join("large"), vec![b'x'; 3_000_000]).unwrap();
    let server = Server::start(&["--public", folder.path().to_str().unwrap()]);
    for number in 0..1_000 {
        let target = ["/small", "/large", "/nothing", &format!("/{number}")][number % 4].to_owned();
        let mut connection = Raw::connect(server.address());
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        SockRef::from(connection.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    }
    for series in ["chat_outbox_bytes", "chat_streamed_responses", "chat_open_files", "chat_held_connections"] {
        wait_until(series, || server.metric(series) == 0.0);
    }
    assert_eq!(get(server.address(), "/large").body.len(), 3_000_000);
}

#[test]
fn large_files_of_others_can_be_had_again_when_a_download_ends() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::write(folder.path().join(name), vec![b'x'; 30_000_000]).unwrap();
    }
    let server = Server::start(&["--public", folder.path().to_str().unwrap(), "--max-open-files", "1"]);
    let mut slow = Raw::connect(server.address());
    slow.send("GET /one HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(slow.response_head().status, 200);
    let refused = get(server.address(), "/two");
    assert_eq!(refused.status, 503);
    assert!(refused.field("Retry-After").is_some(), "{refused:?}");
    assert_eq!(get(server.address(), "/one").status, 200, "the same file is shared");
    drop(slow);
    wait_until("the other file can be had", || get(server.address(), "/two").status == 200);
}

/// Each holds a file of its own open, and reads none of it.
#[test]
fn a_hundred_stalled_downloads_keep_nobody_from_a_large_file() {
    const STALLED: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    for number in 0..=STALLED {
        fs::File::create(folder.path().join(number.to_string())).unwrap().set_len(20_000_000).unwrap();
    }
    let server = Server::start(&["--public", folder.path().to_str().unwrap()]);
    assert!(server.metric("chat_open_files_max") > STALLED as f64, "more files may be open");
    let ask = |number: usize| {
        let mut connection = Raw::over(connect_narrow(server.address()));
        connection.send(format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(connection.response_head().status, 200, "{number}");
        connection
    };
    let stalled: Vec<Raw> = (0..STALLED).chain(0..STALLED).map(ask).collect();
    assert_eq!(server.metric("chat_open_files"), STALLED as f64, "one for all who are sent the same");
    assert_eq!(get(server.address(), &format!("/{STALLED}")).body.len(), 20_000_000);
    drop(stalled);
    wait_until("all are closed", || server.metric("chat_open_files") == 0.0);
}

/// They take something all the time, but would hold for days what they are sent.
#[test]
fn downloads_that_drip_are_cut_off_and_give_back_what_they_held() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("small"), [b'x'; 100_000]).unwrap();
    fs::File::create(folder.path().join("large")).unwrap().set_len(1 << 30).unwrap();
    // Far more than a client takes that rests after each few bytes.
    let arguments = ["--stall-timeout", "2s", "--min-response-rate", "64MiB"];
    let server = Server::start(&[&["--public", folder.path().to_str().unwrap()], &arguments[..]].concat());
    let mut member = WsClient::connect(server.address(), "/", &[]);
    let mut events = Raw::over(connect_narrow(server.address()));
    events.send("GET /rooms/lobby/events HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(events.response_head().status, 200);
    // More than is read of them until then, by far.
    let requests = [("/large", 1), ("/small", 500), ("/metrics", 1_000)];
    let mut dripping: Vec<Raw> = requests
        .into_iter()
        .map(|(target, times)| {
            let mut connection = Raw::over(connect_narrow(server.address()));
            connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(times));
            connection.stream().set_nonblocking(true).unwrap();
            connection
        })
        .collect();
    wait_until("all are cut off", || {
        for connection in &mut dripping {
            // When it has been cut off, that is told by the metrics.
            let _ = connection.stream().read(&mut [0; 500]);
        }
        let closes =
            ["too_slow", "stalled"].map(|reason| server.metric(&format!("chat_closes_total{{reason={reason:?}}}")));
        // On a busy machine one may not have come to read for too long.
        closes[0] > 0.0 && closes.iter().sum::<f64>() == dripping.len() as f64
    });
    for series in ["chat_outbox_bytes", "chat_streamed_responses", "chat_open_files"] {
        assert_eq!(server.metric(series), 0.0, "{series}");
    }
    member.send_text("hello");
    assert_eq!(member.next_text(), "hello");
    assert!(events.event().contains("hello"));
}

#[test]
fn pipelined_requests_without_end_are_answered_in_order_and_delay_nobody() {
    const REQUESTS: usize = 5_000;
    let server = Server::start(&["--requests-per-turn", "20", "--max-requests", "1000000"]);
    let mut flooder = Raw::connect(server.address());
    let writer = flooder.stream().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
        std::io::Write::write_all(&mut &writer, request.repeat(REQUESTS / 2).as_bytes()).unwrap();
    });
    let mut quiet = WsClient::connect(server.address(), "/", &[]);
    for number in 0..REQUESTS {
        assert_eq!(flooder.response().status, if number % 2 == 0 { 200 } else { 404 });
        if number % 500 == 0 {
            quiet.send_text("hello");
            assert_eq!(quiet.next_text(), "hello");
        }
    }
    writing.join().unwrap();
}

#[test]
fn a_message_that_is_never_finished_is_told_1008() {
    let server = Server::start(&["--message-timeout", "300ms"]);
    let mut whole = WsClient::connect(server.address(), "/", &[]);
    let mut half = WsClient::connect(server.address(), "/", &[]);
    half.send_raw(&frame(TEXT, b"hello")[..7]);
    assert_eq!(half.until_closed(), Some(1008));
    whole.send_text("still here");
    assert_eq!(whole.next_text(), "still here");
    wait_until("it is counted", || server.metric("chat_closes_total{reason=\"policy\"}") == 1.0);
}

#[test]
fn while_it_drains_nobody_is_let_in_and_whoever_has_asked_is_answered() {
    let server = Server::start(&["--drain-timeout", "20s"]);
    let upgrade = upgrade_request(server.address(), "/", &[]);
    let mut late = Raw::connect(server.address());
    let mut asking = Raw::connect(server.address());
    late.send(&upgrade[..30]);
    asking.send("GET / HTTP/1.1\r\n");
    let mut member = WsClient::connect(server.address(), "/", &[]);
    // Both have been read, since the member came after them.
    member.send_text("hello");
    assert_eq!(member.next_text(), "hello");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(member.until_closed(), Some(1001));
    late.send(&upgrade[30..]);
    asking.send("Host: x\r\n\r\n");
    for (mut connection, status) in [(late, 503), (asking, 200)] {
        let response = connection.response();
        assert_eq!((response.status, response.field("Connection")), (status, Some("close")));
        assert_eq!(connection.read_to_end(DEADLINE), (Vec::new(), End::Closed));
    }
    assert!(server.wait().success());
}
