//! Alerts of TLS by the names of RFC 8446 section 6.

use std::fmt;

/// An alert with which a peer rejected the TLS handshake. `Display` shows the name of RFC 8446 6.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlsAlert(u8);

/// Code, name, and what the alert means for somebody who wants to connect.
const ALERTS: [(u8, &str, &str); 22] = [
    (10, "unexpected_message", ""),
    (20, "bad_record_mac", ""),
    (22, "record_overflow", ""),
    (40, "handshake_failure", "client and server have no cipher suite in common, or the server is not ready"),
    (42, "bad_certificate", "it does not accept the client certificate"),
    (43, "unsupported_certificate", "it does not accept this type of client certificate"),
    (44, "certificate_revoked", "the client certificate is revoked"),
    (45, "certificate_expired", "the client certificate has expired"),
    (46, "certificate_unknown", "it does not accept the client certificate"),
    (47, "illegal_parameter", ""),
    (48, "unknown_ca", "it does not trust the issuer of the client certificate"),
    (49, "access_denied", "the client certificate gives no access"),
    (50, "decode_error", ""),
    (51, "decrypt_error", ""),
    (70, "protocol_version", "client and server have no version of TLS in common"),
    (71, "insufficient_security", "it requires stronger cipher suites"),
    (80, "internal_error", "the server has a problem of its own"),
    (86, "inappropriate_fallback", ""),
    (90, "user_canceled", ""),
    (112, "unrecognized_name", "it does not serve this host name"),
    (116, "certificate_required", "it requires a client certificate"),
    (120, "no_application_protocol", "it supports none of the protocols offered by ALPN"),
];

impl TlsAlert {
    pub(crate) const fn new(code: u8) -> Self {
        Self(code)
    }

    /// The number of the alert (RFC 8446 6).
    pub const fn code(self) -> u8 {
        self.0
    }

    fn row(self) -> Option<&'static (u8, &'static str, &'static str)> {
        ALERTS.iter().find(|(code, ..)| *code == self.0)
    }

    /// What the alert means for the user, if there is more to say than its name.
    pub(crate) fn meaning(self) -> Option<&'static str> {
        self.row().map(|(_, _, meaning)| *meaning).filter(|meaning| !meaning.is_empty())
    }
}

impl fmt::Display for TlsAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            Some((_, name, _)) => f.write_str(name),
            None => write!(f, "number {}", self.0),
        }
    }
}

impl fmt::Debug for TlsAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsAlert({self})")
    }
}
