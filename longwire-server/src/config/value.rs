//! Types of settings: sizes, durations, addresses, secrets.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::value::Size;

/// A duration, such as `500ms`, `30s`, `5m`, `2h` or `7d`; a plain number means seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(Duration);

impl TimeSpan {
    /// Creates a duration from seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Returns the duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Duration> for TimeSpan {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "invalid duration; write one such as 500ms, 30s, 5m, 2h or 7d, up to 100 years";
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(advice.into()),
        };
        let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        let bounded = millis.filter(|&millis| millis <= 36_525 * 86_400_000);
        bounded.map(|millis| Self(Duration::from_millis(millis))).ok_or_else(|| advice.into())
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (unit, name) = match millis {
            0 => (1000, "s"),
            millis if millis % 86_400_000 == 0 => (86_400_000, "d"),
            millis if millis % 3_600_000 == 0 => (3_600_000, "h"),
            millis if millis % 60_000 == 0 => (60_000, "m"),
            millis if millis % 1000 == 0 => (1000, "s"),
            _ => (1, "ms"),
        };
        write!(f, "{}{name}", millis / unit)
    }
}

/// An address to listen on: a host name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    /// The host, without brackets.
    pub host: String,
    /// The port; 0 selects a free one.
    pub port: u16,
}

impl ListenAddr {
    /// Returns whether only this machine can reach the address, as far as the name shows.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "write HOST:PORT, such as 127.0.0.1:8080, localhost:8080, 0.0.0.0:80 or [::]:8080";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("the port is missing; {advice}"))?;
        let port = match port.parse() {
            Ok(number) if port.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => return Err(format!("invalid port `{port}` (0 to 65535); {advice}")),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare {
            Some(bare) if bare.parse::<std::net::Ipv6Addr>().is_ok() => {
                Ok(Self { host: bare.to_owned(), port })
            }
            Some(bare) => Err(format!("invalid IPv6 address `{bare}`; {advice}")),
            None if host.is_empty() => Err(format!("the host is missing; {advice}")),
            None if host.contains(':') => Err(format!("an IPv6 address must be in brackets; {advice}")),
            None if host.contains('/') => Err(format!("this is a URL, not an address; {advice}")),
            None => Ok(Self { host: host.to_owned(), port }),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// An IP address or a network: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Number of significant leading bits.
    prefix: u8,
}

impl Network {
    /// Returns whether the network contains the address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differs = match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => u128::from(ours.to_bits() ^ theirs.to_bits()) << 96,
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => ours.to_bits() ^ theirs.to_bits(),
            _ => return false,
        };
        differs.leading_zeros() >= self.prefix.into()
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "invalid address or network; write one such as 10.0.0.1, 10.0.0.0/8 or fd00::/8";
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| advice)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|&prefix| prefix <= max).ok_or(advice)?,
            None => max,
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == max { self.address.fmt(f) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

/// A value that is never displayed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Arc<str>);

impl Secret {
    /// Returns the value.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// A value that is written as text, or as a number with the same digits.
struct FromText<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> de::Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! impl_text_serde {
    ($($type:ty)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(FromText(std::marker::PhantomData))
            }
        }
    )*};
}

impl_text_serde!(Size TimeSpan ListenAddr Network super::Sync);

/// Serialises an `Option` as its value or `off`.
pub mod off {
    use serde::de::value::StringDeserializer;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Serialises `None` as `off`.
    ///
    /// # Errors
    ///
    /// Returns the errors of the serializer.
    pub fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }

    /// Deserialises `off` as `None`.
    ///
    /// # Errors
    ///
    /// Returns the errors of the value.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        match String::deserialize(deserializer)? {
            text if text == "off" => Ok(None),
            text => T::deserialize(StringDeserializer::new(text)).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("65536", 65536, "64K"),
            ("64k", 65536, "64K"),
            ("16MiB", 16 << 20, "16M"),
            ("1000", 1000, "1000"),
            ("3G", 3 << 30, "3G"),
        ] {
            let size: Size = text.parse().expect(text);
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown));
        }
        for text in [
            "",
            "K",
            "1T",
            "-1",
            "1.5M",
            "1 M",
            "99999999999999999999",
            "99999999999999999G",
            "9223372036854775808",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, millis, shown) in [
            ("0", 0, "0s"),
            ("20", 20_000, "20s"),
            ("500ms", 500, "500ms"),
            ("1500ms", 1500, "1500ms"),
            ("60s", 60_000, "1m"),
            ("5m", 300_000, "5m"),
            ("48h", 172_800_000, "2d"),
            ("36525d", 36_525 * 86_400_000, "36525d"),
        ] {
            let age: TimeSpan = text.parse().expect(text);
            assert_eq!((age.duration().as_millis(), age.to_string().as_str()), (millis, shown));
        }
        for text in ["", "s", "5 m", "-1s", "1.5h", "1w", "36526d", "99999999999999999999"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        for (text, loopback) in [
            ("127.0.0.1:8080", true),
            ("127.8.8.8:1", true),
            ("localhost:0", true),
            ("[::1]:9", true),
            ("[::ffff:127.0.0.1]:9", true),
            ("0.0.0.0:65535", false),
            ("[::]:80", false),
            ("example.org:80", false),
            ("localhost.example.org:80", false),
        ] {
            let listen: ListenAddr = text.parse().expect(text);
            assert_eq!((listen.to_string().as_str(), listen.is_loopback()), (text, loopback));
        }
        for text in ["", "8080", ":8080", "h", "h:", "h:70000", "h:+1", "::1:80", "[x]:80", "http://h:80"] {
            assert!(text.parse::<ListenAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        for (network, inside, outside) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let parsed: Network = network.parse().expect(network);
            assert_eq!(parsed.to_string(), network);
            assert!(parsed.contains(inside.parse().expect("an address")), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().expect("an address")), "{network} {outside}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "/8", "10.0.0.1/", "any"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).expect("a text"), "\"***\"");
        assert_eq!(secret.reveal(), "hunter2");
    }

    proptest! {
        #[test]
        fn parsed_values_round_trip(text in "[0-9a-zA-Z.:/\\[\\] -]{0,12}|\\PC{0,20}") {
            if let Ok(size) = text.parse::<Size>() {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
            if let Ok(age) = text.parse::<TimeSpan>() {
                prop_assert_eq!(age.to_string().parse(), Ok(age));
            }
            if let Ok(listen) = text.parse::<ListenAddr>() {
                prop_assert_eq!(listen.to_string().parse(), Ok(listen));
            }
            if let Ok(network) = text.parse::<Network>() {
                prop_assert_eq!(network.to_string().parse(), Ok(network));
            }
            if let Ok(rate) = text.parse::<crate::limits::Rate>() {
                prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        }
    }
}
