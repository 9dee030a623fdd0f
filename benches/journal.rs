//! How many messages does the store take in batches of each size, and how long does it take to read a page of a large one?
//!
//! "append" is the way of the loop: drafts in, flush, and entries out once they are committed. "index" is how long a
//! search waits for what was just stored. "page" and "search" read among `ENTRIES` messages, of which one in ten is in the
//! room.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use std::time::{Duration, Instant};

use chat_app::chat::entry::Position;
use chat_app::journal::{Event, Range, SyncMode};
use common::store::{Desk, PAGE};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// `cargo test --benches` runs each bench once, and needs no large file for that.
const ENTRIES: u64 = if cfg!(debug_assertions) { 4_000 } else { 1_000_000 };

fn append(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    for sync in [SyncMode::Normal, SyncMode::Full] {
        let mut group = criterion.benchmark_group(format!("append/{sync:?}"));
        let mut desk = Desk::open(&folder.path().join(format!("{sync:?}.db")), sync);
        for batch in [1, 100, 1_000] {
            group.throughput(Throughput::Elements(batch));
            group.bench_function(BenchmarkId::from_parameter(batch), |bencher| bencher.iter(|| desk.say(batch)));
        }
        group.finish();
    }
}

fn index(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = Desk::open(&folder.path().join("indexed.db"), SyncMode::Normal);
    let mut group = criterion.benchmark_group("index");
    for batch in [1, 100] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter_custom(|times| {
                let mut waited = Duration::ZERO;
                for _ in 0..times {
                    desk.say(batch);
                    let begun = Instant::now();
                    desk.index();
                    waited += begun.elapsed();
                }
                waited
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = Desk::open(&folder.path().join("large.db"), SyncMode::Normal);
    while desk.said() < ENTRIES {
        desk.say(1_000);
    }
    let middle = Position(ENTRIES / 2);
    // The first search of a new file waits until the index has been made.
    while let Event::Found(found) = desk.ask(Range::Matching { before: Position(11), query: "number 10 ".to_owned() })
        && found.hits.as_ref().is_ok_and(Vec::is_empty)
    {}
    let mut group = criterion.benchmark_group("page");
    group.throughput(Throughput::Elements(PAGE as u64));
    for (name, range) in [
        ("after", Range::After { after: middle, upto: Position(ENTRIES) }),
        ("before", Range::Before(middle)),
        ("newest", Range::Before(Position(ENTRIES + 1))),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let Event::Page(page) = desk.ask(range.clone()) else { panic!("not a page") };
                assert_eq!(page.entries.map(|entries| entries.len()), Ok(PAGE));
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("search");
    for (name, query) in
        [("common", "message "), ("rare", "\"topic 70\" number "), ("beginning", "som"), ("none", "nowhere ")]
    {
        let range = Range::Matching { before: middle, query: query.to_owned() };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let Event::Found(found) = desk.ask(range.clone()) else { panic!("nothing found") };
                assert!(found.hits.is_ok());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, index, read);
criterion_main!(benches);
