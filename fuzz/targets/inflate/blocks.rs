//! Compressed messages made from an input: blocks of every kind, mostly valid, with codes of any shape,
//! distances around every bound, and BFINAL anywhere.
//!
//! A block is a byte: its lowest three bits say which, the next one is BFINAL, the upper half says how much
//! of it. What is missing at the end of the input is 0.

use crate::agreed::Agreed;
use crate::bits::Bits;
use crate::inflate::{distance, length};

/// The order in which the lengths of the code of lengths come (RFC 1951 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Beyond this many bytes nothing is repeated, so that no input takes long.
const VOLUME: usize = 80_000;

/// A symbol of one of the two codes, its extra bits and how many they are.
type Symbol = (Alphabet, usize, usize, u32);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    Literals,
    Distances,
}

/// The messages of this input.
pub(crate) fn messages(input: &[u8], agreed: Agreed) -> Vec<Vec<u8>> {
    let mut maker = Maker { input, bits: Bits::default(), agreed, reach: 0, volume: 0 };
    let mut messages = Vec::new();
    while !maker.input.is_empty() {
        messages.extend(maker.block());
    }
    maker.bits.push(0, 3);
    messages.push(maker.bits.take());
    messages
}

struct Maker<'a> {
    input: &'a [u8],
    bits: Bits,
    agreed: Agreed,
    /// How many bytes there are to refer back to, as far as the stream is valid.
    reach: usize,
    volume: usize,
}

