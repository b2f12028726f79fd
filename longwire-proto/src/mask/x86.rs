//! The portable loops once more, compiled for AVX2, behind a check of the CPU.
#![expect(unsafe_code, reason = "calls into code compiled for a CPU feature")]

use super::portable;

/// Below this many bytes the portable loop inlined at the call is as fast.
pub(super) const WORTH_A_CALL: usize = 128;

#[inline]
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, as was just asked.
        unsafe { apply_avx2(payload, key) }
    } else {
        portable::apply(payload, key);
    }
}

#[inline]
pub(super) fn apply_text(payload: &mut [u8], key: [u8; 4]) -> bool {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, as was just asked.
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
