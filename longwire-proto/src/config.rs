//! Limits and deadlines of one connection. Each has a name, a default and a bound that holds.

use std::time::Duration;

use crate::deflate::Deflate;

/// Limits and deadlines of one connection.
///
/// ```
/// use std::time::Duration;
/// # use longwire_proto::Config;
///
/// let config = Config::server().max_message(64 * 1024).ping_after(Some(Duration::from_secs(5)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) max_message: usize,
    pub(crate) max_fragments: u32,
    pub(crate) max_control_run: u16,
    pub(crate) frame_size: usize,
    pub(crate) write_buffer: usize,
    pub(crate) ping_after: Option<Duration>,
    pub(crate) pong_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) message_timeout: Option<Duration>,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) deflate: Option<Deflate>,
}

impl Config {
    /// The defaults of a server: messages of at most 1 MiB in at most 120 s, no compression.
    pub const fn server() -> Self {
        Self::new(1024 * 1024, Duration::from_secs(120), None)
    }

    /// The defaults of a client: as a server's, but messages of up to 64 MiB in at most 10 minutes, and
    /// compression is offered.
    pub const fn client() -> Self {
        Self::new(64 * 1024 * 1024, Duration::from_secs(600), Some(Deflate::new()))
    }

    const fn new(max_message: usize, message_timeout: Duration, deflate: Option<Deflate>) -> Self {
        Self {
            max_message,
            max_fragments: 16_384,
            max_control_run: 10_000,
            frame_size: 256 * 1024,
            write_buffer: 1024 * 1024,
            ping_after: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            message_timeout: Some(message_timeout),
            read_timeout: None,
            deflate,
        }
    }

    /// The largest message that is put together, in bytes. A larger one fails the connection with 1009
    /// as soon as its frames announce it, or so much of it is inflated. Messages taken in parts are not
    /// bounded by it, for nothing of them is kept.
    pub const fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// The most fragments that a message may come in, empty ones included; default 16,384, at least 1.
    /// One more fails the connection with 1008.
    pub const fn max_fragments(mut self, fragments: u32) -> Self {
        self.max_fragments = if fragments == 0 { 1 } else { fragments };
        self
    }

    /// The most control frames in a row: with neither a data frame nor 100 ms of silence between them;
    /// default 10,000, at least 1. One more fails the connection with 1008.
    pub const fn max_control_run(mut self, frames: u16) -> Self {
        self.max_control_run = if frames == 0 { 1 } else { frames };
        self
    }

    /// Messages over this many bytes are sent in fragments of it, so that control frames can pass
    /// between them; default 256 KiB, at least 1.
    pub const fn frame_size(mut self, bytes: usize) -> Self {
        self.frame_size = if bytes == 0 { 1 } else { bytes };
        self
    }

    /// How many bytes may wait to be written before sending waits; default 1 MiB, at least 1. One
    /// message may exceed it: it is queued while less than this waits.
    pub const fn write_buffer(mut self, bytes: usize) -> Self {
        self.write_buffer = if bytes == 0 { 1 } else { bytes };
        self
    }

    /// A Ping is sent after this much silence; default 20 s. `None` sends none, and a silent peer is
    /// then kept for ever.
    pub const fn ping_after(mut self, silence: Option<Duration>) -> Self {
        self.ping_after = silence;
        self
    }

    /// See [`ping_after`](Self::ping_after).
    pub const fn ping_silence(&self) -> Option<Duration> {
        self.ping_after
    }

    /// The peer is gone when it stays silent for this long after a Ping; default 10 s. Any byte counts
    /// as life, not only the Pong.
    pub const fn pong_timeout(mut self, silence: Duration) -> Self {
        self.pong_timeout = silence;
        self
    }

    /// How long the closing handshake may take, the end of TCP included; default 5 s.
    pub const fn close_timeout(mut self, time: Duration) -> Self {
        self.close_timeout = time;
        self
    }

    /// How long the peer may take no byte while some wait to be written; default 30 s.
    pub const fn write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// How long a message that is put together may take from its first byte to its last, however it
    /// dribbles, and a header or control frame too; default 120 s for a server, 10 minutes for a client.
    /// `None`: as long as it likes. A message that takes longer fails the connection with 1008. Messages
    /// taken in parts may take any time. It is for drivers to heed.
    pub const fn message_timeout(mut self, time: Option<Duration>) -> Self {
        self.message_timeout = time;
        self
    }

    /// How long no message may come, whatever the peer answers to Pings: for feeds that are never silent for
    /// so long unless they are stuck. Default `None`: for ever. While a message is put together
    /// [`message_timeout`](Self::message_timeout) holds instead; who takes parts has each part count. Then
    /// the connection fails with 1008. It is for drivers to heed: the one for Tokio does, the engine does not.
    pub const fn read_timeout(mut self, time: Option<Duration>) -> Self {
        self.read_timeout = time;
        self
    }

    /// See [`read_timeout`](Self::read_timeout).
    pub const fn read_time_limit(&self) -> Option<Duration> {
        self.read_timeout
    }

    /// See [`message_timeout`](Self::message_timeout).
    pub const fn message_time_limit(&self) -> Option<Duration> {
        self.message_timeout
    }

    /// Compresses messages (RFC 7692): a server accepts what clients offer, a client offers it. By default
    /// a server does not, and a client does.
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Neither accepts nor offers compression.
    #[must_use]
    pub fn no_deflate(mut self) -> Self {
        self.deflate = None;
        self
    }

    /// How messages are compressed, if both ends agree.
    pub const fn deflate_config(&self) -> Option<&Deflate> {
        self.deflate.as_ref()
    }

    /// See [`max_message`](Self::max_message), in bytes.
    pub const fn message_limit(&self) -> usize {
        self.max_message
    }

    /// See [`write_buffer`](Self::write_buffer), in bytes.
    pub const fn write_buffer_limit(&self) -> usize {
        self.write_buffer
    }
}
