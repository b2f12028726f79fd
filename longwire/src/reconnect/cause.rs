//! Why there is no connection, and whether another could come of another attempt.

use std::fmt;
use std::time::SystemTime;

use http::StatusCode;
use longwire_proto::CloseCode;
use longwire_proto::handshake::HandshakeError;

use super::backoff::{Pause, retry_after};
#[cfg(feature = "proxy")]
use crate::client::ProxyError;
use crate::end::Closed;
use crate::end::{ConnectError, Error, write_chain};
#[cfg(feature = "tls")]
use crate::tls::TlsError;

/// Why a [`Feed`](super::Feed) has no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The attempt brought no connection.
    Connect(ConnectError),
    /// Connecting, the opening handshake and the hook took longer than
    /// [`Reconnect::open_timeout`](super::Reconnect::open_timeout).
    OpenTimeout,
    /// The hook of [`Reconnect::on_open`](super::Reconnect::on_open) failed, and not because the connection
    /// did.
    Hook(Box<dyn std::error::Error + Send + Sync>),
    /// The connection was closed by a closing handshake.
    Closed(Closed),
    /// The connection ended without one.
    Failed(Error),
}

impl Cause {
    /// The error that it is and nothing else.
    fn as_error(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::OpenTimeout => f.write_str("the connection was not ready in time (open_timeout)"),
            Self::Hook(_) => write_chain(f, "the new connection could not be prepared", self),
            Self::Closed(closed) => match &closed.frame {
                None => f.write_str("closed without a code (1005)"),
                Some(frame) if frame.reason.is_empty() => write!(f, "closed with {}", frame.code),
                Some(frame) => write!(f, "closed with {}: {}", frame.code, frame.reason.as_str()),
            },
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Hook(error) => Some(&**error),
            _ => self.as_error()?.source(),
        }
    }
}

impl Cause {
    /// Another attempt may help: the [table](super#what-is-tried-again) of the module.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            // The application knows of time and of what it expects of a new connection.
            Self::OpenTimeout | Self::Hook(_) => true,
            Self::Closed(closed) => closed.frame.as_ref().is_none_or(|frame| may_come_again(frame.code)),
            Self::Failed(error) => error.is_retryable(),
        }
    }

    /// The wait that it asks for.
    pub(super) fn pause(&self) -> Pause {
        match self {
            Self::Connect(ConnectError::Refused(response)) => {
                retry_after(&response.headers, SystemTime::now()).map_or(Pause::Usual, Pause::After)
            }
            Self::Closed(Closed { frame: Some(frame), .. }) => match frame.code {
                CloseCode::RESTART => Pause::Restart,
                CloseCode::TRY_AGAIN => Pause::Later,
                _ => Pause::Usual,
            },
            _ => Pause::Usual,
        }
    }
}

/// The peer that closes with this code would not close the next connection for the same.
fn may_come_again(code: CloseCode) -> bool {
    !matches!(
        u16::from(code),
        // RFC 6455 7.4.1: the purpose is fulfilled.
        1000
        // What this program speaks is not what the server understands, and it will speak the same again.
        | 1002 | 1003 | 1007 | 1010
        // What this client may not do, it may not do on another connection.
        | 1008
        // IANA: Unauthorized and Forbidden, as the HTTP statuses 401 and 403.
        | 3000 | 3003
    )
}

