//! The compression state of a connection, and what it borrows from its thread.
//!
//! Tables and buffers belong to the thread, for they are large and hold nothing of a message. A connection has an
//! [`Inflater`] while a compressed message is half received, and otherwise only the context that it takes over to
//! its next message.

use std::cell::RefCell;

use super::compress::{Compressor, History};
use super::inflate::{InflateError, Inflater, Progress};
use super::{Budget, BudgetShare, SenderParameters};

/// How many inflaters a thread keeps. One is in use at a time, unless messages arrive in pieces.
const INFLATERS_KEPT: usize = 8;

/// The largest output buffer that a thread keeps, in bytes.
const SCRATCH_KEPT: usize = 64 * 1024;

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
    // A thread that is ending has none any more, so one is made for this call.
    let kept = COMPRESSOR.try_with(|kept| kept.borrow_mut().take()).ok().flatten();
    let new = || Box::new(ThreadCompressor { compressor: Compressor::new(), scratch: Vec::new() });
    let mut lent = kept.unwrap_or_else(new);
    let result = compress(&mut lent.compressor, &mut lent.scratch);
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

/// The receiving direction.
#[derive(Default)]
pub(crate) struct InflateState {
    /// What the next message may refer back to.
    window: Vec<u8>,
    /// While a message is half received.
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

    /// Ends the message and keeps its parameters.
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

/// The sending direction, where it refers back: within a message in parts, or to earlier messages.
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

    /// Returns whether it outlives the message.
    pub(crate) const fn takes_over(&self) -> bool {
        self.share.is_some()
    }
}
