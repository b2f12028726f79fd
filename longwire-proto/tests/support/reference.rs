//! A receiver as RFC 6455 and RFC 7692 describe it, for comparison: plain, slow, and written without the
//! crate. The whole byte string goes in, everything it means comes out.

use crate::inflate::{Stop, Window};
use crate::receiver::Seen;

/// Limits of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of fewer than 32 bytes.
    pub(crate) small_fragments: usize,
    pub(crate) control_run: usize,
    /// Of a joined message; `None` for a receiver that joins nothing.
    pub(crate) message: Option<u64>,
}

/// Where the bytes lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Closed,
    /// Failed, with this code in the Close frame.
    Failed(u16),
}

/// What a byte string means.
#[derive(Clone, Debug)]
pub(crate) struct Meaning {
    pub(crate) seen: Vec<Seen>,
    pub(crate) outcome: Outcome,
    /// Payload of the message under way at the end, as far as it is good.
    pub(crate) partial: Vec<u8>,
    /// Opcode and payload of every answer; of the Close frame of a failure only the code.
    pub(crate) replies: Vec<(u8, Vec<u8>)>,
    /// Where text is wrong in the same compressed frame that makes the message too large, either may be
    /// found first: the other code.
    pub(crate) or_failed: Option<u16>,
}

impl Meaning {
    /// This is how it failed, if that is as good.
    pub(crate) fn or_failed_with(&mut self, code: u16) {
        if self.or_failed == Some(code) {
            self.outcome = Outcome::Failed(code);
            self.replies.pop();
            self.replies.push((0x8, code.to_be_bytes().to_vec()));
        }
    }
}

struct Model<'a> {
    bytes: &'a [u8],
    from_client: bool,
    limits: Limits,
    /// With permessage-deflate: what its sender may refer back to.
    window: Option<Window>,
    meaning: Meaning,
    message: Option<Message>,
    control_run: usize,
}

/// The message under way.
struct Message {
    text: bool,
    payload: Vec<u8>,
    small_fragments: usize,
    /// As far as it came.
    compressed: Option<Vec<u8>>,
}

/// Reads all of `bytes`, which come from a client or from a server, with permessage-deflate if there is a
/// window.
pub(crate) fn read(bytes: &[u8], from_client: bool, limits: Limits, window: Option<Window>) -> Meaning {
    let meaning = Meaning {
        seen: Vec::new(),
        outcome: Outcome::Open,
        partial: Vec::new(),
        replies: Vec::new(),
        or_failed: None,
    };
    let mut model = Model { bytes, from_client, limits, window, meaning, message: None, control_run: 0 };
    loop {
        match model.frame() {
            Ok(true) => {}
            Ok(false) => break,
            Err(code) => {
                model.meaning.outcome = Outcome::Failed(code);
                model.meaning.replies.push((0x8, code.to_be_bytes().to_vec()));
                break;
            }
        }
    }
    model.meaning.partial = model.message.map(|message| message.payload).unwrap_or_default();
    model.meaning
}

