//! Which web pages may connect: the values of `--allow-origin`, and the default.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use longwire::http::{HeaderMap, Request, StatusCode, header};
use longwire::{Forwarded, Origins, Refusal};
use longwire_server::access::host_allowed;

/// A value of `--allow-origin`.
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
                "{error}; write scheme, host and port only, such as https://example.org or http://localhost:3000, or `any`"
            )),
        }
    }
}

/// Validates a value of `--allow-origin` and returns it unchanged.
pub(super) fn validate(text: &str) -> Result<String, String> {
    text.parse::<AllowedOrigin>()?;
    Ok(text.to_owned())
}

/// Returns the origins that may connect to a server that listens on `address`, with or without TLS: the
/// allowed ones and the server's own.
pub(super) fn origins(allowed: &[String], address: SocketAddr, secure: bool) -> Origins {
    // Each value was validated when the settings were read.
    let allowed: Vec<AllowedOrigin> = allowed.iter().filter_map(|origin| origin.parse().ok()).collect();
    if allowed.contains(&AllowedOrigin::Any) {
        return Origins::Any;
    }
    if allowed.is_empty() {
        return Origins::Same;
    }
    let listed = allowed.into_iter().filter_map(|origin| match origin {
        AllowedOrigin::One(origin) => Some(origin),
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
    // If a value is invalid after all, the strict policy applies.
    origins.unwrap_or(Origins::Same)
}

/// Returns a check that rejects requests to a loopback address for a foreign host name, as a protection
/// against DNS rebinding.
pub(super) fn check_host(
    receiving: IpAddr,
    allowed: Vec<String>,
) -> impl Fn(&Request<()>, &mut HeaderMap) -> Result<(), Refusal> + Send + Sync {
    move |request, _| {
        // A host from a trusted proxy is safe: a page could not have set that header.
        let forwarded = request.extensions().get::<Forwarded>();
        let host = request.headers().get(header::HOST).map(|host| host.as_bytes());
        let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str().as_bytes()));
        if forwarded.is_some_and(|forwarded| forwarded.host.is_some())
            || host_allowed(host, receiving, &allowed)
        {
            return Ok(());
        }
        let text = "The requested host is not a name of this machine. To accept it, use --allow-host; behind a reverse \
                    proxy, use --trust-proxy.\n";
        Err(Refusal::new(StatusCode::FORBIDDEN, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_origins() {
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
}
