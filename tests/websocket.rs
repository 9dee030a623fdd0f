//! The WebSocket protocol on the wire: the upgrade and who may have it, frames good and bad, and how a connection ends.

mod common;

use std::io::Write;
use std::net::{IpAddr, Shutdown};
use std::thread;
use std::time::Duration;

use common::{
    DEADLINE, End, Frame, Raw, Server, WsClient, close_frame, connect_from, connect_narrow, frame, upgrade_request,
    wait_for, wait_until,
};
use tungstenite::Message;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// The first of several fragments, one of those between, and the last.
const FIRST_OF_TEXT: u8 = 0x01;
const FURTHER: u8 = 0x00;
const LAST: u8 = 0x80;

/// The request of RFC 6455, section 1.2, with other header lines in the place of those of the same name; an empty line
/// takes one away.
fn request(server: &Server, start: &str, changes: &[&str]) -> String {
    let name = |line: &str| line.split(':').next().expect("a part").to_ascii_lowercase();
    let address = format!("Host: {}", server.address());
    let sample = [
        address.as_str(),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let kept = sample.iter().filter(|line| changes.iter().all(|change| name(change) != name(line)));
    let added = changes.iter().filter(|line| !line.ends_with(':'));
    let lines: String = kept.chain(added).map(|line| format!("{line}\r\n")).collect();
    format!("{start} HTTP/1.1\r\n{lines}\r\n")
}

#[test]
fn upgrades_are_answered_as_rfc_6455_asks() {
    let server = Server::start(&[]);
    let accept = Some(("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let version = Some(("Sec-WebSocket-Version", "13"));
    let allow = Some(("Allow", "GET"));
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let long_room = format!("GET /?room={}", "r".repeat(65));
    for (name, start, changes, status, field) in [
        ("the sample of the standard", "GET /", &[][..], 101, accept),
        ("any path", "GET /chat/deep%20down/?a=b", &[], 101, accept),
        ("the path of a file", "GET /index.html", &[], 101, accept),
        ("tokens in any case", "GET /", &["Upgrade: WebSocket", "connection: UPGRADE"], 101, accept),
        ("tokens in lists", "GET /", &["Upgrade: h2c, websocket", "Connection: keep-alive, Upgrade"], 101, accept),
        ("tokens on several lines", "GET /", &["Connection: keep-alive", "Connection: upgrade"], 101, accept),
        ("extensions are not agreed to", "GET /", &["Sec-WebSocket-Extensions: permessage-deflate"], 101, accept),
        ("no Upgrade", "GET /", &["Upgrade:"], 426, version),
        ("another Upgrade", "GET /", &["Upgrade: h2c"], 426, Some(("Upgrade", "websocket"))),
        ("no Connection", "GET /", &["Connection:"], 400, None),
        ("another version", "GET /", &["Sec-WebSocket-Version: 8"], 426, version),
        ("no version", "GET /", &["Sec-WebSocket-Version:"], 426, version),
        ("no key", "GET /", &["Sec-WebSocket-Key:"], 400, None),
        ("a short key", "GET /", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], 400, None),
        ("two keys", "GET /", &[key, key], 400, None),
        ("subprotocols that nobody knows", "GET /", &["Sec-WebSocket-Protocol: mqtt, stomp"], 400, None),
        ("another method", "POST /", &["Content-Length: 0"], 405, allow),
        ("HEAD", "HEAD /", &[], 405, allow),
        ("a room that is not UTF-8", "GET /?room=%ff", &[], 400, None),
        ("a room with too long a name", &long_room, &[], 400, None),
        ("a page of somebody else", "GET /", &["Origin: http://evil.example"], 403, None),
    ] {
        let mut connection = Raw::connect(server.address());
        connection.send(request(&server, start, changes));
        let has_content = status != 101 && !start.starts_with("HEAD");
        let response = if has_content { connection.response() } else { connection.response_head() };
        assert_eq!(response.status, status, "{name}: {response:?}");
        if let Some((field, value)) = field {
            assert_eq!(response.field(field), Some(value), "{name}: {response:?}");
        }
        for never in ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"] {
            assert_eq!(response.field(never), None, "{name}: {response:?}");
        }
        if has_content {
            assert!(response.text().starts_with(&format!("{status} ")), "{name}: {response:?}");
            assert!(response.text().ends_with(".\n") || name.contains("room"), "a sentence, {name}: {response:?}");
        }
        // Who was refused may do better on the same connection.
        if status != 101 {
            connection.send(request(&server, "GET /", &[]));
            assert_eq!(connection.response_head().status, 101, "{name}");
        }
        connection.send(frame(TEXT, b"hello"));
        assert_eq!(connection.frame(), Frame::text("hello"), "{name}");
        connection.send(close_frame(1000));
        assert_eq!(connection.frames_to_end(DEADLINE), (vec![Frame::Close(Some(1000))], End::Closed), "{name}");
    }
    let old = request(&server, "GET /", &[]).replace("HTTP/1.1", "HTTP/1.0");
    let response = common::http(server.address(), old);
    assert_eq!((response.status, response.field("Connection")), (400, Some("close")), "{response:?}");
}

#[test]
fn what_comes_in_the_same_packet_as_the_request_is_heard() {
    let server = Server::start(&[]);
    let hello = frame(TEXT, b"hello");
    for (name, bytes, expected) in [
        ("a message", hello.clone(), vec![Frame::text("hello")]),
        ("two", [&hello[..], &hello[..]].concat(), vec![Frame::text("hello"), Frame::text("hello")]),
        ("a ping", frame(PING, b"?"), vec![Frame::Pong(b"?".to_vec())]),
        (
            "a whole life",
            [&hello[..], &close_frame(1000)[..]].concat(),
            vec![Frame::text("hello"), Frame::Close(Some(1000))],
        ),
    ] {
        let mut connection = Raw::connect(server.address());
        let request = upgrade_request(server.address(), "/", &[]);
        connection.send([request.as_bytes(), &bytes].concat());
        assert_eq!(connection.response_head().status, 101, "{name}");
        let heard: Vec<Frame> = expected.iter().map(|_| connection.frame()).collect();
        assert_eq!(heard, expected, "{name}");
    }
    // And where the packet ends in the middle of a frame.
    for cut in 1..hello.len() {
        let mut connection = Raw::connect(server.address());
        let request = upgrade_request(server.address(), "/", &[]);
        connection.send([request.as_bytes(), &hello[..cut]].concat());
        assert_eq!(connection.response_head().status, 101, "cut at {cut}");
        connection.send(&hello[cut..]);
        assert_eq!(connection.frame(), Frame::text("hello"), "cut at {cut}");
    }
}

/// The status that an upgrade gets.
fn status_of_upgrade(server: &Server, source: &str, lines: &[&str]) -> u16 {
    let source = source.parse::<IpAddr>().expect("an address");
    let mut connection = Raw::over(connect_from(source, server.address()));
    connection.send(request(server, "GET /", lines));
    connection.response_head().status
}

#[test]
fn pages_of_the_same_host_may_connect_and_others_not() {
    let server = Server::start(&[]);
    for (name, lines, status) in [
        ("no browser", &[][..], 101),
        ("the same host", &["Host: chat.example:8080", "Origin: http://chat.example:8080"], 101),
        ("in other letters", &["Host: CHAT.example", "Origin: http://chat.EXAMPLE"], 101),
        ("the default port in Host", &["Host: chat.example:80", "Origin: http://chat.example"], 101),
        ("TLS in front", &["Host: chat.example", "Origin: https://chat.example"], 101),
        ("TLS in front, its port in Host", &["Host: chat.example:443", "Origin: https://chat.example"], 101),
        ("IPv6", &["Host: [::1]:8080", "Origin: http://[::1]:8080"], 101),
        ("another host", &["Host: chat.example", "Origin: http://evil.example"], 403),
        ("another port", &["Host: chat.example:8080", "Origin: http://chat.example:8081"], 403),
        ("a subdomain", &["Host: chat.example", "Origin: http://www.chat.example"], 403),
        ("a longer name", &["Host: chat.example", "Origin: http://chat.example.evil.example"], 403),
        ("null", &["Host: chat.example", "Origin: null"], 403),
        ("two", &["Host: chat.example", "Origin: http://chat.example", "Origin: http://chat.example"], 403),
        ("no origin at all", &["Host: chat.example", "Origin: chat.example"], 403),
        ("told by nobody we trust", &["X-Forwarded-Host: evil.example", "Origin: http://evil.example"], 403),
    ] {
        assert_eq!(status_of_upgrade(&server, "127.0.0.1", lines), status, "{name}");
    }
    assert_eq!(server.metric("chat_refusals_total{cause=\"origin\"}"), 8.0);
}

/// What it takes to let a page in is in the log, to be copied from there.
#[test]
fn a_refused_page_is_logged_with_the_option_that_lets_it_in() {
    for origin in ["http://evil.example", "https://page.example:8443", "http://127.0.0.1:1", "null"] {
        let line = format!("Origin: {origin}");
        let server = Server::start(&[]);
        assert_eq!(status_of_upgrade(&server, "127.0.0.1", &[&line]), 403, "{origin}");
        let option = wait_for("the log tells the option", || {
            let log = server.log();
            let (_, option) = log.lines().find(|line| line.contains("WARN"))?.split_once("--allow-origin ")?;
            Some(option.split_once(" would")?.0.trim_matches('\'').to_owned())
        });
        assert_eq!(option, if origin == "null" { "*" } else { origin });
        for arguments in
            [&["--allow-origin", &option][..], &["--allow-origin", "http://a.example", "--allow-origin", &option]]
        {
            let server = Server::start(arguments);
            assert_eq!(status_of_upgrade(&server, "127.0.0.1", &[&line]), 101, "{arguments:?}");
            let other = status_of_upgrade(&server, "127.0.0.1", &["Origin: http://other.example"]);
            assert_eq!(other, if option == "*" { 101 } else { 403 }, "{arguments:?}");
        }
    }
}

#[test]
fn proxies_are_believed_if_they_are_trusted_and_only_then() {
    let page = "Origin: https://chat.example";
    let x_host = &["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Host: chat.example", page][..];
    let forwarded = &["Forwarded: for=203.0.113.7;host=chat.example;proto=https", page][..];
    let appended = &["X-Forwarded-For: 198.51.100.1, 203.0.113.7", "X-Forwarded-Host: chat.example", page][..];
    let chained = &["Forwarded: for=203.0.113.7;host=chat.example, for=127.0.0.9;host=inner", page][..];
    let foreign = &["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Host: other.example", page][..];
    for (name, trusted, lines, status, client) in [
        ("X-Forwarded", "127.0.0.9", x_host, 101, "203.0.113.7"),
        ("X-Forwarded, a network", "10.0.0.0/8,127.0.0.8/30", x_host, 101, "203.0.113.7"),
        ("X-Forwarded, what the client made up", "127.0.0.9", appended, 101, "203.0.113.7"),
        ("Forwarded", "127.0.0.9", forwarded, 101, "203.0.113.7"),
        ("Forwarded, through two proxies", "127.0.0.9", chained, 101, "203.0.113.7"),
        ("a page of another host", "127.0.0.9", foreign, 403, "203.0.113.7"),
        ("nobody is trusted", "", x_host, 403, "127.0.0.9"),
        ("somebody else is trusted", "127.0.0.1", x_host, 403, "127.0.0.9"),
        ("somebody else is trusted", "127.0.0.1", forwarded, 403, "127.0.0.9"),
    ] {
        let server = Server::start_with(&[], |command| _ = command.env("CHAT_TRUST_PROXY", trusted));
        assert_eq!(status_of_upgrade(&server, "127.0.0.9", lines), status, "{name}, {trusted:?}");
        let line = if status == 101 { format!("connected from {client}") } else { format!("from {client}: ") };
        wait_until(&format!("{name}: the log says {line:?}"), || server.log().contains(&line));
        // Whoever comes past the proxy tells nothing but lies.
        assert_eq!(status_of_upgrade(&server, "127.0.0.2", lines), 403, "{name}, {trusted:?}");
    }
}

/// A frame that promises so many bytes, without any of them.
fn head_of_frame(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat()
}

#[test]
fn each_bad_frame_gets_its_close_code_and_a_clean_end() {
    let server = Server::start(&["--max-message", "1000"]);
    let unmasked = |payload: &[u8]| [&[TEXT, u8::try_from(payload.len()).expect("short")][..], payload].concat();
    let fragments = |parts: &[(u8, &[u8])]| parts.iter().flat_map(|(first, part)| frame(*first, part)).collect();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("not masked", unmasked(b"hello"), 1002),
        ("reserved bit 1", frame(TEXT | 0x40, b"hello"), 1002),
        ("reserved bit 2", frame(BINARY | 0x20, b"hello"), 1002),
        ("reserved bit 3", frame(PING | 0x10, b"hello"), 1002),
        ("a reserved opcode", frame(0x83, b"hello"), 1002),
        ("a reserved control opcode", frame(0x8b, b"hello"), 1002),
        ("a ping in fragments", frame(PING & !LAST, b"hello"), 1002),
        ("a long ping", frame(PING, &[b'x'; 126]), 1002),
        ("a long pong", frame(PONG, &[b'x'; 126]), 1002),
        ("a long close", frame(0x88, &[b'x'; 126]), 1002),
        ("a close in fragments", frame(0x08, b""), 1002),
        ("a fragment of nothing", frame(LAST | FURTHER, b"hello"), 1002),
        ("a message within a message", fragments(&[(FIRST_OF_TEXT, b"a"), (TEXT, b"b")]), 1002),
        ("a length with its highest bit set", head_of_frame(BINARY, 1 << 63), 1002),
        ("half a close code", frame(0x88, &[3]), 1002),
        ("close code 0", close_frame(0), 1002),
        ("close code 999", close_frame(999), 1002),
        ("close code 1004", close_frame(1004), 1002),
        ("close code 1005", close_frame(1005), 1002),
        ("close code 1006", close_frame(1006), 1002),
        ("close code 1015", close_frame(1015), 1002),
        ("close code 2999", close_frame(2999), 1002),
        ("close code 5000", close_frame(5000), 1002),
        ("text that is not UTF-8", frame(TEXT, b"\xff"), 1007),
        ("text that ends too early", frame(TEXT, b"caf\xc3"), 1007),
        ("a surrogate", frame(TEXT, b"\xed\xa0\x80"), 1007),
        ("an overlong character", frame(TEXT, b"\xc0\xaf"), 1007),
        ("not UTF-8, and the message goes on", frame(FIRST_OF_TEXT, b"\xff"), 1007),
        ("not UTF-8, and the frame goes on", frame(TEXT, b"\xff and so on")[..12].to_vec(), 1007),
        ("not UTF-8 across fragments", fragments(&[(FIRST_OF_TEXT, b"\xc3"), (LAST, b"x")]), 1007),
        ("a close whose words are not UTF-8", frame(0x88, b"\x03\xe8\xff"), 1007),
        ("a byte too long", frame(TEXT, &[b'x'; 1001]), 1009),
        ("a byte too long, promised", head_of_frame(TEXT, 1001), 1009),
        ("as long as can be, promised", head_of_frame(BINARY, u64::MAX >> 1), 1009),
        ("together too long", fragments(&[(FIRST_OF_TEXT, &[b'x'; 600]), (LAST, &[b'x'; 401])]), 1009),
        ("together too long, promised", [frame(0x02, &[0; 600]), head_of_frame(LAST, 401)].concat(), 1009),
    ];
    for (name, bytes, code) in &cases {
        // What was said before is heard before; what comes after is not heard, and does no harm either.
        let mut connection = Raw::upgraded(server.address(), "/");
        connection.send([frame(TEXT, b"before"), bytes.clone()].concat());
        assert_eq!(connection.frame(), Frame::text("before"), "{name}");
        connection.send(frame(TEXT, &[b'y'; 999]).repeat(50));
        let expected = (vec![Frame::Close(Some(*code))], End::Closed);
        assert_eq!(connection.frames_to_end(DEADLINE), expected, "{name}");
    }
    for (reason, code) in [("protocol", 1002), ("invalid_utf8", 1007), ("message_too_big", 1009)] {
        let count = cases.iter().filter(|(_, _, expected)| *expected == code).count();
        server.wait_for_metric(&format!("chat_closes_total{{reason=\"{reason}\"}}"), |value| value == count as f64);
    }
    server.wait_until_empty();
}

