//! DEFLATE (RFC 1951), decoded as it arrives, for the messages of permessage-deflate (RFC 7692 7.2.2).
//!
//! [`Inflater`] knows nothing of frames: it is fed the payload of a message in pieces, and holds the last
//! bytes that were decoded, into which the stream refers back.

use bits::Bits;
use huffman::{Coded, Codes, FIXED, Lengths};
use output::{LITERALS, Output, SYMBOL_ROOM};

mod bits;
mod huffman;
mod output;

/// Literals and lengths, and distances, that a block may have codes for (RFC 1951 3.2.7). Codes for more can
/// be written, but stand for nothing: they are refused, as by zlib.
const LITLENS_MAX: usize = 286;
const DISTANCES_MAX: usize = 30;

/// The order in which the code lengths of the code length code are sent (RFC 1951 3.2.7).
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Why a stream cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A block of type 3 (RFC 1951 3.2.3).
    BlockType,
    /// The length of a stored block does not agree with its complement (RFC 1951 3.2.4).
    StoredLength,
    /// More codes than there are symbols (RFC 1951 3.2.7).
    Codes,
    /// Code lengths that repeat where there is none before, or go beyond the last code (RFC 1951 3.2.7).
    Repeat,
    /// No code for the end of the block (RFC 1951 3.2.7).
    NoEnd,
    /// More codes than bits can tell apart (RFC 1951 3.2.2).
    Oversubscribed,
    /// Fewer codes than bits tell apart (RFC 1951 3.2.2).
    Incomplete,
    /// Bits that are no code, or a code that stands for nothing (RFC 1951 3.2.6).
    Symbol,
    /// A distance beyond the window, or beyond all that was decoded (RFC 1951 3.2.5, RFC 7692 7.1.2).
    Distance,
    /// The message ends elsewhere than in the header of an empty stored block (RFC 7692 7.2.1).
    End,
}

/// How far a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes of the input that are done with: the next input begins behind them.
    pub(crate) consumed: usize,
    /// The limit was reached: there may be more to decode.
    pub(crate) more: bool,
}

/// What comes next in the stream.
#[derive(Clone, Copy, Debug)]
enum State {
    /// A block.
    Block,
    /// The length of a stored block.
    StoredLength,
    /// So many bytes of a stored block.
    Stored(usize),
    /// How many code lengths there are.
    Counts,
    /// The code lengths of the code length code.
    LengthLengths,
    /// The other code lengths.
    Lengths,
    /// A literal, a length or the end of a block.
    Symbol,
    /// The distance of a match of this length.
    Distance(usize),
}

/// Why decoding pauses.
enum Pause {
    Input,
    Limit,
}

