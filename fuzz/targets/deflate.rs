//! Arbitrary messages and parts to be sent, compressed in every way: the peer receives them, a plain decoder
//! with the window that was agreed on reads the same, nothing is compressed that is not to be, and what is
//! compressed by itself is smaller.
//!
//! An input is what was agreed on (`Agreed::of`) with the role of the sender (16: client) and the number of the
//! frame size (times 32), the level with the numbers of threshold and budget, and the calls. A call is a byte:
//! its lowest three bits say which, the next one is text, two more are the compression, the last one says that a
//! part is the last. A payload follows: see `Sender::payload`.

#![no_main]

mod agreed;
#[path = "../../longwire-proto/tests/support/frames.rs"]
mod frames;
#[path = "../../longwire-proto/tests/support/inflate.rs"]
mod inflate;
#[path = "../../longwire-proto/tests/support/receiver.rs"]
mod receiver;

use std::time::Instant;

use agreed::{Agreed, other};
use frames::Sent;
use inflate::Window;
use libfuzzer_sys::fuzz_target;
use longwire_proto::{Compress, Config, Connection, Deflate, Kind, Message, Outbox, Role, SharedFrame};
use receiver::{Entry, Receiver, Seen};

const FRAME_SIZES: [usize; 4] = [256 * 1024, 125, 1_000, 20_000];
const THRESHOLDS: [usize; 4] = [0, 1, 256, 5_000];
const BUDGETS: [Option<usize>; 4] = [None, Some(0), Some(30_000), Some(1 << 20)];

/// Around the bounds of windows, of matches, of stored blocks and of what is copied.
const SIZES: [usize; 16] =
    [0, 1, 3, 4, 255, 256, 258, 259, 600, 1_024, 4_100, 9_000, 32_768, 33_100, 65_535, 70_000];

/// Beyond this many bytes payloads are small, so that no input takes long.
const VOLUME: usize = 80_000;

fuzz_target!(|data: &[u8]| {
    let [settings, level, calls @ ..] = data else { return };
    let agreed = Agreed::of(*settings);
    let role = if settings & 16 == 0 { Role::Server } else { Role::Client };
    let number = usize::from(level / 9);
    let threshold = THRESHOLDS[number % 4];
    let budget = BUDGETS[number / 4 % 4];
    let frame_size = FRAME_SIZES[usize::from(settings >> 5) % 4];
    let mut deflate = Deflate::new().level(1 + level % 9).threshold(threshold);
    if let Some(budget) = budget {
        deflate = deflate.send_context_takeover(budget);
    }
    let config = Config::server().deflate(deflate).frame_size(frame_size);
    let parameters = agreed.parameters(role);
    let mut end = Receiver::new(
        Entry::Assembler,
        other(role),
        &Config::server().max_message(usize::MAX).max_small_fragments(u32::MAX),
    );
    end.connection = end.connection.with_deflate(parameters);
    let mut sender = Sender {
        input: calls,
        connection: receiver::connection(role, &config, Instant::now()).with_deflate(parameters),
        out: Outbox::new(),
        end,
        window: agreed.window(),
        keeps: agreed.takeover && budget.is_some(),
        threshold,
        longest: frame_size,
        sent: Vec::new(),
        shared: None,
        under_way: None,
    };
    while !sender.input.is_empty() {
        sender.call();
    }
    if let Some(kind) = sender.under_way.as_ref().map(|under_way| under_way.kind) {
        sender.part(kind, Vec::new(), true, Compress::Auto);
    }
});

struct Sender<'a> {
    input: &'a [u8],
    connection: Connection,
    out: Outbox,
    /// The peer.
    end: Receiver,
    /// The window of the plain decoder.
    window: Window,
    /// Messages may be compressed with reference to earlier ones.
    keeps: bool,
    threshold: usize,
    /// The largest payload of a frame.
    longest: usize,
    /// All payloads, one behind the other.
    sent: Vec<u8>,
    shared: Option<SharedFrame>,
    under_way: Option<UnderWay>,
}