#[test]
fn a_client_that_closes_is_answered_in_kind() {
    let server = Server::start(&[]);
    for (name, bytes, code) in [
        ("1000", close_frame(1000), Some(1000)),
        ("1001", close_frame(1001), Some(1001)),
        ("1011", close_frame(1011), Some(1011)),
        ("3000", close_frame(3000), Some(3000)),
        ("4999", close_frame(4999), Some(4999)),
        ("with words", frame(0x88, &[&1000_u16.to_be_bytes()[..], "ciao ✋".as_bytes()].concat()), Some(1000)),
        ("without a code", frame(0x88, b""), None),
    ] {
        let mut connection = Raw::upgraded(server.address(), "/");
        // In one packet: the message is heard, then the close is answered, and nothing after it is heard.
        connection.send([frame(TEXT, b"bye"), bytes, frame(TEXT, b"late")].concat());
        let expected = vec![Frame::text("bye"), Frame::Close(code)];
        assert_eq!(connection.frames_to_end(DEADLINE), (expected, End::Closed), "{name}");
    }
    server.wait_for_metric("chat_closes_total{reason=\"peer_closed\"}", |value| value >= 7.0);
    server.wait_until_empty();
}

#[test]
fn a_client_that_only_stops_writing_still_hears_what_it_said() {
    let server = Server::start(&[]);
    for (name, bytes) in
        [("a message", frame(TEXT, b"last")), ("and half a frame", [frame(TEXT, b"last"), vec![TEXT]].concat())]
    {
        let mut connection = Raw::upgraded(server.address(), "/");
        connection.send(bytes);
        connection.shut_down_writing();
        let (frames, end) = connection.frames_to_end(DEADLINE);
        assert_eq!((frames.first(), end), (Some(&Frame::text("last")), End::Closed), "{name}");
    }
    server.wait_for_metric("chat_closes_total{reason=\"peer_vanished\"}", |value| value == 2.0);
    server.wait_until_empty();
}

