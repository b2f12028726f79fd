//! What a connection holds only while bytes are pending, lent by the thread that polls it.
//!
//! Read blocks return as soon as nothing unread is in them; the rest when nothing is half received and
//! nothing waits to be written. An idle connection holds neither.

use std::cell::RefCell;

use bytes::BytesMut;
use longwire_proto::{Assembler, Outbox};

use crate::connection::coop_budget::Work;

/// Bytes that one read may take.
const BLOCK: usize = 64 * 1024;

/// With less room than this a block is exchanged before reading.
const ROOM_MIN: usize = 16 * 1024;

/// Blocks, and lent states, that a thread keeps: the most that are in use at once in practice, since
/// they return between polls.
const KEPT: usize = 16;

/// Everything that a connection needs while it is not idle, behind one pointer.
#[derive(Debug)]
pub(crate) struct Lent {
    /// What was read and not yet taken.
    pub(crate) input: BytesMut,
    pub(crate) out: Outbox,
    pub(crate) assembler: Assembler,
    /// A message or a part was handed out, and the connection does not know it yet.
    pub(crate) delivered: bool,
    /// What this connection still has to be charged for.
    pub(crate) work: Work,
    /// The stream took bytes that it may still hold.
    pub(crate) unflushed: bool,
}

impl Lent {
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

    /// Nothing is half received, nothing waits to be written, and nothing is left that the next connection
    /// must not be charged with.
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
        let mut block = block();
        block.extend_from_slice(&self.input);
        self.input = block;
    }

    /// Gives the block back if nothing unread is in it and no message is a part of it: one that is keeps
    /// the block alive anyway, and returns it with what is left.
    pub(crate) fn give_back_whole_block(&mut self) {
        if self.input.is_empty() && (self.input.capacity() >= BLOCK || self.input.try_reclaim(BLOCK)) {
            give_back(std::mem::take(&mut self.input));
        }
    }

    /// Gives the block back, but for the few bytes of a header or control frame that is not whole.
    pub(crate) fn give_back_block(&mut self) {
        if self.input.is_empty() {
            give_back(std::mem::take(&mut self.input));
        } else if self.input.capacity() >= ROOM_MIN && self.input.len() < ROOM_MIN / 16 {
            let rest = BytesMut::from(&self.input[..]);
            give_back(std::mem::replace(&mut self.input, rest));
        }
    }
}

struct Pool {
    blocks: Vec<BytesMut>,
    #[expect(clippy::vec_box, reason = "the box is what is lent")]
    lent: Vec<Box<Lent>>,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { blocks: Vec::new(), lent: Vec::new() }) };
}

/// State for a connection that has something pending.
pub(crate) fn take() -> Box<Lent> {
    let lent = POOL.try_with(|pool| pool.borrow_mut().lent.pop()).ok().flatten();
    lent.unwrap_or_else(|| Box::new(Lent::new(BytesMut::new())))
}

/// Gives back state that [is idle](Lent::is_idle).
pub(crate) fn put(mut lent: Box<Lent>) {
    debug_assert!(lent.is_idle());
    lent.give_back_block();
    lent.assembler.reset();
    lent.work = Work::default();
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.lent.len() < KEPT {
            pool.lent.push(lent);
        }
    });
}

/// An empty read block.
pub(crate) fn block() -> BytesMut {
    let block = POOL.try_with(|pool| pool.borrow_mut().blocks.pop()).ok().flatten();
    block.unwrap_or_else(|| BytesMut::with_capacity(BLOCK))
}

/// Gives a read block back, unless part of it is still in use as a message.
pub(crate) fn give_back(mut block: BytesMut) {
    block.clear();
    if block.capacity() < BLOCK && !block.try_reclaim(BLOCK) {
        return;
    }
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.blocks.len() < KEPT {
            pool.blocks.push(block);
        }
    });
}
