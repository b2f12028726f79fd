//! The client's address, scheme and host behind proxies: what trusted proxies report, and which proxies are trusted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use longwire_proto::handshake::{Refusal, grammar};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The proxies whose headers are trusted, by their addresses.
///
/// Any client can write the headers that a proxy writes. So they count only if the peer is a trusted proxy, and the
/// client's address is the rightmost one that is not a trusted proxy itself: everything to the left of it comes from
/// the client.
///
/// By default `X-Forwarded-For`, `-Proto` and `-Host` are read, and `Forwarded` (RFC 7239) is ignored; with
/// [`rfc7239`](Self::rfc7239) it is the other way round. They are never read together, because a proxy that writes
/// one of them forwards the other as the client wrote it.
///
/// ```
/// use longwire::TrustedProxies;
/// use longwire::http::HeaderMap;
///
/// let proxies = TrustedProxies::new(["10.0.0.0/8", "::1"])?;
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.1.2.3".parse()?);
/// let forwarded = proxies.read("10.0.0.1:4711".parse()?, &headers)?;
/// assert_eq!(forwarded.client.ip().to_string(), "203.0.113.7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    rfc7239: bool,
}

/// What trusted proxies report about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forwarded {
    /// The client's address: the peer's if no trusted proxy reports another one. The port is 0 if none was reported.
    pub client: SocketAddr,
    /// Whether the client uses TLS, if it was reported.
    pub secure: Option<bool>,
    /// The host that the client asked for, as in a Host header, if it was reported.
    pub host: Option<String>,
}

impl TrustedProxies {
    /// Trusts these addresses and networks, such as `127.0.0.1`, `10.0.0.0/8` or `fd00::/8`.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork`] for a text that is neither.
    pub fn new<I>(networks: I) -> Result<Self, InvalidNetwork>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let networks = networks.into_iter().map(|text| text.as_ref().parse());
        Ok(Self { networks: networks.collect::<Result<_, _>>()?, rfc7239: false })
    }

    /// Sets whether the proxies write `Forwarded` (RFC 7239) instead of `X-Forwarded-For`, `-Proto` and `-Host`.
    /// Default: no.
    #[must_use]
    pub const fn rfc7239(mut self, written: bool) -> Self {
        self.rfc7239 = written;
        self
    }

    /// Whether this address is that of a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Reads what trusted proxies report about a request that came from `peer`.
    ///
    /// # Errors
    ///
    /// 400 if the `Forwarded` header is malformed: it is unknown which part of it the client wrote.
    pub fn read(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Forwarded, Refusal> {
        let mut forwarded = Forwarded { client: peer, secure: None, host: None };
        if !self.trusts(peer.ip()) {
            return Ok(forwarded);
        }
        if self.rfc7239 {
            self.read_forwarded(headers, &mut forwarded)?;
        } else {
            let nodes = elements(headers, &X_FORWARDED_FOR).rev().map(node);
            self.walk(nodes, &mut forwarded.client);
            // The trusted peer wrote the last element.
            let last = |name| elements(headers, name).next_back().filter(|text| !text.is_empty());
            forwarded.secure = last(&X_FORWARDED_PROTO).and_then(is_secure);
            forwarded.host = last(&X_FORWARDED_HOST).map(str::to_owned);
        }
        Ok(forwarded)
    }

    /// Goes from proxy to proxy until an address is not trusted or not known. Returns the number of addresses that
    /// were looked at.
    fn walk(&self, nodes: impl Iterator<Item = Option<SocketAddr>>, client: &mut SocketAddr) -> usize {
        let mut steps = 0;
        for node in nodes {
            steps += 1;
            let Some(node) = node else { break };
            *client = node;
            if !self.trusts(node.ip()) {
                break;
            }
        }
        steps
    }

    fn read_forwarded(&self, headers: &HeaderMap, forwarded: &mut Forwarded) -> Result<(), Refusal> {
        let malformed =
            || Refusal::new(StatusCode::BAD_REQUEST, "The Forwarded header is malformed (RFC 7239 4).");
        let mut elements = Vec::new();
        for value in headers.get_all(header::FORWARDED) {
            let text = value.to_str().map_err(|_| malformed())?;
            parse(text, &mut elements).ok_or_else(malformed)?;
        }
        let nodes = elements.iter().rev().map(|element| node(element.node.as_deref()?));
        let steps = self.walk(nodes, &mut forwarded.client);
        // The proxy that the client connected to wrote the last element that was looked at.
        if let Some(element) = elements.iter_mut().rev().take(steps).last() {
            forwarded.secure = element.proto.as_deref().and_then(is_secure);
            forwarded.host = element.host.take();
        }
        Ok(())
    }

    /// Like [`read`](Self::read), and changes the request to what the client sent: its Host becomes the host that the
    /// client asked for, to which the Origin is compared, and [`Forwarded`] is added to its extensions. Returns the
    /// client's address.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and 400 if the reported host is invalid.
    pub fn apply<B>(&self, peer: SocketAddr, request: &mut Request<B>) -> Result<SocketAddr, Refusal> {
        let forwarded = self.read(peer, request.headers())?;
        if let Some(host) = &forwarded.host {
            let invalid = || {
                let text = "The host that the proxy forwarded is not a valid host (RFC 7239 5.3).";
                Refusal::new(StatusCode::BAD_REQUEST, text)
            };
            // RFC 9112 3.2.2, RFC 9113 8.3.1: the authority of the target takes precedence over Host.
            if request.uri().authority().is_some() {
                let mut parts = request.uri().clone().into_parts();
                parts.authority = Some(host.parse().map_err(|_| invalid())?);
                *request.uri_mut() = Uri::from_parts(parts).map_err(|_| invalid())?;
            }
            let host = HeaderValue::from_str(host).map_err(|_| invalid())?;
            request.headers_mut().insert(header::HOST, host);
        }
        let client = forwarded.client;
        request.extensions_mut().insert(forwarded);
        Ok(client)
    }
}

