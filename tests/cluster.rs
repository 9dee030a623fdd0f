//! Several instances on one Redis are one chat: the same order everywhere, whoever dies in between.

mod common;

use std::collections::HashSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use common::{ChatClient, Kept, RedisServer, Server, WsClient, get, run, wait_until};

const ROOM: &str = "lobby";
/// A broker that is gone or silent is noticed soon.
const IMPATIENT: [&str; 4] = ["--bus-canary", "500ms", "--say-rate", "0"];

/// What `/readyz` says.
fn readiness(address: SocketAddr) -> (u16, String) {
    let response = get(address, "/readyz");
    (response.status, response.text().lines().last().unwrap_or_default().to_owned())
}

fn wait_until_ready(server: &Server) {
    wait_until("it is ready", || readiness(server.address()).0 == 200);
}

/// An instance that keeps nothing.
fn in_memory(bus: &str, arguments: &[&str]) -> Server {
    let server = Server::start(&[&["--bus", bus], &IMPATIENT[..], arguments].concat());
    wait_until_ready(&server);
    server
}

/// An instance with a store.
fn kept(kept: &Kept, bus: &str, arguments: &[&str]) -> Server {
    let server = kept.start(&[&["--bus", bus], &IMPATIENT[..], arguments].concat());
    wait_until_ready(&server);
    server
}

/// Position and text of what was said.
type Said = (u64, String);

fn said(message: &Value) -> Said {
    (message["position"].as_u64().expect("a position"), message["text"].as_str().expect("a text").to_owned())
}

/// Everything that was said in a room, page by page.
fn history(address: SocketAddr) -> Vec<Said> {
    let mut entries: Vec<Said> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |last| last.0);
        let response = get(address, &format!("/rooms/{ROOM}/messages?after={after}"));
        let page: Value = serde_json::from_slice(&response.body).expect("JSON");
        entries.extend(page["entries"].as_array().expect("entries").iter().map(said));
        if page["more"] == false {
            return entries;
        }
    }
}

fn raw(server: &Server) -> WsClient {
    WsClient::connect(server.address(), &format!("/?room={ROOM}"), &[])
}

/// A person in the room.
struct Person {
    client: ChatClient,
    epoch: Value,
    heard: Vec<Said>,
}

impl Person {
    fn new(server: &Server, name: &str) -> Self {
        let (mut client, _) = ChatClient::hello(server.address(), name);
        let joined = client.join(ROOM);
        let heard = joined["entries"].as_array().expect("entries").iter().map(said).collect();
        Person { client, epoch: joined["epoch"].clone(), heard }
    }

    fn say(&mut self, text: &str) {
        self.client.say(ROOM, text, text);
    }

    /// Hears on until `enough`; gives what else it was told.
    fn hear_until(&mut self, enough: impl Fn(&[Said]) -> bool) -> Vec<Value> {
        let mut others = Vec::new();
        while !enough(&self.heard) {
            let message = self.client.next();
            match message["type"].as_str().expect("a type") {
                "said" => {
                    assert!(message["repeat"] != true, "{message}");
                    self.heard.push(said(&message));
                }
                "presence" | "typing" => {}
                "error" => panic!("{message}"),
                _ => others.push(message),
            }
        }
        others
    }

    fn hear(&mut self, last: &str) -> Vec<Value> {
        self.hear_until(|heard| heard.iter().any(|(_, text)| text == last))
    }
}