/// However much of it is still on its way, or not even that.
#[test]
fn a_client_that_stops_writing_and_then_begins_to_read_hears_everything() {
    for (name, messages, arguments) in [
        ("it waits in the outbox", 200, &[][..]),
        ("it waits in the room's tail", 800, &["--outbox-high-water", "16KiB", "--outbox-low-water", "4KiB"]),
    ] {
        let server = Server::start(arguments);
        let mut connection = Raw::over(connect_narrow(server.address())).upgrade("/");
        let mut writer = connection.stream().try_clone().expect("a second handle");
        let writing = thread::spawn(move || {
            for number in 0..messages {
                writer.write_all(&frame(TEXT, format!("{number:0>1000}").as_bytes())).expect("it is read in the end");
            }
            writer.shutdown(Shutdown::Write).expect("shutdown");
        });
        if arguments.is_empty() {
            server.wait_for_metric("chat_messages_in_total", |read| read == f64::from(messages));
        }
        let (frames, end) = connection.frames_to_end(DEADLINE);
        let expected: Vec<Frame> = (0..messages).map(|number| Frame::Text(format!("{number:0>1000}"))).collect();
        assert_eq!((frames.len(), end), (expected.len(), End::Closed), "{name}");
        assert!(frames == expected, "{name}");
        writing.join().expect("all is written");
    }
}

