//! What comes by HTTP: request heads, and files that are in memory.

use std::hint::black_box;
use std::sync::mpsc;
use std::time::Instant;

use chat_app::http::{Http, Request, Response};
use chat_app::limits::Limits;
use chat_app::site::{Answer, Root, Site};
use chat_app::ws::{OriginPolicy, is_upgrade, negotiate};
use tempfile::TempDir;

/// What a load generator sends.
pub const SHORT: &[u8] = b"GET /file.txt HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// What a browser sends.
pub const BROWSER: &[u8] = b"GET /file.txt HTTP/1.1\r\n\
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

/// What a browser sends to open a WebSocket.
pub const UPGRADE: &[u8] = b"GET /?room=garden HTTP/1.1\r\n\
Host: chat.example.org\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
Accept: */*\r\n\
Accept-Language: de,en-US;q=0.7,en;q=0.3\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Sec-WebSocket-Version: 13\r\n\
Origin: http://chat.example.org\r\n\
Sec-WebSocket-Protocol: chat.v1\r\n\
Sec-WebSocket-Extensions: permessage-deflate\r\n\
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
Connection: keep-alive, Upgrade\r\n\
Sec-Fetch-Dest: websocket\r\n\
Sec-Fetch-Mode: websocket\r\n\
Sec-Fetch-Site: same-origin\r\n\
Pragma: no-cache\r\n\
Cache-Control: no-cache\r\n\
Upgrade: websocket\r\n\r\n";

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Reads a head that comes in pieces of so many bytes.
pub fn read_head(http: &mut Http, limits: &Limits, head: &[u8], piece_bytes: usize) {
    for piece in head.chunks(piece_bytes) {
        http.receive(black_box(piece));
        while let Some(request) = http.poll_request(limits).expect("a request that is whole or not yet") {
            black_box(request);
            http.responded();
        }
    }
}

/// The request of a head.
pub fn request(head: &[u8]) -> Request {
    let mut http = Http::new();
    http.receive(head);
    http.poll_request(&Limits::default()).expect("a good request").expect("a whole one")
}

/// Answers a request with a sentence.
pub fn not_found(request: &Request) {
    let response = Response::text(http::StatusCode::NOT_FOUND, black_box("There is nothing at this address."));
    black_box(response.encode(&request.recipient(), DATE));
}

/// Answers a request for a WebSocket, from its fields to the response.
pub fn upgrade(request: &Request, origins: &OriginPolicy) {
    let headers = black_box(&request.headers);
    assert!(is_upgrade(headers));
    let handshake = negotiate(&request.method, request.version, headers, &["chat.v1"]).expect("a handshake");
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    origins.check(headers, host).expect("a page of our own");
    black_box(handshake.response());
}

/// A site with one file, which has been asked for.
pub struct Shelf {
    site: Site,
    request: Request,
    now: Instant,
    _folder: TempDir,
}

impl Shelf {
    /// A file of so many bytes.
    pub fn with_file_of(length: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file.txt"), vec![b'x'; length]).expect("a file");
        let (wake, wakes) = mpsc::channel();
        let root = Root::Folder(folder.path().to_owned());
        let mut site = Site::start(root, &Limits::default(), move || _ = wake.send(())).expect("it starts");
        let (request, now) = (request(SHORT), Instant::now());
        if site.handle(0, &request, now).is_none() {
            wakes.recv().expect("the site lives");
            assert!(matches!(site.poll_answer(), Some((0, Answer::Response(_) | Answer::Streamed(..)))));
        }
        Shelf { site, request, now, _folder: folder }
    }

    /// Answers a request for the file, from memory.
    pub fn answer(&mut self) {
        let answer = self.site.handle(0, black_box(&self.request), self.now).expect("it is in memory");
        let (Answer::Response(response) | Answer::Streamed(response, _)) = &answer else { panic!("no response") };
        black_box(response.encode(&self.request.recipient(), DATE));
    }
}
