//! chat.v1 end to end: whatever happens to connections, everybody hears everything once, in one order.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use common::{ChatClient, Kept, Server, WsClient};

/// A server with a store in a folder.
fn with_store(folder: &TempDir, options: &[&str]) -> Server {
    let options = [&["--data", folder.path().to_str().expect("UTF-8")], options].concat();
    Server::start_with(&options, |command| {
        command.env_remove("CHAT_MEMORY");
    })
}

fn position(message: &Value) -> u64 {
    message["position"].as_u64().unwrap_or_else(|| panic!("no position in {message}"))
}

/// Somebody who is cut off again and again, comes back as the same person, and says what was not confirmed once more.
struct Wanderer {
    address: SocketAddr,
    rng: fastrand::Rng,
    hello: Value,
    epoch: Value,
    /// Everything heard: position, nonce and text.
    heard: Vec<(u64, String, String)>,
    /// Up to where the room is known.
    upto: u64,
    /// What is to be said, by its nonce, and has not come back.
    unsaid: Vec<String>,
}

impl Wanderer {
    fn new(address: SocketAddr, number: u64, texts: usize) -> Self {
        let unsaid = (0..texts).rev().map(|text| format!("{number}-{text}")).collect();
        let hello = json!({"type": "hello", "name": format!("wanderer {number}")});
        let rng = fastrand::Rng::with_seed(number);
        // Its journey begins in the empty room.
        let epoch = ChatClient::hello(address, "Scout").0.join("room")["epoch"].clone();
        Wanderer { address, rng, hello, epoch, heard: Vec::new(), upto: 0, unsaid }
    }

    /// Lives through connections until all of its own has come back, and `total` entries were heard.
    fn wander(mut self, total: usize) -> Vec<(u64, String, String)> {
        while !self.unsaid.is_empty() || self.heard.len() < total {
            let (mut client, welcome) = ChatClient::hello_with(self.address, &self.hello);
            self.hello["token"] = welcome["token"].clone();
            self.hello["session"] = welcome["session"].clone();
            let joined = client.resume("room", self.upto, &self.epoch);
            assert_eq!((&joined["gap"], &joined["epoch"]), (&json!(false), &self.epoch), "{joined}");
            let entries = joined["entries"].as_array().expect("entries").clone();
            entries.iter().for_each(|entry| self.hear(entry));
            assert!(position(&joined) >= self.upto, "{joined}");
            self.upto = position(&joined);
            let saying = self.rng.usize(1..10).min(self.unsaid.len());
            for nonce in self.unsaid.iter().rev().take(saying) {
                client.say("room", &format!("text of {nonce}"), nonce);
            }
            // Some of it comes back before the connection is cut; who has said everything waits for the others.
            let left = self.unsaid.len() - self.rng.usize(0..=saying);
            while self.unsaid.len() > left || (self.unsaid.is_empty() && self.heard.len() < total) {
                let said = client.expect(|message| message["type"] != "presence");
                assert_eq!(said["type"], "said", "{said}");
                if said["repeat"] == true {
                    let nonce = said["nonce"].as_str().expect("a nonce");
                    self.unsaid.retain(|unsaid| unsaid != nonce);
                } else {
                    self.hear(&said);
                }
            }
            if self.rng.bool() {
                // Cut rather than closed; the server may not know yet when the next one comes.
                drop(client);
            } else {
                client.socket().send(tungstenite::Message::Close(None));
            }
        }
        self.heard
    }

    fn hear(&mut self, entry: &Value) {
        assert!(position(entry) > self.upto, "heard again, or out of order: {entry} after {}", self.upto);
        self.upto = position(entry);
        let [nonce, text] = ["nonce", "text"].map(|field| entry[field].as_str().expect("a text").to_owned());
        self.unsaid.retain(|unsaid| *unsaid != nonce);
        self.heard.push((self.upto, nonce, text));
    }
}

