//! The values that options take, as people write them, and the sentence that says what is accepted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Bytes, with or without a binary unit: `65536`, `64k`, `64KiB`, `8MiB`.
///
/// Values beyond one TiB are refused, so that sums of limits cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size<const LEAST: usize = 1>(usize);

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;
const MOST_BYTES: usize = 1024 * GIB;

impl<const LEAST: usize> FromStr for Size<LEAST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let scale = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => Some(1),
            "k" | "kib" => Some(KIB),
            "m" | "mib" => Some(MIB),
            "g" | "gib" => Some(GIB),
            _ => None,
        };
        scale
            .and_then(|scale| number.parse::<usize>().ok()?.checked_mul(scale))
            .filter(|bytes| (LEAST..=MOST_BYTES).contains(bytes))
            .map(Self)
            .ok_or_else(|| format!("expected bytes such as 65536, 64KiB or 8MiB, from {LEAST} to 1024GiB"))
    }
}

/// Writes bytes in the largest unit that gives a whole number.
impl<const LEAST: usize> fmt::Display for Size<LEAST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scale, unit) = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
            .into_iter()
            .find(|(scale, _)| self.0 > 0 && self.0.is_multiple_of(*scale))
            .unwrap_or((1, " bytes"));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl From<usize> for Size {
    fn from(bytes: usize) -> Self {
        Size(bytes)
    }
}

impl<const LEAST: usize> From<Size<LEAST>> for usize {
    fn from(size: Size<LEAST>) -> usize {
        size.0
    }
}

impl<const LEAST: usize> From<Size<LEAST>> for u32 {
    fn from(size: Size<LEAST>) -> u32 {
        u32::try_from(size.0).unwrap_or(u32::MAX)
    }
}

/// A whole number of things; where zero is allowed it mostly means that there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count<const LEAST: u32 = 1, const MOST: u32 = { u32::MAX }>(u32);

impl<const LEAST: u32, const MOST: u32> FromStr for Count<LEAST, MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.parse().ok().filter(|count| (LEAST..=MOST).contains(count));
        count.map(Count).ok_or_else(|| format!("expected a whole number from {LEAST} to {MOST}"))
    }
}

impl<const LEAST: u32, const MOST: u32> From<Count<LEAST, MOST>> for u32 {
    fn from(count: Count<LEAST, MOST>) -> u32 {
        count.0
    }
}

impl<const LEAST: u32, const MOST: u32> From<Count<LEAST, MOST>> for usize {
    fn from(count: Count<LEAST, MOST>) -> usize {
        count.0 as usize
    }
}

impl<const LEAST: u32, const MOST: u32> From<Count<LEAST, MOST>> for u64 {
    fn from(count: Count<LEAST, MOST>) -> u64 {
        count.0.into()
    }
}

impl<const MOST: u32> From<Count<MOST>> for Option<usize> {
    fn from(count: Count<MOST>) -> Option<usize> {
        Some(count.into())
    }
}

/// A duration with its unit: `500ms`, `30s`, `2m`, `1h`. A bare number is refused, except `0` where it is allowed.
///
/// Durations beyond a year are refused, so that a deadline can always be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<const LEAST_MILLIS: u64 = 1>(Duration);

const MOST_MILLIS: u64 = 365 * 24 * 3_600_000;

impl<const LEAST_MILLIS: u64> FromStr for Span<LEAST_MILLIS> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let scale = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "" if number == "0" => Some(1),
            _ => None,
        };
        scale
            .and_then(|scale| number.parse::<u64>().ok()?.checked_mul(scale))
            .filter(|millis| (LEAST_MILLIS..=MOST_MILLIS).contains(millis))
            .map(|millis| Span(Duration::from_millis(millis)))
            .ok_or_else(|| format!("expected a duration such as 500ms, 30s or 2m, from {LEAST_MILLIS}ms to 8760h"))
    }
}

impl<const LEAST_MILLIS: u64> From<Span<LEAST_MILLIS>> for Duration {
    fn from(span: Span<LEAST_MILLIS>) -> Duration {
        span.0
    }
}

/// What names on a bus begin with: it becomes part of the names of streams, queues and subjects of any broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BusPrefix(pub(super) String);

impl FromStr for BusPrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !text.is_empty() && text.len() <= 64 && text.chars().all(is_fine) {
            Ok(BusPrefix(text.to_owned()))
        } else {
            Err("expected 1 to 64 letters, digits, - or _")
        }
    }
}

/// A bound on what is kept, told apart by its unit: an age, a number of messages, or a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// No bound.
    All,
    /// Not older than this.
    Age(Duration),
    /// Not more messages.
    Entries(u64),
    /// Not a larger file.
    Bytes(u64),
}

/// A smaller file would hold little but its index.
const LEAST_KEPT_BYTES: u64 = 16 * MIB as u64;
/// So that numbers fit wherever they are counted: a thousand years, and more messages than a disk holds.
const MOST_KEPT_SECONDS: u64 = 1_000 * 365 * 86_400;
const MOST_KEPT_ENTRIES: u64 = 1 << 48;

