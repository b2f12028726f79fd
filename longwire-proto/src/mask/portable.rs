//! The masking loops in safe Rust, which the compiler vectorises.
//!
//! They have no branch on the data, and `apply_text` collects the bytes in `seen` in place of stopping early: either
//! would prevent vectorisation. The functions are always inlined, so that `x86` compiles them for its CPU feature.

/// The bits that no ASCII byte has.
const NOT_ASCII: u64 = 0x8080_8080_8080_8080;

#[inline(always)]
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    let word = repeat_key(key);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    // The words before are multiples of 4 bytes, so that the rest begins with the first byte of the key.
    for (byte, key) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[inline(always)]
pub(super) fn apply_text(payload: &mut [u8], key: [u8; 4]) -> bool {
    let word = repeat_key(key);
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

/// Returns the key twice, as a word. Native byte order on both sides keeps the bytes in order on any CPU.
#[inline(always)]
fn repeat_key([a, b, c, d]: [u8; 4]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}
