//! Masks and unmasks payload in place, by XOR with the key (RFC 6455 section 5.3).
//!
//! There is one loop over words of 8 bytes. `portable` has its source, and `x86` compiles it a second time for AVX2,
//! for CPUs that have it. [`apply_text`] also checks in the same pass whether the result is ASCII.

mod portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86;

/// Masks or unmasks `payload` with `key`. The first byte of the key applies to the first byte of `payload`; see
/// [`advance`] for payloads in pieces.
#[inline]
pub fn apply(payload: &mut [u8], key: [u8; 4]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if payload.len() >= x86::MIN_LENGTH {
        return x86::apply(payload, key);
    }
    portable::apply(payload, key);
}

/// Masks or unmasks `payload` like [`apply`]. Returns whether the result is all ASCII.
///
/// ASCII is valid UTF-8 however it is cut, so that such text needs no second pass.
#[inline]
pub fn apply_text(payload: &mut [u8], key: [u8; 4]) -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if payload.len() >= x86::MIN_LENGTH {
        return x86::apply_text(payload, key);
    }
    portable::apply_text(payload, key)
}

/// Returns the key for the rest of a payload of which `count` bytes are masked: `key` rotated by `count` bytes (RFC
/// 6455 5.3, `i MOD 4`).
#[inline]
pub fn advance(key: [u8; 4], count: usize) -> [u8; 4] {
    let mut key = key;
    key.rotate_left(count % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Masks as RFC 6455 5.3 defines it.
    fn masked_by_definition(payload: &mut [u8], key: [u8; 4]) {
        for (i, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    }

    #[test]
    fn every_length_and_offset_agrees_with_the_definition() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let source: Vec<u8> = (0..700u32).map(|i| (i * 31 + 7) as u8).collect();
        for offset in 0..33 {
            for length in 0..=(source.len() - offset).min(600) {
                let clear = &source[offset..offset + length];
                let mut expected = clear.to_vec();
                masked_by_definition(&mut expected, key);
                // At the alignment of the source, so that the tests reach every head and tail of the loops.
                let mut ours = source.clone();
                apply(&mut ours[offset..offset + length], key);
                assert_eq!(&ours[offset..offset + length], expected, "{offset} {length}");
                assert_eq!(ours[..offset], source[..offset], "bytes before are not touched");
                assert_eq!(
                    ours[offset + length..],
                    source[offset + length..],
                    "bytes behind are not touched"
                );

                let mut twin = clear.to_vec();
                portable::apply(&mut twin, key);
                assert_eq!(twin, expected);
                let mut text = source.clone();
                let ascii = apply_text(&mut text[offset..offset + length], key);
                assert_eq!(text, ours);
                assert_eq!(ascii, expected.is_ascii());
                let mut twin = clear.to_vec();
                assert_eq!(portable::apply_text(&mut twin, key), expected.is_ascii());
                assert_eq!(twin, expected);
            }
        }
    }

    #[test]
    fn a_byte_beyond_ascii_is_found_anywhere() {
        for length in 1..300 {
            for at in 0..length {
                let mut payload = vec![b'a'; length];
                payload[at] = 0x80;
                assert!(!apply_text(&mut payload, [0; 4]), "{at} of {length}");
                assert!(!portable::apply_text(&mut payload, [0; 4]), "{at} of {length}");
            }
            assert!(apply_text(&mut vec![0x7f; length], [0; 4]));
        }
    }

    #[test]
    fn masking_in_pieces_equals_masking_at_once() {
        let key = [1, 2, 3, 4];
        let mut whole = [0; 97];
        apply(&mut whole, key);
        for cut in 0..97 {
            let mut pieces = [0; 97];
            let (head, tail) = pieces.split_at_mut(cut);
            apply(head, key);
            apply(tail, advance(key, cut));
            assert_eq!(pieces, whole);
        }
    }
}
