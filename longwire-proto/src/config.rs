//! Limits and deadlines of one connection, with their defaults.

use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::deflate::{Budget, Compress, Deflate};
use crate::role::Role;

/// Limits and deadlines of one connection.
///
/// Begins with the defaults of a server or of a client. Each setting is a method that changes it, and a field of the
/// same name that tells it:
///
/// ```
/// use std::time::Duration;
/// # use longwire_proto::Config;
///
/// let config = Config::server().max_message(64 * 1024).ping_after(Some(Duration::from_secs(5)));
/// assert_eq!(config.max_message, 64 * 1024);
/// assert_eq!(config.write_timeout, Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// See [`max_message`](Self::max_message()), in bytes.
    pub max_message: usize,
    /// See [`max_small_fragments`](Self::max_small_fragments()).
    pub max_small_fragments: NonZeroU32,
    /// See [`max_control_run`](Self::max_control_run()).
    pub max_control_run: NonZeroU16,
    /// See [`frame_size`](Self::frame_size()), in bytes.
    pub frame_size: NonZeroUsize,
    /// See [`write_buffer`](Self::write_buffer()), in bytes.
    pub write_buffer: NonZeroUsize,
    /// See [`ping_after`](Self::ping_after()).
    pub ping_after: Option<Duration>,
    /// See [`pong_timeout`](Self::pong_timeout()).
    pub pong_timeout: Duration,
    /// See [`close_timeout`](Self::close_timeout()).
    pub close_timeout: Duration,
    /// See [`write_timeout`](Self::write_timeout()).
    pub write_timeout: Duration,
    /// See [`message_timeout`](Self::message_timeout()).
    pub message_timeout: Option<Duration>,
    /// See [`read_timeout`](Self::read_timeout()).
    pub read_timeout: Option<Duration>,
    /// See [`min_rate`](Self::min_rate()), in bytes per second.
    pub min_rate: u32,
    /// See [`deflate`](Self::deflate()).
    pub deflate: Option<Deflate>,
    role: Role,
}

/// A setting that must not be zero.
macro_rules! non_zero {
    ($of:ident, $value:expr, $name:literal) => {
        match $of::new($value) {
            Some(value) => value,
            None => panic!(concat!("Config::", $name, " must not be 0")),
        }
    };
}

impl Config {
    /// Returns the defaults of a server: messages of at most 1 MiB, no compression.
    pub const fn server() -> Self {
        Self::new(Role::Server, 1024 * 1024, Duration::from_secs(120), None)
    }

    /// Returns the defaults of a client: like a server's, but messages of up to 64 MiB, a
    /// [`message_timeout`](Self::message_timeout) of 10 minutes, and compression is offered.
    pub const fn client() -> Self {
        Self::new(Role::Client, 64 * 1024 * 1024, Duration::from_secs(600), Some(Deflate::new()))
    }

    const fn new(
        role: Role,
        max_message: usize,
        message_timeout: Duration,
        deflate: Option<Deflate>,
    ) -> Self {
        Self {
            max_message,
            max_small_fragments: non_zero!(NonZeroU32, 16_384, "max_small_fragments"),
            max_control_run: non_zero!(NonZeroU16, 10_000, "max_control_run"),
            frame_size: non_zero!(NonZeroUsize, 256 * 1024, "frame_size"),
            write_buffer: non_zero!(NonZeroUsize, 1024 * 1024, "write_buffer"),
            ping_after: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            message_timeout: Some(message_timeout),
            read_timeout: None,
            min_rate: 4096,
            deflate,
            role,
        }
    }

    /// Returns the role whose defaults it began with. An acceptor rejects the configuration of a client, and a client
    /// that of a server.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Sets the largest message that is put together, in bytes; default 1 MiB for a server, 64 MiB for a
    /// client. A larger one fails the connection with 1009 as soon as its frames announce it, or as soon as
    /// that much of it is inflated. Messages taken in parts are not limited, for nothing of them is kept.
    #[must_use]
    pub const fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets how many fragments with fewer than [`SMALL_FRAGMENT`](Self::SMALL_FRAGMENT) bytes of payload one
    /// message may have, empty ones included; default 16,384, at least 1. One more fails the connection with
    /// 1008.
    ///
    /// This bounds the work that a message may cause in relation to its size: a larger fragment pays for
    /// itself by its payload, which other limits bound, so there may be any number of those.
    ///
    /// # Panics
    ///
    /// Panics if it is 0.
    #[must_use]
    pub const fn max_small_fragments(mut self, fragments: u32) -> Self {
        self.max_small_fragments = non_zero!(NonZeroU32, fragments, "max_small_fragments");
        self
    }

    /// Fragments with fewer bytes of payload than this, as on the wire, count against
    /// [`max_small_fragments`](Self::max_small_fragments).
    pub const SMALL_FRAGMENT: usize = 32;

