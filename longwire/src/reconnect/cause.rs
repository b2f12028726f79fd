//! Why a feed has no connection, and whether to try again.

use std::error::Error as StdError;
use std::fmt;

use http::StatusCode;
use longwire_proto::CloseCode;
use longwire_proto::handshake::HandshakeError;

use super::backoff::{Pause, retry_after};
use super::system::time_of_day;
#[cfg(any(feature = "http2", feature = "proxy", feature = "tls"))]
use super::transport;
use crate::end::Closed;
use crate::end::{ConnectError, Error, write_chain};

/// Why a [`Feed`](super::Feed) has no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The attempt to connect failed.
    Connect(ConnectError),
    /// The function of [`Reconnect::with`](super::Reconnect::with) or [`Reconnect::prepare`](super::Reconnect::prepare)
    /// failed with an error of the application.
    Application(Box<dyn StdError + Send + Sync>),
    /// Connecting, the opening handshake and the hook took longer than
    /// [`Reconnect::open_timeout`](super::Reconnect::open_timeout).
    OpenTimeout,
    /// The hook of [`Reconnect::on_open`](super::Reconnect::on_open) failed, but the connection did not.
    Hook(Box<dyn StdError + Send + Sync>),
    /// The connection was closed by a closing handshake.
    Closed(Closed),
    /// The connection ended without a closing handshake.
    Failed(Error),
}

/// Whether to try again after a [`Cause`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Try again, without a limit of its own.
    Always,
    /// Try again for a limited time ([`Reconnect::patience`](super::Reconnect::patience)): the cause is probably
    /// permanent, but may be one of a server that restarts.
    Limited,
    /// Try again for a limited time if a connection was open before, otherwise never.
    LimitedAfterOpen,
    /// Do not try again.
    Never,
}

/// `true` is [`Retry::Always`], and `false` is [`Retry::Never`].
impl From<bool> for Retry {
    fn from(retry: bool) -> Self {
        if retry { Self::Always } else { Self::Never }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Application(_) => write_chain(f, "the application could not prepare the attempt", self),
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

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // Their text is that of the error within, so their source is its source.
            Self::Connect(error) => error.source(),
            Self::Failed(error) => error.source(),
            Self::Application(error) | Self::Hook(error) => Some(&**error),
            Self::OpenTimeout | Self::Closed(_) => None,
        }
    }
}

impl Cause {
    /// The error of a function that connects. A [`ConnectError`] is recognised.
    pub(super) fn from_connect(error: Box<dyn StdError + Send + Sync>) -> Self {
        error.downcast().map_or_else(Self::Application, |error| Self::Connect(*error))
    }

    /// Whether to try again, by the [table](super#what-is-retried) of the module.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect(error) => error.retry(),
            // Only the application knows what its errors mean.
            Self::Application(_) | Self::OpenTimeout | Self::Hook(_) => Retry::Always,
            Self::Closed(closed) => closed.frame.as_ref().is_none_or(|frame| is_retryable(frame.code)).into(),
            Self::Failed(error) => error.is_retryable().into(),
        }
    }

    /// The server rejected the credentials of the request, which the next attempt computes again.
    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Connect(ConnectError::Refused(response)) if response.status == StatusCode::UNAUTHORIZED)
    }

    /// The kind of wait before the next attempt.
    pub(super) fn pause(&self) -> Pause {
        match self {
            Self::Connect(ConnectError::Refused(response)) => {
                retry_after(&response.headers, time_of_day()).map_or(Pause::Usual, Pause::After)
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

/// Whether a new connection may avoid being closed with this code.
fn is_retryable(code: CloseCode) -> bool {
    !matches!(
        u16::from(code),
        // RFC 6455 7.4.1: the purpose is fulfilled.
        1000
        // The server does not understand this program, which would send the same again.
        | 1002 | 1003 | 1007 | 1010
        // The client is not allowed to do what it did.
        | 1008
        // IANA: Unauthorized and Forbidden, like the HTTP statuses 401 and 403.
        | 3000 | 3003
    )
}

impl ConnectError {
    /// Returns true if another attempt with the same URL and client may succeed: the cause is time, load or the network,
    /// and not the request itself.
    ///
    /// Returns false for a request that cannot be sent ([`Invalid`](Self::Invalid)), for a subprotocol or an extension
    /// that was not offered, for TLS faults such as a certificate that is not trusted, and for all statuses except 408,
    /// 421, 425, 429 and those from 500 on without 501 and 505.
    ///
    /// ```
    /// use longwire::ConnectError;
    ///
    /// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    /// assert!(ConnectError::Io(refused).is_retryable());
    /// assert!(!ConnectError::Invalid("no URL".into()).is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        self.retry() == Retry::Always
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Invalid(_) => Retry::Never,
            Self::Refused(response) => match response.status.as_u16() {
                // A gateway may answer so while its server restarts.
                400 | 401 | 403 | 404 => Retry::LimitedAfterOpen,
                _ => is_passing(response.status).into(),
            },
            Self::Handshake(error) => (!is_disagreement(error)).into(),
            Self::Timeout(_) | Self::Io(_) => Retry::Always,
            // The next attempt would be redirected again.
            Self::Redirect(_) => Retry::Never,
            #[cfg(feature = "tls")]
            Self::Tls(error) => transport::tls(error),
            #[cfg(feature = "http2")]
            Self::Http2(error) => transport::http2(error),
            #[cfg(feature = "proxy")]
            Self::Proxy(error) => transport::proxy(error),
        }
    }
}

impl Error {
    /// Returns true if a new connection may do better. This is so for every end without a closing handshake: even a rule
    /// that the peer broke may have been damage on the way. A message that must not be sent ([`Error::Send`]) is not
    /// accepted by another connection either.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Send(error) => error.is_closed() || error.is_full(),
            _ => true,
        }
    }
}

