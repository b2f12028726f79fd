//! Verification of tokens (JWT): signature, validity period, audience, issuer and claims.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::identity::{IdentityData, IdentityKind, Rights, is_valid_user};
use super::keys::Keys;
use crate::config;
use crate::pattern::Patterns;

/// Maximum length of a token, in bytes. It roughly matches the usual limit for HTTP headers.
pub const TOKEN_MAX: usize = 8 * 1024;

/// Why a token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is longer than [`TOKEN_MAX`] bytes.
    TooLong,
    /// It is not three base64url parts with JSON in the first two (RFC 7515 7.1), or a claim has the wrong
    /// type.
    Malformed,
    /// Its header requires an unknown extension (RFC 7515 4.1.11).
    Critical,
    /// There is no key with its ID (`kid`).
    UnknownKey,
    /// Its algorithm does not match its key; `none` never does.
    Algorithm,
    /// The signature is invalid.
    Signature,
    /// It has expired (RFC 7519 4.1.4).
    Expired,
    /// It has no expiry time, but one is required.
    NoExpiry,
    /// It is not valid yet (RFC 7519 4.1.5).
    NotYet,
    /// Its audience is another service (RFC 7519 4.1.3).
    Audience,
    /// Its issuer is not accepted (RFC 7519 4.1.1).
    Issuer,
    /// `sub` is not a valid user name: it is empty, longer than 255 bytes, or has control characters.
    User,
    /// The claim `longwire` contains an invalid pattern.
    Rights,
}

impl TokenError {
    /// Returns the reason in ASCII without quotes, as RFC 6750 3 requires.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TooLong => "the token is longer than 8 KiB",
            Self::Malformed => "malformed token (RFC 7519 7.2)",
            Self::Critical => "the token requires an unsupported extension (RFC 7515 4.1.11)",
            Self::UnknownKey => "unknown token key (kid)",
            Self::Algorithm => "the algorithm of the token does not match its key",
            Self::Signature => "the signature of the token is invalid",
            Self::Expired => "the token has expired (exp)",
            Self::NoExpiry => "the token has no expiry time (exp)",
            Self::NotYet => "the token is not valid yet (nbf)",
            Self::Audience => "the token is for another audience (aud)",
            Self::Issuer => "the token has an unaccepted issuer (iss)",
            Self::User => {
                "the user name in the token (sub) must have 1 to 255 bytes and no control characters"
            }
            Self::Rights => "the token has an invalid pattern (longwire)",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for TokenError {}

/// A parsed token whose signature has not been verified.
pub(super) struct Unverified<'a> {
    header: Header,
    claims: &'a str,
    message: &'a str,
    signature: &'a str,
}

/// RFC 7515 4.1; other parameters are ignored.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> Unverified<'a> {
    /// RFC 7515 7.1.
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = decode(header)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        Ok(Self { header, claims, message, signature })
    }

    /// Returns the key ID.
    pub(super) fn key(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    parse_object(&json).map_err(|_| TokenError::Malformed)
}

/// Parses a JSON object. serde would also accept an array with the fields in order.
pub(super) fn parse_object<T: for<'de> Deserialize<'de>>(json: &[u8]) -> serde_json::Result<T> {
    match json.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(json),
        _ => Err(serde::de::Error::custom("expected a JSON object")),
    }
}

/// RFC 7519 4.1, and the claim `longwire`.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    #[serde(default, deserialize_with = "deserialize_date")]
    exp: Option<SystemTime>,
    #[serde(default, deserialize_with = "deserialize_date")]
    nbf: Option<SystemTime>,
    iss: Option<String>,
    aud: Option<Audience>,
    longwire: Option<Value>,
}

/// One audience, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Rights that are missing are not granted.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Grants {
    subscribe: Patterns,
    publish: Patterns,
    operator: bool,
}

/// Parses seconds since 1970, possibly with a fraction (RFC 7519 2).
pub(super) fn deserialize_date<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SystemTime>, D::Error> {
    let Some(seconds) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let since = Duration::try_from_secs_f64(seconds).ok().filter(|&since| since <= MAX_DATE);
    let time = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    time.map(Some).ok_or_else(|| serde::de::Error::custom("invalid date"))
}

/// The end of the year 9999. Later times cannot be represented on every platform.
const MAX_DATE: Duration = Duration::from_secs(253_402_300_799);

/// The checks of a token besides its signature.
pub(super) struct Checks {
    audience: Vec<String>,
    issuer: Vec<String>,
    require_exp: bool,
    leeway: Duration,
}

impl Checks {
    pub(super) fn new(config: &config::Token) -> Self {
        Self {
            audience: config.audience.clone(),
            issuer: config.issuer.clone(),
            require_exp: config.require_exp,
            leeway: config.leeway.duration(),
        }
    }

    /// Verifies a token and returns its identity. No claim is read before the signature is verified.
    pub(super) fn verify(
        &self,
        token: &Unverified<'_>,
        keys: &Keys,
        now: SystemTime,
    ) -> Result<IdentityData, TokenError> {
        keys.verify(token.key(), &token.header.alg, token.message.as_bytes(), token.signature)?;
        let claims: Claims = decode(token.claims)?;
        let expires = match claims.exp {
            Some(exp) => Some(exp + self.leeway),
            None if self.require_exp => return Err(TokenError::NoExpiry),
            None => None,
        };
        if expires.is_some_and(|expires| now >= expires) {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now + self.leeway < nbf) {
            return Err(TokenError::NotYet);
        }
        if !self.issuer.is_empty() && !claims.iss.is_some_and(|iss| self.issuer.contains(&iss)) {
            return Err(TokenError::Issuer);
        }
        // The audience is only checked if one is configured.
        let is_accepted = |aud: &String| self.audience.contains(aud);
        let accepted = match &claims.aud {
            _ if self.audience.is_empty() => true,
            Some(Audience::One(aud)) => is_accepted(aud),
            Some(Audience::Several(list)) => list.iter().any(is_accepted),
            None => false,
        };
        if !accepted {
            return Err(TokenError::Audience);
        }
        if claims.sub.as_deref().is_some_and(|sub| !is_valid_user(sub)) {
            return Err(TokenError::User);
        }
        let grants = match claims.longwire {
            Some(grants @ Value::Object(_)) => {
                serde_json::from_value(grants).map_err(|_| TokenError::Rights)?
            }
            Some(_) => return Err(TokenError::Rights),
            None => Grants::default(),
        };
        let rights = Rights { subscribe: grants.subscribe, publish: grants.publish };
        let user = claims.sub.map(Into::into);
        Ok(IdentityData {
            user,
            expires,
            operator: grants.operator,
            ..IdentityData::new(IdentityKind::Token, rights)
        })
    }
}
