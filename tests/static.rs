//! The file server over real sockets: beside nginx where both should agree, and where files change or are very large.

mod common;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use common::{
    DEADLINE, End, Port, Process, Raw, Response, Server, WsClient, connect_narrow, get, http, wait_for, wait_until,
};

/// nginx as its users know it, with what we do by default switched on.
const NGINX: &str = "
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {}
http {
  access_log off;
  sendfile on;
  if_modified_since before;
  gzip_static on;
  gzip_vary on;
  absolute_redirect off;
  types { text/html html; text/plain txt; text/javascript js; image/png png; }
  default_type application/octet-stream;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {
    listen 127.0.0.1:{port};
    root {root};
    index index.html;
  }
}
";

/// nginx on a free port, with everything it writes in `folder`.
fn nginx(folder: &Path, root: &Path) -> (Process, SocketAddr) {
    let port = Port::take().expect("a free port");
    let configuration = NGINX
        .replace("{folder}", folder.to_str().unwrap())
        .replace("{root}", root.to_str().unwrap())
        .replace("{port}", &port.to_string());
    fs::write(folder.join("nginx.conf"), configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let has_nginx = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok();
    assert!(has_nginx, "there is no nginx to compare with: `tests/run packages` installs it");
    let process = Process::spawn(&mut command);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    wait_until("nginx listens", || TcpStream::connect(address).is_ok());
    (process, address)
}

/// Files that are served by both, and that have been there for a while.
fn furnish(root: &Path) {
    let digits: String = (0..1000).map(|number| format!("{number:03}")).collect();
    for (name, content) in [
        ("index.html", "<!doctype html>home"),
        ("a.txt", digits.as_str()),
        ("empty.txt", ""),
        ("script.js", "alert(1);"),
        ("script.js.gz", "packed"),
        ("unknown.xyzzy", "what?"),
        ("dir/index.html", "inner"),
        ("dir/a b.txt", "space"),
        ("dir/grün.txt", "green"),
        ("bare/x.txt", "x"),
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    }
}

/// The head of a request; `{etag}` and `{modified}` stand for what the server says of `/a.txt`.
fn ask(address: SocketAddr, validators: &Response, method: &str, target: &str, fields: &str) -> Response {
    let etag = validators.field("ETag").unwrap();
    let modified = validators.field("Last-Modified").unwrap();
    let fields = fields.replace("{etag}", etag).replace("{modified}", modified);
    let lines: String = fields.split('|').filter(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect();
    let mut connection = Raw::connect(address);
    connection.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n"));
    let mut response = connection.response_head();
    response.body = connection.read_to_end(DEADLINE).0;
    response
}

/// What both have to say alike. The text of an error is everybody's own, and so is what parts the parts.
fn essence(response: &Response) -> Vec<(&'static str, String)> {
    let is_whole = matches!(response.status, 200 | 206);
    let content_type = response.field("Content-Type").unwrap_or_default().to_owned();
    let boundary = content_type.split_once("boundary=").map(|(_, boundary)| boundary.to_owned());
    let mut essence = vec![("status", response.status.to_string())];
    // We compress text ourselves, so that more of it varies.
    let is_coded = response.field("Content-Encoding").is_some();
    let names = ["Content-Range", "Content-Encoding", "Location", "Vary"];
    for name in names.into_iter().filter(|name| is_coded || *name != "Vary") {
        essence.push((name, response.field(name).unwrap_or_default().to_owned()));
    }
    if is_whole {
        essence.push(("type", content_type.split(';').next().unwrap_or_default().to_owned()));
        let body = String::from_utf8_lossy(&response.body).replace("; charset=utf-8", "");
        match boundary {
            Some(boundary) => essence.push(("body", body.replace(&boundary, "BOUNDARY"))),
            None => {
                essence.push(("length", response.field("Content-Length").unwrap_or_default().to_owned()));
                essence.push(("body", body));
            }
        }
    }
    essence
}

#[test]
fn where_nginx_and_we_agree() {
    let folder = tempfile::tempdir().unwrap();
    // Its worker may run as somebody else.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let root = folder.path().join("root");
    furnish(&root);
    let (_nginx, theirs) = nginx(folder.path(), &root);
    // Twice: with the files in memory, and streamed.
    for cached in ["256KiB", "0"] {
        let server = Server::start(&["--public", root.to_str().unwrap(), "--cached-file", cached]);
        let ours = server.address();
        let (our_state, their_state) = (get(ours, "/a.txt"), get(theirs, "/a.txt"));
        assert_eq!(our_state.field("Last-Modified"), their_state.field("Last-Modified"));
        // Until a whole second has passed since a change, a date does not tell one state from the next.
        wait_until("the date is a strong validator", || {
            ask(ours, &our_state, "GET", "/a.txt", "Range: bytes=0-4|If-Range: {modified}").status == 206
        });
        let mut differences = Vec::new();
        for method in ["GET", "HEAD"] {
            for (target, fields) in AGREED {
                let [our_answer, their_answer] = [(ours, &our_state), (theirs, &their_state)]
                    .map(|(at, state)| ask(at, state, method, target, fields));
                // RFC 9110, section 14.2: a range is defined for GET alone. nginx sees it otherwise.
                if method == "HEAD" && fields.contains("Range: ") {
                    assert!(our_answer.status != 206 && our_answer.status != 416, "{target} {fields}: {our_answer:?}");
                    continue;
                }
                for (one, other) in essence(&our_answer).iter().zip(&essence(&their_answer)) {
                    if one != other {
                        differences.push(format!("{method} {target} {fields}: ours {one:.80?}, theirs {other:.80?}"));
                    }
                }
                assert!(method == "GET" || our_answer.body.is_empty(), "{method} {target} {fields}");
            }
        }
        assert!(differences.is_empty(), "with files up to {cached} in memory:\n{}", differences.join("\n"));
    }
}

/// Targets and fields, the lines of which are parted by `|`.
const AGREED: &[(&str, &str)] = &[
    ("/", ""),
    ("/?query", ""),
    ("/index.html", ""),
    ("/a.txt", ""),
    ("/a.txt?query", ""),
    ("/empty.txt", ""),
    ("/unknown.xyzzy", ""),
    ("/dir/", ""),
    ("/dir//index.html", ""),
    ("//dir/", ""),
    ("/dir/a%20b.txt", ""),
    ("/dir/gr%C3%BCn.txt", ""),
    ("/dir%2findex.html", ""),
    ("/dir", ""),
    ("/dir?query=1", ""),
    ("/bare", ""),
    ("/missing", ""),
    ("/a.txt/", ""),
    ("/a.txt/x", ""),
    ("/a.txt%00", ""),
    ("/%zz", ""),
    ("/../secret", ""),
    ("/%2e%2e/secret", ""),
    ("/missing", "If-None-Match: *"),
    // Conditions.
    ("/a.txt", "If-None-Match: {etag}"),
    ("/a.txt", "If-None-Match: \"x\", {etag}"),
    ("/a.txt", "If-None-Match: W/{etag}"),
    ("/a.txt", "If-None-Match: *"),
    ("/a.txt", "If-None-Match: \"x\""),
    ("/a.txt", "If-None-Match: \"x\"|If-Modified-Since: {modified}"),
    ("/a.txt", "If-Modified-Since: {modified}"),
    ("/a.txt", "If-Modified-Since: Thu, 01 Jan 1970 00:00:10 GMT"),
    ("/a.txt", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"),
    ("/a.txt", "If-Modified-Since: yesterday"),
    ("/a.txt", "If-Match: {etag}"),
    ("/a.txt", "If-Match: *"),
    ("/a.txt", "If-Match: \"x\""),
    ("/a.txt", "If-Match: W/{etag}"),
    ("/a.txt", "If-Match: \"x\", {etag}"),
    ("/a.txt", "If-Unmodified-Since: {modified}"),
    ("/a.txt", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:10 GMT"),
    ("/a.txt", "If-Unmodified-Since: Fri, 01 Jan 2100 00:00:00 GMT"),
    ("/a.txt", "If-Match: {etag}|If-None-Match: {etag}"),
    // Ranges.
    ("/a.txt", "Range: bytes=0-4"),
    ("/a.txt", "Range: bytes=100-"),
    ("/a.txt", "Range: bytes=-5"),
    ("/a.txt", "Range: bytes=-5000"),
    ("/a.txt", "Range: bytes=2990-5000"),
    ("/a.txt", "Range: bytes=0-"),
    ("/a.txt", "Range: bytes=3000-"),
    ("/a.txt", "Range: bytes=0-1,-2"),
    ("/a.txt", "Range: bytes=5-6,0-1, 9-9"),
    ("/a.txt", "Range: bytes=0-9,5-14"),
    ("/a.txt", "Range: bytes=0-,0-"),
    ("/a.txt", "Range: bytes=0-4,4000-"),
    ("/a.txt", "Range: lines=0-4"),
    ("/a.txt", "Range: bytes=0-4|If-Range: {etag}"),
    ("/a.txt", "Range: bytes=0-4|If-Range: \"x\""),
    ("/a.txt", "Range: bytes=0-4|If-Range: W/{etag}"),
    ("/a.txt", "Range: bytes=0-4|If-Range: {modified}"),
    ("/a.txt", "Range: bytes=0-4|If-Range: Thu, 01 Jan 1970 00:00:10 GMT"),
    ("/a.txt", "Range: bytes=0-4|If-None-Match: {etag}"),
    ("/a.txt", "Range: bytes=0-4|If-Match: \"x\""),
    ("/empty.txt", "Range: bytes=0-"),
    ("/unknown.xyzzy", "Range: bytes=0-0"),
    // Codings.
    ("/script.js", "Accept-Encoding: gzip"),
    ("/script.js", "Accept-Encoding: gzip;q=0"),
    ("/script.js", "Accept-Encoding: deflate"),
    ("/script.js", "Accept-Encoding: br, gzip;q=0.5"),
    ("/script.js", ""),
];

#[test]
fn where_we_are_stricter_or_kinder_than_nginx() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    furnish(&root);
    fs::write(root.join(".env"), "secret").unwrap();
    let server = Server::start(&["--public", root.to_str().unwrap()]);
    let state = get(server.address(), "/a.txt");
    for (name, method, target, fields, status) in [
        ("a dotfile", "GET", "/.env", "", 404),
        ("a range that is none is ignored", "GET", "/a.txt", "Range: bytes=5-4", 200),
        ("ranges are for GET alone", "HEAD", "/a.txt", "Range: bytes=0-4", 200),
        ("a dot segment within the root", "GET", "/dir/../a.txt", "", 400),
        ("a backslash", "GET", "/dir%5c..%5ca.txt", "", 400),
        ("a GET with content", "GET", "/a.txt", "Content-Length: 1", 400),
        ("what is allowed", "OPTIONS", "/a.txt", "", 204),
        ("a page without its extension", "GET", "/dir/index", "", 200),
        ("nothing that the client takes", "GET", "/a.txt", "Accept-Encoding: *;q=0", 406),
        ("absolute form", "GET", "http://other.example/a.txt", "", 200),
        ("expectation without content", "GET", "/a.txt", "Expect: 100-continue", 200),
    ] {
        let response = ask(server.address(), &state, method, target, fields);
        assert_eq!(response.status, status, "{name}: {response:?}");
    }
    let old = http(server.address(), "GET /a.txt HTTP/1.0\r\n\r\n");
    assert_eq!((old.status, old.field("Connection")), (200, Some("close")));
    let kept = http(server.address(), "GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((kept.status, kept.field("Connection")), (200, Some("keep-alive")));
}

#[test]
fn pipelined_requests_of_all_kinds_are_answered_in_order() {
    let folder = tempfile::tempdir().unwrap();
    furnish(folder.path());
    let public = folder.path().to_str().unwrap();
    let large = "x".repeat(300_000);
    fs::write(folder.path().join("large.txt"), &large).unwrap();
    let server = Server::start(&["--public", public, "--cached-file", "1KiB", "--file-piece", "4KiB"]);
    let rounds = 20;
    let requests = [
        ("GET", "/", ""),
        ("GET", "/a.txt", "Range: bytes=0-1,5-9\r\n"),
        ("GET", "/large.txt", ""),
        ("HEAD", "/large.txt", ""),
        ("GET", "/missing", ""),
        ("GET", "/large.txt", "Range: bytes=-70000\r\n"),
        ("GET", "/index.html", "If-None-Match: *\r\n"),
        ("OPTIONS", "/", ""),
        ("GET", "/script.js", "Accept-Encoding: gzip\r\n"),
    ];
    let one = requests.map(|(method, target, fields)| format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    let mut connection = Raw::connect(server.address());
    connection.send(one.concat().repeat(rounds));
    for round in 0..rounds {
        for ((method, target, fields), status) in requests.iter().zip([200, 206, 200, 200, 404, 206, 304, 204, 200]) {
            let response = if *method == "HEAD" { connection.response_head() } else { connection.response() };
            assert_eq!(response.status, status, "round {round}: {method} {target} {fields}");
            match (*method, *target, status) {
                ("GET", "/large.txt", 200) => assert!(response.body == large.as_bytes()),
                ("GET", "/large.txt", 206) => assert!(response.body == large.as_bytes()[..70_000]),
                ("GET", "/script.js", _) => assert_eq!(response.body, b"packed"),
                ("GET", "/", _) => assert_eq!(response.body, b"<!doctype html>home"),
                _ => {}
            }
        }
    }
}

/// Small content stands behind its head, larger content is a slice of its own, still larger is sent by the kernel out of
/// memory, and the largest is read from the disk piece by piece. Nobody should be able to tell.
#[test]
fn content_of_every_size_arrives_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--public", folder.path().to_str().unwrap()]);
    let lengths: [usize; 9] = [0, 1, 4096, 4097, 32_767, 32_768, 100_000, 262_144, 262_145];
    for length in lengths {
        let content: Vec<u8> = (0..length).map(|place| (place * 7 + place / 251) as u8).collect();
        fs::write(folder.path().join(format!("{length}.bin")), content).unwrap();
    }
    let mut connection = Raw::over(connect_narrow(server.address()));
    for round in 0..2 {
        let get = |length: &usize| format!("GET /{length}.bin HTTP/1.1\r\nHost: h\r\n");
        let requests: Vec<String> = lengths
            .iter()
            .map(|length| {
                let middle = length / 2;
                let parts = format!("Range: bytes=0-0,{middle}-{middle},-1\r\n\r\n");
                [
                    get(length),
                    "\r\n".to_owned(),
                    get(length),
                    format!("Range: bytes={middle}-\r\n\r\n"),
                    get(length),
                    parts,
                ]
                .concat()
            })
            .collect();
        connection.send(requests.concat());
        for length in lengths {
            let content = fs::read(folder.path().join(format!("{length}.bin"))).unwrap();
            assert!(connection.response().body == content, "round {round}: {length}");
            assert!(connection.response().body == content[length / 2..], "round {round}: the half of {length}");
            let parts = connection.response();
            if length > 2 {
                let (first, middle, last) = (content[0], content[length / 2], content[length - 1]);
                let found: Vec<u8> = parts
                    .body
                    .windows(5)
                    .filter(|window| window.starts_with(b"\r\n\r\n"))
                    .map(|window| window[4])
                    .collect();
                assert_eq!((parts.status, found), (206, vec![first, middle, last]), "round {round}: {length}");
            }
        }
    }
}

#[test]
fn an_edited_file_shows_and_a_deleted_one_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    fs::write(&path, "one").unwrap();
    let server = Server::start(&["--public", folder.path().to_str().unwrap()]);
    assert_eq!(get(server.address(), "/a.txt").body, b"one");
    fs::write(&path, "two").unwrap();
    wait_until("the change shows", || get(server.address(), "/a.txt").body == b"two");
    fs::remove_file(&path).unwrap();
    wait_until("it is gone", || get(server.address(), "/a.txt").status == 404);
}

#[test]
fn a_file_that_is_truncated_while_it_is_sent_ends_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    let length = 64 << 20;
    File::create(&path).unwrap().set_len(length).unwrap();
    let server = Server::start(&["--public", folder.path().to_str().unwrap()]);
    for fields in ["", "Range: bytes=0-50000000,50000001-60000000\r\n"] {
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let mut connection = Raw::over(connect_narrow(server.address()));
        connection.send(format!("GET /large HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        let head = connection.response_head();
        let promised: usize = head.field("Content-Length").unwrap().parse().unwrap();
        connection.take(100_000);
        File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
        let (rest, end) = connection.read_to_end(DEADLINE);
        assert_ne!(end, End::Open, "{fields}");
        assert!(rest.len() + 100_000 < promised, "{fields}: {} of {promised}", rest.len());
    }
    assert_eq!(server.metric("chat_closes_total{reason=\"content_lost\"}"), 2.0);
    assert_eq!(get(server.address(), "/large").body.len(), 1000, "the server goes on");
}

/// Resident bytes of a process.
fn resident(server: &Server) -> f64 {
    server.metric("chat_resident_memory_bytes")
}

#[test]
fn four_gigabytes_to_a_hundred_slow_readers_take_no_memory_and_delay_no_chat() {
    let folder = tempfile::tempdir().unwrap();
    File::create(folder.path().join("film.mp4")).unwrap().set_len(4 << 30).unwrap();
    let server = Server::start(&["--public", folder.path().to_str().unwrap()]);
    let (mut speaker, mut hearer) =
        (WsClient::connect(server.address(), "/", &[]), WsClient::connect(server.address(), "/", &[]));
    let before = resident(&server);
    let mut readers: Vec<Raw> = (0..100).map(|_| Raw::over(connect_narrow(server.address()))).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        // Each at another place, the last of them behind 4 GiB of nothing.
        let start = (4_u64 << 30) / 100 * number as u64;
        reader.send(format!("GET /film.mp4 HTTP/1.1\r\nHost: h\r\nRange: bytes={start}-\r\n\r\n"));
        let head = reader.response_head();
        let range = format!("bytes {start}-4294967295/4294967296");
        assert_eq!((head.status, head.field("Content-Range")), (206, Some(range.as_str())));
    }
    let piece = 64 * 1024;
    for round in 0..8 {
        for reader in &mut readers {
            assert!(reader.take(piece).iter().all(|byte| *byte == 0));
        }
        let text = format!("round {round}");
        speaker.send_text(&text);
        assert_eq!(hearer.next_text(), text);
        // What each holds is bounded by its outbox and one piece of the file.
        let grown = resident(&server) - before;
        assert!(grown < 100.0 * (256 + 2 * 128 + 64) as f64 * 1024.0, "round {round}: {grown} bytes more");
    }
    assert_eq!(server.metric("chat_open_files"), 1.0);
    drop(readers);
    wait_for("all of them have gone", || (server.metric("chat_open_files") == 0.0).then_some(()));
}
