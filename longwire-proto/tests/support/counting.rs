//! A global allocator that counts the bytes that threads hold: tests run side by side, each counts its own.

#![expect(unsafe_code, reason = "an allocator that counts cannot be had without")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

/// What a thread has allocated and not freed.
#[derive(Debug, Default)]
pub(crate) struct Account {
    live: AtomicIsize,
    peak: AtomicIsize,
    moved: AtomicUsize,
}

thread_local! {
    static ACCOUNT: Cell<Option<&'static Account>> = const { Cell::new(None) };
}

impl Account {
    /// The account of this thread. It counts from the first call on; any thread may read it.
    pub(crate) fn of_this_thread() -> &'static Self {
        if let Some(account) = ACCOUNT.get() {
            return account;
        }
        let account = Box::leak(Box::default());
        ACCOUNT.set(Some(account));
        account
    }

    /// Bytes that are allocated and not freed, since counting began.
    pub(crate) fn live(&self) -> isize {
        self.live.load(Relaxed)
    }

    /// The most that [`live`](Self::live) was since [`rewind`](Self::rewind).
    pub(crate) fn peak(&self) -> isize {
        self.peak.load(Relaxed)
    }

    /// Forgets the peak so far, and says what lives.
    pub(crate) fn rewind(&self) -> isize {
        let live = self.live();
        self.peak.store(live, Relaxed);
        live
    }

    /// Bytes that were copied, or may have been, because an allocation grew.
    pub(crate) fn moved(&self) -> usize {
        self.moved.load(Relaxed)
    }

    fn count(&self, change: isize) {
        let live = self.live.fetch_add(change, Relaxed) + change;
        self.peak.fetch_max(live, Relaxed);
    }
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(change: isize) {
    if let Some(account) = ACCOUNT.get() {
        account.count(change);
    }
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, and `alloc` came from the same place.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if let Some(account) = ACCOUNT.get() {
            account.moved.fetch_add(layout.size(), Relaxed);
        }
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
