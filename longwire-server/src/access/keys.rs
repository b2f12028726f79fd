//! The keys that verify tokens, each with the one algorithm it is for.
//!
//! The token never chooses the algorithm. Using a public key as an HMAC secret, or accepting the algorithm
//! `none`, are the oldest attacks on tokens (RFC 8725 2.1).

use std::ops::RangeInclusive;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde_json::Value;

use super::token::TokenError;

/// Maximum number of keys in a set. Every key without an ID may have to be tried.
pub(super) const KEYS_MAX: usize = 64;

/// Maximum number of signature checks for one token. A token may name no key, or several keys may have its
/// ID.
const TRIES_MAX: usize = 8;

/// RFC 7518 3.3: RSA keys have at least 2048 bits. Keys of more than 4096 bits are too slow.
const RSA_BYTES: RangeInclusive<usize> = 256..=512;

/// A set of keys.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Keys {
    /// Returns the key of a shared secret, for HS256 by default.
    pub(super) fn secret(secret: &[u8], algorithm: Option<Algorithm>) -> Self {
        let algorithm = algorithm.unwrap_or(Algorithm::HS256);
        Self(vec![Key { id: None, algorithm, key: DecodingKey::from_secret(secret) }])
    }

    /// Reads a key file: PEM, JWK or JWKS.
    pub(super) fn file(text: &str, default: Option<Algorithm>) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return Self::jwks(text.as_bytes(), default, true);
        }
        if text.contains("PRIVATE KEY") {
            return Err("this is a private key; use the public key, which suffices to verify tokens".into());
        }
        let readers = [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
        let key = readers.iter().find_map(|read| read(text.as_bytes()).ok());
        let key = key.ok_or("unsupported key file; use PEM (RSA, P-256, P-384 or Ed25519), JWK or JWKS")?;
        Ok(Self(vec![Key::new(key, None, default).map_err(str::to_owned)?]))
    }

    /// Reads one or several keys from JSON (RFC 7517). Unusable keys are skipped, because others may be
    /// usable. Symmetric keys are skipped unless `secret` is set.
    pub(super) fn jwks(json: &[u8], default: Option<Algorithm>, secret: bool) -> Result<Self, String> {
        let mut value: Value =
            serde_json::from_slice(json).map_err(|error| format!("invalid JSON: {error}"))?;
        let list = match value.get_mut("keys").map(Value::take) {
            Some(Value::Array(list)) => list,
            Some(_) => return Err("`keys` must be a list (RFC 7517 5)".into()),
            None => vec![value],
        };
        if list.len() > KEYS_MAX {
            return Err(format!("too many keys; the maximum is {KEYS_MAX}"));
        }
        let mut keys = Vec::new();
        let mut reason = "the set is empty";
        for value in list {
            // RFC 7517 5: ignore keys that are not understood.
            match serde_json::from_value::<Jwk>(value)
                .map_err(|_| "unsupported key type")
                .and_then(|jwk| Key::jwk(&jwk, default, secret))
            {
                Ok(key) => keys.push(key),
                Err(problem) => reason = problem,
            }
        }
        if keys.is_empty() { Err(format!("no usable key: {reason}")) } else { Ok(Self(keys)) }
    }

    /// Returns whether there is a key that may verify a token with this key ID.
    pub(super) fn can_verify(&self, id: Option<&str>) -> bool {
        id.is_none() || self.candidates(id).next().is_some()
    }

    /// Returns the keys with this ID and those without an ID. A token without a key ID may belong to any key.
    fn candidates<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
        self.0.iter().filter(move |key| key.id.is_none() || id.is_none() || key.id.as_deref() == id)
    }

    /// Verifies a signature with the matching keys, each by its own algorithm.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: &str,
        message: &[u8],
        signature: &str,
    ) -> Result<(), TokenError> {
        // RFC 8725 3.1. The variant names are the algorithm names of RFC 7518 3.1.
        let fits = |key: &&Key| format!("{:?}", key.algorithm) == algorithm;
        let mut error = if self.can_verify(id) { TokenError::Algorithm } else { TokenError::UnknownKey };
        for key in self.candidates(id).filter(fits).take(TRIES_MAX) {
            if matches!(jsonwebtoken::crypto::verify(signature, message, &key.key, key.algorithm), Ok(true)) {
                return Ok(());
            }
            error = TokenError::Signature;
        }
        Err(error)
    }
}

