//! Rooms for programs, over HTTP: what is posted, by whom, and what is refused.

mod common;

use serde_json::json;

use common::rooms::{JSON, PLAIN, messages, parsed, position, post, post_request};
use common::{DEADLINE, End, Kept, Raw, Server, V1, WsClient, connect_from, http};

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
