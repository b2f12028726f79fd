//! Limits per address, per user and per connection.
//!
//! An address stands for the network that one customer usually gets: an IPv4 address, or an IPv6 /64. The
//! number of tracked addresses and users is bounded, and idle ones are removed.

mod bucket;
mod table;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longwire::Refusal;
use longwire::http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use table::{EntryPermit, Table};

pub use bucket::{Bucket, Rate};

/// Maximum number of tracked addresses, and of tracked users.
pub const TRACKED_MAX: usize = 100_000;

/// Limits for one address or one user. By default, nothing is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedRules {
    /// Maximum number of open connections; 0 means unlimited.
    pub connections: u32,
    /// Rate of new connections.
    #[serde(with = "crate::config::off")]
    pub connects: Option<Rate>,
    /// Rate of messages that they send.
    #[serde(with = "crate::config::off")]
    pub messages: Option<Rate>,
    /// Rate of payload bytes that they send.
    #[serde(with = "crate::config::off")]
    pub bytes: Option<Rate>,
}

/// Limits for what one connection sends. By default, nothing is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionRules {
    /// Messages.
    #[serde(with = "crate::config::off")]
    pub messages: Option<Rate>,
    /// Bytes of payload.
    #[serde(with = "crate::config::off")]
    pub bytes: Option<Rate>,
}

/// All limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitRules {
    /// For each connection.
    pub connection: ConnectionRules,
    /// For all connections from one address together.
    pub address: SharedRules,
    /// For all connections of one user together.
    pub user: SharedRules,
}

/// Enforces the limits of a server.
pub struct Limits {
    rules: LimitRules,
    addresses: Table<IpAddr>,
    users: Table<Arc<str>>,
}

impl Limits {
    /// Creates the limits with these rules.
    pub fn new(rules: LimitRules) -> Self {
        Self {
            rules,
            addresses: Table::new(rules.address, TRACKED_MAX),
            users: Table::new(rules.user, TRACKED_MAX),
        }
    }

    /// Counts a new connection or request from this address. Call it before any more expensive work.
    ///
    /// # Errors
    ///
    /// Fails if the address has too many connections, or connects too often.
    pub fn connect(&self, from: IpAddr, now: Instant) -> Result<Permit, LimitExceeded> {
        let address =
            self.addresses.acquire(network(from), now).map_err(|limited| limited.of(Scope::Address))?;
        let rules = self.rules.connection;
        let meter = || Box::new(Meter { rules, messages: Bucket::new(now), bytes: Bucket::new(now) });
        Ok(Permit { connection: (rules != ConnectionRules::default()).then(meter), address, user: None })
    }

    /// Counts a connection for its user, once the user is known.
    ///
    /// # Errors
    ///
    /// Fails if the user has too many connections, or connects too often.
    pub fn user(&self, permit: &mut Permit, user: &str, now: Instant) -> Result<(), LimitExceeded> {
        permit.user = self.users.acquire(user.into(), now).map_err(|limited| limited.of(Scope::User))?;
        Ok(())
    }

    /// Returns the numbers of tracked addresses and users.
    pub fn tracked(&self) -> (usize, usize) {
        (self.addresses.len(), self.users.len())
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("rules", &self.rules).field("known", &self.tracked()).finish()
    }
}

/// Returns the network that counts as one address: an IPv4 address, or an IPv6 /64. An IPv4-mapped IPv6
/// address counts as IPv4.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// The permit of one connection; dropping it releases it. It has 24 bytes, and more only if there are limits.
#[derive(Debug)]
pub struct Permit {
    connection: Option<Box<Meter>>,
    address: Option<EntryPermit>,
    user: Option<EntryPermit>,
}

/// What a connection has sent.
#[derive(Debug)]
struct Meter {
    rules: ConnectionRules,
    messages: Bucket,
    bytes: Bucket,
}

impl Permit {
    /// Counts a message with this many bytes of payload.
    ///
    /// # Errors
    ///
    /// Fails if it exceeds a limit of the connection, its address or its user. Amounts taken from narrower
    /// limits are not returned.
    pub fn message(&mut self, bytes: usize, now: Instant) -> Result<(), LimitExceeded> {
        let bytes = bytes as u64;
        let limited = |resource| move |wait| LimitExceeded { scope: Scope::Connection, resource, wait };
        if let Some(connection) = &mut self.connection {
            if let Some(rate) = &connection.rules.messages {
                connection.messages.take(rate, 1, now).map_err(limited(Resource::Messages))?;
            }
            if let Some(rate) = &connection.rules.bytes {
                connection.bytes.take(rate, bytes, now).map_err(limited(Resource::Bytes))?;
            }
        }
        if let Some(address) = &self.address {
            address.message(bytes, now).map_err(|limited| limited.of(Scope::Address))?;
        }
        if let Some(user) = &self.user {
            user.message(bytes, now).map_err(|limited| limited.of(Scope::User))?;
        }
        Ok(())
    }
}

/// A limit was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// The scope of the limit.
    pub scope: Scope,
    /// The limited resource.
    pub resource: Resource,
    /// The time until the next attempt. For open connections, it is an estimate.
    pub wait: Duration,
}

/// The scope of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One connection.
    Connection,
    /// All connections from one address.
    Address,
    /// All connections of one user.
    User,
}

/// A limited resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Open connections.
    Connections,
    /// New connections per time.
    Connects,
    /// Messages per time.
    Messages,
    /// Bytes of messages per time.
    Bytes,
    /// The number of tracked addresses or users ([`TRACKED_MAX`]).
    TooManyClients,
}

