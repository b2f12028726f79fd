//! Writes a stream of bits, the lowest of each byte first (RFC 1951 3.1.1).

/// Writes bits into a slice, which must be at least 8 bytes longer than what is written.
///
/// [`flush`](Self::flush) stores a whole word, of which the upper bytes are overwritten by the next flush. In a slice
/// that is too short the last bits would be lost.
pub(super) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// Continues the byte that an earlier writer left incomplete.
    pub(super) fn new(out: &'a mut [u8], partial: PartialByte) -> Self {
        Self { out, at: 0, buffer: u64::from(partial.bits), count: partial.count }
    }

    /// Adds the low `count` bits of `bits`. Higher bits must be zero, or they corrupt the bits added next.
    #[inline(always)]
    pub(super) fn add(&mut self, bits: u64, count: u32) {
        // Fewer than 64: a full buffer would make `flush` shift by 64. The callers know how many bits they add between
        // two flushes, so that there is no branch here.
        debug_assert!(self.count + count < 64 && bits >> count == 0);
        self.buffer |= bits << self.count;
        self.count += count;
    }

    /// Adds the code in an entry of a [`Code`](super::huffman::Code).
    #[inline(always)]
    pub(super) fn add_code(&mut self, entry: u32) {
        self.add(u64::from(entry >> 8), entry & 15);
    }

    /// Stores the whole bytes of the buffer. At most 7 bits stay, so that 56 more can be added before the next flush.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        if let Some(room) = self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *room = self.buffer.to_le_bytes();
        }
        self.at += (self.count / 8) as usize;
        self.buffer >>= self.count & !7;
        self.count &= 7;
    }

    /// Returns how many whole bytes were written, and the byte that is incomplete.
    pub(super) fn finish(mut self) -> (usize, PartialByte) {
        self.flush();
        (self.at, PartialByte { bits: self.buffer as u8, count: self.count })
    }
}

/// The low `count` bits of an incomplete byte, 0 to 7. Its other bits are zero.
#[derive(Clone, Copy, Default)]
pub(super) struct PartialByte {
    pub(super) bits: u8,
    pub(super) count: u32,
}
