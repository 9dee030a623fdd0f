//! Who hears what: everybody in a room the same, in the same order, however slowly some of them read.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    DEADLINE, End, Frame, Raw, Server, Stopwatch, WsClient, connect_narrow, crowd, frame, raise_descriptor_limit,
    wait_until,
};
use tungstenite::Message;

const TEXT: u8 = 0x81;
const CATCHING_UP: &str = "chat_catching_up_members";
const OUTBOX_BYTES: &str = "chat_outbox_bytes";

/// A server on which whoever does not read is soon noticed, with so much of each room kept.
fn impatient(tail_entries: &str, further: &[&str]) -> Server {
    let arguments = [
        &["--outbox-high-water", "16KiB", "--outbox-low-water", "4KiB", "--notsent-low-water", "4KiB"],
        &["--tail-bytes", "32MiB", "--tail-entries", tail_entries][..],
        further,
    ];
    Server::start(&arguments.concat())
}

/// A member with hardly any room for what it does not read.
fn narrow(address: SocketAddr, path: &str) -> Raw {
    Raw::over(connect_narrow(address)).upgrade(path)
}

/// The message of this number, a kilobyte long.
fn numbered(number: usize) -> String {
    format!("{number:0>1000}")
}

/// Says these messages, and hears them.
fn say(sender: &mut Raw, numbers: Range<usize>) {
    let frames: Vec<Vec<u8>> = numbers.clone().map(|it| frame(TEXT, numbered(it).as_bytes())).collect();
    // Not more than fits between two who read in turns.
    for (first, frames) in numbers.step_by(20).zip(frames.chunks(20)) {
        sender.send(frames.concat());
        hear(sender, first..first + frames.len());
    }
}

/// Hears these messages and no others.
fn hear(member: &mut Raw, numbers: Range<usize>) {
    numbers.for_each(|expected| assert_eq!(number(&member.frame()), expected));
}

/// The number of a message.
fn number(frame: &Frame) -> usize {
    let Frame::Text(text) = frame else { panic!("{frame:?}") };
    text.parse().expect("a number")
}

#[test]
fn everybody_in_the_room_hears_a_message_as_it_was_said() {
    let server = Server::start(&[]);
    let mut sender = WsClient::connect(server.address(), "/", &[]);
    let mut same = [
        WsClient::connect(server.address(), "/?room=lobby", &[]),
        WsClient::connect(server.address(), "/elsewhere/?room=&x=y", &[]),
    ];
    let mut other = WsClient::connect(server.address(), "/?room=other", &[]);
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::text("<img src=x onerror=alert(1)> \u{0} ✋🏽 مرحبا"),
        Message::text("x".repeat(125)),
        Message::text("x".repeat(126)),
        Message::text("é".repeat(32 * 1024)),
        Message::binary(Vec::new()),
        Message::binary(b"text, but not said as text".to_vec()),
        Message::binary((0..=255).cycle().take(64 * 1024).collect::<Vec<u8>>()),
    ] {
        sender.send(message.clone());
        assert!(sender.next_message() == message, "the sender hears {} bytes too", message.len());
        for member in &mut same {
            assert!(member.next_message() == message, "others hear {} bytes", message.len());
        }
    }
    other.send_text("first");
    assert_eq!(other.next_text(), "first", "another room hears nothing of it");
    assert_eq!((server.metric("chat_messages_in_total"), server.metric("chat_messages_out_total")), (10.0, 28.0));
}

#[test]
fn a_room_is_named_by_the_query() {
    let server = Server::start(&[]);
    for (one, same, other) in [
        ("/?room=a", "/x/y?b=c&room=a", "/?room=b"),
        ("/?room=K%C3%BCche+2", "/?room=K%c3%bcche%202", "/?room=Kueche+2"),
        ("/?room=a%26b", "/?room=%61%26%62", "/?room=a&b"),
        ("/", "/?room=lobby", "/?room=Lobby"),
    ] {
        let mut members = [one, same, other].map(|path| WsClient::connect(server.address(), path, &[]));
        members[0].send_text("inside");
        members[2].send_text("outside");
        assert_eq!(members.each_mut().map(WsClient::next_text), ["inside", "inside", "outside"], "{one}");
        assert_eq!(server.metric("chat_rooms"), 2.0, "{one}");
        drop(members);
        server.wait_until_empty();
    }
}

