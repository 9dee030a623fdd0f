//! A Redis that has gone back to an older snapshot, while nobody was there who knows what it had.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use common::{ChatClient, Kept, RedisServer, Server, get, wait_until};

const ROOM: &str = "lobby";

/// An instance that keeps nothing.
fn instance(redis: &RedisServer) -> Server {
    ready(Server::start(&["--bus", &redis.url(), "--memory", "--bus-canary", "500ms"]))
}

/// An instance that has a store.
fn with_store(redis: &RedisServer, kept: &Kept) -> Server {
    ready(kept.start(&["--bus", &redis.url(), "--bus-canary", "500ms"]))
}

fn ready(server: Server) -> Server {
    wait_until("it is ready", || get(server.address(), "/readyz").status == 200);
    server
}

/// Somebody who joins and says these; the epoch, and the last position.
fn say(server: &Server, texts: &[&str]) -> (Value, u64) {
    let (mut client, _) = ChatClient::hello(server.address(), "Ann");
    let joined = client.join(ROOM);
    let mut last = joined["position"].as_u64().expect("a position");
    for text in texts {
        client.say(ROOM, text, text);
        let said = client.expect(|message| message["type"] == "said" && message["nonce"] == *text);
        last = said["position"].as_u64().expect("a position");
    }
    (joined["epoch"].clone(), last)
}

fn save(redis: &RedisServer) {
    let mut stream = TcpStream::connect(redis.address()).expect("it listens");
    stream.write_all(b"SAVE\r\n").expect("it takes commands");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, *b"+OK\r\n");
}

#[test]
fn positions_that_were_heard_are_not_taken_for_those_that_are_given_again() {
    let mut redis = RedisServer::start(&["--save", "3600 1000000"]);
    let server = instance(&redis);
    say(&server, &["kept"]);
    save(&redis);
    let (epoch, heard) = say(&server, &["lost 1", "lost 2", "lost 3"]);
    server.kill();
    redis.kill();
    redis.start_again();
    let servers = [instance(&redis), instance(&redis)];
    let texts: Vec<String> = (0..20).map(|number| format!("new {number}")).collect();
    let (new_epoch, last) = say(&servers[0], &texts.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(new_epoch != epoch && last > heard, "the numbers alone would not tell");
    for server in &servers {
        let (mut back, _) = ChatClient::hello(server.address(), "Bob");
        let resumed = back.resume(ROOM, heard, &epoch);
        assert_eq!((&resumed["gap"], &resumed["epoch"]), (&true.into(), &new_epoch), "{resumed}");
    }
    // The instances start again, and Redis does not.
    drop(servers);
    assert_eq!(say(&instance(&redis), &[]).0, new_epoch);
}

#[test]
fn a_store_that_was_behind_does_not_know_what_redis_had() {
    let mut redis = RedisServer::start(&["--save", "3600 1000000"]);
    let kept = Kept::new();
    let server = with_store(&redis, &kept);
    say(&server, &["kept"]);
    server.stop();
    let server = instance(&redis);
    say(&server, &["saved"]);
    save(&redis);
    let (epoch, heard) = say(&server, &["lost 1", "lost 2", "lost 3"]);
    server.kill();
    redis.kill();
    redis.start_again();
    let servers = [with_store(&redis, &kept), instance(&redis)];
    let (new_epoch, last) = say(&servers[0], &["new 1", "new 2", "new 3", "new 4"]);
    assert!(new_epoch != epoch && last > heard, "the numbers alone would not tell");
    for server in &servers {
        let (mut back, _) = ChatClient::hello(server.address(), "Bob");
        let resumed = back.resume(ROOM, heard, &epoch);
        assert_eq!((&resumed["gap"], &resumed["epoch"]), (&true.into(), &new_epoch), "{resumed}");
    }
}

#[test]
fn nothing_begins_anew_only_where_redis_keeps_everything() {
    let mut redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let server = instance(&redis);
    let (epoch, heard) = say(&server, &["one", "two"]);
    server.kill();
    redis.kill();
    redis.start_again();
    let server = instance(&redis);
    let (mut back, _) = ChatClient::hello(server.address(), "Bob");
    let resumed = back.resume(ROOM, heard - 1, &epoch);
    assert_eq!((&resumed["gap"], &resumed["missed"]), (&false.into(), &1.into()), "{resumed}");

    let mut redis = RedisServer::start(&["--save", "3600 1000000"]);
    let server = instance(&redis);
    let (epoch, _) = say(&server, &["one", "two"]);
    save(&redis);
    redis.kill();
    wait_until("it is noticed", || get(server.address(), "/readyz").status == 503);
    redis.start_again();
    wait_until("it is back", || get(server.address(), "/readyz").status == 200);
    let (new_epoch, _) = say(&server, &[]);
    assert_ne!(new_epoch, epoch, "another may have heard more");
    drop(server);
    assert_eq!(say(&instance(&redis), &[]).0, new_epoch, "it has begun for all");
}
