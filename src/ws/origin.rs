//! Which pages may open a WebSocket here (RFC 6455, section 10.2).
//!
//! A browser sends the cookies and the network position of its user with a WebSocket of any page, and no rule of its own
//! stops it; it only says which page asked, in `Origin` (RFC 6454, section 7). Clients that are no browsers may leave it out, and
//! can do no more than their own host can.

use std::fmt;
use std::net::Ipv6Addr;

use http::{HeaderMap, StatusCode, header};

use super::upgrade::Refusal;

/// Bytes of the longest origin that is looked at: a scheme, a host name at its limit of 253, and a port.
const MAX_ORIGIN_BYTES: usize = 300;

/// The origins that may connect besides the server's own: the values of `--allow-origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPolicy {
    /// `None` allows every page.
    listed: Option<Vec<Origin>>,
}

/// A value of `--allow-origin` that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin: write https://example.org, with a port where it is not the usual one, or * for all")]
pub struct InvalidOrigin(String);

/// Why a page was refused, in a sentence for the log. It names the option that would let the page in, holds no control
/// character, is at most 1 KiB long, and can be pasted into a shell as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRefused {
    sentence: String,
}

impl fmt::Display for OriginRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for OriginRefused {}

impl From<OriginRefused> for Refusal {
    /// The client is told less than the log: which option opens the server is its operator's business.
    fn from(_: OriginRefused) -> Refusal {
        Refusal {
            status: StatusCode::FORBIDDEN,
            message: "Pages of this origin may not open a WebSocket here.".into(),
            headers: &[],
        }
    }
}

impl OriginPolicy {
    /// A policy that allows the server's own pages and these origins; `*` among them allows everything.
    ///
    /// # Errors
    ///
    /// Fails with the first value that is neither `*` nor an origin. A slash at its end is forgiven.
    pub fn new(allowed: &[String]) -> Result<Self, InvalidOrigin> {
        let mut listed = Vec::new();
        let mut everyone = false;
        for value in allowed {
            if value == "*" {
                everyone = true;
                continue;
            }
            let origin = Origin::parse(value.strip_suffix('/').unwrap_or(value));
            listed.push(origin.ok_or_else(|| InvalidOrigin(value.clone()))?);
        }
        Ok(OriginPolicy { listed: if everyone { None } else { Some(listed) } })
    }

    /// Whether a request with these headers may become a WebSocket of `host`, the authority that the client asked for
    /// (`Host`, or what a trusted proxy says it was).
    ///
    /// # Errors
    ///
    /// Fails for an `Origin` that is neither that of `host` nor listed, and for one that is `null`, malformed or given
    /// more than once. A request without any is no page's, and allowed.
    pub fn check(&self, headers: &HeaderMap, host: Option<&str>) -> Result<(), OriginRefused> {
        let Some(listed) = &self.listed else { return Ok(()) };
        let mut values = headers.get_all(header::ORIGIN).iter();
        let Some(value) = values.next() else { return Ok(()) };
        if values.next().is_some() {
            return Err(OriginRefused::without_option("a request with several origins"));
        }
        if value == "null" {
            return Err(OriginRefused::without_option(
                "a page without an origin (a local file, or a frame in a sandbox)",
            ));
        }
        let Some(origin) = value.to_str().ok().and_then(Origin::parse) else {
            return Err(OriginRefused::without_option("a request with a malformed origin"));
        };
        let here = host.and_then(|host| Authority::parse(host, origin.default_port()));
        let same = origin.default_port().is_some() && here.as_ref() == Some(&origin.authority);
        if same || listed.contains(&origin) {
            return Ok(());
        }
        let here = here.map_or_else(|| "this server".to_owned(), |here| here.to_string());
        let sentence =
            format!("a page of {origin} may not open a WebSocket of {here}; --allow-origin {origin} would allow it");
        Err(OriginRefused { sentence })
    }
}

impl OriginRefused {
    /// Refuses somebody whom only a server open to all would let in.
    fn without_option(who: &str) -> OriginRefused {
        OriginRefused {
            sentence: format!("{who} may not open a WebSocket here; only --allow-origin '*' would allow it"),
        }
    }
}

