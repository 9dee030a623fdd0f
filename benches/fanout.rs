//! What does a turn's news cost the hub and the outboxes, before any system call, per member that hears it?
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use chat_app::chat::dialect::{Dialect, Message};
use chat_app::chat::entry::{Epoch, MemberId, Position, RoomName, Timestamp};
use chat_app::chat::hub::{Hub, Journaled, Stage, Start};
use chat_app::chat::identity::Identities;
use chat_app::limits::Limits;
use chat_app::net::outbox::Outbox;
use chat_app::ws::frame::{self, Opcode};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Outboxes without sockets: flushing takes everything at once.
struct Outboxes(Vec<Outbox>);

impl Stage for Outboxes {
    fn offer(&mut self, member: MemberId, batch: &Bytes, _entries: usize) -> bool {
        self.0[member.slot as usize].push(batch.clone());
        true
    }

    fn send(&mut self, _member: MemberId, _answer: Bytes) {}

    fn frame(message: Message<'_>, out: &mut Vec<u8>) {
        match message {
            Message::Text(text) => frame::encode(Opcode::Text, text, out),
            Message::Binary(bytes) => frame::encode(Opcode::Binary, bytes, out),
        }
    }
}

fn fanout(c: &mut Criterion) {
    let text = [b'x'; 64];
    for messages in [1, 50] {
        let mut group = c.benchmark_group(format!("fanout/{messages}_messages"));
        for members in [1_u32, 100, 10_000] {
            let journaled = Journaled { epoch: Epoch(1), position: Position::START, keeps_history: false };
            let mut hub = Hub::new(&Limits::default(), journaled, Identities::new([1; 32], [2; 32]));
            let room = RoomName::new("lobby", 64).unwrap();
            for slot in 0..members {
                hub.enter(MemberId { slot, serial: 0 }, Dialect::Raw);
                hub.sit(MemberId { slot, serial: 0 }, room.clone(), Start::Present);
            }
            let mut outboxes = Outboxes((0..members).map(|_| Outbox::default()).collect());
            let mut position = Position::START;
            let mut commands = Vec::new();
            group.throughput(Throughput::Elements(u64::from(members) * messages));
            group.bench_function(BenchmarkId::from_parameter(members), |b| {
                b.iter(|| {
                    for _ in 0..messages {
                        let said = hub.draft(MemberId { slot: 0, serial: 0 }, Message::Text(&text), Timestamp(0));
                        position = position.next();
                        hub.committed(said.expect("a member may speak").at(position));
                    }
                    hub.commit(&mut outboxes, &mut commands);
                    for outbox in &mut outboxes.0 {
                        outbox.advance(black_box(outbox.len()));
                    }
                });
            });
        }
        group.finish();
    }
    // The clock of a turn, for comparison: what one look at it costs.
    c.bench_function("clock", |b| b.iter(|| black_box(Instant::now())));
}

criterion_group!(benches, fanout);
criterion_main!(benches);
