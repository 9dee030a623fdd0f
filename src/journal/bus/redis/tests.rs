//! The driver and real servers.

use super::*;
use crate::journal::bus::contract::{keeps_its_promises, run};
use crate::journal::bus::port;

#[path = "../../../../tests/common/redis.rs"]
mod server;

use server::RedisServer;

#[test]
fn a_redis_server_keeps_its_promises() {
    let server = RedisServer::start(&[]);
    let socket = format!("redis+unix://{}", server.socket().display());
    for (url, prefix) in [(server.url(), "tcp"), (socket, "unix"), (format!("{}/3", server.url()), "database")] {
        run(keeps_its_promises(&Redis::new(&url, prefix, 1_000_000).unwrap()));
    }
}

#[test]
fn a_user_and_a_password() {
    let server =
        RedisServer::start(&["--user", "ann", "on", ">secret", "~*", "&*", "+@all", "--user", "default", "off"]);
    let at = |user: &str| server.url().replacen("redis://", &format!("redis://{user}@"), 1);
    run(keeps_its_promises(&Redis::new(&at("ann:secret"), "chat", 1_000_000).unwrap()));
    for wrong in ["ann:wrong", ""] {
        let refused = run(async {
            match Redis::new(&at(wrong), "chat", 1_000_000).unwrap().connect().await {
                Ok(session) => session.meta().await.unwrap_err(),
                Err(failure) => failure,
            }
        });
        assert!(!refused.to_string().contains("wrong"), "{refused}");
    }
}

#[test]
fn what_is_trimmed_or_of_somebody_else_is_told() {
    let server = RedisServer::start(&[]);
    run(async {
        let driver = Redis::new(&server.url(), "chat", 100).unwrap();
        let session = driver.connect().await.unwrap();
        let batch: Vec<Bytes> = (1..=1_000).map(|number| Bytes::from(number.to_string())).collect();
        session.publish(&batch).await.unwrap();
        let Bounds { first, last } = session.bounds().await.unwrap();
        assert!(first > 500 && last == 1_000, "about a hundred are kept, from {first} on");
        let record = session.tail(1).await.unwrap().next().await.unwrap().remove(0);
        assert_eq!((record.offset, &record.bytes[..]), (first, first.to_string().as_bytes()));
        assert_eq!(session.get(first - 1).await.unwrap(), None);
        // All of it is trimmed, and what was there is not forgotten.
        session.ask(cmd("XTRIM").arg("chat:log").arg("MAXLEN").arg(0)).await.unwrap();
        assert_eq!(session.bounds().await.unwrap(), Bounds { first: 1_001, last: 1_000 });

        session.ask(cmd("XADD").arg("theirs:log").arg("*").arg("a").arg("b")).await.unwrap();
        session.ask(cmd("SET").arg("text:log").arg("a")).await.unwrap();
        for prefix in ["theirs", "text"] {
            let session = Redis::new(&server.url(), prefix, 100).unwrap().connect().await.unwrap();
            session.bounds().await.unwrap_err();
        }
    });
}

#[test]
fn what_is_deleted_is_passed_over_and_the_log_begins_before_it() {
    let server = RedisServer::start(&[]);
    run(async {
        let session = Redis::new(&server.url(), "chat", 100).unwrap().connect().await.unwrap();
        session.publish(&["a", "b", "c"].map(Bytes::from)).await.unwrap();
        session.ask(cmd("XDEL").arg("chat:log").arg("0-2")).await.unwrap();
        assert_eq!(session.bounds().await.unwrap(), Bounds { first: 1, last: 3 });
        let records = session.tail(0).await.unwrap().next().await.unwrap();
        assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [1, 3]);
        // Nor does it begin again behind a record of somebody else.
        let mut tail = session.tail(3).await.unwrap();
        session.ask(cmd("XADD").arg("chat:log").arg("*").arg("a").arg("b")).await.unwrap();
        assert!(tail.next().await.unwrap_err().to_string().contains("not one of chat-app"));
    });
}

#[test]
fn urls() {
    for (url, is_fine) in [
        ("redis://127.0.0.1", true),
        ("rediss://user:password@[::1]:6380/5", true),
        ("redis+unix:///run/redis.sock?db=2&pass=x", true),
        ("unix:///run/redis.sock", true),
        ("redis://host:port", false),
        ("redis://127.0.0.1/not-a-number", false),
        ("redis:", false),
    ] {
        assert_eq!(Redis::new(url, "chat", 1).is_ok(), is_fine, "{url}");
    }
}

#[test]
fn versions() {
    for (info, version) in [
        ("# Server\r\nredis_version:7.0.15\r\nredis_git_sha1:0\r\n", None),
        ("redis_version:7.4.0-v1\r\n", None),
        ("redis_version:8.0.0\r\n", None),
        ("redis_version:10.2.1\r\n", None),
        ("# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n", None),
        // It says what it is compatible with.
        ("redis_version:6.9.9\r\nvalkey_version:9.0.0\r\n", None),
        ("redis_version:6.2.14\r\n", Some("6.2.14")),
        ("# Server\r\nredis_version:5.0.3\r\n", Some("5.0.3")),
        ("redis_version:255.255.255\r\n", None),
        ("redis_version:unknown\r\n", None),
        ("", None),
    ] {
        let told = check_version(info).map_err(|failure| failure.to_string());
        let expected = version.map(|it| format!("Redis {it} is too old: 7 or later is needed, or Valkey"));
        assert_eq!(told.err(), expected, "{info}");
    }
}

#[test]
fn a_server_tells_its_runs_apart_unless_they_lose_nothing() {
    let run_of = |server: &RedisServer| {
        let driver = Redis::new(&server.url(), "chat", 100).unwrap();
        run(async { driver.connect().await.unwrap().run().await.unwrap() })
    };
    for (arguments, is_named) in [
        (&[][..], true),
        (&["--save", "1", "1"], true),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], true),
        (&["--appendonly", "yes", "--appendfsync", "always"], false),
        (&["--appendonly", "no", "--appendfsync", "always"], true),
        (&["--appendonly", "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "yes"], true),
    ] {
        let mut server = RedisServer::start(arguments);
        let first = run_of(&server);
        assert_eq!(first != Run::Unmarked, is_named, "{arguments:?}");
        assert_eq!(run_of(&server), first);
        server.kill();
        server.start_again();
        assert_eq!(run_of(&server) != first, is_named, "{arguments:?}");
    }
}
