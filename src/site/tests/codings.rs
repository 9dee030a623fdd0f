//! Which representation a client gets, and the copies that are made.

use std::io::Read;

use super::*;

const TEXT: &str = "All work and no play makes Jack a dull boy.\n";

fn long_text() -> String {
    TEXT.repeat(100)
}

impl Served {
    /// Asks until the answer comes in this coding, which the first need not.
    fn get_in(&mut self, coding: &str, target: &str) -> String {
        let head = format!("GET {target}\r\nAccept-Encoding: {coding}\r\n");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let response = self.get(&head);
            match field(&response, "Content-Encoding") {
                None => assert!(Instant::now() < deadline, "no copy is made: {response}"),
                found => {
                    assert_eq!(found, Some(coding), "{response}");
                    return response;
                }
            }
            // The copy wakes us when it is there.
            let _ = self.wakes.recv_timeout(Duration::from_millis(100));
            assert!(self.site.poll_answer().is_none());
        }
    }

    fn bytes(&mut self, head: &str) -> Vec<u8> {
        match self.ask(&request(head)) {
            Answer::Response(Response { body: Body::Bytes(bytes), .. }) => bytes.to_vec(),
            Answer::Streamed(_, stream) => self.drain(stream).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn text_is_compressed_once_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("a.txt"), long_text());
    write(dir.path().join("index.html"), long_text());
    for root in [Root::Folder(dir.path().to_owned()), Root::Embedded] {
        let mut served = Served::start(root, &Limits::default());
        let plain = served.get("GET /index.html");
        served.wakes.try_iter().count();
        let first = served.get("GET /index.html\r\nAccept-Encoding: gzip, br\r\n");
        assert_eq!(first, plain, "the first is not made to wait");
        let (brotli, gzip) = (served.get_in("br", "/index.html"), served.get_in("gzip", "/index.html"));
        let mut etags: Vec<_> = [&plain, &brotli, &gzip].map(|it| field(it, "ETag").unwrap()).into();
        etags.dedup();
        assert_eq!(etags.len(), 3, "each representation has its own: {etags:?}");
        for response in [&plain, &brotli, &gzip] {
            assert_eq!(field(response, "Vary"), Some("Accept-Encoding"), "{response}");
            let length = |it| field(it, "Content-Length").unwrap().parse::<usize>().unwrap();
            assert!(length(response) <= length(&plain));
        }
        assert_eq!(field(&brotli, "Accept-Ranges"), None);
        // Conditions are about the representation that would be sent.
        let etag = field(&brotli, "ETag").unwrap();
        let same = served.get(&format!("GET /index.html\r\nAccept-Encoding: br\r\nIf-None-Match: {etag}\r\n"));
        assert!(same.starts_with("HTTP/1.1 304 "), "{same}");
        assert_eq!((field(&same, "ETag"), field(&same, "Vary")), (Some(etag), Some("Accept-Encoding")));
        let other = served.get(&format!("GET /index.html\r\nIf-None-Match: {etag}\r\n"));
        assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
        let mut packed = served.bytes("GET /index.html\r\nAccept-Encoding: gzip\r\n");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, served.bytes("GET /index.html"));
        packed = served.bytes("GET /index.html\r\nAccept-Encoding: br\r\n");
        unpacked.clear();
        brotli::Decompressor::new(&*packed, 4096).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, served.bytes("GET /index.html"));
        // A part is of the content as it is.
        let part = served.get("GET /index.html\r\nAccept-Encoding: br\r\nRange: bytes=0-1\r\n");
        assert!(part.starts_with("HTTP/1.1 206 ") && field(&part, "Content-Encoding").is_none(), "{part}");
    }
}

#[test]
fn a_changed_text_is_never_sent_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("a.txt"), long_text());
    let mut served = Served::folder(dir.path());
    let before = served.get_in("gzip", "/a.txt");
    write(dir.path().join("a.txt"), long_text().to_uppercase());
    served.now += Duration::from_secs(1);
    let between = served.get("GET /a.txt\r\nAccept-Encoding: gzip\r\n");
    assert!(field(&between, "Content-Encoding").is_none() && between.ends_with("DULL BOY.\n"), "{between}");
    assert_ne!(field(&before, "ETag"), field(&served.get_in("gzip", "/a.txt"), "ETag"));
}