#[test]
fn whoever_is_cut_off_again_and_again_hears_and_says_everything_once() {
    const WANDERERS: usize = 6;
    const TEXTS: usize = 60;
    let folder = tempfile::tempdir().expect("a folder");
    // Small pages, and tails that do not reach back far: what was missed comes from the store as well.
    let stored = with_store(&folder, &["--page", "7", "--tail-entries", "20", "--say-rate", "0", "--ask-rate", "0"]);
    let in_memory = Server::start(&["--page", "7", "--say-rate", "0", "--ask-rate", "0"]);
    for server in [stored, in_memory] {
        let address = server.address();
        let logs: Vec<_> = thread::scope(|scope| {
            let wanderers = (0..WANDERERS).map(|number| Wanderer::new(address, number as u64, TEXTS));
            let wanderers: Vec<_> = wanderers.collect();
            let wander = |it: Wanderer| scope.spawn(|| it.wander(WANDERERS * TEXTS));
            let wanderers: Vec<_> = wanderers.into_iter().map(wander).collect();
            wanderers.into_iter().map(|it| it.join().expect("a wanderer")).collect()
        });
        for log in &logs {
            assert_eq!(log, &logs[0], "everybody has heard the same");
        }
        let mut said: HashMap<&str, usize> = HashMap::new();
        for (place, (_, nonce, text)) in logs[0].iter().enumerate() {
            assert_eq!(text, &format!("text of {nonce}"));
            assert_eq!(said.insert(nonce, place), None, "{nonce} was said once");
        }
        for number in 0..WANDERERS {
            let places: Vec<_> = (0..TEXTS).map(|text| said[format!("{number}-{text}").as_str()]).collect();
            assert!(places.is_sorted(), "what one has said comes in the order in which it was said");
        }
        server.wait_until_empty();
    }
}

#[test]
fn a_restart_keeps_people_history_epoch_and_what_was_said_once() {
    let kept = Kept::new();
    let server = kept.start(&[]);
    let (mut ann, welcome) = ChatClient::hello(server.address(), "Ann");
    let (mut bob, _) = ChatClient::hello(server.address(), "Bob");
    let epoch = ann.join("room")["epoch"].clone();
    bob.join("room");
    for number in 0..10 {
        ann.say("room", "before", &format!("b{number}"));
    }
    let before = bob.all("said", 10);
    // Ann has heard seven of them, as far as she knows.
    let after = position(&before[6]);
    server.kill();

    let server = kept.start(&[]);
    let hello = json!({"type": "hello", "token": welcome["token"], "session": welcome["session"], "name": "Ann"});
    let (mut ann, again) = ChatClient::hello_with(server.address(), &hello);
    assert_eq!(again["you"], welcome["you"], "the same person");
    let joined = ann.resume("room", after, &epoch);
    assert_eq!((&joined["epoch"], &joined["gap"], &joined["missed"]), (&epoch, &json!(false), &json!(3)));
    for (entry, said) in joined["entries"].as_array().expect("entries").iter().zip(&before[7..]) {
        for field in ["position", "nonce", "from", "text", "at"] {
            assert_eq!(entry[field], said[field], "what was heard is what was stored");
        }
    }
    ann.say("room", "once more", "b9");
    let repeat = ann.expect(|message| message["type"] == "said");
    assert_eq!((&repeat["repeat"], &repeat["position"]), (&json!(true), &before[9]["position"]));
    ann.say("room", "after", "a1");
    let said = ann.expect(|message| message["type"] == "said");
    assert!(position(&said) > position(&before[9]), "positions go on");
    ann.send(&json!({"type": "search", "room": "room", "query": "before from:ann", "limit": 2}));
    let found = ann.expect(|message| message["type"] == "found");
    assert_eq!((found["entries"].as_array().expect("entries").len(), &found["more"]), (2, &json!(true)));
}

/// Somebody with a small receive buffer who joins and then reads nothing, while others talk.
fn sleeper(server: &Server) -> ChatClient {
    let stream = common::connect_narrow(server.address());
    let mut client = ChatClient::over(WsClient::upgrade(stream, "/", &[("Sec-WebSocket-Protocol", "chat.v1")]));
    client.send(&json!({"type": "hello", "name": "Sleeper"}));
    assert_eq!(client.next()["type"], "welcome");
    client.join("room");
    client
}

#[test]
fn a_slow_reader_gets_everything_in_order_or_is_told_of_the_gap() {
    const TEXTS: u64 = 2_000;
    let folder = tempfile::tempdir().expect("a folder");
    let options =
        ["--outbox-high-water", "16KiB", "--outbox-low-water", "8KiB", "--tail-entries", "100", "--say-rate", "0"];
    let stored = with_store(&folder, &options);
    let in_memory = Server::start(&options);
    for (server, keeps_history) in [(stored, true), (in_memory, false)] {
        let mut slow = sleeper(&server);
        let (mut ann, _) = ChatClient::hello(server.address(), "Ann");
        ann.join("room");
        let text = "x".repeat(1000);
        for number in 0..TEXTS {
            ann.say("room", &text, &number.to_string());
            if number % 50 == 49 {
                let said = ann.all("said", 50);
                assert_eq!(position(&said[49]), number + 1, "the slow one holds nobody up");
            }
        }
        server.wait_for_metric("chat_catching_up_members", |members| members == 1.0);
        let mut heard = 0;
        let mut gaps = 0;
        while heard < TEXTS {
            let message = slow.expect(|message| message["type"] != "presence");
            match message["type"].as_str() {
                Some("said") => assert_eq!(position(&message), heard + 1, "after {gaps} gaps"),
                Some("gap") => {
                    gaps += 1;
                    assert!(position(&message) > heard, "{message}");
                }
                _ => panic!("{message}"),
            }
            heard = position(&message);
        }
        assert_eq!(gaps > 0, !keeps_history, "what is kept is told, and what is not is not passed over in silence");
        ann.say("room", "and now", "last");
        assert_eq!(slow.expect(|message| message["type"] != "presence")["text"], "and now");
        assert_eq!(server.metric("chat_catching_up_members"), 0.0);
    }
}

