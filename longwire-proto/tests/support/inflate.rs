//! A decoder of raw DEFLATE as RFC 1951 describes it, for comparison: bit by bit, slow, written without the
//! crate, and exact about the window (RFC 7692 7.1.2) and about which codes are valid: those that zlib takes.
#![allow(dead_code, reason = "each test binary uses a part of it")]

/// Why a message goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The input ends within it.
    Cut,
    /// It is not DEFLATE, or reaches back too far.
    Invalid,
    /// It is larger than the limit.
    TooBig,
}

/// What became of a message, or of its beginning.
#[derive(Debug)]
pub(crate) struct Inflated {
    pub(crate) bytes: Vec<u8>,
    /// `None`: it is whole.
    pub(crate) stop: Option<Stop>,
}

/// What messages may refer back to.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    size: usize,
    takeover: bool,
    bytes: Vec<u8>,
}

impl Window {
    pub(crate) fn new(bits: u8, takeover: bool) -> Self {
        Self { size: 1 << bits, takeover, bytes: Vec::new() }
    }

    /// A message was received, or sent, compressed.
    pub(crate) fn pass(&mut self, message: &[u8]) {
        if self.takeover {
            self.bytes.extend_from_slice(message);
            self.bytes.drain(..self.bytes.len().saturating_sub(self.size));
        }
    }

    /// Inflates the payload of a message as far as it is there; `ends`: all of it is.
    pub(crate) fn inflate(&self, payload: &[u8], ends: bool, limit: usize) -> Inflated {
        let mut stream = Stream {
            input: payload,
            at: 0,
            out: self.bytes.clone(),
            window: self.size,
            limit: limit.saturating_add(self.bytes.len()),
        };
        let stop = stream.blocks(ends).err();
        Inflated { bytes: stream.out.split_off(self.bytes.len()), stop }
    }
}

struct Stream<'a> {
    input: &'a [u8],
    /// The next bit.
    at: usize,
    /// The window, and behind it the message.
    out: Vec<u8>,
    window: usize,
    limit: usize,
}

