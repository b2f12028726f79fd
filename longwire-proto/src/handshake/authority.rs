//! `host[:port]`, as in the Host header, an absolute request target and an origin (RFC 3986 3.2).

// Addresses as values; the sockets of `std::net` have no place in this crate.
use core::net::Ipv6Addr;
use std::fmt;

/// A host and the port that was written beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    pub(super) host: Host<'a>,
    pub(super) port: Option<u16>,
}

/// RFC 3986 3.2.2. Names and IPv4 addresses are equal without regard to case; IPv6 addresses however
/// they are written.
#[derive(Clone, Copy, Debug, Eq)]
pub(super) enum Host<'a> {
    Name(&'a str),
    V6(Ipv6Addr),
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V6(a), Self::V6(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&name.to_ascii_lowercase()),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl<'a> Authority<'a> {
    /// Parses a host that is not empty, with an optional port. No user information (RFC 9110 4.2.4).
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = if let Some(literal) = text.strip_prefix('[') {
            let (address, rest) = literal.split_once(']')?;
            (
                Host::V6(address.parse().ok()?),
                if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) },
            )
        } else {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            (is_reg_name(name).then_some(Host::Name(name))?, port)
        };
        match port {
            // RFC 3986 3.2.3: a colon without digits means the default port.
            None | Some("") => Some(Self { host, port: None }),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Self { host, port: Some(digits.parse().ok()?) })
            }
            Some(_) => None,
        }
    }
}

/// RFC 3986 3.2.2, without the empty name.
fn is_reg_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => {
                let mut hex = || bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                hex() && hex()
            }
            b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !good {
            return false;
        }
    }
    !name.is_empty()
}
