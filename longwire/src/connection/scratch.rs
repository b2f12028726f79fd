//! Buffers that a connection holds only while bytes are pending. They are lent by the thread that polls it.
//!
//! A read block is returned as soon as nothing unread is in it. The rest is returned when nothing is half
//! received and nothing waits to be written. So an idle connection holds no buffer.

use std::cell::RefCell;

use bytes::BytesMut;
use longwire_proto::{Assembler, Outbox};

use crate::connection::coop_budget::Work;
use crate::net::read_block::{self, BLOCK};

/// A block with less room than this is exchanged before reading.
const ROOM_MIN: usize = 16 * 1024;

/// How many [`Scratch`]es a thread keeps. Most return between two polls, so few are in use at once.
const KEPT: usize = 16;

/// Everything that a connection needs while it is not idle, behind one pointer.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// What was read and is not worked off.
    pub(crate) input: BytesMut,
    pub(crate) out: Outbox,
    pub(crate) assembler: Assembler,
    /// A message or a part was handed out, and the core was not told yet.
    pub(crate) delivered: bool,
    /// Work that the task of this connection is still to be charged for.
    pub(crate) work: Work,
    /// The stream took bytes that it may still hold.
    pub(crate) unflushed: bool,
}

impl Scratch {
    pub(crate) fn new(input: BytesMut) -> Self {
        Self {
            input,
            out: Outbox::new(),
            assembler: Assembler::default(),
            delivered: false,
            work: Work::default(),
            unflushed: false,
        }
    }

    /// Whether nothing is half received and nothing waits to be written. Work that was not paid for keeps it with
    /// its connection: the next connection on the thread must not be charged for it.
    pub(crate) fn is_idle(&self) -> bool {
        !self.unflushed
            && !self.delivered
            && self.work.is_paid()
            && self.input.is_empty()
            && self.out.is_empty()
            && self.assembler.is_idle()
    }

    /// Makes room for a read behind what is unread.
    pub(crate) fn take_block(&mut self) {
        if self.input.capacity() - self.input.len() >= ROOM_MIN || self.input.try_reclaim(BLOCK / 2) {
            return;
        }
        let mut block = read_block::take();
        block.extend_from_slice(&self.input);
        self.input = block;
    }

    /// Gives the block back if nothing unread is in it and no message shares it. A message that does keeps the
    /// whole block alive.
    pub(crate) fn give_back_whole_block(&mut self) {
        if self.input.is_empty() && (self.input.capacity() >= BLOCK || self.input.try_reclaim(BLOCK)) {
            read_block::give_back(std::mem::take(&mut self.input));
        }
    }

    /// Gives the block back. The few bytes of an incomplete header or control frame move to a buffer of their
    /// size: a peer that stops in the middle of one must not hold 64 KiB.
    pub(crate) fn give_back_block(&mut self) {
        if self.input.is_empty() {
            read_block::give_back(std::mem::take(&mut self.input));
        } else if self.input.capacity() >= ROOM_MIN && self.input.len() < ROOM_MIN / 16 {
            let rest = BytesMut::from(&self.input[..]);
            read_block::give_back(std::mem::replace(&mut self.input, rest));
        }
    }
}

thread_local! {
    #[expect(clippy::vec_box, reason = "the box is what is lent")]
    static POOL: RefCell<Vec<Box<Scratch>>> = const { RefCell::new(Vec::new()) };
}

/// Takes buffers for a connection that has something pending.
pub(crate) fn take() -> Box<Scratch> {
    let lent = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
    lent.unwrap_or_else(|| Box::new(Scratch::new(BytesMut::new())))
}

/// Gives back what [is idle](Scratch::is_idle).
pub(crate) fn put(mut lent: Box<Scratch>) {
    debug_assert!(lent.is_idle());
    lent.give_back_block();
    lent.assembler.reset();
    lent.work = Work::default();
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < KEPT {
            pool.push(lent);
        }
    });
}