    /// Sets how many control frames may come in a row, with neither a data frame nor 100 ms of silence between
    /// them; default 10,000. One more fails the connection with 1008.
    ///
    /// # Panics
    ///
    /// Panics if it is 0.
    #[must_use]
    pub const fn max_control_run(mut self, frames: u16) -> Self {
        self.max_control_run = non_zero!(NonZeroU16, frames, "max_control_run");
        self
    }

    /// Sets the largest payload of a frame that is sent, in bytes; default 256 KiB. Larger messages
    /// are sent in fragments of this size, so that control frames can pass between them.
    ///
    /// # Panics
    ///
    /// Panics if it is 0.
    #[must_use]
    pub const fn frame_size(mut self, bytes: usize) -> Self {
        self.frame_size = non_zero!(NonZeroUsize, bytes, "frame_size");
        self
    }

    /// Sets how many bytes may wait to be written before sending waits; default 1 MiB. A message is
    /// queued while less than this waits, so one message may exceed it.
    ///
    /// # Panics
    ///
    /// Panics if it is 0.
    #[must_use]
    pub const fn write_buffer(mut self, bytes: usize) -> Self {
        self.write_buffer = non_zero!(NonZeroUsize, bytes, "write_buffer");
        self
    }

    /// Sets after how much silence a Ping is sent; default 20 s. With `None` no Pings are sent, and a silent
    /// peer is never dropped.
    #[must_use]
    pub const fn ping_after(mut self, silence: Option<Duration>) -> Self {
        self.ping_after = silence;
        self
    }

    /// Sets how long the peer may stay silent after a Ping before the connection is dropped; default 10 s. Any
    /// byte proves that the peer is alive, not only the Pong.
    ///
    /// Bytes that were written since the peer was last heard may still be under way in front of the Ping, so
    /// they extend this by the time that they take at [`min_rate`](Self::min_rate), by at most 2 minutes.
    #[must_use]
    pub const fn pong_timeout(mut self, silence: Duration) -> Self {
        self.pong_timeout = silence;
        self
    }

    /// Sets how long the closing handshake may take, including the end of TCP; default 5 s.
    ///
    /// A peer that has ended its own direction of TCP without a closing handshake gets what waits: for that,
    /// the time that it takes at [`min_rate`](Self::min_rate) is added, at most 2 minutes.
    #[must_use]
    pub const fn close_timeout(mut self, time: Duration) -> Self {
        self.close_timeout = time;
        self
    }

    /// Sets how long the peer may accept no byte while bytes wait to be written; default 30 s.
    #[must_use]
    pub const fn write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// Sets how long a message that is put together may take to arrive, and a header or control frame too;
    /// default 120 s for a server, 10 minutes for a client, `None` for no limit. A message that takes longer
    /// fails the connection with 1008. Messages taken in parts have no limit.
    ///
    /// Each byte that is received meanwhile extends this by the time that it takes at
    /// [`min_rate`](Self::min_rate), up to the time of [`max_message`](Self::max_message) bytes. So a large
    /// message arrives over a slow link, and a peer that sends a byte now and then is dropped.
    #[must_use]
    pub const fn message_timeout(mut self, time: Option<Duration>) -> Self {
        self.message_timeout = time;
        self
    }

    /// Sets the maximum time without a message, even if the peer answers Pings: for feeds that are never silent
    /// this long unless they are stuck; default `None`. While a message is put together,
    /// [`message_timeout`](Self::message_timeout) applies instead; of a message taken in parts, each part
    /// counts. The connection then fails with 1008.
    #[must_use]
    pub const fn read_timeout(mut self, time: Option<Duration>) -> Self {
        self.read_timeout = time;
        self
    }

    /// Sets the slowest rate at which a peer counts as making progress, in bytes per second; default 4096, at
    /// least 1. It extends [`message_timeout`](Self::message_timeout) and [`pong_timeout`](Self::pong_timeout).
    #[must_use]
    pub const fn min_rate(mut self, bytes_per_second: u32) -> Self {
        self.min_rate = if bytes_per_second == 0 { 1 } else { bytes_per_second };
        self
    }

    /// Enables compression (RFC 7692): a server accepts what clients offer, a client offers it. By default a
    /// client offers it, and a server does not accept it.
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Disables compression.
    #[must_use]
    pub fn no_deflate(mut self) -> Self {
        self.deflate = None;
        self
    }

    /// Whether a message of `length` bytes is to be compressed, where both ends agree on it.
    pub(crate) fn compresses(&self, length: usize, compress: Compress) -> bool {
        match compress {
            Compress::Auto => self.deflate.as_ref().is_some_and(|deflate| length >= deflate.threshold),
            Compress::Always => true,
            Compress::Never => false,
        }
    }

    /// How hard to compress, and the budget of what may be held for it.
    pub(crate) fn compression(&self) -> (u8, Option<&Budget>) {
        self.deflate.as_ref().map_or((Deflate::new().level, None), |it| (it.level, it.send_takeover.as_ref()))
    }
}
