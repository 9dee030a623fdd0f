//! What does HTTP cost per request beside the system calls: reading a head, finding a cached file, encoding its response?

use std::hint::black_box;
use std::sync::mpsc;
use std::time::Instant;

use chat_app::http::{Http, Request, Response};
use chat_app::limits::Limits;
use chat_app::site::{Answer, Root, Site};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// What a load generator sends.
const SHORT: &[u8] = b"GET /file.txt HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// What a browser sends.
const BROWSER: &[u8] = b"GET /file.txt HTTP/1.1\r\n\
Host: chat.example.org\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: de,en-US;q=0.7,en;q=0.3\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Connection: keep-alive\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
Upgrade-Insecure-Requests: 1\r\n\
Sec-Fetch-Dest: document\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-Site: none\r\n\
Sec-Fetch-User: ?1\r\n\
If-None-Match: \"0123456789abcdef\"\r\n\
Priority: u=0, i\r\n\r\n";

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn heads(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("head");
    for (name, head, piece_bytes) in [
        ("short", SHORT, SHORT.len()),
        ("browser", BROWSER, BROWSER.len()),
        ("browser, two pieces", BROWSER, BROWSER.len() / 2 + 1),
        ("browser, byte by byte", BROWSER, 1),
    ] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            let mut http = Http::new();
            bencher.iter(|| {
                for piece in head.chunks(piece_bytes) {
                    http.receive(black_box(piece));
                    if let Some(request) = http.poll_request(&limits).unwrap() {
                        black_box(request);
                        http.responded();
                    }
                }
            });
        });
    }
    let pipelined = SHORT.repeat(16);
    group.throughput(Throughput::Elements(16));
    group.bench_function("short, 16 pipelined", |bencher| {
        let mut http = Http::new();
        bencher.iter(|| {
            http.receive(black_box(&pipelined));
            while let Some(request) = http.poll_request(&limits).unwrap() {
                black_box(request);
                http.responded();
            }
        });
    });
    group.finish();
}

fn request(head: &[u8]) -> Request {
    let mut http = Http::new();
    http.receive(head);
    http.poll_request(&Limits::default()).unwrap().unwrap()
}

fn responses(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let (wake, wakes) = mpsc::channel();
    let limits = Limits::default();
    let mut site = Site::start(Root::Folder(folder.path().to_owned()), &limits, move || {
        let _ = wake.send(());
    })
    .unwrap();
    let now = Instant::now();
    let mut group = criterion.benchmark_group("response");
    for (name, length) in [("1 KiB", 1024), ("100 KiB", 100 * 1024)] {
        let file = format!("{length}.txt");
        std::fs::write(folder.path().join(&file), vec![b'x'; length]).unwrap();
        let request = request(format!("GET /{file} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        if site.handle(0, &request, now).is_none() {
            wakes.recv().unwrap();
            assert!(matches!(site.poll_answer(), Some((0, Answer::Response(_) | Answer::Streamed(..)))));
        }
        group.bench_function(format!("cached file of {name}"), |bencher| {
            bencher.iter(|| {
                let answer = site.handle(0, black_box(&request), now).unwrap();
                let (Answer::Response(response) | Answer::Streamed(response, _)) = &answer else { unreachable!() };
                black_box(response.encode(&request.recipient(), DATE));
            });
        });
    }
    let request = request(SHORT);
    group.bench_function("404", |bencher| {
        bencher.iter(|| {
            let response = Response::text(http::StatusCode::NOT_FOUND, black_box("There is nothing at this address."));
            black_box(response.encode(&request.recipient(), DATE));
        });
    });
    group.finish();
}

criterion_group!(benches, heads, responses);
criterion_main!(benches);
