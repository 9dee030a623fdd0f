//! What does a WebSocket cost beside the system calls: the upgrade, decoding a client's frames, and encoding ours?
//!
//! "decode" also says what the session adds to tungstenite alone: "session" is `Session::receive`; "plain" is one
//! `WebSocketContext` that is never given up, with several sizes of its read buffer. Both get what one read of a socket
//! gave, and drop the messages after each read. "upgrade" begins with a head that has been read (see the bench `http`).
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use std::hint::black_box;
use std::io::{self, Read, Write};

use chat_app::ws::OriginPolicy;
use chat_app::ws::frame::{self, Opcode};
use common::web::{self, UPGRADE};
use common::websocket::{Listener, MAX_MESSAGE_BYTES, masked_text};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

struct Memory<'a>(&'a [u8]);

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decode(criterion: &mut Criterion) {
    // A 64 KiB message never fits into one read of 64 KiB with its header.
    let large = masked_text(MAX_MESSAGE_BYTES);
    let inputs: [(&str, Vec<Vec<u8>>); 5] = [
        ("1x64B", vec![masked_text(64)]),
        ("50x64B", vec![masked_text(64).repeat(50)]),
        ("900x64B", vec![masked_text(64).repeat(900)]),
        ("60KiB", vec![masked_text(60 * 1024)]),
        ("64KiB-two-reads", large.chunks(64 * 1024).map(<[u8]>::to_vec).collect()),
    ];
    for (name, reads) in inputs {
        let mut group = criterion.benchmark_group(format!("decode/{name}"));
        group.throughput(Throughput::Bytes(reads.iter().map(Vec::len).sum::<usize>() as u64));
        group.bench_function("session", |bencher| {
            let mut listener = Listener::new();
            bencher.iter(|| reads.iter().map(|read| listener.hear(read)).sum::<usize>());
        });
        for buffer_bytes in [128, 1024, 4096, 16384] {
            group.bench_function(BenchmarkId::new("plain", buffer_bytes), |bencher| {
                let config = WebSocketConfig::default()
                    .read_buffer_size(buffer_bytes)
                    .max_message_size(Some(MAX_MESSAGE_BYTES))
                    .max_frame_size(Some(MAX_MESSAGE_BYTES));
                let mut context = WebSocketContext::new(Role::Server, Some(config));
                let mut messages = Vec::new();
                bencher.iter(|| {
                    for read in &reads {
                        let mut stream = Memory(black_box(read));
                        while let Ok(message) = context.read(&mut stream) {
                            messages.push(message);
                        }
                        black_box(&messages);
                        messages.clear();
                    }
                });
            });
        }
        group.finish();
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let mut out = Vec::new();
    for (name, payload_bytes) in [("64B", 64), ("1KiB", 1024), ("60KiB", 60 * 1024)] {
        let payload = vec![b'x'; payload_bytes];
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                frame::encode(Opcode::Text, black_box(&payload), &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

fn upgrade(criterion: &mut Criterion) {
    let request = web::request(UPGRADE);
    let origins = OriginPolicy::new(&[]).expect("no origin is wrong");
    criterion.bench_function("upgrade", |bencher| bencher.iter(|| web::upgrade(&request, &origins)));
}

criterion_group!(benches, decode, encode, upgrade);
criterion_main!(benches);
