//! Blocks to read into, which belong to the thread: an idle connection holds none.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes that one read may take.
pub(crate) const BLOCK: usize = 64 * 1024;

/// Blocks that a thread keeps: the most that are in use at once in practice, since they return between polls.
const KEPT: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Takes an empty block.
pub(crate) fn take() -> BytesMut {
    let block = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
    block.unwrap_or_else(|| BytesMut::with_capacity(BLOCK))
}

/// Gives a block back, unless a message still shares it.
pub(crate) fn give_back(mut block: BytesMut) {
    block.clear();
    if block.capacity() < BLOCK && !block.try_reclaim(BLOCK) {
        return;
    }
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < KEPT {
            pool.push(block);
        }
    });
}
