//! From the first line to the exit code: what the server tells about itself, and how it stops.

mod common;

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{
    DEADLINE, End, Frame, Port, Raw, Server, WsClient, close_frame, connect_narrow, crowd, frame, get, http,
    raise_descriptor_limit, upgrade_request, wait_until,
};
use rustix::process::Signal;
use tungstenite::Message;

const TEXT: u8 = 0x81;

/// A connection that has begun to ask for this target, and has not ended.
fn half_asked(server: &Server, target: &str) -> Raw {
    let mut connection = Raw::connect(server.address());
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n", server.address()));
    // The answer to another request of ours comes after the server has read this one.
    get(server.address(), "/healthz");
    connection
}

#[test]
fn a_signal_ends_everything_properly() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(&[]);
        let mut members = [(); 3].map(|()| WsClient::connect(server.address(), "/", &[]));
        let mut resting = Raw::connect(server.address());
        resting.send(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address()));
        assert_eq!(resting.response().text(), "ok\n");
        let mut silent = Raw::connect(server.address());
        let mut health = half_asked(&server, "/healthz");
        let mut page = half_asked(&server, "/");
        members[0].send_text("last words");

        server.signal(signal);
        for member in &mut members {
            assert_eq!(member.next_text(), "last words", "{signal:?}");
            assert_eq!(member.until_closed(), Some(1001), "{signal:?}");
        }
        assert_eq!(resting.read_to_end(DEADLINE), (Vec::new(), End::Closed), "{signal:?}");
        assert_eq!(silent.read_to_end(DEADLINE), (Vec::new(), End::Closed), "{signal:?}");
        wait_until("nobody is accepted any more", || TcpStream::connect(server.address()).is_err());
        // Whoever has begun to ask is answered, and told that this was the last answer.
        for (connection, status) in [(&mut health, 503), (&mut page, 200)] {
            connection.send("\r\n");
            let response = connection.response();
            assert_eq!((response.status, response.field("Connection")), (status, Some("close")), "{signal:?}");
            assert_eq!(connection.read_to_end(DEADLINE), (Vec::new(), End::Closed), "{signal:?}");
        }
        drop((members, resting, silent, health, page));
        assert_eq!(server.wait().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_response_that_has_begun_is_finished() {
    const LENGTH: usize = 3_000_000;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("large"), "x".repeat(LENGTH)).expect("a file");
    let server = Server::start(&["--drain-timeout", "1h", "--public", folder.path().to_str().expect("a path")]);
    let mut reader = Raw::over(connect_narrow(server.address()));
    reader.send(format!("GET /large HTTP/1.1\r\nHost: {}\r\n\r\n", server.address()));
    assert_eq!(reader.response_head().status, 200);
    server.signal(Signal::TERM);
    wait_until("it is stopping", || TcpStream::connect(server.address()).is_err());
    assert!(reader.take(LENGTH).iter().all(|byte| *byte == b'x'));
    assert_eq!(reader.read_to_end(DEADLINE), (Vec::new(), End::Closed), "nothing more is waited for");
    drop(reader);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn nobody_becomes_a_member_of_a_server_that_is_stopping() {
    let server = Server::start(&["--drain-timeout", "1h"]);
    let mut late = Raw::connect(server.address());
    let request = upgrade_request(server.address(), "/", &[]);
    let (begin, end) = request.split_at(request.len() - 2);
    late.send(begin);
    let mut member = WsClient::connect(server.address(), "/", &[]);
    server.signal(Signal::TERM);
    assert_eq!(member.until_closed(), Some(1001));
    late.send(end);
    let response = late.response();
    assert_eq!((response.status, response.field("Connection")), (503, Some("close")), "{response:?}");
    assert!(response.field("Retry-After").is_some(), "{response:?}");
    assert_eq!(late.read_to_end(DEADLINE).1, End::Closed);
    drop((member, late));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_signal_is_heeded_although_clients_do_not_play_along() {
    let server = Server::start(&["--drain-timeout", "500ms", "--linger-timeout", "1h", "--handshake-timeout", "1h"]);
    let mut mute = Raw::upgraded(server.address(), "/");
    let full = Raw::over(connect_narrow(server.address())).upgrade("/");
    let half = half_asked(&server, "/");
    for _ in 0..20 {
        mute.send(frame(TEXT, &[b'x'; 60_000]));
        assert_eq!(mute.frame(), Frame::Text("x".repeat(60_000)));
    }
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(mute.frame(), Frame::Close(Some(1001)));
    assert_eq!(server.wait().code(), Some(0));
    assert!(began.elapsed() > Duration::from_millis(400), "they had their time: {:?}", began.elapsed());
    drop((mute, full, half));
}

#[test]
fn goodbyes_are_said_one_after_another_and_whoever_waits_talks_on() {
    let server = Server::start(&["--drain-rate", "20", "--drain-timeout", "1h"]);
    let mut members: Vec<_> = (0..30).map(|_| WsClient::connect(server.address(), "/", &[])).collect();
    let mut last = members.pop().expect("a member");
    server.signal(Signal::TERM);
    assert_eq!(members[0].until_closed(), Some(1001));
    last.send_text("still here");
    assert_eq!(last.next_text(), "still here");
    assert_eq!(last.until_closed(), Some(1001));
    for mut member in members.drain(1..) {
        assert_eq!(member.until_closed(), Some(1001));
    }
    drop((members, last));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let server = Server::start(&["--drain-timeout", "1h", "--linger-timeout", "1h"]);
        let mut mute = Raw::upgraded(server.address(), "/");
        server.signal(Signal::TERM);
        assert_eq!(mute.frame(), Frame::Close(Some(1001)));
        server.signal(second);
        assert_eq!(server.wait().code(), Some(0), "{second:?}");
    }
}

#[test]
fn a_stop_without_clients_is_immediate() {
    let server = Server::start(&["--drain-timeout", "1h"]);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_restart_on_the_same_port_needs_no_waiting() {
    let held = Port::take().expect("a free port");
    let port = held.to_string();
    let server = Server::start(&["--port", &port]);
    let mut member = Raw::upgraded(server.address(), "/");
    server.signal(Signal::TERM);
    // The server closes first, so that its side of the connection is remembered by the kernel.
    member.send(close_frame(1001));
    assert_eq!(member.frames_to_end(DEADLINE).1, End::Closed);
    drop(member);
    assert_eq!(server.wait().code(), Some(0));
    let server = Server::start(&["--port", &port]);
    assert_eq!(get(server.address(), "/healthz").status, 200);
}

#[test]
fn closed_outputs_kill_nobody() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let server = Server::start_with(&["--log", "trace"], |command| _ = command.stderr(writer));
    for round in 0..20 {
        let mut member = WsClient::connect(server.address(), "/", &[]);
        member.send_text(&round.to_string());
        assert_eq!(member.next_text(), round.to_string());
    }
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let (reader, writer) = io::pipe().expect("a pipe");
    let server = Server::start_with(&["--log", "trace"], |command| _ = command.stderr(writer));
    let mut member = WsClient::connect(server.address(), "/", &[]);
    // Each connection is a line. They are more than the queue before the pipe holds, and the pipe besides.
    for round in 0..26 {
        (0..500).for_each(|_| Raw::connect(server.address()).reset());
        member.send_text(&round.to_string());
        assert_eq!(member.next_text(), round.to_string());
    }
    server.wait_for_metric("chat_closes_total{reason=\"peer_reset\"}", |resets| resets == 13_000.0);
    let waiting = rustix::io::ioctl_fionread(&reader).expect("FIONREAD");
    assert!(waiting > 50_000, "the pipe is full: {waiting} bytes");
    let began = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?} to stop", began.elapsed());
    drop((member, reader));
}

