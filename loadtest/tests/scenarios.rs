//! Scenarios against the real server, and against one of chat.v1 that fails its members in a known way.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use loadtest::frame::{self, Opcode};
use loadtest::handshake;
use serde_json::{Value, json};

use common::{Yardstick, chat_app, loadtest, measure, report, take_frame};

/// What the stand-in does wrong, once: at position 4, to the member that came first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Drops,
    Doubles,
    Swaps,
    TellsAnotherPosition,
    /// It refuses the message, and says so to its sender.
    Refuses,
    /// It answers everybody who comes back that what they have missed does not come.
    HasGaps,
    /// Whoever comes back is told the last message twice.
    RepeatsWhenTheyReturn,
}

/// A chat of one room that its threads share.
#[derive(Default)]
struct Room {
    members: Vec<TcpStream>,
    said: Vec<Value>,
    held: Option<Value>,
}

impl Room {
    fn say(&mut self, text: &Value, nonce: &Value, sender: &TcpStream, wrong: Wrong) {
        let position = self.said.len() as u64 + 1;
        let said = json!({"type": "said", "room": "r", "position": position, "text": text, "nonce": nonce});
        let wrong = if position == 4 { wrong } else { Wrong::Nothing };
        if wrong == Wrong::Refuses {
            send(sender, &json!({"type": "error", "code": "too_fast", "message": "wait", "nonce": nonce}));
            self.said.push(Value::Null);
            return;
        }
        self.said.push(said.clone());
        for (index, member) in self.members.iter().enumerate() {
            match if index == 0 { wrong } else { Wrong::Nothing } {
                Wrong::Drops => {}
                Wrong::Doubles => (0..2).for_each(|_| send(member, &said)),
                Wrong::Swaps => self.held = Some(said.clone()),
                Wrong::TellsAnotherPosition => {
                    let mut other = said.clone();
                    other["position"] = (position + 1).into();
                    send(member, &other);
                }
                _ => send(member, &said),
            }
            if index == 0
                && position == 5
                && let Some(held) = self.held.take()
            {
                send(member, &held);
            }
        }
    }

    fn joined(&self, after: Option<u64>, wrong: Wrong) -> Value {
        let missed = after.map_or(self.said.len(), |after| after as usize);
        let gap = after.is_some() && wrong == Wrong::HasGaps;
        let mut entries = if gap { Vec::new() } else { self.said[missed..].to_vec() };
        if after.is_some() && wrong == Wrong::RepeatsWhenTheyReturn {
            entries.extend(self.said.last().cloned());
        }
        json!({"type": "joined", "room": "r", "epoch": "e", "position": self.said.len(), "entries": entries, "gap": gap})
    }
}

fn send(mut stream: &TcpStream, message: &Value) {
    let payload = message.to_string();
    let mut bytes = Vec::new();
    frame::push_header(&mut bytes, Opcode::Text, payload.len(), None);
    bytes.extend_from_slice(payload.as_bytes());
    // Who has left meanwhile is no matter.
    let _ = stream.write_all(&bytes);
}

/// A blocking server of chat.v1 with one thread for each socket; gives its port.
fn stand_in(wrong: Wrong) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let room = Arc::new(Mutex::new(Room::default()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let room = Arc::clone(&room);
            thread::spawn(move || serve(stream.unwrap(), &room, wrong));
        }
    });
    port
}

fn serve(mut stream: TcpStream, room: &Mutex<Room>, wrong: Wrong) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let mut upgraded = false;
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
        if !upgraded && let Some(head_bytes) = handshake::head_end(&bytes) {
            stream.write_all(&handshake::response_to(&bytes[..head_bytes]).unwrap()).unwrap();
            bytes.drain(..head_bytes);
            upgraded = true;
        }
        while upgraded && let Some((opcode, payload)) = take_frame(&mut bytes) {
            if opcode == Opcode::Close {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            let message: Value = serde_json::from_slice(&payload).unwrap();
            let mut room = room.lock().unwrap();
            match message["type"].as_str().unwrap() {
                "hello" => send(&stream, &json!({"type": "welcome", "token": "t", "session": "s", "limits": {}})),
                "join" => {
                    assert_eq!(message["room"], "r");
                    send(&stream, &room.joined(message["after"].as_u64(), wrong));
                    room.members.push(stream.try_clone().unwrap());
                }
                "say" => room.say(&message["text"], &message["nonce"], &stream, wrong),
                other => panic!("a client has sent {other}"),
            }
        }
    }
}

