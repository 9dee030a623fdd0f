//! Who the client is, behind proxies that are trusted (RFC 7239, and the `X-Forwarded-*` fields that came before it).
//!
//! A proxy appends whom it got the request from, so the lists are walked from the right, and only as far as each
//! address that told us the next is trusted: everything to the left of that may be invented by the client. Values that
//! are malformed are ignored, and end the walk.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::{host, list};

/// What is known of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its address: that of the peer, or what trusted proxies say.
    pub addr: IpAddr,
    /// The host it asked for, if a trusted proxy says so; else `Host` of the request holds.
    pub host: Option<String>,
    /// How it spoke to the outermost trusted proxy, if that says so.
    pub scheme: Option<Scheme>,
}

/// How a client speaks to the proxy before us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// Who the client is, given the peer of the connection.
///
/// Where a request has both `X-Forwarded-For` and `Forwarded`, the former holds: it is what most proxies set, and those
/// pass the other on as the client sent it.
#[must_use]
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Client {
    let peer = peer.to_canonical();
    let is_trusted = |addr: IpAddr| trusted.iter().any(|network| network.contains(&addr));
    if !is_trusted(peer) {
        return Client { addr: peer, host: None, scheme: None };
    }
    if !headers.contains_key(&X_FORWARDED_FOR) && headers.contains_key(http::header::FORWARDED) {
        return from_forwarded(peer, headers, is_trusted);
    }
    let addrs: Vec<&[u8]> = list::elements(headers, &X_FORWARDED_FOR).collect();
    let (addr, hops) = walk(peer, addrs.iter().rev().map(|text| parse_node(text)), is_trusted);
    let host = nth_from_right(headers, &X_FORWARDED_HOST, hops).and_then(parse_host);
    let scheme = nth_from_right(headers, &X_FORWARDED_PROTO, hops).and_then(parse_scheme);
    Client { addr, host, scheme }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Walks the nodes, the nearest first. Gives the client's address and how many trusted proxies in a row have spoken.
fn walk(
    peer: IpAddr,
    nodes: impl Iterator<Item = Option<IpAddr>>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> (IpAddr, usize) {
    let mut addr = peer;
    let mut hops = 1;
    for node in nodes {
        let Some(node) = node else { break };
        addr = node;
        if !is_trusted(addr) {
            break;
        }
        hops += 1;
    }
    (addr, hops)
}

/// The element that the outermost trusted proxy has added, or the leftmost, if proxies replace it rather than append.
fn nth_from_right<'a>(headers: &'a HeaderMap, name: &HeaderName, hops: usize) -> Option<&'a [u8]> {
    let elements: Vec<&[u8]> = list::elements(headers, name).collect();
    elements.get(elements.len().saturating_sub(hops)).copied()
}

fn from_forwarded(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Client {
    let mut client = Client { addr: peer, host: None, scheme: None };
    let mut elements: Vec<Option<Element>> = Vec::new();
    for line in headers.get_all(http::header::FORWARDED) {
        parse_forwarded(line.as_bytes(), &mut elements);
    }
    for element in elements.into_iter().rev() {
        let Some(element) = element else { break };
        // Each trusted proxy tells more of the client than the one before it, and what it does not say, none says.
        client.host = element.host;
        client.scheme = element.scheme;
        let Some(addr) = element.addr else { break };
        client.addr = addr;
        if !is_trusted(addr) {
            break;
        }
    }
    client
}

/// What one proxy says (RFC 7239, section 4).
#[derive(Debug, Default)]
struct Element {
    addr: Option<IpAddr>,
    host: Option<String>,
    scheme: Option<Scheme>,
}

/// Appends the elements of one line, `None` for each that is malformed.
fn parse_forwarded(line: &[u8], elements: &mut Vec<Option<Element>>) {
    elements.extend(split_outside_quotes(line, b',').filter(|text| !list::trim(text).is_empty()).map(parse_element));
}

fn parse_element(text: &[u8]) -> Option<Element> {
    let mut element = Element::default();
    for pair in split_outside_quotes(text, b';') {
        let pair = list::trim(pair);
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].to_ascii_lowercase(), unquote(&pair[equals + 1..])?);
        match name.as_slice() {
            b"for" => element.addr = parse_node(&value),
            b"host" => element.host = parse_host(&value),
            b"proto" => element.scheme = parse_scheme(&value),
            _ => {}
        }
    }
    Some(element)
}