impl ConnectError {
    /// Another attempt with the same URL and client may succeed: the reason is one of time, of load or of
    /// the network, not of what was asked for.
    ///
    /// Not so are what cannot be sent ([`Invalid`](Self::Invalid)), what cannot be agreed on (a subprotocol or
    /// an extension that was not offered), a certificate that is not trusted, and all refusals but the
    /// statuses 408, 421, 425, 429 and those from 500 on without 501 and 505.
    ///
    /// ```
    /// use longwire::ConnectError;
    ///
    /// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    /// assert!(ConnectError::Io(refused).is_retryable());
    /// assert!(!ConnectError::Invalid("no URL".into()).is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Invalid(_) => false,
            Self::Refused(response) => is_passing(response.status),
            Self::Handshake(error) => !is_disagreement(error),
            Self::Timeout(_) => true,
            Self::Io(error) => !is_distrust(error),
            // It would be led there again.
            Self::Redirect(_) => false,
            // Who answers no TLS may be a gateway whose server is about to start.
            #[cfg(feature = "tls")]
            Self::Tls(error) => matches!(error, TlsError::NotTls | TlsError::Eof | TlsError::Io(_)),
            #[cfg(feature = "http2")]
            Self::Http2(error) => {
                !matches!(error, crate::Http2Error::NotSupported | crate::Http2Error::NotSpoken)
            }
            #[cfg(feature = "proxy")]
            Self::Proxy(error) => match error {
                ProxyError::Refused(status) => is_passing(*status),
                ProxyError::Login | ProxyError::Socks(_) => false,
                ProxyError::Unreachable(_) | ProxyError::Head(_) | ProxyError::Early | ProxyError::Io(_) => {
                    true
                }
            },
        }
    }
}

impl Error {
    /// Another connection may do better. All ends of an open connection that are no closing handshake are
    /// such: even a rule that the peer broke may have been damage on the way. What may not be sent
    /// ([`Error::Send`]) stays so.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Send(error) => error.is_closed() || error.is_full(),
            _ => true,
        }
    }
}

/// A status that says: not now.
fn is_passing(status: StatusCode) -> bool {
    match status.as_u16() {
        // Request Timeout, Misdirected Request (of this connection), Too Early, Too Many Requests.
        408 | 421 | 425 | 429 => true,
        // Not Implemented, HTTP Version Not Supported.
        501 | 505 => false,
        other => other >= 500,
    }
}

/// The answer came from a WebSocket server that wants something else. All other faults are those of
/// somebody who is no WebSocket server, such as a gateway whose server is about to start.
fn is_disagreement(error: &HandshakeError) -> bool {
    use HandshakeError as E;
    match error {
        E::Refused(status) => !is_passing(*status),
        E::Extension
        | E::ExtensionsMalformed
        | E::ExtensionsRepeated
        | E::DeflateUnknown
        | E::DeflateRepeated(_)
        | E::DeflateValue(_)
        | E::DeflateNotHonoured(_)
        | E::Subprotocol(_)
        | E::SubprotocolRepeated => true,
        _ => false,
    }
}

/// TLS does not trust the server, or the server not us.
#[cfg(feature = "tls")]
fn is_distrust(error: &std::io::Error) -> bool {
    use rustls::{AlertDescription as Alert, Error as E};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<E>());
    tls.is_some_and(|error| match error {
        E::InvalidCertificate(_) | E::NoCertificatesPresented | E::UnsupportedNameType => true,
        E::AlertReceived(alert) => matches!(
            alert,
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::UnrecognisedName
        ),
        _ => false,
    })
}

