//! The real binary against the yardstick, and against a server that fails one of its members in a known way.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use loadtest::frame::{self, Opcode};
use loadtest::handshake;
use serde_json::Value;

use common::{Yardstick, loadtest, measure, take_frame};

/// What the stand-in does wrong: once, to the member that came first, with the message numbered 3.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Drops,
    Doubles,
    Swaps,
    Changes,
    ClosesWith1011,
    Cuts,
    SaysHelloToEverybody,
    SendsFragments,
}

/// The state of the stand-in that its threads share.
#[derive(Default)]
struct Room {
    members: Vec<TcpStream>,
    messages: usize,
    held: Option<Vec<u8>>,
}

impl Room {
    fn broadcast(&mut self, payload: &[u8], wrong: Wrong) {
        let mut whole = Vec::new();
        frame::push_header(&mut whole, Opcode::Text, payload.len(), None);
        whole.extend_from_slice(payload);
        let wrong = if self.messages == 3 { wrong } else { Wrong::Nothing };
        self.messages += 1;
        for (index, member) in self.members.iter_mut().enumerate() {
            let mut bytes = whole.clone();
            let last = bytes.len() - 1;
            match if index == 0 { wrong } else { Wrong::Nothing } {
                Wrong::Nothing | Wrong::SaysHelloToEverybody => {}
                Wrong::Drops => bytes.clear(),
                Wrong::Doubles => bytes.extend_from_within(..),
                Wrong::Swaps => {
                    self.held = Some(bytes);
                    continue;
                }
                Wrong::Changes => bytes[last] ^= 1,
                Wrong::ClosesWith1011 => bytes = vec![0x88, 2, 0x03, 0xF3],
                Wrong::Cuts => {
                    let _ = member.shutdown(Shutdown::Both);
                    continue;
                }
                Wrong::SendsFragments => {
                    bytes = [&[0x01, 1, payload[0], 0x89, 1, b'?', 0x80, 63], &payload[1..]].concat();
                }
            }
            if index == 0
                && let Some(held) = self.held.take()
            {
                bytes.extend(held);
            }
            // Who has left meanwhile is no matter.
            let _ = member.write_all(&bytes);
        }
    }
}

/// A blocking chat server with one thread for each socket. Gives its port, and counts the pongs it gets.
fn stand_in(wrong: Wrong) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let room = Arc::new(Mutex::new(Room::default()));
    let pongs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&pongs);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (room, pongs) = (Arc::clone(&room), Arc::clone(&counted));
            thread::spawn(move || serve(stream.unwrap(), &room, &pongs, wrong));
        }
    });
    (port, pongs)
}

fn serve(mut stream: TcpStream, room: &Mutex<Room>, pongs: &AtomicU64, wrong: Wrong) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let mut joined = false;
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
        if !joined && let Some(head_bytes) = handshake::head_end(&bytes) {
            let mut room = room.lock().unwrap();
            let mut response = handshake::response_to(&bytes[..head_bytes]).unwrap();
            if wrong == Wrong::SaysHelloToEverybody {
                response.extend_from_slice(b"\x81\x05hello\x89\x02hi");
            }
            stream.write_all(&response).unwrap();
            room.members.push(stream.try_clone().unwrap());
            bytes.drain(..head_bytes);
            joined = true;
        }
        while joined && let Some((opcode, payload)) = take_frame(&mut bytes) {
            match opcode {
                Opcode::Text => room.lock().unwrap().broadcast(&payload, wrong),
                Opcode::Pong => drop(pongs.fetch_add(1, Ordering::SeqCst)),
                Opcode::Close => drop(stream.shutdown(Shutdown::Both)),
                opcode => panic!("a client has sent {opcode:?}"),
            }
        }
    }
}

#[test]
fn the_yardstick_delivers_everything() {
    let yardstick = Yardstick::start();
    let pid = yardstick.pid().to_string();
    let table: &[(&str, &[&str], u64)] = &[
        ("schedule", &["--clients=50", "--senders=5", "--rate=100", "--seconds=0.5"], 50),
        ("warmup", &["--clients=50", "--rate=100", "--seconds=0.2", "--warmup=0.3"], 50),
        ("large", &["--clients=50", "--rate=100", "--seconds=0.2", "--size=100000"], 20),
        ("ramp", &["--clients=50", "--rate=100", "--seconds=0.1", "--ramp=1000"], 10),
    ];
    for (name, arguments, sent) in table {
        let (code, text, json) = measure(yardstick.port, name, &[arguments, &["--pid", &pid][..]].concat());
        assert_eq!(code, Some(0), "{name}: {text}");
        let messages = &json["messages"];
        assert_eq!(messages["sent"].as_u64(), Some(*sent), "{name}: {text}");
        assert_eq!(messages["delivered"].as_u64(), Some(sent * 50), "{name}: {text}");
        assert_eq!(json["connect"]["connected"], 50, "{name}: {text}");
        assert!(json["server"]["resident_bytes_connected"].as_u64().unwrap() > 0, "{name}: {text}");
    }
}