/// Scheme, host and port (RFC 6454, section 4), in the one form in which they can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    /// In lower case.
    scheme: String,
    authority: Authority,
}

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        if text.len() > MAX_ORIGIN_BYTES {
            return None;
        }
        let (scheme, authority) = text.split_once("://")?;
        let wellformed = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !wellformed {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let authority = Authority::parse(authority, default_port(&scheme))?;
        Some(Origin { scheme, authority })
    }

    fn default_port(&self) -> Option<u16> {
        default_port(&self.scheme)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// The port that goes without saying, for the schemes of web pages.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// A host in lower case, and its port unless it is the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// Takes a name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
    ///
    /// Other characters that RFC 3986 allows in a name do not occur in a browser's origins, and would not be safe in the
    /// sentence that the operator is asked to copy.
    fn parse(text: &str, default_port: Option<u16>) -> Option<Authority> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (format!("[{address}]"), if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => {
                let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                let wellformed =
                    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
                (wellformed.then(|| host.to_ascii_lowercase())?, port)
            }
        };
        if host.len() > MAX_ORIGIN_BYTES {
            return None;
        }
        let port = match port {
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(Authority { host, port: port.filter(|&port| Some(port) != default_port) })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The values of the `Origin` fields of one request.
    type Origins<'a> = &'a [&'a [u8]];

    fn policy(allowed: &[&str]) -> OriginPolicy {
        OriginPolicy::new(&allowed.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("a valid list")
    }

    fn check(allowed: &[&str], origins: Origins, host: Option<&str>) -> Result<(), OriginRefused> {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_bytes(origin).expect("a header value"));
        }
        policy(allowed).check(&headers, host)
    }

    #[test]
    fn pages_of_the_same_host_and_no_pages_at_all_are_let_in() {
        let table: [(&str, Origins, Option<&str>); 15] = [
            ("no page", &[], Some("example.org")),
            ("no page, no host", &[], None),
            ("the same", &[b"http://example.org"], Some("example.org")),
            ("case", &[b"HTTP://Example.ORG"], Some("eXample.org")),
            ("port", &[b"http://example.org:8080"], Some("example.org:8080")),
            ("default port in the host", &[b"http://example.org"], Some("example.org:80")),
            ("default port in the origin", &[b"http://example.org:80"], Some("example.org")),
            ("behind a proxy with TLS", &[b"https://example.org"], Some("example.org")),
            ("default port of https in the host", &[b"https://example.org"], Some("example.org:443")),
            ("https elsewhere", &[b"https://example.org:8443"], Some("example.org:8443")),
            ("IPv4", &[b"http://127.0.0.1:8080"], Some("127.0.0.1:8080")),
            ("IPv6", &[b"http://[::1]:8080"], Some("[::1]:8080")),
            ("IPv6, default port", &[b"http://[::1]"], Some("[::1]:80")),
            ("IPv6, written out", &[b"http://[2001:db8::A]"], Some("[2001:0DB8:0:0::a]")),
            ("empty port", &[b"http://example.org"], Some("example.org:")),
        ];
        for (name, origins, host) in table {
            assert_eq!(check(&[], origins, host), Ok(()), "{name}");
        }
    }

    #[test]
    fn listed_origins_are_let_in_and_only_they() {
        let listed = ["https://example.org", "http://localhost:5173/", "app://chat", "http://[::1]:80"];
        let table: [(&[u8], bool); 12] = [
            (b"https://example.org", true),
            (b"https://EXAMPLE.org:443", true),
            (b"http://example.org", false),
            (b"https://example.org:8443", false),
            (b"https://sub.example.org", false),
            (b"https://example.org.evil.net", false),
            (b"http://localhost:5173", true),
            (b"http://localhost", false),
            (b"app://chat", true),
            (b"http://[::1]", true),
            (b"null", false),
            (b"", false),
        ];
        for (origin, allowed) in table {
            let name = String::from_utf8_lossy(origin);
            assert_eq!(check(&listed, &[origin], Some("chat.example.org")).is_ok(), allowed, "{name}");
            assert_eq!(check(&listed, &[origin], None).is_ok(), allowed, "{name}, no host");
            assert_eq!(check(&["*"], &[origin], None), Ok(()), "{name}, open to all");
        }
    }

    #[test]
    fn a_refusal_names_the_option_that_would_allow_it() {
        let all = "only --allow-origin '*' would allow it";
        let long = format!("http://{}", "a".repeat(400));
        let table: [(&str, Origins, &str); 15] = [
            ("other host", &[b"http://evil.net"], "--allow-origin http://evil.net would allow it"),
            ("other port", &[b"http://example.org:81"], "--allow-origin http://example.org:81 would allow it"),
            ("other default", &[b"https://example.org:80"], "--allow-origin https://example.org:80 would allow it"),
            ("other scheme", &[b"ftp://example.org"], "--allow-origin ftp://example.org would allow it"),
            ("normal form", &[b"HTTPS://Evil.net:443"], "--allow-origin https://evil.net would allow it"),
            ("null", &[b"null"], all),
            ("twice", &[b"http://example.org", b"http://example.org"], all),
            ("path", &[b"http://example.org/"], all),
            ("user", &[b"http://me@example.org"], all),
            ("list", &[b"http://example.org http://example.org"], all),
            ("no scheme", &[b"example.org"], all),
            ("bad port", &[b"http://example.org:+80"], all),
            ("large port", &[b"http://example.org:65536"], all),
            ("shell", &[b"http://$(reboot)"], all),
            ("long", &[long.as_bytes()], all),
        ];
        for (name, origins, option) in table {
            let refused = check(&[], origins, Some("example.org")).expect_err(name).to_string();
            assert!(refused.ends_with(option), "{name}: {refused}");
        }
        assert_eq!(
            check(&[], &[b"http://evil.net"], Some("example.org:80")).expect_err("refused").to_string(),
            "a page of http://evil.net may not open a WebSocket of example.org; --allow-origin http://evil.net would \
             allow it"
        );
    }

    #[test]
    fn whatever_is_sent_the_sentence_is_short_and_printable() {
        let long = "h".repeat(5_000);
        for origin in
            [&b"http://a\tb"[..], b"http://\xff", b"http://a'b", b"[", b"://", b"http://[::1", b"http://[::1]x"]
        {
            for host in [None, Some(long.as_str()), Some("\u{7f}\n"), Some("[::1")] {
                let sentence = check(&[], &[origin], host).expect_err("refused").to_string();
                assert!(sentence.len() < 1024 && !sentence.contains(char::is_control), "{sentence}");
            }
        }
        let longest = format!("http://{}", "a".repeat(MAX_ORIGIN_BYTES - 7));
        let sentence = check(&[], &[longest.as_bytes()], Some(&long)).expect_err("refused").to_string();
        assert!(sentence.len() < 1024 && sentence.contains("this server"), "{sentence}");
    }

    #[test]
    fn the_list_takes_origins_only() {
        for value in ["", "example.org", "http://", "http://a/b", "null", "https://*.example.org", "1http://a"] {
            let error = OriginPolicy::new(&[value.to_owned()]).expect_err(value);
            assert!(error.to_string().contains("is not an origin"), "{error}");
        }
    }
}
