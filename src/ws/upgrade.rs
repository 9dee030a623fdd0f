//! From a request to a WebSocket: the server's side of the opening handshake (RFC 6455, section 4.2).

use std::borrow::Cow;
use std::sync::LazyLock;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

/// What a [`Handshake`] agrees to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: String,
    /// The subprotocol both sides speak; `None` if the client offered none.
    pub protocol: Option<&'static str>,
}

impl Handshake {
    /// The head of the 101 response, which is all of it; frames may follow at once.
    #[must_use]
    pub fn response(&self) -> Vec<u8> {
        let mut head = String::with_capacity(192);
        head.push_str("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
        for (name, value) in [("Accept", Some(self.accept.as_str())), ("Protocol", self.protocol)] {
            let Some(value) = value else { continue };
            for part in ["Sec-WebSocket-", name, ": ", value, "\r\n"] {
                head.push_str(part);
            }
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Why a request does not become a WebSocket, as an HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 403, 405 or 426.
    pub status: StatusCode,
    /// A sentence for the body. It repeats nothing of the request.
    pub message: Cow<'static, str>,
    /// Fields the status asks for.
    pub headers: &'static [(HeaderName, HeaderValue)],
}

impl Refusal {
    fn bad(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, message: message.into(), headers: &[] }
    }

    /// 426, with what to upgrade to (RFC 9110, section 15.5.22) and the version spoken (RFC 6455, section 4.4).
    fn upgrade_required(message: &'static str) -> Refusal {
        static HEADERS: LazyLock<[(HeaderName, HeaderValue); 3]> = LazyLock::new(|| {
            [
                (header::UPGRADE, HeaderValue::from_static("websocket")),
                (header::CONNECTION, HeaderValue::from_static("Upgrade")),
                (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            ]
        });
        Refusal { status: StatusCode::UPGRADE_REQUIRED, message: message.into(), headers: &*HEADERS }
    }
}

/// Whether a request asks for a WebSocket at all; any other is for a file.
///
/// A key alone is enough: it is what arrives when a proxy has kept `Upgrade` to itself, and [`negotiate`] then says so.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::SEC_WEBSOCKET_KEY) || has_token(headers, &header::UPGRADE, "websocket")
}

/// Answers an opening handshake (RFC 6455, sections 4.2.1 and 4.2.2). `dialects` are the subprotocols this server speaks;
/// of those that the client offers it takes the first which it knows. Extensions are never agreed to.
///
/// # Errors
///
/// Fails with 405 for another method than GET, with 426 without `Upgrade: websocket` or for another version than 13, and
/// with 400 for what else is missing or wrong, and if none of the offered subprotocols is known.
pub fn negotiate(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    dialects: &[&'static str],
) -> Result<Handshake, Refusal> {
    if method != Method::GET {
        static HEADERS: LazyLock<[(HeaderName, HeaderValue); 1]> =
            LazyLock::new(|| [(header::ALLOW, HeaderValue::from_static("GET"))]);
        return Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "A WebSocket is asked for with GET.".into(),
            headers: &*HEADERS,
        });
    }
    if version != Version::HTTP_11 {
        return Err(Refusal::bad(
            "A WebSocket needs HTTP/1.1. A proxy in between must speak it too (nginx: proxy_http_version 1.1).",
        ));
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(Refusal::upgrade_required(
            "A WebSocket needs \"Upgrade: websocket\". A proxy in between must pass it on.",
        ));
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(Refusal::bad(
            "A WebSocket needs \"Connection: Upgrade\". A proxy in between must set it (nginx: proxy_set_header \
             Connection \"upgrade\").",
        ));
    }
    if single(headers, &header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(Refusal::upgrade_required("Only version 13 of the WebSocket protocol is spoken here."));
    }
    let key = single(headers, &header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let Some(key) = key else {
        return Err(Refusal::bad("A WebSocket needs one Sec-WebSocket-Key: 16 bytes in base64."));
    };
    let protocol = choose_protocol(headers, dialects)?;
    Ok(Handshake { accept: derive_accept_key(key), protocol })
}

fn choose_protocol(headers: &HeaderMap, dialects: &[&'static str]) -> Result<Option<&'static str>, Refusal> {
    let mut offered = list(headers, &header::SEC_WEBSOCKET_PROTOCOL).peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    let known = offered.find_map(|name| dialects.iter().copied().find(|dialect| dialect.as_bytes() == name));
    if known.is_some() {
        return Ok(known);
    }
    Err(Refusal::bad(if dialects.is_empty() {
        Cow::from("No subprotocol is spoken here: leave out Sec-WebSocket-Protocol.")
    } else {
        Cow::from(format!(
            "None of the offered subprotocols is spoken here, but {}, or none at all.",
            dialects.join(", ")
        ))
    }))
}

/// The base64 form of 16 bytes: 22 digits and two fillers.
///
/// The four bits of the last digit that mean nothing may be anything, as in the example of RFC 6455, section 4.1.
fn is_key(value: &[u8]) -> bool {
    value.len() == 24
        && value.ends_with(b"==")
        && value[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
}

/// The value of a field that may stand once only.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes().trim_ascii())
}

/// The elements of a list that may stretch over several fields; empty ones do not count (RFC 9110, section 5.6.1).
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let values = headers.get_all(name).iter();
    values
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn headers(fields: Fields) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a field name");
            headers.append(name, value.parse().expect("a field value"));
        }
        headers
    }

    /// The request of RFC 6455, section 1.2, without the fields in `changes`, and then with those of them that are not empty.
    fn request(changes: Fields) -> HeaderMap {
        let sample = [
            ("host", "server.example.com"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
        ];
        let kept = sample.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let added = changes.iter().filter(|(_, value)| !value.is_empty());
        headers(&kept.chain(added).copied().collect::<Vec<_>>())
    }

    fn get(changes: Fields, dialects: &[&'static str]) -> Result<Handshake, Refusal> {
        negotiate(&Method::GET, Version::HTTP_11, &request(changes), dialects)
    }

    #[test]
    fn the_sample_of_the_standard_is_answered_as_there() {
        let handshake = get(&[], &[]).expect("a handshake");
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(String::from_utf8(handshake.response()).expect("text"), expected);

        let handshake = get(&[("sec-websocket-protocol", "chat.v1")], &["chat.v1"]).expect("a handshake");
        let response = String::from_utf8(handshake.response()).expect("text");
        assert!(response.ends_with("xOo=\r\nSec-WebSocket-Protocol: chat.v1\r\n\r\n"), "{response}");
    }

    #[test]
    fn what_is_allowed_is_taken() {
        let table: [(&str, Fields); 9] = [
            ("tokens in any case", &[("upgrade", "WebSocket"), ("connection", "UPGRADE")]),
            ("lists", &[("connection", "keep-alive, Upgrade"), ("upgrade", "h2c , websocket")]),
            ("several lines", &[("connection", "keep-alive"), ("connection", "upgrade")]),
            ("empty elements", &[("connection", ",, upgrade ,")]),
            ("extensions are ignored", &[("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")]),
            ("spaces around", &[("sec-websocket-version", " 13 ")]),
            ("the key of section 4.1", &[("sec-websocket-key", "AQIDBAUGBwgJCgsMDQ4PEC==")]),
            ("an empty offer", &[("sec-websocket-protocol", " , ")]),
            ("an origin is not looked at", &[("origin", "null")]),
        ];
        for (name, changes) in table {
            let handshake = get(changes, &[]).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
            assert_eq!(handshake.protocol, None, "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_status() {
        let table: [(&str, Fields, u16); 18] = [
            ("no upgrade", &[("upgrade", "")], 426),
            ("another upgrade", &[("upgrade", "h2c")], 426),
            ("part of a token", &[("upgrade", "websocket2")], 426),
            ("no connection", &[("connection", "")], 400),
            ("connection without upgrade", &[("connection", "keep-alive")], 400),
            ("no version", &[("sec-websocket-version", "")], 426),
            ("version 8", &[("sec-websocket-version", "8")], 426),
            ("version 013", &[("sec-websocket-version", "013")], 426),
            ("two versions", &[("sec-websocket-version", "13"), ("sec-websocket-version", "8")], 426),
            ("no key", &[("sec-websocket-key", "")], 400),
            ("two keys", &[("sec-websocket-key", KEY), ("sec-websocket-key", KEY)], 400),
            ("short key", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25j")], 400),
            ("15 bytes", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=")], 400),
            ("17 bytes", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQA=")], 400),
            ("18 bytes", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQAA")], 400),
            ("not base64", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZ-==")], 400),
            ("filler inside", &[("sec-websocket-key", "dGhlIHNhbXBs=SBub25jZQ==")], 400),
            ("unknown protocol", &[("sec-websocket-protocol", "mqtt")], 400),
        ];
        for (name, changes, status) in table {
            let refusal = get(changes, &[]).expect_err(name);
            assert_eq!(refusal.status.as_u16(), status, "{name}");
            assert!(!refusal.message.is_empty(), "{name}");
            let version = refusal.headers.iter().find(|(name, _)| name == header::SEC_WEBSOCKET_VERSION);
            assert_eq!(version.map(|(_, value)| value.as_bytes()), (status == 426).then_some(&b"13"[..]), "{name}");
        }
    }

    #[test]
    fn other_methods_and_versions_are_refused() {
        for method in [Method::HEAD, Method::POST, Method::CONNECT] {
            let refusal = negotiate(&method, Version::HTTP_11, &request(&[]), &[]).expect_err("refused");
            assert_eq!(refusal.status, StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(refusal.headers, [(header::ALLOW, HeaderValue::from_static("GET"))]);
        }
        for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2] {
            let refusal = negotiate(&Method::GET, version, &request(&[]), &[]).expect_err("refused");
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn the_first_offered_subprotocol_that_is_known_is_taken() {
        let table: [(&str, Fields, Option<&str>); 6] = [
            ("the only one", &[("sec-websocket-protocol", "chat.v1")], Some("chat.v1")),
            ("after unknown ones", &[("sec-websocket-protocol", "mqtt, chat.v1")], Some("chat.v1")),
            ("the client's order", &[("sec-websocket-protocol", "chat.v2,chat.v1")], Some("chat.v2")),
            (
                "on several lines",
                &[("sec-websocket-protocol", "mqtt"), ("sec-websocket-protocol", "chat.v2")],
                Some("chat.v2"),
            ),
            ("case matters", &[("sec-websocket-protocol", "CHAT.V1")], None),
            ("none known", &[("sec-websocket-protocol", "mqtt, stomp")], None),
        ];
        for (name, changes, expected) in table {
            let chosen = get(changes, &["chat.v1", "chat.v2"]);
            match expected {
                Some(expected) => assert_eq!(chosen.expect(name).protocol, Some(expected), "{name}"),
                None => {
                    let refusal = chosen.expect_err(name);
                    assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{name}");
                    assert!(refusal.message.contains("chat.v1, chat.v2"), "{name}: {}", refusal.message);
                }
            }
        }
    }

    #[test]
    fn a_request_asks_for_a_websocket_by_token_or_key() {
        let table: [(&str, Fields, bool); 5] = [
            ("a page", &[("host", "a")], false),
            ("another upgrade", &[("connection", "upgrade"), ("upgrade", "h2c")], false),
            ("the token", &[("upgrade", "h2c, WebSocket")], true),
            ("the key alone", &[("sec-websocket-key", "")], true),
            ("the version alone", &[("sec-websocket-version", "13")], false),
        ];
        for (name, fields, expected) in table {
            assert_eq!(is_upgrade(&headers(fields)), expected, "{name}");
        }
    }
}