#[test]
fn who_takes_nothing_but_copies_waits_for_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("a.txt"), long_text());
    write(dir.path().join("a.png"), long_text());
    write(dir.path().join("noise.txt"), {
        let mut random = fastrand::Rng::with_seed(1);
        std::iter::repeat_with(|| random.u8(..)).take(2000).collect::<Vec<u8>>()
    });
    let mut served = Served::folder(dir.path());
    for (target, accepted, status, coding) in [
        ("/a.txt", "identity;q=0, gzip", 200, Some("gzip")),
        ("/a.txt", "br, *;q=0", 200, Some("br")),
        ("/a.txt", "*;q=0", 406, None),
        ("/a.txt", "zstd, *;q=0", 406, None),
        ("/a.png", "gzip, *;q=0", 406, None),
        ("/noise.txt", "gzip, *;q=0", 406, None),
        ("/noise.txt", "gzip, *;q=0", 406, None),
        ("/noise.txt", "gzip", 200, None),
    ] {
        let response = served.get(&format!("GET {target}\r\nAccept-Encoding: {accepted}\r\n"));
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{target} {accepted}: {response}");
        assert_eq!(field(&response, "Content-Encoding"), coding, "{target} {accepted}");
    }
}

#[test]
fn siblings_are_served_unless_they_are_older() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("app.js"), long_text());
    for (extension, content) in [("br", "BROTLI"), ("zst", "ZSTD"), ("gz", "GZIP")] {
        write(dir.path().join(format!("app.js.{extension}")), content);
    }
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(1000);
    let age = |name: &str| {
        let file = fs::File::options().write(true).open(dir.path().join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    };
    // One of the same age is of the same state: what unpacks archives sets all to one time.
    age("app.js");
    age("app.js.gz");
    let mut served = Served::folder(dir.path());
    for (accepted, coding, content) in [
        ("gzip, deflate, br, zstd", Some("br"), "BROTLI"),
        ("gzip, zstd", Some("zstd"), "ZSTD"),
        ("gzip", Some("gzip"), "GZIP"),
        ("deflate", None, "boy.\n"),
        ("gzip;q=0.1, identity;q=0.9", None, "boy.\n"),
    ] {
        let response = served.get(&format!("GET /app.js\r\nAccept-Encoding: {accepted}\r\n"));
        assert_eq!(field(&response, "Content-Encoding"), coding, "{accepted}");
        assert!(response.ends_with(content), "{accepted}: {response}");
        assert_eq!(field(&response, "Content-Type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(field(&response, "Vary"), Some("Accept-Encoding"));
    }
    assert_eq!(field(&served.get("GET /app.js.gz"), "Content-Type"), Some("application/gzip"));

    // It is edited: what lies beside it is of no use any more.
    write(dir.path().join("app.js"), "edited");
    let newer = std::time::SystemTime::now() + Duration::from_secs(1000);
    fs::File::options().write(true).open(dir.path().join("app.js")).unwrap().set_modified(newer).unwrap();
    served.now += Duration::from_secs(1);
    let response = served.get("GET /app.js\r\nAccept-Encoding: gzip, br\r\n");
    assert!(field(&response, "Content-Encoding").is_none() && response.ends_with("edited"), "{response}");
}

#[test]
fn what_is_compressed_small_or_unknown_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (name, length) in [("a.png", 10_000), ("a.zip", 10_000), ("a.xyzzy", 10_000), ("short.txt", 100)] {
        write(dir.path().join(name), &long_text().repeat(5)[..length]);
        let mut served = Served::folder(dir.path());
        for _ in 0..3 {
            let response = served.get(&format!("GET /{name}\r\nAccept-Encoding: gzip, br, zstd\r\n"));
            assert_eq!((field(&response, "Content-Encoding"), field(&response, "Vary")), (None, None), "{name}");
        }
    }
}

#[test]
fn large_texts_are_compressed_as_well_if_they_are_not_too_large() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("large.txt"), long_text());
    write(dir.path().join("huge.txt"), long_text().repeat(10));
    let limits = Limits { cached_file_bytes: 1000, compressed_file_bytes: 10_000, ..Limits::default() };
    let mut served = Served::start(Root::Folder(dir.path().to_owned()), &limits);
    served.get("GET /large.txt\r\nAccept-Encoding: gzip\r\n");
    // Copies come in their own time, among the answers of looks.
    let deadline = Instant::now() + Duration::from_secs(20);
    while field(&served.get("GET /large.txt\r\nAccept-Encoding: gzip\r\n"), "Content-Encoding").is_none() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(served.site.open_files(), 0);
    let huge = served.get("GET /huge.txt\r\nAccept-Encoding: gzip\r\n");
    assert_eq!((field(&huge, "Content-Encoding"), field(&huge, "Vary")), (None, None));
}
