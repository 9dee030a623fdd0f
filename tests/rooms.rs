//! Rooms for programs, over HTTP: what is posted, read and streamed, and what is refused.

mod common;

use std::net::SocketAddr;

use serde_json::{Value, json};

use common::{DEADLINE, End, Kept, Raw, Response, Server, V1, WsClient, connect_from, get, http};

/// A POST of something to say, on a connection that stays.
fn post_request(address: SocketAddr, room: &str, lines: &[&str], content: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "POST /rooms/{room}/messages HTTP/1.1\r\nHost: {address}\r\n{lines}Content-Length: {}\r\n\r\n{content}",
        content.len()
    )
}

const PLAIN: &str = "Content-Type: text/plain";
const JSON: &str = "Content-Type: application/json";

fn post(address: SocketAddr, room: &str, lines: &[&str], content: &str) -> Response {
    http(address, post_request(address, room, lines, content))
}

fn parsed(response: &Response) -> Value {
    assert_eq!(response.field("Content-Type"), Some("application/json"), "{}", response.text());
    serde_json::from_slice(&response.body).expect("JSON")
}

fn position(response: &Response) -> u64 {
    parsed(response)["position"].as_u64().expect("a position")
}

fn messages(address: SocketAddr, room: &str, query: &str) -> (Vec<String>, bool) {
    let response = get(address, &format!("/rooms/{room}/messages{query}"));
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    let page = parsed(&response);
    let texts = page["entries"].as_array().expect("entries").iter();
    (texts.map(|entry| entry["text"].as_str().expect("text").to_owned()).collect(), page["more"] == true)
}

