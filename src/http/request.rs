//! A request head and what it means (RFC 9110, section 7; RFC 9112, sections 3, 5 and 9).

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use httparse::{EMPTY_HEADER, Status};
use smallvec::{SmallVec, smallvec};

use super::framing::{self, Content};
use super::head::{Head, TOO_MANY_FIELDS};
use super::{Fault, Recipient, host, list};

/// Fields for which parsing needs no memory from the heap: more than browsers send.
const USUAL_FIELDS: usize = 24;

/// A whole request head that was understood.
///
/// Header values and the target are slices of the head as it was received. Who keeps one for long should copy it.
#[derive(Debug, Clone)]
pub struct Request {
    /// A method of RFC 9110 or PATCH, never CONNECT.
    pub method: Method,
    /// Path and query, still percent-encoded, or `*` for `OPTIONS *`.
    pub target: Target,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields. `Host` is present and valid except with HTTP/1.0, and is the authority of the target if that had one.
    pub headers: HeaderMap,
    /// What follows the head. It is not read yet: a request with content is the last of its connection.
    pub content: Content,
    /// Whether the connection may live on after the response.
    pub keep_alive: bool,
    /// Whether it may if the content is received as well.
    pub may_keep_alive: bool,
}

impl Request {
    /// To whom a response to this request goes.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient { version: self.version, method: self.method.clone(), keep_alive: self.keep_alive }
    }

    /// Whether the client waits for `100 Continue` before it sends the content (RFC 9110, section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.version == Version::HTTP_11
            && self.content != Content::None
            && list::contains(&self.headers, &EXPECT, "100-continue")
    }

    /// The value of `Host`; empty for an HTTP/1.0 request without one.
    #[must_use]
    pub fn host(&self) -> &str {
        self.headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The target of a request: a path that begins with a slash and perhaps a query, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(PathAndQuery);

impl Target {
    /// The path, percent-encoded as it came.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// What stands after the first question mark, percent-encoded as it came.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// Path and query as they came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Reads a whole head.
pub(super) fn read(bytes: &Bytes, head: Head) -> Result<Request, Fault> {
    let Head { method, version, target, fields_start, fields, end } = head;
    let mut headers = read_fields(bytes, fields_start..end, fields)?;
    check_host(version, &headers)?;
    let (target, authority) = read_target(&method, bytes.slice(target))?;
    if let Some(authority) = authority {
        // RFC 9112, section 3.2.2: what Host says is ignored then.
        headers.insert(HOST, authority);
    }
    let content = framing::content(version, &headers)?;
    check_expectation(version, &headers)?;
    let may_keep_alive = wants_keep_alive(version, &headers);
    let keep_alive = content == Content::None && may_keep_alive;
    Ok(Request { method, target, version, headers, content, keep_alive, may_keep_alive })
}

fn read_fields(bytes: &Bytes, range: std::ops::Range<usize>, count: usize) -> Result<HeaderMap, Fault> {
    let mut fields: SmallVec<[httparse::Header<'_>; USUAL_FIELDS]> = smallvec![EMPTY_HEADER; count];
    match httparse::parse_headers(&bytes[range.clone()], &mut fields) {
        // Both have to see the same end of the head, else a field could hide a request.
        Ok(Status::Complete((length, parsed))) if length == range.len() && parsed.len() == count => {}
        _ => return Err(Fault::bad_request("A header field is malformed.")),
    }
    let Ok(mut headers) = HeaderMap::try_with_capacity(count) else { return Err(TOO_MANY_FIELDS) };
    for field in &fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Fault::bad_request("A header field is malformed."));
        };
        headers.try_append(name, value).map_err(|_| TOO_MANY_FIELDS)?;
    }
    Ok(headers)
}

/// RFC 9112, section 3.2.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Fault> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (None, _) => Err(Fault::bad_request("The request has no Host.")),
        (Some(_), Some(_)) => Err(Fault::bad_request("The request has more than one Host.")),
        (Some(value), None) if host::is_valid(value.as_bytes()) => Ok(()),
        (Some(_), None) => Err(Fault::bad_request("The Host of the request is not valid.")),
    }
}

/// The target, and the authority if it is in absolute form (RFC 9112, section 3.2).
fn read_target(method: &Method, text: Bytes) -> Result<(Target, Option<HeaderValue>), Fault> {
    const INVALID: Fault = Fault::bad_request("The target of the request is not valid.");
    let path_and_query = |text| PathAndQuery::from_maybe_shared(text).map(Target).map_err(|_| INVALID);
    match text.as_ref() {
        [b'/', ..] => Ok((path_and_query(text)?, None)),
        b"*" if method == Method::OPTIONS => Ok((path_and_query(text)?, None)),
        _ => {
            let start = scheme_length(&text).ok_or(INVALID)?;
            let length = text[start..].iter().position(|byte| b"/?".contains(byte)).unwrap_or(text.len() - start);
            let authority = text.slice(start..start + length);
            if !host::is_valid(&authority) {
                return Err(INVALID);
            }
            let rest = match text.slice(start + length..) {
                rest if rest.starts_with(b"/") => rest,
                rest => [b"/", rest.as_ref()].concat().into(),
            };
            let authority = HeaderValue::from_maybe_shared(authority).map_err(|_| INVALID)?;
            Ok((path_and_query(rest)?, Some(authority)))
        }
    }
}

/// The length of `http://` or `https://`, in any case, if the target begins with it.
fn scheme_length(target: &[u8]) -> Option<usize> {
    ["http://", "https://"]
        .iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes())))
        .map(|scheme| scheme.len())
}

/// RFC 9110, section 10.1.1: HTTP/1.0 expects nothing, and nothing but `100-continue` can be expected.
fn check_expectation(version: Version, headers: &HeaderMap) -> Result<(), Fault> {
    let is_met = version == Version::HTTP_10
        || list::elements(headers, &EXPECT).all(|element| element.eq_ignore_ascii_case(b"100-continue"));
    if is_met {
        Ok(())
    } else {
        Err(Fault::new(StatusCode::EXPECTATION_FAILED, "What the request expects cannot be met."))
    }
}

/// RFC 9112, section 9.3.
fn wants_keep_alive(version: Version, headers: &HeaderMap) -> bool {
    if !headers.contains_key(CONNECTION) {
        return version == Version::HTTP_11;
    }
    !list::contains(headers, &CONNECTION, "close")
        && (version == Version::HTTP_11 || list::contains(headers, &CONNECTION, "keep-alive"))
}
