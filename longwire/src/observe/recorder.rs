//! Records the traffic and the end of one connection of the async driver, for counters and traces. A connection that is
//! neither counted nor traced has no recorder, and pays a branch.

use longwire_proto::{Kind, Role};

use crate::end::{AcceptError, Closed, ConnectError, Error, cause_of};
use crate::observe::counters::{Counters, Traffic};
use crate::observe::trace::Span;

#[derive(Debug)]
pub(crate) struct Watch {
    counters: Option<Counters>,
    span: Span,
    received: Traffic,
    sent: Traffic,
    /// The part that the counters have already received.
    published: (Traffic, Traffic),
    /// How it ends if it is dropped now.
    end: Option<Result<Closed, Error>>,
    over: bool,
}

impl Watch {
    /// Creates a recorder for a connection that has just been opened, if it is counted or traced.
    pub(crate) fn opened(counters: Option<&Counters>, span: Span) -> Option<Box<Self>> {
        if counters.is_none() && !span.is_on() {
            return None;
        }
        let counters = counters.cloned();
        if let Some(counters) = &counters {
            counters.opened();
        }
        span.opened();
        let (received, sent) = Default::default();
        Some(Box::new(Self {
            counters,
            span,
            received,
            sent,
            published: Default::default(),
            end: None,
            over: false,
        }))
    }

    #[inline]
    pub(crate) fn received(&mut self, kind: Kind, length: usize, last: bool) {
        self.received.add(kind, length, last);
        self.span.message("received", kind, length);
    }

    #[inline]
    pub(crate) fn sent(&mut self, kind: Kind, length: usize, last: bool) {
        self.sent.add(kind, length, last);
        self.span.message("sent", kind, length);
    }

    pub(crate) const fn ping_sent(&mut self) {
        self.sent.pings += 1;
    }

    pub(crate) const fn ping_received(&mut self) {
        self.received.pings += 1;
    }

    pub(crate) const fn pong_received(&mut self) {
        self.received.pongs += 1;
    }

    pub(crate) const fn read(&mut self, bytes: usize) {
        self.received.wire_bytes += bytes as u64;
    }

    pub(crate) const fn written(&mut self, bytes: usize) {
        self.sent.wire_bytes += bytes as u64;
    }

    /// Publishes the new counts to the counters.
    pub(crate) fn tell(&mut self) {
        if let Some(counters) = &self.counters {
            let (received, sent) = &self.published;
            if *received != self.received || *sent != self.sent {
                counters.add(&self.received.since(received), &self.sent.since(sent));
                self.published = (self.received, self.sent);
            }
        }
    }

    /// Records how the connection ends, as far as this is known.
    pub(crate) fn ends(&mut self, end: Result<Closed, Error>) {
        self.end = Some(end);
    }

    /// Publishes the end. Later calls do nothing.
    pub(crate) fn over(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.tell();
        let end = self.end.as_ref();
        if let Some(counters) = &self.counters {
            counters.ended(cause_of(end));
        }
        self.span.ended(end, &self.received, &self.sent);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over();
    }
}

/// Records that a server rejected a handshake, or that it failed.
pub(crate) fn not_accepted(counters: Option<&Counters>, error: &AcceptError) {
    if let Some(counters) = counters {
        counters.not_opened(error.reason());
    }
    crate::observe::trace::not_opened(Role::Server, None, error.reason());
}

/// Records that a client could not connect.
pub(crate) fn not_connected(counters: Option<&Counters>, error: &ConnectError) {
    if let Some(counters) = counters {
        counters.not_opened(error.reason());
    }
    crate::observe::trace::not_opened(Role::Client, None, error.reason());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory per counted connection that the documentation of [`Counters`] promises.
    #[test]
    fn it_is_small() {
        assert!(size_of::<Watch>() <= 384, "{}", size_of::<Watch>());
    }
}
