//! The loops of `portable`, compiled for AVX2 and called if the CPU has it.
#![expect(unsafe_code, reason = "calls into code compiled for a CPU feature")]

use super::portable;

/// The number of bytes from which the call pays off. Below, the portable loop, inlined at the caller, is as fast.
pub(super) const MIN_LENGTH: usize = 128;

#[inline]
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, which the line above has checked.
        unsafe { apply_avx2(payload, key) }
    } else {
        portable::apply(payload, key);
    }
}

#[inline]
pub(super) fn apply_text(payload: &mut [u8], key: [u8; 4]) -> bool {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, which the line above has checked.
        unsafe { apply_text_avx2(payload, key) }
    } else {
        portable::apply_text(payload, key)
    }
}

#[target_feature(enable = "avx2")]
fn apply_avx2(payload: &mut [u8], key: [u8; 4]) {
    portable::apply(payload, key);
}

#[target_feature(enable = "avx2")]
fn apply_text_avx2(payload: &mut [u8], key: [u8; 4]) -> bool {
    portable::apply_text(payload, key)
}
