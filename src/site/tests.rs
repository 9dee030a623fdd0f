mod codings;
mod large;
mod manners;
mod ranges;
mod space;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::http::Http;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A site, and a client of it that waits for what the worker does.
struct Served {
    site: Site,
    wakes: mpsc::Receiver<()>,
    now: Instant,
    tickets: u64,
}

impl Served {
    fn start(root: Root, limits: &Limits) -> Self {
        Served::start_with(root, Manner::default(), limits)
    }

    fn start_with(root: Root, manner: Manner, limits: &Limits) -> Self {
        let (wake, wakes) = mpsc::channel();
        let site = Site::start_with(root, manner, limits, move || {
            let _ = wake.send(());
        });
        Served { site: site.unwrap(), wakes, now: Instant::now(), tickets: 0 }
    }

    fn folder(root: &Path) -> Self {
        Served::start(Root::Folder(root.to_owned()), &Limits::default())
    }

    fn wait(&mut self) -> (u64, Answer) {
        loop {
            if let Some(answer) = self.site.poll_answer() {
                return answer;
            }
            self.wakes.recv_timeout(Duration::from_secs(20)).expect("the worker answers");
        }
    }

    fn ask(&mut self, request: &Request) -> Answer {
        self.tickets += 1;
        match self.site.handle(self.tickets, request, self.now) {
            Some(answer) => answer,
            None => {
                let (ticket, answer) = self.wait();
                assert_eq!(ticket, self.tickets);
                answer
            }
        }
    }

    /// The response as text, without its date.
    fn get(&mut self, head: &str) -> String {
        let request = request(head);
        match self.ask(&request) {
            Answer::Response(response) => text(&response, &request),
            // As it would be if it were small.
            Answer::Streamed(response, stream) => {
                let body = Body::Bytes(self.drain(stream).expect("it is not lost").into());
                text(&response.with_body(body), &request)
            }
            other => panic!("{head}: {other:?}"),
        }
    }

