//! Every limit, from outside: what whoever passes it is told, and that nobody else notices.

mod common;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    DEADLINE, End, Frame, Raw, Response, Server, WsClient, crowd, frame, raise_descriptor_limit, upgrade_request,
    wait_for, wait_until,
};

const TEXT: u8 = 0x81;

/// Checks that two clients hear each other.
fn chat(one: &mut WsClient, other: &mut WsClient, text: &str) {
    one.send_text(text);
    assert_eq!([one.next_text(), other.next_text()], [text; 2]);
}

fn request(server: &Server, target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", server.address())
}

/// Reads the one response that a connection gets, and checks that it ends cleanly behind it.
fn only_response(connection: &mut Raw) -> Response {
    let response = connection.response();
    let (rest, end) = connection.read_to_end(DEADLINE);
    assert_eq!((rest.len(), end), (0, End::Closed), "after {response:?}");
    response
}

#[test]
fn one_connection_too_many_is_told_to_come_back_and_can() {
    let server = Server::start(&["--max-connections", "3"]);
    let [mut one, mut two, three] = [(); 3].map(|()| WsClient::connect(server.address(), "/", &[]));
    let upgrade = upgrade_request(server.address(), "/", &[]);
    for (name, bytes) in [
        ("it says nothing", Vec::new()),
        ("it asks for a page", request(&server, "/", "").into_bytes()),
        ("it asks for a WebSocket", upgrade.clone().into_bytes()),
        // What is not read would reset the connection, and destroy what we say.
        ("it says more than is read", [upgrade.as_bytes(), &frame(TEXT, &[b'x'; 60_000]).repeat(3)].concat()),
    ] {
        let mut connection = Raw::connect(server.address());
        connection.send(bytes);
        let response = only_response(&mut connection);
        assert_eq!((response.status, response.field("Connection")), (503, Some("close")), "{name}");
        let seconds = response.field("Retry-After").expect("when to come back");
        assert!((1..60).contains(&seconds.parse::<u32>().expect("seconds")), "{name}: {seconds}");
        chat(&mut one, &mut two, name);
    }
    three.close(1000);
    let mut again = wait_for("there is room again", || {
        let mut connection = Raw::connect(server.address());
        connection.send(&upgrade);
        (connection.response_head().status == 101).then_some(connection)
    });
    again.send(frame(TEXT, b"back"));
    assert_eq!(
        (again.frame(), one.next_text().as_str(), two.next_text().as_str()),
        (Frame::text("back"), "back", "back")
    );
    drop((again, two));
    one.close(1000);
    let refused = server.wait_for_metric("chat_refusals_total{cause=\"full\"}", |_| true);
    assert!(refused >= 4.0, "{refused}");
    server.wait_until_empty();
}

/// Those who were refused and do not go away hold no place of anybody.
#[test]
fn a_place_that_becomes_free_can_be_had_at_once() {
    let server = Server::start(&["--max-connections", "2", "--linger-timeout", "1h"]);
    let [mut one, two] = [(); 2].map(|()| WsClient::connect(server.address(), "/", &[]));
    let mut refused: Vec<Raw> = (0..5).map(|_| Raw::connect(server.address())).collect();
    for connection in &mut refused {
        assert_eq!(connection.response().status, 503);
    }
    two.close(1000);
    let mut three = wait_for("there is room", || {
        let mut connection = Raw::connect(server.address());
        connection.send(upgrade_request(server.address(), "/", &[]));
        (connection.response_head().status == 101).then_some(connection)
    });
    one.send_text("hello");
    assert_eq!((one.next_text().as_str(), three.frame()), ("hello", Frame::text("hello")));
}

#[test]
fn a_crowd_that_is_too_many_is_refused_one_by_one() {
    const CROWD: usize = 300;
    let server = Server::start(&["--max-connections", "2", "--linger-timeout", "50ms"]);
    let [mut one, mut two] = [(); 2].map(|()| WsClient::connect(server.address(), "/", &[]));
    let mut crowd: Vec<Raw> = (0..CROWD).map(|_| Raw::connect(server.address())).collect();
    for place in [CROWD - 1, 0, CROWD / 2] {
        crowd.swap(place, 0);
        chat(&mut one, &mut two, "still here");
    }
    for mut connection in crowd {
        assert_eq!(connection.response().status, 503);
    }
    chat(&mut one, &mut two, "and now");
}