#[test]
fn pings_are_answered_at_once_even_within_a_message() {
    let server = Server::start(&[]);
    let pong = |payload: &[u8]| Frame::Pong(payload.to_vec());
    let long = [b'p'; 125];
    for (name, frames, expected) in [
        ("empty", vec![frame(PING, b"")], vec![pong(b"")]),
        ("as long as can be", vec![frame(PING, &long)], vec![pong(&long)]),
        ("several", vec![frame(PING, b"1"), frame(PING, b"2")], vec![pong(b"1"), pong(b"2")]),
        ("a pong nobody asked for", vec![frame(PONG, b"?"), frame(PING, b"!")], vec![pong(b"!")]),
        (
            "between fragments",
            vec![
                frame(FIRST_OF_TEXT, "caf".as_bytes()),
                frame(PING, b"1"),
                frame(FURTHER, &"é".as_bytes()[..1]),
                frame(PING, b"2"),
                frame(FURTHER, b""),
                frame(LAST, &"é".as_bytes()[1..]),
            ],
            vec![pong(b"1"), pong(b"2"), Frame::text("café")],
        ),
    ] {
        let mut connection = Raw::upgraded(server.address(), "/");
        connection.send(frames.concat());
        let heard: Vec<Frame> = expected.iter().map(|_| connection.frame()).collect();
        assert_eq!(heard, expected, "{name}, in one packet");
        let mut connection = Raw::upgraded(server.address(), "/");
        for byte in frames.concat() {
            connection.send([byte]);
        }
        let heard: Vec<Frame> = expected.iter().map(|_| connection.frame()).collect();
        assert_eq!(heard, expected, "{name}, byte by byte");
    }
}