fn split_outside_quotes(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.split(move |byte| {
        let escaped = std::mem::replace(&mut is_escaped, false);
        match byte {
            _ if escaped => false,
            b'\\' if is_quoted => {
                is_escaped = true;
                false
            }
            b'"' => {
                is_quoted = !is_quoted;
                false
            }
            _ => *byte == separator && !is_quoted,
        }
    })
}

/// A token as it is, or the content of a quoted string (RFC 9110, section 5.6.4).
fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    match text {
        [b'"', inner @ .., b'"'] => {
            let mut content = Vec::with_capacity(inner.len());
            let mut bytes = inner.iter();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\\' => content.push(*bytes.next()?),
                    b'"' => return None,
                    _ => content.push(*byte),
                }
            }
            Some(content)
        }
        _ if text.contains(&b'"') => None,
        _ => Some(text.to_vec()),
    }
}

/// An address, with or without brackets and port; `None` for what is unknown or hidden (RFC 7239, section 6).
fn parse_node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let addr = text.parse::<IpAddr>().ok().or_else(bracketed);
    let addr = addr.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    addr.map(|addr| addr.to_canonical())
}

fn parse_host(text: &[u8]) -> Option<String> {
    if host::is_valid(text) { String::from_utf8(text.to_vec()).ok() } else { None }
}

