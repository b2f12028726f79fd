//! Where a request shows who it is of.

use hyper::header::{self, HeaderMap};
use longwire::http::Request;

use super::api_key;

/// What a request shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    Key(&'a str),
    Token(&'a str),
}

/// Where tokens may stand besides the Authorization header and the subprotocols.
#[derive(Default)]
pub(super) struct Places {
    pub(super) cookie: Option<String>,
    pub(super) query: bool,
}

/// What begins a subprotocol that is a token: browsers can set no header, but this one. It is never selected.
const SUBPROTOCOL: &str = "bearer.";

impl Places {
    /// What the request shows: what was put there on purpose first, and a cookie, which comes by itself, last.
    pub(super) fn find<'a>(&self, request: &'a Request<()>) -> Option<Credential<'a>> {
        let headers = request.headers();
        if let Some(key) = headers.get("x-api-key").and_then(|key| key.to_str().ok()) {
            return Some(Credential::Key(key.trim()));
        }
        if let Some(shown) = bearer(headers) {
            let is_key = shown.starts_with(api_key::PREFIX);
            return Some(if is_key { Credential::Key(shown) } else { Credential::Token(shown) });
        }
        let token = subprotocol(headers)
            .or_else(|| self.query.then(|| request.uri().query()).flatten().and_then(query))
            .or_else(|| self.cookie.as_deref().and_then(|name| cookie(headers, name)));
        token.map(Credential::Token)
    }
}

/// RFC 6750 2.1. Other schemes are for others, such as a webhook. Where there are several headers, the first counts.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn subprotocol(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).find_map(|name| name.trim().strip_prefix(SUBPROTOCOL))
}

/// A token needs no escapes, so one that has some is none.
fn query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
}

/// RFC 6265 5.4.
fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let lists = headers.get_all(header::COOKIE).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted)
            .then(|| value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_token_may_stand() {
        let places = Places { cookie: Some("session".into()), query: true };
        let none = Places::default();
        for (uri, headers, shown, without) in [
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
            ("/a", &[("authorization", "Bearer")], None, None),
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
            assert_eq!(places.find(&request), shown, "{uri} {headers:?}");
            assert_eq!(none.find(&request), without, "{uri} {headers:?}");
        }
    }
}
