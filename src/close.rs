//! Every reason why a connection ends, with its WebSocket close code or HTTP status, and its name in the metrics.

use std::fmt;

use http::StatusCode;

/// Why a connection ended. One line of the log and one counter carry its [`label`](CloseReason::label).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer closed: a close frame, or the end of its stream between two requests.
    PeerClosed,
    /// The peer's stream ended without a close frame, or in the middle of a request.
    PeerVanished,
    /// The socket failed: reset by the peer, or unreachable.
    PeerReset,
    /// The response was the last on its connection (`Connection: close`, HTTP/1.0, or the request count reached).
    Finished,
    /// No request came within the keep-alive timeout.
    KeepAliveTimeout,
    /// A request was refused with this status, and nothing after it can be trusted.
    Refused(StatusCode),
    /// The WebSocket protocol was violated (1002).
    Protocol,
    /// A text message was not UTF-8 (1007).
    InvalidUtf8,
    /// Something allowed by the protocol but not by this server: a message that did not come to its end in time (1008).
    Policy,
    /// A message was longer than the limit (1009).
    MessageTooBig,
    /// Two ping intervals passed without a byte from the peer (1001).
    PingTimeout,
    /// The peer took no byte for the stall timeout. Nothing can be said to it: it is reset.
    Stalled,
    /// The client took less of its responses than the least rate. It is reset as well.
    TooSlow,
    /// The member fell behind everything that is kept (1013).
    FellBehind,
    /// Another connection of the same page has taken its place (4000, which is for applications to define).
    TakenOver,
    /// What it said was not taken, and its dialect has no words for that (1013).
    Unheard,
    /// The server is full (503). Nobody is let in first and turned away after the upgrade.
    Full,
    /// The server is shutting down (1001).
    Draining,
    /// The content of a response could not be read to its end; the connection is cut rather than lie about its length.
    ContentLost,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Refused(status) => write!(f, "refused with {status}"),
            reason => f.write_str(reason.label()),
        }
    }
}

impl CloseReason {
    /// Every reason, for the metrics; those with a status stand once, with 400.
    pub const ALL: [CloseReason; 19] = [
        CloseReason::PeerClosed,
        CloseReason::PeerVanished,
        CloseReason::PeerReset,
        CloseReason::Finished,
        CloseReason::KeepAliveTimeout,
        CloseReason::Refused(StatusCode::BAD_REQUEST),
        CloseReason::Protocol,
        CloseReason::InvalidUtf8,
        CloseReason::Policy,
        CloseReason::MessageTooBig,
        CloseReason::PingTimeout,
        CloseReason::Stalled,
        CloseReason::TooSlow,
        CloseReason::FellBehind,
        CloseReason::TakenOver,
        CloseReason::Unheard,
        CloseReason::Full,
        CloseReason::Draining,
        CloseReason::ContentLost,
    ];

    /// The reason's name in metrics and log lines.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::PeerVanished => "peer_vanished",
            CloseReason::PeerReset => "peer_reset",
            CloseReason::Finished => "finished",
            CloseReason::KeepAliveTimeout => "keep_alive_timeout",
            CloseReason::Refused(_) => "refused",
            CloseReason::Protocol => "protocol",
            CloseReason::InvalidUtf8 => "invalid_utf8",
            CloseReason::Policy => "policy",
            CloseReason::MessageTooBig => "message_too_big",
            CloseReason::PingTimeout => "ping_timeout",
            CloseReason::Stalled => "stalled",
            CloseReason::TooSlow => "too_slow",
            CloseReason::FellBehind => "fell_behind",
            CloseReason::TakenOver => "taken_over",
            CloseReason::Unheard => "unheard",
            CloseReason::Full => "full",
            CloseReason::Draining => "draining",
            CloseReason::ContentLost => "content_lost",
        }
    }

    /// The index of this reason in [`CloseReason::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        CloseReason::ALL.iter().position(|reason| reason.label() == self.label()).expect("ALL holds every reason")
    }

    /// The close code a WebSocket peer is sent (RFC 6455, section 7.4.1, and the registry for 1013), and the words
    /// that go with it; `None` where there is nobody left to tell, or the peer closed first.
    #[must_use]
    pub const fn close_code(self) -> Option<(u16, &'static str)> {
        match self {
            CloseReason::Protocol => Some((1002, "protocol error")),
            CloseReason::InvalidUtf8 => Some((1007, "text is not UTF-8")),
            CloseReason::Policy => Some((1008, "message took too long")),
            CloseReason::MessageTooBig => Some((1009, "message too big")),
            CloseReason::PingTimeout => Some((1001, "no answer to pings")),
            CloseReason::FellBehind => Some((1013, "fell behind, connect again")),
            CloseReason::TakenOver => Some((4000, "taken over by another connection of yours")),
            CloseReason::Unheard => Some((1013, "messages cannot be stored now, try again later")),
            CloseReason::Draining => Some((1001, "server is restarting")),
            CloseReason::PeerClosed
            | CloseReason::PeerVanished
            | CloseReason::PeerReset
            | CloseReason::Finished
            | CloseReason::KeepAliveTimeout
            | CloseReason::Refused(_)
            | CloseReason::Full
            | CloseReason::Stalled
            | CloseReason::TooSlow
            | CloseReason::ContentLost => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_label_and_place() {
        for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), place, "{}", reason.label());
        }
    }
}
