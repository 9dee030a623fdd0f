//! The server is killed while people talk, again and again: what anybody has heard stays, in its place.

mod common;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use tungstenite::{Error, Message};

use common::{DEADLINE, Kept, Raw, V1, WsClient, get, wait_until};

const ROOM: &str = "crash";
/// How often the server is killed.
const ROUNDS: usize = 12;
/// What a person has said and not heard yet, at most.
const WINDOW: usize = 16;

/// An entry as a client knows it: position, author, nonce, text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Heard {
    position: u64,
    author: Option<String>,
    nonce: Option<String>,
    text: String,
}

impl Heard {
    fn new(said: &Value) -> Heard {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Heard {
            position: said["position"].as_u64().expect("a position"),
            author: text(&said["from"]["id"]),
            nonce: text(&said["nonce"]),
            text: text(&said["text"]).expect("a text"),
        }
    }
}

/// Somebody who comes back after every crash and goes on where they were.
#[derive(Debug)]
struct Talker {
    name: String,
    token: Option<String>,
    id: Option<String>,
    epoch: Option<String>,
    heard: Vec<Heard>,
    /// Texts, which are their nonces too, that may or may not have been taken.
    unheard: Vec<String>,
    said: usize,
}

impl Talker {
    fn new(name: &str) -> Talker {
        let (heard, unheard) = (Vec::new(), Vec::new());
        Talker { name: name.into(), token: None, id: None, epoch: None, heard, unheard, said: 0 }
    }

    /// Talks until the server is gone, or until `most` texts have been said and heard.
    fn talk(&mut self, address: SocketAddr, most: usize, progress: &AtomicUsize) -> Result<(), Error> {
        let mut client = V1::try_connect(address)?;
        client.try_ask(&json!({"type": "hello", "name": self.name, "token": self.token}))?;
        let welcome = client.try_next()?;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let id = welcome["you"]["id"].as_str().expect("an id").to_owned();
        assert_eq!(*self.id.get_or_insert(id.clone()), id, "whoever has a token stays who they are");
        self.token = welcome["token"].as_str().map(str::to_owned);

        let after = self.epoch.as_ref().map(|_| self.heard.last().map_or(0, |last| last.position));
        client.try_ask(&json!({"type": "join", "room": ROOM, "after": after, "epoch": self.epoch}))?;
        for text in &self.unheard {
            client.try_ask(&json!({"type": "say", "room": ROOM, "text": text, "nonce": text}))?;
        }
        loop {
            if self.unheard.is_empty() && self.said >= most {
                return Ok(());
            }
            while self.epoch.is_some() && self.unheard.len() < WINDOW && self.said < most {
                self.said += 1;
                let text = format!("{} {}", self.name, self.said);
                self.unheard.push(text.clone());
                client.try_ask(&json!({"type": "say", "room": ROOM, "text": text, "nonce": text}))?;
            }
            let told = client.try_next()?;
            match told["type"].as_str().expect("a type") {
                "joined" => {
                    let epoch = told["epoch"].as_str().expect("an epoch").to_owned();
                    assert_eq!(*self.epoch.get_or_insert(epoch.clone()), epoch, "the journal's life goes on");
                    assert!(told["gap"] == false || after.is_none(), "nothing is lost: {told}");
                    for said in told["entries"].as_array().expect("entries") {
                        self.hear(said);
                    }
                }
                "said" if told["repeat"] == true => self.unheard.retain(|text| told["nonce"] != **text),
                "said" => {
                    self.hear(&told);
                    progress.fetch_add(1, Ordering::Relaxed);
                }
                "presence" | "typing" => {}
                _ => panic!("{}: {told}", self.name),
            }
        }
    }

    fn hear(&mut self, said: &Value) {
        let heard = Heard::new(said);
        if let Some(last) = self.heard.last() {
            assert!(last.position < heard.position, "{}: {heard:?} after {last:?}", self.name);
        }
        if heard.author == self.id {
            self.unheard.retain(|text| Some(text) != heard.nonce.as_ref());
        }
        self.heard.push(heard);
    }
}

/// Somebody raw, who only hears the present, and now and then says something.
fn listen(mut client: WsClient, name: &str) -> Vec<String> {
    let mut heard = Vec::new();
    while let Ok(Some(message)) = client.poll(DEADLINE) {
        if let Message::Text(text) = message {
            heard.push(text.to_string());
            if heard.len() % 20 == 1 {
                client.send_raw(common::frame(0x81, format!("{name} {}", heard.len()).as_bytes()));
            }
        }
    }
    heard
}

/// The whole history, page by page.
fn history(address: SocketAddr) -> Vec<Heard> {
    let mut entries: Vec<Heard> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |last| last.position);
        let response = get(address, &format!("/rooms/{ROOM}/messages?after={after}"));
        assert_eq!(response.status, 200, "{}", response.text());
        let page: Value = serde_json::from_slice(&response.body).expect("JSON");
        entries.extend(page["entries"].as_array().expect("entries").iter().map(Heard::new));
        if page["more"] == false {
            return entries;
        }
    }
}