#[test]
fn all_members_hear_all_senders_in_the_same_order() {
    const MEMBERS: usize = 8;
    const EACH: usize = 250;
    let server = Server::start(&[]);
    let members = crowd(server.address(), "/", MEMBERS);
    let members = members.into_iter().enumerate().map(|(member, mut connection)| {
        thread::spawn(move || {
            for number in 0..EACH {
                connection.send(frame(TEXT, format!("{member} {number}").as_bytes()));
            }
            (0..MEMBERS * EACH).map(|_| connection.frame()).collect::<Vec<_>>()
        })
    });
    let heard: Vec<Vec<Frame>> = members.collect::<Vec<_>>().into_iter().map(|it| it.join().expect("heard")).collect();
    let mut next = HashMap::new();
    for frame in &heard[0] {
        let Frame::Text(text) = frame else { panic!("{frame:?}") };
        let (member, number) = text.split_once(' ').expect("two numbers");
        let expected = next.entry(member).or_insert(0);
        assert_eq!(number, expected.to_string(), "what {member} says is heard in its order");
        *expected += 1;
    }
    assert_eq!(next.len(), MEMBERS);
    assert!(heard.iter().all(|other| *other == heard[0]), "one order for all");
}

#[test]
fn a_thousand_members_hear_a_thousand_messages_said_at_once() {
    const MEMBERS: usize = 1_000;
    raise_descriptor_limit();
    let server = Server::start(&["--max-connections", "1100"]);
    let mut members = crowd(server.address(), "/", MEMBERS);
    for (number, member) in members.iter_mut().enumerate() {
        member.send(frame(TEXT, format!("{number:04}").as_bytes()));
    }
    let heard: Vec<Vec<u8>> = members.iter_mut().map(|member| member.take(MEMBERS * "..0000".len())).collect();
    let mut numbers: Vec<&[u8]> = heard[0].chunks(6).collect();
    numbers.sort_unstable();
    let expected: Vec<Vec<u8>> =
        (0..MEMBERS).map(|it| format!("\u{81}\u{4}{it:04}").chars().map(|it| it as u8).collect()).collect();
    assert_eq!(numbers, expected, "nothing is lost, and nothing said twice");
    assert!(heard.iter().all(|other| *other == heard[0]), "one order for all");
    assert_eq!(server.metric("chat_messages_out_total"), (MEMBERS * MEMBERS) as f64);
    drop(members);
    server.wait_until_empty();
}

#[test]
fn a_member_that_stops_reading_delays_nobody_and_loses_nothing() {
    const MESSAGES: usize = 500;
    let server = impatient("100000", &[]);
    let mut slow = narrow(server.address(), "/");
    let mut sender = Raw::upgraded(server.address(), "/");
    let mut other = Raw::upgraded(server.address(), "/");
    for sent in 0..MESSAGES {
        let watch = Stopwatch::start(&server);
        sender.send(frame(TEXT, numbered(sent).as_bytes()));
        assert_eq!((number(&sender.frame()), number(&other.frame())), (sent, sent));
        assert!(watch.elapsed() < Duration::from_secs(2), "{:?} for message {sent}", watch.elapsed());
    }
    assert_eq!(server.metric(CATCHING_UP), 1.0);
    let outbox = server.metric(OUTBOX_BYTES);
    assert!((1.0..40_000.0).contains(&outbox), "{outbox} bytes wait for one who does not read");
    hear(&mut slow, 0..MESSAGES);
    server.wait_for_metric(CATCHING_UP, |members| members == 0.0);
    // Level with the others, it hears what is new as they do.
    slow.send(frame(TEXT, b"7"));
    assert_eq!(
        [slow.frame(), sender.frame(), other.frame()],
        [const { 7 }; 3].map(|it: i32| Frame::Text(it.to_string()))
    );
}

