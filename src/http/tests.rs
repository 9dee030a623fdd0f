use super::*;
use http::HeaderName;
use http::header::HOST;
use proptest::prelude::*;

/// What became of an input: each request, and the fault it ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    requests: Vec<String>,
    fault: Option<Fault>,
}

/// Feeds the pieces to a machine and answers each request at once.
fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> Outcome {
    let mut http = Http::new();
    let mut requests = Vec::new();
    for piece in pieces {
        http.receive(piece);
        loop {
            match http.poll_request(limits) {
                Ok(Some(request)) => {
                    assert!(http.is_answering());
                    assert!(http.poll_request(limits).unwrap().is_none(), "one at a time");
                    requests.push(describe(&request));
                    http.responded();
                }
                Ok(None) => break,
                Err(fault) => {
                    http.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                    assert_eq!(http.poll_request(limits).unwrap_err(), fault, "a fault is final");
                    assert!(!http.is_mid_head() && !http.is_answering());
                    return Outcome { requests, fault: Some(fault) };
                }
            }
        }
    }
    Outcome { requests, fault: None }
}

fn describe(request: &Request) -> String {
    let Request { method, target, version, headers, content, keep_alive, .. } = request;
    format!("{method} {} {version:?} {headers:?} {content:?} {keep_alive}", target.as_str())
}

/// Feeds the input whole, in pieces of every size, and cut once at every place. All must come to the same.
fn run_every_split(name: &str, input: &[u8], limits: &Limits) -> Outcome {
    let whole = run(std::iter::once(input), limits);
    // A long input in tiny pieces shows nothing that its first kilobytes did not.
    for size in (1..input.len()).filter(|size| input.len() < 1024 || *size > 200 || *size == 1) {
        assert_eq!(run(input.chunks(size), limits), whole, "{name}, in pieces of {size}");
        let (start, end) = input.split_at(size);
        assert_eq!(run([start, end].into_iter(), limits), whole, "{name}, cut at {size}");
    }
    whole
}

fn one_request(input: &[u8]) -> Request {
    let mut http = Http::new();
    http.receive(input);
    http.poll_request(&Limits::default()).unwrap().unwrap()
}