/// Decodes one message at a time. The tables belong to the thread: only the [`window`](Self::window) is kept
/// for a connection.
pub(crate) struct Inflater {
    state: State,
    /// Bits of the stream that were read but not decoded, the next one lowest.
    held: u64,
    held_bits: u32,
    /// The first byte of the next input has been read already.
    ahead: bool,
    /// BFINAL of the block under way, or of the last one.
    final_block: bool,
    /// The block under way has the fixed codes.
    fixed: bool,
    /// How many code lengths the block under way has: of literals and lengths, of these and the distances, and
    /// of the code length code.
    litlens: usize,
    codes: usize,
    length_codes: usize,
    /// How many of them are known.
    known: usize,
    /// The last one.
    length: u8,
    length_lengths: [u8; 19],
    length_code: Lengths,
    /// The symbols that have a code, and how many they are.
    coded: [Coded; LITLENS_MAX + DISTANCES_MAX],
    coded_known: usize,
    dynamic: Codes,
    window: Vec<u8>,
    /// The farthest that a distance reaches.
    window_size: usize,
    /// Later messages may refer back to this one.
    takeover: bool,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Block,
            held: 0,
            held_bits: 0,
            ahead: false,
            final_block: false,
            fixed: false,
            litlens: 0,
            codes: 0,
            length_codes: 0,
            known: 0,
            length: 0,
            length_lengths: [0; 19],
            length_code: Lengths::new(),
            coded: [Coded::new(0, 0); LITLENS_MAX + DISTANCES_MAX],
            coded_known: 0,
            dynamic: Codes::new(),
            window: Vec::new(),
            window_size: 0,
            takeover: false,
        }
    }

    /// A message begins. Its distances reach at most `1 << window_bits` back, into what
    /// [`window`](Self::window) holds and what is decoded. With `takeover` the window is there when it has ended,
    /// too.
    pub(crate) fn begin(&mut self, window_bits: u8, takeover: bool) {
        self.state = State::Block;
        self.held = 0;
        self.held_bits = 0;
        self.ahead = false;
        self.final_block = false;
        self.window_size = 1 << window_bits.min(15);
        self.takeover = takeover;
    }

    /// The last bytes that were decoded, for at most a quarter more than the window. A connection takes them
    /// when a message ends, and gives them back before the next one begins.
    pub(crate) const fn window(&mut self) -> &mut Vec<u8> {
        &mut self.window
    }

    /// Decodes from the front of `input`, behind what was consumed before, and appends to `out`. With `last`
    /// the message ends with this input.
    ///
    /// Pauses at the first symbol behind which this call has appended `limit` bytes or more, at most 257 more,
    /// and leaves at least one byte of the input unconsumed then, unless there is none. A limit of 0 is taken for 1.
    pub(crate) fn inflate(
        &mut self,
        input: &[u8],
        last: bool,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Malformed> {
        let ahead = self.ahead && !input.is_empty();
        self.ahead &= input.is_empty();
        let mut bits = Bits { held: self.held, count: self.held_bits, input, at: ahead.into() };
        let start = out.len();
        // Without input there is nothing that could be left for the next call.
        let limit = if input.is_empty() { usize::MAX } else { start.saturating_add(limit.max(1)) };
        let window = std::mem::take(&mut self.window);
        let window_size = self.window_size;
        let mut output = Output { window: &window, window_size, bytes: out, start, at: start, limit };
        let paused = self.decode(&mut bits, &mut output);
        let end = output.at;
        out.truncate(end);
        self.window = window;

        let more = matches!(paused?, Pause::Limit);
        // Of a message that came whole and is not referred to nothing is copied.
        if more || !last || self.takeover {
            self.remember(&out[start..]);
        }
        if more {
            bits.give_back();
            if bits.at == input.len() {
                bits.at -= 1;
                self.ahead = true;
            }
        } else if last && !self.may_end(&bits) {
            return Err(Malformed::End);
        }
        self.held = bits.held & ((1 << bits.count) - 1);
        self.held_bits = bits.count;
        Ok(Progress { consumed: bits.at, more })
    }

    /// RFC 7692 7.2.1: a message ends with an empty stored block, of which the last four octets are not sent:
    /// its length and the complement. What ends elsewhere is cut.
    ///
    /// A block with BFINAL ends the stream by itself (RFC 1951 3.2.3). Some senders leave the header of the empty
    /// block out then; nothing is missing.
    const fn may_end(&self, bits: &Bits<'_>) -> bool {
        match self.state {
            State::StoredLength => bits.count == 0,
            State::Block => self.final_block && bits.count == 0,
            _ => false,
        }
    }

    /// Keeps the end of what was decoded.
    fn remember(&mut self, decoded: &[u8]) {
        let size = self.window_size;
        let decoded = &decoded[decoded.len().saturating_sub(size)..];
        // A quarter more is kept: the window is not moved for each message.
        let most = size + size / 4;
        if self.window.len() + decoded.len() > most {
            let keep = size - decoded.len();
            self.window.drain(..self.window.len().saturating_sub(keep));
        }
        let needed = self.window.len() + decoded.len();
        if needed > self.window.capacity() {
            let capacity = (self.window.capacity() * 2).clamp(needed, most);
            self.window.reserve_exact(capacity - self.window.len());
        }
        self.window.extend_from_slice(decoded);
    }

    /// Decodes until the input ends or the limit is reached.
    fn decode(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<Pause, Malformed> {
        loop {
            if output.at >= output.limit {
                return Ok(Pause::Limit);
            }
            let done = match self.state {
                State::Block => self.block(bits)?,
                State::StoredLength => self.stored_length(bits)?,
                State::Stored(left) => self.stored(bits, output, left),
                State::Counts => self.counts(bits)?,
                State::LengthLengths => self.length_lengths(bits)?,
                State::Lengths => self.lengths(bits)?,
                State::Symbol => {
                    output.make_room(bits.input.len() - bits.at);
                    if bits.input.len() - bits.at >= 8 {
                        self.symbols(bits, output)?;
                        if output.at >= output.limit {
                            continue;
                        }
                    }
                    self.symbol(bits, output)?
                }
                State::Distance(length) => self.distance(bits, output, length)?,
            };
            if done.is_none() {
                return Ok(Pause::Input);
            }
        }
    }

    /// RFC 1951 3.2.3.
    fn block(&mut self, bits: &mut Bits<'_>) -> Result<Option<()>, Malformed> {
        let Some(header) = bits.take(3) else { return Ok(None) };
        self.final_block = header & 1 != 0;
        self.state = match header >> 1 {
            0 => {
                bits.align();
                State::StoredLength
            }
            1 => {
                self.fixed = true;
                State::Symbol
            }
            2 => State::Counts,
            _ => return Err(Malformed::BlockType),
        };
        Ok(Some(()))
    }

    /// RFC 7692 7.2.1: behind a block with BFINAL the next one begins with a byte, and refers back as any other.
    fn end_block(&mut self, bits: &mut Bits<'_>) {
        if self.final_block {
            bits.align();
        }
        self.state = State::Block;
    }

    /// RFC 1951 3.2.4.
    fn stored_length(&mut self, bits: &mut Bits<'_>) -> Result<Option<()>, Malformed> {
        let Some(lengths) = bits.take(32) else { return Ok(None) };
        let length = lengths & 0xffff;
        if lengths >> 16 != length ^ 0xffff {
            return Err(Malformed::StoredLength);
        }
        self.state = State::Stored(length);
        Ok(Some(()))
    }

    fn stored(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>, mut left: usize) -> Option<()> {
        output.bytes.truncate(output.at);
        while left != 0 && bits.count != 0 && output.at < output.limit {
            output.bytes.push(bits.take(8)? as u8);
            output.at += 1;
            left -= 1;
        }
        if bits.count == 0 {
            // What is not counted was of this input.
            bits.held = 0;
            let rest = &bits.input[bits.at..];
            let copied = &rest[..rest.len().min(left).min(output.limit - output.at)];
            output.bytes.extend_from_slice(copied);
            output.at += copied.len();
            bits.at += copied.len();
            left -= copied.len();
        }
        self.state = State::Stored(left);
        if left == 0 {
            self.end_block(bits);
        } else if output.at < output.limit {
            return None;
        }
        Some(())
    }

    /// RFC 1951 3.2.7, as all of the next ones.
    fn counts(&mut self, bits: &mut Bits<'_>) -> Result<Option<()>, Malformed> {
        let Some(counts) = bits.take(14) else { return Ok(None) };
        self.litlens = (counts & 31) + 257;
        let distances = (counts >> 5 & 31) + 1;
        self.length_codes = (counts >> 10) + 4;
        if self.litlens > LITLENS_MAX || distances > DISTANCES_MAX {
            return Err(Malformed::Codes);
        }
        self.codes = self.litlens + distances;
        self.known = 0;
        self.length_lengths = [0; 19];
        self.state = State::LengthLengths;
        Ok(Some(()))
    }

    fn length_lengths(&mut self, bits: &mut Bits<'_>) -> Result<Option<()>, Malformed> {
        for &symbol in &LENGTH_ORDER[self.known..self.length_codes] {
            let Some(length) = bits.take(3) else { return Ok(None) };
            self.length_lengths[symbol] = length as u8;
            self.known += 1;
        }
        self.length_code.build_lengths(&self.length_lengths)?;
        self.known = 0;
        self.length = 0;
        self.coded_known = 0;
        self.state = State::Lengths;
        Ok(Some(()))
    }

    fn lengths(&mut self, bits: &mut Bits<'_>) -> Result<Option<()>, Malformed> {
        while self.known < self.codes {
            // A code of 7 bits and as many more.
            if bits.count < 14 {
                bits.refill();
            }
            let entry = self.length_code.first(bits.held);
            if entry.bits() > bits.count {
                return Ok(None);
            }
            let (symbol, stream) = (entry.symbol(), bits.held);
            bits.skip(entry.bits());
            if symbol < 16 {
                self.length = symbol;
                self.coded[self.coded_known] = Coded::new(self.known, symbol);
                self.coded_known += usize::from(symbol != 0);
                self.known += 1;
                continue;
            }
            let added = entry.number(stream) - usize::from(symbol);
            let times = if symbol == 18 { 11 + added } else { 3 + added };
            if times > self.codes - self.known || (symbol == 16 && self.known == 0) {
                return Err(Malformed::Repeat);
            }
            if symbol != 16 {
                self.length = 0;
            } else if self.length != 0 {
                let repeated = self.coded[self.coded_known..].iter_mut().zip(self.known..);
                for (coded, symbol) in repeated.take(times) {
                    *coded = Coded::new(symbol, self.length);
                }
                self.coded_known += times;
            }
            self.known += times;
        }
        self.dynamic.build(&self.coded[..self.coded_known], self.litlens)?;
        self.fixed = false;
        self.state = State::Symbol;
        Ok(Some(()))
    }

    /// The next symbol (RFC 1951 3.2.3).
    fn symbol(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<Option<()>, Malformed> {
        let State::Symbol = self.state else { return Ok(Some(())) };
        let table = if self.fixed { &FIXED.litlen } else { &self.dynamic.litlen };
        bits.refill();
        let mut entry = table.first(bits.held);
        if entry.bits() > bits.count {
            return Ok(None);
        }
        let mut linked = 0;
        if entry.is_link() {
            linked = entry.bits();
            entry = table.second(entry, bits.held >> linked);
            if linked + entry.bits() > bits.count {
                return Ok(None);
            }
        }
        bits.skip(linked);
        if entry.is_literal() {
            let mut target = output.target();
            target.literal(entry.symbol());
            output.at = target.at;
        } else if entry.is_invalid() {
            return Err(Malformed::Symbol);
        } else if entry.is_end() {
            bits.skip(entry.bits());
            self.end_block(bits);
            return Ok(Some(()));
        } else {
            self.state = State::Distance(entry.number(bits.held));
        }
        bits.skip(entry.bits());
        Ok(Some(()))
    }

    fn distance(
        &mut self,
        bits: &mut Bits<'_>,
        output: &mut Output<'_>,
        length: usize,
    ) -> Result<Option<()>, Malformed> {
        let table = if self.fixed { &FIXED.distances } else { &self.dynamic.distances };
        bits.refill();
        let mut entry = table.first(bits.held);
        if entry.bits() > bits.count {
            return Ok(None);
        }
        let mut linked = 0;
        if entry.is_link() {
            linked = entry.bits();
            entry = table.second(entry, bits.held >> linked);
            if linked + entry.bits() > bits.count {
                return Ok(None);
            }
        }
        bits.skip(linked);
        if entry.is_invalid() {
            return Err(Malformed::Symbol);
        }
        output.make_room(bits.input.len() - bits.at);
        let mut target = output.target();
        target.repeat(entry.number(bits.held), length)?;
        output.at = target.at;
        bits.skip(entry.bits());
        self.state = State::Symbol;
        Ok(Some(()))
    }

    /// Decodes symbols while there is plenty of input and room, and the limit is far: [`symbol`](Self::symbol)
    /// and [`distance`](Self::distance) go on where it stops, be it at the end of the block or at an error.
    fn symbols(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<(), Malformed> {
        let codes = if self.fixed { &*FIXED } else { &self.dynamic };
        let end = output.bytes.len().saturating_sub(SYMBOL_ROOM).min(output.limit.saturating_sub(LITERALS));
        // They stay in registers.
        let mut local = Bits { ..*bits };
        let mut target = output.target();
        while target.at < end && local.refill_at_once() {
            // 56 bits are two literals of the first table, at most 20, a length of 20, and some of the distance.
            let mut entry = codes.litlen.first(local.held);
            if entry.is_literal() {
                local.skip(entry.bits());
                target.literal(entry.symbol());
                entry = codes.litlen.first(local.held);
                if entry.is_literal() {
                    local.skip(entry.bits());
                    target.literal(entry.symbol());
                    entry = codes.litlen.first(local.held);
                }
            }
            if entry.is_link() {
                let second = codes.litlen.second(entry, local.held >> entry.bits());
                if second.is_special() {
                    break;
                }
                local.skip(entry.bits());
                entry = second;
            }
            if entry.is_literal() {
                local.skip(entry.bits());
                target.literal(entry.symbol());
                continue;
            }
            if entry.is_special() {
                break;
            }
            let length = entry.number(local.held);
            local.skip(entry.bits());

            // A distance is a code of 15 bits and 13 more.
            if local.count < 28 && !local.refill_at_once() {
                self.state = State::Distance(length);
                break;
            }
            let mut entry = codes.distances.first(local.held);
            if entry.is_special() {
                let second = codes.distances.second(entry, local.held >> entry.bits());
                if !entry.is_link() || second.is_special() {
                    self.state = State::Distance(length);
                    break;
                }
                local.skip(entry.bits());
                entry = second;
            }
            target.repeat(entry.number(local.held), length)?;
            local.skip(entry.bits());
        }
        output.at = target.at;
        *bits = local;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
