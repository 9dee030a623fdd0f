//! Members that do not read while others talk: nobody waits for them, and they miss nothing.

mod common;

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::Message;

use common::{Frame, Kept, Raw, Stopwatch, V1, WsClient, connect_narrow};

const ROOM: &str = "slow";
/// Texts of a kilobyte: far more than sockets, outboxes and the tail take.
const TEXTS: usize = 1_000;
const TEXT_BYTES: usize = 1_000;
/// Members of each kind that do not read.
const STALLED: usize = 2;
/// So long may anybody who reads have to wait for a text, without what is waited for a processor.
const PATIENCE: Duration = Duration::from_secs(5);

fn text(number: usize) -> String {
    format!("{number:>TEXT_BYTES$}")
}

fn number(text: &str) -> usize {
    text.trim_start().parse().expect("a number")
}

/// Reads on: all texts have to come, in order.
fn catch_up(client: &mut V1) {
    let mut last = 0;
    for expected in 0..TEXTS {
        let said = client.next("said");
        let position = said["position"].as_u64().expect("a position");
        assert!(position > last, "in order");
        last = position;
        assert_eq!(number(said["text"].as_str().expect("a text")), expected, "nothing is lost or doubled");
    }
}

#[test]
fn whoever_does_not_read_delays_nobody_and_loses_nothing() {
    let kept = Kept::new();
    let server = kept.start(&[
        "--say-rate",
        "0",
        "--tail-entries",
        "8",
        "--page",
        "10",
        "--outbox-high-water",
        "32KiB",
        "--outbox-low-water",
        "8KiB",
        "--stall-timeout",
        "60s",
    ]);
    let (address, pid) = (server.address(), server.pid());
    // From the present on: raw members, chat.v1 members and event streams, none of which reads.
    let mut raw: Vec<WsClient> =
        (0..STALLED).map(|_| WsClient::upgrade(connect_narrow(address), &format!("/?room={ROOM}"), &[])).collect();
    let mut talking: Vec<V1> = (0..STALLED)
        .map(|number| {
            let mut client = V1::try_over(connect_narrow(address)).expect("the server upgrades");
            client.ask(&json!({"type": "hello", "name": format!("slow {number}")}));
            client.ask(&json!({"type": "join", "room": ROOM}));
            client.next("joined");
            client
        })
        .collect();
    let mut streams: Vec<Raw> = (0..STALLED)
        .map(|_| {
            let mut stream = Raw::over(connect_narrow(address));
            stream.send(format!("GET /rooms/{ROOM}/events HTTP/1.1\r\nHost: {address}\r\n\r\n"));
            assert_eq!(stream.response_head().status, 200);
            stream
        })
        .collect();

    thread::scope(|scope| {
        // Others read, and hear everything in time.
        let readers: Vec<_> = (0..4).map(|_| Raw::upgraded(address, &format!("/?room={ROOM}"))).collect();
        for mut reader in readers {
            scope.spawn(move || {
                for expected in 0..TEXTS {
                    let Frame::Text(heard) = reader.frame() else { panic!("a text") };
                    let (_, heard) = heard.split_once(": ").expect("a name");
                    assert_eq!(number(heard), expected);
                }
            });
        }
        // One of those who read talks, with some texts on their way at any time.
        scope.spawn(move || {
            let (mut ann, _) = V1::joined(address, "Ann", ROOM);
            let mut under_way: VecDeque<Stopwatch> = VecDeque::new();
            let hear = |ann: &mut V1, under_way: &mut VecDeque<Stopwatch>| {
                ann.next("said");
                let waited = under_way.pop_front().expect("it was said").elapsed();
                assert!(waited < PATIENCE, "a text took {waited:?}");
            };
            for number in 0..TEXTS {
                if under_way.len() == 50 {
                    hear(&mut ann, &mut under_way);
                }
                under_way.push_back(Stopwatch::of(pid));
                let text = text(number);
                ann.ask(&json!({"type": "say", "room": ROOM, "text": text, "nonce": number.to_string()}));
            }
            while !under_way.is_empty() {
                hear(&mut ann, &mut under_way);
            }
        });
    });
    // All has been said and heard by who reads. The others are behind, and cost no memory.
    let metrics = server.metrics();
    assert_eq!(metrics["chat_catching_up_members"], (3 * STALLED) as f64);
    let most = (3 * STALLED * (32 + 64) * 1024) as f64;
    assert!(metrics["chat_outbox_bytes"] < most, "{}", metrics["chat_outbox_bytes"]);

    for client in &mut raw {
        for expected in 0..TEXTS {
            let Message::Text(heard) = client.next_message() else { panic!("a text") };
            let (_, heard) = heard.split_once(": ").expect("a name");
            assert_eq!(number(heard), expected, "nothing is lost or doubled");
        }
    }
    for client in &mut talking {
        catch_up(client);
    }
    for stream in &mut streams {
        for expected in 0..TEXTS {
            let event = stream.event();
            assert!(!event.contains("event: gap"), "{event}");
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
            let said: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(number(said["text"].as_str().expect("a text")), expected, "nothing is lost or doubled");
        }
    }
    // Level again: what is said now comes at once.
    server.wait_for_metric("chat_catching_up_members", |members| members == 0.0);
    V1::joined(address, "Bob", ROOM).0.say(ROOM, "now", "now");
    for client in &mut raw {
        assert_eq!(client.next_text(), "Bob: now");
    }
    for client in &mut talking {
        assert_eq!(client.next("said")["text"], "now");
    }
}
