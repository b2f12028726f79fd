//! Credentials as header values. Each is marked as sensitive, so that `Debug` does not show it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};

/// `Basic` (RFC 7617 2), with the user name and the password as UTF-8.
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue, String> {
    if user.contains(':') {
        return Err("the user name must not contain a colon (RFC 7617 2)".into());
    }
    if [user, password].iter().any(|text| text.chars().any(char::is_control)) {
        return Err("the user name and the password must not contain control characters (RFC 7617 2)".into());
    }
    value(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))), "the credentials are too long")
}

/// `Bearer` (RFC 6750 2.1). Accepts all visible ASCII characters, because tokens beyond its grammar are in use.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, String> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "the token must be visible ASCII characters without spaces, and not empty (RFC 6750 2.1)".into(),
        );
    }
    value(&format!("Bearer {token}"), "the token is too long")
}

/// Appends a cookie to those before, all in one header (RFC 6265 5.4).
pub(super) fn cookie(before: Option<&HeaderValue>, name: &str, text: &str) -> Result<HeaderValue, String> {
    // RFC 6265 4.1.1: the name is a token, like the name of a header. Values beyond its grammar are in use, but none
    // may begin another cookie.
    if HeaderName::try_from(name).is_err() {
        return Err(format!("{name:?} is not a valid cookie name (RFC 6265 4.1.1)"));
    }
    if text.chars().any(|c| c.is_control() || c == ';') {
        return Err(format!(
            "the cookie {name} must not contain control characters or semicolons (RFC 6265 4.1.1)"
        ));
    }
    let mut line = before.map(|before| [before.as_bytes(), b"; "].concat()).unwrap_or_default();
    line.extend_from_slice(format!("{name}={text}").as_bytes());
    let mut cookies =
        HeaderValue::from_bytes(&line).map_err(|_| "the cookies are not a valid header value")?;
    cookies.set_sensitive(true);
    Ok(cookies)
}

fn value(text: &str, otherwise: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| otherwise)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Headers for one server only: a redirect to another server drops them.
pub(super) const SECRET: [HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// Decodes RFC 3986 2.1. A percent sign without two hex digits stays, and invalid UTF-8 is replaced.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some((&first, rest)) = bytes.split_first() {
        bytes = rest;
        match *rest {
            [high, low, ..] if first == b'%' => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high * 16 + low);
                    bytes = &rest[2..];
                }
                _ => decoded.push(first),
            },
            _ => decoded.push(first),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_passes() {
        for bad in ["\r", "\n", "\0", "a\r\nX: y", "\u{7f}", "\u{85}"] {
            assert!(basic(bad, "").is_err() && basic("", bad).is_err(), "{bad:?}");
            assert!(bearer(bad).is_err(), "{bad:?}");
            assert!(cookie(None, bad, "").is_err() && cookie(None, "a", bad).is_err(), "{bad:?}");
        }
        assert!(basic("a:b", "").is_err() && bearer("").is_err() && bearer("a b").is_err());
        assert!(cookie(None, "a", "b; c=d").is_err() && cookie(None, "", "b").is_err());
    }

    #[test]
    fn values() {
        assert_eq!(basic("Aladdin", "open sesame").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(bearer("mF_9.B5f-4.1JqM").unwrap(), "Bearer mF_9.B5f-4.1JqM");
        let one = cookie(None, "a", "1").unwrap();
        assert_eq!(cookie(Some(&one), "b", "\"x=y\"").unwrap(), "a=1; b=\"x=y\"");
        assert!(cookie(None, "名", "x").is_err());
        assert_eq!(cookie(None, "n", "值").unwrap().as_bytes(), "n=值".as_bytes());
        for secret in [basic("u", "geheim"), bearer("geheim"), cookie(None, "a", "geheim")] {
            assert!(!format!("{secret:?}").contains("geheim"));
        }
    }

    #[test]
    fn percent() {
        for (text, decoded) in [
            ("", ""),
            ("a%20b", "a b"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%+1", "%+1"),
            ("%E4%BD%A0", "你"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(percent_decoded(text), decoded, "{text}");
        }
    }
}
