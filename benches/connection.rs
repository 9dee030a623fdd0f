//! What does a connection cost in each turn beside its protocol and system calls: its outbox, and its timer among many?
//!
//! "keeps up" has one batch in its outbox at a time, "behind" has 200, which are taken off in writes of 64. "put off" is
//! what every byte from a client does to its timer; "turn" moves time on by a fifth of a second, sets the timers anew
//! that are due, and looks for the next one.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use std::time::Duration;

use common::connection::{Clockwork, Mailbox};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn outbox(c: &mut Criterion) {
    let mut group = c.benchmark_group("outbox");
    for (name, batches) in [("keeps up", 1), ("behind", 200)] {
        let mut mailbox = Mailbox::for_batches_of(1024);
        group.throughput(Throughput::Elements(batches as u64));
        group.bench_function(name, |b| b.iter(|| mailbox.turn(batches)));
    }
    group.finish();
}

fn timers(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/10000");
    let mut clockwork = Clockwork::of(10_000);
    group.bench_function("put off", |b| b.iter(|| clockwork.put_off()));
    let mut clockwork = Clockwork::of(10_000);
    group.bench_function("turn", |b| b.iter(|| clockwork.turn(Duration::from_millis(200))));
    group.finish();
}

criterion_group!(benches, outbox, timers);
criterion_main!(benches);
