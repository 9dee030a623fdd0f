//! The `Date` of responses (RFC 9110, section 6.6.1), formatted once a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The current date as text. Formatting it costs more than the rest of a small head, and it changes once a second.
#[derive(Debug, Clone)]
pub struct DateCache {
    second: u64,
    text: String,
}

impl DateCache {
    /// A cache that holds no date yet.
    #[must_use]
    pub fn new() -> Self {
        DateCache { second: 0, text: httpdate::fmt_http_date(UNIX_EPOCH) }
    }

    /// The date at `now` in the form of RFC 9110, section 5.6.7. The whole second is all that is told.
    pub fn at(&mut self, now: SystemTime) -> &str {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if second != self.second {
            self.second = second;
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        &self.text
    }
}

impl Default for DateCache {
    fn default() -> Self {
        DateCache::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_follows_the_clock_both_ways() {
        let mut cache = DateCache::new();
        for (millis, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777_999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778_000, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            assert_eq!(cache.at(UNIX_EPOCH + Duration::from_millis(millis)), expected);
        }
    }
}
