//! What clients do to a server that mean it harm, or do not know better, while two others chat and must not notice.

mod common;

use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{
    DEADLINE, End, Frame, Raw, Server, Stopwatch, close_frame, connect_narrow, crowd, frame, get, http,
    raise_descriptor_limit, upgrade_request, wait_until,
};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
/// The longest that a message may take between two who behave, without what they and the server wait for a processor.
const PROMPT: Duration = Duration::from_secs(1);
/// Memory that the server may take for whatever is done to it.
const MEMORY: f64 = 64.0 * 1024.0 * 1024.0;

/// Two who chat all the time in a room of their own.
struct Pair {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicUsize>,
    slowest: JoinHandle<Duration>,
}

impl Pair {
    fn start(server: &Server) -> Self {
        let [mut one, mut other] = [(); 2].map(|()| Raw::upgraded(server.address(), "/?room=pair"));
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count, pid) = (Arc::clone(&stop), Arc::clone(&heard), server.pid());
        let slowest = thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let text = count.load(Ordering::Relaxed).to_string();
                let watch = Stopwatch::of(pid);
                one.send(frame(TEXT, text.as_bytes()));
                for member in [&mut other, &mut one] {
                    // Whoever is kept waiting for too long by its machine may be asked whether it is there.
                    let heard =
                        std::iter::repeat_with(|| member.frame()).find(|frame| !matches!(frame, Frame::Ping(_)));
                    assert_eq!(heard, Some(Frame::text(&text)));
                }
                slowest = slowest.max(watch.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
                std::mem::swap(&mut one, &mut other);
            }
            slowest
        });
        Pair { stop, heard, slowest }
    }

    /// Waits until they have heard some more.
    fn hear(&self, messages: usize) {
        let before = self.heard.load(Ordering::Relaxed);
        wait_until("the pair hears itself", || {
            assert!(!self.slowest.is_finished(), "the pair has fallen silent");
            self.heard.load(Ordering::Relaxed) >= before + messages
        });
    }

    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.slowest.join().expect("every message arrives")
    }
}

/// Lets `attack` loose on a server, and checks that nobody notices, and that nothing of it stays.
fn survives(arguments: &[&str], attack: impl FnOnce(&Server, &Pair)) {
    raise_descriptor_limit();
    let server = Server::start(&[&["--log", "debug", "--max-connections", "5000"], arguments].concat());
    let pair = Pair::start(&server);
    pair.hear(10);
    let before = server.metric("chat_resident_memory_bytes");
    attack(&server, &pair);
    pair.hear(10);
    let taken = server.metric("chat_resident_memory_bytes") - before;
    assert!(taken < MEMORY, "{taken} bytes of memory");
    let slowest = pair.stop();
    assert!(slowest < PROMPT, "a message took {slowest:?}");
    server.wait_until_empty();
    let log = server.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    assert_eq!(server.stop().code(), Some(0));
}

/// What a client does before it cuts the connection.
type Stage = (&'static str, fn(&Server) -> Raw);

#[test]
fn resets_at_every_stage() {
    const STAGES: [Stage; 11] = [
        ("at once", |server| Raw::connect(server.address())),
        ("in the middle of a head", |server| {
            let mut connection = Raw::connect(server.address());
            connection.send("GET / HTTP/1.1\r\nHost:");
            connection
        }),
        ("with a request on its way", |server| {
            let mut connection = Raw::connect(server.address());
            connection.send(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address()).repeat(50));
            connection
        }),
        ("after a response", |server| {
            let mut connection = Raw::connect(server.address());
            connection.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address()));
            assert_eq!(connection.response().status, 200);
            connection
        }),
        ("after a refusal", |server| {
            let mut connection = Raw::connect(server.address());
            connection.send("NONSENSE\r\n\r\n");
            assert_eq!(connection.response().status, 400);
            connection
        }),
        ("with an upgrade on its way", |server| {
            let mut connection = Raw::connect(server.address());
            connection.send(upgrade_request(server.address(), "/", &[]));
            connection
        }),
        ("after the upgrade", |server| Raw::upgraded(server.address(), "/")),
        ("in the middle of a frame", |server| {
            let mut connection = Raw::upgraded(server.address(), "/");
            connection.send(&frame(TEXT, &[b'x'; 10_000])[..5_000]);
            connection
        }),
        ("in the middle of a message", |server| {
            let mut connection = Raw::upgraded(server.address(), "/");
            connection.send(frame(0x01, b"half"));
            connection
        }),
        ("with messages on their way to all", |server| {
            let mut connection = Raw::upgraded(server.address(), "/");
            connection.send(frame(TEXT, &[b'x'; 10_000]).repeat(10));
            connection
        }),
        ("in the middle of the close", |server| {
            let mut connection = Raw::upgraded(server.address(), "/");
            connection.send(close_frame(1000));
            connection
        }),
    ];
    survives(&[], |server, pair| {
        for (name, stage) in STAGES {
            for round in 0..20 {
                let connection = stage(server);
                match round % 4 {
                    0 => drop(connection),
                    1 => connection.stream().shutdown(Shutdown::Both).expect(name),
                    _ => connection.reset(),
                }
            }
            pair.hear(1);
        }
    });
}

