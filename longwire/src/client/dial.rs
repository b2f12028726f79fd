//! TCP to one of several addresses: Happy Eyeballs (RFC 8305).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an address has before the next one is tried beside it (RFC 8305 8: Connection Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

/// Addresses that are tried, however many a name has.
pub(super) const ADDRESSES_MAX: usize = 16;

/// Connects to the address that answers first and drops the other attempts. They begin one after the other,
/// each when the one before it has failed or has had its time.
///
/// # Errors
///
/// The kind of the first failure, and the text of all.
pub(super) async fn dial<S, F>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<S>
where
    S: Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let mut waiting = interleaved(addresses).into_iter().take(ADDRESSES_MAX);
    let mut attempts = JoinSet::new();
    let mut failures = Failures(Vec::new());
    loop {
        if let Some(address) = waiting.next() {
            let attempt = connect(address);
            attempts.spawn(async move { attempt.await.map_err(|error| (address, error)) });
        }
        let first = attempts.join_next();
        let done = if waiting.len() == 0 { Ok(first.await) } else { timeout(STAGGER, first).await };
        match done {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(failure)))) => failures.0.push(failure),
            Ok(Some(Err(panicked))) => return Err(io::Error::other(panicked)),
            Ok(None) => return Err(failures.into()),
            // Its time is over, but it may still win.
            Err(_) => {}
        }
    }
}

/// RFC 8305 4: the family that the system prefers first, then one of each in turn.
fn interleaved(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.into_iter().collect();
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == prefers_v6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = (preferred.next(), other.next());
        if pair == (None, None) {
            return mixed;
        }
        mixed.extend(pair.0.into_iter().chain(pair.1));
    }
}

/// What each address said.
#[derive(Debug)]
struct Failures(Vec<(SocketAddr, io::Error)>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}{address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}

impl From<Failures> for io::Error {
    fn from(failures: Failures) -> Self {
        match failures.0.first() {
            Some((_, first)) => Self::new(first.kind(), failures),
            None => Self::new(io::ErrorKind::NotFound, "the name has no address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::{Instant, sleep};

    use super::*;

    fn addresses(hosts: &[&str]) -> Vec<SocketAddr> {
        hosts.iter().map(|host| format!("{host}:80").parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let found = |hosts: &[&str]| {
            interleaved(addresses(hosts)).iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(&["[::1]", "[::2]", "[::3]", "1.1.1.1"]), ["::1", "1.1.1.1", "::2", "::3"]);
        assert_eq!(found(&["1.1.1.1", "[::1]", "[::2]"]), ["1.1.1.1", "::1", "::2"]);
        assert_eq!(found(&["1.1.1.1", "1.1.1.2"]), ["1.1.1.1", "1.1.1.2"]);
        assert!(found(&[]).is_empty());
    }

    /// Dials where each address answers after so many milliseconds, as told, or never.
    /// What came of it, when, and when each attempt began.
    async fn race(
        answers: &[(&str, Option<u64>, bool)],
    ) -> (io::Result<SocketAddr>, u64, Vec<(String, u64)>) {
        let start = Instant::now();
        let begun = Arc::new(Mutex::new(Vec::new()));
        let hosts: Vec<_> = answers.iter().map(|(host, ..)| *host).collect();
        let all: Vec<_> =
            addresses(&hosts).into_iter().zip(answers.iter().map(|(_, a, b)| (*a, *b))).collect();
        let dialed = dial(addresses(&hosts), |address| {
            let at = u64::try_from(start.elapsed().as_millis()).unwrap();
            begun.lock().unwrap().push((address.ip().to_string(), at));
            let (after, is_good) = all.iter().find(|(found, _)| *found == address).unwrap().1;
            async move {
                match after {
                    Some(after) => sleep(Duration::from_millis(after)).await,
                    None => std::future::pending().await,
                }
                if is_good { Ok(address) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
            }
        })
        .await;
        let elapsed = u64::try_from(start.elapsed().as_millis()).unwrap();
        let begun = begun.lock().unwrap().clone();
        (dialed, elapsed, begun)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_costs_one_stagger() {
        let (dialed, elapsed, begun) =
            race(&[("[::1]", None, true), ("[::2]", None, true), ("1.1.1.1", Some(10), true)]).await;
        assert_eq!(dialed.unwrap().ip().to_string(), "1.1.1.1");
        assert_eq!(begun, [("::1".to_owned(), 0), ("1.1.1.1".to_owned(), 250)]);
        assert!((260..270).contains(&elapsed), "{elapsed}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_may_still_win() {
        let (dialed, elapsed, begun) =
            race(&[("[::1]", Some(400), true), ("1.1.1.1", Some(800), true)]).await;
        assert_eq!(dialed.unwrap().ip().to_string(), "::1");
        assert_eq!(begun.len(), 2);
        assert!((400..410).contains(&elapsed), "{elapsed}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_starts_the_next_at_once_and_all_are_told() {
        let (dialed, elapsed, _) = race(&[("[::1]", Some(5), false), ("1.1.1.1", Some(5), true)]).await;
        assert_eq!(dialed.unwrap().ip().to_string(), "1.1.1.1");
        assert!(elapsed < 50, "{elapsed}");

        let (dialed, ..) = race(&[("[::1]", Some(300), false), ("1.1.1.1", Some(5), false)]).await;
        let error = dialed.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.contains("[::1]:80: ") && text.contains("1.1.1.1:80: "), "{text}");

        let (dialed, ..) = race(&[]).await;
        assert_eq!(dialed.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn the_losers_are_dropped() {
        let kept = Arc::new(());
        let winner = dial(addresses(&["[::1]", "1.1.1.1"]), |address| {
            let kept = Arc::clone(&kept);
            async move {
                if address.is_ipv6() {
                    std::future::pending::<()>().await;
                }
                drop(kept);
                Ok(address)
            }
        })
        .await;
        assert!(winner.unwrap().is_ipv4());
        while Arc::strong_count(&kept) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_with_very_many_addresses() {
        for count in [ADDRESSES_MAX, ADDRESSES_MAX + 1] {
            let hosts: Vec<_> = (0..count).map(|i| format!("10.0.0.{i}")).collect();
            let answers: Vec<_> =
                hosts.iter().enumerate().map(|(i, host)| (host.as_str(), Some(1), i == count - 1)).collect();
            let (dialed, _, begun) = race(&answers).await;
            assert_eq!(begun.len(), ADDRESSES_MAX);
            assert_eq!(dialed.is_ok(), count == ADDRESSES_MAX);
        }
    }
}
