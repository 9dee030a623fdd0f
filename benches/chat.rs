//! What does it cost to understand what a member of chat.v1 says, and to bring a member that is behind up to the present?
//!
//! "parse" is the JSON alone, "draft" the whole way from the frame to what the journal is given. "catch up" is somebody
//! who joins a room, is told the 1,000 entries it has missed out of the tail, and leaves; the turns had 50 messages each.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use std::hint::black_box;

use chat_app::chat::dialect::Dialect;
use chat_app::chat::v1;
use common::hall::{Hall, SAY};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const MISSED: u64 = 1_000;

fn say(c: &mut Criterion) {
    let mut group = c.benchmark_group("say");
    group.bench_function("parse", |b| b.iter(|| v1::parse(black_box(SAY))));
    let mut hall = Hall::of(Dialect::V1, 1);
    group.bench_function("draft", |b| b.iter(|| hall.say()));
    group.finish();
}

fn catch_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("catch up");
    group.throughput(Throughput::Elements(MISSED));
    for (name, dialect) in [("raw", Dialect::Raw), ("chat.v1", Dialect::V1)] {
        let mut hall = Hall::of(dialect, 1);
        for _ in 0..MISSED / 50 {
            hall.turn(50);
        }
        group.bench_function(name, |b| b.iter(|| hall.catch_up(MISSED)));
    }
    group.finish();
}

criterion_group!(benches, say, catch_up);
criterion_main!(benches);
