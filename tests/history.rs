//! Rooms for programs, over HTTP: what was said, in pages and as a stream of events, and where either goes on.

mod common;

use std::net::SocketAddr;

use serde_json::{Value, json};

use common::rooms::{PLAIN, messages, parsed, position, post, post_request};
use common::{DEADLINE, End, Kept, Raw, Server, get};

#[test]
fn history_in_pages() {
    let kept = Kept::new();
    let server = kept.start(&["--tail-entries", "4", "--page", "5"]);
    let address = server.address();
    let mut connection = Raw::connect(address);
    let positions: Vec<u64> = (0..12)
        .map(|number| {
            connection.send(post_request(address, "r", &[PLAIN], &number.to_string()));
            position(&connection.response())
        })
        .collect();
    // Positions are of the whole journal: other rooms' are between.
    post(address, "s", &[PLAIN], "other");
    let at = |index: usize| positions[index];
    let end = Some(at(11) + 1);
    let cases = [
        ("the newest", "".to_owned(), 7..12, true, end),
        ("fewer", "?limit=2".into(), 10..12, true, end),
        ("more than there may be", "?limit=1000".into(), 7..12, true, end),
        ("at least one", "?limit=0".into(), 11..12, true, end),
        ("before", format!("?before={}", at(7)), 2..7, true, None),
        ("before, the oldest", format!("?before={}", at(2)), 0..2, false, None),
        ("before all", format!("?before={}", at(0)), 0..0, false, None),
        ("after the beginning", "?after=0".into(), 0..5, true, Some(at(4))),
        ("after", format!("?after={}&limit=3", at(4)), 5..8, true, Some(at(7))),
        ("after, to the end", format!("?after={}", at(8)), 9..12, false, end),
        ("after the last", format!("?after={}", at(11)), 0..0, false, end),
        ("after everything", format!("?after={}", at(11) + 1), 0..0, false, end),
        ("beyond the end", format!("?after={}&limit=3", at(11) + 2), 0..3, true, Some(at(2))),
    ];
    for (name, query, expected, more, known) in cases {
        let texts: Vec<String> = expected.map(|number: usize| number.to_string()).collect();
        assert_eq!(messages(address, "r", &query), (texts, more), "{name}");
        let page = parsed(&get(address, &format!("/rooms/r/messages{query}")));
        assert_eq!(page["position"].as_u64(), known, "{name}: {page}");
    }
    for query in ["?limit=x", "?before=-1", "?after=1.5", "?before=1&after=1", "?after=1&epoch=x"] {
        assert_eq!(get(address, &format!("/rooms/r/messages{query}")).status, 400, "{query}");
    }
    assert_eq!(messages(address, "nobody", ""), (vec![], false), "a room where nobody was");
}

/// A stream of events, read as they come.
struct Events(Raw);

impl Events {
    fn open(address: SocketAddr, target: &str, lines: &str) -> Events {
        let mut raw = Raw::connect(address);
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n"));
        let head = raw.response_head();
        assert_eq!((head.status, head.field("Content-Type")), (200, Some("text/event-stream")), "{target}");
        Events(raw)
    }

    /// The next event that is said: its id and text. Comments are passed over.
    fn said(&mut self) -> (u64, String) {
        loop {
            let block = self.0.event();
            if block.starts_with(':') {
                continue;
            }
            let line = |name| block.lines().find_map(|line| line.strip_prefix(name));
            assert_eq!(line("event: "), None, "{block}");
            let data: Value = serde_json::from_str(line("data: ").expect("data")).expect("JSON");
            let (_, position) = line("id: ").and_then(|id| id.split_once('-')).expect("an id");
            let position = position.parse().expect("a position");
            assert_eq!(data["position"], position);
            return (position, data["text"].as_str().expect("a text").to_owned());
        }
    }
}

