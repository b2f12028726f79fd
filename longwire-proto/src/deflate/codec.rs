//! The compression state of a connection, and the pools of its thread.
//!
//! Each thread keeps two pools for all connections that it drives. They are thread-local and never freed before the
//! thread ends:
//!
//! - one [`Compressor`] (at most 360 KiB) and its output buffer (at most 64 KiB). A call borrows it from start to end,
//!   so that one is enough.
//! - up to eight [`Inflater`]s (12 KiB each). A connection takes one for a compressed message. It returns it when the
//!   message ends or the connection is dropped, to the pool of the thread on which that happens. More than one is in use
//!   only if messages arrive in pieces.
//!
//! They are shared because they are large, and because a later message depends on nothing that an earlier one left in
//! them. What it does depend on belongs to the connection: the window of [`InflateState`] and the [`History`] of
//! [`DeflateState`], if the context is taken over (RFC 7692 7.1.1).

use std::cell::RefCell;

use super::compress::{Compressor, History};
use super::inflate::{InflateError, Inflater, Progress};
use super::{Budget, BudgetShare, SenderParameters};

/// The most inflaters that a thread keeps.
const INFLATERS_KEPT: usize = 8;

/// The largest output buffer that a thread keeps, in bytes.
const SCRATCH_KEPT: usize = 64 * 1024;

// Accessed by `try_with`: a connection that is dropped by the destructor of another thread-local may come too late for
// these, and must not panic.
thread_local! {
    static COMPRESSOR: RefCell<Option<Box<ThreadCompressor>>> = const { RefCell::new(None) };
    static INFLATERS: RefCell<Vec<Box<Inflater>>> = const { RefCell::new(Vec::new()) };
}

struct ThreadCompressor {
    compressor: Compressor,
    /// The compressor's output.
    scratch: Vec<u8>,
}

/// Calls `compress` with the thread's compressor, and an empty buffer for its output.
pub(crate) fn with_compressor<R>(compress: impl FnOnce(&mut Compressor, &mut Vec<u8>) -> R) -> R {
    // Taken out for the call, so that the cell is not borrowed if `compress` panics or compresses again. A thread that
    // is ending has none any more: one is made for this call.
    let kept = COMPRESSOR.try_with(|kept| kept.borrow_mut().take()).ok().flatten();
    let new = || Box::new(ThreadCompressor { compressor: Compressor::new(), scratch: Vec::new() });
    let mut lent = kept.unwrap_or_else(new);
    let result = compress(&mut lent.compressor, &mut lent.scratch);
    // One large message must not hold its memory as long as the thread lives.
    lent.scratch.clear();
    if lent.scratch.capacity() > SCRATCH_KEPT {
        lent.scratch = Vec::new();
    }
    let _ = COMPRESSOR.try_with(|kept| *kept.borrow_mut() = Some(lent));
    result
}

fn take_inflater() -> Box<Inflater> {
    let kept = INFLATERS.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
    kept.unwrap_or_else(|| Box::new(Inflater::new()))
}

/// Keeps the tables, not the window, which belongs to its connection and holds what the peer has sent.
fn keep_inflater(mut inflater: Box<Inflater>) {
    *inflater.window() = Vec::new();
    let _ = INFLATERS.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < INFLATERS_KEPT {
            kept.push(inflater);
        }
    });
}

/// The state for receiving compressed messages.
#[derive(Default)]
pub(crate) struct InflateState {
    /// The data that the next message may refer back to; empty within a message, when the inflater has it.
    window: Vec<u8>,
    /// Present while a message is half received.
    inflater: Option<Box<Inflater>>,
    /// Bytes at the front of the input that are unmasked already, and not consumed.
    pub(crate) unmasked: usize,
}

impl std::fmt::Debug for InflateState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InflateState")
            .field("within_message", &self.inflater.is_some())
            .finish_non_exhaustive()
    }
}

impl InflateState {
    /// Inflates a piece of the current message, or of the next one.
    pub(crate) fn inflate(
        &mut self,
        parameters: SenderParameters,
        input: &[u8],
        last: bool,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<Progress, InflateError> {
        let inflater = self.inflater.get_or_insert_with(|| {
            let mut inflater = take_inflater();
            *inflater.window() = std::mem::take(&mut self.window);
            inflater.begin_message(parameters.window_bits, parameters.takeover);
            inflater
        });
        inflater.inflate(input, last, limit, out)
    }

    /// Ends the message. Its window is kept for the next one.
    pub(crate) fn end_message(&mut self) {
        if let Some(mut inflater) = self.inflater.take() {
            self.window = std::mem::take(inflater.window());
            keep_inflater(inflater);
        }
    }
}

impl Drop for InflateState {
    fn drop(&mut self) {
        if let Some(inflater) = self.inflater.take() {
            keep_inflater(inflater);
        }
    }
}

/// The state for sending compressed messages that refer back: within a message in parts, or to earlier messages.
pub(crate) struct DeflateState {
    pub(crate) history: History,
    /// The share of the budget, if the history outlives the message.
    share: Option<BudgetShare>,
}

impl std::fmt::Debug for DeflateState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeflateState").field("share", &self.share).finish_non_exhaustive()
    }
}

impl DeflateState {
    /// Makes the state for one message.
    pub(crate) fn for_message(level: u8, parameters: SenderParameters) -> Box<Self> {
        Box::new(Self { history: History::new(level, parameters.window_bits), share: None })
    }

    /// Makes the state for all messages to come; `None` if that was not negotiated or the budget is used up.
    pub(crate) fn for_connection(
        level: u8,
        parameters: SenderParameters,
        budget: Option<&Budget>,
    ) -> Option<Box<Self>> {
        if !parameters.takeover {
            return None;
        }
        let share = budget?.take(History::size(level, parameters.window_bits))?;
        Some(Box::new(Self { history: History::new(level, parameters.window_bits), share: Some(share) }))
    }

    /// Returns whether the history outlives the message.
    pub(crate) const fn takes_over(&self) -> bool {
        self.share.is_some()
    }
}
