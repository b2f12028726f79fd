//! Compressed messages as a hostile peer makes them, bit by bit (RFC 1951). They end as messages do: in the
//! header of an empty stored block (RFC 7692 7.2.1).

/// The rest of that block: more may follow behind it.
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The longest match.
const LONGEST: usize = 258;

/// So many zeros, 1,032 to the byte: a literal, and matches of the greatest length at distance 1, whose codes
/// have a bit each.
pub(crate) fn zeros(size: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // Codes for the literal 0, the end, and the lengths 258; and for the one distance.
    bits.lengths(29, &[2, ZEROS + 138, ZEROS + 117, 2, ZEROS + 28, 1, 1]);
    for _ in 0..1 + (size - 1) % LONGEST {
        bits.code(0b10, 2);
    }
    for _ in 0..(size - 1) / LONGEST {
        bits.code(0b00, 2);
    }
    bits.code(0b11, 2);
    bits.push(0, 3);
    bits.bytes
}

/// Blocks of some 12 bytes that each have codes of their own, and no content, in about so many bytes.
pub(crate) fn nothing(size: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    for _ in 0..4 {
        // A code for the end only.
        bits.lengths(0, &[ZEROS + 138, ZEROS + 118, 1, ZEROS]);
        bits.code(0, 1);
    }
    // Four of them are whole bytes.
    let mut bytes = bits.bytes.repeat(size.div_ceil(bits.bytes.len()));
    bytes.push(0);
    bytes
}

/// These bytes as they are, in a stored block that more may follow.
pub(crate) fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&[0x00][..], &length.to_le_bytes(), &(!length).to_le_bytes(), bytes].concat()
}

/// In [`Bits::lengths`]: so many zeros and this.
const ZEROS: usize = 16;

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    /// The lowest bit first.
    fn push(&mut self, value: usize, count: usize) {
        for at in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> at & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// A code, whose highest bit is first.
    fn code(&mut self, code: usize, count: usize) {
        for at in (0..count).rev() {
            self.push(code >> at & 1, 1);
        }
    }

    /// The header of a block with codes of its own, `more` than 257 of them for literals and lengths and one for
    /// distances (RFC 1951 3.2.7).
    fn lengths(&mut self, more: usize, lengths: &[usize]) {
        self.push(0b100, 3);
        self.push(more, 5);
        self.push(0, 5);
        self.push(14, 4);
        // In the order 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1: the code 0 for many zeros, 100
        // for none, 101 for a one, 110 for a two; 111 is not used.
        for at in 0..18 {
            self.push(
                match at {
                    2 => 1,
                    3 | 13 | 15 | 17 => 3,
                    _ => 0,
                },
                3,
            );
        }
        for &length in lengths {
            match length {
                ZEROS => self.code(0b100, 3),
                0..ZEROS => self.code(0b100 + length, 3),
                _ => {
                    self.code(0, 1);
                    self.push(length - ZEROS - 11, 7);
                }
            }
        }
    }
}