#[test]
fn events_resume_where_they_ended() {
    let kept = Kept::new();
    let server = kept.start(&["--tail-entries", "4", "--page", "5"]);
    let address = server.address();
    let mut stream = Events::open(address, "/rooms/r/events", "");
    let epoch = epoch_of(address);
    let say = |number: u64| position(&post(address, "r", &[PLAIN], &number.to_string()));
    let first = say(0);
    assert_eq!(stream.said(), (first, "0".into()), "from the present on");
    let mut missed: Vec<(u64, String)> = (1..20).map(|number| (say(number), number.to_string())).collect();
    for expected in &missed {
        assert_eq!(stream.said(), *expected);
    }
    for (target, lines) in [
        (format!("/rooms/r/events?after={first}"), String::new()),
        (format!("/rooms/r/events?after={first}&epoch={epoch}"), String::new()),
        (format!("/rooms/r/events?after={epoch}-{first}"), String::new()),
        ("/rooms/r/events".into(), format!("Last-Event-ID: {epoch}-{first}\r\n")),
        // What a browser adds when it comes back wins over what the page asked for at first.
        ("/rooms/r/events?after=0".into(), format!("Last-Event-ID: {epoch}-{first}\r\n")),
    ] {
        let mut resumed = Events::open(address, &target, &lines);
        for expected in &missed {
            assert_eq!(resumed.said(), *expected, "{target} {lines}");
        }
        // The present is behind it, and those who come next have missed that too.
        missed.push((say(99), "99".into()));
        for stream in [&mut resumed, &mut stream] {
            assert_eq!(Some(&stream.said()), missed.last(), "{target} {lines}");
        }
    }
    assert_eq!(get(address, "/rooms/r/events?after=x").status, 400);

    // From nowhere: it is told so, and hears the newest that are in memory, and the present.
    for (target, lines) in [
        ("/rooms/r/events?after=9000000000".to_owned(), String::new()),
        (format!("/rooms/r/events?after={first}&epoch=0123456789abcdef"), String::new()),
        ("/rooms/r/events".into(), format!("Last-Event-ID: 0123456789abcdef-{first}\r\n")),
        ("/rooms/r/events".into(), format!("Last-Event-ID: {first}\r\n")),
        ("/rooms/r/events".into(), "Last-Event-ID: something else\r\n".into()),
    ] {
        let mut lost = Events::open(address, &target, &lines);
        let gap = lost.0.event();
        let (newest, before) = (&missed[missed.len() - 4..], missed[missed.len() - 4].0 - 1);
        let expected = format!(
            "id: {epoch}-{before}\nevent: gap\ndata: {{\"type\":\"gap\",\"room\":\"r\",\"position\":{before},\
             \"epoch\":\"{epoch}\"}}\n\n"
        );
        assert_eq!(gap, expected, "{target} {lines}");
        for expected in newest {
            assert_eq!(lost.said(), *expected, "{target} {lines}");
        }
        missed.push((say(100), "100".into()));
        for stream in [&mut lost, &mut stream] {
            assert_eq!(Some(&stream.said()), missed.last(), "{target} {lines}");
        }
    }

    server.signal(rustix::process::Signal::TERM);
    let (rest, end) = stream.0.read_to_end(DEADLINE);
    assert_eq!((String::from_utf8_lossy(&rest).into_owned(), end), (String::new(), End::Closed), "it ends cleanly");
    assert!(server.wait().success());
}

fn epoch_of(address: SocketAddr) -> String {
    let page = parsed(&get(address, "/rooms/r/messages"));
    page["epoch"].as_str().expect("an epoch").to_owned()
}

/// The texts of a page of messages, whether there is a gap before it, and whether there is more.
fn page(address: SocketAddr, query: &str) -> (Vec<String>, Value, Value) {
    let page = parsed(&get(address, &format!("/rooms/r/messages{query}")));
    let texts = page["entries"].as_array().expect("entries").iter();
    let texts = texts.map(|entry| entry["text"].as_str().expect("text").to_owned());
    (texts.collect(), page["gap"].clone(), page["more"].clone())
}

