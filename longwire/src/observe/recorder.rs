//! What is noted of one connection of the async driver: what went over it, and how it ended. There is none
//! where nobody counts and nobody traces, so that costs a branch.

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
    /// What the counters know of that.
    told: (Traffic, Traffic),
    /// How it would have ended if it were dropped now.
    end: Option<Result<Closed, Error>>,
    over: bool,
}

impl Watch {
    /// Watches a connection that has just been opened, if anybody wants to know.
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
            told: Default::default(),
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

    /// Tells the counters what they do not know yet.
    pub(crate) fn tell(&mut self) {
        if let Some(counters) = &self.counters {
            let (received, sent) = &self.told;
            if *received != self.received || *sent != self.sent {
                counters.add(&self.received.since(received), &self.sent.since(sent));
                self.told = (self.received, self.sent);
            }
        }
    }

    /// How it ends, as far as is known by now.
    pub(crate) fn ends(&mut self, end: Result<Closed, Error>) {
        self.end = Some(end);
    }

    /// It has ended; nothing more is told of it.
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

/// A server has opened no connection.
pub(crate) fn not_accepted(counters: Option<&Counters>, error: &AcceptError) {
    if let Some(counters) = counters {
        counters.not_opened(error.reason());
    }
    crate::observe::trace::not_opened(Role::Server, None, error.reason());
}

/// A client has got none.
pub(crate) fn not_connected(counters: Option<&Counters>, error: &ConnectError) {
    if let Some(counters) = counters {
        counters.not_opened(error.reason());
    }
    crate::observe::trace::not_opened(Role::Client, None, error.reason());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it costs to count a connection, as the documentation of [`Counters`] says.
    #[test]
    fn it_is_small() {
        assert!(size_of::<Watch>() <= 384, "{}", size_of::<Watch>());
    }
}