#[test]
fn closed_loops_go_round() {
    let yardstick = Yardstick::start();
    let table: &[(&str, &[&str], u64)] = &[
        ("one", &["--clients=20"], 1),
        ("all", &["--clients=20", "--senders=20"], 20),
        ("echo", &["--clients=20", "--senders=20", "--until=echo", "--window=3"], 60),
        ("spin", &["--clients=20", "--spin"], 1),
    ];
    for (name, arguments, first_round) in table {
        let arguments = [arguments, &["--closed-loop", "--seconds=0.2"][..]].concat();
        let (code, text, json) = measure(yardstick.port, name, &arguments);
        assert_eq!(code, Some(0), "{name}: {text}");
        let messages = &json["messages"];
        assert!(messages["sent"].as_u64().unwrap() > *first_round, "{name}: {text}");
        assert_eq!(messages["delivered"], messages["expected"], "{name}: {text}");
    }
}

#[test]
fn idle_sends_nothing() {
    let yardstick = Yardstick::start();
    let (code, text, json) = measure(yardstick.port, "idle", &["--clients=50", "--idle", "--seconds=0.1"]);
    assert_eq!((code, json["messages"]["sent"].as_u64()), (Some(0), Some(0)), "{text}");
}

#[test]
fn every_wrong_is_found() {
    type Row<'a> = (Wrong, i32, &'a [(&'a str, u64)], Option<&'a str>);
    let table: &[Row<'_>] = &[
        (Wrong::Nothing, 0, &[("delivered", 50)], None),
        (Wrong::Drops, 1, &[("delivered", 49), ("lost", 1)], None),
        (Wrong::Doubles, 1, &[("delivered", 50), ("duplicated", 1)], None),
        (Wrong::Swaps, 1, &[("delivered", 50), ("disordered", 1)], None),
        (Wrong::Changes, 1, &[("delivered", 49), ("lost", 1), ("corrupt", 1)], None),
        (Wrong::ClosesWith1011, 1, &[], Some("closed with 1011")),
        (Wrong::Cuts, 1, &[], Some("end of stream without a close frame")),
        (Wrong::SaysHelloToEverybody, 0, &[("delivered", 50), ("foreign", 5)], None),
        (Wrong::SendsFragments, 0, &[("delivered", 50)], None),
    ];
    for (wrong, exit_code, counts, close) in table {
        let (port, pongs) = stand_in(*wrong);
        let arguments = ["--clients=5", "--rate=50", "--seconds=0.2", "--drain=0.3"];
        let (code, text, json) = measure(port, "wrong", &arguments);
        assert_eq!(code, Some(*exit_code), "{wrong:?}: {text}");
        if close.is_none() {
            for kind in ["delivered", "lost", "duplicated", "disordered", "corrupt", "foreign"] {
                let expected = counts.iter().find(|(name, _)| *name == kind).map_or(0, |(_, count)| *count);
                assert_eq!(json["messages"][kind], expected, "{wrong:?}, {kind}: {text}");
            }
        }
        let closes: Vec<&String> = json["closes"].as_object().unwrap().keys().collect();
        assert_eq!(closes, Vec::from_iter(*close), "{wrong:?}: {text}");
        let pings = json["pings"].as_u64().unwrap();
        assert_eq!(pings, pongs.load(Ordering::SeqCst), "{wrong:?}: every ping is answered");
        let expected = match wrong {
            Wrong::SaysHelloToEverybody => 5,
            Wrong::SendsFragments => 1,
            _ => 0,
        };
        assert_eq!(pings, expected, "{wrong:?}");
    }
}

#[test]
fn who_is_refused_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let (code, text, json) = measure(port, "full", &["--clients=3"]);
    assert_eq!((code, &json["connect"]["connected"]), (Some(1), &Value::from(0)), "{text}");
    assert_eq!(json["connect"]["refused"]["HTTP/1.1 503 Service Unavailable"], 3, "{text}");
    server.join().unwrap();

    // The listener is gone with its thread, so nobody is there any more.
    let (code, text, json) = measure(port, "nobody", &["--clients=3"]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(json["connect"]["refused"]["Connection refused (os error 111)"], 3, "{text}");
}

#[test]
fn usage() {
    let table: &[(&[&str], i32)] = &[
        (&["--help"], 0),
        (&["--version"], 0),
        (&["--senders=0"], 2),
        (&["--nonsense"], 2),
        (&["--url=http://127.0.0.1"], 2),
    ];
    for (arguments, code) in table {
        let output = loadtest(arguments);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}");
        let lines = [output.stdout, output.stderr].map(|text| text.split(|&byte| byte == b'\n').count() - 1);
        assert!(if *code == 0 { lines[0] > 0 } else { lines == [0, 1] }, "{arguments:?}: {lines:?}");
    }
}