/// The elements of a list header as text.
fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
    // An element that is not ASCII is not an address: it stands for one that is unknown, and for an invalid host.
    let text = |element| std::str::from_utf8(element).ok().filter(|text| text.is_ascii()).unwrap_or("?");
    grammar::elements(headers, name).map(text)
}

fn is_secure(proto: &str) -> Option<bool> {
    let is = |names: [&str; 2]| names.iter().any(|name| proto.eq_ignore_ascii_case(name));
    if is(["https", "wss"]) { Some(true) } else { is(["http", "ws"]).then_some(false) }
}

/// Parses an address with or without a port (RFC 7239 6). `unknown` and obfuscated names are not addresses.
fn node(text: &str) -> Option<SocketAddr> {
    let at = |address: IpAddr, port: u16| SocketAddr::new(address.to_canonical(), port);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address = address.parse::<Ipv6Addr>().ok()?;
        return match port.strip_prefix(':') {
            Some(port) => Some(at(address.into(), node_port(port)?)),
            None => port.is_empty().then(|| at(address.into(), 0)),
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(at(address, 0));
    }
    let (address, port) = text.split_once(':')?;
    Some(at(address.parse::<Ipv4Addr>().ok()?.into(), node_port(port)?))
}

/// Parses a port. An obfuscated port (RFC 7239 6.3) is 0.
fn node_port(text: &str) -> Option<u16> {
    match text.strip_prefix('_') {
        Some(hidden) if !hidden.is_empty() => {
            hidden.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)).then_some(0)
        }
        _ => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?,
    }
}

/// One element of a Forwarded header: what one proxy reports.
#[derive(Default)]
struct Element {
    /// Whether it has any parameter, known or not. Elements without one do not count as a proxy.
    has_parameters: bool,
    node: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// Parses a value of Forwarded (RFC 7239 4): parameters separated by semicolons, elements by commas.
fn parse(mut rest: &str, elements: &mut Vec<Element>) -> Option<()> {
    let mut element = Element::default();
    loop {
        rest = grammar::skip_space(rest);
        // Elements may be empty (RFC 9110 5.6.1.2), and so may the parameters of an element.
        if !rest.starts_with([',', ';']) && !rest.is_empty() {
            let (name, after) = grammar::token(rest)?;
            let (value, after) = value(after.strip_prefix('=')?)?;
            rest = grammar::skip_space(after);
            let place = match () {
                () if name.eq_ignore_ascii_case("for") => &mut element.node,
                () if name.eq_ignore_ascii_case("proto") => &mut element.proto,
                () if name.eq_ignore_ascii_case("host") => &mut element.host,
                () => &mut None,
            };
            // RFC 7239 4: each parameter once.
            if place.replace(value).is_some() {
                return None;
            }
            element.has_parameters = true;
        }
        let mut chars = rest.chars();
        match chars.next() {
            Some(';') => {}
            Some(',') => put(std::mem::take(&mut element), elements),
            None => {
                put(element, elements);
                return Some(());
            }
            Some(_) => return None,
        }
        rest = chars.as_str();
    }
}

fn put(element: Element, elements: &mut Vec<Element>) {
    if element.has_parameters {
        elements.push(element);
    }
}

/// Splits a value, which is a token or a quoted string, from the rest.
fn value(text: &str) -> Option<(String, &str)> {
    match text.strip_prefix('"') {
        Some(quoted) => grammar::quoted_string(quoted),
        None => grammar::token(text).map(|(token, rest)| (token.to_owned(), rest)),
    }
}

/// A network: addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = u32::from(network) ^ u32::from(address);
                differ.leading_zeros() >= self.bits
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = u128::from(network) ^ u128::from(address);
                differ.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

/// Parses a comma-separated list of addresses and networks, such as `127.0.0.1, 10.0.0.0/8`.
impl FromStr for TrustedProxies {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        Self::new(text.split(',').map(str::trim))
    }
}

impl TryFrom<&str> for TrustedProxies {
    type Error = InvalidNetwork;

    fn try_from(text: &str) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.to_owned());
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = address.parse::<IpAddr>().map_err(|_| invalid())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => all,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= all).ok_or_else(invalid)?
            }
            Some(_) => return Err(invalid()),
        };
        Ok(Self { address, bits })
    }
}

/// A text given to [`TrustedProxies::new`] that is not an address or a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNetwork(String);

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an address or network; expected something like 127.0.0.1, 10.0.0.0/8 or fd00::/8",
            self.0
        )
    }
}

impl std::error::Error for InvalidNetwork {}
