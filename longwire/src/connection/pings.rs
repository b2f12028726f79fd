//! Pings that the application has sent, and how long their Pongs took.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Pings whose Pongs are awaited. A peer that answers none must not make the list grow.
const WAITING_MAX: usize = 32;

/// The Pings of a connection, from the first that the application sends.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    waiting: VecDeque<(Bytes, Instant)>,
    latest: Option<Duration>,
    /// How many were answered.
    answered: u32,
}

impl Pings {
    pub(crate) fn sent(&mut self, payload: &[u8], now: Instant) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((Bytes::copy_from_slice(payload), now));
    }

    /// A Pong has come. It also answers the Pings before the one whose payload it has: RFC 6455 5.5.3 allows a peer to
    /// answer only the latest.
    pub(crate) fn answered(&mut self, payload: &[u8], now: Instant) {
        let Some(at) = self.waiting.iter().rposition(|(sent, _)| *sent == payload) else { return };
        if let Some((_, since)) = self.waiting.drain(..=at).next_back() {
            self.latest = Some(now.saturating_duration_since(since));
            self.answered = self.answered.wrapping_add(1);
        }
    }

    /// Whether a Ping with this payload is still to be answered.
    pub(crate) fn is_waiting(&self, payload: &[u8]) -> bool {
        self.waiting.iter().any(|(sent, _)| *sent == payload)
    }

    pub(crate) const fn latest(&self) -> Option<Duration> {
        self.latest
    }

    pub(crate) const fn count(&self) -> u32 {
        self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_answers_its_ping_and_those_before() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pings = Pings::default();
        for (payload, at) in [("一", 0), ("二", 1), ("三", 2)] {
            pings.sent(payload.as_bytes(), after(at));
        }
        pings.answered(b"unsolicited", after(3));
        assert_eq!((pings.latest(), pings.count()), (None, 0));
        pings.answered("二".as_bytes(), after(4));
        assert_eq!((pings.latest(), pings.count()), (Some(Duration::from_secs(3)), 1));
        assert!(!pings.is_waiting("一".as_bytes()) && pings.is_waiting("三".as_bytes()));
        // Twice the same answer is one.
        pings.answered("二".as_bytes(), after(5));
        assert_eq!(pings.count(), 1);
    }

    #[test]
    fn a_peer_that_answers_none_makes_nothing_grow() {
        let mut pings = Pings::default();
        for i in 0..1000_u32 {
            pings.sent(&i.to_be_bytes(), Instant::now());
        }
        assert_eq!(pings.waiting.len(), WAITING_MAX);
        assert!(!pings.is_waiting(&0_u32.to_be_bytes()) && pings.is_waiting(&999_u32.to_be_bytes()));
    }
}
