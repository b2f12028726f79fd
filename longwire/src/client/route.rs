//! Which proxy a client uses for a server: none, its own, or that of the environment by curl's rules.

use std::net::IpAddr;
use std::sync::Arc;

use url::Host;

use crate::end::ConnectError;

use super::proxy::Proxy;
use super::target::Target;

/// How a client reaches servers.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Direct,
    /// Through this proxy.
    By(Arc<Proxy>),
    /// Through the proxy that the environment names, if it names one.
    Environment,
}

impl Route {
    pub(super) fn proxy(&self, target: &Target) -> Result<Option<Arc<Proxy>>, ConnectError> {
        match self {
            Self::Direct => Ok(None),
            Self::By(proxy) => Ok(Some(Arc::clone(proxy))),
            Self::Environment => Ok(proxy_for(target, &Environment)?.map(Arc::new)),
        }
    }
}

/// Reads a variable; `None` if it is absent.
trait Variables {
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of the process.
struct Environment;

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// The proxy for a target, if there is one.
///
/// # Errors
///
/// [`ConnectError::Invalid`] if the variable is not the URL of a proxy. Connecting directly instead would reveal what
/// the proxy is to hide.
fn proxy_for(target: &Target, variables: &impl Variables) -> Result<Option<Proxy>, ConnectError> {
    let get = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    if target.is_loopback() {
        return Ok(None);
    }
    if let Some(list) = get("no_proxy").or_else(|| get("NO_PROXY"))
        && is_excluded(&target.host, &list)
    {
        return Ok(None);
    }
    let names = if target.secure { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
    // A CGI program gets the header Proxy of its client as HTTP_PROXY.
    let is_cgi = variables.get("REQUEST_METHOD").is_some();
    let names = names.into_iter().filter(|name| !(is_cgi && *name == "HTTP_PROXY"));
    let found = names.chain(["all_proxy", "ALL_PROXY"]).find_map(|name| Some((name, get(name)?)));
    let Some((name, url)) = found else { return Ok(None) };
    match Proxy::parse(&url) {
        Ok(proxy) => Ok(Some(proxy)),
        Err(ConnectError::Invalid(reason)) => Err(ConnectError::Invalid(format!("{name}: {reason}"))),
        Err(error) => Err(error),
    }
}

/// Whether `no_proxy` lists a host.
fn is_excluded(host: &Host<String>, list: &str) -> bool {
    if list == "*" {
        return true;
    }
    let mut entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    match host {
        Host::Domain(name) => entries.any(|entry| is_within(name, entry)),
        Host::Ipv4(address) => entries.any(|entry| is_in_network((*address).into(), entry)),
        Host::Ipv6(address) => entries.any(|entry| is_in_network((*address).into(), entry)),
    }
}

/// Whether a name is that of the entry or of a subdomain.
fn is_within(name: &str, entry: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let entry = entry.strip_suffix('.').unwrap_or(entry);
    let entry = entry.strip_prefix('.').unwrap_or(entry);
    let Some(start) = name.len().checked_sub(entry.len()) else { return false };
    let is_end = name.as_bytes()[start..].eq_ignore_ascii_case(entry.as_bytes());
    !entry.is_empty() && is_end && (start == 0 || name.as_bytes()[start - 1] == b'.')
}

/// Whether an address is that of the entry, or in its network.
fn is_in_network(address: IpAddr, entry: &str) -> bool {
    let (network, bits) = match entry.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().ok()),
        None => (entry, Some(0)),
    };
    let network = network.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(network);
    let (Ok(network), Some(bits)) = (network.parse::<IpAddr>(), bits) else { return false };
    let (address, network, size) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    // As for curl, no bits are all bits.
    let bits = if bits == 0 { size } else { bits };
    bits <= size && (address ^ network).checked_shr(size - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given<'a>(&'a [(&'a str, &'a str)]);

    impl Variables for Given<'_> {
        fn get(&self, name: &str) -> Option<String> {
            self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned())
        }
    }

    fn proxy(url: &str, given: &[(&str, &str)]) -> Result<Option<String>, ConnectError> {
        let found = proxy_for(&Target::parse(url)?, &Given(given))?;
        Ok(found.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn the_order_of_the_variables() {
        let (lower, upper, all) = ("http://lower:1", "http://upper:1", "http://all:1");
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
        let rows: &[Row<'_>] = &[
            ("ws://a/", &[], None),
            ("ws://a/", &[("http_proxy", lower), ("HTTP_PROXY", upper), ("all_proxy", all)], Some(lower)),
            ("ws://a/", &[("HTTP_PROXY", upper), ("all_proxy", all)], Some(upper)),
            ("ws://a/", &[("HTTP_PROXY", upper), ("REQUEST_METHOD", "GET")], None),
            ("ws://a/", &[("http_proxy", ""), ("all_proxy", all)], Some(all)),
            ("ws://a/", &[("https_proxy", lower)], None),
            ("wss://a/", &[("https_proxy", lower), ("HTTPS_PROXY", upper)], Some(lower)),
            ("wss://a/", &[("HTTPS_PROXY", upper), ("REQUEST_METHOD", "GET")], Some(upper)),
            ("wss://a/", &[("all_proxy", lower), ("ALL_PROXY", upper)], Some(lower)),
            ("wss://a/", &[("ALL_PROXY", "socks5://u:p@upper")], Some("socks5h://upper:1080")),
            ("ws://localhost/", &[("http_proxy", lower)], None),
            ("ws://a/", &[("http_proxy", lower), ("no_proxy", "a"), ("NO_PROXY", "x")], None),
            ("ws://a/", &[("http_proxy", lower), ("no_proxy", ""), ("NO_PROXY", "a")], None),
        ];
        for (url, given, expected) in rows {
            assert_eq!(proxy(url, given).unwrap().as_deref(), *expected, "{url} {given:?}");
        }
    }

    #[test]
    fn an_invalid_url_is_an_error_that_names_the_variable() {
        for value in ["socks4://old:1080", "http://", "http://u:geheim@a b", "://"] {
            let error = proxy("ws://a/", &[("all_proxy", value)]).unwrap_err().to_string();
            assert!(error.starts_with("all_proxy: ") && !error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn no_proxy() {
        let rows = [
            ("example.test", "example.test", true),
            ("example.test", "EXAMPLE.Test", true),
            ("example.test", ".example.test", true),
            ("a.example.test", "example.test", true),
            ("nonexample.test", "example.test", false),
            ("test", "example.test", false),
            ("example.test", "*", true),
            ("example.test", "a.b,*", false),
            ("example.test.", "example.test", true),
            ("example.test", "example.test.", true),
            ("example.test", "a.b, example.test", true),
            ("example.test", ".", false),
            ("例子.测试", "xn--fsqu00a.xn--0zwm56d", true),
            ("192.0.2.9", "192.0.2.0/24", true),
            ("192.0.2.9", "192.0.2.9", true),
            ("192.0.3.9", "192.0.2.0/24", false),
            ("192.0.2.9", "192.0.2.0/33", false),
            ("192.0.2.9", "0.0.0.0/0", false),
            ("192.0.2.9", "2.9", false),
            ("[2001:db8::1]", "2001:db8::/32", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("[2001:db9::1]", "2001:db8::/32", false),
            ("[2001:db8::1]", "192.0.2.0/1", false),
        ];
        for (host, list, excluded) in rows {
            let host = Target::parse(&format!("ws://{host}/")).unwrap().host;
            assert_eq!(is_excluded(&host, list), excluded, "{host} {list}");
        }
    }
}