impl Maker<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.input.split_first() else { return 0 };
        self.input = rest;
        usize::from(*first)
    }

    /// Writes a block, or ends a message.
    fn block(&mut self) -> Option<Vec<u8>> {
        let what = self.next();
        let (last, amount) = (what >> 3 & 1, what >> 4);
        match what & 7 {
            0 => {
                let bytes: Vec<u8> = (0..amount).map(|_| self.next() as u8).collect();
                self.stored(last, &bytes, 0);
            }
            1 => {
                let size =
                    if self.volume > VOLUME { amount } else { (amount * 4_369).saturating_sub(what >> 7) };
                let byte = self.next() as u8;
                self.stored(last, &vec![byte; size], 0);
            }
            2 => {
                let symbols = self.symbols(amount);
                self.bits.push(0b010 | last, 3);
                let length = |i| match i {
                    144..256 => 9,
                    256..280 => 7,
                    _ => 8,
                };
                self.write(&symbols, &(0..288).map(length).collect::<Vec<_>>(), &[5; 32]);
            }
            3 => self.dynamic(last, amount, None),
            4 => {
                let spoilt = self.next();
                self.dynamic(last, amount, Some(spoilt));
            }
            5 => (0..=amount).for_each(|_| {
                let byte = self.next();
                self.bits.push(byte, 8);
            }),
            // RFC 7692 7.2.1: an empty stored block ends a message, and here other bits as well.
            6 => {
                if amount & 1 == 0 {
                    self.bits.push(0, 3);
                }
                let fill = if amount & 2 == 0 { 0 } else { 0xFF };
                self.bits.push(fill, self.bits.to_byte());
                self.reach = if self.agreed.takeover { self.reach } else { 0 };
                return Some(self.bits.take());
            }
            _ if amount == 15 => self.bits.push(0b110 | last, 3),
            _ => {
                let spoilt = if amount == 14 { self.next() } else { 0 };
                self.stored(last, &[], spoilt);
            }
        }
        if last == 1 {
            self.bits.push(0, self.bits.to_byte());
        }
        None
    }

    fn passed(&mut self, bytes: usize) {
        self.reach += bytes;
        self.volume += bytes;
    }

    fn stored(&mut self, last: usize, bytes: &[u8], spoilt: usize) {
        self.bits.push(last, 3);
        // RFC 1951 3.2.4: any input bits up to the next byte boundary are ignored.
        self.bits.push(spoilt, self.bits.to_byte());
        self.bits.push(bytes.len(), 16);
        self.bits.push(!bytes.len() ^ (spoilt >> 7), 16);
        self.bits.bytes(bytes);
        self.passed(bytes.len());
    }

    /// Literals and references back, and the end of the block.
    fn symbols(&mut self, amount: usize) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        for _ in 0..amount {
            let what = self.next();
            if what < 0xC0 {
                symbols.push((Alphabet::Literals, what, 0, 0));
                self.passed(1);
                continue;
            }
            let symbol = what % 0x20 % 29;
            let (base, bits) = length(symbol).expect("one of 29");
            let extra = if bits == 0 { 0 } else { self.next() % (1 << bits) };
            let distance = self.distance();
            let times = if what & 0x20 == 0 || self.volume > VOLUME { 1 } else { self.next() };
            for _ in 0..times {
                symbols.push((Alphabet::Literals, 257 + symbol, extra, bits));
                symbols.push(distance);
                self.passed(base + extra);
            }
        }
        symbols.push((Alphabet::Literals, 256, 0, 0));
        symbols
    }

    fn distance(&mut self) -> Symbol {
        let what = self.next();
        if let Some((_, bits)) = distance(what) {
            let extra = (self.next() << 8 | self.next()) % (1 << bits);
            return (Alphabet::Distances, what, extra, bits);
        }
        // Reserved, but in the fixed code.
        if what < 32 {
            return (Alphabet::Distances, what, 0, 0);
        }
        let window = 1 << self.agreed.bits;
        let reach = self.reach.min(window);
        let around =
            [1, reach, reach.saturating_sub(1), reach / 2, window, window - 1, reach + 1, window + 1];
        let back = around[what % 8].clamp(1, 32_768);
        let is_less = |symbol: &usize| distance(*symbol).is_some_and(|(base, _)| base <= back);
        let symbol = (0..30).take_while(is_less).last().unwrap_or(0);
        let (base, bits) = distance(symbol).expect("one of 30");
        (Alphabet::Distances, symbol, back - base, bits)
    }

    fn write(&mut self, symbols: &[Symbol], literals: &[u8], distances: &[u8]) {
        let codes = [codes(literals), codes(distances)];
        for (alphabet, symbol, extra, bits) in symbols {
            // A reserved one that the code has not got is left out.
            if let Some((code, length)) = codes[*alphabet as usize].get(*symbol) {
                self.bits.code(*code, *length);
                self.bits.push(*extra, *bits);
            }
        }
    }

    fn dynamic(&mut self, last: usize, amount: usize, spoilt: Option<usize>) {
        let symbols = self.symbols(amount);
        let mut literals = self.lengths(&symbols, Alphabet::Literals, 286);
        let mut distances = self.lengths(&symbols, Alphabet::Distances, 30);
        let (good_literals, good_distances) = (literals.clone(), distances.clone());
        let at = spoilt.map_or(0, |spoilt| (spoilt >> 3) % literals.len());
        match spoilt.map(|spoilt| spoilt % 8) {
            Some(0) => literals[256] = 0,
            Some(1) => literals[at] = (literals[at] + 1) % 16,
            Some(2) => literals[at] = literals[at].saturating_sub(1),
            Some(3) => distances[0] = (distances[0] + 1) % 16,
            Some(4) => distances.resize(31 + at % 2, 0),
            Some(5) => literals.resize(287 + at % 2, 0),
            _ => {}
        }
        let mut runs = self.runs(&[&literals[..], &distances[..]].concat());
        if spoilt.is_some_and(|spoilt| spoilt % 8 == 6) {
            runs.insert(0, (16, 0, 2));
        }
        // The code of lengths is complete only with two symbols.
        let mut used: Vec<usize> = runs.iter().map(|run| run.0).chain([0, 18]).collect();
        used.sort_unstable();
        used.dedup();
        let mut lengths = [0; 19];
        self.shape(&used, 7, &mut lengths);
        let all = codes(&lengths);
        if spoilt.is_some_and(|spoilt| spoilt % 8 == 7) {
            lengths[at % 19] ^= 1;
        }

        self.bits.push(0b100 | last, 3);
        self.bits.push(literals.len() - 257, 5);
        self.bits.push(distances.len() - 1, 5);
        let count = ORDER.iter().rposition(|i| lengths[*i] > 0).map_or(4, |at| (at + 1).max(4));
        self.bits.push(count - 4, 4);
        ORDER[..count].iter().for_each(|i| self.bits.push(lengths[*i].into(), 3));
        for (symbol, extra, bits) in runs {
            self.bits.code(all[symbol].0, all[symbol].1);
            self.bits.push(extra, bits);
        }
        self.write(&symbols, &good_literals, &good_distances);
    }

    /// Lengths of a code that has the symbols that are used, and some more.
    fn lengths(&mut self, symbols: &[Symbol], of: Alphabet, most: usize) -> Vec<u8> {
        let more = self.next();
        let mut used: Vec<usize> =
            symbols.iter().filter(|symbol| symbol.0 == of).map(|symbol| symbol.1).collect();
        used.extend((0..more % 64).map(|i| i * (1 + more / 64)));
        used.retain(|symbol| *symbol < most);
        used.sort_unstable();
        used.dedup();
        let least = if of == Alphabet::Literals { 257 } else { 1 };
        let mut lengths = vec![0; used.last().map_or(least, |last| least.max(last + 1))];
        self.shape(&used, 15, &mut lengths);
        lengths
    }

    /// Splits the leaves of a tree until each symbol has one.
    fn shape(&mut self, symbols: &[usize], deepest: u8, lengths: &mut [u8]) {
        let mut leaves = vec![u8::from(symbols.len() == 1)];
        while leaves.len() < symbols.len() {
            let mut at = self.next() % leaves.len();
            while leaves[at] == deepest {
                at = (at + 1) % leaves.len();
            }
            let leaf = leaves.remove(at);
            leaves.extend([leaf + 1; 2]);
        }
        symbols.iter().zip(leaves).for_each(|(symbol, leaf)| lengths[*symbol] = leaf);
    }

    /// Code lengths as RFC 1951 3.2.7 writes them, which leaves a choice.
    fn runs(&mut self, lengths: &[u8]) -> Vec<(usize, usize, u32)> {
        let mut runs = Vec::new();
        let mut at = 0;
        while at < lengths.len() {
            let length = lengths[at];
            let same = lengths[at..].iter().take_while(|next| **next == length).count();
            let short = same > 2 && self.next() == 1;
            let run = match length {
                _ if short => (usize::from(length), 0, 0, 1),
                0 if same > 10 => (18, same.min(138) - 11, 7, same.min(138)),
                0 if same > 2 => (17, same - 3, 3, same),
                _ if same > 2 && at > 0 && lengths[at - 1] == length => (16, same.min(6) - 3, 2, same.min(6)),
                _ => (usize::from(length), 0, 0, 1),
            };
            runs.push((run.0, run.1, run.2));
            at += run.3;
        }
        runs
    }
}

/// The code of each symbol and its length (RFC 1951 3.2.2).
fn codes(lengths: &[u8]) -> Vec<(usize, u32)> {
    let mut codes = vec![(0, 0); lengths.len()];
    let mut code = 0;
    for length in 1..=15 {
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, of)| **of == length) {
            codes[symbol] = (code, length.into());
            code += 1;
        }
        code *= 2;
    }
    codes
}