/// What a shell does with `ulimit -n`, and then the command as it was.
fn limit_descriptors(command: &mut Command, limits: &str) {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.stdin(std::process::Stdio::null());
    limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    *command = limited;
}

#[test]
fn the_log_tells_how_many_connections_and_files_the_open_files_allow() {
    for (limits, arguments, lines) in [
        (
            "ulimit -n 500; ulimit -Sn 64",
            &[][..],
            &["up to 358 connections and 64 streamed files, as 500 open files"][..],
        ),
        (
            "ulimit -n 500",
            &["--max-connections", "100"],
            &["up to 100 connections and 100 streamed files, as 500 open"],
        ),
        ("ulimit -n 500", &["--max-connections", "600"], &["WARN", "358", "ulimit -n"]),
        ("ulimit -n 500", &["--max-open-files", "300"], &["WARN", "211", "up to 211 connections and 300 streamed"]),
    ] {
        let server = Server::start_with(arguments, |command| limit_descriptors(command, limits));
        for line in lines {
            wait_until(&format!("{limits}, {arguments:?}: {line:?}"), || server.log().contains(line));
        }
        assert_eq!(common::get(server.address(), "/healthz").status, 200);
    }
}

#[test]
fn without_descriptors_whoever_is_there_goes_on_and_others_wait_their_turn() {
    const WINDOW: Duration = Duration::from_millis(1_200);
    let server = Server::start(&[]);
    let mut observer = Raw::connect(server.address());
    let pauses = server.metrics_over(&mut observer)["chat_accept_pauses_total"];
    assert_eq!(pauses, 0.0);
    let [mut one, mut two] = [(); 2].map(|()| WsClient::connect(server.address(), "/", &[]));
    server.allow_descriptors(1);
    let last = WsClient::connect(server.address(), "/", &[]);
    // The kernel completes these connections; the server cannot take them in.
    let mut waiting: Vec<Raw> = (0..3).map(|_| Raw::connect(server.address())).collect();
    for connection in &mut waiting {
        connection.send(upgrade_request(server.address(), "/?room=late", &[]));
    }
    wait_until("it has noticed", || server.metrics_over(&mut observer)["chat_accept_pauses_total"] > 0.0);
    let (began, used) = (Instant::now(), server.cpu_time());
    wait_until("a while goes by", || began.elapsed() > WINDOW);
    let used = server.cpu_time() - used;
    assert!(used < WINDOW / 4, "{used:?} of processor time in {WINDOW:?} with nothing to do");
    chat(&mut one, &mut two, "still here");

    last.close(1000);
    let mut first = waiting.remove(0);
    assert_eq!(first.response_head().status, 101, "whoever waited longest is next");
    // One that leaves makes room for one.
    first.send(common::close_frame(1000));
    assert_eq!(first.frames_to_end(DEADLINE), (vec![Frame::Close(Some(1000))], End::Closed));
    drop(first);
    assert_eq!(waiting.remove(0).response_head().status, 101);
    // Descriptors may come from elsewhere as well.
    server.allow_descriptors(100);
    assert_eq!(waiting.remove(0).response_head().status, 101);
    chat(&mut one, &mut two, "all the time");
    assert!(server.log().contains("WARN"), "{}", server.log());
}