/// What a raw member hears of an entry, given everybody's names.
fn rendered(entry: &Heard, talkers: &[Talker]) -> String {
    match talkers.iter().find(|talker| talker.id.is_some() && talker.id == entry.author) {
        Some(talker) => format!("{}: {}", talker.name, entry.text),
        None => entry.text.clone(),
    }
}

/// The events in what an SSE stream has sent: `id` and data. What is cut off is none.
fn events(stream: &str) -> Vec<(String, Heard)> {
    let (whole, _) = stream.rsplit_once("\n\n").unwrap_or_default();
    let events = whole.split("\n\n").filter_map(|event| {
        let id = event.lines().find_map(|line| line.strip_prefix("id: "))?;
        assert!(!event.contains("event: gap"), "nothing is lost: {event}");
        let data = event.lines().find_map(|line| line.strip_prefix("data: "))?;
        Some((id.to_owned(), Heard::new(&serde_json::from_str(data).expect("JSON"))))
    });
    events.collect()
}

#[test]
fn whatever_anybody_heard_survives_kill_9() {
    let kept = Kept::new();
    // More is missed here than a person would be shown.
    let options = ["--say-rate", "0", "--backfill", "1000000", "--tail-entries", "64"];
    let mut talkers: Vec<Talker> = ["Ann", "Bob", "Cleo", "Dan"].into_iter().map(Talker::new).collect();
    let mut away = Talker::new("Eve");
    let mut raw_heard: Vec<Vec<String>> = Vec::new();
    let mut streamed: Vec<(String, Heard)> = Vec::new();

    for round in 0..ROUNDS {
        let server = kept.start(&options);
        let address = server.address();
        let raw: Vec<WsClient> = (0..2).map(|_| WsClient::connect(address, &format!("/?room={ROOM}"), &[])).collect();
        let mut stream = Raw::connect(address);
        let resumed = streamed.last().map_or(String::new(), |(id, _)| format!("Last-Event-ID: {id}\r\n"));
        stream.send(format!("GET /rooms/{ROOM}/events?after=0 HTTP/1.1\r\nHost: {address}\r\n{resumed}\r\n"));
        let progress = AtomicUsize::new(0);
        thread::scope(|scope| {
            let raw = raw.into_iter().enumerate();
            let raw: Vec<_> = raw
                .map(|(place, client)| scope.spawn(move || listen(client, &format!("raw {round}.{place}"))))
                .collect();
            let stream = scope.spawn(move || {
                assert_eq!(stream.response_head().status, 200);
                stream.read_to_end(DEADLINE).0
            });
            let progress = &progress;
            // One person is away every other time.
            let present = talkers.iter_mut().chain((round % 2 == 0).then_some(&mut away));
            for talker in present {
                // The end is the server's.
                scope.spawn(move || talker.talk(address, usize::MAX, progress).unwrap_err());
            }
            // Not always at the same place: at once after the first words, or later, when much is on its way.
            let enough = [1, 2_000, 20_000][round % 3];
            wait_until("people hear each other", || progress.load(Ordering::Relaxed) >= enough);
            server.kill();
            raw_heard.extend(raw.into_iter().map(|raw| raw.join().expect("a listener")));
            let bytes = stream.join().expect("a stream");
            streamed.extend(events(&String::from_utf8_lossy(&bytes)));
        });
    }

    // Everybody comes back, says again what may have been lost, and hears what the others said meanwhile.
    let server = kept.start(&options);
    let address = server.address();
    let progress = AtomicUsize::new(0);
    talkers.push(away);
    thread::scope(|scope| {
        for talker in &mut talkers {
            let (most, progress) = (talker.said + 1, &progress);
            scope.spawn(move || talker.talk(address, most, progress).expect("the server stays"));
        }
    });
    let history = history(address);

    assert!(history.windows(2).all(|pair| pair[0].position < pair[1].position), "in order");
    let mut nonces = HashSet::new();
    for entry in history.iter().filter(|entry| entry.nonce.is_some()) {
        assert!(nonces.insert((&entry.author, &entry.nonce)), "stored twice: {entry:?}");
    }
    for talker in &talkers {
        let heard = &talker.heard;
        // Everything from the first on, nothing else, nothing twice.
        let first = history.iter().position(|entry| *entry == heard[0]).expect("what was heard first");
        assert_eq!(history[first..first + heard.len()], heard[..], "{}", talker.name);
        for number in 1..=talker.said {
            let text = format!("{} {number}", talker.name);
            assert!(nonces.contains(&(&talker.id, &Some(text.clone()))), "lost: {text}");
        }
    }
    for heard in raw_heard.iter().filter(|heard| !heard.is_empty()) {
        let texts: Vec<String> = history.iter().map(|entry| rendered(entry, &talkers)).collect();
        let first = texts.iter().position(|text| *text == heard[0]).expect("what was heard first");
        assert_eq!(texts[first..first + heard.len()], heard[..], "a raw listener");
    }
    assert!(streamed.iter().all(|(id, heard)| id.ends_with(&format!("-{}", heard.position))));
    let streamed: Vec<Heard> = streamed.into_iter().map(|(_, heard)| heard).collect();
    assert_eq!(history[..streamed.len()], streamed[..], "a stream that resumes by Last-Event-ID");
    assert!(server.stop().success());
}
