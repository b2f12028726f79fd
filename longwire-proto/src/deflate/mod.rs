//! permessage-deflate (RFC 7692): how it is configured and what two ends agree on.
//!
//! `negotiate` is the text of the opening handshake; `compress` and `inflate` know DEFLATE (RFC 1951) and
//! nothing else; `codec` is what a connection holds of them. Where they meet messages and frames is in
//! `send` and `receive`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::role::Role;

pub(crate) mod codec;
mod compress;
mod inflate;
pub(crate) mod negotiate;

/// The window sizes that exist, as powers of two (RFC 7692 7.1.2).
pub(crate) const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// How messages are compressed, and what is asked of the peer (RFC 7692).
///
/// By default no context is taken over when sending: every message is compressed by itself, by a
/// compressor that belongs to the thread, and a connection keeps nothing for it. The peer may take over
/// its context, which costs up to 40 KiB on each connection that has received a compressed message;
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
    /// The defaults, which each method names.
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

    /// How hard to compress, from 1, the fastest, to 9, the smallest; default 1.
    ///
    /// A message is compressed in one call. A mebibyte of the hardest data, such as an attacker may have echoed to
    /// him, takes level 1 some 10 ms, level 6 a tenth of a second, and levels 8 and 9, which are bounded, half a
    /// second; ordinary text takes 5, 20, and up to 100 ms (`bench --codec`).
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.level = level.clamp(1, 9);
        self
    }

    /// Smaller messages are sent as they are, in bytes; default 256.
    #[must_use]
    pub const fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// The window for sending, from 8 to 15 as a power of two; default 15. The peer may ask for a smaller one.
    #[must_use]
    pub fn send_window_bits(mut self, bits: u8) -> Self {
        self.send_window_bits = bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end());
        self
    }

    /// The largest window that the peer may use, from 8 to 15 as a power of two; default 15. A peer that cannot limit
    /// its window gets no compression then.
    #[must_use]
    pub fn receive_window_bits(mut self, bits: u8) -> Self {
        self.receive_window_bits = bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end());
        self
    }

    /// Every message is compressed by itself, in both directions: nothing is kept between messages
    /// (RFC 7692 7.1.1). Takes a [`send_context_takeover`](Self::send_context_takeover) before it back.
    #[must_use]
    pub fn no_context_takeover(mut self) -> Self {
        self.receive_takeover = false;
        self.send_takeover = None;
        self
    }

    /// Takes the context of earlier messages over when sending, if the peer lets us: smaller messages,
    /// for memory on each connection that has sent one.
    ///
    /// All connections of this configuration and its clones share `budget` bytes for that; each takes
    /// 64 KiB of it at level 1, 192 KiB above, and less with a smaller window. One that finds too little
    /// left compresses each message by itself.
    #[must_use]
    pub fn send_context_takeover(mut self, budget: usize) -> Self {
        self.send_takeover = Some(Budget::new(budget));
        self
    }
}

/// What two ends agreed on (RFC 7692 section 7.1).
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

/// One direction of what was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) window_bits: u8,
    /// Messages may refer back to those before.
    pub(crate) takeover: bool,
}

impl DeflateParameters {
    /// The direction from `sender` to the other.
    pub(crate) fn of(self, sender: Role) -> Context {
        let (bits, alone) = match sender {
            Role::Server => (self.server_max_window_bits, self.server_no_context_takeover),
            Role::Client => (self.client_max_window_bits, self.client_no_context_takeover),
        };
        Context { window_bits: bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end()), takeover: !alone }
    }
}

/// Whether a message is compressed, where permessage-deflate was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// From [`Deflate::threshold`] on. A message in parts, whose size is not known, always is, unless
    /// its first part is also its last.
    #[default]
    Auto,
    /// Whatever its size.
    Always,
    /// Not: it is compressed already, or a secret that is sent beside what an attacker chooses, which its
    /// compressed size could give away.
    Never,
}

/// Bytes that several connections may hold together.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
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
        Self(Arc::new(Account { limit, used: AtomicUsize::new(0) }))
    }

    /// Takes `bytes` out of the budget until the share is dropped; `None` if fewer are left.
    pub(crate) fn take(&self, bytes: usize) -> Option<Share> {
        let fits = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.0.limit);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Share { account: Arc::clone(&self.0), bytes })
    }
}

/// A part of a [`Budget`].
#[derive(Debug)]
pub(crate) struct Share {
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
