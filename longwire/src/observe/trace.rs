//! Spans and events for `tracing`, with the feature of that name. Without the feature, all functions are empty.
//!
//! The target of all events is `longwire`. They contain sizes, causes, addresses, the path without its query, and the
//! subprotocol. They never contain a payload, the reason of a Close frame, or the value of any other header.

#[cfg(feature = "tracing")]
pub(crate) use on::*;

#[cfg(not(feature = "tracing"))]
pub(crate) use off::*;

#[cfg(feature = "tracing")]
mod on {
    use std::fmt::Display;
    use std::net::SocketAddr;

    use longwire_proto::{Cause, DeflateParameters, Kind, Role};
    use tracing::{Span as Inner, debug, field, info, trace, warn, warn_span};

    use crate::end::{Closed, Error, NotOpenedReason, cause_of};
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
            // At the level of the most severe event, so that a subscriber that only wants warnings gets their context.
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

        /// Reports the end; `None` if the connection was dropped before it had ended.
        pub(crate) fn ended(&self, end: Option<&Result<Closed, Error>>, received: &Traffic, sent: &Traffic) {
            let (cause, code) = cause_and_code(end);
            macro_rules! ended {
                ($level:ident) => {
                    $level!(
                        target: "longwire",
                        parent: &self.0,
                        cause = cause.name(),
                        code,
                        messages_received = received.messages(),
                        bytes_received = received.wire_bytes,
                        messages_sent = sent.messages(),
                        bytes_sent = sent.wire_bytes,
                        "ended"
                    )
                };
            }
            if cause.is_warning() { ended!(warn) } else { ended!(info) }
        }
    }

    /// The cause, and the close code where there is one to show: none for an end without a Close frame.
    fn cause_and_code(end: Option<&Result<Closed, Error>>) -> (Cause, Option<u16>) {
        let cause = cause_of(end);
        let code =
            matches!(cause, Cause::Closed { .. } | Cause::Protocol(_)).then(|| cause.close_code().into());
        (cause, code)
    }

    /// An opening handshake has failed.
    pub(crate) fn not_opened(role: Role, peer: Option<SocketAddr>, reason: NotOpenedReason) {
        let (side, peer) = (name(role), peer.map(field::display));
        let (status, cause) = match reason {
            NotOpenedReason::Status(status) => (Some(status.as_u16()), "refused"),
            NotOpenedReason::Failure(failure) => (None, failure.name()),
        };
        match role {
            Role::Server => info!(target: "longwire", side, peer, status, cause, "not opened"),
            Role::Client => warn!(target: "longwire", side, peer, status, cause, "not opened"),
        }
    }

    /// A client starts to connect.
    pub(crate) fn connecting(host: impl Display, port: u16) {
        debug!(target: "longwire", side = "client", %host, port, "connecting");
    }

    /// An engine has opened a connection.
    #[cfg(all(unix, feature = "engine"))]
    pub(crate) fn engine_opened(
        id: impl Display,
        peer: SocketAddr,
        path: &str,
        subprotocol: Option<&str>,
        deflate: bool,
    ) {
        debug!(target: "longwire", side = "server", %id, %peer, path, subprotocol, deflate, "opened");
    }

    /// A connection of an engine has ended. `peer` is called only if the event is enabled.
    #[cfg(all(unix, feature = "engine"))]
    pub(crate) fn engine_ended(
        id: impl Display,
        peer: impl Fn() -> Option<SocketAddr>,
        end: &Result<Closed, Error>,
    ) {
        let (cause, code) = cause_and_code(Some(end));
        let (name, peer) = (cause.name(), || peer().map(field::display));
        if cause.is_warning() {
            warn!(target: "longwire", side = "server", %id, peer = peer(), cause = name, code, "ended");
        } else {
            info!(target: "longwire", side = "server", %id, peer = peer(), cause = name, code, "ended");
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use std::fmt::Display;
    use std::net::SocketAddr;

    use longwire_proto::{DeflateParameters, Kind, Role};

    use crate::end::{Closed, Error, NotOpenedReason};
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

    pub(crate) const fn not_opened(_: Role, _: Option<SocketAddr>, _: NotOpenedReason) {}

    pub(crate) fn connecting(_: impl Display, _: u16) {}

    #[cfg(all(unix, feature = "engine"))]
    pub(crate) fn engine_opened(_: impl Display, _: SocketAddr, _: &str, _: Option<&str>, _: bool) {}

    #[cfg(all(unix, feature = "engine"))]
    pub(crate) fn engine_ended(
        _: impl Display,
        _: impl Fn() -> Option<SocketAddr>,
        _: &Result<Closed, Error>,
    ) {
    }
}
