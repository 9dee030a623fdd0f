//! Against a real server. Starting one takes seconds, so one is enough for all that does not harm it.

mod holes;

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::super::brokers::RabbitServer;
use super::super::contract::keeps_its_promises;
use super::super::driver::Tail;
use super::super::trials;
use super::digest::{DIGEST, Digest};
use super::*;

fn driver(server: &RabbitServer, prefix: &str) -> RabbitMq {
    RabbitMq::new(&server.url(), prefix, 100_000).unwrap()
}

/// Why nothing comes of it.
async fn refusal(driver: &RabbitMq) -> String {
    driver.connect().await.expect_err("it is refused").to_string()
}

#[test]
fn it_keeps_its_promises() {
    let server = RabbitServer::start();
    trials::run(async {
        keeps_its_promises(&driver(&server, "chat")).await;
        trials::many_publish(&driver(&server, "many")).await;
        trials::it_is_fast(&driver(&server, "fast")).await;
        marks_are_passed_over(&driver(&server, "marks")).await;
        what_was_said_long_ago_is_read_from_a_digest(&driver(&server, "years")).await;
        what_is_trimmed_is_noticed(&server).await;
        refusals_say_what_is_wrong(&server).await;
    });
}

#[test]
fn it_may_fail() {
    trials::alone(module_path!(), "it_may_fail", || {
        let mut server = RabbitServer::start();
        let driver = driver(&server, "chat");
        trials::run(trials::it_crashes(&driver, &mut server));
        trials::run(trials::it_stands_still(&driver, &mut server));
    });
}

#[test]
fn it_may_be_short_of_memory() {
    let server = RabbitServer::start_with("vm_memory_high_watermark.absolute = 1MB", &[]);
    trials::run(async {
        let session = driver(&server, "chat").connect().await.unwrap();
        let refused = "RabbitMQ takes no messages now: low on memory";
        assert_eq!(session.publish(&trials::numbered("record", 10)).await.unwrap_err().to_string(), refused);
        assert_eq!(session.bounds().await.unwrap_err().to_string(), refused);
    });
}

/// It closes the channel of a consumer that has left something without an answer for half an hour, or what it was told.
#[test]
fn it_may_want_answers() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("advanced.config");
    fs::write(&settings, "[{rabbit, [{consumer_timeout, 3000}, {channel_tick_interval, 100}]}].").unwrap();
    let server = RabbitServer::start_with("", &[("RABBITMQ_ADVANCED_CONFIG_FILE", settings.to_str().unwrap())]);
    trials::run(async {
        let session = driver(&server, "chat").connect().await.unwrap();
        let (mut tail, mut ears) = (session.tail(0).await.unwrap(), session.listen().await.unwrap());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            session.publish(&trials::numbered("record", 1)).await.unwrap();
            trials::read(&mut tail, 1).await;
            session.whisper(Bytes::from_static(b"psst")).await.unwrap();
            ears.next().await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        // Two that come one behind the other, and then nothing for long.
        session.publish(&trials::numbered("before", 1)).await.unwrap();
        trials::read(&mut tail, 1).await;
        session.publish(&trials::numbered("last", 1)).await.unwrap();
        trials::read(&mut tail, 1).await;
        assert!(timeout(Duration::from_secs(6), tail.next()).await.is_err(), "it goes on waiting");
        session.publish(&trials::numbered("behind", 1)).await.unwrap();
        trials::read(&mut tail, 1).await;
    });
}

#[test]
fn it_may_have_no_streams() {
    let server = RabbitServer::start_with("", &[("RABBITMQ_FEATURE_FLAGS", "")]);
    let driver = driver(&server, "chat");
    if server.version() >= [3, 12] {
        // From there on nobody can do without.
        trials::run(async { driver.connect().await.map(drop) }).unwrap();
        return;
    }
    let refusal = trials::run(refusal(&driver));
    assert!(refusal.starts_with("this RabbitMQ has no streams: 3.9 or later is needed"), "{refusal}");
}