#[test]
fn a_thousand_connections_opened_and_dropped_at_once() {
    survives(&[], |server, pair| {
        for round in 0..4 {
            let crowd: Vec<Raw> = (0..1_000).map(|_| Raw::connect(server.address())).collect();
            for connection in crowd {
                if round % 2 == 0 { drop(connection) } else { connection.reset() }
            }
            pair.hear(1);
        }
        let upgraded = crowd(server.address(), "/", 1_000);
        upgraded.into_iter().for_each(Raw::reset);
    });
}

#[test]
fn ten_thousand_tiny_fragments() {
    survives(&["--max-message", "10000"], |server, _| {
        let mut patient = Raw::upgraded(server.address(), "/");
        let mut packet = frame(0x01, b"");
        (0..10_000).for_each(|number: u32| packet.extend(frame(0x00, &[b'a' + (number % 26) as u8])));
        packet.extend((0..10_000).flat_map(|_| frame(0x00, b"")));
        packet.extend(frame(0x80, b""));
        patient.send(&packet);
        let Frame::Text(text) = patient.frame() else { panic!("not text") };
        assert_eq!(text.len(), 10_000);
        assert!(text.bytes().enumerate().all(|(place, byte)| byte == b'a' + (place % 26) as u8));
        // Others never come to an end, and are many.
        let mut endless = crowd(server.address(), "/", 10);
        let half = &packet[..packet.len() / 2 - 3];
        endless.iter_mut().for_each(|member| member.send(half));
    });
}

