//! Shared frames that leave together, gathered once for all connections that write the same bytes.

use bytes::Bytes;

use crate::config::Config;
use crate::connection::Connection;
use crate::deflate::WINDOW_BITS;
use crate::outgoing::shared::{Encoded, SharedFrame, WINDOWS};

/// Connections to which the same bytes are written for the messages of one [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchClass(u8);

/// Shared frames that leave together: gathered once for all connections that are alike, so that each
/// gets them in one write, however many they are.
#[derive(Debug, Default)]
pub struct Batch {
    frames: Vec<SharedFrame>,
    /// As they are, and compressed for each window from 8 to 15 bits; empty until asked for.
    gathered: [Bytes; 1 + WINDOWS],
}

impl Batch {
    /// Adds a message behind the others.
    pub fn push(&mut self, frame: SharedFrame) {
        self.frames.push(frame);
        self.gathered = Default::default();
    }

    /// No message is in it.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The messages, in order.
    pub fn frames(&self) -> &[SharedFrame] {
        &self.frames
    }

    /// Removes all messages.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.gathered = Default::default();
    }

    /// Returns the class of `connection`, or `None` if it has to [send](Connection::send_shared) each message
    /// by itself: a client, which masks; a connection that is closing, sends a message in parts, or takes over
    /// its compression context.
    #[inline]
    pub fn class(&mut self, connection: &Connection) -> Option<BatchClass> {
        let window_bits = connection.shared_window()?;
        let class = window_bits.map_or(0, |bits| 1 + bits.saturating_sub(*WINDOW_BITS.start()));
        let gathered = self.gathered.get_mut(usize::from(class))?;
        if gathered.is_empty() {
            *gathered = gather(&self.frames, window_bits, connection.config());
        }
        Some(BatchClass(class))
    }

    /// Returns what a connection of this class would write for all messages. All of it has to reach the peer,
    /// behind whole frames, before anything else does.
    #[inline]
    pub fn bytes(&self, class: BatchClass) -> &Bytes {
        &self.gathered[usize::from(class.0)]
    }
}

fn gather(frames: &[SharedFrame], window_bits: Option<u8>, config: &Config) -> Bytes {
    let encoded = |shared| encoded_for(shared, window_bits, config);
    if let [only] = frames
        && let [only] = encoded(only)
    {
        return only.frame.clone();
    }
    let mut all = Vec::new();
    for Encoded { frame, .. } in frames.iter().flat_map(encoded) {
        all.extend_from_slice(frame);
    }
    all.into()
}

fn encoded_for<'a>(shared: &'a SharedFrame, window_bits: Option<u8>, config: &Config) -> &'a [Encoded] {
    let deflated = window_bits.and_then(|bits| shared.deflated(bits, config));
    deflated.unwrap_or(shared.plain())
}
