//! What has to hold of any bytes that somebody sends: shared by the fuzz target and by `tests/fuzz.rs`.

use chat_app::http::coding::{Accepted, Coding};
use chat_app::http::conditional::{self, Validators};
use chat_app::http::range::{self, Selection};
use chat_app::http::{Body, Http, Request, Response};
use chat_app::limits::Limits;
use http::StatusCode;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Gives the bytes to a machine whole, and cut at a place that they choose themselves, and answers each request.
///
/// # Panics
/// When something that has to hold does not.
pub fn heads(bytes: &[u8]) {
    let limits = Limits { max_head_bytes: 2048, max_target_bytes: 512, max_header_fields: 16, ..Limits::default() };
    let cut = bytes.first().map_or(0, |first| usize::from(*first) % (bytes.len() + 1));
    let whole = run(&[bytes], &limits);
    assert_eq!(run(&[&bytes[..cut], &bytes[cut..]], &limits), whole, "cut at {cut}");
}

/// What became of an input: each request, and the status of the fault that it ended with.
fn run(pieces: &[&[u8]], limits: &Limits) -> (Vec<String>, Option<StatusCode>) {
    let mut http = Http::new();
    let mut seen = Vec::new();
    for piece in pieces {
        http.receive(piece);
        loop {
            match http.poll_request(limits) {
                Ok(Some(request)) => {
                    check(&request, limits);
                    seen.push(format!("{request:?}"));
                    http.responded();
                }
                Ok(None) => break,
                Err(fault) => {
                    http.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                    assert_eq!(http.poll_request(limits).unwrap_err(), fault, "a fault is final");
                    assert!(fault.status.is_client_error() || fault.status.is_server_error());
                    return (seen, Some(fault.status));
                }
            }
        }
    }
    (seen, None)
}

/// What has to hold of any request that was understood.
fn check(request: &Request, limits: &Limits) {
    let target = request.target.as_str();
    assert!(target.starts_with('/') || target == "*", "{target}");
    assert!(target.len() <= limits.max_target_bytes && !target.contains(['\r', '\n', ' ']), "{target:?}");
    assert!(request.headers.len() <= limits.max_header_fields);
    assert!(!request.host().contains(['/', '@', ' ']), "{}", request.host());

    let validators = Validators { etag: "\"v1\"".to_owned(), modified: 784_111_777, is_date_strong: true };
    let _ = conditional::evaluate(&request.headers, &validators);
    let _ = Accepted::of(&request.headers).best_of(Coding::ALL);
    for length in [0, 1, 1000, u64::MAX] {
        match range::select(&request.method, &request.headers, &validators, length) {
            Selection::Whole | Selection::Unsatisfiable => {}
            Selection::Part(part) => assert!(part.start < part.end && part.end <= length, "{part:?} of {length}"),
            Selection::Parts(parts) => {
                assert!(parts.len() > 1 && parts.iter().all(|part| part.start < part.end && part.end <= length));
                assert!(parts.iter().map(|part| u128::from(part.end - part.start)).sum::<u128>() <= u128::from(length));
            }
        }
    }
    // The response is one head, whatever the request was.
    let response = Response::text(StatusCode::NOT_FOUND, "x").with_body(Body::Empty);
    let head = response.encode(&request.recipient(), DATE).head;
    assert!(head.ends_with(b"\r\n\r\n"));
}