/// Whether a status is about this moment only.
pub(super) fn is_passing(status: StatusCode) -> bool {
    match status.as_u16() {
        // Request Timeout, Misdirected Request (of this connection), Too Early, Too Many Requests.
        408 | 421 | 425 | 429 => true,
        // Not Implemented, HTTP Version Not Supported.
        501 | 505 => false,
        other => other >= 500,
    }
}

/// Whether a WebSocket server sent the response and wants something else. All other faults are those of another kind of
/// server, such as a gateway whose server is about to start.
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
    #[cfg(feature = "tls")]
    use crate::end::TlsError;

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
            assert_eq!(closed(code).retry(), Retry::Never, "{code}");
        }
        for code in goes_on {
            assert_eq!(closed(code).retry(), Retry::Always, "{code}");
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
            let expected = match status {
                408 | 421 | 425 | 429 | 500 | 502..=504 | 506.. => Retry::Always,
                400 | 401 | 403 | 404 => Retry::LimitedAfterOpen,
                _ => Retry::Never,
            };
            assert_eq!(refused(status, None).retry(), expected, "{status}");
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
            assert_eq!(cause.retry(), Retry::Always, "{cause:?}");
            assert_eq!(cause.pause(), Pause::Usual, "{cause:?}");
        }
        let ends = [
            Cause::Connect(ConnectError::Invalid("no URL".into())),
            Cause::Failed(SendError::ControlTooLong.into()),
        ];
        for cause in ends {
            assert_eq!(cause.retry(), Retry::Never, "{cause:?}");
        }
    }

    /// As they come out of a handshake: wrapped in an I/O error.
    #[cfg(feature = "tls")]
    #[test]
    fn tls_faults() {
        use rustls::{AlertDescription, CertificateError, Error as E, InvalidMessage};
        let rows = [
            (E::InvalidCertificate(CertificateError::UnknownIssuer), Retry::Limited),
            (E::InvalidCertificate(CertificateError::NotValidYet), Retry::Limited),
            (E::AlertReceived(AlertDescription::CertificateRequired), Retry::Limited),
            (E::AlertReceived(AlertDescription::HandshakeFailure), Retry::Limited),
            (E::AlertReceived(AlertDescription::InternalError), Retry::Limited),
            (E::DecryptError, Retry::Limited),
            (E::InvalidMessage(InvalidMessage::InvalidContentType), Retry::Always),
        ];
        for (error, expected) in rows {
            let text = error.to_string();
            let error = ConnectError::from(io::Error::new(io::ErrorKind::InvalidData, error));
            assert!(matches!(error, ConnectError::Tls(_)), "{text}");
            assert_eq!(error.retry(), expected, "{text}");
        }
        let unusable = TlsError::Unusable("a root".into());
        assert_eq!(ConnectError::Tls(unusable).retry(), Retry::Never);
    }

    #[test]
    fn errors_of_the_application() {
        let connect: Box<dyn StdError + Send + Sync> = ConnectError::Invalid("没有".into()).into();
        assert!(matches!(Cause::from_connect(connect), Cause::Connect(ConnectError::Invalid(_))));
        let cause = Cause::from_connect("no token".into());
        let text = "the application could not prepare the attempt: no token";
        assert_eq!((format!("{cause:#}").as_str(), cause.retry()), (text, Retry::Always));
        assert_eq!(cause.source().expect("the error").to_string(), "no token");
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
