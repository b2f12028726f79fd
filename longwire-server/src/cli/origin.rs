//! Which pages may connect: what `--allow-origin` takes, and what holds without it.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use longwire::http::uri::Authority;
use longwire::http::{HeaderMap, Request, StatusCode, header};
use longwire::{Acceptor, Forwarded, Origins, Refusal};

/// One `--allow-origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AllowedOrigin {
    Any,
    One(String),
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("any") {
            return Ok(Self::Any);
        }
        match Origins::list([text]) {
            Ok(_) => Ok(Self::One(text.to_owned())),
            Err(error) => Err(format!(
                "{error}; write scheme, host and port only, as in https://example.org or http://localhost:3000, or `any`"
            )),
        }
    }
}

/// Makes the policy for a server that listens on `address`, in TLS or not: the pages that are allowed, and its own.
pub(super) fn policy(
    acceptor: Acceptor,
    allowed: &[AllowedOrigin],
    address: SocketAddr,
    secure: bool,
) -> Acceptor {
    if allowed.contains(&AllowedOrigin::Any) {
        return acceptor.origins(Origins::Any);
    }
    if allowed.is_empty() {
        // The same origin, which is the default. Where only this machine can connect, its names are
        // known, and others are an attack; elsewhere the server cannot know its names.
        return if address.ip().is_loopback() { acceptor.on_request(known_by_own_name) } else { acceptor };
    }
    let listed = allowed.iter().filter_map(|origin| match origin {
        AllowedOrigin::One(origin) => Some(origin.clone()),
        AllowedOrigin::Any => None,
    });
    let origins = if address.ip().is_loopback() {
        let port = address.port();
        let own = [address.ip().to_string(), "127.0.0.1".into(), "localhost".into()];
        let scheme = if secure { "https" } else { "http" };
        let own = own.map(|host| match host.contains(':') {
            true => format!("{scheme}://[{host}]:{port}"),
            false => format!("{scheme}://{host}:{port}"),
        });
        Origins::list(own.into_iter().chain(listed))
    } else {
        Origins::same_or(listed)
    };
    match origins {
        Ok(origins) => acceptor.origins(origins),
        // Each was checked when the command line was read; the default is the stricter policy.
        Err(_) => acceptor,
    }
}

/// Refuses pages whose own name leads to the loopback address: to the browser they are of the same
/// origin as the server, for they are served under that name and had its address changed since (DNS
/// rebinding). Addresses and `localhost` cannot be changed so (RFC 6761 6.3).
fn known_by_own_name(request: &Request<()>, _: &mut HeaderMap) -> Result<(), Refusal> {
    let headers = request.headers();
    // A host that a trusted proxy has passed on is none that a page could have chosen: it cannot set such headers.
    let is_passed_on =
        request.extensions().get::<Forwarded>().is_some_and(|forwarded| forwarded.host.is_some());
    if !headers.contains_key(header::ORIGIN) || is_passed_on {
        return Ok(());
    }
    let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if host.is_some_and(|host| is_own_name(host.host())) {
        return Ok(());
    }
    let text = "This server is asked for by a name that is not this machine's own. If a proxy passes that name on, \
                allow the origin of its pages with --allow-origin.\n";
    Err(Refusal::new(StatusCode::FORBIDDEN, text))
}

fn is_own_name(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    host.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken() {
        for text in ["https://example.org", "http://localhost:3000", "http://[::1]:8080", "null"] {
            assert_eq!(text.parse(), Ok(AllowedOrigin::One(text.to_owned())));
        }
        assert_eq!("Any".parse(), Ok(AllowedOrigin::Any));
        for text in [
            "",
            "example.org",
            "https://",
            "https://example.org/path",
            "https://a@b",
            "https://e.org/?q",
            "*",
        ] {
            assert!(text.parse::<AllowedOrigin>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_nobody_can_turn_to_this_machine() {
        for own in
            ["localhost", "LOCALHOST", "app.localhost", "localhost.", "127.0.0.1", "192.168.1.2", "[::1]"]
        {
            assert!(is_own_name(own), "{own}");
        }
        for foreign in
            ["evil.example", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", ""]
        {
            assert!(!is_own_name(foreign), "{foreign}");
        }
    }
}
