//! A room as programs have it: posted to and read over HTTP.

use std::net::SocketAddr;

use serde_json::Value;

use super::http::{Response, get, http};

/// Lines of heads.
pub const PLAIN: &str = "Content-Type: text/plain";
pub const JSON: &str = "Content-Type: application/json";

/// A POST of something to say, on a connection that stays.
pub fn post_request(address: SocketAddr, room: &str, lines: &[&str], content: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "POST /rooms/{room}/messages HTTP/1.1\r\nHost: {address}\r\n{lines}Content-Length: {}\r\n\r\n{content}",
        content.len()
    )
}

/// Says something, and gives the answer.
pub fn post(address: SocketAddr, room: &str, lines: &[&str], content: &str) -> Response {
    http(address, post_request(address, room, lines, content))
}

/// The content of an answer.
pub fn parsed(response: &Response) -> Value {
    assert_eq!(response.field("Content-Type"), Some("application/json"), "{}", response.text());
    serde_json::from_slice(&response.body).expect("JSON")
}

/// Where it is told to have been stored.
pub fn position(response: &Response) -> u64 {
    parsed(response)["position"].as_u64().expect("a position")
}

/// The texts of a page, and whether there is more.
pub fn messages(address: SocketAddr, room: &str, query: &str) -> (Vec<String>, bool) {
    let response = get(address, &format!("/rooms/{room}/messages{query}"));
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    let page = parsed(&response);
    let texts = page["entries"].as_array().expect("entries").iter();
    (texts.map(|entry| entry["text"].as_str().expect("text").to_owned()).collect(), page["more"] == true)
}
