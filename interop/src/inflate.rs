//! DEFLATE (RFC 1951) read slowly and strictly: what a stream of messages was, and how far it reached
//! back for it. It is the judge of both ends, so it shares no code with the library.

/// Lengths of the length codes, in the order in which they come (RFC 1951 3.2.7).
const CODE_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// RFC 1951 3.2.5.
const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// One direction of a connection: the messages so far are its context.
#[derive(Debug, Default)]
pub(crate) struct Inflate {
    output: Vec<u8>,
    /// Where the message under way begins.
    begin: usize,
    /// The farthest that anything was copied from.
    pub(crate) distance: usize,
    /// Something was copied from an earlier message.
    pub(crate) took_over: bool,
}

impl Inflate {
    /// Inflates the payload of one message.
    pub(crate) fn message(&mut self, payload: &[u8]) -> Result<&[u8], String> {
        self.begin = self.output.len();
        // RFC 7692 7.2.2: the sender has removed these.
        let input = [payload, &[0, 0, 0xFF, 0xFF]].concat();
        let mut bits = Bits { input: &input, at: 0 };
        while bits.at < input.len() * 8 {
            self.block(&mut bits)?;
        }
        Ok(&self.output[self.begin..])
    }

    fn block(&mut self, bits: &mut Bits<'_>) -> Result<(), String> {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => self.stored(bits)?,
            1 => {
                let lengths: Vec<u8> = (0..288)
                    .map(|symbol| match symbol {
                        144..=255 => 9,
                        256..=279 => 7,
                        _ => 8,
                    })
                    .collect();
                self.coded(bits, &Code::new(&lengths)?, &Code::new(&[5; 30])?)?;
            }
            2 => {
                let (literals, distances) = codes(bits)?;
                self.coded(bits, &literals, &distances)?;
            }
            _ => return Err("a block of the reserved type".into()),
        }
        if last {
            // RFC 7692 7.2.3.4: what follows the final block begins on a byte.
            bits.align();
        }
        Ok(())
    }

    fn stored(&mut self, bits: &mut Bits<'_>) -> Result<(), String> {
        bits.align();
        let length = bits.take(16)?;
        if bits.take(16)? != length ^ 0xFFFF {
            return Err("LEN and NLEN of a stored block do not match".into());
        }
        let start = bits.at / 8;
        let bytes = bits.input.get(start..start + length).ok_or("ends within a stored block")?;
        self.output.extend_from_slice(bytes);
        bits.at += length * 8;
        Ok(())
    }

    fn coded(&mut self, bits: &mut Bits<'_>, literals: &Code, distances: &Code) -> Result<(), String> {
        loop {
            let symbol = literals.read(bits)?;
            let length = match symbol {
                0..=255 => {
                    self.output.push(symbol as u8);
                    continue;
                }
                256 => return Ok(()),
                _ => {
                    let (base, extra) = *LENGTHS.get(symbol - 257).ok_or("a length that does not exist")?;
                    base + bits.take(extra)?
                }
            };
            let distance = match distances.read(bits)? {
                symbol @ 0..4 => symbol + 1,
                symbol @ 4..30 => {
                    let extra = symbol as u32 / 2 - 1;
                    (((2 + symbol % 2) << extra) + 1) + bits.take(extra)?
                }
                _ => return Err("a distance that does not exist".into()),
            };
            let start =
                self.output.len().checked_sub(distance).ok_or("copies from before the first message")?;
            self.distance = self.distance.max(distance);
            self.took_over |= start < self.begin;
            for from in start..start + length {
                self.output.push(self.output[from]);
            }
        }
    }
}

/// The codes of a dynamic block (RFC 1951 3.2.7).
fn codes(bits: &mut Bits<'_>) -> Result<(Code, Code), String> {
    let literals = bits.take(5)? + 257;
    let distances = bits.take(5)? + 1;
    let count = bits.take(4)? + 4;
    let mut lengths = [0; 19];
    for &symbol in &CODE_ORDER[..count] {
        lengths[symbol] = bits.take(3)? as u8;
    }
    let code = Code::new(&lengths)?;
    let mut lengths: Vec<u8> = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.read(bits)? {
            16 => (*lengths.last().ok_or("repeats the length before the first")?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    if lengths.len() > literals + distances {
        return Err("repeats a length beyond the last".into());
    }
    Ok((Code::new(&lengths[..literals])?, Code::new(&lengths[literals..])?))
}

/// A canonical Huffman code (RFC 1951 3.2.2).
#[derive(Debug)]
struct Code {
    /// Symbols of each length, in their order.
    symbols: [Vec<usize>; 16],
}

impl Code {
    fn new(lengths: &[u8]) -> Result<Self, String> {
        let mut symbols: [Vec<usize>; 16] = Default::default();
        for (symbol, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            symbols[usize::from(length)].push(symbol);
        }
        let mut free: usize = 1;
        for symbols in &symbols[1..] {
            free = (free * 2)
                .checked_sub(symbols.len())
                .ok_or("a code with more symbols than it has room for")?;
        }
        Ok(Self { symbols })
    }

    fn read(&self, bits: &mut Bits<'_>) -> Result<usize, String> {
        let (mut code, mut first) = (0, 0);
        for symbols in &self.symbols[1..] {
            code |= bits.take(1)?;
            if let Some(symbol) = symbols.get(code - first) {
                return Ok(*symbol);
            }
            first = (first + symbols.len()) << 1;
            code <<= 1;
        }
        Err("bits that no symbol has".into())
    }
}

/// Bits of a stream, the least significant of each byte first (RFC 1951 3.1.1).
#[derive(Debug)]
struct Bits<'a> {
    input: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// Up to 16 bits.
    fn take(&mut self, count: u32) -> Result<usize, String> {
        let first = self.at / 8;
        let offset = self.at % 8;
        self.at += count as usize;
        if self.at > self.input.len() * 8 {
            return Err("ends within a block".into());
        }
        let byte = |at: usize| usize::from(self.input.get(at).copied().unwrap_or(0));
        let bytes = byte(first) | byte(first + 1) << 8 | byte(first + 2) << 16;
        Ok(bytes >> offset & ((1 << count) - 1))
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of RFC 7692 7.2.3, and one of two blocks by another encoder.
    #[test]
    fn examples() {
        let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        let mut stream = Inflate::default();
        assert_eq!(stream.message(&hello).unwrap(), b"Hello");
        assert!(!stream.took_over);
        assert_eq!(stream.message(&[0xF2, 0x00, 0x11, 0x00, 0x00]).unwrap(), b"Hello");
        assert_eq!((stream.took_over, stream.distance), (true, 5));
        for payload in [
            &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00][..],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
        ] {
            assert_eq!(Inflate::default().message(payload).unwrap(), b"Hello");
        }
        assert_eq!(Inflate::default().message(&[0]).unwrap(), b"");
    }

    #[test]
    fn what_is_no_stream() {
        for payload in [&[0x07][..], &[0xF2, 0x00, 0x11, 0x00, 0x00], &[0x00, 0x05, 0x00, 0xFA, 0xFE]] {
            assert!(Inflate::default().message(payload).is_err(), "{payload:x?}");
        }
    }
}
