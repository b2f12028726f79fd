//! Decodes DEFLATE (RFC 1951) as it arrives, for the messages of permessage-deflate (RFC 7692 7.2.2).
//!
//! [`Inflater`] takes the payload of a message in pieces of any size, and keeps the last bytes that were decoded, into
//! which the stream refers back. It is a state machine that can stop at any bit: each step takes what it needs,
//! or waits for more input without losing bits. [`Inflater::decode_fast`] is the inner loop for the bulk of the
//! data.

use bits::BitReader;
use huffman::{Codes, FIXED, LengthTable, SymbolLength};
use output::{LITERALS_IN_A_ROW, Output, SYMBOL_ROOM};

mod bits;
mod huffman;
mod output;

/// The most literals and lengths, and distances, for which a block may have codes (RFC 1951 3.2.7). The format can
/// express more, without a meaning. As in zlib, they are an error.
const LITLENS_MAX: usize = 286;
const DISTANCES_MAX: usize = 30;

/// The order in which the code lengths of the code length code are sent (RFC 1951 3.2.7).
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Why a stream cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// A block of type 3 (RFC 1951 3.2.3).
    BlockType,
    /// The length of a stored block does not agree with its complement (RFC 1951 3.2.4).
    StoredLength,
    /// Codes for more symbols than there are (RFC 1951 3.2.7).
    Codes,
    /// A repetition of code lengths that has none before it, or goes beyond the last code (RFC 1951 3.2.7).
    Repeat,
    /// No code for the end of the block (RFC 1951 3.2.7).
    NoEnd,
    /// Code lengths that are too short for a prefix code (RFC 1951 3.2.2).
    Oversubscribed,
    /// Code lengths that leave bits without a code (RFC 1951 3.2.2).
    Incomplete,
    /// Bits that are not a code, or a code without a meaning (RFC 1951 3.2.6).
    Symbol,
    /// A distance beyond the negotiated window, or to before the first byte (RFC 1951 3.2.5, RFC 7692 7.1.2).
    Distance,
    /// The message does not end in the header of an empty stored block (RFC 7692 7.2.1).
    End,
}

/// The progress of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes of the input that were consumed: the next input must begin after them.
    pub(crate) consumed: usize,
    /// Whether the call stopped at the limit, and there may be more to decode.
    pub(crate) more: bool,
}

/// The part of the stream that is decoded next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The header of a block.
    Block,
    /// The length of a stored block.
    StoredLength,
    /// The content of a stored block, of which this many bytes are left.
    Stored(usize),
    /// The numbers of code lengths.
    Counts,
    /// The code lengths of the code length code.
    LengthLengths,
    /// The code lengths of literals, lengths and distances.
    Lengths,
    /// A literal, a length or the end of a block.
    Symbol,
    /// The distance of a match of this length.
    Distance(usize),
}

/// Why decoding stopped.
enum StopReason {
    NeedsInput,
    LimitReached,
}

