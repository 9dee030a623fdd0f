//! What does it cost to decode a client's frames, and what does the session add to tungstenite alone?
//!
//! "session" is [`Session::receive`]; "plain" is one `WebSocketContext` that is never given up, with several sizes of
//! its read buffer. Both get what one read of a socket gave, and drop the messages after each read.

use std::hint::black_box;
use std::io::{self, Read, Write};

use chat_app::ws::{Session, Workbench};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

const MAX_MESSAGE_BYTES: usize = 64 * 1024;

fn masked_text(payload_bytes: usize) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x81];
    match payload_bytes {
        0..=125 => frame.push(0x80 | payload_bytes as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend((0..payload_bytes).map(|i| (b'a' + (i % 26) as u8) ^ mask[i % 4]));
    frame
}

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
            let mut bench = Workbench::new(MAX_MESSAGE_BYTES);
            let mut session = Session::new();
            let (mut events, mut output) = (Vec::new(), Vec::new());
            bencher.iter(|| {
                for read in &reads {
                    session.receive(black_box(read), &mut bench, &mut events, &mut output);
                    black_box(&events);
                    events.clear();
                }
            });
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

criterion_group!(benches, decode);
criterion_main!(benches);
