//! Why an opening handshake failed, as counters and traces distinguish it.

use http::StatusCode;

use crate::end::{AcceptError, ConnectError};

/// Statuses that have a counter of their own. A peer may invent any status, so the others are counted by class.
const STATUSES: [(u16, &str); 17] = [
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (413, "413"),
    (414, "414"),
    (421, "421"),
    (426, "426"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// The classes of the other statuses.
const CLASSES: [&str; 4] = ["3xx", "4xx", "5xx", "xxx"];

/// Why an opening handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpenedReason {
    /// It was answered with this status instead.
    Status(StatusCode),
    /// It failed in this way, without an answer.
    Failure(Failure),
}

/// How an opening handshake fails without an answer. Adding one means adding a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Timeout,
    Eof,
    Io,
    Handshake,
    Invalid,
    Redirect,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "the counter exists in every build"))]
    Tls,
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "the counter exists in every build"))]
    Proxy,
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "the counter exists in every build"))]
    Http2,
}

impl Failure {
    /// In the order of the variants, which is their index.
    const NAMES: [&str; 9] =
        ["timeout", "eof", "io", "handshake", "invalid", "redirect", "tls", "proxy", "http2"];

    pub(crate) const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl NotOpenedReason {
    /// How many reasons are counted apart.
    pub(crate) const COUNT: usize = STATUSES.len() + CLASSES.len() + Failure::NAMES.len();

    /// Reasons below this index are statuses.
    pub(crate) const STATUS_COUNT: usize = STATUSES.len() + CLASSES.len();

    /// A dense index for counters, below [`COUNT`](Self::COUNT).
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Status(status) => {
                STATUSES.iter().position(|(of, _)| *of == status.as_u16()).unwrap_or_else(|| {
                    STATUSES.len()
                        + match status.as_u16() {
                            300..=399 => 0,
                            400..=499 => 1,
                            500..=599 => 2,
                            _ => 3,
                        }
                })
            }
            Self::Failure(failure) => Self::STATUS_COUNT + failure as usize,
        }
    }

    /// The name of the reasons with this [index](Self::index): a status such as `403`, a class such as `4xx`, or
    /// a failure.
    pub(crate) const fn name(index: usize) -> &'static str {
        if index < STATUSES.len() {
            STATUSES[index].1
        } else if index < Self::STATUS_COUNT {
            CLASSES[index - STATUSES.len()]
        } else {
            Failure::NAMES[index - Self::STATUS_COUNT]
        }
    }
}

impl AcceptError {
    /// The name of this error for logs and metrics, which does not change between versions: `refused`, `timeout`,
    /// `eof` or `io`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Timeout => Failure::Timeout.name(),
            Self::Eof => Failure::Eof.name(),
            Self::Io(_) => Failure::Io.name(),
        }
    }

    pub(crate) fn reason(&self) -> NotOpenedReason {
        NotOpenedReason::Failure(match self {
            Self::Refused(refusal) => return NotOpenedReason::Status(refusal.status()),
            Self::Timeout => Failure::Timeout,
            Self::Eof => Failure::Eof,
            Self::Io(_) => Failure::Io,
        })
    }
}

impl ConnectError {
    /// The name of this error for logs and metrics, which does not change between versions: `invalid`, `refused`,
    /// `redirect`, `handshake`, `tls`, `proxy`, `http2`, `timeout` or `io`.
    pub fn name(&self) -> &'static str {
        match self.reason() {
            NotOpenedReason::Status(_) => "refused",
            NotOpenedReason::Failure(failure) => failure.name(),
        }
    }

    pub(crate) fn reason(&self) -> NotOpenedReason {
        NotOpenedReason::Failure(match self {
            Self::Refused(response) => return NotOpenedReason::Status(response.status),
            Self::Invalid(_) => Failure::Invalid,
            Self::Redirect(_) => Failure::Redirect,
            Self::Handshake(_) => Failure::Handshake,
            #[cfg(feature = "tls")]
            Self::Tls(_) => Failure::Tls,
            #[cfg(feature = "proxy")]
            Self::Proxy(_) => Failure::Proxy,
            #[cfg(feature = "http2")]
            Self::Http2(_) => Failure::Http2,
            Self::Timeout(_) => Failure::Timeout,
            Self::Io(_) => Failure::Io,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_one_name_and_one_index() {
        let names: std::collections::HashSet<_> =
            (0..NotOpenedReason::COUNT).map(NotOpenedReason::name).collect();
        assert_eq!(names.len(), NotOpenedReason::COUNT);
        for (status, expected) in [(403, "403"), (302, "3xx"), (451, "4xx"), (599, "5xx"), (200, "xxx")] {
            let reason = NotOpenedReason::Status(StatusCode::from_u16(status).unwrap());
            assert!(reason.index() < NotOpenedReason::STATUS_COUNT);
            assert_eq!(NotOpenedReason::name(reason.index()), expected);
        }
        for (failure, expected) in
            [(Failure::Timeout, "timeout"), (Failure::Eof, "eof"), (Failure::Http2, "http2")]
        {
            assert_eq!(NotOpenedReason::name(NotOpenedReason::Failure(failure).index()), expected);
        }
    }
}