#[test]
fn history_and_present_meet_while_others_go_on_talking() {
    const MESSAGES: usize = 2_000;
    let server = impatient("100000", &[]);
    let mut slow: Vec<Raw> = (0..4).map(|_| narrow(server.address(), "/")).collect();
    let mut sender = Raw::upgraded(server.address(), "/");
    let progress = Arc::new(AtomicUsize::new(0));
    let said = Arc::clone(&progress);
    let talking = thread::spawn(move || {
        for first in (0..MESSAGES).step_by(20) {
            say(&mut sender, first..first + 20);
            said.store(first, Ordering::Relaxed);
        }
        sender
    });
    // Each begins to read at another time, and reads to the end.
    let reading: Vec<_> = slow
        .drain(..)
        .enumerate()
        .map(|(place, mut member)| {
            let said = Arc::clone(&progress);
            thread::spawn(move || {
                wait_until("enough is said", || said.load(Ordering::Relaxed) >= place * MESSAGES / 8);
                hear(&mut member, 0..MESSAGES);
                member
            })
        })
        .collect();
    let members: Vec<Raw> = reading.into_iter().map(|it| it.join().expect("all is heard in order")).collect();
    let sender = talking.join().expect("all is said");
    assert_eq!(server.metric(CATCHING_UP), 0.0);
    drop((members, sender));
    server.wait_until_empty();
}

#[test]
fn a_member_behind_everything_that_is_kept_is_told_so() {
    const MESSAGES: usize = 2_000;
    let server = impatient("10", &["--linger-timeout", "200ms"]);
    let mut slow = narrow(server.address(), "/");
    let mut sender = Raw::upgraded(server.address(), "/");
    say(&mut sender, 0..MESSAGES);
    assert_eq!(server.metric(CATCHING_UP), 1.0);
    let (mut heard, end) = slow.frames_to_end(DEADLINE);
    assert_eq!((heard.pop(), end), (Some(Frame::Close(Some(1013))), End::Closed));
    assert!((1..MESSAGES).contains(&heard.len()), "{} messages", heard.len());
    assert!(heard.iter().enumerate().all(|(expected, frame)| number(frame) == expected), "no gap before the end");
    assert_eq!(server.metric("chat_closes_total{reason=\"fell_behind\"}"), 1.0);
    // It may come again, and hears what is new.
    let mut again = narrow(server.address(), "/");
    sender.send(frame(TEXT, b"7"));
    assert_eq!([sender.frame(), again.frame()], ["7"; 2].map(Frame::text));
}

#[test]
fn a_member_that_takes_nothing_at_all_is_cut_off() {
    let server = impatient("100000", &["--stall-timeout", "500ms", "--ping-interval", "1h"]);
    let mut stalled = narrow(server.address(), "/");
    let mut sender = Raw::upgraded(server.address(), "/");
    say(&mut sender, 0..200);
    server.wait_for_metric("chat_closes_total{reason=\"stalled\"}", |stalled| stalled == 1.0);
    assert_eq!((server.metric(CATCHING_UP), server.metric(OUTBOX_BYTES)), (0.0, 0.0));
    assert_eq!(stalled.frames_to_end(DEADLINE).1, End::Reset);
    sender.send(frame(TEXT, b"7"));
    assert_eq!(sender.frame(), Frame::text("7"), "whoever says nothing and takes everything stays");
}

/// It takes much less in that time than makes the kernel report its socket as writable.
#[test]
fn a_member_that_reads_slowly_is_not_cut_off() {
    const STALL: Duration = Duration::from_secs(2);
    const BEHIND: usize = 4_000;
    let arguments = ["--stall-timeout", "2s", "--notsent-low-water", "2MiB", "--tail-bytes", "32MiB"];
    let server = Server::start(&[&arguments[..], &["--tail-entries", "100000"]].concat());
    let mut slow = narrow(server.address(), "/");
    let mut sender = Raw::upgraded(server.address(), "/");
    say(&mut sender, 0..BEHIND);
    let (began, mut heard) = (Instant::now(), 0);
    wait_until("a little is read now and then", || {
        if began.elapsed() > heard * STALL / 120 {
            hear(&mut slow, heard as usize..heard as usize + 1);
            heard += 1;
        }
        began.elapsed() > 2 * STALL
    });
    assert_eq!(server.metric(CATCHING_UP), 1.0, "it is behind all the time");
    hear(&mut slow, heard as usize..BEHIND);
    assert_eq!(server.metric("chat_closes_total{reason=\"stalled\"}"), 0.0);
}

