//! UTF-8 (RFC 6455 section 8.1): bytes known to be text, and a validator that works across fragments.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::mask;

/// Shared bytes that are valid UTF-8; dereferences to `str`, clones without copying.
///
/// ```
/// use longwire_proto::Utf8Bytes;
///
/// let text = Utf8Bytes::from("你好 👋");
/// assert_eq!(text.chars().count(), 4);
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utf8Bytes(Bytes);

impl Utf8Bytes {
    /// Makes an empty text, without allocation.
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// Makes a text of a string literal, without allocation.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Returns the text.
    #[inline]
    #[expect(unsafe_code, reason = "the bytes were validated once, when this value was made")]
    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor takes a `str` or bytes that a validator has passed.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// Turns the text into its bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Takes bytes that [`Utf8State`] has passed, first to last.
    #[inline]
    pub(crate) fn from_validated(bytes: Bytes) -> Self {
        debug_assert!(std::str::from_utf8(&bytes).is_ok());
        Self(bytes)
    }
}

/// Text where it lies: bytes that [`Utf8State`] has passed, first to last.
#[inline]
#[expect(unsafe_code, reason = "the bytes were validated once, when they were received")]
pub(crate) fn validated(bytes: &[u8]) -> &str {
    debug_assert!(std::str::from_utf8(bytes).is_ok());
    // SAFETY: only `MessageRef` calls this, with the payload of a text message that one call of
    // `Connection::receive` has validated whole, or that was validated when it was put together.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

impl Deref for Utf8Bytes {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

/// As the hash of a `str`, so that a map with these keys is searched by a `str`.
impl Hash for Utf8Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl AsRef<str> for Utf8Bytes {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for Utf8Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&String> for Utf8Bytes {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Box<str>> for Utf8Bytes {
    fn from(text: Box<str>) -> Self {
        Self::from(String::from(text))
    }
}

/// Copies the text.
impl From<Arc<str>> for Utf8Bytes {
    fn from(text: Arc<str>) -> Self {
        Self::from(&*text)
    }
}

impl From<Cow<'_, str>> for Utf8Bytes {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = InvalidUtf8;

    fn try_from(bytes: Bytes) -> Result<Self, InvalidUtf8> {
        simdutf8::basic::from_utf8(&bytes).map_err(|_| InvalidUtf8)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<Vec<u8>> for Utf8Bytes {
    type Error = InvalidUtf8;

    fn try_from(bytes: Vec<u8>) -> Result<Self, InvalidUtf8> {
        Self::try_from(Bytes::from(bytes))
    }
}

impl From<Utf8Bytes> for Bytes {
    fn from(text: Utf8Bytes) -> Self {
        text.0
    }
}

/// The text; copied only if its bytes are shared.
impl From<Utf8Bytes> for String {
    #[expect(unsafe_code, reason = "the bytes were validated once, when this value was made")]
    fn from(text: Utf8Bytes) -> Self {
        // SAFETY: as in `as_str`.
        unsafe { Self::from_utf8_unchecked(text.0.into()) }
    }
}

impl Borrow<str> for Utf8Bytes {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq<String> for Utf8Bytes {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<str> for Utf8Bytes {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Utf8Bytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The bytes are not valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

impl fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not valid UTF-8")
    }
}

impl std::error::Error for InvalidUtf8 {}

/// Where a stream of text stands: the bytes of a character that has begun and not ended.
///
/// Any bytes that cannot be continued to valid UTF-8 are an error at once, at the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8State {
    begun: [u8; 3],
    count: u8,
}

impl Utf8State {
    /// Takes further bytes of the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if no continuation can make them valid.
    #[inline]
    pub fn push(&mut self, mut chunk: &[u8]) -> Result<(), InvalidUtf8> {
        if self.count > 0 {
            chunk = self.complete(chunk)?;
        }
        let Err(error) = simdutf8::compat::from_utf8(chunk) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        // What is left begins a character and is cut off by the end of the chunk: at most three bytes.
        let begun = &chunk[error.valid_up_to()..];
        self.begun[..begun.len()].copy_from_slice(begun);
        self.count = begun.len() as u8;
        Ok(())
    }

    /// The text may end here: no character is half done.
    #[inline]
    pub const fn is_complete(&self) -> bool {
        self.count == 0
    }

    /// Feeds the character that has begun until it is whole, and gives back the bytes behind it.
    fn complete<'a>(&mut self, mut chunk: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        while let Some((&byte, rest)) = chunk.split_first() {
            chunk = rest;
            let count = usize::from(self.count);
            let mut character = [0; 4];
            character[..count].copy_from_slice(&self.begun[..count]);
            character[count] = byte;
            match std::str::from_utf8(&character[..=count]) {
                Ok(_) => {
                    self.count = 0;
                    break;
                }
                // Four bytes are either a character or an error, so there is room for this one.
                Err(error) if error.error_len().is_none() => {
                    self.begun[count] = byte;
                    self.count += 1;
                }
                Err(_) => return Err(InvalidUtf8),
            }
        }
        Ok(chunk)
    }
}

/// Bytes that stay in the first-level cache between unmasking and validating.
const HOT: usize = 8 * 1024;

/// Unmasks a piece of text in place and validates it, in one pass while the bytes are hot.
///
/// # Errors
///
/// [`InvalidUtf8`]; what is behind the bad byte may still be masked then.
#[inline]
pub fn unmask_text(chunk: &mut [u8], key: [u8; 4], state: &mut Utf8State) -> Result<(), InvalidUtf8> {
    if chunk.len() <= HOT {
        return unmask_hot(chunk, key, state);
    }
    // The pieces are a multiple of four, so each begins with the same byte of the key.
    chunk.chunks_mut(HOT).try_for_each(|piece| unmask_hot(piece, key, state))
}

#[inline]
fn unmask_hot(piece: &mut [u8], key: [u8; 4], state: &mut Utf8State) -> Result<(), InvalidUtf8> {
    let ascii = mask::apply_text(piece, key);
    if ascii && state.is_complete() { Ok(()) } else { state.push(piece) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Valid and invalid texts, each with the number of bytes after which it cannot become valid.
    const TABLE: &[(&[u8], Option<usize>)] = &[
        (b"", None),
        ("Hello-µ@ßöäüàá-UTF-8!!".as_bytes(), None),
        ("你好，世界 👋🏽".as_bytes(), None),
        (b"\xf4\x8f\xbf\xbf", None),
        (b"\x00\x7f", None),
        (b"\x80", Some(1)),
        (b"a\xc0\xaf", Some(2)),
        (b"\xc1\xbf", Some(1)),
        (b"\xe0\x80\x80", Some(2)),
        (b"\xed\xa0\x80", Some(2)),
        (b"\xed\xbf\xbf", Some(2)),
        (b"\xf0\x80\x80\x80", Some(2)),
        (b"\xf4\x90\x80\x80", Some(2)),
        (b"\xf5\x80\x80\x80", Some(1)),
        (b"\xff", Some(1)),
        (b"abc\xe4\xbd\x41", Some(6)),
        (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64", Some(13)),
    ];

    #[test]
    fn fails_at_the_first_bad_byte_however_it_is_cut() {
        for &(text, bad_at) in TABLE {
            for cut in 0..=text.len() {
                let mut state = Utf8State::default();
                let result = state.push(&text[..cut]).and_then(|()| state.push(&text[cut..]));
                assert_eq!(result.is_err(), bad_at.is_some(), "{text:x?} cut at {cut}");
            }
            let mut state = Utf8State::default();
            let failed = text.iter().position(|byte| state.push(&[*byte]).is_err());
            assert_eq!(failed.map(|at| at + 1), bad_at, "{text:x?} byte by byte");
            assert!(bad_at.is_some() || state.is_complete());
        }
    }

    #[test]
    fn every_sequence_of_up_to_three_bytes_agrees_with_the_standard_library() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for tail in [None, Some(0x41), Some(0x80), Some(0xbf), Some(0xc3)] {
                    let text: Vec<u8> = [a, b].into_iter().chain(tail).collect();
                    let mut state = Utf8State::default();
                    let ok = text.iter().all(|byte| state.push(&[*byte]).is_ok());
                    let expected = match std::str::from_utf8(&text) {
                        Ok(_) => (true, true),
                        Err(error) => (error.error_len().is_none(), false),
                    };
                    assert_eq!((ok, ok && state.is_complete()), expected, "{text:x?}");
                }
            }
        }
    }

    #[test]
    fn a_cut_anywhere_in_long_masked_text_is_the_same() {
        let key = [0x11, 0x22, 0x83, 0xf4];
        let text = "交易 📈 price=1.25 ".repeat(900);
        assert!(text.len() > 2 * HOT);
        let mut masked = text.clone().into_bytes();
        mask::apply(&mut masked, key);
        for cut in (0..text.len()).step_by(97).chain([HOT - 1, HOT, HOT + 1, text.len()]) {
            let mut bytes = masked.clone();
            let mut state = Utf8State::default();
            let (head, tail) = bytes.split_at_mut(cut);
            unmask_text(head, key, &mut state).unwrap();
            unmask_text(tail, mask::advance(key, cut), &mut state).unwrap();
            assert!(state.is_complete());
            assert_eq!(bytes, text.as_bytes());
        }
    }
}