#[test]
fn health_and_metrics_are_for_reading() {
    let server = Server::start(&[]);
    let address = server.address();
    let ask = |method: &str, target: &str| {
        let mut connection = Raw::connect(address);
        connection.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let response = connection.response_head();
        (response, connection.read_to_end(DEADLINE).0)
    };
    for target in ["/healthz", "/metrics", "/healthz?verbose=1"] {
        let (response, body) = ask("GET", target);
        assert_eq!((response.status, body.is_empty()), (200, false), "{target}");
        assert_eq!(response.field("Cache-Control"), Some("no-store"), "{target}");
        let (head, nothing) = ask("HEAD", target);
        assert_eq!((head.status, nothing.is_empty()), (200, true), "{target}");
        assert_eq!(head.field("Content-Type"), response.field("Content-Type"), "{target}");
        for method in ["POST", "PUT", "DELETE"] {
            let (refused, _) = ask(method, target);
            assert_eq!(
                (refused.status, refused.field("Allow")),
                (405, Some("GET, HEAD, OPTIONS")),
                "{method} {target}"
            );
        }
    }
    let (response, _) = ask("GET", "/metrics");
    assert_eq!(response.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[test]
fn metrics_tell_what_has_happened() {
    let server = Server::start(&[]);
    let mut members = crowd(server.address(), "/", 3);
    members.extend(crowd(server.address(), "/?room=other", 1));
    for text in ["one", "two"] {
        members[0].send(frame(TEXT, text.as_bytes()));
        assert!(members[..3].iter_mut().all(|member| member.frame() == Frame::text(text)));
    }
    assert_eq!(get(server.address(), "/nothing/here").status, 404);
    assert_eq!(http(server.address(), "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n").status, 400);
    members.remove(1).reset();
    let mut faulty = members.remove(1);
    faulty.send(frame(0x83, b""));
    assert_eq!(faulty.frames_to_end(DEADLINE).1, End::Closed);
    drop(faulty);
    let gone = server.wait_for_metric("chat_connections{kind=\"websocket\"}", |open| open == 2.0);
    assert_eq!(gone, 2.0);
    let metrics = server.metrics();
    for (series, expected) in [
        ("chat_rooms", 2.0),
        ("chat_connections{kind=\"websocket\"}", 2.0),
        ("chat_messages_in_total", 2.0),
        ("chat_messages_out_total", 6.0),
        ("chat_http_responses_total{class=\"1xx\"}", 4.0),
        ("chat_refusals_total{cause=\"upgrade\"}", 1.0),
        ("chat_closes_total{reason=\"peer_reset\"}", 1.0),
        ("chat_closes_total{reason=\"protocol\"}", 1.0),
        ("chat_closes_total{reason=\"stalled\"}", 0.0),
        ("chat_http_responses_total{class=\"4xx\"}", 2.0),
        ("chat_catching_up_members", 0.0),
        ("chat_drafts_in_flight", 0.0),
        ("chat_accept_pauses_total", 0.0),
    ] {
        assert_eq!(metrics.get(series), Some(&expected), "{series}");
    }
    for (series, least) in [
        ("chat_http_responses_total{class=\"2xx\"}", 0.0),
        ("chat_read_bytes_total", 500.0),
        ("chat_written_bytes_total", 500.0),
        ("chat_tail_bytes", 6.0),
        ("chat_resident_memory_bytes", 1_000_000.0),
        ("chat_turn_duration_seconds_count", 10.0),
        ("chat_turn_duration_seconds_bucket{le=\"+Inf\"}", 10.0),
        ("chat_uptime_seconds", 0.0),
    ] {
        assert!(
            metrics[series] > least || (metrics[series] == least && least == 2.0),
            "{series} is {}",
            metrics[series]
        );
    }
    drop(members);
    server.wait_until_empty();
}

#[test]
fn the_log_tells_who_came_and_left_and_why_but_not_what_was_said() {
    let server = Server::start(&["--log", "debug"]);
    let mut member = WsClient::connect(server.address(), "/?room=garden", &[]);
    let address = member.stream().local_addr().expect("connected").to_string();
    member.send(Message::text("between you and me"));
    assert_eq!(member.next_text(), "between you and me");
    member.close(1000);
    wait_until("two lines about it", || server.log().lines().filter(|line| line.contains(&address)).count() >= 2);
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&address) && line.contains("INFO")).collect();
    assert!(lines[0].contains("client ") && lines[0].contains("connected") && lines[0].contains("garden"), "{log}");
    assert!(
        lines[1].contains("client ") && lines[1].contains("left after") && lines[1].contains("peer_closed"),
        "{log}"
    );
    assert!(!log.contains("between you and me"), "{log}");
}

#[test]
fn a_thousand_who_come_at_once_do_not_flood_the_log() {
    raise_descriptor_limit();
    let server = Server::start(&["--max-connections", "1100"]);
    let began = Instant::now();
    drop(crowd(server.address(), "/", 1_000));
    server.wait_until_empty();
    wait_until("it is summed up", || server.log().contains("more connected"));
    let (lines, seconds) = (server.log().lines().count(), began.elapsed().as_secs() as usize);
    assert!(lines < 30 + 30 * (seconds + 1), "{lines} lines in {seconds} seconds");
    assert_eq!(server.stop().code(), Some(0));
}