const LENGTHS: [usize; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_BITS: [u32; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCES: [usize; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_BITS: [u32; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

/// RFC 1951 3.2.5: the least length, and the number of extra bits, of the symbols from 257 on.
pub(crate) fn length(symbol: usize) -> Option<(usize, u32)> {
    Some((*LENGTHS.get(symbol)?, LENGTH_BITS[symbol]))
}

/// RFC 1951 3.2.5: the least distance, and the number of extra bits.
pub(crate) fn distance(symbol: usize) -> Option<(usize, u32)> {
    Some((*DISTANCES.get(symbol)?, DISTANCE_BITS[symbol]))
}

impl Stream<'_> {
    /// The next `count` bits, the first of them the least significant (RFC 1951 3.1.1).
    fn bits(&mut self, count: u32) -> Result<usize, Stop> {
        let mut value = 0;
        for i in 0..count {
            let byte = *self.input.get(self.at / 8).ok_or(Stop::Cut)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << i;
            self.at += 1;
        }
        Ok(value)
    }

    /// The next whole byte; whether there is none.
    fn skip_to_byte(&mut self) -> bool {
        self.at = self.at.next_multiple_of(8);
        self.at == self.input.len() * 8
    }

    fn push(&mut self, byte: u8) -> Result<(), Stop> {
        if self.out.len() >= self.limit {
            return Err(Stop::TooBig);
        }
        self.out.push(byte);
        Ok(())
    }

    /// RFC 7692 7.2.1: a message ends with the header of an empty stored block, behind which its last four
    /// octets are left off. It may end with a block that has BFINAL, too, and go on behind one (7.2.3.4).
    fn blocks(&mut self, ends: bool) -> Result<(), Stop> {
        loop {
            let last = self.bits(1)? == 1;
            match self.bits(2)? {
                0 if self.skip_to_byte() && ends => return Ok(()),
                0 => self.stored()?,
                1 => {
                    let length = |i| match i {
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    };
                    let literals: Vec<u8> = (0..288).map(length).collect();
                    self.compressed(&Code::new(&literals, false)?, &Code::new(&[5; 32], false)?)?;
                }
                2 => self.dynamic()?,
                _ => return Err(Stop::Invalid),
            }
            if last && self.skip_to_byte() && ends {
                return Ok(());
            }
        }
    }

    /// RFC 1951 3.2.4.
    fn stored(&mut self) -> Result<(), Stop> {
        let (length, complement) = (self.bits(16)?, self.bits(16)?);
        if length != complement ^ 0xFFFF {
            return Err(Stop::Invalid);
        }
        for _ in 0..length {
            let byte = *self.input.get(self.at / 8).ok_or(Stop::Cut)?;
            self.at += 8;
            self.push(byte)?;
        }
        Ok(())
    }

    /// RFC 1951 3.2.7.
    fn dynamic(&mut self) -> Result<(), Stop> {
        let (literals, distances) = (257 + self.bits(5)?, 1 + self.bits(5)?);
        let count = 4 + self.bits(4)?;
        if literals > 286 || distances > 30 {
            return Err(Stop::Invalid);
        }
        let mut lengths = [0; 19];
        for i in &[16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15][..count] {
            lengths[*i] = self.bits(3)? as u8;
        }
        let code = Code::new(&lengths, false)?;
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            let (length, times) = match code.symbol(self)? {
                16 => {
                    let times = 3 + self.bits(2)?;
                    (*lengths.last().ok_or(Stop::Invalid)?, times)
                }
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                length => (length as u8, 1),
            };
            lengths.extend(std::iter::repeat_n(length, times));
        }
        if lengths.len() > literals + distances || lengths[256] == 0 {
            return Err(Stop::Invalid);
        }
        let (literals, distances) = lengths.split_at(literals);
        self.compressed(&Code::new(literals, true)?, &Code::new(distances, true)?)
    }

    /// RFC 1951 3.2.5.
    fn compressed(&mut self, literals: &Code, distances: &Code) -> Result<(), Stop> {
        loop {
            let symbol = literals.symbol(self)?;
            if symbol < 256 {
                self.push(symbol as u8)?;
                continue;
            }
            if symbol == 256 {
                return Ok(());
            }
            let (base, extra) = length(symbol - 257).ok_or(Stop::Invalid)?;
            let times = base + self.bits(extra)?;
            let (base, extra) = distance(distances.symbol(self)?).ok_or(Stop::Invalid)?;
            let back = base + self.bits(extra)?;
            if back > self.window.min(self.out.len()) {
                return Err(Stop::Invalid);
            }
            for _ in 0..times {
                self.push(self.out[self.out.len() - back])?;
            }
        }
    }
}

/// A Huffman code (RFC 1951 3.2.2): the symbols of each length, in order.
struct Code(Vec<Vec<usize>>);

impl Code {
    /// Every sequence of bits means something; as zlib has it, `or_less`: or there is no symbol, or one of a
    /// single bit.
    fn new(lengths: &[u8], or_less: bool) -> Result<Self, Stop> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let of_length = |length| (0..lengths.len()).filter(move |&i| lengths[i] == length).collect();
        let symbols: Vec<Vec<usize>> = (1..=longest).map(of_length).collect();
        let mut free = 1;
        for symbols in &symbols {
            free = usize::checked_sub(2 * free, symbols.len()).ok_or(Stop::Invalid)?;
        }
        if free == 0 || (or_less && longest <= 1) { Ok(Self(symbols)) } else { Err(Stop::Invalid) }
    }

    fn symbol(&self, from: &mut Stream<'_>) -> Result<usize, Stop> {
        let mut code = 0;
        for symbols in &self.0 {
            code = 2 * code + from.bits(1)?;
            if let Some(symbol) = symbols.get(code) {
                return Ok(*symbol);
            }
            code -= symbols.len();
        }
        Err(Stop::Invalid)
    }
}