impl Key {
    fn jwk(jwk: &Jwk, default: Option<Algorithm>, secret: bool) -> Result<Self, &'static str> {
        // RFC 7517 4.2 and 4.3.
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return Err("the key is not for signatures");
        }
        if jwk.common.key_operations.as_ref().is_some_and(|allowed| !allowed.contains(&KeyOperations::Verify))
        {
            return Err("the key may not verify signatures");
        }
        match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) if !secret => {
                return Err("a published key set must not contain secrets");
            }
            AlgorithmParameters::EllipticCurve(key)
                if !matches!(key.curve, EllipticCurve::P256 | EllipticCurve::P384) =>
            {
                return Err("unsupported curve");
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve != EllipticCurve::Ed25519 => {
                return Err("unsupported curve");
            }
            _ => {}
        }
        let stated = match &jwk.common.key_algorithm {
            Some(algorithm) => Some(stated(algorithm).ok_or("unsupported algorithm")?),
            None => None,
        };
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "the key is malformed")?;
        if let Some(stated) = stated
            && stated.family() != key.family()
        {
            return Err("the algorithm does not match the key type");
        }
        let mut key = Self::new(key, stated, default)?;
        key.id.clone_from(&jwk.common.key_id);
        Ok(key)
    }

    /// Creates a key with the stated algorithm, else the configured one, else the default for its type.
    fn new(
        key: DecodingKey,
        stated: Option<Algorithm>,
        default: Option<Algorithm>,
    ) -> Result<Self, &'static str> {
        let family = key.family();
        let inferred = match (family, key.kind()) {
            (AlgorithmFamily::Rsa, kind) if RSA_BYTES.contains(&modulus(kind)) => Algorithm::RS256,
            (AlgorithmFamily::Rsa, _) => {
                return Err("an RSA key must have 2048 to 4096 bits (RFC 7518 3.3)");
            }
            // SEC 1 2.3.3: a point is one byte and two coordinates.
            (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => match point.len() {
                65 => Algorithm::ES256,
                97 => Algorithm::ES384,
                _ => return Err("unsupported curve; use P-256 or P-384"),
            },
            (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(point)) if point.len() == 32 => {
                Algorithm::EdDSA
            }
            (AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
                crate::config::check_secret(secret)?;
                Algorithm::HS256
            }
            _ => return Err("the key is malformed"),
        };
        let algorithm =
            stated.or(default.filter(|algorithm| algorithm.family() == family)).unwrap_or(inferred);
        // RFC 7518 3.4: each curve has one algorithm.
        if family == AlgorithmFamily::Ec && algorithm != inferred {
            return Err("the algorithm does not match the curve");
        }
        Ok(Self { id: None, algorithm, key })
    }
}

/// Returns the size of an RSA modulus in bytes.
fn modulus(key: &DecodingKeyKind) -> usize {
    match key {
        DecodingKeyKind::RsaModulusExponent { n, .. } => n.iter().skip_while(|&&byte| byte == 0).count(),
        // RFC 8017 A.1.1: a sequence that begins with the modulus. The pattern requires two-byte DER lengths;
        // a key with shorter ones is too small anyway. A leading zero keeps the number positive.
        DecodingKeyKind::SecretOrDer(der) => match der[..] {
            [0x30, 0x82, _, _, 0x02, 0x82, high, low, first, ..] => {
                usize::from(u16::from_be_bytes([high, low])).saturating_sub(usize::from(first == 0))
            }
            _ => 0,
        },
    }
}

fn stated(algorithm: &KeyAlgorithm) -> Option<Algorithm> {
    Some(match algorithm {
        KeyAlgorithm::HS256 => Algorithm::HS256,
        KeyAlgorithm::HS384 => Algorithm::HS384,
        KeyAlgorithm::HS512 => Algorithm::HS512,
        KeyAlgorithm::ES256 => Algorithm::ES256,
        KeyAlgorithm::ES384 => Algorithm::ES384,
        KeyAlgorithm::RS256 => Algorithm::RS256,
        KeyAlgorithm::RS384 => Algorithm::RS384,
        KeyAlgorithm::RS512 => Algorithm::RS512,
        KeyAlgorithm::PS256 => Algorithm::PS256,
        KeyAlgorithm::PS384 => Algorithm::PS384,
        KeyAlgorithm::PS512 => Algorithm::PS512,
        KeyAlgorithm::EdDSA => Algorithm::EdDSA,
        _ => return None,
    })
}
