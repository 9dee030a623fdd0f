//! Where the clients connect to: the URL, its addresses, and the source addresses they come from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::trust::Secure;

/// Connections from one source address to one destination, well below what the usual range of local ports gives.
const CLIENTS_PER_SOURCE: usize = 20_000;

/// Where the usual range of local ports begins.
const FIRST_PORT: u16 = 32_768;

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `ws://`: over TCP.
    Ws,
    /// `wss://`: over TLS.
    Wss,
}

/// A `ws://` or `wss://` URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Host and port as they stand in the URL, for the `Host` field.
    pub authority: String,
    /// Path and query, at least `/`.
    pub path: String,
    host: String,
    port: u16,
}

impl Target {
    /// Takes `url` apart; the error is a sentence.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = match url.split_once("://") {
            Some(("ws", rest)) => (Scheme::Ws, rest),
            Some(("wss", rest)) => (Scheme::Wss, rest),
            _ => return Err(format!("`{url}` is no WebSocket URL; it should look like ws://127.0.0.1:8080/")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_bytes);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7F) {
            return Err(format!("`{url}` has a blank or control character in its path"));
        }

        let wrong = |what: &str| format!("`{url}` {what}");
        if authority.contains('@') {
            return Err(wrong("has a name and a password, which nobody is told"));
        }
        if authority.parse::<Ipv6Addr>().is_ok() {
            return Err(wrong("has an IPv6 address without brackets; it should look like ws://[::1]:8080/"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (host, behind) = inner.split_once(']').ok_or_else(|| wrong("has a bracket that is not closed"))?;
                if host.parse::<Ipv6Addr>().is_err() {
                    return Err(wrong("has something else than an IPv6 address in brackets"));
                }
                let port = behind.strip_prefix(':').or(behind.is_empty().then_some(""));
                (host, port.ok_or_else(|| wrong("has something else than a port behind its address"))?)
            }
            None => authority.split_once(':').unwrap_or((authority, "")),
        };
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        let port = match port {
            "" => scheme.usual_port(),
            digits => digits.parse().map_err(|_| wrong("has a port that is not a number below 65536"))?,
        };
        Ok(Target { scheme, authority: authority.to_owned(), path, host: host.to_owned(), port })
    }

    /// The same place of a server that was just started here, at `port`.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Self {
        let host = "127.0.0.1".to_owned();
        Target { scheme: self.scheme, authority: format!("{host}:{port}"), path: self.path.clone(), host, port }
    }

    /// The room that the query names, as chat.v1 is told it; `lobby` without one.
    pub fn room(&self) -> String {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let named = query.split('&').find_map(|pair| pair.strip_prefix("room="));
        named.filter(|room| !room.is_empty()).map_or_else(|| "lobby".to_owned(), decode_percent)
    }

    /// How to be sure of this server by means of `tls`; nothing if it is spoken to without. The error is a sentence.
    ///
    /// # Panics
    /// For a `wss://` target without `tls`: it would be spoken to in the clear.
    pub fn secure(&self, tls: Option<&Arc<ClientConfig>>) -> Result<Option<Secure>, String> {
        let config = match self.scheme {
            Scheme::Ws => return Ok(None),
            Scheme::Wss => tls.expect("made for any wss target"),
        };
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|_| format!("`{}` is no name that a certificate could be for", self.host))?;
        Ok(Some(Secure { config: Arc::clone(config), name }))
    }

    /// Looks the host up; the error is a sentence.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses: Vec<SocketAddr> = found.map_err(|err| format!("cannot look up {}: {err}", self.host))?.collect();
        // A server on `localhost` may listen on IPv4 only, and then `::1` would be refused.
        let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        first.copied().ok_or_else(|| format!("{} has no address", self.host))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl Scheme {
    fn usual_port(self) -> u16 {
        match self {
            Scheme::Ws => 80,
            Scheme::Wss => 443,
        }
    }
}

