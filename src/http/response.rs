//! Responses and how they become bytes (RFC 9112, sections 4 and 6).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::Fault;

/// Bodies up to this size are copied behind their head, so that a small response is one slice and one write. A
/// larger body stays its own slice: it is shared with everybody who is sent the same, however slowly they read.
const INLINE_BODY_BYTES: usize = 4096;

/// A response before it is known how it is framed: without `Date`, `Content-Length` and `Connection`.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The content.
    pub body: Body,
    /// Field lines made beforehand and shared by many responses.
    prepared: Bytes,
    /// Field lines of this response alone.
    fields: Vec<u8>,
}

/// The content of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// No content.
    Empty,
    /// The whole content.
    Bytes(Bytes),
    /// So many bytes, which are pushed by the caller behind the head.
    Streamed(u64),
    /// Nobody knows how many bytes, pushed by the caller behind the head; the content ends with the connection
    /// (RFC 9112, section 6.3).
    Endless,
}

impl Body {
    /// The length of the content in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Streamed(length) => *length,
            Body::Endless => 0,
        }
    }
}

/// What has to be known of a request to frame its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The version of the request; ours is always 1.1.
    pub version: Version,
    /// The method of the request: a response to HEAD has no content.
    pub method: Method,
    /// Whether the connection lives on after this response. To end it earlier than its peer wants, make it false.
    pub keep_alive: bool,
}

impl Recipient {
    /// Somebody whose request was not understood, and whose connection ends therefore.
    pub const STRANGER: Recipient = Recipient { version: Version::HTTP_11, method: Method::GET, keep_alive: false };
}

/// A response as bytes, to be pushed in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The head, and behind it the content if that is small.
    pub head: Bytes,
    /// The content if it is not small. Content that is streamed is not in here.
    pub body: Option<Bytes>,
}

impl Response {
    /// A response without content and fields.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Response { status, body: Body::Empty, prepared: Bytes::new(), fields: Vec::new() }
    }

    /// A response with field lines made by [`field_line`], and shared.
    #[must_use]
    pub fn prepared(status: StatusCode, fields: Bytes, body: Body) -> Self {
        Response { status, body, prepared: fields, fields: Vec::new() }
    }

    /// A response that tells a person something, in plain text. The message should be a sentence.
    #[must_use]
    pub fn text(status: StatusCode, message: &str) -> Self {
        let reason = status.canonical_reason().unwrap_or("Unknown");
        let code = status.as_str();
        let body = if status.is_success() { format!("{message}\n") } else { format!("{code} {reason}\n\n{message}\n") };
        let fields = Bytes::from_static(
            b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n",
        );
        Response::prepared(status, fields, Body::Bytes(body.into()))
    }

    /// The answer to a request that was refused.
    #[must_use]
    pub fn refusal(fault: &Fault) -> Self {
        Response::text(fault.status, fault.message)
    }

    /// The answer to a method that is not served at this target (RFC 9110, section 15.5.6). `allow` lists those that are.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Response::text(StatusCode::METHOD_NOT_ALLOWED, "This address is served to other methods only.")
            .with("Allow", &HeaderValue::from_static(allow))
    }

    /// The answer to OPTIONS (RFC 9110, section 9.3.7). `allow` lists the methods that are served at this target.
    #[must_use]
    pub fn options(allow: &'static str) -> Self {
        Response::new(StatusCode::NO_CONTENT).with("Allow", &HeaderValue::from_static(allow))
    }

    /// The same with one more field. What the encoder adds (`Date`, `Content-Length`, and `Connection` unless the
    /// status is 101) must not be given.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &HeaderValue) -> Self {
        push_field_line(&mut self.fields, name, value.as_bytes());
        self
    }

    /// The same with all these fields; their names are written in lower case.
    #[must_use]
    pub fn with_all(mut self, headers: &HeaderMap) -> Self {
        for (name, value) in headers {
            push_field_line(&mut self.fields, name.as_str(), value.as_bytes());
        }
        self
    }

    /// The same with this content.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The response as bytes. `date` is the current one, see [`DateCache`](super::DateCache).
    #[must_use]
    pub fn encode(&self, recipient: &Recipient, date: &str) -> Encoded {
        // RFC 9110, section 6.4.1: these never have content, and RFC 9112, section 6.3, ends them with their head.
        let never_has_content = self.status.is_informational() || matches!(self.status.as_u16(), 204 | 304);
        let body = match &self.body {
            Body::Bytes(bytes) if !never_has_content && recipient.method != Method::HEAD => bytes.clone(),
            _ => Bytes::new(),
        };
        let inline: &[u8] = if body.len() <= INLINE_BODY_BYTES { &body } else { &[] };

        let mut head = Vec::with_capacity(160 + self.prepared.len() + self.fields.len() + inline.len());
        push_status_line(&mut head, self.status);
        push_field_line(&mut head, "Date", date.as_bytes());
        head.extend_from_slice(&self.prepared);
        head.extend_from_slice(&self.fields);
        self.push_framing(&mut head, recipient);
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(inline);
        let body = (inline.len() < body.len()).then_some(body);
        Encoded { head: head.into(), body }
    }

    fn push_framing(&self, head: &mut Vec<u8>, recipient: &Recipient) {
        if self.status.is_informational() {
            return;
        }
        // A 304 may tell the length that a 200 would have (RFC 9110, section 8.6); it does not know it here.
        let has_length = !matches!(self.status.as_u16(), 204 | 304) && self.body != Body::Endless;
        if has_length {
            push_field_line(head, "Content-Length", itoa::Buffer::new().format(self.body.length()).as_bytes());
        }
        match (recipient.keep_alive, recipient.version) {
            (false, _) => push_field_line(head, "Connection", b"close"),
            (true, Version::HTTP_10) => push_field_line(head, "Connection", b"keep-alive"),
            (true, _) => {}
        }
    }
}