#[test]
fn three_instances_are_one_chat() {
    const ROUNDS: usize = 60;
    let redis = RedisServer::start(&[]);
    let url = redis.url();
    let (first, second) = (Kept::new(), Kept::new());
    let servers = [kept(&first, &url, &[]), kept(&second, &url, &[]), in_memory(&url, &[])];
    let mut talkers: Vec<WsClient> = servers.iter().map(raw).collect();
    let mut people: Vec<Person> =
        servers.iter().zip(["Ann", "Bob", "Cleo"]).map(|(it, name)| Person::new(it, name)).collect();
    for round in 0..ROUNDS {
        for place in 0..3 {
            talkers[place].send_text(&format!("raw {place}.{round}"));
            people[place].say(&format!("v1 {place}.{round}"));
        }
    }
    for person in &mut people {
        person.hear_until(|heard| heard.len() == 6 * ROUNDS);
        assert!(person.heard.is_sorted_by(|one, next| one.0 < next.0), "in order");
    }
    let heard = people[0].heard.clone();
    assert_eq!(heard, people[1].heard);
    assert_eq!(heard, people[2].heard);
    // Each talker's own words are in the order in which they were said.
    for place in 0..3 {
        for kind in ["raw", "v1"] {
            let own: Vec<&str> = heard
                .iter()
                .map(|(_, text)| text.as_str())
                .filter(|text| text.starts_with(&format!("{kind} {place}.")))
                .collect();
            let expected: Vec<String> = (0..ROUNDS).map(|round| format!("{kind} {place}.{round}")).collect();
            assert_eq!(own, expected);
        }
    }
    let names = ["Ann", "Bob", "Cleo"];
    let rendered = |(_, text): &Said| match text.strip_prefix("v1 ") {
        Some(rest) => format!("{}: {text}", names[rest[..1].parse::<usize>().expect("a place")]),
        None => text.clone(),
    };
    let rendered: Vec<String> = heard.iter().map(rendered).collect();
    for talker in &mut talkers {
        let texts: Vec<String> = (0..6 * ROUNDS).map(|_| talker.next_text()).collect();
        assert_eq!(texts, rendered);
    }
    for server in &servers {
        assert_eq!(history(server.address()), heard);
        assert_eq!(server.metric("chat_bus_up"), 1.0);
        assert!(server.metric("chat_bus_return_seconds_count") >= 2.0 * ROUNDS as f64);
        assert_eq!(server.metric("chat_drafts_in_flight"), 0.0);
    }
    // Whoever comes late, person or instance, finds the same.
    let late = in_memory(&url, &[]);
    assert_eq!(history(late.address()), heard);
    // Without a bus, or with another prefix, it is another chat.
    for server in [Server::start(&[]), in_memory(&url, &["--bus-prefix", "other"])] {
        assert_eq!(history(server.address()), []);
        assert_eq!(readiness(server.address()), (200, "ok".to_owned()));
    }
    for server in servers {
        assert!(server.stop().success());
    }
}

#[test]
fn a_client_moves_to_another_instance_and_misses_nothing() {
    let redis = RedisServer::start(&[]);
    let url = redis.url();
    let first = Kept::new();
    let servers = [kept(&first, &url, &[]), in_memory(&url, &[]), in_memory(&url, &[])];
    let (mut ann, welcome) = ChatClient::hello(servers[0].address(), "Ann");
    let joined = ann.join(ROOM);
    ann.say(ROOM, "one", "n1");
    let one = said(&ann.expect(|message| message["type"] == "said"));
    ann.close();
    let mut bob = Person::new(&servers[1], "Bob");
    bob.say("two");
    bob.say("three");
    bob.hear("three");
    for server in &servers {
        let hello = json!({"type": "hello", "name": "Ann", "token": welcome["token"]});
        let (mut ann, again) = ChatClient::hello_with(server.address(), &hello);
        assert_eq!(again["you"], welcome["you"], "the same person everywhere");
        // A memory instance that has not heard the last entry yet would not know the position.
        wait_until("it is level", || history(server.address()).len() == 3);
        let resumed = ann.resume(ROOM, one.0, &joined["epoch"]);
        assert_eq!((&resumed["gap"], &resumed["epoch"]), (&json!(false), &joined["epoch"]), "{resumed}");
        let entries: Vec<Said> = resumed["entries"].as_array().expect("entries").iter().map(said).collect();
        assert_eq!(entries, bob.heard[1..], "{resumed}");
        // What was said there is a repeat here.
        ann.say(ROOM, "one", "n1");
        let repeat = ann.expect(|message| message["type"] == "said");
        assert_eq!((&repeat["repeat"], said(&repeat)), (&json!(true), one.clone()));
        ann.close();
    }
}

#[test]
fn an_instance_that_was_killed_misses_nothing() {
    let redis = RedisServer::start(&[]);
    let url = redis.url();
    let (first, second) = (Kept::new(), Kept::new());
    let other = kept(&second, &url, &[]);
    let mut bob = Person::new(&other, "Bob");
    for round in 0..4 {
        let server = kept(&first, &url, &[]);
        let mut ann = Person::new(&server, "Ann");
        for number in 0..50 {
            ann.say(&format!("ann {round}.{number}"));
            bob.say(&format!("bob {round}.{number}"));
        }
        ann.hear(&format!("ann {round}.{}", [0, 10, 49, 25][round]));
        server.kill();
        for number in 50..60 {
            bob.say(&format!("bob {round}.{number}"));
        }
        bob.hear(&format!("bob {round}.59"));
        let known: HashSet<&Said> = bob.heard.iter().collect();
        assert!(ann.heard.iter().all(|said| known.contains(said)), "whoever heard something heard the same");
    }
    let server = kept(&first, &url, &[]);
    let everything = history(other.address());
    assert_eq!(history(server.address()), everything);
    assert_eq!(everything[..bob.heard.len()], bob.heard[..]);
}

