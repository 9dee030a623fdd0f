//! Content codings and which of them a client accepts (RFC 9110, sections 8.4 and 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use super::list;

/// A content coding. Where a client likes several alike, the first of them is the one to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Coding {
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, the best first.
    pub const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// The name in `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What the name of a file ends with that holds another in this coding.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }

    fn named(name: &[u8]) -> Option<Coding> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // RFC 9110, section 8.4.1.3: x-gzip is the same.
        if is("x-gzip") { Some(Coding::Gzip) } else { Coding::ALL.into_iter().find(|coding| is(coding.name())) }
    }
}

/// How much a client likes something, in thousandths; 0 means not at all.
type Quality = u16;

/// The codings that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    identity: Quality,
    codings: [Quality; Coding::ALL.len()],
}

impl Accepted {
    /// What a client who says nothing is sent, though it would have to take anything.
    pub const PLAIN: Accepted = Accepted { identity: 1000, codings: [0; Coding::ALL.len()] };

    /// What the `Accept-Encoding` of a request says. An element that is malformed is ignored.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(ACCEPT_ENCODING) {
            return Accepted::PLAIN;
        }
        let (mut identity, mut others) = (None, None);
        let mut codings = [None; Coding::ALL.len()];
        for element in list::elements(headers, &ACCEPT_ENCODING) {
            let Some((name, quality)) = weighted(element) else { continue };
            let place = match name {
                b"*" => &mut others,
                name if name.eq_ignore_ascii_case(b"identity") => &mut identity,
                name => match Coding::named(name) {
                    Some(coding) => &mut codings[coding as usize],
                    None => continue,
                },
            };
            // Said twice, the first counts.
            place.get_or_insert(quality);
        }
        let codings = codings.map(|coding| coding.or(others).unwrap_or(0));
        // Nobody needs to name it: without a word against it, it is as good as the least of what is named.
        let named_least = codings.into_iter().filter(|quality| *quality > 0).min().unwrap_or(1000);
        let identity = identity.unwrap_or(if others == Some(0) { 0 } else { others.unwrap_or(1000).min(named_least) });
        Accepted { identity, codings }
    }

    /// Whether the content may be sent as it is.
    #[must_use]
    pub fn takes_identity(&self) -> bool {
        self.identity > 0
    }

    /// The best of these codings: `None` if the content as it is is liked more than any of them, or none is accepted.
    pub fn best_of(&self, available: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let quality = |coding: &Coding| self.codings[*coding as usize];
        available
            .into_iter()
            .filter(|coding| quality(coding) > 0 && quality(coding) >= self.identity)
            .max_by_key(|coding| (quality(coding), std::cmp::Reverse(*coding)))
    }
}

/// A name and its weight (RFC 9110, section 12.4.2), which is 1 if there is none.
fn weighted(element: &[u8]) -> Option<(&[u8], Quality)> {
    let mut parts = element.splitn(2, |byte| *byte == b';').map(list::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some(weight) = parts.next() else { return Some((name, 1000)) };
    let value = weight.strip_prefix(b"q=").or(weight.strip_prefix(b"Q="))?;
    let (whole, decimals) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |place: usize| decimals.get(place).map_or(0, |byte| Quality::from(byte - b'0'));
    let quality = Quality::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (quality <= 1000).then_some((name, quality))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_clients_accept() {
        use Coding::{Brotli, Gzip, Zstd};
        const ALL: [Coding; 3] = [Gzip, Brotli, Zstd];
        for (name, lines, available, expected, takes_identity) in [
            ("nothing is said", &[][..], &ALL[..], None, true),
            ("empty", &[""], &ALL, None, true),
            ("a browser", &["gzip, deflate, br, zstd"], &ALL, Some(Brotli), true),
            ("a browser, gzip alone is there", &["gzip, deflate, br, zstd"], &[Gzip], Some(Gzip), true),
            ("a browser, nothing is there", &["gzip, deflate, br, zstd"], &[], None, true),
            ("two lines", &["gzip", "br"], &ALL, Some(Brotli), true),
            ("capitals", &["GZIP"], &ALL, Some(Gzip), true),
            ("x-gzip", &["x-gzip"], &ALL, Some(Gzip), true),
            ("unknown", &["compress, deflate"], &ALL, None, true),
            ("weights", &["br;q=0.5, gzip;q=0.8"], &ALL, Some(Gzip), true),
            ("weights, spaced", &["br ; q=0.5 ,gzip; q=0.8"], &ALL, Some(Gzip), true),
            ("three decimals", &["br;q=0.998, gzip;q=0.999"], &ALL, Some(Gzip), true),
            ("one, with decimals", &["br;q=1.000, gzip;q=0.999"], &ALL, Some(Brotli), true),
            ("forbidden", &["br;q=0, gzip"], &ALL, Some(Gzip), true),
            ("forbidden, with decimals", &["br;q=0.000, gzip"], &ALL, Some(Gzip), true),
            ("all forbidden", &["br;q=0, gzip;q=0, zstd;q=0"], &ALL, None, true),
            ("anything", &["*"], &ALL, Some(Brotli), true),
            ("anything but", &["*, br;q=0"], &ALL, Some(Zstd), true),
            ("anything, little", &["gzip, *;q=0.1"], &ALL, Some(Gzip), true),
            ("nothing else", &["gzip, *;q=0"], &ALL, Some(Gzip), false),
            ("nothing else, and it is not there", &["gzip, *;q=0"], &[Brotli], None, false),
            ("nothing at all", &["*;q=0"], &ALL, None, false),
            ("identity forbidden", &["identity;q=0, gzip"], &ALL, Some(Gzip), false),
            ("identity forbidden, no other named", &["identity;q=0"], &ALL, None, false),
            ("identity forbidden, anything", &["identity;q=0, *"], &ALL, Some(Brotli), false),
            ("identity alone", &["identity"], &ALL, None, true),
            ("identity alone, said aloud", &["identity, *;q=0"], &ALL, None, true),
            ("what video players say", &["identity;q=1, *;q=0"], &ALL, None, true),
            ("identity preferred", &["identity, gzip;q=0.5"], &ALL, None, true),
            ("identity liked less", &["identity;q=0.5, gzip;q=0.6"], &ALL, Some(Gzip), true),
            ("alike", &["identity;q=0.5, gzip;q=0.5"], &ALL, Some(Gzip), true),
            ("said twice", &["gzip;q=0, gzip"], &ALL, None, true),
            ("weight too large", &["gzip;q=1.1"], &ALL, None, true),
            ("weight too long", &["gzip;q=0.1234"], &ALL, None, true),
            ("weight negative", &["gzip;q=-1"], &ALL, None, true),
            ("weight without a value", &["gzip;q="], &ALL, None, true),
            ("other parameter", &["gzip;x=1"], &ALL, None, true),
            ("weight in a capital", &["br;Q=0.1, gzip"], &ALL, Some(Gzip), true),
            ("no name", &[";q=1"], &ALL, None, true),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
            }
            let accepted = Accepted::of(&headers);
            let best = accepted.best_of(available.iter().copied());
            assert_eq!((best, accepted.takes_identity()), (expected, takes_identity), "{name}");
        }
    }
}
