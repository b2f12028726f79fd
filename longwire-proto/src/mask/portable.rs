//! The masking loop in safe Rust; the compiler makes vectors of it.

const NOT_ASCII: u64 = 0x8080_8080_8080_8080;

#[inline(always)]
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    let word = wide(key);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[inline(always)]
pub(super) fn apply_text(payload: &mut [u8], key: [u8; 4]) -> bool {
    let word = wide(key);
    let mut seen = 0;
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        let clear = u64::from_ne_bytes(*chunk) ^ word;
        seen |= clear;
        *chunk = clear.to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    seen & NOT_ASCII == 0
}

#[inline(always)]
fn wide([a, b, c, d]: [u8; 4]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}