#[test]
fn a_redis_that_keeps_everything_is_killed_and_everything_goes_out_once() {
    let mut redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let url = redis.url();
    let first = Kept::new();
    let servers = [kept(&first, &url, &[]), in_memory(&url, &[])];
    let mut people = [Person::new(&servers[0], "Ann"), Person::new(&servers[1], "Bob")];
    let epoch = people[0].epoch.clone();
    for round in 0..3 {
        for number in 0..100 {
            for (place, person) in people.iter_mut().enumerate() {
                person.say(&format!("{place}: {round}.{number}"));
            }
        }
        // While all this is on its way.
        redis.kill();
        for (place, person) in people.iter_mut().enumerate() {
            person.say(&format!("{place}: {round} into the void"));
        }
        wait_until("it is noticed", || servers.iter().all(|server| readiness(server.address()).0 == 503));
        for (server, person) in servers.iter().zip(&mut people) {
            assert_eq!(readiness(server.address()).1, "the bus cannot be reached");
            assert_eq!(get(server.address(), "/healthz").status, 200);
            assert_eq!(server.metric("chat_bus_up"), 0.0);
            // It may be that all is said again before anybody was told that it was down.
            person.client.send(&json!({"type": "history", "room": ROOM, "limit": 1}));
        }
        if round == 0 {
            let mut late = ChatClient::hello(servers[0].address(), "Late").0;
            let down = json!({"type": "status", "journal": "waiting", "bus": "down"});
            assert_eq!(late.expect(|message| message["type"] == "status"), down, "whoever comes is told as well");
        }
        redis.start_again();
        for person in &mut people {
            let others = person.hear_until(|heard| heard.len() == (round + 1) * 202);
            assert!(others.iter().all(|message| message["type"] != "gap"), "{others:?}");
        }
        servers.iter().for_each(wait_until_ready);
    }
    assert_eq!(people[0].heard, people[1].heard);
    let texts: HashSet<&str> = people[0].heard.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts.len(), people[0].heard.len(), "nothing twice");
    for place in 0..2 {
        let own: Vec<&str> = people[0]
            .heard
            .iter()
            .map(|(_, text)| text.as_str())
            .filter(|text| text.starts_with(&format!("{place}:")))
            .collect();
        let expected: Vec<String> = (0..3)
            .flat_map(|round| {
                (0..100)
                    .map(move |number| format!("{place}: {round}.{number}"))
                    .chain([format!("{place}: {round} into the void")])
            })
            .collect();
        assert_eq!(own, expected, "in the order in which it was said");
    }
    for server in &servers {
        let (mut client, _) = ChatClient::hello(server.address(), "Eve");
        assert_eq!(client.join(ROOM)["epoch"], epoch, "nothing was lost");
        assert!(server.metric("chat_bus_reconnects_total") >= 3.0);
        assert_eq!(history(server.address()), people[0].heard);
    }
}