/// `%20` and `+` become what they stand for.
fn decode_percent(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut rest = bytes.clone();
        let digits = [rest.next(), rest.next()].map(|digit| char::from(digit.unwrap_or_default()).to_digit(16));
        out.push(match (byte, digits) {
            (b'%', [Some(high), Some(low)]) => {
                bytes = rest;
                (high * 16 + low) as u8
            }
            (b'+', _) => b' ',
            (byte, _) => byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The source address of client `index` of `clients`; `None` leaves the choice to the kernel.
///
/// A source address has about 28,000 ports for one destination. On the loopback network there are 16 million
/// addresses to come from, and many clients take turns with as many of them as they need. The port is chosen as well: the
/// kernel, which does not know yet where the socket will connect to, searches milliseconds for a free one among thousands.
pub fn source_for(index: usize, clients: usize, server: SocketAddr) -> Option<SocketAddr> {
    let loopback = matches!(server.ip(), IpAddr::V4(ip) if ip.is_loopback());
    if !loopback || clients <= CLIENTS_PER_SOURCE {
        return None;
    }
    let sources = clients.div_ceil(CLIENTS_PER_SOURCE);
    let offset = (index % sources) as u32;
    let ip = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + offset);
    let port = FIRST_PORT + (index / sources % CLIENTS_PER_SOURCE) as u16;
    Some(SocketAddr::from((ip, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Trust;

    #[test]
    fn urls() {
        let target = |authority: &str, path: &str, host: &str, port| {
            let (authority, path, host) = (authority.into(), path.into(), host.into());
            Ok(Target { scheme: Scheme::Ws, authority, path, host, port })
        };
        let table = [
            ("ws://127.0.0.1:8080", target("127.0.0.1:8080", "/", "127.0.0.1", 8080)),
            ("ws://a:1/b/c?room=x#y", target("a:1", "/b/c?room=x", "a", 1)),
            ("ws://a?room=x", target("a", "/?room=x", "a", 80)),
            ("ws://[::1]:99/", target("[::1]:99", "/", "::1", 99)),
            ("ws://[::1]", target("[::1]", "/", "::1", 80)),
        ];
        for (url, expected) in table {
            assert_eq!(Target::parse(url), expected, "{url}");
        }
        for (url, port) in [("wss://a/?b", 443), ("wss://a:8443/?b", 8443)] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.scheme, target.port, target.to_string()), (Scheme::Wss, port, url.to_owned()));
        }
        let table = [
            ("", "is no WebSocket URL; it should look like ws://127.0.0.1:8080/"),
            ("http://a", "is no WebSocket URL; it should look like ws://127.0.0.1:8080/"),
            ("a:80", "is no WebSocket URL; it should look like ws://127.0.0.1:8080/"),
            ("wss://", "names no host"),
            ("ws://", "names no host"),
            ("ws://:80", "names no host"),
            ("ws://me:secret@a", "has a name and a password, which nobody is told"),
            ("ws://a:b", "has a port that is not a number below 65536"),
            ("ws://a:70000", "has a port that is not a number below 65536"),
            ("ws://a/ b", "has a blank or control character in its path"),
            ("wss://[::1", "has a bracket that is not closed"),
            ("wss://[::1:8080/]", "has a bracket that is not closed"),
            ("wss://[]", "has something else than an IPv6 address in brackets"),
            ("ws://[a]:80", "has something else than an IPv6 address in brackets"),
            ("ws://[::1]80", "has something else than a port behind its address"),
            ("ws://[::1]:b", "has a port that is not a number below 65536"),
            ("ws://::1", "has an IPv6 address without brackets; it should look like ws://[::1]:8080/"),
            ("ws://2001:db8::1", "has an IPv6 address without brackets; it should look like ws://[::1]:8080/"),
        ];
        for (url, wrong) in table {
            assert_eq!(Target::parse(url), Err(format!("`{url}` {wrong}")));
        }
    }

    #[test]
    fn only_wss_is_spoken_over_tls() {
        let config = Trust::Anybody.config().unwrap();
        let table =
            [("ws://a", Ok(false)), ("wss://a", Ok(true)), ("wss://127.0.0.1", Ok(true)), ("wss://a_b!", Err(()))];
        for (url, expected) in table {
            let secure = Target::parse(url).unwrap().secure(Some(&config));
            assert_eq!(secure.map(|secure| secure.is_some()).map_err(|_| ()), expected, "{url}");
        }
        assert!(Target::parse("ws://a").unwrap().secure(None).unwrap().is_none());
    }

    #[test]
    #[should_panic(expected = "made for any wss target")]
    fn wss_is_never_spoken_in_the_clear() {
        let _ = Target::parse("wss://a").unwrap().secure(None);
    }

    #[test]
    fn rooms() {
        let table = [
            ("ws://a", "lobby"),
            ("ws://a/?room=", "lobby"),
            ("ws://a/b?x=1&room=load", "load"),
            ("ws://a/?room=%C3%A4+b%20c%2", "\u{e4} b c%2"),
        ];
        for (url, room) in table {
            assert_eq!(Target::parse(url).unwrap().room(), room, "{url}");
        }
    }

    #[test]
    fn sources() {
        let local = "127.0.0.1:80".parse().unwrap();
        let table: &[(&str, usize, usize, &str, Option<&str>)] = &[
            ("few", 0, 20_000, "127.0.0.1:80", None),
            ("first of many", 0, 20_001, "127.0.0.1:80", Some("127.0.0.1:32768")),
            ("second of many", 1, 20_001, "127.0.0.1:80", Some("127.0.0.2:32768")),
            ("they take turns", 2, 20_001, "127.0.0.1:80", Some("127.0.0.1:32769")),
            ("elsewhere", 1, 50_000, "192.0.2.1:80", None),
            ("IPv6", 1, 50_000, "[::1]:80", None),
        ];
        for (name, index, clients, server, expected) in table {
            let expected = expected.map(|source| source.parse().unwrap());
            assert_eq!(source_for(*index, *clients, server.parse().unwrap()), expected, "{name}");
        }
        let mut sources: Vec<SocketAddr> = (0..60_000).filter_map(|index| source_for(index, 60_000, local)).collect();
        sources.sort();
        sources.dedup();
        assert_eq!((sources.len(), sources.last()), (60_000, Some(&"127.0.0.3:52767".parse().unwrap())));
    }
}
