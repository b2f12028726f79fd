//! Reads the input of a call bit by bit, the lowest of each byte first (RFC 1951 3.1.1).

/// The bits that were read, and the input after them.
///
/// Only the low `count` bits of `buffer` are valid. Those above are zero, or equal to the bits that the input has next.
/// Refilling therefore may read the same bits again and OR them in.
pub(super) struct BitReader<'a> {
    pub(super) buffer: u64,
    /// At most 63.
    pub(super) count: u32,
    pub(super) input: &'a [u8],
    /// The index of the first byte whose bits are not counted.
    pub(super) at: usize,
}

impl BitReader<'_> {
    /// Fills the buffer to 56 bits or more, unless the input ends.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if !self.refill_word() {
            while self.count < 56 && self.at < self.input.len() {
                self.buffer |= u64::from(self.input[self.at]) << self.count;
                self.count += 8;
                self.at += 1;
            }
        }
    }

    /// Fills the buffer to 56 bits or more with one load. Returns `false` if fewer than 8 bytes are left.
    #[inline(always)]
    pub(super) fn refill_word(&mut self) -> bool {
        let Some(eight) = self.input.get(self.at..).and_then(|rest| rest.first_chunk()) else { return false };
        self.buffer |= u64::from_le_bytes(*eight) << self.count;
        // All 64 bits are read, but only the whole bytes that fit below 64 bits are counted and skipped. The rest stays
        // above `count`, and is read again next time. No branch depends on `count`.
        self.at += (63 - self.count) as usize / 8;
        // The same as adding 8 for each byte skipped.
        self.count |= 56;
        true
    }

    /// Drops `bits` bits, which must be in the buffer.
    #[inline(always)]
    pub(super) fn skip(&mut self, bits: u32) {
        self.buffer >>= bits & 63;
        self.count -= bits;
    }

    /// Takes the next bits, at most 32 of them; `None` if the input ends before, and then none is lost.
    #[inline(always)]
    pub(super) fn take(&mut self, bits: u32) -> Option<usize> {
        if self.count < bits {
            self.refill();
            if self.count < bits {
                return None;
            }
        }
        let taken = self.buffer & ((1 << bits) - 1);
        self.skip(bits);
        Some(taken as usize)
    }

    /// Skips the padding up to a whole byte. Bytes enter the buffer whole, so that `count` tells where they begin.
    pub(super) fn align(&mut self) {
        self.skip(self.count % 8);
    }

    /// Gives whole bytes back to the input. Bits of earlier calls stay in the buffer, for their input is gone.
    pub(super) fn give_back(&mut self) {
        while self.count >= 8 && self.at > 0 {
            self.at -= 1;
            self.count -= 8;
        }
    }
}