#[cfg(not(feature = "tls"))]
const fn is_distrust(_: &std::io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::{HeaderMap, HeaderValue, header};
    use longwire_proto::handshake::HeadError;
    use longwire_proto::{CloseFrame, ProtocolError};

    use super::*;
    use crate::end::Response;
    use crate::end::SendError;
    use crate::end::Side;

    fn closed(code: u16) -> Cause {
        let frame = (code != 1005).then(|| CloseFrame::new(code, "再见 👋"));
        Cause::Closed(Closed { by: Side::Peer, frame })
    }

    fn refused(status: u16, retry_after: Option<&'static str>) -> Cause {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        Cause::Connect(ConnectError::Refused(Box::new(Response { status, headers, body: String::new() })))
    }

    #[test]
    fn close_codes() {
        let ends = [1000, 1002, 1003, 1007, 1008, 1010, 3000, 3003];
        let goes_on = [1001, 1005, 1009, 1011, 1012, 1013, 1014, 3001, 3999, 4000, 4999];
        for code in ends {
            assert!(!closed(code).is_retryable(), "{code}");
        }
        for code in goes_on {
            assert!(closed(code).is_retryable(), "{code}");
            let pause = match code {
                1012 => Pause::Restart,
                1013 => Pause::Later,
                _ => Pause::Usual,
            };
            assert_eq!(closed(code).pause(), pause, "{code}");
        }
    }

    #[test]
    fn statuses() {
        for status in 100..=999 {
            let passes = matches!(status, 408 | 421 | 425 | 429 | 500 | 502..=504 | 506..);
            assert_eq!(refused(status, None).is_retryable(), passes, "{status}");
        }
        assert_eq!(refused(503, None).pause(), Pause::Usual);
        assert_eq!(refused(503, Some("later")).pause(), Pause::Usual);
        assert_eq!(refused(429, Some("7")).pause(), Pause::After(std::time::Duration::from_secs(7)));
    }

    #[test]
    fn handshakes() {
        use HandshakeError as E;
        let ends = [
            E::Extension,
            E::ExtensionsMalformed,
            E::ExtensionsRepeated,
            E::DeflateUnknown,
            E::DeflateRepeated("x"),
            E::DeflateValue("x"),
            E::DeflateNotHonoured("x"),
            E::Subprotocol(HeaderValue::from_static("x")),
            E::SubprotocolRepeated,
            E::Refused(StatusCode::FORBIDDEN),
        ];
        for error in ends {
            assert!(!ConnectError::Handshake(error.clone()).is_retryable(), "{error:?}");
        }
        let goes_on = [
            E::Head(HeadError::Incomplete),
            E::Version,
            E::TooManyInterim,
            E::Upgrade,
            E::Connection,
            E::AcceptMissing,
            E::AcceptRepeated,
            E::Accept,
            E::Refused(StatusCode::BAD_GATEWAY),
        ];
        for error in goes_on {
            assert!(ConnectError::Handshake(error.clone()).is_retryable(), "{error:?}");
        }
    }

    #[test]
    fn all_other_ends() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let goes_on = [
            Cause::Connect(ConnectError::Io(io(io::ErrorKind::ConnectionRefused))),
            Cause::OpenTimeout,
            Cause::Hook("not now".into()),
            Cause::Failed(Error::Eof),
            Cause::Failed(Error::PingTimeout),
            Cause::Failed(Error::WriteTimeout),
            Cause::Failed(Error::MessageTimeout),
            Cause::Failed(Error::Protocol(ProtocolError::InvalidUtf8)),
            Cause::Failed(Error::Io(io(io::ErrorKind::ConnectionReset).into())),
            Cause::Failed(SendError::Closed.into()),
        ];
        for cause in goes_on {
            assert!(cause.is_retryable(), "{cause:?}");
            assert_eq!(cause.pause(), Pause::Usual, "{cause:?}");
        }
        let ends = [
            Cause::Connect(ConnectError::Invalid("no URL".into())),
            Cause::Failed(SendError::ControlTooLong.into()),
        ];
        for cause in ends {
            assert!(!cause.is_retryable(), "{cause:?}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn certificates() {
        use rustls::{AlertDescription, CertificateError, Error as E};
        let rows = [
            (E::InvalidCertificate(CertificateError::UnknownIssuer), false),
            (E::InvalidCertificate(CertificateError::Expired), false),
            (E::AlertReceived(AlertDescription::CertificateRequired), false),
            (E::AlertReceived(AlertDescription::InternalError), true),
            (E::DecryptError, true),
        ];
        for (error, retry) in rows {
            let text = error.to_string();
            let error = ConnectError::Io(io::Error::new(io::ErrorKind::InvalidData, error));
            assert_eq!(error.is_retryable(), retry, "{text}");
        }
    }

    #[test]
    fn each_says_what_happened() {
        assert_eq!(closed(1012).to_string(), "closed with 1012: 再见 👋");
        assert_eq!(closed(1005).to_string(), "closed without a code (1005)");
        let hook = Cause::Hook("没有".into());
        assert_eq!(format!("{hook:#}"), "the new connection could not be prepared: 没有");
        assert_eq!(refused(503, None).to_string(), "refused with status 503 Service Unavailable");
    }
}