#[test]
fn what_is_wrong_with_a_stream_is_told_apart() {
    for (reason, expected) in [
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-max-length-bytes' for queue 'chat-app.log' in vhost '/': received \
             '1024' but current is '2048'",
            Undeclared::OtherBounds,
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-stream-max-segment-size-bytes' for queue 'chat-app.log' in vhost '/'",
            Undeclared::OtherBounds,
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'chat-app.log' in vhost '/': received the \
             value 'stream' of type 'longstr' but current is none",
            Undeclared::Foreign,
        ),
        // 3.8 knows the argument, and not the value; later ones may have been told not to.
        (
            "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'chat-app.log' in vhost '/': \
             \"unsupported queue type 'stream'\"",
            Undeclared::NoStreams,
        ),
        ("INTERNAL_ERROR - feature flag stream_queue is disabled", Undeclared::NoStreams),
        ("ACCESS_REFUSED - access to queue 'chat-app.log' in vhost '/' refused for user 'guest'", Undeclared::Other),
    ] {
        assert_eq!(Undeclared::of(reason), expected, "{reason}");
    }
}

/// However many marks are at the end or at the beginning, bounds are those of records.
async fn marks_are_passed_over(driver: &RabbitMq) {
    let session = driver.connect().await.unwrap();
    let record = [Bytes::from_static(b"record")];
    for _ in 0..3 {
        let bounds = session.bounds().await.unwrap();
        let marks = vec![Bytes::from_static(b"some mark"); 2_000];
        let properties = BasicProperties::default().with_content_type(MARK.into());
        session.confirmed(&session.names.log, marks.iter().map(|mark| &mark[..]), &properties).await.unwrap();
        assert_eq!(session.bounds().await.unwrap(), bounds);
        assert_eq!(session.get(bounds.last + 1).await.unwrap(), None, "that is a mark");
        let mut tail = session.tail(bounds.last).await.unwrap();
        session.publish(&record).await.unwrap();
        let read = trials::read(&mut tail, 1).await;
        assert_eq!(read[0].bytes, record[0]);
        let last = session.bounds().await.unwrap();
        assert_eq!(last.last, read[0].offset);
        assert_eq!(last.first, 1, "nothing was trimmed");
    }
}

/// Sessions leave marks in the meta log. However many there are, all records are read, and most marks only once.
async fn what_was_said_long_ago_is_read_from_a_digest(driver: &RabbitMq) {
    let session = driver.connect().await.unwrap();
    let meta = &session.names.meta;
    let publish = async |kind: &str, messages: &[Bytes]| {
        let properties = BasicProperties::default().with_content_type(kind.into());
        session.confirmed(meta, messages.iter().map(|message| &message[..]), &properties).await.unwrap();
    };
    let mut said = Vec::new();
    // Some on the way, none, one, and one that is out of sight before it is of use.
    for marks in [6_000, 10, 200, 600] {
        for record in [format!("before {marks}"), format!("behind {marks}")] {
            session.append_meta(Bytes::from(record.clone())).await.unwrap();
            said.push(Bytes::from(record));
            assert_eq!(session.meta().await.unwrap(), said);
            publish(MARK, &vec![Bytes::from_static(b"some mark"); marks]).await;
        }
        assert_eq!(session.meta().await.unwrap(), said);
    }
    // What comes behind the place of a digest is read, and nothing before it.
    let (upto, made_up) = (session.meta_end().await.unwrap(), Bytes::from_static(b"made up"));
    session.append_meta(Bytes::from_static(b"meanwhile")).await.unwrap();
    let digest = |upto| Bytes::from(Digest { upto, records: vec![made_up.clone()] }.encode());
    publish(DIGEST, &[digest(upto), digest(upto - 1), digest(u64::MAX), Bytes::from_static(b"rubbish")]).await;
    session.append_meta(Bytes::from_static(b"at last")).await.unwrap();
    assert_eq!(session.meta().await.unwrap(), [&made_up[..], b"meanwhile", b"at last"]);
}

