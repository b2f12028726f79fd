//! The input of a call, bit by bit (RFC 1951 3.1.1).

/// The bits that are buffer, and the input behind them.
pub(super) struct BitReader<'a> {
    pub(super) buffer: u64,
    /// How many of them count. Those above are zero or what the input has next.
    pub(super) count: u32,
    pub(super) input: &'a [u8],
    pub(super) at: usize,
}

impl BitReader<'_> {
    /// Reads as much of the input as fits: 56 bits or more, unless it ends.
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

    /// Does so if eight bytes are left.
    #[inline(always)]
    pub(super) fn refill_word(&mut self) -> bool {
        let Some(eight) = self.input.get(self.at..).and_then(|rest| rest.first_chunk()) else { return false };
        self.buffer |= u64::from_le_bytes(*eight) << self.count;
        self.at += (63 - self.count) as usize / 8;
        self.count |= 56;
        true
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, bits: u32) {
        self.buffer >>= bits & 63;
        self.count -= bits;
    }

    /// The next bits, at most 32 of them, unless the input ends before.
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

    /// What is left of a byte is padding.
    pub(super) fn align(&mut self) {
        self.skip(self.count % 8);
    }

    /// Gives whole bytes of this input back.
    pub(super) fn give_back(&mut self) {
        while self.count >= 8 && self.at > 0 {
            self.at -= 1;
            self.count -= 8;
        }
    }
}