#[test]
fn lengths_that_lie() {
    let arguments = ["--max-message", "16MiB", "--tail-bytes", "64MiB", "--draft-bytes-in-flight", "16MiB"];
    survives(&arguments, |server, pair| {
        // 8 GiB are promised in all.
        let mut liars = crowd(server.address(), "/", 500);
        let promise = |first: u8| [&[first, 0xff][..], &(16_u64 << 20).to_be_bytes(), &[0; 4], b"that is all"].concat();
        liars.iter_mut().for_each(|liar| liar.send(promise(0x82)));
        liars.iter_mut().step_by(2).for_each(|liar| liar.send([0; 2_000]));
        pair.hear(10);
        let mut more = crowd(server.address(), "/", 100);
        more.iter_mut().for_each(|liar| liar.send([frame(0x02, b"first"), promise(0x80)].concat()));
        pair.hear(10);
        // A head that lies about what follows is refused.
        let mut connection = Raw::connect(server.address());
        connection.send("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
        assert_eq!(connection.response().status, 400);
    });
}

#[test]
fn everything_a_byte_at_a_time() {
    survives(&[], |server, _| {
        let script = [
            upgrade_request(server.address(), "/?room=drip", &[]).as_bytes(),
            &frame(TEXT, b"drip"),
            &close_frame(1000),
        ]
        .concat();
        let mut crowd: Vec<Raw> = (0..100).map(|_| Raw::connect(server.address())).collect();
        for byte in script {
            crowd.iter_mut().for_each(|connection| connection.send([byte]));
        }
        for (place, mut connection) in crowd.into_iter().enumerate() {
            assert_eq!(connection.response_head().status, 101, "{place}");
            let (frames, end) = connection.frames_to_end(DEADLINE);
            assert!(frames.contains(&Frame::text("drip")), "{place}: {frames:?}");
            assert_eq!((frames.last(), end), (Some(&Frame::Close(Some(1000))), End::Closed), "{place}");
        }
    });
}

/// Writes until the server takes no more, as far as a second shows, or so many bytes are through.
fn flood(connection: &Raw, packet: &[u8], most: usize) {
    let mut stream: &TcpStream = connection.stream();
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a write timeout");
    let mut written = 0;
    while written < most {
        match stream.write(packet) {
            // What is cut in the middle goes on there.
            Ok(length) if length < packet.len() && stream.write_all(&packet[length..]).is_err() => return,
            Ok(_) => written += packet.len(),
            Err(_) => return,
        }
    }
}

#[test]
fn floods_of_pings_whose_answers_nobody_reads() {
    survives(&[], |server, pair| {
        let packet = frame(PING, &[b'p'; 125]).repeat(500);
        let flooders: Vec<_> = (0..4)
            .map(|_| {
                let connection = Raw::over(connect_narrow(server.address())).upgrade("/");
                let packet = packet.clone();
                thread::spawn(move || {
                    flood(&connection, &packet, 20_000_000);
                    connection
                })
            })
            .collect();
        let flooders: Vec<Raw> = flooders.into_iter().map(|it| it.join().expect("flooded")).collect();
        pair.hear(10);
        let outboxes = server.metric("chat_outbox_bytes");
        assert!(outboxes < 4.0 * 400_000.0, "{outboxes} bytes wait");
        drop(flooders);
    });
}

#[test]
fn clients_that_send_and_never_read() {
    survives(&["--tail-bytes", "4MiB"], |server, pair| {
        let packet = frame(TEXT, &[b'x'; 1_000]).repeat(60);
        // In a room of their own, each of them, and all together.
        let flooders: Vec<_> = (0..6)
            .map(|place| {
                let room = if place < 3 { format!("/?room={place}") } else { "/?room=all".to_owned() };
                let connection = Raw::over(connect_narrow(server.address())).upgrade(&room);
                let packet = packet.clone();
                thread::spawn(move || {
                    flood(&connection, &packet, 20_000_000);
                    connection
                })
            })
            .collect();
        let flooders: Vec<Raw> = flooders.into_iter().map(|it| it.join().expect("flooded")).collect();
        // And one in the room of the pair, who says nothing and hears nothing.
        let deaf = Raw::over(connect_narrow(server.address())).upgrade("/?room=pair");
        pair.hear(100);
        let outboxes = server.metric("chat_outbox_bytes");
        assert!(outboxes < 6.0 * 400_000.0, "{outboxes} bytes wait");
        drop((flooders, deaf));
    });
}

#[test]
fn garbage_of_every_kind() {
    survives(&[], |server, pair| {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut random = |length: usize| (0..length).map(|_| rng.u8(..)).collect::<Vec<u8>>();
        let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &random(507)].concat();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
        for (name, bytes) in [
            ("a TLS hello", hello),
            ("HTTP/2", preface.to_vec()),
            ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
            ("zeros", vec![0; 100_000]),
            ("line feeds", b"\n".repeat(100_000)),
            ("empty lines", b"\r\n".repeat(100_000)),
            ("no end", b"GET ".repeat(100_000)),
        ] {
            let mut connection = Raw::connect(server.address());
            connection.send(&bytes);
            let response = connection.response();
            assert!((400..=505).contains(&response.status), "{name}: {response:?}");
            assert_eq!(connection.read_to_end(DEADLINE), (Vec::new(), End::Closed), "{name}");
        }
        for round in 0..100 {
            let mut connection = Raw::connect(server.address());
            if round % 2 == 0 {
                connection = connection.upgrade("/");
            }
            connection.send(random(5_000));
            connection.shut_down_writing();
            let (_, end) = connection.read_to_end(DEADLINE);
            assert_ne!(end, End::Open, "round {round}");
        }
        pair.hear(1);
    });
}

