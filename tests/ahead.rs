//! Clients that come from an instance which is ahead of the one they come to wait for it, and lose nothing.

mod common;

use rustix::process::Signal;
use serde_json::{Value, json};

use common::{ChatClient, Kept, Raw, RedisServer, Relay, Server, get, wait_until};

const ROOM: &str = "lobby";
const IMPATIENT: [&str; 4] = ["--bus-canary", "500ms", "--say-rate", "0"];

fn instance(bus: &str, arguments: &[&str]) -> Server {
    let server = Server::start(&[&["--bus", bus], &IMPATIENT[..], arguments].concat());
    wait_until_ready(&server, 200);
    server
}

fn wait_until_ready(server: &Server, status: u16) {
    wait_until("it is as ready as that", || get(server.address(), "/readyz").status == status);
}

fn say(client: &mut ChatClient, text: &str) -> u64 {
    client.say(ROOM, text, text);
    client.expect(|message| message["type"] == "said" && message["nonce"] == text)["position"].as_u64().expect("one")
}

/// A stream of the room behind a position, of which the head has been read.
fn stream(server: &Server, id: &str) -> Raw {
    let mut stream = Raw::connect(server.address());
    stream.send(format!("GET /rooms/{ROOM}/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {id}\r\n\r\n"));
    assert_eq!(stream.response_head().status, 200);
    assert_eq!(stream.block(), format!("id: {id}\n\n"), "it can come back to here");
    stream
}

/// A request for what was said in the room.
fn ask(server: &Server, query: &str) -> Raw {
    let mut poll = Raw::connect(server.address());
    poll.send(format!("GET /rooms/{ROOM}/messages?{query} HTTP/1.1\r\nHost: x\r\n\r\n"));
    poll
}

/// The answer to it.
fn page(poll: &mut Raw) -> Value {
    let response = poll.response();
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_slice(&response.body).expect("JSON")
}

#[test]
fn who_comes_to_an_instance_whose_bus_is_away_waits_and_misses_nothing() {
    let redis = RedisServer::start(&[]);
    let relay = Relay::start(redis.address());
    let ahead = instance(&redis.url(), &[]);
    let behind = instance(&format!("redis://{}", relay.address()), &[]);
    let (mut ann, _) = ChatClient::hello(ahead.address(), "Ann");
    let joined = ann.join(ROOM);
    let epoch = joined["epoch"].as_str().expect("an epoch").to_owned();
    let first = say(&mut ann, "first");
    relay.refuse(true);
    wait_until_ready(&behind, 503);
    let second = say(&mut ann, "second");
    let last = say(&mut ann, "third");
    assert!(first < second && second < last);

    let (mut moved, _) = ChatClient::hello(behind.address(), "Ann");
    moved.send(&json!({"type": "join", "room": ROOM, "after": second, "epoch": epoch}));
    let told = moved.expect(|message| message["type"] == "behind" || message["type"] == "joined");
    assert_eq!((&told["type"], &told["room"]), (&json!("behind"), &json!(ROOM)), "{told}");
    assert!(told["position"].as_u64().expect("a position") < second, "{told}");
    let mut moved_stream = stream(&behind, &format!("{epoch}-{second}"));
    let mut poll = ask(&behind, &format!("after={second}&epoch={epoch}"));
    wait_until("they wait", || behind.metric("chat_bus_clients_ahead") == 3.0);
    // Who has gone does not wait.
    let gone = ask(&behind, &format!("after={last}&epoch={epoch}"));
    wait_until("it waits", || behind.metric("chat_bus_clients_ahead") == 4.0);
    gone.reset();
    wait_until("it has gone", || behind.metric("chat_bus_clients_ahead") == 3.0);

    relay.refuse(false);
    let page = page(&mut poll);
    assert_eq!((&page["gap"], &page["entries"][0]["position"]), (&json!(false), &json!(last)), "{page}");
    assert_eq!((&page["position"], &page["epoch"]), (&json!(last), &json!(epoch)), "{page}");
    let joined = moved.expect(|message| message["type"] == "joined");
    assert_eq!(joined["gap"], false, "{joined}");
    // It is in the same page, or follows.
    let next = joined["entries"].get(0).cloned().unwrap_or_else(|| moved.expect(|message| message["type"] == "said"));
    assert_eq!(next["position"], last, "{joined}");
    let event = moved_stream.event();
    assert!(event.starts_with(&format!("id: {epoch}-{last}\n")) && !event.contains("gap"), "{event}");
    wait_until_ready(&behind, 200);
    assert_eq!(behind.metric("chat_bus_clients_ahead"), 0.0);
}