#[test]
fn requests_that_are_refused() {
    let limits = Limits { max_head_bytes: 400, max_target_bytes: 100, max_header_fields: 5, ..Limits::default() };
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(100));
    let endless_target = format!("GET /{}", "x".repeat(100));
    let long_field = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "x".repeat(400));
    let endless_field = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "x".repeat(400));
    let long_method = format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "X".repeat(33));
    let many_fields = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(5));
    let cases: &[(&str, u16, &str)] = &[
        ("TLS hello", 400, "\x16\x03\x01"),
        ("garbage", 400, "\0"),
        ("a space first", 400, " GET / HTTP/1.1\r\n"),
        ("only a space", 400, " "),
        ("tab for space", 400, "GET\t/ HTTP/1.1\r\n"),
        ("two spaces", 400, "GET  / HTTP/1.1\r\n"),
        ("two spaces before the version", 400, "GET /  HTTP/1.1\r\n"),
        ("space in the target", 400, "GET /a b HTTP/1.1\r\n"),
        ("space after the version", 400, "GET / HTTP/1.1 \r\n"),
        ("control character in the target", 400, "GET /a\x01b HTTP/1.1\r\n"),
        ("delete in the target", 400, "GET /\x7f HTTP/1.1\r\n"),
        ("line feed in the target", 400, "GET /\n HTTP/1.1\r\n"),
        ("fragment", 400, "GET /#a HTTP/1.1\r\n"),
        ("no target", 400, "GET\r\n"),
        ("no version", 400, "GET /\r\n"),
        ("version in lower case", 400, "GET / http/1.1\r\n"),
        ("other protocol", 400, "GET / ICY/1.1\r\n"),
        ("version of two digits", 400, "GET / HTTP/1.10\r\n"),
        ("version without a dot", 400, "GET / HTTP/2\r\n"),
        ("bare line feed in the request line", 400, "GET / HTTP/1.1\n"),
        ("bare line feed in a field", 400, "GET / HTTP/1.1\r\nHost: h\n"),
        ("bare line feed at the end", 400, "GET / HTTP/1.1\r\nHost: h\r\n\n"),
        ("bare line feed before", 400, "\nGET / HTTP/1.1\r\n"),
        ("bare carriage return before", 400, "\rGET / HTTP/1.1\r\n"),
        ("bare carriage return in the request line", 400, "GET / HTTP/1.1\rHost: h\r\n"),
        ("bare carriage return in a field", 400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\rC: d\r\n\r\n"),
        ("empty lines without end", 400, "\r\n\r\n\r\n\r\n\r\n"),
        ("folded field", 400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n"),
        ("folded by tab", 400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\tc\r\n"),
        ("folded first field", 400, "GET / HTTP/1.1\r\n Host: h\r\n"),
        ("space before the colon", 400, "GET / HTTP/1.1\r\nHost : h\r\n\r\n"),
        ("space in a name", 400, "GET / HTTP/1.1\r\nHost: h\r\nA B: c\r\n\r\n"),
        ("no name", 400, "GET / HTTP/1.1\r\nHost: h\r\n: c\r\n\r\n"),
        ("no colon", 400, "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n"),
        ("NUL in a name", 400, "GET / HTTP/1.1\r\nHost: h\r\nA\0: c\r\n\r\n"),
        ("NUL in a value", 400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n"),
        ("control character in a value", 400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\x08c\r\n\r\n"),
        ("no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
        ("two Hosts", 400, "GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n"),
        ("two Hosts in 1.0", 400, "GET / HTTP/1.0\r\nHost: h\r\nhost: h\r\n\r\n"),
        ("empty Host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        ("Host with a path", 400, "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n"),
        ("Host list", 400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        ("invalid Host in 1.0", 400, "GET / HTTP/1.0\r\nHost: a@b\r\n\r\n"),
        ("no Host with absolute target", 400, "GET http://h/ HTTP/1.1\r\n\r\n"),
        ("asterisk", 400, "GET * HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("authority form", 400, "GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("relative target", 400, "GET index.html HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("other scheme", 400, "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("no authority", 400, "GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("user in the authority", 400, "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("target that is not UTF-8", 400, "GET /\u{1} HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("both lengths", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (
            "zero and chunked",
            400,
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        ),
        ("two lengths", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ("the same length twice", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        ("length list", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n"),
        ("length with a sign", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n"),
        ("negative length", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"),
        ("hexadecimal length", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\n"),
        ("empty length", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n"),
        ("huge length", 400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\n"),
        ("chunked twice", 400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"),
        ("chunked not last", 400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"),
        ("no coding", 400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \r\n\r\n"),
        ("chunked in 1.0", 400, "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("unknown coding", 501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ("known coding before chunked", 501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        ("misspelt chunked", 501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        ("GET with a body", 400, "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"),
        ("GET with chunks", 400, "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD with a body", 400, "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"),
        ("expectation", 417, "GET / HTTP/1.1\r\nHost: h\r\nExpect: a miracle\r\n\r\n"),
        ("two expectations", 417, "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue, x\r\n\r\n"),
        ("unknown method", 501, "BREW / HTTP/1.1\r\n"),
        ("method in lower case", 501, "get / HTTP/1.1\r\n"),
        ("CONNECT", 501, "CONNECT h:443 HTTP/1.1\r\n"),
        ("long method", 501, &long_method),
        ("HTTP/2 preface", 505, "PRI * HTTP/2.0\r\n"),
        ("HTTP/2.0", 505, "GET / HTTP/2.0\r\n"),
        ("HTTP/0.9", 505, "GET / HTTP/0.9\r\n"),
        ("long target", 414, &long_target),
        ("target without end", 414, &endless_target),
        ("long field", 431, &long_field),
        ("field without end", 431, &endless_field),
        ("many fields", 431, &many_fields),
    ];
    for (name, status, input) in cases {
        // In front of it goes a request that is all right; behind it, one that must not be found.
        let served = "GET /before HTTP/1.1\r\nHost: h\r\n\r\n";
        for input in [(*input).to_owned(), format!("{served}{input}GET /behind HTTP/1.1\r\nHost: h\r\n\r\n")] {
            let outcome = run_every_split(name, input.as_bytes(), &limits);
            assert_eq!(outcome.fault.map(|fault| fault.status.as_u16()), Some(*status), "{name}: {outcome:?}");
            assert_eq!(outcome.requests.len(), usize::from(input.starts_with(served)), "{name}: {outcome:?}");
        }
    }
    let outcome = run_every_split("not UTF-8", b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", &limits);
    assert_eq!(outcome.fault.unwrap().status, StatusCode::BAD_REQUEST);
}

#[test]
fn requests_that_are_understood() {
    let cases: &[(&str, &str, &str)] = &[
        ("GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / h None keep"),
        ("HEAD", "HEAD /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD /a?b=c h None keep"),
        ("POST without a body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "POST / h None keep"),
        ("POST", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", "POST / h Length(2) close"),
        ("chunks", "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n", "PUT / h Chunked close"),
        ("close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "GET / h None close"),
        ("close in a list", "GET / HTTP/1.1\r\nHost: h\r\nConnection: a, Close\r\n\r\n", "GET / h None close"),
        ("upgrade", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\r\n", "GET / h None keep"),
        ("1.0", "GET / HTTP/1.0\r\n\r\n", "GET /  None close"),
        ("1.0 kept", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET /  None keep"),
        ("1.0 both", "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET /  None close"),
        ("1.0 expects nothing", "GET / HTTP/1.0\r\nExpect: x\r\n\r\n", "GET /  None close"),
        ("higher minor version", "GET / HTTP/1.7\r\nHost: h\r\n\r\n", "GET / h None keep"),
        ("asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * h None keep"),
        ("absolute", "GET http://other:80/x?y HTTP/1.1\r\nHost: h\r\n\r\n", "GET /x?y other:80 None keep"),
        ("absolute, TLS", "GET HTTPS://[::1]/ HTTP/1.1\r\nHost: h\r\n\r\n", "GET / [::1] None keep"),
        ("absolute, no path", "GET http://other HTTP/1.1\r\nHost: h\r\n\r\n", "GET / other None keep"),
        ("absolute, query alone", "GET http://other?x HTTP/1.1\r\nHost: h\r\n\r\n", "GET /?x other None keep"),
        ("absolute in 1.0", "GET http://other/ HTTP/1.0\r\n\r\n", "GET / other None close"),
        ("two slashes", "GET //evil HTTP/1.1\r\nHost: h\r\n\r\n", "GET //evil h None keep"),
        ("empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / h None keep"),
        ("continue", "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n", "GET / h None keep"),
        ("raw UTF-8", "GET /grün HTTP/1.1\r\nHost: h\r\n\r\n", "GET /grün h None keep"),
        ("what browsers leave as it is", "GET /\"{}|?'`^ HTTP/1.1\r\nHost: h\r\n\r\n", "GET /\"{}|?'`^ h None keep"),
        ("no space after the colon", "GET / HTTP/1.1\r\nHost:h\r\n\r\n", "GET / h None keep"),
        ("space around a value", "GET / HTTP/1.1\r\nHost: \t h \t\r\n\r\n", "GET / h None keep"),
    ];
    for (name, input, expected) in cases {
        let outcome = run_every_split(name, input.as_bytes(), &Limits::default());
        assert_eq!((outcome.requests.len(), outcome.fault), (1, None), "{name}: {outcome:?}");
        let request = one_request(input.as_bytes());
        let keep = if request.keep_alive { "keep" } else { "close" };
        let (target, host) = (request.target.as_str(), request.host());
        assert_eq!(format!("{} {target} {host} {:?} {keep}", request.method, request.content), *expected, "{name}");
    }
}

#[test]
fn field_values_are_kept_as_they_came() {
    let input =
        b"GET / HTTP/1.1\r\nHost: h\r\nX-Long-Unknown-Name: a\tb\r\nx-long-unknown-name: \xe4\r\nEmpty:\r\n\r\n";
    let request = one_request(input);
    let values: Vec<&[u8]> =
        request.headers.get_all("x-long-unknown-name").iter().map(http::HeaderValue::as_bytes).collect();
    assert_eq!(values, [b"a\tb".as_slice(), b"\xe4".as_slice()]);
    assert_eq!(request.headers[HeaderName::from_static("empty")], "");
    assert_eq!(request.headers[HOST], "h");
}

#[test]
fn pipelined_requests_come_in_order_and_one_at_a_time() {
    let input: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    let outcome = run_every_split("twenty", input.as_bytes(), &Limits::default());
    assert_eq!(outcome.fault, None);
    assert_eq!(outcome.requests.len(), 20);
    for (n, request) in outcome.requests.iter().enumerate() {
        assert!(request.starts_with(&format!("GET /{n} ")), "{request}");
    }
}

#[test]
fn nothing_is_read_after_the_last_request() {
    for last in ["GET / HTTP/1.1\r\nHost: h\r\nConnection: close", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 27"] {
        let input = format!("{last}\r\n\r\nGET /hidden HTTP/1.1\r\nHost: h\r\n\r\n");
        let outcome = run_every_split(last, input.as_bytes(), &Limits::default());
        assert_eq!((outcome.requests.len(), outcome.fault), (1, None), "{last}");
    }
}

#[test]
fn the_head_may_fill_its_limits_to_the_last_byte() {
    let head = format!("GET /{} HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n", "x".repeat(99));
    let exact = Limits { max_head_bytes: head.len(), max_target_bytes: 100, max_header_fields: 2, ..Limits::default() };
    let outcome = run_every_split("exact", head.repeat(2).as_bytes(), &exact);
    assert_eq!((outcome.requests.len(), outcome.fault), (2, None));
    for (status, limits) in [
        (431, Limits { max_head_bytes: head.len() - 1, ..exact.clone() }),
        (431, Limits { max_header_fields: 1, ..exact.clone() }),
        (414, Limits { max_target_bytes: 99, ..exact.clone() }),
    ] {
        let outcome = run_every_split("one less", head.as_bytes(), &limits);
        assert_eq!(outcome.fault.map(|fault| fault.status.as_u16()), Some(status), "{limits:?}");
    }
}

#[test]
fn garbage_is_refused_before_its_line_ends() {
    for input in ["\x16", "\0", "\n", " ", "GET /\x01", "GET / X", "GET / HTTP/1.1\n", "GET  "] {
        let outcome = run(std::iter::once(input.as_bytes()), &Limits::default());
        assert_eq!(outcome.fault.map(|fault| fault.status), Some(StatusCode::BAD_REQUEST), "{input:?}");
    }
}

#[test]
fn what_the_machine_tells_of_itself() {
    let limits = Limits::default();
    let mut http = Http::new();
    assert!(!http.is_mid_head() && !http.is_answering() && http.wants_input());
    http.receive(b"\r\n");
    assert!(http.poll_request(&limits).unwrap().is_none());
    assert!(!http.is_mid_head(), "an empty line is no head");
    http.receive(b"GET / HTTP/1.1\r\n");
    assert!(http.poll_request(&limits).unwrap().is_none());
    assert!(http.is_mid_head() && http.wants_input());
    http.receive(b"Host: h\r\n\r\n");
    assert!(http.poll_request(&limits).unwrap().is_some());
    assert!(http.is_answering() && !http.is_mid_head() && http.wants_input());
    http.receive(b"GET /");
    assert!(!http.wants_input(), "something waits already");
    http.responded();
    assert!(http.wants_input() && http.is_mid_head());
}

#[test]
fn no_memory_is_held_between_requests() {
    let limits = Limits::default();
    let mut http = Http::new();
    http.receive(b"\r\n");
    assert!(http.poll_request(&limits).unwrap().is_none());
    assert_eq!(http.buffer.capacity(), 0);
    for piece in [&b"GET / HTTP/1.1\r\nHo"[..], b"st: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"] {
        http.receive(piece);
    }
    for _ in 0..2 {
        assert!(http.poll_request(&limits).unwrap().is_some());
        http.responded();
    }
    assert!(http.poll_request(&limits).unwrap().is_none());
    assert_eq!(http.buffer.capacity(), 0);
}

#[test]
fn bytes_behind_an_upgrade_are_not_lost() {
    let limits = Limits::default();
    let mut http = Http::new();
    http.receive(b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x80");
    assert!(http.poll_request(&limits).unwrap().is_some());
    http.receive(b"\0\0\0\0");
    assert_eq!(http.into_rest(), b"\x81\x80\0\0\0\0");
}

#[test]
fn a_head_that_comes_byte_by_byte_costs_no_more_than_its_length() {
    // Quadratic work on 16 KiB would be 128 MiB looked at per head, and this would take minutes in a debug build.
    let limits = Limits::default();
    let head = format!("GET /{} HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "x".repeat(8000), "y".repeat(8000));
    for _ in 0..50 {
        let mut http = Http::new();
        for byte in head.as_bytes().chunks(1) {
            assert!(http.poll_request(&limits).unwrap().is_none());
            http.receive(byte);
        }
        assert!(http.poll_request(&limits).unwrap().is_some());
    }
}

/// Heads that are nearly right: lines of a vocabulary in which each word is somewhere a mistake.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        6 => proptest::sample::select(vec![
            "GET / HTTP/1.1\r\n", "POST /x?y HTTP/1.0\r\n", "OPTIONS * HTTP/1.1\r\n", "GET http://h/ HTTP/1.1\r\n",
            "Host: h\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n",
            "\r\n", "\r\n", "\n", "\r", " ", ":", "A: b\r\n", "Expect: 100-continue\r\n",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(word, 0..12).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_pieces_come_to_the_same(
        bytes in prop_oneof![nearly_a_head(), nearly_a_head().prop_map(|rest| {
            [b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\n", rest.as_slice()].concat()
        })],
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let limits = Limits { max_head_bytes: 120, max_target_bytes: 10, max_header_fields: 4, ..Limits::default() };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        let whole = run(std::iter::once(bytes.as_slice()), &limits);
        prop_assert_eq!(&run(pieces, &limits), &whole);
        prop_assert_eq!(&run(bytes.chunks(1), &limits), &whole);
    }
}

/// More fields than a header map can hold, whatever the limits say.
#[test]
fn no_number_of_fields_is_too_much_to_be_refused() {
    let limits = Limits { max_head_bytes: usize::MAX, max_header_fields: usize::MAX, ..Limits::default() };
    for (count, expected) in [(20_000, None), (30_000, Some(431)), (40_000, Some(431))] {
        let fields: String = (0..count).map(|number| format!("X-{number}: y\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let outcome = run(std::iter::once(head.as_bytes()), &limits);
        assert_eq!(outcome.fault.map(|fault| fault.status.as_u16()), expected, "{count} fields");
    }
}
