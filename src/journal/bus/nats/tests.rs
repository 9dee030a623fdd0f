//! Against a real server.

use super::super::brokers::NatsServer;
use super::super::contract::{keeps_its_promises, run};
use super::super::trials;
use super::*;

fn driver(server: &NatsServer, prefix: &str) -> Nats {
    Nats::new(&server.url(), prefix, 100_000).unwrap()
}

#[test]
fn it_keeps_its_promises() {
    let server = NatsServer::start();
    run(keeps_its_promises(&driver(&server, "chat")));
    trials::run(trials::many_publish(&driver(&server, "many")));
    trials::run(trials::it_is_fast(&driver(&server, "fast")));
}

#[test]
fn it_may_fail() {
    trials::alone(module_path!(), "it_may_fail", || {
        let mut server = NatsServer::start();
        let driver = driver(&server, "chat");
        trials::run(trials::it_crashes(&driver, &mut server));
        trials::run(trials::it_stands_still(&driver, &mut server));
    });
}

/// What others publish in between does not get into a chain, and what a chain has lost is not followed by the rest.
#[test]
fn a_chain_that_breaks_leaves_its_beginning() {
    let server = NatsServer::start();
    trials::run(async {
        let session = driver(&server, "chat").connect().await.unwrap();
        let message = |id: &str, before: &str| {
            let message = PublishMessage::build().payload(Bytes::new()).message_id(id);
            let message = if before.is_empty() { message } else { message.expected_last_message_id(before) };
            session.context.send_publish(session.names.log_subject.clone(), message)
        };
        let sent = [("a", "", true), ("b", "a", true), ("x", "", true), ("c", "b", false), ("d", "c", false)];
        for (id, before, is_taken) in sent {
            assert_eq!(message(id, before).await.unwrap().await.is_ok(), is_taken, "{id}");
        }
    });
}

#[test]
fn what_is_trimmed_is_passed_over() {
    let server = NatsServer::start();
    trials::run(async {
        let session = Nats::new(&server.url(), "chat", 100).unwrap().connect().await.unwrap();
        session.publish(&trials::numbered("record", 300)).await.unwrap();
        assert_eq!(session.bounds().await.unwrap(), Bounds { first: 201, last: 300 });
        assert_eq!(session.get(200).await.unwrap(), None);
        let mut tail = session.tail(0).await.unwrap();
        assert_eq!(trials::read(&mut tail, 100).await[0].offset, 201);
        // Another length does not make another stream of it.
        let other = driver(&server, "chat").connect().await.unwrap();
        assert_eq!(other.bounds().await.unwrap().last, 300);
        // Nothing is left, and what was there is known.
        other.log.purge().await.unwrap();
        assert_eq!(session.bounds().await.unwrap(), Bounds { first: 301, last: 300 });
    });
}

#[test]
fn what_is_deleted_is_passed_over_and_the_log_begins_before_it() {
    let server = NatsServer::start();
    trials::run(async {
        let session = driver(&server, "chat").connect().await.unwrap();
        session.publish(&trials::numbered("record", 3)).await.unwrap();
        assert!(session.log.delete_message(2).await.unwrap());
        assert_eq!(session.bounds().await.unwrap(), Bounds { first: 1, last: 3 });
        let records = trials::read(&mut session.tail(0).await.unwrap(), 2).await;
        assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [1, 3]);
    });
}

#[test]
fn refusals_say_what_is_wrong() {
    let without = NatsServer::start_with(&[]);
    let with_user = NatsServer::start_with(&["-js", "--user", "me", "--pass", "p@ss"]);
    let with_token = NatsServer::start_with(&["-js", "--auth", "tok/en"]);
    let (user, token) = (with_user.address(), with_token.address());
    trials::run(async {
        for (url, reason) in [
            (without.url(), "this NATS server has no JetStream"),
            (format!("nats://me:secret@{user}"), "authorization violation"),
            (with_user.url(), "authorization violation"),
            (format!("nats://secret@{token}"), "authorization violation"),
            ("nats://me:secret@127.0.0.1:1".to_owned(), "Connection refused"),
            (format!("tls://me:secret@{user}"), ""),
        ] {
            let refusal = Nats::new(&url, "chat", 1).unwrap().connect().await.unwrap_err().to_string();
            assert!(refusal.contains(reason) && !refusal.contains("secret"), "{url}: {refusal}");
        }
        for url in [
            format!("nats://me:p%40ss@{user}"),
            format!("nats://tok%2Fen@{token}"),
            format!("nats://me:p%40ss@127.0.0.1:1,nats://{user}"),
        ] {
            Nats::new(&url, "chat", 1).unwrap().connect().await.expect(&url);
        }
        let foreign = Nats::new(&format!("nats://me:p%40ss@{user}"), "foreign", 1).unwrap();
        let session = foreign.connect().await.unwrap();
        let config =
            StreamConfig { name: "other-log".into(), subjects: vec!["else".into()], ..StreamConfig::default() };
        session.context.create_stream(config).await.unwrap();
        let other = Nats::new(&format!("nats://me:p%40ss@{user}"), "other", 1).unwrap();
        let refusal = other.connect().await.unwrap_err().to_string();
        assert_eq!(refusal, "the stream other-log is not one of chat-app; choose another --bus-prefix");
    });
}

#[test]
fn urls() {
    for url in ["nats://", "http://me:secret@host", "nats://me:secret@host:port", "nats://host,ws://me:secret@host"] {
        let refusal = Nats::new(url, "chat", 1).unwrap_err();
        assert!(!refusal.contains("secret"), "{refusal}");
    }
    let nats = Nats::new("nats://me:secret@[::1]:1234,tls://host", "chat", 1).unwrap();
    let addresses: Vec<_> = nats.servers.iter().map(|server| (server.host(), server.port())).collect();
    assert_eq!(addresses, [("::1", 1234), ("host", 4222)]);
    assert!(!format!("{nats:?} {:?}", nats.servers).contains("secret"));
}
