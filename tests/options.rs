//! What an operator can forbid or slow down, through the real binary.

mod common;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use common::{Frame, Raw, Server, connect_from, crowd, frame, run, upgrade_request, wait_until};

#[test]
fn a_raw_sender_is_read_no_faster_than_its_rate_and_loses_nothing() {
    let server = Server::start(&["--raw-rate", "20", "--raw-burst", "5"]);
    let mut sender = Raw::upgraded(server.address(), "/");
    let mut other = Raw::upgraded(server.address(), "/?room=other");
    let began = Instant::now();
    for number in 0..15 {
        // One packet each, so that it is not all read at once.
        sender.send(frame(0x81, number.to_string().as_bytes()));
        if number == 8 {
            other.send(frame(0x81, b"meanwhile"));
            assert_eq!(other.frame(), Frame::text("meanwhile"));
        }
        assert_eq!(sender.frame(), Frame::text(&number.to_string()));
    }
    // Five at once, then one in 50 ms; the last debt need not be paid.
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[test]
fn a_server_may_speak_chat_v1_alone() {
    let server = Server::start(&["--no-raw"]);
    let ask = |fields: &[&str]| {
        let mut asking = Raw::connect(server.address());
        asking.send(upgrade_request(server.address(), "/", fields));
        asking.response_head().status
    };
    assert_eq!(ask(&[]), 403);
    assert_eq!(ask(&["Sec-WebSocket-Protocol: chat.v1"]), 101);
}

#[test]
fn one_address_may_have_so_many_connections() {
    let server = Server::start(&["--max-per-address", "2"]);
    let held: Vec<Raw> = (0..2).map(|_| Raw::upgraded(server.address(), "/")).collect();
    let mut refused = Raw::connect(server.address());
    assert_eq!(refused.response().status, 429);
    let elsewhere = Raw::over(connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), server.address()));
    let mut elsewhere = elsewhere.upgrade("/");
    elsewhere.send(frame(0x81, b"hello"));
    assert_eq!(elsewhere.frame(), Frame::text("hello"));
    drop(held);
    wait_until("there is room again", || {
        let mut asking = Raw::connect(server.address());
        asking.send(upgrade_request(server.address(), "/", &[]));
        asking.response_head().status == 101
    });
}

#[test]
fn instances_share_a_port_if_both_want_to() {
    let one = Server::start(&["--host", "127.0.0.1", "--memory", "--reuse-port"]);
    let port = one.address().port().to_string();
    let other = Server::start(&["--host", "127.0.0.1", "--memory", "--reuse-port", "--port", &port]);
    assert_eq!(other.address(), one.address());
    let third = run(&["--host", "127.0.0.1", "--memory", "--port", &port], &[]);
    assert_eq!(third.status.code(), Some(1), "one that does not share: {third:?}");
    assert_eq!(one.stop().code(), Some(0));
    let mut members = crowd(other.address(), "/", 8);
    members[0].send(frame(0x81, b"hello"));
    for member in &mut members {
        assert_eq!(member.frame(), Frame::text("hello"), "all connections go to whoever is left");
    }
}

#[test]
fn a_secret_that_is_none_is_told_in_a_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let short = folder.path().join("short");
    fs::write(&short, "secret").expect("a file");
    for (path, words) in [(short, "it has less than 16 bytes"), (folder.path().join("missing"), "No such file")] {
        let output = run(&["--secret-file", path.to_str().expect("a path of text")], &[("CHAT_PORT", "0")]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("cannot use the secret in") && error.contains(words), "{error}");
    }
}
