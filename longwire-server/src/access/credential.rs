//! Extracts the credentials from a request.

use hyper::header::{self, HeaderMap, HeaderName};
use longwire::http::Request;

use super::api_key;

/// A credential that a request presents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    Key(&'a str),
    Token(&'a str),
}

/// Where a token may appear in addition to the Authorization header and the subprotocols.
#[derive(Default)]
pub(super) struct CredentialSources {
    pub(super) cookie: Option<String>,
    pub(super) query: bool,
}

/// The prefix of a subprotocol that carries a token. It is the only header that browsers let a page set. This
/// subprotocol is never selected.
const SUBPROTOCOL: &[u8] = b"bearer.";

impl CredentialSources {
    /// Returns the credential of a request. Explicit credentials come first; the cookie comes last, because
    /// browsers send it automatically.
    pub(super) fn find<'a>(&self, request: &'a Request<()>) -> Option<Credential<'a>> {
        let headers = request.headers();
        if let Some(key) = headers.get("x-api-key") {
            return Some(Credential::Key(text(key.as_bytes())));
        }
        if let Some(presented) = bearer(headers) {
            let is_key = presented.starts_with(api_key::PREFIX);
            return Some(if is_key { Credential::Key(presented) } else { Credential::Token(presented) });
        }
        let token = subprotocol(headers)
            .or_else(|| self.query.then(|| request.uri().query()).flatten().and_then(query))
            .or_else(|| self.cookie.as_deref().and_then(|name| cookie(headers, name)));
        token.map(Credential::Token)
    }
}

/// Returns an empty text for bytes that are not UTF-8: the credential was presented, and it is invalid.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default().trim()
}

/// RFC 6750 2.1. Other schemes are ignored; a webhook may use them. If there are several headers, the first
/// one counts.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().trim_ascii().split_at_checked(6)?;
    (scheme.eq_ignore_ascii_case(b"bearer") && token.first().is_none_or(|&byte| byte == b' '))
        .then(|| text(token))
}

/// Returns the items of all lists in the headers of this name.
fn items(headers: &HeaderMap, name: HeaderName, separator: u8) -> impl Iterator<Item = &[u8]> {
    let lists = headers.get_all(name).into_iter();
    lists.flat_map(move |list| list.as_bytes().split(move |&byte| byte == separator)).map(<[u8]>::trim_ascii)
}

fn subprotocol(headers: &HeaderMap) -> Option<&str> {
    items(headers, header::SEC_WEBSOCKET_PROTOCOL, b',')
        .find_map(|name| name.strip_prefix(SUBPROTOCOL))
        .map(text)
}

/// A token contains no characters that need escaping, so the value is not percent-decoded.
fn query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
}

/// RFC 6265 5.4.
fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let value = items(headers, header::COOKIE, b';')
        .find_map(|pair| pair.strip_prefix(wanted.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))?;
    Some(text(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_header_bytes_cause_a_panic(
            name in prop::sample::select(vec!["authorization", "x-api-key", "cookie", "sec-websocket-protocol"]),
            begin in prop::sample::select(vec!["", "Bearer", "bearer ", "bearer.", "session=", "a=b; session=\""]),
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let credential_sources = CredentialSources { cookie: Some("session".into()), query: true };
            let value = [begin.as_bytes(), &bytes].concat();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let request = Request::builder().uri("/a").header(name, value).body(()).expect("a request");
                let presented = credential_sources.find(&request);
                // An invalid credential still counts as presented.
                prop_assert!(presented.is_some() || name != "x-api-key");
            }
        }
    }

    #[test]
    fn credentials_are_found_in_each_source() {
        let credential_sources = CredentialSources { cookie: Some("session".into()), query: true };
        let none = CredentialSources::default();
        for (uri, headers, presented, without) in [
            ("/a", &[][..], None, None),
            (
                "/a",
                &[("authorization", "Bearer a.b.c")],
                Some(Credential::Token("a.b.c")),
                Some(Credential::Token("a.b.c")),
            ),
            (
                "/a",
                &[("authorization", "bearer  a.b.c ")],
                Some(Credential::Token("a.b.c")),
                Some(Credential::Token("a.b.c")),
            ),
            (
                "/a",
                &[("authorization", "Bearer lwk_x")],
                Some(Credential::Key("lwk_x")),
                Some(Credential::Key("lwk_x")),
            ),
            ("/a", &[("x-api-key", "lwk_x")], Some(Credential::Key("lwk_x")), Some(Credential::Key("lwk_x"))),
            ("/a", &[("authorization", "Basic eDp5")], None, None),
            ("/a", &[("authorization", "Bearer")], Some(Credential::Token("")), Some(Credential::Token(""))),
            (
                "/a?token=t",
                &[("authorization", "Bearer b")],
                Some(Credential::Token("b")),
                Some(Credential::Token("b")),
            ),
            (
                "/a",
                &[("sec-websocket-protocol", "longwire.v1, bearer.a.b.c")],
                Some(Credential::Token("a.b.c")),
                Some(Credential::Token("a.b.c")),
            ),
            (
                "/a",
                &[("sec-websocket-protocol", "x"), ("sec-websocket-protocol", "bearer.t")],
                Some(Credential::Token("t")),
                Some(Credential::Token("t")),
            ),
            ("/a", &[("sec-websocket-protocol", "xbearer.t")], None, None),
            ("/a?token=t", &[], Some(Credential::Token("t")), None),
            ("/a?b=c&token=t&token=u", &[], Some(Credential::Token("t")), None),
            ("/a?xtoken=t", &[], None, None),
            ("/a?token=lwk_x", &[], Some(Credential::Token("lwk_x")), None),
            ("/a", &[("cookie", "a=b; session=t; session=u")], Some(Credential::Token("t")), None),
            ("/a", &[("cookie", "a=b"), ("cookie", "session=\"t\"")], Some(Credential::Token("t")), None),
            ("/a", &[("cookie", "xsession=t; Session=t; session")], None, None),
        ] {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(()).expect("a request");
            assert_eq!(credential_sources.find(&request), presented, "{uri} {headers:?}");
            assert_eq!(none.find(&request), without, "{uri} {headers:?}");
        }
    }
}