/// Decodes one message at a time. It belongs to a connection within a message. Between messages a connection keeps only
/// the [`window`](Self::window).
pub(crate) struct Inflater {
    stage: Stage,
    /// The bits that were read but not decoded, the next one lowest. Unlike in [`BitReader`], those above are zero.
    bit_buffer: u64,
    bit_count: u32,
    /// Whether the bits of the next input's first byte are in `bit_buffer` already.
    read_ahead: bool,
    /// BFINAL of the current block, or of the last one.
    final_block: bool,
    /// Whether the current block has the fixed codes.
    fixed: bool,
    /// The numbers of code lengths in the current block: of literals and lengths, of these and the distances, and of
    /// the code length code.
    litlens: usize,
    codes: usize,
    length_codes: usize,
    /// How many of the code lengths being read are known.
    known: usize,
    /// The last code length, which symbol 16 repeats.
    length: u8,
    length_lengths: [u8; 19],
    length_code: LengthTable,
    /// The symbols that have a code, of which the first `coded_known` are known.
    coded: [SymbolLength; LITLENS_MAX + DISTANCES_MAX],
    coded_known: usize,
    dynamic: Codes,
    window: Vec<u8>,
    /// The greatest distance.
    window_size: usize,
    /// Whether later messages may refer back to this one.
    takeover: bool,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Block,
            bit_buffer: 0,
            bit_count: 0,
            read_ahead: false,
            final_block: false,
            fixed: false,
            litlens: 0,
            codes: 0,
            length_codes: 0,
            known: 0,
            length: 0,
            length_lengths: [0; 19],
            length_code: LengthTable::new(),
            coded: [SymbolLength::new(0, 0); LITLENS_MAX + DISTANCES_MAX],
            coded_known: 0,
            dynamic: Codes::new(),
            window: Vec::new(),
            window_size: 0,
            takeover: false,
        }
    }

    /// Begins a message. Its distances reach at most `1 << window_bits` bytes back, into the [`window`](Self::window)
    /// and what the message has decoded. With `takeover` the window is kept up to date to the end of the message.
    ///
    /// Tables are not cleared: a block builds its own before it uses them.
    pub(crate) fn begin_message(&mut self, window_bits: u8, takeover: bool) {
        self.stage = Stage::Block;
        self.bit_buffer = 0;
        self.bit_count = 0;
        self.read_ahead = false;
        self.final_block = false;
        self.window_size = 1 << window_bits.min(15);
        self.takeover = takeover;
    }

    /// Returns the last bytes that were decoded, up to a quarter more than the greatest distance. A connection takes
    /// them when a message ends, and puts them back before the next one begins.
    pub(crate) const fn window(&mut self) -> &mut Vec<u8> {
        &mut self.window
    }

    /// Decodes `input`, which continues after the bytes consumed before, and appends to `out`. With `last` the message
    /// ends with this input.
    ///
    /// Stops after the first symbol with which this call has appended `limit` bytes, which may be up to 257 bytes
    /// more. It leaves at least one byte of the input unconsumed then, because a caller that has no input left would
    /// not call again. A limit of 0 counts as 1.
    pub(crate) fn inflate(
        &mut self,
        input: &[u8],
        last: bool,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<Progress, InflateError> {
        let read_ahead = self.read_ahead && !input.is_empty();
        self.read_ahead &= input.is_empty();
        let mut bits =
            BitReader { buffer: self.bit_buffer, count: self.bit_count, input, at: read_ahead.into() };
        let start = out.len();
        // Without input no byte could be left for the next call. At most 63 bits are buffered, so the output is
        // bounded.
        let limit = if input.is_empty() { usize::MAX } else { start.saturating_add(limit.max(1)) };
        // Borrowed by the output, and put back before an error is returned.
        let window = std::mem::take(&mut self.window);
        let window_size = self.window_size;
        let mut output = Output { window: &window, window_size, bytes: out, start, at: start, limit };
        let stopped = self.decode(&mut bits, &mut output);
        let end = output.at;
        out.truncate(end);
        self.window = window;

        let more = matches!(stopped?, StopReason::LimitReached);
        // Nothing is copied at the end of a message to which no other refers.
        if more || !last || self.takeover {
            self.keep_window(&out[start..]);
        }
        if more {
            bits.give_back();
            // The last byte was read in part. It is returned as unconsumed; the next call skips it.
            if bits.at == input.len() {
                bits.at -= 1;
                self.read_ahead = true;
            }
        } else if last && !self.is_complete(&bits) {
            return Err(InflateError::End);
        }
        self.bit_buffer = bits.buffer & ((1 << bits.count) - 1);
        self.bit_count = bits.count;
        Ok(Progress { consumed: bits.at, more })
    }

    /// Returns whether the message may end here.
    ///
    /// It ends with an empty stored block without its last four octets, the length and its complement (RFC 7692 7.2.1).
    /// A message that ends elsewhere was cut off. A block with BFINAL ends the stream by itself (RFC 1951 3.2.3): some
    /// senders then leave out the header of the empty block, and nothing is missing.
    const fn is_complete(&self, bits: &BitReader<'_>) -> bool {
        match self.stage {
            Stage::StoredLength => bits.count == 0,
            Stage::Block => self.final_block && bits.count == 0,
            _ => false,
        }
    }

    /// Appends the end of `decoded` to the window.
    fn keep_window(&mut self, decoded: &[u8]) {
        let size = self.window_size;
        let decoded = &decoded[decoded.len().saturating_sub(size)..];
        // Up to a quarter more than a window is kept, so that short messages do not move it each time.
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

    /// Decodes until the input ends or the limit is reached. A step returns `None` if it needs more input.
    fn decode(
        &mut self,
        bits: &mut BitReader<'_>,
        output: &mut Output<'_>,
    ) -> Result<StopReason, InflateError> {
        loop {
            if output.at >= output.limit {
                return Ok(StopReason::LimitReached);
            }
            let done = match self.stage {
                Stage::Block => self.read_block_header(bits)?,
                Stage::StoredLength => self.read_stored_length(bits)?,
                Stage::Stored(left) => self.copy_stored(bits, output, left),
                Stage::Counts => self.read_counts(bits)?,
                Stage::LengthLengths => self.read_length_lengths(bits)?,
                Stage::Lengths => self.read_lengths(bits)?,
                Stage::Symbol => {
                    output.make_room(bits.input.len() - bits.at);
                    if bits.input.len() - bits.at >= 8 {
                        self.decode_fast(bits, output)?;
                        // No symbol may be decoded after the one that reaches the limit.
                        if output.at >= output.limit {
                            continue;
                        }
                    }
                    self.decode_symbol(bits, output)?
                }
                Stage::Distance(length) => self.decode_distance(bits, output, length)?,
            };
            if done.is_none() {
                return Ok(StopReason::NeedsInput);
            }
        }
    }

    /// Reads BFINAL and the type of a block (RFC 1951 3.2.3).
    fn read_block_header(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, InflateError> {
        let Some(header) = bits.take(3) else { return Ok(None) };
        self.final_block = header & 1 != 0;
        self.stage = match header >> 1 {
            0 => {
                bits.align();
                Stage::StoredLength
            }
            1 => {
                self.fixed = true;
                Stage::Symbol
            }
            2 => Stage::Counts,
            _ => return Err(InflateError::BlockType),
        };
        Ok(Some(()))
    }

    /// Ends a block. After one with BFINAL the next begins at a whole byte, and refers back like any other (RFC 7692
    /// 7.2.1).
    fn end_block(&mut self, bits: &mut BitReader<'_>) {
        if self.final_block {
            bits.align();
        }
        self.stage = Stage::Block;
    }

    /// Reads the length of a stored block and its complement (RFC 1951 3.2.4).
    fn read_stored_length(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, InflateError> {
        let Some(lengths) = bits.take(32) else { return Ok(None) };
        let length = lengths & 0xffff;
        if lengths >> 16 != length ^ 0xffff {
            return Err(InflateError::StoredLength);
        }
        self.stage = Stage::Stored(length);
        Ok(Some(()))
    }

    /// Copies the content of a stored block: first the bytes in the bit buffer, then from the input.
    fn copy_stored(
        &mut self,
        bits: &mut BitReader<'_>,
        output: &mut Output<'_>,
        mut left: usize,
    ) -> Option<()> {
        output.bytes.truncate(output.at);
        while left != 0 && bits.count != 0 && output.at < output.limit {
            output.bytes.push(bits.take(8)? as u8);
            output.at += 1;
            left -= 1;
        }
        if bits.count == 0 {
            // The uncounted bits are those of bytes that are copied now. They must not be ORed with later ones.
            bits.buffer = 0;
            let rest = &bits.input[bits.at..];
            let copied = &rest[..rest.len().min(left).min(output.limit - output.at)];
            output.bytes.extend_from_slice(copied);
            output.at += copied.len();
            bits.at += copied.len();
            left -= copied.len();
        }
        self.stage = Stage::Stored(left);
        if left == 0 {
            self.end_block(bits);
        } else if output.at < output.limit {
            return None;
        }
        Some(())
    }

    /// Reads the numbers of code lengths (RFC 1951 3.2.7, as the next two).
    fn read_counts(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, InflateError> {
        let Some(counts) = bits.take(14) else { return Ok(None) };
        self.litlens = (counts & 31) + 257;
        let distances = (counts >> 5 & 31) + 1;
        self.length_codes = (counts >> 10) + 4;
        if self.litlens > LITLENS_MAX || distances > DISTANCES_MAX {
            return Err(InflateError::Codes);
        }
        self.codes = self.litlens + distances;
        self.known = 0;
        self.length_lengths = [0; 19];
        self.stage = Stage::LengthLengths;
        Ok(Some(()))
    }

    /// Reads the lengths of the code length code. `known` counts them, so that it can continue with more input.
    fn read_length_lengths(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, InflateError> {
        for &symbol in &LENGTH_ORDER[self.known..self.length_codes] {
            let Some(length) = bits.take(3) else { return Ok(None) };
            self.length_lengths[symbol] = length as u8;
            self.known += 1;
        }
        self.length_code.build_lengths(&self.length_lengths)?;
        self.known = 0;
        self.length = 0;
        self.coded_known = 0;
        self.stage = Stage::Lengths;
        Ok(Some(()))
    }

    /// Reads the code lengths of both codes, with repetitions that may cross from one to the other.
    fn read_lengths(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, InflateError> {
        while self.known < self.codes {
            // A code of up to 7 bits and up to 7 extra bits.
            if bits.count < 14 {
                bits.refill();
            }
            let entry = self.length_code.lookup(bits.buffer);
            if entry.bits() > bits.count {
                return Ok(None);
            }
            let (symbol, stream) = (entry.symbol(), bits.buffer);
            bits.skip(entry.bits());
            if symbol < 16 {
                self.length = symbol;
                self.coded[self.coded_known] = SymbolLength::new(self.known, symbol);
                // Without a branch: a symbol of length 0 is overwritten by the next one.
                self.coded_known += usize::from(symbol != 0);
                self.known += 1;
                continue;
            }
            let added = entry.number(stream) - usize::from(symbol);
            let times = if symbol == 18 { 11 + added } else { 3 + added };
            if times > self.codes - self.known || (symbol == 16 && self.known == 0) {
                return Err(InflateError::Repeat);
            }
            if symbol != 16 {
                self.length = 0;
            } else if self.length != 0 {
                let repeated = self.coded[self.coded_known..].iter_mut().zip(self.known..);
                for (coded, symbol) in repeated.take(times) {
                    *coded = SymbolLength::new(symbol, self.length);
                }
                self.coded_known += times;
            }
            self.known += times;
        }
        self.dynamic.build(&self.coded[..self.coded_known], self.litlens)?;
        self.fixed = false;
        self.stage = Stage::Symbol;
        Ok(Some(()))
    }

    /// Decodes a symbol (RFC 1951 3.2.3). Consumes all of its bits, or none if some are missing.
    fn decode_symbol(
        &mut self,
        bits: &mut BitReader<'_>,
        output: &mut Output<'_>,
    ) -> Result<Option<()>, InflateError> {
        // The fast loop may have stopped within a match.
        let Stage::Symbol = self.stage else { return Ok(Some(())) };
        let table = if self.fixed { &FIXED.litlen } else { &self.dynamic.litlen };
        bits.refill();
        let mut entry = table.lookup(bits.buffer);
        if entry.bits() > bits.count {
            return Ok(None);
        }
        let mut linked = 0;
        if entry.is_link() {
            linked = entry.bits();
            entry = table.lookup_second(entry, bits.buffer >> linked);
            if linked + entry.bits() > bits.count {
                return Ok(None);
            }
        }
        bits.skip(linked);
        if entry.is_literal() {
            let mut target = output.target();
            target.push_literal(entry.symbol());
            output.at = target.at;
        } else if entry.is_invalid() {
            return Err(InflateError::Symbol);
        } else if entry.is_end() {
            bits.skip(entry.bits());
            self.end_block(bits);
            return Ok(Some(()));
        } else {
            self.stage = Stage::Distance(entry.number(bits.buffer));
        }
        bits.skip(entry.bits());
        Ok(Some(()))
    }

    /// Decodes the distance of a match, and copies the match.
    fn decode_distance(
        &mut self,
        bits: &mut BitReader<'_>,
        output: &mut Output<'_>,
        length: usize,
    ) -> Result<Option<()>, InflateError> {
        let table = if self.fixed { &FIXED.distances } else { &self.dynamic.distances };
        bits.refill();
        let mut entry = table.lookup(bits.buffer);
        if entry.bits() > bits.count {
            return Ok(None);
        }
        let mut linked = 0;
        if entry.is_link() {
            linked = entry.bits();
            entry = table.lookup_second(entry, bits.buffer >> linked);
            if linked + entry.bits() > bits.count {
                return Ok(None);
            }
        }
        bits.skip(linked);
        if entry.is_invalid() {
            return Err(InflateError::Symbol);
        }
        output.make_room(bits.input.len() - bits.at);
        let mut target = output.target();
        target.copy_match(entry.number(bits.buffer), length)?;
        output.at = target.at;
        bits.skip(entry.bits());
        self.stage = Stage::Symbol;
        Ok(Some(()))
    }

    /// Decodes symbols while 8 bytes of input and room for any symbol are left, and the limit is not near. The loop
    /// checks this once for up to three literals and a match, and so needs no check for each of them.
    ///
    /// Whatever it cannot handle it leaves to [`decode_symbol`](Self::decode_symbol) and
    /// [`decode_distance`](Self::decode_distance): the end of the block, an invalid code, the last bytes of the input.
    fn decode_fast(&mut self, bits: &mut BitReader<'_>, output: &mut Output<'_>) -> Result<(), InflateError> {
        let codes = if self.fixed { &*FIXED } else { &self.dynamic };
        let end = output
            .bytes
            .len()
            .saturating_sub(SYMBOL_ROOM)
            .min(output.limit.saturating_sub(LITERALS_IN_A_ROW));
        // Copies, which the compiler keeps in registers; fields accessed through a reference would be stored at each
        // step.
        let mut local = BitReader { ..*bits };
        let mut target = output.target();
        while target.at < end && local.refill_word() {
            // The buffer has at least 56 bits. Two literals of the primary table take at most 20, and a length at most
            // 15 and 5 extra bits. They need no check. A third literal may take the place of the length.
            let mut entry = codes.litlen.lookup(local.buffer);
            if entry.is_literal() {
                local.skip(entry.bits());
                target.push_literal(entry.symbol());
                entry = codes.litlen.lookup(local.buffer);
                if entry.is_literal() {
                    local.skip(entry.bits());
                    target.push_literal(entry.symbol());
                    entry = codes.litlen.lookup(local.buffer);
                }
            }
            if entry.is_link() {
                let second = codes.litlen.lookup_second(entry, local.buffer >> entry.bits());
                // Nothing of this symbol is skipped yet: the slow way decodes it again, and handles it.
                if second.is_special() {
                    break;
                }
                local.skip(entry.bits());
                entry = second;
            }
            if entry.is_literal() {
                local.skip(entry.bits());
                target.push_literal(entry.symbol());
                continue;
            }
            if entry.is_special() {
                break;
            }
            let length = entry.number(local.buffer);
            local.skip(entry.bits());

            // A distance is a code of up to 15 bits and up to 13 extra bits. If they may be missing, the slow way
            // continues after the length, which is consumed.
            if local.count < 28 && !local.refill_word() {
                self.stage = Stage::Distance(length);
                break;
            }
            let mut entry = codes.distances.lookup(local.buffer);
            if entry.is_special() {
                let second = codes.distances.lookup_second(entry, local.buffer >> entry.bits());
                if !entry.is_link() || second.is_special() {
                    self.stage = Stage::Distance(length);
                    break;
                }
                local.skip(entry.bits());
                entry = second;
            }
            target.copy_match(entry.number(local.buffer), length)?;
            local.skip(entry.bits());
        }
        output.at = target.at;
        *bits = local;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
