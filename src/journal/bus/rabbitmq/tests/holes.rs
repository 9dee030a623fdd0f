//! Offsets that RabbitMQ uses for itself: no message is there, and none was.
//!
//! It has some for what readers of the stream protocol tell it: how far they have come. Whoever looks into the log with a
//! tool may leave them there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::super::super::port::Port;
use super::super::super::trials;
use super::*;

/// A client of the stream protocol, as far as it goes here.
///
/// <https://github.com/rabbitmq/rabbitmq-server/blob/main/deps/rabbitmq_stream/docs/PROTOCOL.adoc>
struct StreamClient(TcpStream);

const PEER_PROPERTIES: u16 = 17;
const SASL_HANDSHAKE: u16 = 18;
const SASL_AUTHENTICATE: u16 = 19;
const TUNE: u16 = 20;
const OPEN: u16 = 21;
const STORE_OFFSET: u16 = 10;
const QUERY_OFFSET: u16 = 11;
/// An answer has the number of its question, and this.
const ANSWER: u16 = 0x8000;

impl StreamClient {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut client = StreamClient(stream);
        let guest = [text("PLAIN"), 12_u32.to_be_bytes().to_vec(), b"\0guest\0guest".to_vec()].concat();
        for (question, content) in
            [(PEER_PROPERTIES, vec![0; 4]), (SASL_HANDSHAKE, Vec::new()), (SASL_AUTHENTICATE, guest)]
        {
            client.ask(question, &content);
        }
        let tune = client.frame(TUNE);
        client.send(ANSWER | TUNE, &tune);
        client.ask(OPEN, &text("/"));
        client
    }

    /// Tells that a reader has come to an offset, and waits until that is in the stream.
    fn store_offset(&mut self, reader: &str, stream: &str, offset: u64) {
        let place = [text(reader), text(stream)].concat();
        self.send(STORE_OFFSET, &[&place[..], &offset.to_be_bytes()].concat());
        while !self.ask(QUERY_OFFSET, &place).ends_with(&offset.to_be_bytes()) {}
    }

    /// What is answered: 1 says that it is fine.
    fn ask(&mut self, question: u16, content: &[u8]) -> Vec<u8> {
        self.send(question, &[&7_u32.to_be_bytes(), content].concat());
        self.frame(ANSWER | question)
    }

    fn send(&mut self, key: u16, content: &[u8]) {
        let length = u32::try_from(content.len() + 4).unwrap();
        let frame = [&length.to_be_bytes()[..], &key.to_be_bytes(), &1_u16.to_be_bytes(), content].concat();
        self.0.write_all(&frame).unwrap();
    }

    /// The content of the next frame of this kind.
    fn frame(&mut self, wanted: u16) -> Vec<u8> {
        loop {
            let mut head = [0; 8];
            self.0.read_exact(&mut head).unwrap();
            let [a, b, c, d, key @ .., _, _] = head;
            let mut content = vec![0; u32::from_be_bytes([a, b, c, d]) as usize - 4];
            self.0.read_exact(&mut content).unwrap();
            if u16::from_be_bytes(key) == wanted {
                return content;
            }
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn offsets_that_the_server_has_used_are_passed_over() {
    let (port, folder) = (Port::take().unwrap(), tempfile::tempdir().unwrap());
    let plugins = folder.path().join("plugins");
    std::fs::write(&plugins, "[rabbitmq_stream].").unwrap();
    let lines = format!("stream.listeners.tcp.local = 127.0.0.1:{port}");
    let server = RabbitServer::start_with(&lines, &[("RABBITMQ_ENABLED_PLUGINS_FILE", plugins.to_str().unwrap())]);
    trials::run(async {
        let driver = driver(&server, "chat");
        let session = driver.connect().await.unwrap();
        let mut waiting = session.tail(0).await.unwrap();
        session.publish(&trials::numbered("before", 3)).await.unwrap();
        let mut records = trials::read(&mut waiting, 3).await;
        let mut client = StreamClient::connect(port.number());
        for offset in 0..5 {
            client.store_offset("somebody", "chat.log", offset);
        }
        session.publish(&trials::numbered("behind", 3)).await.unwrap();
        records.extend(trials::read(&mut waiting, 3).await);
        let (before, behind) = (records[2].offset, records[3].offset);
        assert!(behind > before + 2, "there is a hole: {records:?}");
        // Whoever begins before it, or in it, reads the same.
        for after in 0..behind {
            let rest: Vec<_> = records.iter().filter(|record| record.offset > after).cloned().collect();
            let mut tail = session.tail(after).await.unwrap();
            assert_eq!(trials::read(&mut tail, rest.len()).await, rest, "after {after}");
        }
        let bounds = Bounds { first: 1, last: records[5].offset };
        assert_eq!(session.bounds().await.unwrap(), bounds);
        assert_eq!(session.get(before + 1).await.unwrap(), None);
        // The meta log has some as well.
        session.append_meta(Bytes::from_static(b"before")).await.unwrap();
        for offset in 0..5 {
            client.store_offset("somebody", "chat.meta", offset);
        }
        session.append_meta(Bytes::from_static(b"behind")).await.unwrap();
        assert_eq!(session.meta().await.unwrap(), [&b"before"[..], b"behind"]);
    });
}