#[test]
fn heads_that_are_too_large_are_refused_and_the_answer_arrives() {
    let server = Server::start(&["--max-head", "2KiB", "--max-target", "1KiB", "--max-header-fields", "20"]);
    let fields = |count: usize| (0..count).map(|it| format!("X-{it}: y\r\n")).collect::<String>();
    for (name, bytes, status) in [
        ("a long target", request(&server, &format!("/{}", "x".repeat(1_024)), ""), 414),
        ("an endless target", format!("GET /{}", "x".repeat(100_000)), 414),
        ("many fields", request(&server, "/", &fields(21)), 431),
        ("a long field", request(&server, "/", &format!("X: {}\r\n", "x".repeat(2_048))), 431),
        ("an endless field", format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(100_000)), 431),
        ("endless fields", format!("GET / HTTP/1.1\r\n{}", fields(5_000)), 431),
        ("an endless method", "X".repeat(100_000), 501),
    ] {
        let mut connection = Raw::connect(server.address());
        connection.send(&bytes);
        let response = only_response(&mut connection);
        assert_eq!((response.status, response.field("Connection")), (status, Some("close")), "{name}: {response:?}");
        assert!(response.text().starts_with(&status.to_string()), "{name}: {response:?}");
    }
    for (name, bytes) in [
        ("just short enough", request(&server, &format!("/healthz?{}", "x".repeat(1_024 - 9)), "")),
        ("just few enough", request(&server, "/healthz", &fields(19))),
    ] {
        let mut connection = Raw::connect(server.address());
        connection.send(&bytes);
        assert_eq!(connection.response().status, 200, "{name}");
    }
}

#[test]
fn a_head_that_does_not_come_in_time_gets_408() {
    let server = Server::start(&["--handshake-timeout", "300ms", "--keep-alive-timeout", "1h"]);
    let half = format!("GET / HTTP/1.1\r\nHost: {}\r\nX: ", server.address());
    let whole = request(&server, "/healthz", "");
    let timed_out = |connection: &mut Raw| {
        let response = only_response(connection);
        (response.status, response.field("Connection").map(str::to_owned))
    };
    let expected = (408, Some("close".to_owned()));

    let mut silent = Raw::connect(server.address());
    let mut stopped = Raw::connect(server.address());
    stopped.send(&half);
    assert_eq!(timed_out(&mut stopped), expected, "it stops in the middle");
    assert_eq!(silent.read_to_end(DEADLINE), (Vec::new(), End::Closed), "whoever asks nothing is told nothing");

    let mut second = Raw::connect(server.address());
    second.send(format!("{whole}{half}"));
    assert_eq!(second.response().status, 200);
    assert_eq!(timed_out(&mut second), expected, "it stops in the middle of its second request");

    // Sending a little now and then gains nothing.
    let mut dripping = Raw::connect(server.address());
    dripping.send(&half);
    let writer = dripping.stream().try_clone().expect("a second handle");
    let (began, mut answer) = (Instant::now(), [0; 12]);
    wait_until("it is answered, however often it sends another byte", || {
        dripping.send("x");
        writer.set_nonblocking(true).expect("O_NONBLOCK");
        let come = writer.peek(&mut answer).is_ok_and(|length| length == answer.len());
        writer.set_nonblocking(false).expect("O_NONBLOCK");
        assert!(began.elapsed() < Duration::from_secs(8), "byte by byte, it is waited for again and again");
        come
    });
    assert_eq!(timed_out(&mut dripping), expected, "byte by byte");

    // Whoever rests between two requests is another matter, and so is whoever has upgraded.
    let mut resting = Raw::connect(server.address());
    resting.send(&whole);
    assert_eq!(resting.response().status, 200);
    let mut upgraded = Raw::upgraded(server.address(), "/");
    let began = Instant::now();
    wait_until("longer than a head may take", || began.elapsed() > Duration::from_millis(600));
    resting.send(&whole);
    assert_eq!(resting.response().status, 200);
    upgraded.send(frame(TEXT, b"hello"));
    assert_eq!(upgraded.frame(), Frame::text("hello"));
}

#[test]
fn a_connection_may_rest_so_long_and_ask_so_often() {
    let server = Server::start(&["--keep-alive-timeout", "300ms", "--max-requests", "3"]);
    let whole = request(&server, "/healthz", "");
    let mut resting = Raw::connect(server.address());
    resting.send(&whole);
    assert_eq!((resting.response().status, resting.read_to_end(DEADLINE)), (200, (Vec::new(), End::Closed)));

    // All in one packet, and more than are answered.
    let mut asking = Raw::connect(server.address());
    asking.send(whole.repeat(5));
    for last in [false, false, true] {
        let response = asking.response();
        assert_eq!((response.status, response.field("Connection") == Some("close")), (200, last));
    }
    assert_eq!(asking.read_to_end(DEADLINE), (Vec::new(), End::Closed));
    for reason in ["keep_alive_timeout", "finished"] {
        // With a connection for each question, since none lives long here.
        let series = format!("chat_closes_total{{reason=\"{reason}\"}}");
        wait_until(reason, || server.metric(&series) >= 1.0);
    }
}