/// One field line, for fields that are made beforehand.
#[must_use]
pub fn field_line(name: &str, value: &HeaderValue) -> Vec<u8> {
    let mut line = Vec::with_capacity(name.len() + value.len() + 4);
    push_field_line(&mut line, name, value.as_bytes());
    line
}

/// The value comes from a `HeaderValue` or from ourselves: it cannot end the line.
fn push_field_line(fields: &mut Vec<u8>, name: &str, value: &[u8]) {
    fields.extend_from_slice(name.as_bytes());
    fields.extend_from_slice(b": ");
    fields.extend_from_slice(value);
    fields.extend_from_slice(b"\r\n");
}

fn push_status_line(head: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    head.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn encoded(response: &Response, recipient: &Recipient) -> String {
        let Encoded { head, body } = response.encode(recipient, DATE);
        let bytes = [head, body.unwrap_or_default()].concat();
        String::from_utf8(bytes).unwrap().replace(&format!("Date: {DATE}\r\n"), "[date]")
    }

    fn recipient(method: Method, version: Version, keep_alive: bool) -> Recipient {
        Recipient { version, method, keep_alive }
    }

    #[test]
    fn framing_follows_the_recipient() {
        let ok = Response::new(StatusCode::OK).with_body(Body::Bytes(Bytes::from_static(b"hi")));
        let head = "HTTP/1.1 200 OK\r\n[date]Content-Length: 2\r\n";
        let (v10, v11) = (Version::HTTP_10, Version::HTTP_11);
        for (name, to, expected) in [
            ("1.1", recipient(Method::GET, v11, true), format!("{head}\r\nhi")),
            ("1.1 close", recipient(Method::GET, v11, false), format!("{head}Connection: close\r\n\r\nhi")),
            ("1.0", recipient(Method::GET, v10, false), format!("{head}Connection: close\r\n\r\nhi")),
            ("1.0 kept", recipient(Method::GET, v10, true), format!("{head}Connection: keep-alive\r\n\r\nhi")),
            ("HEAD", recipient(Method::HEAD, v11, true), format!("{head}\r\n")),
            ("HEAD 1.0", recipient(Method::HEAD, v10, true), format!("{head}Connection: keep-alive\r\n\r\n")),
            ("stranger", Recipient::STRANGER, format!("{head}Connection: close\r\n\r\nhi")),
        ] {
            assert_eq!(encoded(&ok, &to), expected, "{name}");
        }
    }

    #[test]
    fn framing_follows_the_status() {
        let to = recipient(Method::GET, Version::HTTP_11, true);
        let body = Body::Bytes(Bytes::from_static(b"x"));
        for (status, body, expected) in [
            (200, Body::Empty, "HTTP/1.1 200 OK\r\n[date]Content-Length: 0\r\n\r\n"),
            (200, Body::Streamed(5_000_000_000), "HTTP/1.1 200 OK\r\n[date]Content-Length: 5000000000\r\n\r\n"),
            (404, body.clone(), "HTTP/1.1 404 Not Found\r\n[date]Content-Length: 1\r\n\r\nx"),
            (304, body.clone(), "HTTP/1.1 304 Not Modified\r\n[date]\r\n"),
            (204, body.clone(), "HTTP/1.1 204 No Content\r\n[date]\r\n"),
            (101, body, "HTTP/1.1 101 Switching Protocols\r\n[date]\r\n"),
            (799, Body::Empty, "HTTP/1.1 799 \r\n[date]Content-Length: 0\r\n\r\n"),
        ] {
            let response = Response::new(StatusCode::from_u16(status).unwrap()).with_body(body);
            assert_eq!(encoded(&response, &to), expected, "{status}");
        }
    }

    #[test]
    fn an_upgrade_has_the_fields_it_was_given_and_no_other() {
        let response = Response::new(StatusCode::SWITCHING_PROTOCOLS)
            .with("Connection", &HeaderValue::from_static("Upgrade"))
            .with("Upgrade", &HeaderValue::from_static("websocket"));
        let to = recipient(Method::GET, Version::HTTP_11, false);
        assert_eq!(
            encoded(&response, &to),
            "HTTP/1.1 101 Switching Protocols\r\n[date]Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
    }

    #[test]
    fn a_refusal_can_be_read() {
        let text = encoded(&Response::refusal(&Fault::bad_request("The request has no Host.")), &Recipient::STRANGER);
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        for part in [
            "Content-Type: text/plain; charset=utf-8\r\n",
            "X-Content-Type-Options: nosniff\r\n",
            "Content-Length: 42\r\n",
            "Connection: close\r\n",
            "\r\n\r\n400 Bad Request\n\nThe request has no Host.\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        let text = encoded(&Response::method_not_allowed("GET, HEAD"), &Recipient::STRANGER);
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{text}");
        assert!(text.contains("\r\nAllow: GET, HEAD\r\n"), "{text}");
    }

    #[test]
    fn a_small_body_is_copied_and_a_large_one_shared() {
        for (length, is_shared) in [(0, false), (INLINE_BODY_BYTES, false), (INLINE_BODY_BYTES + 1, true)] {
            let content = Bytes::from(vec![b'x'; length]);
            let response = Response::new(StatusCode::OK).with_body(Body::Bytes(content.clone()));
            let Encoded { head, body } = response.encode(&recipient(Method::GET, Version::HTTP_11, true), DATE);
            match body {
                Some(body) => assert_eq!(body.as_ptr(), content.as_ptr()),
                None => assert!(head.ends_with(&content)),
            }
            assert_eq!(head.ends_with(b"\r\n\r\n"), is_shared || length == 0, "{length}");
        }
    }
}
