//! What may stand in `Host`, in an absolute target, and in `X-Forwarded-Host` (RFC 9110, section 7.2).

use std::net::Ipv6Addr;

/// Whether this is `uri-host [ ":" port ]` with a host that is not empty (RFC 3986, section 3.2). User information
/// is no part of it (RFC 9110, section 4.2.4).
#[must_use]
pub fn is_valid(text: &[u8]) -> bool {
    let Some((host, port)) = split(text) else { return false };
    let is_port = port.is_none_or(|port| {
        port.is_empty()
            || port.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok())
    });
    is_port && is_host(host)
}

/// The host and what stands after the colon, if there is one.
fn split(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let host_end = match text {
        [b'[', ..] => text.iter().position(|byte| *byte == b']')? + 1,
        _ => text.iter().position(|byte| *byte == b':').unwrap_or(text.len()),
    };
    match text.split_at(host_end) {
        (host, []) => Some((host, None)),
        (host, [b':', port @ ..]) => Some((host, Some(port))),
        _ => None,
    }
}

fn is_host(host: &[u8]) -> bool {
    match host {
        [] => false,
        [b'[', literal @ .., b']'] => {
            std::str::from_utf8(literal).is_ok_and(|literal| literal.parse::<Ipv6Addr>().is_ok())
        }
        _ => is_registered_name(host),
    }
}

/// `reg-name`, which an IPv4 address is as well.
fn is_registered_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => rest,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("example.org", true),
            ("example.org:8080", true),
            ("example.org:", true),
            ("localhost", true),
            ("127.0.0.1:65535", true),
            ("[::1]", true),
            ("[::1]:80", true),
            ("a_b-c~d", true),
            ("xn--bcher-kva.example", true),
            ("b%C3%BCcher.example", true),
            ("", false),
            (":80", false),
            ("example.org:http", false),
            ("example.org:65536", false),
            ("example.org:+80", false),
            ("example.org:80:80", false),
            ("user@example.org", false),
            ("example.org/path", false),
            ("example.org?q", false),
            ("exa mple.org", false),
            ("example%2", false),
            ("::1", false),
            ("[::1", false),
            ("[::1]80", false),
            ("[example]", false),
            ("[]", false),
            ("bücher.example", false),
            ("a\\b", false),
        ] {
            assert_eq!(is_valid(text.as_bytes()), expected, "{text}");
        }
    }
}
