//! Writing bits, the lowest of each byte first (RFC 1951 3.1.1).

/// Writes into a slice that has at least eight bytes more than it is going to write.
pub(super) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// Goes on after `partial`, the low `count` < 8 bits of a byte begun before.
    pub(super) fn new(out: &'a mut [u8], partial: PartialByte) -> Self {
        Self { out, at: 0, buffer: u64::from(partial.bits), count: partial.count }
    }

    /// Adds the low `count` bits of `bits`, which has no others.
    #[inline(always)]
    pub(super) fn add(&mut self, bits: u64, count: u32) {
        debug_assert!(self.count + count < 64 && bits >> count == 0);
        self.buffer |= bits << self.count;
        self.count += count;
    }

    /// Adds an entry of a [`Code`](super::huffman::Code).
    #[inline(always)]
    pub(super) fn add_code(&mut self, entry: u32) {
        self.add(u64::from(entry >> 8), entry & 15);
    }

    /// Makes room for 56 bits more.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        if let Some(room) = self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *room = self.buffer.to_le_bytes();
        }
        self.at += (self.count / 8) as usize;
        self.buffer >>= self.count & !7;
        self.count &= 7;
    }

    /// Whole bytes written, and the bits of the byte begun.
    pub(super) fn finish(mut self) -> (usize, PartialByte) {
        self.flush();
        (self.at, PartialByte { bits: self.buffer as u8, count: self.count })
    }
}

/// Bits of a byte that is not complete, unused ones zero.
#[derive(Clone, Copy, Default)]
pub(super) struct PartialByte {
    pub(super) bits: u8,
    pub(super) count: u32,
}