impl FromStr for Keep {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected all, an age such as 90d or 12h, a number of messages such as 1000000, \
                                or a size from 16MiB such as 10GiB";
        if text == "all" {
            return Ok(Keep::All);
        }
        let (number, unit) = split_unit(text);
        let number = number.parse::<u64>().ok().filter(|number| *number > 0).ok_or(EXPECTED)?;
        let age = |seconds: u64| {
            let seconds = number.checked_mul(seconds).filter(|seconds| *seconds <= MOST_KEPT_SECONDS);
            seconds.map(|seconds| Keep::Age(Duration::from_secs(seconds)))
        };
        let bytes = |scale: u64| number.checked_mul(scale).filter(|bytes| *bytes >= LEAST_KEPT_BYTES).map(Keep::Bytes);
        match unit {
            "" => Some(number).filter(|number| *number <= MOST_KEPT_ENTRIES).map(Keep::Entries),
            "s" => age(1),
            "m" => age(60),
            "h" => age(3_600),
            "d" => age(86_400),
            "w" => age(7 * 86_400),
            "MiB" => bytes(1 << 20),
            "GiB" => bytes(1 << 30),
            "TiB" => bytes(1 << 40),
            _ => None,
        }
        .ok_or(EXPECTED)
    }
}

impl Keep {
    pub(super) fn age(self) -> Option<Duration> {
        if let Keep::Age(age) = self { Some(age) } else { None }
    }

    pub(super) fn entries(self) -> Option<u64> {
        if let Keep::Entries(entries) = self { Some(entries) } else { None }
    }

    pub(super) fn bytes(self) -> Option<u64> {
        if let Keep::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// When messages are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyncMode(pub(super) super::SyncMode);

impl FromStr for SyncMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "normal" => Ok(SyncMode(super::SyncMode::Normal)),
            "full" => Ok(SyncMode(super::SyncMode::Full)),
            _ => Err("expected normal or full"),
        }
    }
}

/// Digits, and what follows them. A sign is no digit, so it ends up in the unit and is refused there.
fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A TCP port; 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port(pub(super) u16);

impl FromStr for Port {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Port).map_err(|_| "expected a port from 0 to 65535")
    }
}

/// `true` or `false` of a switch, where it comes with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Switch(pub(super) bool);

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(Switch(true)),
            "0" | "false" | "no" | "off" => Ok(Switch(false)),
            _ => Err("expected 1, true, yes, 0, false or no"),
        }
    }
}

/// Values separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|item| item.trim().parse()).collect::<Result<_, _>>().map(List)
    }
}

/// A local address to listen on, IPv6 with or without brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host(pub(super) IpAddr);

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Host).map_err(|_| "expected an IP address such as 127.0.0.1 or ::1")
    }
}

/// An address or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(|network| Network(network.trunc()))
            .map_err(|_| "expected an address or network such as 127.0.0.1 or 10.0.0.0/8")
    }
}

/// An origin as browsers send it (RFC 6454, section 6.2): lower case, no default port, no path; or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin(pub(super) String);

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected an origin such as https://chat.example.com, or * for all";
        if text == "*" {
            return Ok(Origin(text.to_owned()));
        }
        let uri = text.to_ascii_lowercase().parse::<Uri>().map_err(|_| EXPECTED)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(EXPECTED) };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains(['@', '#']) {
            return Err(EXPECTED);
        }
        let host = authority.host();
        let port = match &authority.as_str()[host.len()..] {
            "" => String::new(),
            port => match (scheme, port[1..].parse::<u16>().map_err(|_| EXPECTED)?) {
                ("http", 80) | ("https", 443) => String::new(),
                (_, port) => format!(":{port}"),
            },
        };
        Ok(Origin(format!("{scheme}://{host}{port}")))
    }
}

/// Which log lines are written: a level, or levels per module as in `info,chat_app::net=debug`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LogFilter(pub(super) Targets);

impl LogFilter {
    /// What the clients of brokers write unless they are asked to. We tell what matters of it in our own words.
    const QUIET: &str = "async_nats=off,lapin=off";
}

impl Default for LogFilter {
    fn default() -> Self {
        "info".parse().expect("that is a level")
    }
}

