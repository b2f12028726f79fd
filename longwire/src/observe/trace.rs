//! What `tracing` is told, with the feature of that name; without it all of this is nothing.
//!
//! Events are `longwire`'s by their target. They have sizes, causes and addresses, the path without its query,
//! and the subprotocol: never a payload, the reason of a Close frame, or the value of another header.

#[cfg(feature = "tracing")]
pub(crate) use on::*;

#[cfg(not(feature = "tracing"))]
pub(crate) use off::*;

#[cfg(feature = "tracing")]
mod on {
    use std::fmt::Display;
    use std::net::SocketAddr;

    use http::StatusCode;
    use longwire_proto::{DeflateParameters, Kind, Role};
    use tracing::{Span as Inner, debug, field, info, trace, warn, warn_span};

    use crate::end::Closed;
    use crate::end::Error;
    use crate::observe::counters::Traffic;

    /// The span of a connection. It follows from the span in which the connection was opened, and is not its child: a
    /// child would keep that span open as long as the connection.
    #[derive(Clone, Debug)]
    pub(crate) struct Span(Inner);

    const fn name(role: Role) -> &'static str {
        match role {
            Role::Server => "server",
            Role::Client => "client",
        }
    }

    impl Span {
        pub(crate) fn of(
            role: Role,
            path: &str,
            subprotocol: Option<&str>,
            deflate: Option<DeflateParameters>,
        ) -> Self {
            // At the level of an end that needs attention, so that this end has its context even if only warnings are on.
            let span = warn_span!(
                target: "longwire",
                parent: None,
                "websocket",
                side = name(role),
                peer = field::Empty,
                path = path.split('?').next(),
                subprotocol,
                deflate = deflate.is_some(),
            );
            span.follows_from(Inner::current());
            Self(span)
        }

        pub(crate) fn is_on(&self) -> bool {
            !self.0.is_disabled()
        }

        pub(crate) fn set_peer(&self, peer: Option<SocketAddr>) {
            self.0.record("peer", peer.map(field::display));
        }

        pub(crate) fn opened(&self) {
            debug!(target: "longwire", parent: &self.0, "opened");
        }

        #[inline]
        pub(crate) fn message(&self, direction: &'static str, kind: Kind, bytes: usize) {
            trace!(target: "longwire", parent: &self.0, direction, ?kind, bytes, "message");
        }

        /// `None`: it was dropped before it had ended.
        pub(crate) fn ended(&self, end: Option<&Result<Closed, Error>>, received: &Traffic, sent: &Traffic) {
            let (cause, code) = name_end(end);
            macro_rules! ended {
                ($level:ident) => {
                    $level!(
                        target: "longwire",
                        parent: &self.0,
                        cause,
                        code,
                        messages_received = received.messages(),
                        bytes_received = received.wire_bytes,
                        messages_sent = sent.messages(),
                        bytes_sent = sent.wire_bytes,
                        "ended"
                    )
                };
            }
            if is_for_people(end) { ended!(warn) } else { ended!(info) }
        }
    }

    fn name_end(end: Option<&Result<Closed, Error>>) -> (&'static str, Option<u16>) {
        match end {
            None => (crate::end::cause::DROPPED, None),
            Some(Ok(closed)) => (closed.cause(), Some(closed.code())),
            Some(Err(Error::Protocol(error))) => {
                (Error::from(*error).cause(), Some(error.close_code().into()))
            }
            Some(Err(error)) => (error.cause(), None),
        }
    }

    /// Networks come and go, and so do those who use them: what is not that, somebody has to look at.
    fn is_for_people(end: Option<&Result<Closed, Error>>) -> bool {
        match end {
            None | Some(Ok(_) | Err(Error::Eof | Error::PingTimeout)) => false,
            Some(Err(error)) => !matches!(error.cause(), "reset" | "aborted"),
        }
    }

    /// An opening handshake has failed.
    pub(crate) fn not_opened(
        role: Role,
        peer: Option<SocketAddr>,
        status: Option<StatusCode>,
        cause: &'static str,
    ) {
        let (side, peer) = (name(role), peer.map(field::display));
        let status = status.map(|status| status.as_u16());
        match role {
            Role::Server => info!(target: "longwire", side, peer, status, cause, "not opened"),
            Role::Client => warn!(target: "longwire", side, peer, status, cause, "not opened"),
        }
    }

    /// A client begins to connect.
    pub(crate) fn connecting(host: impl Display, port: u16) {
        debug!(target: "longwire", side = "client", %host, port, "connecting");
    }

    /// An engine has opened a connection.
    pub(crate) fn engine_opened(
        id: impl Display,
        peer: SocketAddr,
        path: &str,
        subprotocol: Option<&str>,
        deflate: bool,
    ) {
        debug!(target: "longwire", side = "server", %id, %peer, path, subprotocol, deflate, "opened");
    }

    /// A connection of an engine has ended. `peer` is asked for only where somebody wants to know.
    pub(crate) fn engine_ended(
        id: impl Display,
        peer: impl Fn() -> Option<SocketAddr>,
        end: &Result<Closed, Error>,
    ) {
        let (cause, code) = name_end(Some(end));
        let peer = || peer().map(field::display);
        if is_for_people(Some(end)) {
            warn!(target: "longwire", side = "server", %id, peer = peer(), cause, code, "ended");
        } else {
            info!(target: "longwire", side = "server", %id, peer = peer(), cause, code, "ended");
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use std::fmt::Display;
    use std::net::SocketAddr;

    use http::StatusCode;
    use longwire_proto::{DeflateParameters, Kind, Role};

    use crate::end::Closed;
    use crate::end::Error;
    use crate::observe::counters::Traffic;

    #[derive(Clone, Debug)]
    pub(crate) struct Span;

    impl Span {
        pub(crate) const fn of(_: Role, _: &str, _: Option<&str>, _: Option<DeflateParameters>) -> Self {
            Self
        }

        pub(crate) const fn is_on(&self) -> bool {
            false
        }

        pub(crate) const fn set_peer(&self, _: Option<SocketAddr>) {}

        pub(crate) const fn opened(&self) {}

        pub(crate) const fn message(&self, _: &'static str, _: Kind, _: usize) {}

        pub(crate) const fn ended(&self, _: Option<&Result<Closed, Error>>, _: &Traffic, _: &Traffic) {}
    }

    pub(crate) const fn not_opened(_: Role, _: Option<SocketAddr>, _: Option<StatusCode>, _: &'static str) {}

    pub(crate) fn connecting(_: impl Display, _: u16) {}

    #[cfg(unix)]
    pub(crate) fn engine_opened(_: impl Display, _: SocketAddr, _: &str, _: Option<&str>, _: bool) {}

    #[cfg(unix)]
    pub(crate) fn engine_ended(
        _: impl Display,
        _: impl Fn() -> Option<SocketAddr>,
        _: &Result<Closed, Error>,
    ) {
    }
}
