//! Checks the Host of requests, as a protection against DNS rebinding.

use std::net::IpAddr;

use longwire::http::uri::Authority;

/// Returns whether a server that listens on `listening` may answer a request for this host (the Host header
/// or `:authority`).
///
/// An attacker's page can change the address of its own host name while the page is open. The browser then
/// treats this server as the same origin (DNS rebinding). Addresses and `localhost` names cannot be
/// redirected this way (RFC 6761 6.3). The rules are:
///
/// - On a loopback address, only `localhost`, `*.localhost`, 127.0.0.0/8, `[::1]` and the names in `allowed`
///   (without a port) are accepted.
/// - On any other address, every host is accepted if `allowed` is empty. Otherwise only addresses,
///   `localhost` names and the names in `allowed` are accepted.
/// - `any` in `allowed` accepts every host.
///
/// Other hosts get 403.
pub fn host_allowed(host: Option<&[u8]>, listening: IpAddr, allowed: &[String]) -> bool {
    let loopback = listening.to_canonical().is_loopback();
    if (!loopback && allowed.is_empty()) || allowed.iter().any(|name| name.eq_ignore_ascii_case("any")) {
        return true;
    }
    let Some(authority) = host.and_then(|host| Authority::try_from(host).ok()) else { return false };
    // RFC 9110 4.2.4: user information is not allowed here.
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    // RFC 3986 3.2.3: a port consists of digits.
    let port = authority.as_str().strip_prefix(host).and_then(|rest| rest.strip_prefix(':')).unwrap_or("");
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        // RFC 3986 3.2.2: an IPv6 address, and only an IPv6 address, is enclosed in brackets.
        return address.is_ipv6() == host.starts_with('[')
            && (!loopback || address.to_canonical().is_loopback());
    }
    // A trailing dot denotes the DNS root and does not change the name.
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is = |allowed: &String| allowed.eq_ignore_ascii_case(&name);
    name == "localhost" || name.ends_with(".localhost") || allowed.iter().any(is)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every host that is accepted on a loopback address is a loopback address or a localhost name.
        #[test]
        fn other_hosts_are_rejected_on_loopback(host in "(localhost|127\\.[0-9.]{1,8}|[a-z.]{0,6}|\\[[0-9a-f:.]{0,12}\\]|[@:. /]|\\PC){0,4}") {
            if host_allowed(Some(host.as_bytes()), [127, 0, 0, 1].into(), &[]) {
                let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
                let name = name.map_or(&*host, |(name, _)| name).trim_end_matches('.').to_ascii_lowercase();
                let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
                let loopback = address.is_ok_and(|address| address.to_canonical().is_loopback());
                prop_assert!(loopback || name == "localhost" || name.ends_with(".localhost"), "{}", host);
            }
        }
    }

    #[test]
    fn names_that_cannot_be_rebound_to_this_machine() {
        let allowed = ["Example.org".to_owned()];
        let ask_of = |host: &str, listening: &str, allowed: &[String]| {
            host_allowed(Some(host.as_bytes()), listening.parse().expect("an address"), allowed)
        };
        let ask_webhook = |host: &str, listening: &str| ask_of(host, listening, &allowed);
        for own in [
            "localhost",
            "localhost:8080",
            "LocalHost",
            "localhost.",
            "app.localhost:1",
            "a.b.localhost",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.8.9.10",
            "[::1]",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "example.org",
            "EXAMPLE.ORG:80",
        ] {
            assert!(ask_webhook(own, "127.0.0.1") && ask_webhook(own, "::1"), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "notlocalhost",
            ".localhost.evil.example",
            "localhost..",
            "127.0.0.1.evil.example",
            "[127.0.0.1]",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "0.0.0.0",
            "192.168.1.2",
            "[::]",
            "[::2]",
            "[::1",
            "::1",
            "localhost@evil.example",
            "evil.example@localhost",
            "localhost evil",
            "localhost/",
            "ｌocalhost",
            "www.example.org",
            "example.org.evil.example",
        ] {
            assert!(!ask_webhook(foreign, "127.0.0.1") && !ask_webhook(foreign, "::1"), "{foreign}");
            assert!(ask_of(foreign, "0.0.0.0", &[]) && ask_of(foreign, "192.168.1.2", &[]), "{foreign}");
        }
        // On other addresses, names are checked once some are listed, and addresses are accepted.
        for (host, taken) in [
            ("192.168.1.2:80", true),
            ("[2001:db8::1]", true),
            ("example.org", true),
            ("evil.example", false),
        ] {
            assert_eq!(ask_webhook(host, "0.0.0.0"), taken, "{host}");
        }
        let loopback = [127, 0, 0, 1].into();
        assert!(!host_allowed(None, loopback, &[]));
        assert!(!host_allowed(Some(b"\xff"), loopback, &[]));
        assert!(host_allowed(Some(b"evil.example"), loopback, &["any".into()]));
    }
}