#[test]
fn a_redis_that_has_lost_everything_is_a_gap_for_everybody() {
    let mut redis = RedisServer::start(&[]);
    let url = redis.url();
    let first = Kept::new();
    let servers = [kept(&first, &url, &[]), in_memory(&url, &[])];
    let mut people = [Person::new(&servers[0], "Ann"), Person::new(&servers[1], "Bob")];
    let mut talker = raw(&servers[1]);
    people[0].say("before");
    for person in &mut people {
        person.hear("before");
    }
    assert_eq!(talker.next_text(), "Ann: before");
    let before = people[0].heard[0].0;
    redis.kill();
    people[0].say("meanwhile");
    wait_until("it is noticed", || servers.iter().all(|server| readiness(server.address()).0 == 503));
    redis.start_again();
    people[1].say("after");
    let mut epochs = HashSet::new();
    for person in &mut people {
        let others = person.hear_until(|heard| heard.len() == 3);
        let gaps: Vec<&Value> = others.iter().filter(|message| message["type"] == "gap").collect();
        assert_eq!(gaps.len(), 1, "{others:?}");
        assert!(gaps[0]["position"].as_u64().expect("a position") >= before && gaps[0]["room"] == ROOM, "{gaps:?}");
        assert_ne!(gaps[0]["epoch"], person.epoch);
        assert!(person.heard[1].0 > gaps[0]["position"].as_u64().expect("a position"), "nothing is numbered again");
        epochs.insert(gaps[0]["epoch"].as_str().expect("an epoch").to_owned());
    }
    assert_eq!((people[0].heard.clone(), epochs.len()), (people[1].heard.clone(), 1));
    let mut texts = [talker.next_text(), talker.next_text()];
    texts.sort();
    assert_eq!(texts, ["Ann: meanwhile", "Bob: after"], "raw members go on");
    let epoch = json!(epochs.into_iter().next().expect("an epoch"));
    for server in &servers {
        let (mut client, _) = ChatClient::hello(server.address(), "Cleo");
        assert_eq!(client.resume(ROOM, before, &people[0].epoch)["gap"], true, "a position of a life that is over");
        let (mut client, _) = ChatClient::hello(server.address(), "Dan");
        let after = people[0].heard[1].0;
        let resumed = client.resume(ROOM, after, &epoch);
        assert_eq!((&resumed["gap"], &resumed["missed"]), (&json!(false), &json!(1)), "{resumed}");
    }
    // What was there before is still where it was kept.
    assert_eq!(history(servers[0].address()), people[0].heard);
}

#[test]
fn an_instance_starts_without_its_bus() {
    let mut redis = RedisServer::start(&[]);
    let url = redis.url();
    let first = Kept::new();
    let server = kept(&first, &url, &[]);
    let mut ann = Person::new(&server, "Ann");
    ann.say("kept");
    ann.hear("kept");
    assert!(server.stop().success());
    redis.kill();

    let server = first.start(&["--bus", &url]);
    assert_eq!(readiness(server.address()), (503, "the bus cannot be reached".to_owned()));
    assert_eq!(get(server.address(), "/").status, 200, "there is a page");
    wait_until("it is told", || server.log().contains("the bus cannot be used"));
    let mut ann = Person::new(&server, "Ann");
    assert_eq!(ann.heard.len(), 1, "there is a history");
    ann.say("waits");
    redis.start_again();
    ann.hear("waits");
    wait_until_ready(&server);
}

#[test]
fn a_bus_whose_connection_is_stopped_is_noticed() {
    let redis = RedisServer::start(&[]);
    let server = in_memory(&redis.url(), &[]);
    let mut talker = raw(&server);
    redis.pause();
    wait_until("the silence is noticed", || readiness(server.address()).0 == 503);
    talker.send_text("into the silence");
    redis.resume();
    assert_eq!(talker.next_text(), "into the silence");
    wait_until_ready(&server);
    talker.send_text("once");
    assert_eq!(talker.next_text(), "once");
}

#[test]
fn a_bus_that_cannot_be_one_is_told_in_a_sentence() {
    for (url, expected) in [
        ("http://127.0.0.1", "chat-app: --bus: expected a URL such as redis://127.0.0.1"),
        ("127.0.0.1:6379", "chat-app: --bus: expected a URL such as redis://127.0.0.1"),
        ("redis://", "but it has no host"),
        ("redis://127.0.0.1:port", "but its port is not one from 1 to 65535"),
        // What only the client of the broker knows.
        ("redis://me:secret@0.0.0.0", "chat-app: --bus: the URL is not one of a Redis server, such as redis://"),
        ("redis://me:secret@h?protocol=9", "chat-app: --bus: the URL is not one of a Redis server, such as redis://"),
    ] {
        let output = run(&["--bus", url, "--memory", "--port", "0"], &[]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(expected) && !told.contains("secret"), "{url}: {told}");
        assert_eq!(output.status.code(), Some(2), "{url}: {told}");
        assert!(told.lines().last().is_some_and(|line| line.starts_with("chat-app: ")), "{told}");
    }
}