    /// All that is still to come of a file; `None` if it was lost.
    fn drain(&mut self, mut stream: FileStream) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            self.tickets += 1;
            let answer = self.site.read_on(self.tickets, stream, usize::MAX);
            match answer.unwrap_or_else(|| self.wait().1) {
                Answer::Piece { bytes, rest } => {
                    content.extend_from_slice(&bytes);
                    match rest {
                        Some(rest) => stream = rest,
                        None => return Some(content),
                    }
                }
                Answer::Lost => return None,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The whole content of a file that is streamed; `None` if it was lost.
    fn download(&mut self, target: &str, mut between: impl FnMut()) -> Option<Vec<u8>> {
        let Answer::Streamed(response, mut stream) = self.ask(&request(&format!("GET {target}"))) else {
            panic!("{target} is not streamed")
        };
        let mut content = Vec::new();
        loop {
            between();
            self.tickets += 1;
            let answer = self.site.read_on(self.tickets, stream, usize::MAX);
            match answer.unwrap_or_else(|| self.wait().1) {
                Answer::Piece { bytes, rest } => {
                    assert!(!bytes.is_empty());
                    content.extend_from_slice(&bytes);
                    match rest {
                        Some(rest) => stream = rest,
                        None => break,
                    }
                }
                Answer::Lost => return None,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(response.body, Body::Streamed(content.len() as u64));
        Some(content)
    }
}

/// A request from its method and target, perhaps with field lines.
fn request(head: &str) -> Request {
    let (start, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    try_request(&format!("{start} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).expect("a valid request")
}

fn try_request(head: &str) -> Option<Request> {
    let mut http = Http::new();
    http.receive(head.as_bytes());
    http.poll_request(&Limits::default()).ok().flatten()
}

fn text(response: &Response, request: &Request) -> String {
    let encoded = response.encode(&request.recipient(), DATE);
    let bytes = [encoded.head, encoded.body.unwrap_or_default()].concat();
    String::from_utf8_lossy(&bytes).replace(&format!("Date: {DATE}\r\n"), "")
}

/// The value of a field in a response.
fn field<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next()?;
    head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A root with all sorts of things in it, and a secret beside it.
fn furnished() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(dir.path().join("secret"), "SECRET");
    write(dir.path().join("root2/secret"), "SECRET");
    write(root.join("index.html"), "home");
    write(root.join("style.css"), "css");
    write(root.join("empty.txt"), "");
    write(root.join("docs/index.html"), "docs");
    write(root.join("docs/a b.txt"), "space");
    write(root.join("grün.txt"), "green");
    write(root.join("%2e%2e/x.txt"), "strange name");
    write(root.join("bare/x.txt"), "x");
    write(root.join(".env"), "SECRET");
    write(root.join(".git/config"), "SECRET");
    write(root.join("docs/.htpasswd"), "SECRET");
    write(root.join(".well-known/security.txt"), "contact");
    symlink("style.css", root.join("inside.css")).unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    dir
}

#[test]
fn what_is_found_where() {
    let dir = furnished();
    let mut served = Served::folder(&dir.path().join("root"));
    for (target, status, content) in [
        ("/", 200, "home"),
        ("/?query", 200, "home"),
        ("//", 200, "home"),
        ("/index.html", 200, "home"),
        ("/style.css?v=1", 200, "css"),
        ("/empty.txt", 200, ""),
        ("/docs/", 200, "docs"),
        ("/docs//index.html", 200, "docs"),
        ("/docs/a%20b.txt", 200, "space"),
        ("/docs%2findex.html", 200, "docs"),
        ("/gr%c3%bcn.txt", 200, "green"),
        ("/grün.txt", 200, "green"),
        ("/%252e%252e/x.txt", 200, "strange name"),
        ("/inside.css", 200, "css"),
        ("/.well-known/security.txt", 200, "contact"),
        ("/docs", 301, ""),
        ("/bare", 301, ""),
        ("/bare/", 404, ""),
        ("/missing", 404, ""),
        ("/style.css/", 404, ""),
        ("/style.css/x", 404, ""),
        ("/out", 404, ""),
        ("/up/secret", 404, ""),
        ("/absolute", 404, ""),
        ("/dangling", 404, ""),
        ("/fifo", 404, ""),
        ("/.env", 404, ""),
        ("/.git/config", 404, ""),
        ("/docs/.htpasswd", 404, ""),
        ("/%2eenv", 404, ""),
        ("/../secret", 400, ""),
        ("/%2e%2e/secret", 400, ""),
        ("/docs/..%2f..%2fsecret", 400, ""),
        ("/..%5csecret", 400, ""),
        ("/style.css%00", 400, ""),
        ("/%zz", 400, ""),
    ] {
        let response = served.get(&format!("GET {target}"));
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {response}");
        assert_eq!(field(&response, "X-Content-Type-Options"), Some("nosniff"), "{target}");
        if status == 200 {
            assert!(response.ends_with(&format!("\r\n\r\n{content}")), "{target}: {response}");
        }
        // HEAD answers as GET, without the content.
        let head = served.get(&format!("HEAD {target}"));
        assert_eq!(head.strip_suffix("\r\n\r\n"), response.split("\r\n\r\n").next(), "{target}");
    }
    let long = "x".repeat(5000);
    for target in [format!("/{long}"), format!("/{}", "x/".repeat(3000))] {
        assert!(served.get(&format!("GET {target}")).starts_with("HTTP/1.1 404 "), "{} bytes", target.len());
    }
}

#[test]
fn fields_of_a_file() {
    let dir = furnished();
    let mut served = Served::folder(&dir.path().join("root"));
    let response = served.get("GET /docs/");
    assert_eq!(field(&response, "Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(field(&response, "Content-Length"), Some("4"));
    assert_eq!(field(&response, "Cache-Control"), Some("no-cache"));
    assert_eq!(field(&response, "Content-Security-Policy"), None);
    let modified = httpdate::parse_http_date(field(&response, "Last-Modified").unwrap()).unwrap();
    let on_disk = fs::metadata(dir.path().join("root/docs/index.html")).unwrap().modified().unwrap();
    assert!(on_disk.duration_since(modified).unwrap() < Duration::from_secs(1));
    let etag = field(&response, "ETag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "{etag}");
    assert_ne!(field(&served.get("GET /"), "ETag"), Some(etag));
}

#[test]
fn conditions() {
    let dir = furnished();
    let roots = [Root::Folder(dir.path().join("root")), Root::Embedded];
    for root in roots {
        let mut served = Served::start(root, &Limits::default());
        let response = served.get("GET /index.html");
        let etag = field(&response, "ETag").unwrap();
        let modified = field(&response, "Last-Modified").unwrap();
        for (fields, status) in [
            (format!("If-None-Match: {etag}\r\n"), 304),
            (format!("If-None-Match: \"x\", W/{etag}\r\n"), 304),
            ("If-None-Match: *\r\n".to_owned(), 304),
            ("If-None-Match: \"x\"\r\n".to_owned(), 200),
            (format!("If-Modified-Since: {modified}\r\n"), 304),
            (format!("If-Modified-Since: {DATE}\r\n"), 200),
            (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {modified}\r\n"), 200),
            ("If-Match: \"x\"\r\n".to_owned(), 412),
            (format!("If-Match: {etag}\r\n"), 200),
        ] {
            let answer = served.get(&format!("GET /index.html\r\n{fields}"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {answer}");
            if status == 304 {
                assert!(answer.ends_with("\r\n\r\n"), "{answer}");
                assert_eq!(field(&answer, "ETag"), Some(etag));
                assert_eq!(field(&answer, "Cache-Control"), Some("no-cache"));
                assert_eq!((field(&answer, "Content-Length"), field(&answer, "Content-Type")), (None, None));
            }
        }
        let missing = served.get("GET /missing\r\nIf-None-Match: *\r\n");
        assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    }
}

#[test]
fn other_methods_are_told_what_is_allowed() {
    let mut served = Served::start(Root::Embedded, &Limits::default());
    for head in ["POST /", "PUT /x", "DELETE /", "PATCH /", "TRACE /"] {
        let response = served.get(head);
        assert!(response.starts_with("HTTP/1.1 405 "), "{head}: {response}");
        assert_eq!(field(&response, "Allow"), Some("GET, HEAD, OPTIONS"), "{head}");
    }
    for head in ["OPTIONS /", "OPTIONS *", "OPTIONS /missing"] {
        let response = served.get(head);
        assert_eq!(response, "HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\n\r\n", "{head}");
    }
}

#[test]
fn redirects_stay_here() {
    let dir = furnished();
    let root = dir.path().join("root");
    write(root.join("evil.example/x"), "");
    write(root.join("a b/ü/x"), "");
    let mut served = Served::folder(&root);
    for (target, location) in [
        ("/docs", "/docs/"),
        ("/docs?a=b&c", "/docs/?a=b&c"),
        ("/docs?", "/docs/?"),
        ("/docs?ü", "/docs/?%C3%BC"),
        ("//evil.example", "/evil.example/"),
        ("///evil.example?//x", "/evil.example/?//x"),
        ("/%2fevil.example", "/evil.example/"),
        ("/%2f%2fevil.example", "/evil.example/"),
        ("/a%20b/%c3%bc", "/a%20b/%C3%BC/"),
    ] {
        assert_eq!(field(&served.get(&format!("GET {target}")), "Location"), Some(location), "{target}");
    }
}

#[test]
fn the_embedded_page() {
    let mut served = Served::start(Root::Embedded, &Limits::default());
    let page = served.get("GET /");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("\r\n\r\n<!"), "{page}");
    let policy = field(&page, "Content-Security-Policy").unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("connect-src 'self' ws: wss:"), "{policy}");
    assert!(served.get("GET /missing").starts_with("HTTP/1.1 404 "));
    assert!(served.get("GET /index.html/").starts_with("HTTP/1.1 404 "));
    assert!(served.get("GET /../Cargo.toml").starts_with("HTTP/1.1 400 "));
    assert!(served.wakes.try_recv().is_err(), "no worker is needed");
}

#[test]
fn a_change_shows_after_a_second_and_not_before() {
    let dir = furnished();
    let root = dir.path().join("root");
    let mut served = Served::folder(&root);
    let before = served.get("GET /style.css");
    assert!(before.ends_with("css"));

    // The same length, and so soon that the file's time stamp may be the same.
    write(root.join("style.css"), "CSS");
    served.now += Duration::from_millis(999);
    assert_eq!(served.get("GET /style.css"), before);
    served.now += Duration::from_millis(1);
    let after = served.get("GET /style.css");
    assert!(after.ends_with("CSS"), "{after}");

    fs::remove_file(root.join("style.css")).unwrap();
    served.now += Duration::from_secs(1);
    assert!(served.get("GET /style.css").starts_with("HTTP/1.1 404 "));
    assert_eq!(served.site.cached_bytes(), 0);

    // What was not there is not remembered.
    write(root.join("style.css"), "new");
    assert!(served.get("GET /style.css").ends_with("new"));
}

#[test]
fn a_folder_that_is_replaced_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("one/index.html"), "one");
    write(dir.path().join("two/index.html"), "two");
    symlink("one", dir.path().join("current")).unwrap();
    let mut served = Served::folder(&dir.path().join("current"));
    assert!(served.get("GET /").ends_with("one"));
    symlink("two", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), dir.path().join("current")).unwrap();
    served.now += Duration::from_secs(1);
    assert!(served.get("GET /").ends_with("two"));

    // While it is away, what is known is served, and nothing else is said to be missing.
    fs::remove_file(dir.path().join("current")).unwrap();
    served.now += Duration::from_secs(1);
    assert!(served.get("GET /").ends_with("two"));
    assert!(served.get("GET /other").starts_with("HTTP/1.1 503 "));
}

#[test]
fn requests_for_one_path_share_a_look() {
    let dir = furnished();
    let mut served = Served::folder(&dir.path().join("root"));
    for ticket in 0..10 {
        let head = if ticket == 3 { "GET /style.css\r\nIf-None-Match: *\r\n" } else { "GET /style.css" };
        assert!(served.site.handle(ticket, &request(head), served.now).is_none());
    }
    for ticket in 0..10 {
        let (answered, answer) = served.wait();
        let Answer::Response(response) = answer else { panic!("{answer:?}") };
        assert_eq!((answered, response.status.as_u16()), (ticket, if ticket == 3 { 304 } else { 200 }));
    }
    assert!(served.site.poll_answer().is_none());
    assert!(served.wakes.try_iter().count() <= 1, "one look wakes once");
}

#[test]
fn only_so_many_requests_wait_for_the_disk() {
    let dir = furnished();
    let limits = Limits { max_lookups: 3, ..Limits::default() };
    let mut served = Served::start(Root::Folder(dir.path().join("root")), &limits);
    let targets = ["/style.css", "/nothing", "/style.css"];
    for (ticket, target) in targets.iter().enumerate() {
        assert!(served.site.handle(ticket as u64, &request(&format!("GET {target}")), served.now).is_none());
    }
    let refused = served.site.handle(9, &request("GET /style.css"), served.now).expect("an answer at once");
    let Answer::Response(refused) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.status.as_u16(), 503);
    assert!(field(&text(&refused, &request("GET /")), "Retry-After").is_some());
    targets.iter().for_each(|_| drop(served.wait()));
    assert!(served.get("GET /style.css").starts_with("HTTP/1.1 200 "));
    assert!(served.get("GET /nothing").starts_with("HTTP/1.1 404 "));
}

#[test]
fn many_files_do_not_fill_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { cache_bytes: 20_000, ..Limits::default() };
    let mut served = Served::start(Root::Folder(dir.path().to_owned()), &limits);
    for n in 0..100 {
        write(dir.path().join(n.to_string()), vec![b'x'; n * 100]);
        assert!(served.get(&format!("GET /{n}")).starts_with("HTTP/1.1 200 "));
        assert!(served.get(&format!("GET /missing{n}")).starts_with("HTTP/1.1 404 "));
        assert!(served.site.cached_bytes() <= 20_000);
    }
    assert!(served.site.cached_bytes() > 0);
}

#[test]
fn a_root_that_is_none_is_an_error() {
    let dir = furnished();
    for name in ["nothing", "secret"] {
        let root = Root::Folder(dir.path().join(name));
        assert!(Site::start(root, &Limits::default(), || {}).is_err(), "{name}");
    }
}

/// Pieces of targets that somebody might try, each encoded in some way or not at all.
fn hostile_target() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => proptest::sample::select(vec![
            "..", ".", "/", "//", "\\", "secret", "root2", "up", "out", "absolute", ".env", ".git", "config", "docs",
            ".htpasswd", "index.html", "\0", ".well-known", "etc/passwd", "%", "?", "root",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{1,4}",
        1 => any::<char>().prop_map(String::from),
    ];
    let encoded = (piece, 0..4_u8).prop_map(|(text, how)| match how {
        0 => text.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        1 => text.bytes().map(|byte| format!("%25{byte:02X}")).collect(),
        _ => text,
    });
    proptest::collection::vec(encoded, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

#[test]
fn no_target_names_what_is_outside_or_hidden() {
    let dir = furnished();
    for manner in [Manner::default(), Manner { listing: true, ..Manner::default() }] {
        let root = Root::Folder(dir.path().join("root"));
        let served = std::cell::RefCell::new(Served::start_with(root, manner, &Limits::default()));
        let found = std::cell::Cell::new(0_u32);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 4000,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let result = runner.run(&hostile_target(), |target| {
            let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let Some(request) = try_request(&head) else { return Ok(()) };
            let Answer::Response(response) = served.borrow_mut().ask(&request) else { panic!("{target} is streamed") };
            let text = text(&response, &request);
            prop_assert!(!text.contains("SECRET") && !text.contains("root:"), "{target}: {text}");
            let names_hidden = ["./.", "./secret", "./out", "./up", "./absolute"].map(|name| format!("href=\"{name}"));
            prop_assert!(!names_hidden.iter().any(|link| text.contains(link)), "{target}: {text}");
            if let Some(location) = field(&text, "Location") {
                let path = location.split('?').next().unwrap_or_default();
                prop_assert!(path.starts_with('/') && !path.starts_with("//") && !path.contains('\\'), "{location}");
            }
            found.set(found.get() + u32::from(response.status == StatusCode::OK));
            Ok(())
        });
        result.unwrap();
        assert!(found.get() > 20, "the targets are too wild to say anything: {} were found", found.get());
    }
}
