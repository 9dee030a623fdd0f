//! What does HTTP cost per request beside the system calls: reading a head, finding a cached file, encoding its response?
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use chat_app::http::Http;
use chat_app::limits::Limits;
use common::web::{self, BROWSER, SHORT, Shelf};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn heads(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("head");
    for (name, head, piece_bytes) in [
        ("short", SHORT, SHORT.len()),
        ("browser", BROWSER, BROWSER.len()),
        ("browser, two pieces", BROWSER, BROWSER.len() / 2 + 1),
        ("browser, byte by byte", BROWSER, 1),
    ] {
        let mut http = Http::new();
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| web::read_head(&mut http, &limits, head, piece_bytes));
        });
    }
    let pipelined = SHORT.repeat(16);
    let mut http = Http::new();
    group.throughput(Throughput::Elements(16));
    group.bench_function("short, 16 pipelined", |bencher| {
        bencher.iter(|| web::read_head(&mut http, &limits, &pipelined, pipelined.len()));
    });
    group.finish();
}

fn responses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response");
    for (name, length) in [("1 KiB", 1024), ("100 KiB", 100 * 1024)] {
        let mut shelf = Shelf::with_file_of(length);
        group.bench_function(format!("cached file of {name}"), |bencher| bencher.iter(|| shelf.answer()));
    }
    let request = web::request(SHORT);
    group.bench_function("404", |bencher| bencher.iter(|| web::not_found(&request)));
    group.finish();
}

criterion_group!(benches, heads, responses);
criterion_main!(benches);
