//! TCP to one of several addresses: Happy Eyeballs (RFC 8305).

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::resolve::Addresses;

/// How long an attempt runs before the next address is tried beside it (RFC 8305 8: Connection Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

/// Maximum number of addresses that are tried.
const ATTEMPTS_MAX: usize = 16;

/// Connects to the address that answers first and cancels the other attempts. An attempt begins when the one before it
/// has failed or has run for 250 ms. Addresses that arrive later take part.
///
/// # Errors
///
/// The kind of the first failure, and the text of all.
pub(super) async fn dial<S, F>(mut addresses: Addresses, connect: impl Fn(SocketAddr) -> F) -> io::Result<S>
where
    S: Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let mut waiting = Waiting::default();
    let mut attempts = JoinSet::new();
    let mut failures = Failures(Vec::new());
    let mut begun = 0;
    // When the next attempt may begin.
    let mut next_at = pin!(sleep_until(Instant::now()));
    loop {
        waiting.add(addresses.take());
        if begun == ATTEMPTS_MAX {
            waiting = Waiting::default();
        }
        let event = poll_fn(|cx| {
            if let Poll::Ready(Some(finished)) = attempts.poll_join_next(cx) {
                return Poll::Ready(Event::Finished(finished));
            }
            let is_resolved = match addresses.poll_receive(cx) {
                Poll::Ready(true) => return Poll::Ready(Event::Resolved),
                Poll::Ready(false) => true,
                Poll::Pending => false,
            };
            if waiting.is_empty() {
                let is_over = is_resolved && attempts.is_empty();
                return if is_over { Poll::Ready(Event::AllFailed) } else { Poll::Pending };
            }
            next_at.as_mut().poll(cx).map(|()| Event::Due)
        });
        match event.await {
            Event::Finished(Ok(Ok(stream))) => return Ok(stream),
            Event::Finished(Ok(Err(failure))) => {
                failures.0.push(failure);
                next_at.as_mut().reset(Instant::now());
            }
            Event::Finished(Err(panicked)) => return Err(io::Error::other(panicked)),
            Event::Resolved => {}
            Event::AllFailed => return Err(failures.into()),
            Event::Due => {
                if let Some(address) = waiting.next() {
                    let attempt = connect(address);
                    attempts.spawn(async move { attempt.await.map_err(|error| (address, error)) });
                    begun += 1;
                    next_at.as_mut().reset(Instant::now() + STAGGER);
                }
            }
        }
    }
}

enum Event<S> {
    /// An attempt succeeded or failed.
    Finished(Result<Result<S, (SocketAddr, io::Error)>, JoinError>),
    /// A lookup is done.
    Resolved,
    /// The next attempt may begin.
    Due,
    AllFailed,
}

/// The addresses that were not tried yet.
#[derive(Default)]
struct Waiting {
    v4: VecDeque<SocketAddr>,
    v6: VecDeque<SocketAddr>,
    /// The last address that was tried is an IPv6 address.
    was_v6: bool,
}

impl Waiting {
    fn add(&mut self, addresses: Vec<SocketAddr>) {
        for address in addresses {
            if address.is_ipv6() { self.v6.push_back(address) } else { self.v4.push_back(address) }
        }
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// RFC 8305 4: IPv6 first, then the families in turn, each in the order of the resolver.
    fn next(&mut self) -> Option<SocketAddr> {
        let (first, second) =
            if self.was_v6 { (&mut self.v4, &mut self.v6) } else { (&mut self.v6, &mut self.v4) };
        let next = first.pop_front().or_else(|| second.pop_front())?;
        self.was_v6 = next.is_ipv6();
        Some(next)
    }
}

/// The failure of each address.
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
            None => Self::new(io::ErrorKind::NotFound, "the host has no address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::mpsc;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn addresses(hosts: &[&str]) -> Vec<SocketAddr> {
        hosts.iter().map(|host| format!("{host}:80").parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let found = |hosts: &[&str]| {
            let mut waiting = Waiting::default();
            waiting.add(addresses(hosts));
            std::iter::from_fn(|| waiting.next()).map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(&["[::1]", "[::2]", "[::3]", "1.1.1.1"]), ["::1", "1.1.1.1", "::2", "::3"]);
        assert_eq!(found(&["1.1.1.1", "[::1]", "[::2]"]), ["::1", "1.1.1.1", "::2"]);
        assert_eq!(found(&["1.1.1.1", "1.1.1.2"]), ["1.1.1.1", "1.1.1.2"]);
        assert!(found(&[]).is_empty());
    }

    /// All of these addresses, known at once.
    fn resolved(hosts: &[&str]) -> Addresses {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Ok(addresses(hosts))).unwrap();
        receiver.into()
    }

    /// Dials addresses that answer after this many milliseconds, or never. Returns the result, its time, and the time
    /// at which each attempt began.
    async fn race(
        answers: &[(&str, Option<u64>, bool)],
    ) -> (io::Result<SocketAddr>, u64, Vec<(String, u64)>) {
        let start = Instant::now();
        let begun = Arc::new(Mutex::new(Vec::new()));
        let hosts: Vec<_> = answers.iter().map(|(host, ..)| *host).collect();
        let all: Vec<_> =
            addresses(&hosts).into_iter().zip(answers.iter().map(|(_, a, b)| (*a, *b))).collect();
        let dialed = dial(resolved(&hosts), |address| {
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
        let winner = dial(resolved(&["[::1]", "1.1.1.1"]), |address| {
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
        for count in [ATTEMPTS_MAX, ATTEMPTS_MAX + 1] {
            let hosts: Vec<_> = (0..count).map(|i| format!("10.0.0.{i}")).collect();
            let answers: Vec<_> =
                hosts.iter().enumerate().map(|(i, host)| (host.as_str(), Some(1), i == count - 1)).collect();
            let (dialed, _, begun) = race(&answers).await;
            assert_eq!(begun.len(), ATTEMPTS_MAX);
            assert_eq!(dialed.is_ok(), count == ATTEMPTS_MAX);
        }
    }

    /// RFC 8305 3: an address that is found later is tried too.
    #[tokio::test(start_paused = true)]
    async fn addresses_that_arrive_late_take_part() {
        let (sender, receiver) = mpsc::channel(2);
        sender.try_send(Ok(addresses(&["1.1.1.1"]))).unwrap();
        tokio::spawn(async move {
            sleep(Duration::from_millis(400)).await;
            sender.send(Ok(addresses(&["[::1]"]))).await.unwrap();
        });
        let start = Instant::now();
        let winner = dial(receiver.into(), |address| async move {
            if address.is_ipv4() {
                std::future::pending::<()>().await;
            }
            Ok(address)
        })
        .await;
        assert!(winner.unwrap().is_ipv6());
        assert!((400..410).contains(&start.elapsed().as_millis()));
    }
}
