//! Messages of exact sizes: text that is JSON, Chinese or emoji, binary that is compressible or random.

use longwire::Message;

/// The steps of RFC 6455 5.2's length field, and beyond one read and one frame.
const ALL: [usize; 8] = [0, 1, 125, 126, 1000, 65_535, 65_536, 300_000];
const SOME: [usize; 6] = [0, 1, 125, 126, 1000, 65_536];

/// Every kind in every size.
pub(crate) fn all_sizes() -> Vec<Message> {
    every_kind(&ALL)
}

/// Every kind in fewer sizes, for what is repeated with many parameters.
pub(crate) fn some_sizes() -> Vec<Message> {
    every_kind(&SOME)
}

fn every_kind(sizes: &[usize]) -> Vec<Message> {
    let kinds = |&size: &usize| {
        let compressible: Vec<u8> = (0..size).map(|at| (at / 7 % 5) as u8).collect();
        [json(size), chinese(size), emoji(size), compressible.into(), random(size)]
    };
    sizes.iter().flat_map(kinds).collect()
}

/// Bytes that no encoder makes smaller.
pub(crate) fn random(size: usize) -> Message {
    let mut dice = Dice(size as u64);
    Message::from((0..size).map(|_| dice.below(256) as u8).collect::<Vec<_>>())
}

/// Text that is as large in its first copy as Huffman codes alone leave it: half.
pub(crate) fn hex_digits(size: usize, seed: u64) -> String {
    let mut dice = Dice(seed);
    (0..size).map(|_| char::from(b"0123456789abcdef"[dice.below(16)])).collect()
}

/// Text with something to copy from every distance up to beyond the largest window.
pub(crate) fn every_distance() -> Message {
    let mut text = hex_digits(33_000, 1);
    for bits in 7..=15 {
        for distance in [(1 << bits) - 6, (1 << bits) - 1, 1 << bits, (1 << bits) + 1, 3 << (bits - 1)] {
            let start = text.len().saturating_sub(distance);
            let copy = text[start..(start + 40).min(text.len())].to_owned();
            text += &copy;
            text += &hex_digits(30, distance as u64);
        }
    }
    Message::from(text)
}

/// 64 KiB of Chinese and emoji that compress to next to nothing, in whatever window.
pub(crate) fn wide_text() -> Message {
    Message::from("你好 👋 ".repeat(64 * 1024 / "你好 👋 ".len()))
}

fn json(size: usize) -> Message {
    let mut dice = Dice(7);
    exactly(size, || {
        let (id, price) = (dice.below(100_000), dice.below(1000));
        format!(r#"{{"id":{id},"from":"李雷","text":"你好 👋","price":{price}.5,"tags":["a","b"]}},"#)
    })
}

fn chinese(size: usize) -> Message {
    let mut dice = Dice(8);
    let words = ["天地", "玄黄", "宇宙", "洪荒", "日月", "盈昃", "辰宿", "列张", "，", "。"];
    exactly(size, || words[dice.below(words.len())].to_owned())
}

fn emoji(size: usize) -> Message {
    let mut dice = Dice(9);
    let signs = ["👋", "🌊", "🎉", "👩‍🚀", "☕", "🇨🇳", "🍜", "✅"];
    exactly(size, || signs[dice.below(signs.len())].to_owned())
}

/// Pieces one after the other, and spaces for what is left.
fn exactly(size: usize, mut next: impl FnMut() -> String) -> Message {
    let mut text = String::with_capacity(size);
    loop {
        let piece = next();
        if text.len() + piece.len() > size {
            text.extend(std::iter::repeat_n(' ', size - text.len()));
            return Message::from(text);
        }
        text += &piece;
    }
}

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}