#[test]
fn a_redis_behind_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let held = common::Port::take().expect("a free port");
    let port = held.to_string();
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &key]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-out", &certificate]);
    assert!(openssl.output().expect("openssl, of the Debian package of that name, is installed").status.success());
    let tls = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let redis =
        RedisServer::start(&[&tls[..], &["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"]].concat());
    let url = format!("rediss://127.0.0.1:{port}/2");
    let start = |url: &str| {
        Server::start_with(&["--bus", url], |command| {
            command.env("SSL_CERT_FILE", &certificate);
        })
    };
    let servers = [start(&url), start(&format!("{}/2", redis.url()))];
    servers.iter().for_each(wait_until_ready);
    let mut talkers: Vec<WsClient> = servers.iter().map(raw).collect();
    talkers[0].send_text("in secret");
    assert_eq!(talkers[1].next_text(), "in secret");
    // Whoever does not know the certificate does not talk.
    let stranger = Server::start(&["--bus", &url]);
    wait_until("it is told", || stranger.log().contains("the bus cannot be used"));
    assert_eq!(readiness(stranger.address()).0, 503);
}

#[test]
fn events_go_on_at_another_instance() {
    let redis = RedisServer::start(&[]);
    let servers = [in_memory(&redis.url(), &[]), in_memory(&redis.url(), &[])];
    let mut bob = Person::new(&servers[1], "Bob");
    bob.say("one");
    bob.say("two");
    bob.hear("two");
    for server in &servers {
        wait_until("it is level", || history(server.address()).len() == 2);
        let mut stream = common::Raw::connect(server.address());
        let epoch = bob.epoch.as_str().expect("an epoch");
        let id = format!("{epoch}-{}", bob.heard[0].0);
        stream.send(format!("GET /rooms/{ROOM}/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {id}\r\n\r\n"));
        assert_eq!(stream.response_head().status, 200);
        let event = stream.event();
        assert!(event.starts_with(&format!("id: {epoch}-{}\n", bob.heard[1].0)) && event.contains("two"), "{event}");
    }
}

#[test]
fn people_of_all_instances_are_there() {
    let redis = RedisServer::start(&[]);
    // One key for both, so that whoever changes over stays who they were.
    let secret = redis.folder().join("secret");
    std::fs::write(&secret, "a secret of more than sixteen bytes").expect("a file");
    let secret = ["--secret-file", secret.to_str().expect("UTF-8")];
    let [one, other, third] = [(); 3].map(|()| in_memory(&redis.url(), &secret));
    let presence = |client: &mut ChatClient, what: &str, of: &Value| {
        let of = of.as_str().expect("an id");
        client.expect(|message| message["type"] == "presence" && message[what].to_string().contains(of))
    };
    let (mut ann, _) = ChatClient::hello(one.address(), "Ann");
    ann.join(ROOM);
    let (mut bob, welcome) = ChatClient::hello(other.address(), "Bob");
    let (id, token) = (welcome["you"]["id"].clone(), welcome["token"].clone());
    bob.join(ROOM);
    assert_eq!(presence(&mut ann, "joined", &id)["count"], 2);
    assert_eq!(one.metric("chat_bus_instances"), 2.0);

    bob.send(&json!({"type": "rename", "name": "Robert"}));
    let renamed = presence(&mut ann, "renamed", &id);
    assert_eq!(renamed["renamed"], json!([{"id": id, "name": "Robert"}]));
    bob.send(&json!({"type": "typing", "room": ROOM}));
    let typing = ann.expect(|message| message["type"] == "typing" && message["names"] != json!([]));
    assert_eq!(typing["names"][0]["name"], "Robert");

    // The server of one stops in order, and they come to another one: nobody has seen them go.
    let (mut eve, _) = ChatClient::hello(third.address(), "Eve");
    let joined = eve.join(ROOM);
    let everybody = |message: &Value| message["count"] == 3;
    if !everybody(&joined["members"]) {
        eve.expect(|message| message["type"] == "presence" && everybody(message));
    }
    ann.expect(|message| message["type"] == "presence" && everybody(message));
    other.signal(rustix::process::Signal::TERM);
    bob.until_closed();
    assert!(other.wait().success());
    let (mut bob, welcome) = ChatClient::hello_with(third.address(), &json!({"type": "hello", "token": token}));
    assert_eq!((&welcome["you"]["id"], &welcome["you"]["name"]), (&id, &json!("Robert")));
    bob.join(ROOM);
    bob.send(&json!({"type": "rename", "name": "Rob"}));
    let next = ann.expect(|message| message["type"] == "presence");
    assert_eq!((&next["renamed"], &next["count"]), (&json!([{"id": id, "name": "Rob"}]), &json!(3)), "{next}");
    // The server of both dies.
    third.kill();
    let gone = ann.expect(|message| message["type"] == "presence");
    assert_eq!((gone["left"].as_array().map(Vec::len), &gone["count"]), (Some(2), &json!(1)), "{gone}");
}
