//! Who the client is when proxies stand before the server: what they say of it, and which of them are believed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use longwire_proto::handshake::Refusal;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_FORWARDED_HOST: &str = "x-forwarded-host";

/// The proxies that are believed, by their addresses.
///
/// Anybody can write what a proxy writes. So only what a trusted peer says counts, and of the addresses that it names
/// the client's is the last one, counted from the right, that is no trusted proxy itself: what stands before it
/// came from the client.
///
/// By default `X-Forwarded-For`, `-Proto` and `-Host` are read, and `Forwarded` (RFC 7239) is not; with
/// [`rfc7239`](Self::rfc7239) it is the other way round. Never both, for a proxy that writes one of them passes the
/// other on as the client wrote it.
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

/// What trusted proxies say of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forwarded {
    /// The client's address: the peer's where no trusted proxy says another one. Its port is 0 where none was said.
    pub client: SocketAddr,
    /// The client has used TLS, or has not, if that was said.
    pub secure: Option<bool>,
    /// The host that the client has asked for, as in a Host header, if it was said.
    pub host: Option<String>,
}

impl TrustedProxies {
    /// Addresses and networks, such as `127.0.0.1`, `10.0.0.0/8` or `fd00::/8`.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork`] for what is none.
    pub fn new<I>(networks: I) -> Result<Self, InvalidNetwork>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let networks = networks.into_iter().map(|text| text.as_ref().parse());
        Ok(Self { networks: networks.collect::<Result<_, _>>()?, rfc7239: false })
    }

    /// Whether they write `Forwarded` (RFC 7239) instead of `X-Forwarded-For` and its relatives; default no.
    #[must_use]
    pub const fn rfc7239(mut self, written: bool) -> Self {
        self.rfc7239 = written;
        self
    }

    /// Whether what comes from this address is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(address))
    }

    /// What is said of a request that came from `peer`.
    ///
    /// # Errors
    ///
    /// The answer to a request whose `Forwarded` is malformed: nobody knows which part of it was the client's.
    pub fn read(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Forwarded, Refusal> {
        let mut forwarded = Forwarded { client: peer, secure: None, host: None };
        if !self.trusts(peer.ip()) {
            return Ok(forwarded);
        }
        if self.rfc7239 {
            self.read_forwarded(headers, &mut forwarded)?;
        } else {
            let nodes = lists(headers, X_FORWARDED_FOR).rev().map(|text| node(text.trim()));
            self.walk(nodes, &mut forwarded.client);
            // The last one is that of the proxy that is believed.
            let last = |name| lists(headers, name).next_back().map(str::trim).filter(|text| !text.is_empty());
            forwarded.secure = last(X_FORWARDED_PROTO).and_then(is_secure);
            forwarded.host = last(X_FORWARDED_HOST).map(str::to_owned);
        }
        Ok(forwarded)
    }

    /// Goes from proxy to proxy until someone is not trusted, or not known: how many were looked at.
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
        // The last one that was looked at was written by the proxy that the client has connected to.
        if let Some(element) = elements.iter_mut().rev().take(steps).last() {
            forwarded.secure = element.proto.as_deref().and_then(is_secure);
            forwarded.host = element.host.take();
        }
        Ok(())
    }

    /// As [`read`](Self::read), and lets the request say what the client has said: its Host becomes the one that
    /// was asked for, by which pages of the same origin are told, and [`Forwarded`] is among its extensions.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and the answer to a host that is none.
    pub fn apply<B>(&self, peer: SocketAddr, request: &mut Request<B>) -> Result<SocketAddr, Refusal> {
        let forwarded = self.read(peer, request.headers())?;
        if let Some(host) = &forwarded.host {
            let none = || {
                let text = "The host that a proxy has passed on is none (RFC 7239 5.3).";
                Refusal::new(StatusCode::BAD_REQUEST, text)
            };
            // RFC 9112 3.2.2, RFC 9113 8.3.1: where the target has an authority, that is the host.
            if request.uri().authority().is_some() {
                let mut parts = request.uri().clone().into_parts();
                parts.authority = Some(host.parse().map_err(|_| none())?);
                *request.uri_mut() = Uri::from_parts(parts).map_err(|_| none())?;
            }
            let host = HeaderValue::from_str(host).map_err(|_| none())?;
            request.headers_mut().insert(header::HOST, host);
        }
        let client = forwarded.client;
        request.extensions_mut().insert(forwarded);
        Ok(client)
    }
}

/// The elements of a header that is a list, in order.
fn lists<'a>(headers: &'a HeaderMap, name: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    // What is not ASCII is no address, and stands for one that is not known.
    headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or("?").split(','))
}

fn is_secure(proto: &str) -> Option<bool> {
    let is = |names: [&str; 2]| names.iter().any(|name| proto.eq_ignore_ascii_case(name));
    if is(["https", "wss"]) { Some(true) } else { is(["http", "ws"]).then_some(false) }
}

/// An address with or without a port (RFC 7239 6). `unknown` and names that hide one are none.
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

/// A port, or `0` for one that is hidden (RFC 7239 6.3).
fn node_port(text: &str) -> Option<u16> {
    match text.strip_prefix('_') {
        Some(hidden) if !hidden.is_empty() => {
            hidden.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)).then_some(0)
        }
        _ => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?,
    }
}

/// One element of a Forwarded header: what one proxy says.
#[derive(Default)]
struct Element {
    /// It says anything, were it what nobody here reads: then what stands before it is another's word.
    says: bool,
    node: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// RFC 7239 4: pairs divided by semicolons, elements by commas; a value is a token or quoted.
fn parse(mut rest: &str, elements: &mut Vec<Element>) -> Option<()> {
    let mut element = Element::default();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        // A list may have elements that are empty (RFC 9110 5.6.1.2), and an element pairs that are.
        if !rest.starts_with([',', ';']) && !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return None;
            }
            let (value, after) = value(after)?;
            rest = after.trim_start_matches([' ', '\t']);
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
            element.says = true;
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
    if element.says {
        elements.push(element);
    }
}

/// A value, and what stands behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            char => value.push(char),
        }
    }
}

/// RFC 9110 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Addresses that begin with the same bits.
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

/// A text given to [`TrustedProxies::new`] that names no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNetwork(String);

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no address and no network, such as 127.0.0.1, 10.0.0.0/8 or fd00::/8", self.0)
    }
}

impl std::error::Error for InvalidNetwork {}