fn parse_scheme(text: &[u8]) -> Option<Scheme> {
    match text {
        _ if text.eq_ignore_ascii_case(b"http") || text.eq_ignore_ascii_case(b"ws") => Some(Scheme::Http),
        _ if text.eq_ignore_ascii_case(b"https") || text.eq_ignore_ascii_case(b"wss") => Some(Scheme::Https),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn clients_behind_proxies() {
        use Scheme::{Http, Https};
        const FOR: &str = "x-forwarded-for";
        const HOST: &str = "x-forwarded-host";
        const PROTO: &str = "x-forwarded-proto";
        const FORWARDED: &str = "forwarded";
        const PROXY: &str = "10.0.0.1";
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8", "::1/128"].map(|text| text.parse().unwrap()).to_vec();
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, Option<&'a str>, Option<Scheme>);
        let cases: &[Case<'_>] = &[
            (
                "not a proxy",
                "192.0.2.7",
                &[(FOR, "198.51.100.1"), (HOST, "evil"), (PROTO, "https")],
                "192.0.2.7",
                None,
                None,
            ),
            ("no fields", PROXY, &[], PROXY, None, None),
            ("nginx", PROXY, &[(FOR, "198.51.100.1")], "198.51.100.1", None, None),
            ("spoofed by the client", PROXY, &[(FOR, "203.0.113.9, 198.51.100.1")], "198.51.100.1", None, None),
            ("two proxies", PROXY, &[(FOR, "198.51.100.1, 10.0.0.2")], "198.51.100.1", None, None),
            ("two lines", PROXY, &[(FOR, "198.51.100.1"), (FOR, "10.0.0.2")], "198.51.100.1", None, None),
            ("all trusted", PROXY, &[(FOR, "10.0.0.3, 10.0.0.2")], "10.0.0.3", None, None),
            ("malformed", PROXY, &[(FOR, "somebody")], PROXY, None, None),
            ("malformed on the way", PROXY, &[(FOR, "198.51.100.1, x, 10.0.0.2")], "10.0.0.2", None, None),
            ("port", PROXY, &[(FOR, "198.51.100.1:4711")], "198.51.100.1", None, None),
            ("IPv6", PROXY, &[(FOR, "2001:db8::1")], "2001:db8::1", None, None),
            ("IPv6 brackets", PROXY, &[(FOR, "[2001:db8::1]")], "2001:db8::1", None, None),
            ("IPv6 port", PROXY, &[(FOR, "[2001:db8::1]:4711")], "2001:db8::1", None, None),
            ("mapped", "::ffff:10.0.0.1", &[(FOR, "::ffff:198.51.100.1")], "198.51.100.1", None, None),
            ("mapped stranger", "::ffff:192.0.2.7", &[(FOR, "198.51.100.1")], "192.0.2.7", None, None),
            ("IPv6 proxy", "fd00::1", &[(FOR, "198.51.100.1")], "198.51.100.1", None, None),
            ("empty", PROXY, &[(FOR, " , ")], PROXY, None, None),
            (
                "host",
                PROXY,
                &[(FOR, "198.51.100.1"), (HOST, "chat.example:8443"), (PROTO, "https")],
                "198.51.100.1",
                Some("chat.example:8443"),
                Some(Https),
            ),
            ("host alone", PROXY, &[(HOST, "chat.example")], PROXY, Some("chat.example"), None),
            (
                "host appended to",
                PROXY,
                &[(FOR, "203.0.113.9, 198.51.100.1"), (HOST, "evil, chat.example")],
                "198.51.100.1",
                Some("chat.example"),
                None,
            ),
            (
                "host of two proxies",
                PROXY,
                &[(FOR, "198.51.100.1, 10.0.0.2"), (HOST, "evil, chat.example, inner")],
                "198.51.100.1",
                Some("chat.example"),
                None,
            ),
            (
                "host set once by two",
                PROXY,
                &[(FOR, "198.51.100.1, 10.0.0.2"), (HOST, "chat.example")],
                "198.51.100.1",
                Some("chat.example"),
                None,
            ),
            ("host malformed", PROXY, &[(HOST, "chat.example/path")], PROXY, None, None),
            ("proto of a socket", PROXY, &[(PROTO, "WSS")], PROXY, None, Some(Https)),
            ("proto", PROXY, &[(PROTO, "http")], PROXY, None, Some(Http)),
            ("proto malformed", PROXY, &[(PROTO, "gopher")], PROXY, None, None),
            ("Forwarded", PROXY, &[(FORWARDED, "for=198.51.100.1")], "198.51.100.1", None, None),
            (
                "Forwarded, all",
                PROXY,
                &[(FORWARDED, "For=198.51.100.1;HOST=chat.example;proto=https;by=10.0.0.1")],
                "198.51.100.1",
                Some("chat.example"),
                Some(Https),
            ),
            (
                "Forwarded, quoted",
                PROXY,
                &[(FORWARDED, "for=\"198.51.100.1:4711\";host=\"chat.example:8443\"")],
                "198.51.100.1",
                Some("chat.example:8443"),
                None,
            ),
            ("Forwarded, IPv6", PROXY, &[(FORWARDED, "for=\"[2001:db8::1]:4711\"")], "2001:db8::1", None, None),
            ("Forwarded, escaped", PROXY, &[(FORWARDED, "for=\"198.51.100\\.1\"")], "198.51.100.1", None, None),
            (
                "Forwarded, spoofed",
                PROXY,
                &[(FORWARDED, "for=203.0.113.9;host=evil, for=198.51.100.1;host=chat.example")],
                "198.51.100.1",
                Some("chat.example"),
                None,
            ),
            (
                "Forwarded, two proxies",
                PROXY,
                &[(FORWARDED, "for=198.51.100.1;host=chat.example"), (FORWARDED, "for=10.0.0.2;host=inner")],
                "198.51.100.1",
                Some("chat.example"),
                None,
            ),
            ("Forwarded, unknown", PROXY, &[(FORWARDED, "for=unknown;proto=https")], PROXY, None, Some(Https)),
            (
                "Forwarded, hidden",
                PROXY,
                &[(FORWARDED, "for=198.51.100.1, for=_hidden, for=10.0.0.2")],
                "10.0.0.2",
                None,
                None,
            ),
            (
                "Forwarded, comma in quotes",
                PROXY,
                &[(FORWARDED, "for=198.51.100.1;ext=\"a,b;c\\\"d\";host=h")],
                "198.51.100.1",
                Some("h"),
                None,
            ),
            ("Forwarded, open quote", PROXY, &[(FORWARDED, "for=\"198.51.100.1")], PROXY, None, None),
            ("Forwarded, no pair", PROXY, &[(FORWARDED, "198.51.100.1")], PROXY, None, None),
            (
                "Forwarded behind nginx",
                PROXY,
                &[(FOR, "198.51.100.1"), (FORWARDED, "for=203.0.113.9;host=evil")],
                "198.51.100.1",
                None,
                None,
            ),
        ];
        for (name, peer, fields, addr, host, scheme) in cases {
            let mut headers = HeaderMap::new();
            for (field, value) in *fields {
                headers.append(HeaderName::from_static(field), HeaderValue::from_str(value).unwrap());
            }
            let expected = Client { addr: addr.parse().unwrap(), host: host.map(str::to_owned), scheme: *scheme };
            assert_eq!(client(peer.parse().unwrap(), &headers, &trusted), expected, "{name}");
        }
    }
}
