//! The opening handshake (RFC 6455, section 4), both sides, reduced to what decides whether it succeeds.

use data_encoding::BASE64;
use sha1::{Digest, Sha1};

/// A head longer than this is not waited for.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, section 4.2.2).
pub fn accept_for(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(&hash.finalize())
}

/// The request of a client, the same for all clients of a run, and what must be answered to it.
#[derive(Debug)]
pub struct Request {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    accept: String,
    protocol: Option<&'static str>,
}

/// What the front of a response amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// The head is not complete.
    NotYet,
    /// The socket speaks WebSocket; what follows these bytes are frames.
    Upgraded {
        /// Bytes of the head.
        head_bytes: usize,
    },
    /// The server has said no: the status line, or what is wrong with the answer.
    Refused(String),
}

impl Request {
    /// Asks `host` for `target`, path and query, with a key made of `seed`, and offers the subprotocol `protocol`.
    pub fn new(host: &str, target: &str, seed: [u8; 16], protocol: Option<&'static str>) -> Self {
        let key = BASE64.encode(&seed);
        let offer = protocol.map_or(String::new(), |protocol| format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
        let bytes = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
        );
        Request { bytes: bytes.into_bytes(), accept: accept_for(key.as_bytes()), protocol }
    }

    /// Judges what has come so far.
    pub fn judge(&self, bytes: &[u8]) -> Response {
        // An alert, or a handshake, of any version (RFC 8446, section 5.1): a request in the clear was not understood.
        if let [0x15 | 0x16, 0x03, ..] = bytes {
            return Response::Refused("the server speaks TLS there; with it the URL begins with wss://".into());
        }
        let Some(head_bytes) = head_end(bytes) else {
            let too_long = bytes.len() > MAX_HEAD_BYTES;
            return if too_long { Response::Refused("an endless response head".into()) } else { Response::NotYet };
        };
        let head = &bytes[..head_bytes];
        let status_line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
        if !status_line.starts_with(b"HTTP/1.1 101") {
            return Response::Refused(String::from_utf8_lossy(status_line).chars().take(80).collect());
        }
        if field(head, "sec-websocket-accept") != Some(self.accept.as_bytes()) {
            return Response::Refused("101 with a wrong Sec-WebSocket-Accept".into());
        }
        if field(head, "sec-websocket-protocol") != self.protocol.map(str::as_bytes) {
            return Response::Refused(match self.protocol {
                Some(protocol) => format!("the server does not speak {protocol}"),
                None => "101 with a subprotocol that nobody has offered".into(),
            });
        }
        Response::Upgraded { head_bytes }
    }
}

/// How many bytes the head at the front of `bytes` has, with the empty line that ends it.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of the first field called `name`, trimmed.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    })
}

/// The response of a server that speaks whatever is offered to the request head `head`; `None` if it asks for no WebSocket.
pub fn response_to(head: &[u8]) -> Option<Vec<u8>> {
    let accept = accept_for(field(head, "sec-websocket-key")?);
    let protocol = field(head, "sec-websocket-protocol").map(String::from_utf8_lossy);
    let chosen = protocol.map_or(String::new(), |protocol| format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{chosen}\r\n"
    );
    Some(response.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_of_the_rfc() {
        assert_eq!(accept_for(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn both_sides_agree() {
        for protocol in [None, Some("chat.v1")] {
            let request = Request::new("localhost:1", "/chat?room=a", [7; 16], protocol);
            assert_eq!(head_end(&request.bytes), Some(request.bytes.len()));
            assert!(request.bytes.starts_with(b"GET /chat?room=a HTTP/1.1\r\nHost: localhost:1\r\n"));
            let mut response = response_to(&request.bytes).unwrap();
            let head_bytes = response.len();
            response.extend_from_slice(b"\x81\x00");
            for size in 0..head_bytes {
                assert_eq!(request.judge(&response[..size]), Response::NotYet, "{size}");
            }
            for size in head_bytes..=response.len() {
                assert_eq!(request.judge(&response[..size]), Response::Upgraded { head_bytes }, "{size}");
            }
        }
    }

    #[test]
    fn refusals() {
        let request = Request::new("localhost:1", "/", [7; 16], None);
        let endless = vec![b'a'; MAX_HEAD_BYTES + 1];
        let table: &[(&str, &[u8], &str)] = &[
            ("full", b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 503 Service Unavailable"),
            ("no accept", b"HTTP/1.1 101 Yes\r\n\r\n", "101 with a wrong Sec-WebSocket-Accept"),
            (
                "other accept",
                b"HTTP/1.1 101 Yes\r\nSEC-WebSocket-Accept: x\r\n\r\n",
                "101 with a wrong Sec-WebSocket-Accept",
            ),
            ("endless", &endless, "an endless response head"),
            (
                "an alert of TLS",
                b"\x15\x03\x03\x00\x02\x02\x32",
                "the server speaks TLS there; with it the URL begins with wss://",
            ),
        ];
        for (name, bytes, reason) in table {
            assert_eq!(request.judge(bytes), Response::Refused((*reason).into()), "{name}");
        }
        assert_eq!(response_to(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), None);

        let offering = Request::new("localhost:1", "/", [7; 16], Some("chat.v1"));
        let silent = response_to(&request.bytes).unwrap();
        assert_eq!(offering.judge(&silent), Response::Refused("the server does not speak chat.v1".into()));
        let unasked = response_to(&offering.bytes).unwrap();
        let refusal = Response::Refused("101 with a subprotocol that nobody has offered".into());
        assert_eq!(request.judge(&unasked), refusal);
    }
}
