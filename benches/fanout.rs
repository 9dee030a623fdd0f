//! What does a turn's news cost the hub and the outboxes in each dialect, before any system call, per member that hears it?
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use chat_app::chat::dialect::Dialect;
use common::hall::Hall;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn fanout(c: &mut Criterion) {
    for (prefix, dialect) in [("fanout", Dialect::Raw), ("fanout/chat.v1", Dialect::V1)] {
        for messages in [1, 50] {
            let mut group = c.benchmark_group(format!("{prefix}/{messages}_messages"));
            for members in [1, 100, 10_000] {
                let mut hall = Hall::of(dialect, members);
                group.throughput(Throughput::Elements(u64::from(members) * messages));
                group.bench_function(BenchmarkId::from_parameter(members), |b| b.iter(|| hall.turn(messages)));
            }
            group.finish();
        }
    }
    // The clock of a turn, for comparison: what one look at it costs.
    c.bench_function("clock", |b| b.iter(|| black_box(Instant::now())));
}

criterion_group!(benches, fanout);
criterion_main!(benches);