impl FromStr for LogFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "expected error, warn, info, debug, trace or off, or levels by module such as info,chat_app::net=debug";
        // A bare word that is no level would be taken for the name of a module, and a misspelt level silence everything.
        let plain = |part: &str| part.contains('=') || (!part.is_empty() && part.parse::<LevelFilter>().is_ok());
        if !text.split(',').all(plain) {
            return Err(EXPECTED);
        }
        // What comes later wins.
        format!("{},{text}", Self::QUIET).parse().map(LogFilter).map_err(|_| EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("65536", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("64kib", Some(65_536)),
            ("64k", Some(65_536)),
            ("8MiB", Some(8 << 20)),
            ("2g", Some(2 << 30)),
            ("7b", Some(7)),
            ("1024GiB", Some(1 << 40)),
            ("0", None),
            ("1025GiB", None),
            ("18446744073709551616", None),
            ("17179869184GiB", None),
            ("64KB", None),
            ("1.5MiB", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("k", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Size>().ok(), expected.map(Size), "{text:?}");
        }
        assert_eq!("0".parse::<Size<0>>(), Ok(Size(0)));
        assert_eq!(u32::from(Size::<1>(1 << 40)), u32::MAX, "more than a u32 holds means without bound");
    }

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        for (bytes, expected) in [(1 << 30, "1GiB"), (3 << 20, "3MiB"), (65_536, "64KiB"), (1500, "1500 bytes")] {
            assert_eq!(Size::<1>(bytes).to_string(), expected);
        }
    }

    #[test]
    fn spans() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("8760h", Some(MOST_MILLIS)),
            ("8761h", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
            ("30", None),
            ("0", None),
            ("0s", None),
            ("1.5s", None),
            ("-1s", None),
            ("s", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Span>().ok(), millis.map(|m| Span(Duration::from_millis(m))), "{text:?}");
        }
        assert_eq!("0".parse::<Span<0>>(), Ok(Span(Duration::ZERO)));
        assert_eq!("0s".parse::<Span<0>>(), Ok(Span(Duration::ZERO)));
    }

    #[test]
    fn what_is_kept() {
        const DAY: u64 = 86_400;
        for (text, expected) in [
            ("all", Some(Keep::All)),
            ("90d", Some(Keep::Age(Duration::from_secs(90 * DAY)))),
            ("2w", Some(Keep::Age(Duration::from_secs(14 * DAY)))),
            ("12h", Some(Keep::Age(Duration::from_secs(DAY / 2)))),
            ("5m", Some(Keep::Age(Duration::from_secs(300)))),
            ("365000d", Some(Keep::Age(Duration::from_secs(365_000 * DAY)))),
            ("1000000", Some(Keep::Entries(1_000_000))),
            ("16MiB", Some(Keep::Bytes(16 << 20))),
            ("10GiB", Some(Keep::Bytes(10 << 30))),
            ("1TiB", Some(Keep::Bytes(1 << 40))),
            ("0", None),
            ("0d", None),
            ("15MiB", None),
            ("365001d", None),
            ("18446744073709551615TiB", None),
            ("18446744073709551615", None),
            ("10g", None),
            ("90 d", None),
            ("-1d", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Keep>().ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn counts() {
        for (text, expected) in [("1", Some(1)), ("4294967295", Some(u32::MAX)), ("0", None), ("1k", None), ("", None)]
        {
            assert_eq!(text.parse::<Count>().ok(), expected.map(Count), "{text:?}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for (text, expected) in [
            ("*", Some("*")),
            ("https://chat.example.com", Some("https://chat.example.com")),
            ("https://Chat.Example.com/", Some("https://chat.example.com")),
            ("HTTPS://example.com:443", Some("https://example.com")),
            ("http://example.com:80", Some("http://example.com")),
            ("http://example.com:443", Some("http://example.com:443")),
            ("http://[::1]:8080", Some("http://[::1]:8080")),
            ("example.com", None),
            ("example.com:8080", None),
            ("https://example.com/chat", None),
            ("https://example.com?x", None),
            ("https://me@example.com", None),
            ("https://example.com:99999", None),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Origin>().ok().map(|origin| origin.0).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn networks() {
        for (text, expected) in [
            ("127.0.0.1", Some("127.0.0.1/32")),
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("::1", Some("::1/128")),
            ("fd00::/8", Some("fd00::/8")),
            ("10.0.0.0/33", None),
            ("localhost", None),
        ] {
            assert_eq!(text.parse::<Network>().ok().map(|net| net.0.to_string()).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn log_filters() {
        use tracing::Level;

        for text in ["error", "INFO", "off", "info,chat_app::net=debug", "chat_app=trace"] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text:?}");
        }
        for text in ["loud", "", "info,loud", "chat_app=loud", ","] {
            assert!(text.parse::<LogFilter>().is_err(), "{text:?}");
        }
        for (text, module, is_written) in [
            ("info", "chat_app", true),
            ("trace", "lapin::channel", false),
            ("trace", "async_nats", false),
            ("info,lapin=info", "lapin::channel", true),
            ("lapin=info", "async_nats", false),
        ] {
            let LogFilter(filter) = text.parse().unwrap();
            assert_eq!(filter.would_enable(module, &Level::INFO), is_written, "{text:?} {module}");
        }
    }

    #[test]
    fn lists_and_hosts() {
        assert_eq!("1, 2".parse::<List<Count>>(), Ok(List(vec![Count(1), Count(2)])));
        assert!("1,,2".parse::<List<Count>>().is_err());
        assert_eq!("[::1]".parse::<Host>(), Ok(Host("::1".parse().unwrap())));
        assert!("[::1".parse::<Host>().is_err());
        assert!("localhost".parse::<Host>().is_err());
    }
}