#[test]
fn whoever_does_not_take_its_own_echo_is_not_read() {
    const MESSAGES: usize = 3_000;
    let server = impatient("100000", &[]);
    let mut mute = narrow(server.address(), "/?room=own");
    let mut writer: TcpStream = mute.stream().try_clone().expect("a second handle");
    let written = Arc::new(AtomicUsize::new(0));
    let progress = Arc::clone(&written);
    let writing = thread::spawn(move || {
        for sent in 0..MESSAGES {
            writer.write_all(&frame(TEXT, numbered(sent).as_bytes())).expect("it is read in the end");
            progress.store(sent, Ordering::Relaxed);
        }
    });
    // Nothing moves any more, on neither side, and did not for a while.
    let (mut last, mut since) = ((0.0, 0), Instant::now());
    wait_until("it is not read any more", || {
        let now = (server.metric("chat_messages_in_total"), written.load(Ordering::Relaxed));
        if now != last {
            (last, since) = (now, Instant::now());
        }
        last.0 > 0.0 && since.elapsed() > Duration::from_millis(300)
    });
    assert!(last.0 < MESSAGES as f64 / 2.0 && !writing.is_finished(), "{last:?}");
    // What waits for it is bounded: high water, and what one turn has read from it.
    let outbox = server.metric(OUTBOX_BYTES);
    assert!(outbox < 16_384.0 + 70_000.0, "{outbox} bytes");
    let mut other = WsClient::connect(server.address(), "/", &[]);
    other.send_text("hello");
    assert_eq!(other.next_text(), "hello", "others do not notice");
    hear(&mut mute, 0..MESSAGES);
    writing.join().expect("all is written");
}

#[test]
fn many_slow_members_take_no_more_memory_than_is_allowed() {
    const MEMBERS: usize = 40;
    const MESSAGES: usize = 300;
    let server = impatient("100000", &["--outboxes-total", "128KiB"]);
    let mut slow: Vec<Raw> = (0..MEMBERS).map(|_| narrow(server.address(), "/")).collect();
    let mut sender = Raw::upgraded(server.address(), "/");
    let mut most = 0.0_f64;
    for first in (0..MESSAGES).step_by(10) {
        say(&mut sender, first..first + 10);
        most = most.max(server.metric(OUTBOX_BYTES));
    }
    assert!((64_000.0..160_000.0).contains(&most), "{most} bytes, of 128 KiB that are allowed");
    assert_eq!(server.metric(CATCHING_UP), MEMBERS as f64);
    // And each has everything once it reads.
    let mut first = slow[0].take(MESSAGES * 1_004);
    assert!(slow[1..].iter_mut().all(|member| member.take(first.len()) == first));
    for sent in 0..MESSAGES {
        let rest = first.split_off(1_004);
        assert_eq!(&first[4..], numbered(sent).as_bytes());
        first = rest;
    }
    drop((slow, sender));
    server.wait_until_empty();
}

/// Somebody who leaves in the middle takes nothing along, and leaves nothing behind.
#[test]
fn members_come_and_go_while_others_talk() {
    let server = Server::start(&[]);
    let mut members = crowd(server.address(), "/", 2);
    for round in 0..50 {
        let mut guest = Raw::upgraded(server.address(), "/");
        let [one, two] = members.get_disjoint_mut([0, 1]).expect("two");
        one.send(frame(TEXT, format!("hello {round}").as_bytes()));
        for member in [&mut *one, &mut *two, &mut guest] {
            assert_eq!(member.frame(), Frame::Text(format!("hello {round}")));
        }
        match round % 3 {
            0 => guest.reset(),
            1 => drop(guest),
            _ => {
                guest.send(common::close_frame(1001));
                let mut rest = Vec::new();
                guest.stream().read_to_end(&mut rest).expect("a clean end");
            }
        }
    }
    drop(members);
    server.wait_until_empty();
}
