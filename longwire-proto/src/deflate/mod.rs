//! permessage-deflate (RFC 7692): its configuration and its negotiated parameters.
//!
//! `negotiate` reads and writes the header of the opening handshake. `compress` and `inflate` know DEFLATE (RFC
//! 1951) and nothing else. `codec` is the state that a connection holds. `send` and `receive` apply it to messages
//! and frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::role::Role;

pub(crate) mod codec;
mod compress;
mod inflate;
pub(crate) mod negotiate;

/// The window sizes that exist, as powers of two (RFC 7692 7.1.2).
pub(crate) const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// How messages are compressed, and what is required of the peer (RFC 7692).
///
/// By default every message that is sent is compressed by itself, by a compressor that belongs to the thread, and
/// a connection keeps nothing for it. The peer may take over its context from message to message. That costs up
/// to 40 KiB on each connection that has received a compressed message, unless
/// [`no_context_takeover`](Self::no_context_takeover) forbids it.
///
/// ```
/// # use longwire_proto::{Config, Deflate};
///
/// let config = Config::server().deflate(Deflate::new().level(3).threshold(1024));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deflate {
    pub(crate) level: u8,
    pub(crate) threshold: usize,
    pub(crate) send_window_bits: u8,
    pub(crate) receive_window_bits: u8,
    pub(crate) receive_takeover: bool,
    pub(crate) send_takeover: Option<Budget>,
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflate {
    /// Returns the defaults, which are documented at each method.
    pub const fn new() -> Self {
        Self {
            level: 1,
            threshold: 256,
            send_window_bits: 15,
            receive_window_bits: 15,
            receive_takeover: true,
            send_takeover: None,
        }
    }

    /// Sets how hard to compress, from 1, the fastest, to 9, the smallest; default 1.
    ///
    /// A message is compressed in one call, which blocks its thread. A mebibyte of the hardest data, which an
    /// attacker may have an echo service compress, takes about 10 ms at level 1, 100 ms at level 6, and 500 ms at
    /// levels 8 and 9. Ordinary text takes 5, 20, and up to 100 ms.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.level = level.clamp(1, 9);
        self
    }

    /// Sets the size in bytes below which messages are not compressed; default 256.
    #[must_use]
    pub const fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Sets the window for sending, from 8 to 15 as a power of two; default 15. The peer may require a smaller one.
    #[must_use]
    pub fn send_window_bits(mut self, bits: u8) -> Self {
        self.send_window_bits = bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end());
        self
    }

    /// Sets the largest window that the peer may use, from 8 to 15 as a power of two; default 15. With less than 15,
    /// compression is not used with a peer that cannot limit its window.
    #[must_use]
    pub fn receive_window_bits(mut self, bits: u8) -> Self {
        self.receive_window_bits = bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end());
        self
    }

    /// Has every message compressed by itself, in both directions, so that nothing is kept between messages (RFC 7692
    /// 7.1.1). Reverts an earlier [`send_context_takeover`](Self::send_context_takeover).
    #[must_use]
    pub fn no_context_takeover(mut self) -> Self {
        self.receive_takeover = false;
        self.send_takeover = None;
        self
    }

    /// Compresses each message with reference to earlier ones, if the peer allows it: messages become smaller, and
    /// each connection that has sent one needs more memory.
    ///
    /// All connections of this configuration and its clones share `budget` bytes for that. Each takes 64 KiB of it
    /// at level 1, 192 KiB above, and less with a smaller window. When too little is left, a connection compresses
    /// each message by itself.
    #[must_use]
    pub fn send_context_takeover(mut self, budget: usize) -> Self {
        self.send_takeover = Some(Budget::new(budget));
        self
    }
}

/// The negotiated parameters (RFC 7692 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParameters {
    /// The server compresses each message by itself (RFC 7692 7.1.1.1).
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself (RFC 7692 7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The server's window, from 8 to 15 as a power of two (RFC 7692 7.1.2.1).
    pub server_max_window_bits: u8,
    /// The client's window, from 8 to 15 as a power of two (RFC 7692 7.1.2.2).
    pub client_max_window_bits: u8,
}

/// The negotiated parameters of one direction, which its sender has to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderParameters {
    /// From 8 to 15: distances reach at most `1 << window_bits` bytes back.
    pub(crate) window_bits: u8,
    /// Messages may refer back to earlier ones.
    pub(crate) takeover: bool,
}

impl DeflateParameters {
    /// Returns the parameters of what `sender` sends.
    pub(crate) fn of(self, sender: Role) -> SenderParameters {
        let (bits, alone) = match sender {
            Role::Server => (self.server_max_window_bits, self.server_no_context_takeover),
            Role::Client => (self.client_max_window_bits, self.client_no_context_takeover),
        };
        SenderParameters {
            window_bits: bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end()),
            takeover: !alone,
        }
    }
}

/// Whether a message is compressed, if permessage-deflate was negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// If it has at least [`Deflate::threshold`] bytes. A message in parts, whose size is not known, always is, unless
    /// its first part is also its last.
    #[default]
    Auto,
    /// Whatever its size.
    Always,
    /// Not at all: for data that is compressed already, and for secrets that are sent together with data that an
    /// attacker chooses, which the compressed size could reveal.
    Never,
}

/// A budget of bytes that several connections share.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<BudgetAccount>);

#[derive(Debug)]
struct BudgetAccount {
    limit: usize,
    used: AtomicUsize,
}

/// Two budgets are equal when they allow the same.
impl PartialEq for Budget {
    fn eq(&self, other: &Self) -> bool {
        self.0.limit == other.0.limit
    }
}

impl Eq for Budget {}

impl Budget {
    fn new(limit: usize) -> Self {
        Self(Arc::new(BudgetAccount { limit, used: AtomicUsize::new(0) }))
    }

    /// Takes `bytes` out of the budget until the share is dropped; `None` if fewer are left.
    pub(crate) fn take(&self, bytes: usize) -> Option<BudgetShare> {
        // Relaxed: the sum alone matters, no other memory depends on it.
        let fits = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.0.limit);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(BudgetShare { account: Arc::clone(&self.0), bytes })
    }
}

/// A part of a [`Budget`], which is returned when this is dropped.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    account: Arc<BudgetAccount>,
    bytes: usize,
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