#[test]
fn whoever_does_not_answer_pings_is_let_go_and_whoever_does_stays() {
    let server = Server::start(&["--ping-interval", "200ms", "--linger-timeout", "100ms"]);
    let mut silent = Raw::upgraded(server.address(), "/?room=silent");
    let mut present = WsClient::connect(server.address(), "/", &[]);
    let silent = thread::spawn(move || silent.frames_to_end(DEADLINE));
    let mut pings = 0;
    while !silent.is_finished() {
        // Reading answers pings.
        pings += match present.poll(Duration::from_millis(50)) {
            Ok(Some(Message::Ping(_))) => 1,
            Ok(None) => 0,
            other => panic!("{other:?}"),
        };
    }
    let (frames, end) = silent.join().expect("the thread reads");
    assert_eq!((frames, end), (vec![Frame::Ping(Vec::new()), Frame::Close(Some(1001))], End::Closed));
    assert!(pings > 0);
    present.send_text("still here");
    assert_eq!(present.next_text(), "still here");
    assert_eq!(server.metric("chat_closes_total{reason=\"ping_timeout\"}"), 1.0);
}

#[test]
fn a_websocket_may_come_after_other_requests_on_its_connection() {
    let server = Server::start(&[]);
    let mut connection = Raw::connect(server.address());
    let page = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address());
    let upgrade = upgrade_request(server.address(), "/", &[]);
    connection.send([page.as_bytes(), page.as_bytes(), upgrade.as_bytes(), &frame(TEXT, b"hello")].concat());
    assert_eq!(connection.response().status, 200);
    assert_eq!(connection.response().status, 200);
    assert_eq!(connection.response_head().status, 101);
    assert_eq!(connection.frame(), Frame::text("hello"));
}