#[test]
fn a_stream_can_be_resumed_before_anything_was_said_in_it() {
    let server = Server::start(&[]);
    let address = server.address();
    post(address, "r", &[PLAIN], "before");
    let mut stream = Raw::connect(address);
    stream.send(format!("GET /rooms/r/events HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    stream.response_head();
    let first = String::from_utf8(stream.take("id: 0123456789abcdef-1\n\n".len())).expect("UTF-8");
    assert_eq!(first, format!("id: {}-1\n\n", epoch_of(address)));
    drop(stream);
    let missed = position(&post(address, "r", &[PLAIN], "missed"));
    let id = first.trim().trim_start_matches("id: ");
    let mut stream = Events::open(address, "/rooms/r/events", &format!("Last-Event-ID: {id}\r\n"));
    assert_eq!(stream.said(), (missed, "missed".into()));
}

#[test]
fn nothing_of_a_former_life_is_resumed_silently() {
    let former = Server::start(&[]);
    let epoch = epoch_of(former.address());
    let at = position(&post(former.address(), "r", &[PLAIN], "one"));
    former.stop();
    let server = Server::start(&[]);
    let address = server.address();
    for text in ["new", "newer"] {
        assert_eq!(post(address, "r", &[PLAIN], text).status, 201);
    }
    let all = ["new".to_owned(), "newer".to_owned()];
    for (name, query, entries, gap) in [
        ("a position of a former life", format!("?after={at}&epoch={epoch}"), &all[..], true),
        ("an id of a former life", format!("?after={epoch}-{at}"), &all[..], true),
        ("beyond the end", "?after=3".into(), &all[..], true),
        ("without an epoch", format!("?after={at}"), &all[1..], false),
        ("of this one", format!("?after={at}&epoch={}", epoch_of(address)), &all[1..], false),
        ("from the beginning", "?after=0".into(), &all[..], false),
        ("older ones", "?before=2".into(), &all[..1], false),
    ] {
        assert_eq!(page(address, &query), (entries.to_vec(), json!(gap), json!(false)), "{name}");
    }
    let mut stream = Events::open(address, "/rooms/r/events", &format!("Last-Event-ID: {epoch}-{at}\r\n"));
    assert!(stream.0.event().contains("event: gap\n"));
    assert_eq!((stream.said(), stream.said()), ((1, "new".into()), (2, "newer".into())));
}

#[test]
fn what_is_no_longer_kept_is_a_gap() {
    let in_memory = Server::start(&["--tail-entries", "4"]);
    let kept = Kept::new();
    let stored = kept.start(&["--tail-entries", "4", "--keep", "6"]);
    for (server, least) in [(&in_memory, 6), (&stored, 4)] {
        let address = server.address();
        for number in 0..10 {
            post(address, "r", &[PLAIN], &number.to_string());
        }
        let oldest = vec![least.to_string(), (least + 1).to_string()];
        // Trimming happens in the background. Positions begin at 1.
        common::wait_until("the oldest are removed", || page(address, "?after=0&limit=2").0 == oldest);
        for (query, expected, gap) in [
            ("?after=0&limit=2".to_owned(), oldest.clone(), true),
            (format!("?after={}&limit=2", least - 1), oldest.clone(), true),
            (format!("?after={least}&limit=2"), oldest, false),
        ] {
            assert_eq!(page(address, &query), (expected, json!(gap), json!(true)), "{query}");
        }
        assert_eq!(page(address, "?after=9"), (vec!["9".to_owned()], json!(false), json!(false)));
        assert_eq!(page(address, "?after=10"), (vec![], json!(false), json!(false)));
        let mut stream = Events::open(address, "/rooms/r/events?after=1", "");
        let gap = stream.0.event();
        assert!(gap.contains(&format!("-{least}\nevent: gap\n")), "{gap}");
        assert_eq!(stream.said().1, least.to_string());
    }
}

#[test]
fn quiet_streams_are_kept_alive_by_comments() {
    let server = Server::start(&["--ping-interval", "200ms"]);
    let mut stream = Events::open(server.address(), "/rooms/r/events", "");
    for _ in 0..5 {
        let block = stream.0.event();
        assert!(block.starts_with(':'), "{block:?}");
    }
    let said = position(&post(server.address(), "r", &[PLAIN], "still here"));
    assert_eq!(stream.said(), (said, "still here".into()));
}