#[test]
fn a_position_that_is_not_on_the_bus_is_a_gap_as_soon_as_that_is_known() {
    let redis = RedisServer::start(&[]);
    // Nobody may have to wait for so long.
    let server = instance(&redis.url(), &["--ahead-timeout", "1h"]);
    let (mut ann, _) = ChatClient::hello(server.address(), "Ann");
    let joined = ann.join(ROOM);
    let epoch = joined["epoch"].as_str().expect("an epoch");
    let last = say(&mut ann, "last");
    for (after, epoch) in [(last + 1_000, epoch), (1, "0123456789abcdef")] {
        let (mut lost, _) = ChatClient::hello(server.address(), "Bob");
        let joined = lost.resume(ROOM, after, &json!(epoch));
        assert_eq!((&joined["gap"], &joined["entries"][0]["position"]), (&json!(true), &json!(last)), "{joined}");
        let mut lost = stream(&server, &format!("{epoch}-{after}"));
        let gap = lost.event();
        assert!(gap.contains("event: gap\n"), "{gap}");
        assert!(lost.event().starts_with(&format!("id: {}-{last}\n", epoch_of(&joined))), "the newest page");
        // Whoever polls with it is told as well, and has what to go on with.
        let mut poll = ask(&server, &format!("after={after}&epoch={epoch}"));
        let told = page(&mut poll);
        assert_eq!((&told["gap"], &told["entries"][0]["position"]), (&json!(true), &json!(last)), "{told}");
        let (position, epoch) = (&told["position"], epoch_of(&told));
        let next = page(&mut ask(&server, &format!("after={position}&epoch={epoch}")));
        assert_eq!((&next["gap"], &next["entries"]), (&json!(false), &json!([])), "{next}");
    }
    let told = page(&mut ask(&server, &format!("after={}", last + 1_000)));
    assert_eq!(told["gap"], true, "without an epoch, today's is meant: {told}");
}

#[test]
fn whoever_polls_with_a_position_that_is_lost_is_told_so() {
    let mut redis = RedisServer::start(&[]);
    let kept = Kept::new();
    let server = kept.start(&[&["--bus", &redis.url()], &IMPATIENT[..], &["--ahead-timeout", "1h"]].concat());
    wait_until_ready(&server, 200);
    let (mut ann, _) = ChatClient::hello(server.address(), "Ann");
    let former = ann.join(ROOM)["epoch"].clone();
    let last = say(&mut ann, "before");
    let (former, beyond) = (former.as_str().expect("an epoch"), last + 1_000);
    redis.kill();
    wait_until_ready(&server, 503);
    // It may be that another instance has heard this: who can tell, as long as the bus is away?
    let mut polls = [ask(&server, &format!("after={beyond}")), ask(&server, &format!("after={beyond}&epoch={former}"))];
    wait_until("they wait", || server.metric("chat_bus_clients_ahead") == 2.0);
    redis.start_again();
    wait_until_ready(&server, 200);
    for poll in &mut polls {
        let told = page(poll);
        assert_eq!((&told["gap"], &told["entries"][0]["text"]), (&json!(true), &json!("before")), "{told}");
        let epoch = epoch_of(&told);
        assert_ne!(epoch, former, "{told}");
        let next = page(&mut ask(&server, &format!("after={}&epoch={epoch}", told["position"])));
        assert_eq!((&next["gap"], &next["entries"]), (&json!(false), &json!([])), "{next}");
    }
}

#[test]
fn who_waits_when_the_server_stops_is_sent_away() {
    let redis = RedisServer::start(&[]);
    let relay = Relay::start(redis.address());
    let server = instance(&format!("redis://{}", relay.address()), &["--drain-timeout", "1h"]);
    relay.refuse(true);
    wait_until_ready(&server, 503);
    let mut poll = ask(&server, "after=1000");
    wait_until("it waits", || server.metric("chat_bus_clients_ahead") == 1.0);
    server.signal(Signal::TERM);
    let response = poll.response();
    assert_eq!((response.status, response.field("Retry-After")), (503, Some("2")), "{}", response.text());
    assert!(server.wait().success());
}

fn epoch_of(joined: &Value) -> &str {
    joined["epoch"].as_str().expect("an epoch")
}

#[test]
fn the_wait_ends_in_time() {
    let redis = RedisServer::start(&[]);
    let relay = Relay::start(redis.address());
    let ahead = instance(&redis.url(), &[]);
    let behind = instance(&format!("redis://{}", relay.address()), &["--ahead-timeout", "100ms"]);
    let (mut ann, _) = ChatClient::hello(ahead.address(), "Ann");
    let epoch = ann.join(ROOM)["epoch"].clone();
    relay.refuse(true);
    wait_until_ready(&behind, 503);
    let last = say(&mut ann, "unheard");
    let (mut moved, _) = ChatClient::hello(behind.address(), "Ann");
    assert_eq!(moved.resume(ROOM, last, &epoch)["gap"], true);
    assert_eq!(page(&mut ask(&behind, &format!("after={last}")))["gap"], true);
    assert_eq!(behind.metric("chat_bus_clients_ahead_lost_total{reason=\"late\"}"), 2.0);
    assert_eq!(behind.metric("chat_bus_clients_ahead_lost_total{reason=\"absent\"}"), 0.0);
}