#[test]
fn a_crowd_that_comes_back_at_once_is_told_what_it_missed() {
    const PEOPLE: usize = 300;
    const MISSED: usize = 150;
    let folder = tempfile::tempdir().expect("a folder");
    let stored = with_store(&folder, &["--page", "40", "--say-rate", "0", "--feeds-per-turn", "20"]);
    let in_memory = Server::start(&["--page", "40", "--say-rate", "0", "--feeds-per-turn", "20"]);
    for server in [stored, in_memory] {
        let (mut ann, _) = ChatClient::hello(server.address(), "Ann");
        let epoch = ann.join("room")["epoch"].clone();
        for number in 0..MISSED {
            ann.say("room", &format!("text {number}"), &format!("n{number}"));
        }
        let said: Vec<u64> = ann.all("said", MISSED).iter().map(position).collect();
        let (together, address) = (Barrier::new(8), server.address());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut people: Vec<_> =
                        (0..PEOPLE / 8).map(|_| ChatClient::hello(address, "Somebody").0).collect();
                    together.wait();
                    for person in &mut people {
                        person.send(&json!({"type": "join", "room": "room", "after": 0, "epoch": epoch}));
                    }
                    for person in &mut people {
                        let joined = person.expect(|message| message["type"] == "joined");
                        let mut heard: Vec<u64> =
                            joined["entries"].as_array().expect("entries").iter().map(position).collect();
                        assert_eq!((&joined["gap"], heard.len()), (&json!(false), 40), "{joined}");
                        assert_eq!((&joined["more"], &joined["missed"]), (&json!(true), &json!(MISSED)));
                        heard.extend(person.all("said", MISSED - 40).iter().map(position));
                        assert_eq!(heard, said);
                    }
                });
            }
        });
    }
}

#[test]
fn presence_of_a_crowd_costs_each_of_its_members_little() {
    const PEOPLE: usize = 400;
    let server = Server::start(&["--presence-names", "50"]);
    let (mut ann, _) = ChatClient::hello(server.address(), "Ann");
    ann.join("room");
    let mut people: Vec<ChatClient> = (0..PEOPLE).map(|_| ChatClient::connect(server.address())).collect();
    for (number, person) in people.iter_mut().enumerate() {
        person.send(&json!({"type": "hello", "name": format!("p{number}")}));
        person.send(&json!({"type": "join", "room": "room"}));
    }
    let mut updates = Vec::new();
    while updates.last().is_none_or(|update: &Value| update["count"] != PEOPLE + 1) {
        updates.push(ann.expect(|message| message["type"] == "presence"));
    }
    let bytes: usize = updates.iter().map(|update| update.to_string().len()).sum();
    assert!(bytes < 12_000, "{} updates of {bytes} bytes", updates.len());
    assert_eq!(updates.last().and_then(|update| update["names"].as_array()).map_or(0, Vec::len), 0);
    drop(people);
    // They go in portions: from some number on all who are left are named, and then those who go.
    let mut there: BTreeMap<String, Value> = BTreeMap::new();
    let mut is_named = false;
    loop {
        let update = ann.expect(|message| message["type"] == "presence");
        let people = |field: &str| update[field].as_array().cloned().unwrap_or_default();
        if update["names"].is_array() {
            is_named = true;
            there.clear();
        }
        for person in ["names", "joined", "renamed"].into_iter().flat_map(people) {
            there.insert(person["id"].as_str().expect("an id").to_owned(), person["name"].clone());
        }
        for id in people("left") {
            there.remove(id.as_str().expect("an id"));
        }
        assert!(!is_named || update["count"] == there.len(), "{update} leads to {there:?}");
        if update["count"] == 1 {
            break;
        }
    }
    assert_eq!(there.into_values().collect::<Vec<_>>(), ["Ann"]);
}