#[test]
fn answers_that_nobody_reads() {
    // Each of another file, of 200 MB in all.
    const FILES: usize = 1_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    for number in 0..FILES {
        let file = File::create(folder.path().join(format!("{number}.bin"))).expect("a file");
        file.set_len(200_000).expect("its length");
    }
    let arguments = ["--public", folder.path().to_str().expect("UTF-8"), "--outboxes-total", "16MiB"];
    survives(&arguments, |server, pair| {
        let mut deaf: Vec<Raw> = (0..FILES)
            .map(|number| {
                let mut connection = Raw::over(connect_narrow(server.address()));
                connection.send(format!("GET /{number}.bin HTTP/1.1\r\nHost: {}\r\n\r\n", server.address()));
                connection
            })
            .collect();
        // All of them are answered, and take no more than the beginning. What finds no room in memory is read as it is sent,
        // in the smallest pieces since there is no room in the outboxes either.
        assert!(deaf.iter_mut().all(|connection| connection.response_head().status == 200));
        let outboxes = server.metric("chat_outbox_bytes");
        assert!(outboxes < 16.0 * 1024.0 * 1024.0 + FILES as f64 * 8_192.0, "{outboxes} bytes wait");
        let content = server.metric("chat_file_content_bytes");
        assert!((32e6..64.0 * 1024.0 * 1024.0).contains(&content), "{content} bytes of files");
        pair.hear(10);
        drop(deaf);
        // Room is there again for those who come now.
        server.wait_for_metric("chat_connections{kind=\"http\"}", |open| open == 1.0);
        assert_eq!(get(server.address(), "/999.bin").body.len(), 200_000);
    });
}

#[test]
fn histories_that_nobody_reads() {
    const TOTAL: &str = "16MiB";
    for store in [false, true] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = ["--memory=no", "--data", folder.path().to_str().expect("UTF-8"), "--tail-bytes", "64KiB"];
        let arguments = ["--outboxes-total", TOTAL, "--post-rate", "0"];
        survives(&[&arguments[..], if store { &data } else { &[] }].concat(), |server, pair| {
            let address = server.address();
            let text = "x".repeat(16_000);
            for _ in 0..20 {
                let head = format!("POST /rooms/r/messages HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain");
                let said = http(address, format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
                assert_eq!(said.status, 201, "{said:?}");
            }
            let ask = format!("GET /rooms/r/messages HTTP/1.1\r\nHost: {address}\r\n\r\n");
            let mut deaf: Vec<Raw> = (0..250).map(|_| Raw::over(connect_narrow(address))).collect();
            deaf.iter_mut().for_each(|connection| connection.send(&ask));
            let mut statuses: Vec<u16> = deaf.iter_mut().map(|connection| connection.response_head().status).collect();
            statuses.sort_unstable();
            statuses.dedup();
            assert_eq!(statuses, [200, 503], "stored: {store}");
            let outboxes = server.metric("chat_outbox_bytes");
            assert!(outboxes < 17.0 * 1024.0 * 1024.0, "{outboxes} bytes wait");
            pair.hear(10);
            drop(deaf);
            server.wait_for_metric("chat_connections{kind=\"http\"}", |open| open == 1.0);
            assert_eq!(http(address, &ask).status, 200);
        });
    }
}

/// All the ways to hold a connection for nothing: they end by themselves.
#[test]
fn connections_that_are_held_for_nothing() {
    let arguments = [
        ["--handshake-timeout", "1s"],
        ["--keep-alive-timeout", "1s"],
        ["--ping-interval", "500ms"],
        ["--linger-timeout", "500ms"],
        ["--stall-timeout", "1s"],
    ];
    survives(arguments.as_flattened(), |server, _| {
        let page = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address());
        let mut held: Vec<Raw> = Vec::new();
        for _ in 0..50 {
            let mut half = Raw::connect(server.address());
            half.send(&page[..20]);
            let mut resting = Raw::connect(server.address());
            resting.send(&page);
            let mut refused = Raw::connect(server.address());
            refused.send("NONSENSE\r\n\r\n");
            let mut greedy = Raw::over(connect_narrow(server.address()));
            greedy.send(page.repeat(500));
            let mut closing = Raw::connect(server.address());
            closing.send([upgrade_request(server.address(), "/", &[]).as_bytes(), &close_frame(1000)].concat());
            let mut faulty = Raw::connect(server.address());
            faulty.send([upgrade_request(server.address(), "/", &[]).as_bytes(), &frame(0x83, b"")].concat());
            let mut silent = Raw::connect(server.address());
            silent.send(upgrade_request(server.address(), "/", &[]));
            held.extend([Raw::connect(server.address()), half, resting, refused, greedy, closing, faulty, silent]);
        }
        // The pair answers no pings either, but it talks.
        server.wait_for_metric("chat_connections{kind=\"websocket\"}", |open| open == 2.0);
        wait_until("only the pair and who asks are left", || server.metric("chat_connections{kind=\"http\"}") == 1.0);
        drop(held);
    });
}
