//! Bits as RFC 1951 3.1.1 packs them.

#[derive(Default)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken, 0 when all are.
    taken: u32,
}

impl Bits {
    /// The lowest `count` bits of a number, the least significant first.
    pub(crate) fn push(&mut self, value: usize, count: u32) {
        for i in 0..count {
            if self.taken == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> i & 1) as u8) << self.taken;
            }
            self.taken = (self.taken + 1) % 8;
        }
    }

    /// A Huffman code, whose most significant bit comes first.
    pub(crate) fn code(&mut self, code: usize, length: u32) {
        (0..length).rev().for_each(|i| self.push(code >> i, 1));
    }

    /// Whole bytes, behind a whole byte.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        assert_eq!(self.taken, 0);
        self.bytes.extend_from_slice(bytes);
    }

    /// Bits up to the next byte.
    pub(crate) const fn to_byte(&self) -> u32 {
        (8 - self.taken) % 8
    }

    /// All of it, and nothing is left.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.taken = 0;
        std::mem::take(&mut self.bytes)
    }
}