#[test]
fn a_message_may_be_so_long_and_no_longer() {
    let server = Server::start(&["--max-message", "1000"]);
    for (name, frames, expected) in [
        ("whole", vec![frame(TEXT, &[b'x'; 1_000])], Frame::Text("x".repeat(1_000))),
        ("in two", vec![frame(0x02, &[7; 600]), frame(0x80, &[7; 400])], Frame::Binary(vec![7; 1_000])),
        ("whole, a byte more", vec![frame(TEXT, &[b'x'; 1_001])], Frame::Close(Some(1009))),
        ("in two, a byte more", vec![frame(0x02, &[7; 600]), frame(0x80, &[7; 401])], Frame::Close(Some(1009))),
    ] {
        let mut connection = Raw::upgraded(server.address(), "/");
        connection.send(frames.concat());
        assert_eq!(connection.frame(), expected, "{name}");
    }
}

/// Where everything must be carried over, again and again, nothing is lost, doubled or out of order.
#[test]
fn the_tightest_budgets_lose_nothing_and_starve_nobody() {
    const MEMBERS: usize = 5;
    const EACH: usize = 100;
    for (name, arguments) in [
        ("one draft in flight", &["--drafts-in-flight", "1"][..]),
        ("few bytes in flight", &["--draft-bytes-in-flight", "20", "--max-message", "20"]),
        ("few bytes read", &["--read-per-connection", "50", "--read-per-turn", "70"]),
        ("one accepted", &["--accepts-per-turn", "1"]),
        ("hardly any outbox", &["--outbox-high-water", "2", "--outbox-low-water", "1"]),
        (
            "hardly any outboxes",
            &["--outboxes-total", "20", "--outbox-high-water", "20", "--outbox-low-water", "1", "--max-message", "20"],
        ),
    ] {
        let server = Server::start(arguments);
        let members = crowd(server.address(), "/", MEMBERS);
        let threads: Vec<_> = members
            .into_iter()
            .enumerate()
            .map(|(member, mut connection)| {
                thread::spawn(move || {
                    for number in 0..EACH {
                        connection.send(frame(TEXT, format!("{member}:{number:03}").as_bytes()));
                    }
                    (0..MEMBERS * EACH).map(|_| connection.frame()).collect::<Vec<_>>()
                })
            })
            .collect();
        let heard: Vec<_> = threads.into_iter().map(|it| it.join().expect(name)).collect();
        for member in 0..MEMBERS {
            assert!(heard[member] == heard[0], "{name}: one order for all");
            let of_member = heard[0].iter().filter_map(|frame| match frame {
                Frame::Text(text) => {
                    text.strip_prefix(&format!("{member}:")).map(|it| it.parse::<usize>().expect("a number"))
                }
                other => panic!("{name}: {other:?}"),
            });
            assert!(of_member.eq(0..EACH), "{name}: what {member} said is heard in order");
        }
        server.wait_until_empty();
    }
}

#[test]
fn as_many_connections_as_are_allowed_are_held_at_once() {
    const MEMBERS: usize = 2_000;
    raise_descriptor_limit();
    let server = Server::start(&["--max-connections", "2001", "--ping-interval", "1h"]);
    let mut members = crowd(server.address(), "/", MEMBERS);
    let (began, used) = (Instant::now(), server.cpu_time());
    wait_until("a while goes by", || began.elapsed() > Duration::from_millis(500));
    let used = server.cpu_time() - used;
    assert!(used < Duration::from_millis(100), "{used:?} of processor time for members that rest");
    members[0].send(frame(TEXT, b"hello"));
    assert!(members.iter_mut().all(|member| member.frame() == Frame::text("hello")));
    assert_eq!(server.metric("chat_connections{kind=\"websocket\"}"), MEMBERS as f64);
    drop(members);
    server.wait_until_empty();
}
