//! API keys of programs: generated here, stored in the configuration as their SHA-256.
//!
//! A key is 32 random bytes, so a plain hash is enough: nobody can guess it, and no salt or slow hash is
//! needed.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::identity::{Identity, IdentityData, IdentityKind, Rights};
use crate::config;

/// The prefix of every key. It distinguishes a key from a token and lets secret scanners find leaked keys.
pub(super) const PREFIX: &str = "lwk_";

/// Maximum length of a presented key, in bytes.
const KEY_MAX: usize = 256;

/// Generates a key. Returns the key and the hash that the configuration stores.
///
/// # Errors
///
/// Fails if the operating system provides no random bytes.
pub fn generate() -> io::Result<(String, String)> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let hash = to_hex(&Sha256::digest(&key));
    Ok((key, hash))
}

/// The configured keys.
pub(super) struct ApiKeys(Vec<([u8; 32], Identity)>);

impl ApiKeys {
    pub(super) fn new(keys: &[config::ApiKey]) -> Result<Self, String> {
        let data = |key: &config::ApiKey| {
            let hash = parse_hash(&key.sha256).ok_or_else(|| {
                format!("the key {} has an invalid sha256: it must have 64 hexadecimal digits", key.name)
            })?;
            let rights = Rights { subscribe: key.subscribe.clone(), publish: key.publish.clone() };
            let data = IdentityData {
                key: Some(key.name.as_str().into()),
                operator: key.operator,
                ..IdentityData::new(IdentityKind::Key, rights)
            };
            Ok((hash, data.into()))
        };
        keys.iter().map(data).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the identity of a key. The comparison takes constant time, so timing does not reveal a near
    /// miss.
    pub(super) fn find(&self, key: &str) -> Option<&Identity> {
        if key.len() > KEY_MAX {
            return None;
        }
        let presented = Sha256::digest(key);
        let mut found = None;
        for (hash, identity) in &self.0 {
            if bool::from(hash[..].ct_eq(&presented)) {
                found = Some(identity);
            }
        }
        found
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hash(to_hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if to_hex.len() != 64 || !to_hex.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(to_hex.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        // Two digits of four bits make a byte.
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash() {
        let entry = |name: &str, sha256: String, pattern: &str| config::ApiKey {
            name: name.into(),
            sha256,
            subscribe: [].into_iter().collect(),
            publish: pattern.parse().into_iter().collect(),
            operator: name == "a",
        };
        let (first, first_hash) = generate().expect("random bytes");
        let (second, second_hash) = generate().expect("random bytes");
        assert_ne!(first, second);
        assert_eq!((first.len(), first_hash.len()), (PREFIX.len() + 43, 64));
        let keys =
            ApiKeys::new(&[entry("a", first_hash.to_uppercase(), "a.>"), entry("b", second_hash, "b.>")])
                .expect("keys");
        assert!(keys.find(&first).is_some_and(|identity| identity.key() == Some("a")
            && identity.may_publish("a.x")
            && identity.is_operator()
            && !identity.may_publish("b.x")));
        assert!(keys.find(&second).is_some_and(|identity| identity.may_publish("b.x")
            && !identity.may_subscribe("b.x")
            && !identity.is_operator()));
        for wrong in
            ["", "lwk_", &first[..first.len() - 1], &format!("{first} "), &first_hash, &"a".repeat(1 << 20)]
        {
            assert!(keys.find(wrong).is_none());
        }
        for wrong in ["", "x", &"g".repeat(64), &"é".repeat(32), &"0".repeat(66)] {
            assert!(ApiKeys::new(&[entry("a", wrong.to_owned(), "a")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_hash_is_sha_256() {
        // FIPS 180-4, of "abc".
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(to_hex(&Sha256::digest("abc")), hash);
        assert_eq!(parse_hash(hash).map(|bytes| to_hex(&bytes)).as_deref(), Some(hash));
    }
}
