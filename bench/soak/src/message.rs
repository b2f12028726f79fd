//! Messages that clients make up.

use crate::{random::Random, serve::MAX_MESSAGE};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;

/// A whole message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// [`TEXT`] or [`BINARY`].
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

const WORDS: [&str; 16] = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "你好",
    "世界",
    "мир",
    "naïve",
    "👋",
    "{\"a\":1}",
    "0123456789",
    "\n",
];

impl Message {
    pub(crate) fn text(text: String) -> Self {
        Self { opcode: TEXT, payload: text.into_bytes() }
    }

    /// Of any size, small ones being the most.
    pub(crate) fn any(random: &mut Random) -> Self {
        let size = match random.below(200) {
            0 => random.below(MAX_MESSAGE),
            1..=4 => random.below(200_000),
            5..=30 => random.below(20_000),
            31..=80 => random.below(1_500),
            _ => random.below(126),
        };
        Self::of(size, random)
    }

    /// So small that several of them go into the buffers of the sockets.
    pub(crate) fn small(random: &mut Random) -> Self {
        let size = random.below(600);
        Self::of(size, random)
    }

    fn of(size: usize, random: &mut Random) -> Self {
        if random.one_in(4) {
            let mut payload: Vec<u8> =
                (0..size.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
            payload.truncate(size);
            return Self { opcode: BINARY, payload };
        }
        let mut text = String::with_capacity(size);
        loop {
            let word = WORDS[random.below(WORDS.len())];
            if text.len() + word.len() + 1 > size {
                return Self::text(text);
            }
            text.push_str(word);
            text.push(' ');
        }
    }

    /// The number behind `name` in a text of JSON.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let text = str::from_utf8(&self.payload).ok()?;
        let behind = &text[text.find(&format!("\"{name}\":"))? + name.len() + 3..];
        let end = behind.find(|character: char| !character.is_ascii_digit())?;
        behind[..end].parse().ok()
    }
}