impl LimitExceeded {
    fn of(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match self.scope {
            Scope::Connection => "connection",
            Scope::Address => "address",
            Scope::User => "user",
        };
        match self.resource {
            Resource::Connections => write!(f, "too many open connections for this {scope}"),
            Resource::Connects => write!(f, "too many new connections for this {scope}"),
            Resource::Messages => write!(f, "too many messages for this {scope}"),
            Resource::Bytes => write!(f, "too many bytes for this {scope}"),
            Resource::TooManyClients => f.write_str("the server has too many clients"),
        }?;
        write!(f, "; try again in {} s", seconds(self.wait))
    }
}

impl std::error::Error for LimitExceeded {}

/// RFC 9110 10.2.3 allows whole seconds only; round up.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// 429 (RFC 6585 4) with Retry-After, or 503 if the client is not the cause.
impl From<LimitExceeded> for Refusal {
    fn from(limited: LimitExceeded) -> Self {
        let status = match limited.resource {
            Resource::TooManyClients => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::TOO_MANY_REQUESTS,
        };
        Self::new(status, format!("{limited}\n"))
            .header(header::RETRY_AFTER, HeaderValue::from(seconds(limited.wait).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        for (one, other, same) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::1", "::2", true),
        ] {
            assert_eq!(network(address(one)) == network(address(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn connections_are_limited_and_permits_released() {
        let shared = SharedRules { connections: 2, ..SharedRules::default() };
        let limits = Limits::new(LimitRules { address: shared, user: shared, ..LimitRules::default() });
        let now = Instant::now();
        let mut first = limits.connect(address("2001:db8::1"), now).expect("a permit");
        let second = limits.connect(address("2001:db8::2"), now).expect("a permit");
        let limited = limits.connect(address("2001:db8::3"), now).expect_err("two are all");
        assert_eq!((limited.scope, limited.resource), (Scope::Address, Resource::Connections));
        let mut other = limits.connect(address("2001:db8:0:1::1"), now).expect("another network");
        limits.user(&mut first, "李雷", now).expect("a permit");
        limits.user(&mut other, "李雷", now).expect("a permit");
        let mut third = limits.connect(address("10.0.0.1"), now).expect("another address");
        let limited = limits.user(&mut third, "李雷", now).expect_err("two are all");
        assert_eq!((limited.scope, limited.resource), (Scope::User, Resource::Connections));
        limits.user(&mut third, "韩梅梅", now).expect("another user");
        drop(second);
        let back = limits.connect(address("2001:db8::3"), now).expect("a free permit");
        drop((first, other, third, back));
        assert!(limits.connect(address("2001:db8::3"), now).is_ok());
    }

    #[test]
    fn rates_hold_for_all_connections_of_an_address_together() {
        let shared = SharedRules {
            connects: Some(Rate::per_second(2)),
            messages: Some(Rate::per_second(5)),
            bytes: Some(Rate::per_second(100)),
            ..SharedRules::default()
        };
        let limits = Limits::new(LimitRules { address: shared, ..LimitRules::default() });
        let (now, from) = (Instant::now(), address("10.0.0.1"));
        let mut one = limits.connect(from, now).expect("a permit");
        let mut two = limits.connect(from, now).expect("a permit");
        let limited = limits.connect(from, now).expect_err("too often");
        assert_eq!((limited.resource, limited.wait), (Resource::Connects, SECOND / 2));
        for _ in 0..2 {
            one.message(10, now).expect("few");
            two.message(10, now).expect("few");
        }
        assert_eq!(one.message(61, now).expect_err("bytes").resource, Resource::Bytes);
        assert_eq!(two.message(0, now).expect_err("the refused one counts").resource, Resource::Messages);
        assert_eq!(two.message(10, now + SECOND), Ok(()));
        // Reconnecting does not reset the rate.
        drop((one, two));
        assert!(limits.connect(from, now + SECOND).is_ok());
        assert!(limits.connect(from, now + SECOND).is_ok());
        assert!(limits.connect(from, now + SECOND).is_err());
    }

    #[test]
    fn a_permit_is_small() {
        assert_eq!(size_of::<Permit>(), 24);
    }

    #[test]
    fn a_connection_has_limits_of_its_own() {
        let connection = ConnectionRules {
            messages: Some(Rate::per_second(2)),
            bytes: Some("10/s".parse().expect("a rate")),
        };
        let limits = Limits::new(LimitRules { connection, ..LimitRules::default() });
        let (now, from) = (Instant::now(), address("10.0.0.1"));
        let mut one = limits.connect(from, now).expect("a permit");
        let mut two = limits.connect(from, now).expect("a permit");
        assert_eq!(one.message(10, now), Ok(()));
        let limited = one.message(1, now).expect_err("bytes");
        assert_eq!((limited.scope, limited.resource), (Scope::Connection, Resource::Bytes));
        assert_eq!(one.message(0, now).expect_err("messages").resource, Resource::Messages);
        assert_eq!(two.message(10, now), Ok(()));
        // Nothing is tracked if neither addresses nor users are limited.
        assert_eq!(limits.tracked(), (0, 0));
    }

    #[test]
    fn rejections_have_retry_after() {
        let limited = LimitExceeded {
            scope: Scope::Address,
            resource: Resource::Connects,
            wait: Duration::from_millis(1200),
        };
        let refusal = Refusal::from(limited);
        assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refusal.headers().get(header::RETRY_AFTER), Some(&HeaderValue::from_static("2")));
        let tracked = LimitExceeded { resource: Resource::TooManyClients, wait: Duration::ZERO, ..limited };
        assert_eq!(Refusal::from(tracked).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            Refusal::from(tracked).headers().get(header::RETRY_AFTER),
            Some(&HeaderValue::from_static("1"))
        );
    }
}