#[test]
fn what_is_posted_is_stored_and_heard() {
    let kept = Kept::new();
    let server = kept.start(&[]);
    let address = server.address();
    let mut raw = WsClient::connect(address, "/?room=r", &[]);
    let mut elsewhere = WsClient::connect(address, "/?room=s", &[]);
    let (mut ann, joined) = V1::joined(address, "Ann", "r");

    let response = post(address, "r", &[JSON], r#"{"text": "hällo", "name": "deploy"}"#);
    assert_eq!(response.status, 201, "{}", response.text());
    let stored = parsed(&response);
    assert_eq!((&stored["room"], &stored["epoch"]), (&json!("r"), &joined["epoch"]));
    assert_eq!(raw.next_text(), "deploy: hällo");
    let said = ann.next("said");
    assert_eq!((&said["position"], &said["text"]), (&stored["position"], &json!("hällo")));
    assert_eq!((&said["from"]["name"], &said["at"]), (&json!("deploy"), &stored["at"]));

    // The same name without a token is the same person, and not Ann.
    let again = post(address, "r", &[JSON], r#"{"text": "again", "name": "deploy", "unknown": 1}"#);
    assert_eq!(again.status, 201);
    assert!(position(&again) > stored["position"].as_u64().expect("a position"));
    let repeated = ann.next("said");
    assert_eq!(repeated["from"], said["from"]);
    assert_eq!(raw.next_text(), "deploy: again");

    let plain = post(address, "r", &["Content-Type: text/plain; charset=utf-8"], "plain");
    assert_eq!(plain.status, 201);
    let text = raw.next_text();
    assert!(text.starts_with("guest-") && text.ends_with(": plain"), "{text}");

    post(address, "s", &[PLAIN], "elsewhere");
    assert!(elsewhere.next_text().ends_with(": elsewhere"), "rooms are apart");
    assert_eq!(messages(address, "r", "").0, ["hällo", "again", "plain"]);
    server.stop();

    let server = kept.start(&[]);
    assert_eq!(messages(server.address(), "r", "").0, ["hällo", "again", "plain"], "after a restart");
}

#[test]
fn a_token_says_who_posts() {
    let server = Server::start(&[]);
    let address = server.address();
    let (mut ann, welcome) = V1::hello(address, "Ann");
    ann.ask(&json!({"type": "join", "room": "r"}));
    ann.next("joined");
    let bearer = format!("Authorization: Bearer {}", welcome["token"].as_str().expect("a token"));
    assert_eq!(post(address, "r", &[PLAIN, &bearer], "by curl").status, 201);
    assert_eq!(ann.next("said")["from"], welcome["you"]);
}

#[test]
fn an_idempotency_key_says_it_once() {
    let kept = Kept::new();
    let server = kept.start(&[]);
    let address = server.address();
    let key = [JSON, "Idempotency-Key: build-17"];
    let content = r#"{"text": "built", "name": "ci"}"#;
    let first = post(address, "r", &key, content);
    assert_eq!(first.status, 201);
    let repeat = post(address, "r", &key, content);
    assert_eq!((repeat.status, position(&repeat)), (200, position(&first)));
    // Somebody else may use the same key.
    let other = post(address, "r", &key, r#"{"text": "built", "name": "other"}"#);
    assert_eq!(other.status, 201);
    server.kill();

    let server = kept.start(&[]);
    let repeat = post(server.address(), "r", &key, content);
    assert_eq!((repeat.status, parsed(&repeat)["position"].as_u64()), (200, Some(position(&first))), "after a crash");
    assert_eq!(messages(server.address(), "r", "").0.len(), 2);
}

#[test]
fn what_cannot_be_posted() {
    let server = Server::start(&["--max-text", "100"]);
    let address = server.address();
    let long = "x".repeat(101);
    let key = format!("Idempotency-Key: {}", "k".repeat(1_000));
    let name = format!(r#"{{"text": "x", "name": "{}"}}"#, "n".repeat(1_000));
    let cases: &[(&str, &str, &[&str], &str, u16)] = &[
        ("empty", "r", &[PLAIN], "", 400),
        ("blank", "r", &[PLAIN], " \n", 400),
        ("too long a text", "r", &[PLAIN], &long, 413),
        ("no JSON", "r", &[JSON], "hello", 400),
        ("JSON without text", "r", &[JSON], r#"{"name": "x"}"#, 400),
        ("JSON with another text", "r", &[JSON], r#"{"text": 1}"#, 400),
        ("JSON with a name that cannot be", "r", &[JSON], r#"{"text": "x", "name": "a\u0000b"}"#, 400),
        ("JSON with too long a name", "r", &[JSON], &name, 400),
        ("a form", "r", &["Content-Type: application/x-www-form-urlencoded"], "text=x", 415),
        ("no type", "r", &[], "x", 415),
        ("a token of another server", "r", &[PLAIN, "Authorization: Bearer abc.def"], "x", 401),
        ("a room that cannot be", "%00", &[PLAIN], "x", 400),
        ("too long a key", "r", &[PLAIN, &key], "x", 400),
        ("from another page", "r", &[PLAIN, "Origin: http://evil.example"], "x", 403),
    ];
    for (name, room, lines, content, status) in cases {
        let response = post(address, room, lines, content);
        assert_eq!(response.status, *status, "{name}: {}", response.text());
        assert!(response.text().trim_end().ends_with(['.', '\'']), "{name}: a sentence: {}", response.text());
    }
    for (content, wrong) in [
        (r#"{"name": "x"}"#, "missing field `text`"),
        (r#"{"text": 1}"#, "`text` must be a text, and is a number"),
        (r#"{"text": "x", "name": ["x"]}"#, "`name` must be a text, and is a list"),
        (r#"["x", "name"]"#, "it must be an object, and is a list"),
        ("hello", "expected value at line 1 column 1"),
    ] {
        let told = post(address, "r", &[JSON], content);
        let expected = format!("The JSON is not as it should be: {wrong}.");
        assert!(told.status == 400 && told.text().contains(&expected), "{content}: {}", told.text());
    }
    for (method, resource, status) in [
        ("PUT", "messages", 405),
        ("DELETE", "messages", 405),
        ("POST", "events", 405),
        ("OPTIONS", "messages", 204),
        ("OPTIONS", "events", 204),
    ] {
        let request = format!("{method} /rooms/r/{resource} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
        let response = http(address, request);
        assert_eq!(response.status, status, "{method} {resource}");
        assert!(response.field("Allow").is_some(), "{method} {resource}: {response:?}");
    }
    assert_eq!(messages(address, "r", ""), (vec![], false), "nothing of it has been said");
}

#[test]
fn one_address_posts_no_faster_than_its_rate() {
    let server = Server::start(&["--post-rate", "1", "--post-burst", "3"]);
    let address = server.address();
    let mut connection = Raw::connect(address);
    let mut statuses = Vec::new();
    for number in 0..5 {
        connection.send(post_request(address, "r", &[PLAIN], &number.to_string()));
        let response = connection.response();
        if response.status == 429 {
            assert_eq!(response.field("Retry-After"), Some("1"));
            assert!(response.text().trim_end().ends_with('.'), "a sentence: {}", response.text());
        }
        statuses.push(response.status);
    }
    // The machine may be slow enough for another.
    assert_eq!(statuses[..3], [201, 201, 201]);
    assert!(statuses[3..].contains(&429), "{statuses:?}");
    assert!(server.metric("chat_refusals_total{cause=\"too_fast\"}") >= 1.0);
    // Another address has its own, and the first one may again when it has waited.
    let other = connect_from([127, 0, 0, 9].into(), address);
    let mut other = Raw::over(other);
    other.send(post_request(address, "r", &[PLAIN], "other"));
    assert_eq!(other.response().status, 201);
    common::wait_until("it may post again", || post(address, "r", &[PLAIN], "later").status == 201);

    let unlimited = Server::start(&["--post-rate", "0", "--post-burst", "1"]);
    for _ in 0..5 {
        assert_eq!(post(unlimited.address(), "r", &[PLAIN], "x").status, 201);
    }
}

#[test]
fn content_in_every_framing() {
    let server = Server::start(&["--max-message", "1000", "--max-text", "1000"]);
    let address = server.address();
    let head =
        |lines: &str| format!("POST /rooms/r/messages HTTP/1.1\r\nHost: {address}\r\n{PLAIN}\r\n{lines}\r\n\r\n");
    let chunked = head("Transfer-Encoding: chunked");
    let large = format!("{}{:x}\r\n{}\r\n0\r\n\r\n", chunked, 1_001, "x".repeat(1_001));
    let cases: &[(&str, String, u16)] = &[
        ("chunks", format!("{chunked}3\r\none\r\n4;ext=1\r\n two\r\n0\r\n\r\n"), 201),
        ("chunks with a trailer", format!("{chunked}5\r\nthree\r\n0\r\nX: y\r\n\r\n"), 201),
        ("a chunk that lies", format!("{chunked}2\r\nfour\r\n0\r\n\r\n"), 400),
        ("a chunk size that is none", format!("{chunked}zz\r\nfour\r\n0\r\n\r\n"), 400),
        ("chunks that are too much", large, 413),
        ("a length that is too much", head("Content-Length: 1001"), 413),
        ("a length that is none", head("Content-Length: -1"), 400),
        ("two lengths", format!("{}five!", head("Content-Length: 5\r\nContent-Length: 4")), 400),
        ("a length and chunks", format!("{}0\r\n\r\n", head("Content-Length: 5\r\nTransfer-Encoding: chunked")), 400),
        ("neither", head("X-Nothing: 1"), 400),
        ("the last", format!("{}six", head("Content-Length: 3")), 201),
    ];
    for (name, request, status) in cases {
        let response = http(address, request);
        assert_eq!(response.status, *status, "{name}: {}", response.text());
    }
    assert_eq!(messages(address, "r", "").0, ["one two", "three", "six"]);

    // Byte by byte.
    let mut slow = Raw::connect(address);
    for byte in format!("{chunked}3\r\nsev\r\n2\r\nen\r\n0\r\n\r\n").bytes() {
        slow.send([byte]);
    }
    assert_eq!(slow.response().status, 201);
    // Less than was promised, then the end: nothing is said, and nobody is answered.
    let mut short = Raw::connect(address);
    short.send(format!("{}eig", head("Content-Length: 5")));
    short.shut_down_writing();
    let (rest, end) = short.read_to_end(DEADLINE);
    assert_eq!((rest.len(), end), (0, End::Closed));
    assert_eq!(messages(address, "r", "").0, ["one two", "three", "six", "seven"]);
}

#[test]
fn one_connection_for_many_requests() {
    many_requests(&Server::start(&[]));
    let kept = Kept::new();
    many_requests(&kept.start(&[]));
}

fn many_requests(server: &Server) {
    let address = server.address();
    let mut connection = Raw::connect(address);
    // Two at once, and a GET behind them that sees both.
    let (one, two) = (post_request(address, "r", &[PLAIN], "one"), post_request(address, "r", &[PLAIN], "two"));
    connection.send(format!("{one}{two}GET /rooms/r/messages HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let (one, two) = (connection.response(), connection.response());
    assert_eq!((one.status, two.status), (201, 201));
    assert!(position(&one) < position(&two));
    let page = parsed(&connection.response());
    assert_eq!((&page["entries"][0]["text"], &page["entries"][1]["text"]), (&json!("one"), &json!("two")));
    // What is refused does not end the connection either.
    connection.send(post_request(address, "r", &[PLAIN], " "));
    assert_eq!(connection.response().status, 400);

    let head = format!(
        "POST /rooms/r/messages HTTP/1.1\r\nHost: {address}\r\n{PLAIN}\r\nExpect: 100-continue\r\n\
         Content-Length: 5\r\n\r\n"
    );
    connection.send(head);
    assert_eq!(connection.response().status, 100, "before any content");
    connection.send("three");
    assert_eq!(connection.response().status, 201);
    assert_eq!(messages(address, "r", "").0, ["one", "two", "three"]);
}

#[test]
fn content_that_is_not_welcome_is_not_asked_for() {
    let server = Server::start(&["--max-message", "1000", "--max-text", "1000"]);
    let address = server.address();
    let head = format!(
        "POST /rooms/r/messages HTTP/1.1\r\nHost: {address}\r\n{PLAIN}\r\nExpect: 100-continue\r\n\
         Content-Length: 5000\r\n\r\n"
    );
    let response = http(address, head);
    assert_eq!(response.status, 413, "and no 100");
}

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

#[test]
fn pages_of_other_origins() {
    let server = Server::start(&["--allow-origin", "https://friend.example"]);
    let address = server.address();
    let own = format!("http://{address}");
    let cases = [(own.as_str(), 201), ("https://friend.example", 201), ("https://evil.example", 403), ("null", 403)];
    for (origin, status) in cases {
        let origin_line = format!("Origin: {origin}");
        let response = post(address, "r", &[PLAIN, &origin_line], "x");
        assert_eq!(response.status, status, "{origin}");
        let allowed = (status == 201).then_some(origin);
        assert_eq!(response.field("Access-Control-Allow-Origin"), allowed, "{origin}");
        let ask = format!(
            "OPTIONS /rooms/r/messages HTTP/1.1\r\nHost: {address}\r\n{origin_line}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"
        );
        let response = http(address, ask);
        assert_eq!(response.status, if status == 201 { 204 } else { 403 }, "OPTIONS {origin}");
        assert_eq!(response.field("Access-Control-Allow-Origin"), allowed, "OPTIONS {origin}");
        if status == 201 {
            assert!(response.field("Access-Control-Allow-Methods").is_some_and(|it| it.contains("POST")));
            assert!(response.field("Access-Control-Allow-Headers").is_some_and(|it| it.contains("content-type")));
            let mut stream = Raw::connect(address);
            stream.send(format!("GET /rooms/r/events HTTP/1.1\r\nHost: {address}\r\n{origin_line}\r\n\r\n"));
            assert_eq!(stream.response_head().field("Access-Control-Allow-Origin"), allowed, "events {origin}");
        }
        let request = format!("GET /rooms/r/messages HTTP/1.1\r\nHost: {address}\r\n{origin_line}\r\n\r\n");
        let response = http(address, request);
        assert_eq!(response.field("Access-Control-Allow-Origin"), allowed, "GET {origin}");
    }
}