/// A message in parts.
struct UnderWay {
    kind: Kind,
    bytes: Vec<u8>,
    /// What is on the wire of it.
    payload: Vec<u8>,
    compressed: bool,
}

impl Sender<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.input.split_first() else { return 0 };
        self.input = rest;
        usize::from(*first)
    }

    fn call(&mut self) {
        let what = self.next();
        let kind = if what & 8 == 0 { Kind::Binary } else { Kind::Text };
        let compress = [Compress::Auto, Compress::Always, Compress::Never, Compress::Always][what >> 4 & 3];
        match (what & 7, self.under_way.as_ref().map(|under_way| under_way.kind)) {
            (4..=6, kind_of) => {
                let payload = self.payload(kind_of.unwrap_or(kind));
                self.part(kind_of.unwrap_or(kind), payload, what & 128 != 0, compress);
            }
            (7, _) => self.connection.ping(b"ping", &mut self.out).expect("it is open"),
            (_, Some(_)) => {}
            (2, None) => {
                let payload = self.payload(kind);
                let shared = SharedFrame::new(message(kind, payload));
                self.shared(&shared);
                self.shared = Some(shared);
            }
            (3, None) => {
                if let Some(shared) = self.shared.clone() {
                    self.shared(&shared);
                }
            }
            (_, None) => {
                let payload = self.payload(kind);
                let message = message(kind, payload);
                self.connection.send_with(message.clone(), compress, &mut self.out).expect("it is open");
                let keeps = self.keeps;
                self.check_message(&message, compress, keeps, self.longest);
            }
        }
    }

    fn shared(&mut self, shared: &SharedFrame) {
        self.connection.send_shared(shared, &mut self.out).expect("it is open");
        let (keeps, longest) = match self.connection.role() {
            // It is compressed by itself, whatever else is.
            Role::Server => (false, 256 * 1024),
            Role::Client => (self.keeps, self.longest),
        };
        self.check_message(&shared.message(), Compress::Auto, keeps, longest);
    }

    /// What the outbox has is this message, and the peer receives it.
    fn check_message(&mut self, message: &Message, compress: Compress, keeps: bool, longest: usize) {
        let (frames, compressed) = self.frames(longest);
        assert!(!compressed || self.may_be_compressed(compress, message.len()), "{compress:?}");
        let payload: Vec<u8> = frames.into_iter().flat_map(|frame| frame.payload).collect();
        assert!(!compressed || keeps || payload.len() < message.len(), "it is no smaller");
        assert!(compressed || payload == message.as_bytes());
        if compressed {
            self.check_payload(&payload, message.as_bytes(), true);
            self.window.pass(message.as_bytes());
        }
        let seen = self.end.seen.pop();
        assert!(seen == Some(Seen::message(message.kind(), message.as_bytes().to_vec())), "what was sent");
        self.sent.extend_from_slice(message.as_bytes());
    }

    fn may_be_compressed(&self, compress: Compress, size: usize) -> bool {
        match compress {
            Compress::Auto => size >= self.threshold,
            Compress::Always => true,
            Compress::Never => false,
        }
    }

    fn part(&mut self, kind: Kind, bytes: Vec<u8>, last: bool, compress: Compress) {
        self.connection
            .send_part_with(kind, bytes.clone().into(), last, compress, &mut self.out)
            .expect("of the same kind, and valid");
        let first = self.under_way.is_none();
        let (frames, compressed) = self.frames(self.longest);
        assert!(first || !compressed, "RSV1 is for the first frame");
        let mut under_way = self.under_way.take().unwrap_or(UnderWay {
            kind,
            bytes: Vec::new(),
            payload: Vec::new(),
            compressed,
        });
        if first && last {
            // As a whole message: as it is where that is no larger.
            let size = frames.iter().map(|frame| frame.payload.len()).sum::<usize>();
            assert!(!compressed || self.may_be_compressed(compress, bytes.len()));
            assert!(!compressed || self.keeps || size < bytes.len(), "it is no smaller");
        } else if first {
            assert_eq!(compressed, compress != Compress::Never);
        }
        under_way.bytes.extend_from_slice(&bytes);
        self.sent.extend_from_slice(&bytes);
        under_way.payload.extend(frames.into_iter().flat_map(|frame| frame.payload));
        if under_way.compressed {
            // Each part can be read when it has come (RFC 7692 7.2.1: a flush).
            self.check_payload(&under_way.payload, &under_way.bytes, last);
        } else {
            assert!(under_way.payload == under_way.bytes);
        }
        let seen = self.end.seen.pop();
        if last {
            if under_way.compressed {
                self.window.pass(&under_way.bytes);
            }
            assert!(seen == Some(Seen::message(kind, under_way.bytes)), "what was sent");
        } else {
            assert_eq!(seen, None);
            self.under_way = Some(under_way);
        }
    }

    fn check_payload(&self, payload: &[u8], bytes: &[u8], ends: bool) {
        let inflated = self.window.inflate(payload, ends, usize::MAX);
        assert_eq!(inflated.stop.is_none(), ends, "{:?}", inflated.stop);
        assert!(inflated.bytes == bytes, "what a plain decoder reads");
    }

    /// Sends what the outbox has to the peer: the frames of a message, and whether they are compressed.
    fn frames(&mut self, longest: usize) -> (Vec<Sent>, bool) {
        let mut wire = receiver::drain(&mut self.out);
        self.end.feed(&wire);
        assert_eq!(self.end.error, None);
        self.end.seen.retain(|seen| !matches!(seen, Seen::Ping(_)));
        // A Ping may stand in front of it.
        let mut at = 0;
        while wire[at] == 0x89 {
            at += 2 + 4 * usize::from(wire[at + 1] >> 7) + usize::from(wire[at + 1] & 0x7F);
        }
        let compressed = wire[at] & 0x40 != 0;
        wire[at] &= !0x40;
        let mut frames = frames::decode(&wire);
        frames.retain(|frame| frame.opcode != 0x9);
        assert!(frames.iter().all(|frame| frame.payload.len() <= longest));
        (frames, compressed)
    }

    /// A byte says which: from the input, that again and again, what was sent before, noise, or words.
    fn payload(&mut self, kind: Kind) -> Vec<u8> {
        let (what, size) = (self.next(), self.next());
        let bytes = match what % 5 {
            0 => self.take(size),
            1 => {
                let period = self.take(1 + what / 5);
                period.iter().copied().cycle().take(self.size(size)).collect()
            }
            2 => {
                let at = self.sent.len().saturating_sub(1 + self.next() * (1 + what / 5));
                let mut bytes = self.sent[at..].to_vec();
                bytes.truncate(self.size(size));
                bytes.extend(self.take(what / 5 % 4));
                bytes
            }
            3 => noise(what as u8, self.size(size)),
            _ => {
                let mut words = String::new();
                while words.len() < self.size(size) {
                    let numbers = noise(words.len() as u8, 4);
                    let word = WORDS[(usize::from(numbers[0]) ^ what) % WORDS.len()];
                    words.push_str(word);
                    words.push_str(&numbers[1 + what % 3].to_string());
                }
                words.into_bytes()
            }
        };
        match kind {
            Kind::Binary => bytes,
            Kind::Text => String::from_utf8_lossy(&bytes).into_owned().into_bytes(),
        }
    }

    fn size(&self, size: usize) -> usize {
        let size = SIZES[size % SIZES.len()];
        if self.sent.len() > VOLUME { size.min(SIZES[8]) } else { size }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let (bytes, rest) = self.input.split_at(count.min(self.input.len()));
        self.input = rest;
        bytes.to_vec()
    }
}

const WORDS: [&str; 8] = ["{\"symbol\":\"", "银行 🏦", "\",\"bid\":", "},{", "你好", "\n", "the same ", "0."];

fn noise(seed: u8, size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15 ^ u64::from(seed);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn message(kind: Kind, payload: Vec<u8>) -> Message {
    match kind {
        Kind::Binary => Message::from(payload),
        Kind::Text => Message::from(String::from_utf8(payload).expect("it was made so")),
    }
}
