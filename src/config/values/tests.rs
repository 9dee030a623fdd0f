//! What each kind of value takes.

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
    for (text, expected) in [("1", Some(1)), ("4294967295", Some(u32::MAX)), ("0", None), ("1k", None), ("", None)] {
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