/// RabbitMQ trims whole segments, the smallest of which is 1 MiB here.
async fn what_is_trimmed_is_noticed(server: &RabbitServer) {
    let driver = RabbitMq::new(&server.url(), "small", 1).unwrap();
    let session = driver.connect().await.unwrap();
    let batch: Vec<Bytes> = (0..10).map(|number| Bytes::from(vec![number; 50_000])).collect();
    let mut bounds = session.bounds().await.unwrap();
    while bounds.first <= 1 {
        session.publish(&batch).await.unwrap();
        bounds = session.bounds().await.unwrap();
    }
    assert_eq!(session.get(1).await.unwrap(), None);
    let passed_over = session.tail(0).await.unwrap().next().await.unwrap_err().to_string();
    assert_eq!(passed_over, "messages were trimmed before they were read");
    // That ends a session.
    drop(session);
    let session = driver.connect().await.unwrap();
    let mut tail = session.tail(bounds.first - 1).await.unwrap();
    // There may be marks alone.
    session.publish(&[Bytes::from_static(b"next")]).await.unwrap();
    while trials::read(&mut tail, 1).await.iter().all(|record| record.bytes != "next") {}
    let last = session.bounds().await.unwrap().last;
    assert!(last >= bounds.first);
    // Another length does not make another stream of it.
    let other = RabbitMq::new(&server.url(), "small", 1_000_000).unwrap();
    assert_eq!(other.connect().await.unwrap().bounds().await.unwrap().last, last);
}

async fn refusals_say_what_is_wrong(server: &RabbitServer) {
    let address = server.address();
    let line = Line::connect(&driver(server, "chat").uri).await.unwrap();
    for queue in ["classic.meta", "queue.log"] {
        let channel = line.channel().await.unwrap();
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), table([])).await.unwrap();
    }
    // Whether it is a stream is seen only when it is read, if its bounds are others.
    let session = driver(server, "queue").connect().await.unwrap();
    let refused = session.bounds().await.unwrap_err().to_string();
    assert_eq!(refused, "the queue queue.log is not one of chat-app; choose another --bus-prefix");
    for (url, prefix, reason) in [
        (server.url(), "classic", "the queue classic.meta is not one of chat-app; choose another --bus-prefix"),
        (format!("amqp://guest:secret@{address}"), "chat", "ACCESS_REFUSED"),
        (format!("amqp://guest:guest@{address}/nowhere"), "chat", "vhost nowhere not found"),
        ("amqp://guest:secret@127.0.0.1:1".to_owned(), "chat", "Connection refused"),
        (format!("amqps://guest:secret@{address}"), "chat", ""),
    ] {
        let refusal = refusal(&RabbitMq::new(&url, prefix, 1).unwrap()).await;
        assert!(refusal.contains(reason) && !refusal.contains("secret"), "{url}: {refusal}");
    }
}

#[test]
fn urls() {
    for (url, expected) in [
        ("amqp://127.0.0.1", "127.0.0.1 5672 / guest:guest"),
        ("amqp://127.0.0.1/", "127.0.0.1 5672 / guest:guest"),
        ("amqps://rabbit.example/", "rabbit.example 5671 / guest:guest"),
        ("amqp://me:p%40ss@rabbit:1234/%2fchat", "rabbit 1234 /chat me:p@ss"),
        ("amqp://me:p@[::1]:1234/chat?heartbeat=60", "::1 1234 chat me:p"),
        ("amqp://[2001:db8::1]", "2001:db8::1 5672 / guest:guest"),
    ] {
        let RabbitMq { uri: AMQPUri { authority, vhost, .. }, .. } = RabbitMq::new(url, "chat", 1).unwrap();
        let login = authority.userinfo;
        let parts = format!("{} {} {vhost} {}:{}", authority.host, authority.port, login.username, login.password);
        assert_eq!(parts, expected, "{url}");
    }
    for url in
        ["amqp:secret", "http://me:secret@host", "amqp://me:secret@host:port", "amqp://me:secret@host?heartbeat=x"]
    {
        let refusal = RabbitMq::new(url, "chat", 1).unwrap_err();
        assert!(!refusal.contains("secret"), "{refusal}");
    }
    assert!(!format!("{:?}", RabbitMq::new("amqp://me:secret@host", "chat", 1).unwrap()).contains("secret"));
}