#[test]
fn every_wrong_of_chat_v1_is_found() {
    type Row<'a> = (Wrong, i32, &'a [(&'a str, u64)]);
    let table: &[Row<'_>] = &[
        (Wrong::Nothing, 0, &[]),
        (Wrong::Drops, 1, &[("lost", 1)]),
        (Wrong::Doubles, 1, &[("duplicated", 1)]),
        (Wrong::Swaps, 1, &[("disordered", 1)]),
        (Wrong::TellsAnotherPosition, 1, &[]),
        (Wrong::Refuses, 1, &[("refused", 1)]),
    ];
    for (wrong, exit_code, counts) in table {
        let port = stand_in(*wrong);
        let arguments = ["--dialect=v1", "--clients=5", "--rate=50", "--seconds=0.2", "--drain=0.3"];
        let (code, text, json) = measure(port, "r", &arguments);
        assert_eq!(code, Some(*exit_code), "{wrong:?}: {text}");
        if *wrong == Wrong::TellsAnotherPosition {
            // How often that shows depends on who hears first.
            assert!(json["messages"]["disagreed"].as_u64() > Some(0), "{wrong:?}: {text}");
            continue;
        }
        for kind in ["lost", "duplicated", "disordered", "disagreed", "corrupt", "foreign", "refused"] {
            let expected = counts.iter().find(|(name, _)| *name == kind).map_or(0, |(_, count)| *count);
            assert_eq!(json["messages"][kind], expected, "{wrong:?}, {kind}: {text}");
        }
    }
}

#[test]
fn every_wrong_of_a_storm_is_found() {
    let table: &[(Wrong, i32, &str, u64)] = &[
        (Wrong::Nothing, 0, "lost", 0),
        (Wrong::HasGaps, 1, "lost", 4 * 20),
        (Wrong::RepeatsWhenTheyReturn, 1, "duplicated", 4),
    ];
    for (wrong, exit_code, kind, count) in table {
        let port = stand_in(*wrong);
        let url = format!("--url=ws://127.0.0.1:{port}/?room=r");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("storm-{port}.json"));
        let arguments = ["storm", &url, "--clients=5", "--behind=20", "--drain=0.3", "--json", path.to_str().unwrap()];
        let output = loadtest(&arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(*exit_code), "{wrong:?}: {text}");
        let json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(json["messages"][*kind], *count, "{wrong:?}: {text}");
        assert_eq!(json["gaps"], if *wrong == Wrong::HasGaps { 4 } else { 0 }, "{wrong:?}: {text}");
    }
}

#[test]
fn instances_that_are_not_one_chat_are_found() {
    let [one, other, third] = [(); 3].map(|()| stand_in(Wrong::Nothing));
    for (name, ports, exit_code) in [("one chat", [one; 2], 0), ("two chats", [other, third], 1)] {
        let [first, second] = ports.map(|port| format!("--url=ws://127.0.0.1:{port}/?room=r"));
        let arguments = ["cluster", &first, &second, "--clients=6", "--rate=50", "--seconds=0.2", "--drain=0.3"];
        let output = loadtest(&arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(exit_code), "{name}: {text}");
        assert_eq!(text.contains("DIFFERENT at"), exit_code == 1, "{name}: {text}");
    }
}

/// Runs a scenario against a server that it starts itself.
fn spawned(scenario: &str, arguments: &[&str]) -> (Option<i32>, String, Value) {
    let spawn = format!("--spawn={}", chat_app());
    report(&[&[scenario, &spawn], arguments].concat(), &format!("{scenario}-{}", std::process::id()))
}

#[test]
fn the_server_passes_every_scenario() {
    let table: &[(&str, &[&str], &str, u64)] = &[
        ("fanout", &["--dialect=v1", "--clients=20", "--rate=100", "--seconds=0.3"], "/messages/delivered", 600),
        ("fanout", &["--clients=20", "--steps=50,100", "--seconds=0.2"], "/messages/sent", 30),
        ("chatter", &["--dialect=v1", "--clients=10", "--rate=50", "--seconds=0.2"], "/setup/senders", 10),
        ("idle", &["--dialect=v1", "--clients=50", "--seconds=0.1"], "/connect/connected", 50),
        ("storm", &["--clients=50", "--behind=30"], "/storm/arrived", 49),
        ("storm", &["--clients=50", "--join"], "/storm/arrived", 50),
        ("storm", &["--clients=50", "--dialect=raw"], "/storm/arrived", 49),
        ("slow", &["--clients=20", "--slow=5", "--rate=200", "--seconds=0.5"], "/slow/slow", 5),
        ("slow", &["--dialect=v1", "--clients=20", "--slow=5", "--rate=200", "--seconds=0.5"], "/slow/stalled", 2),
        (
            "churn",
            &["--clients=10", "--visits=100", "--stay=0.1", "--rate=100", "--seconds=0.5"],
            "/churn/crowded_out",
            0,
        ),
        ("http", &["--clients=10", "--get-rate=50", "--connections=3", "--seconds=0.2"], "/http/answered", 10),
    ];
    for (scenario, arguments, figure, expected) in table {
        let (code, text, json) = spawned(scenario, arguments);
        assert_eq!(code, Some(0), "{scenario} {arguments:?}: {text}");
        assert_eq!(json.pointer(figure).and_then(Value::as_u64), Some(*expected), "{scenario} {arguments:?}: {text}");
        assert!(json["server"]["resident_bytes_connected"].as_u64() > Some(0), "{scenario} {arguments:?}: {text}");
    }
}

#[test]
fn a_search_finds_a_rate_that_holds() {
    let arguments =
        ["--clients=5", "--rate=20", "--hold=delivered_per_second<1000", "--seconds=0.2", "--settle=0", "--drain=2"];
    let (code, text, json) = spawned("fanout", &arguments);
    assert_eq!(code, Some(0), "{text}");
    let rate = json["search"]["rate"].as_f64().unwrap();
    assert!((140.0..210.0).contains(&rate), "{rate}: {text}");
}

#[test]
fn processes_are_one_run() {
    let yardstick = Yardstick::start();
    let pid = yardstick.pid().to_string();
    let table: &[(&str, &[&str], Option<u64>)] = &[
        ("schedule", &["--senders=5", "--rate=100", "--seconds=0.3"], Some(30)),
        ("echo", &["--senders=30", "--closed-loop", "--until=echo", "--seconds=0.2"], None),
    ];
    for (name, arguments, sent) in table {
        let arguments = [arguments, &["--clients=30", "--processes=3", "--pid", &pid][..]].concat();
        let (code, text, json) = measure(yardstick.port, name, &arguments);
        assert_eq!(code, Some(0), "{name}: {text}");
        let messages = &json["messages"];
        let all = messages["sent"].as_u64().unwrap();
        assert!(sent.is_none_or(|sent| sent == all) && all > 0, "{name}: {text}");
        assert_eq!(messages["delivered"].as_u64(), Some(all * 30), "{name}: {text}");
        assert_eq!(json["connect"]["connected"], 30, "{name}: {text}");
        if sent.is_some() {
            assert_eq!(json["latency_last"]["count"].as_u64(), Some(all), "{name}: {text}");
        }
    }
    let refused = loadtest(&["--url=ws://127.0.0.1:1", "--processes=2", "--clients=4"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[test]
fn instances_are_added_up() {
    let yardstick = Yardstick::start();
    let url = format!("--url=ws://127.0.0.1:{}/?room=instances", yardstick.port);
    let pid = format!("--pid={}", yardstick.pid());
    // One server is as good as two here.
    let arguments = ["cluster", &url, &url, &pid, "--dialect=raw", "--clients=30", "--processes=2", "--seconds=0.2"];
    let [one, two] = [&[][..], &[&pid[..]]].map(|more| {
        let (code, text, json) = report(&[&arguments, more].concat(), &format!("instances-{}", yardstick.port));
        assert_eq!((code, &json["connect"]["connected"]), (Some(0), &json!(30)), "{text}");
        assert!(json["generator"]["resident_bytes"].as_u64() > Some(0), "{text}");
        json["server"].clone()
    });
    let resident = |server: &Value| server["resident_bytes_connected"].as_u64().unwrap() as f64;
    assert_eq!([&one, &two].map(|server| server["pids"].as_array().unwrap().len()), [1, 2]);
    let ratio = resident(&two) / resident(&one);
    assert!((1.5..2.5).contains(&ratio), "{one}, {two}");
}

#[test]
fn assertions_decide() {
    let yardstick = Yardstick::start();
    let table: &[(&[&str], i32, &str)] = &[
        (&["--assert=lost==0", "--assert=p99<60s"], 0, "holds       p99<60s"),
        (&["--assert=lost==0", "--assert=delivered==1"], 1, "FAILS       delivered==1: it was 20"),
        (&["--assert=storm.p99<1s"], 1, "no figure `storm.p99`"),
    ];
    for (arguments, exit_code, line) in table {
        let arguments = [arguments, &["--clients=2", "--rate=50", "--seconds=0.2"][..]].concat();
        let (code, text, _) = measure(yardstick.port, "assert", &arguments);
        assert_eq!(code, Some(*exit_code), "{text}");
        assert!(text.contains(line), "{text}");
    }
    let output = loadtest(&["--assert=p99"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn pages_need_nothing_else_and_runs_are_compared() {
    let yardstick = Yardstick::start();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [html, before, after] =
        ["html", "before.json", "after.json"].map(|end| folder.join(format!("page-{}.{end}", yardstick.port)));
    let url = format!("--url=ws://127.0.0.1:{}", yardstick.port);
    for path in [&before, &after] {
        let paths = ["--json", path.to_str().unwrap(), "--html", html.to_str().unwrap()];
        let output = loadtest(&[&[&url, "--clients=5", "--rate=100", "--seconds=0.5"], &paths[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("Latency over time"), "{page}");
    for word in ["http://", "https://", "<script", "<link", "@import", "src=", "NaN"] {
        assert!(!page.contains(word), "the page has {word}");
    }
    let output = loadtest(&["diff", before.to_str().unwrap(), after.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("delivered_per_second"), "{text}");
    let output = loadtest(&["diff", before.to_str().unwrap(), html.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    [html, before, after].iter().for_each(|path| std::fs::remove_file(path).unwrap());
}