impl Model<'_> {
    /// Takes one frame; `false` when the bytes or the connection are at an end.
    fn frame(&mut self) -> Result<bool, u16> {
        let bytes = self.bytes;
        // Nothing can be said of half the first two bytes.
        if self.meaning.outcome == Outcome::Closed || bytes.len() < 2 {
            return Ok(false);
        }
        let fin = bytes[0] >= 0x80;
        let reserved = bytes[0] / 0x10 % 8;
        let opcode = bytes[0] % 0x10;
        let masked = bytes[1] >= 0x80;
        let short = bytes[1] % 0x80;
        let control = opcode >= 8;
        let compressed = reserved == 4 && (opcode == 0x1 || opcode == 0x2) && self.window.is_some();
        let first_two_are_good = (reserved == 0 || compressed)
            && [0x0, 0x1, 0x2, 0x8, 0x9, 0xA].contains(&opcode)
            && masked == self.from_client
            && !(control && (!fin || short > 125))
            && !(opcode == 0x0 && self.message.is_none())
            && !((opcode == 0x1 || opcode == 0x2) && self.message.is_some());
        if !first_two_are_good {
            return Err(1002);
        }

        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let key_at = 2 + extended;
        let payload_at = key_at + if masked { 4 } else { 0 };
        if bytes.len() < key_at {
            return Ok(false);
        }
        let mut length = u64::from(short);
        if extended > 0 {
            length = bytes[2..key_at].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
            if length <= 125 || (extended == 8 && length <= 65_535) || length >= 1 << 63 {
                return Err(1002);
            }
        }
        if bytes.len() < payload_at {
            return Ok(false);
        }
        let key = if masked { &bytes[key_at..payload_at] } else { &[0; 4] };
        let there = (bytes.len() - payload_at).min(usize::try_from(length).unwrap_or(usize::MAX));
        let whole = there as u64 == length;
        let mut payload = bytes[payload_at..payload_at + there].to_vec();
        for i in 0..payload.len() {
            payload[i] ^= key[i % 4];
        }
        self.bytes = &bytes[payload_at + there..];
        if control {
            if !whole {
                return Ok(false);
            }
            self.control(opcode, payload)?;
        } else {
            self.begin(opcode, compressed, length)?;
            self.data(fin, length, payload, whole)?;
        }
        Ok(whole)
    }

    /// A frame of a message.
    fn begin(&mut self, opcode: u8, compressed: bool, length: u64) -> Result<(), u16> {
        self.control_run = 0;
        let message = self.message.get_or_insert_with(|| Message {
            text: opcode == 0x1,
            payload: Vec::new(),
            small_fragments: 0,
            compressed: compressed.then(Vec::new),
        });
        message.small_fragments += usize::from(length < 32);
        if message.small_fragments > self.limits.small_fragments { Err(1008) } else { Ok(()) }
    }

    fn data(&mut self, fin: bool, length: u64, mut payload: Vec<u8>, whole: bool) -> Result<(), u16> {
        let Some(message) = &mut self.message else { return Ok(()) };
        let ends = fin && whole;
        let mut stop = None;
        if let (Some(compressed), Some(window)) = (&mut message.compressed, &self.window) {
            compressed.append(&mut payload);
            let limit = self.limits.message.map_or(usize::MAX, |limit| limit as usize);
            let inflated = window.inflate(compressed, ends, limit);
            payload = inflated.bytes[message.payload.len()..].to_vec();
            stop = match inflated.stop {
                Some(Stop::TooBig) => Some(1009),
                Some(Stop::Cut) if !ends => None,
                Some(Stop::Cut | Stop::Invalid) => Some(1007),
                None => None,
            };
        } else if self.limits.message.is_some_and(|limit| message.payload.len() as u64 + length > limit) {
            return Err(1009);
        }
        for byte in payload {
            message.payload.push(byte);
            if message.text && is_never_utf8(&message.payload) {
                message.payload.pop();
                self.meaning.or_failed = stop;
                return Err(1007);
            }
        }
        if let Some(code) = stop {
            return Err(code);
        }
        if !ends {
            return Ok(());
        }
        if let (Some(window), true) = (&mut self.window, message.compressed.is_some()) {
            window.pass(&message.payload);
        }
        if !message.text {
            self.meaning.seen.push(Seen::Binary(message.payload.clone()));
        } else if let Ok(text) = String::from_utf8(message.payload.clone()) {
            self.meaning.seen.push(Seen::Text(text));
        } else {
            return Err(1007);
        }
        self.message = None;
        Ok(())
    }

    fn control(&mut self, opcode: u8, payload: Vec<u8>) -> Result<(), u16> {
        self.control_run += 1;
        if self.control_run > self.limits.control_run {
            return Err(1008);
        }
        match opcode {
            0x9 => {
                self.meaning.replies.push((0xA, payload.clone()));
                self.meaning.seen.push(Seen::Ping(payload));
            }
            0xA => self.meaning.seen.push(Seen::Pong(payload)),
            _ if payload.is_empty() => {
                self.meaning.replies.push((0x8, payload));
                self.meaning.seen.push(Seen::Close(None));
                self.meaning.outcome = Outcome::Closed;
            }
            _ if payload.len() == 1 => return Err(1002),
            _ => {
                let code = u16::from(payload[0]) * 256 + u16::from(payload[1]);
                let reserved = code < 1000
                    || [1004, 1005, 1006].contains(&code)
                    || (1015..3000).contains(&code)
                    || code >= 5000;
                if reserved {
                    return Err(1002);
                }
                let reason = String::from_utf8(payload[2..].to_vec()).map_err(|_| 1007u16)?;
                self.meaning.replies.push((0x8, payload));
                self.meaning.seen.push(Seen::Close(Some((code, reason))));
                self.meaning.outcome = Outcome::Closed;
            }
        }
        Ok(())
    }
}

/// No continuation makes these bytes UTF-8, though all but the last of them could be continued.
///
/// Table 3-7 of the Unicode standard, applied to the character that the last byte belongs to.
pub(crate) fn is_never_utf8(bytes: &[u8]) -> bool {
    let tails = bytes.iter().rev().take_while(|byte| (0x80..=0xBF).contains(*byte)).count();
    let is_tail = |byte: &u8| (0x80..=0xBF).contains(byte);
    let Some(at) = bytes.len().checked_sub(tails + 1) else { return !bytes.is_empty() };
    let wanted = match bytes[at] {
        0x00..=0x7F => 0,
        0xC2..=0xDF => 1,
        0xE0..=0xEF => 2,
        0xF0..=0xF4 => 3,
        _ => return true,
    };
    if tails > wanted {
        return true;
    }
    if tails == 0 {
        // The lead byte must not come while another character is half done.
        let before = &bytes[..at];
        let open = before.iter().rev().take_while(|byte| is_tail(byte)).count();
        let lead = before.len().checked_sub(open + 1).map(|at| before[at]);
        return match lead {
            Some(0xC2..=0xDF) => open < 1,
            Some(0xE0..=0xEF) => open < 2,
            Some(0xF0..=0xF4) => open < 3,
            _ => false,
        };
    }
    let second = bytes[at + 1];
    match bytes[at] {
        0xE0 => second < 0xA0,
        0xED => second > 0x9F,
        0xF0 => second < 0x90,
        0xF4 => second > 0x8F,
        _ => false,
    }
}
