//! Buffers of large messages: a bounded pool for each thread. A buffer returns to the pool of the thread that
//! drops its message.

use std::cell::RefCell;

use bytes::Bytes;

/// Smaller buffers are left to the allocator.
const POOLED_MIN: usize = 32 * 1024;

/// Larger ones are left to it too: one such message must not fill the pool.
const POOLED_MAX: usize = 2 * 1024 * 1024;

/// The most bytes that the pool of one thread keeps.
const POOL_MAX: usize = 4 * 1024 * 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { buffers: Vec::new(), bytes: 0 }) };
}

struct Pool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// An empty buffer with room for at least `size` bytes, if the pool has one.
pub(crate) fn take(size: usize) -> Option<Vec<u8>> {
    let taken = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let at = pool.buffers.iter().rposition(|buffer| buffer.capacity() >= size)?;
        let buffer = pool.buffers.swap_remove(at);
        pool.bytes -= buffer.capacity();
        Some(buffer)
    });
    taken.ok().flatten()
}

/// Gives a buffer back.
pub(crate) fn put(mut buffer: Vec<u8>) {
    let size = buffer.capacity();
    if !(POOLED_MIN..=POOLED_MAX).contains(&size) {
        return;
    }
    buffer.clear();
    // A thread that is ending has no pool any more, so the buffer is freed.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        // A larger buffer saves more copies when a message grows, so it replaces smaller ones.
        while pool.bytes + size > POOL_MAX {
            let smallest = (0..pool.buffers.len()).min_by_key(|&at| pool.buffers[at].capacity());
            match smallest {
                Some(at) if pool.buffers[at].capacity() < size => {
                    pool.bytes -= pool.buffers.swap_remove(at).capacity();
                }
                _ => return,
            }
        }
        pool.bytes += size;
        pool.buffers.push(buffer);
    });
}

/// The bytes, shared; their buffer returns to the pool of the thread that drops the last of them.
pub(crate) fn freeze(buffer: Vec<u8>) -> Bytes {
    // A message may live long, so it must not keep a buffer of more than twice its size.
    if buffer.len() < buffer.capacity() / 2 {
        let bytes = Bytes::copy_from_slice(&buffer);
        put(buffer);
        return bytes;
    }
    if !(POOLED_MIN..=POOLED_MAX).contains(&buffer.capacity()) {
        return buffer.into();
    }
    Bytes::from_owner(Pooled(buffer))
}

struct Pooled(Vec<u8>);

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        put(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled() -> (usize, usize) {
        POOL.with_borrow(|pool| {
            assert_eq!(pool.bytes, pool.buffers.iter().map(Vec::capacity).sum::<usize>());
            (pool.buffers.len(), pool.bytes)
        })
    }

    #[test]
    fn buffers_return_and_the_pool_is_bounded() {
        let bytes = freeze(vec![1; 100_000]);
        let other = bytes.clone();
        drop(bytes);
        assert_eq!(pooled(), (0, 0), "still shared");
        drop(other);
        assert_eq!(pooled(), (1, 100_000));
        assert_eq!(take(100_001), None);
        assert_eq!(take(65_536).unwrap().capacity(), 100_000);
        assert_eq!(pooled(), (0, 0));

        for _ in 0..40 {
            put(Vec::with_capacity(1024 * 1024));
        }
        assert_eq!(pooled().1, POOL_MAX);
        put(Vec::with_capacity(POOLED_MAX + 1));
        put(Vec::with_capacity(POOLED_MIN - 1));
        assert_eq!(pooled().1, POOL_MAX);
        put(Vec::with_capacity(POOLED_MIN));
        assert_eq!(pooled(), (4, POOL_MAX), "no room");
        put(Vec::with_capacity(2 * 1024 * 1024));
        assert_eq!(pooled(), (3, POOL_MAX), "in the place of two");
    }

    #[test]
    fn a_small_message_does_not_keep_a_large_buffer() {
        let mut buffer = Vec::with_capacity(1024 * 1024);
        buffer.extend_from_slice("你好".as_bytes());
        assert_eq!(freeze(buffer), "你好");
        assert_eq!(pooled().0, 1);
    }
}
