//! From the name of a host to its addresses, IPv4 and IPv6 separately (RFC 8305 3).
//!
//! The system's resolver (`getaddrinfo`) blocks, so each lookup runs on a thread of its own. A thread whose name
//! server never answers lives until the resolver gives up (10 s by default with glibc), but delays neither the
//! connection nor the end of the process.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dns_lookup::{AddrFamily, AddrInfoHints, SockType, getaddrinfo};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// How long the IPv6 addresses are waited for once the IPv4 addresses are known (RFC 8305 3: Resolution Delay).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Maximum number of addresses of each family that are used.
const ADDRESSES_MAX: usize = 32;

/// Maximum number of threads that look up addresses of one family. Each family has its own limit, so that name servers
/// that never answer one kind of question do not block the other.
const THREADS_MAX: usize = 32;

static V4_THREADS: Semaphore = Semaphore::const_new(THREADS_MAX);
static V6_THREADS: Semaphore = Semaphore::const_new(THREADS_MAX);

/// The result of one lookup.
type Found = io::Result<Vec<SocketAddr>>;

/// The addresses of a host, which arrive while the first ones are already in use.
pub(super) struct Addresses {
    lookups: mpsc::Receiver<Found>,
    known: Vec<SocketAddr>,
    error: Option<io::Error>,
}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Self {
        let (_, lookups) = mpsc::channel(1);
        Self { lookups, known: vec![address], error: None }
    }
}

impl From<mpsc::Receiver<Found>> for Addresses {
    fn from(lookups: mpsc::Receiver<Found>) -> Self {
        Self { lookups, known: Vec::new(), error: None }
    }
}

/// Begins to look up the addresses of a host. `notify` is called with each result.
pub(super) fn look_up(
    name: &str,
    port: u16,
    notify: impl Fn(&[SocketAddr]) + Send + Sync + 'static,
) -> Addresses {
    let (sender, lookups) = mpsc::channel(2);
    let (name, notify) = (Arc::<str>::from(name), Arc::new(notify));
    for (family, threads) in [(AddrFamily::Inet6, &V6_THREADS), (AddrFamily::Inet, &V4_THREADS)] {
        let (sender, name, notify) = (sender.clone(), Arc::clone(&name), Arc::clone(&notify));
        tokio::spawn(async move {
            let (done, answer) = tokio::sync::oneshot::channel();
            // The semaphore is never closed.
            let Ok(permit) = threads.acquire().await else { return };
            if sender.is_closed() {
                return;
            }
            let started = std::thread::Builder::new().name("longwire-lookup".into()).spawn(move || {
                let found = system_lookup(&name, port, family);
                drop(permit);
                let _ = done.send(found);
            });
            let found = match started {
                Ok(_) => answer.await.unwrap_or_else(|_| Err(io::Error::other("the lookup panicked"))),
                Err(error) => Err(error),
            };
            if let Ok(addresses) = &found {
                notify(addresses);
            }
            let _ = sender.send(found).await;
        });
    }
    Addresses::from(lookups)
}

/// Asks the system for the addresses of one family, which blocks.
fn system_lookup(name: &str, port: u16, family: AddrFamily) -> Found {
    let hints = AddrInfoHints {
        address: family.into(),
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{name}: {error}"))
    })?;
    let addresses = found.filter_map(Result::ok).map(|info| {
        let mut address = info.sockaddr;
        address.set_port(port);
        address
    });
    Ok(addresses.take(ADDRESSES_MAX).collect())
}

impl Addresses {
    /// Waits until the first addresses can be dialled: IPv6 at once, IPv4 once the lookup of IPv6 is done or has had
    /// its 50 ms.
    ///
    /// # Errors
    ///
    /// That of the last lookup, if neither found an address.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        while self.known.is_empty() {
            if !self.receive().await {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                return Err(self.error.take().unwrap_or_else(none));
            }
        }
        if self.known.iter().all(SocketAddr::is_ipv4) {
            let _ = timeout(RESOLUTION_DELAY, self.receive()).await;
        }
        Ok(())
    }

    /// The addresses that have arrived since the last call.
    pub(super) fn take(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.known)
    }

    async fn receive(&mut self) -> bool {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Waits for one more lookup; false if all are done.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match ready!(self.lookups.poll_recv(cx)) {
            Some(Ok(found)) => self.known.extend(found),
            Some(Err(error)) => self.error = Some(error),
            None => return Poll::Ready(false),
        }
        Poll::Ready(true)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Lookups that finish after these times in milliseconds.
    fn lookups(results: Vec<(u64, Found)>) -> Addresses {
        let (sender, lookups) = mpsc::channel(2);
        for (after, found) in results {
            let sender = sender.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(after)).await;
                let _ = sender.send(found).await;
            });
        }
        Addresses::from(lookups)
    }

    #[tokio::test(start_paused = true)]
    async fn ipv4_waits_50_ms_for_ipv6() {
        let (v4, v6) = (address("192.0.2.1:80"), address("[2001:db8::1]:80"));
        let silent = u64::MAX / 2;
        let none = || Err(io::ErrorKind::NotFound.into());
        type Row = (Vec<(u64, Found)>, u64, Vec<SocketAddr>);
        let rows: Vec<Row> = vec![
            (vec![(10, Ok(vec![v4])), (silent, Ok(vec![v6]))], 60, vec![v4]),
            (vec![(10, Ok(vec![v4])), (30, Ok(vec![v6]))], 30, vec![v4, v6]),
            (vec![(10, Ok(vec![v4])), (30, none())], 30, vec![v4]),
            (vec![(10, Ok(vec![v6])), (silent, Ok(vec![v4]))], 10, vec![v6]),
            (vec![(10, none()), (500, Ok(vec![v4]))], 500, vec![v4]),
            (vec![(10, Ok(vec![])), (20, Ok(vec![v4]))], 20, vec![v4]),
        ];
        for (results, expected, found) in rows {
            let text = format!("{results:?}");
            let start = Instant::now();
            let mut addresses = lookups(results);
            addresses.ready().await.unwrap();
            let elapsed = start.elapsed().as_millis();
            assert!(
                (u128::from(expected)..u128::from(expected) + 5).contains(&elapsed),
                "{text}: {elapsed} ms"
            );
            assert_eq!(addresses.take(), found, "{text}");
        }
        let refused = lookups(vec![(1, none()), (2, none())]).ready().await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let mut addresses = look_up("localhost", 4321, |_| {});
        addresses.ready().await.unwrap();
        while addresses.receive().await {}
        let found = addresses.take();
        assert!(found.contains(&address("127.0.0.1:4321")), "{found:?}");
        let mut unknown = look_up("名.invalid", 1, |_| {});
        assert!(unknown.ready().await.unwrap_err().to_string().contains("名.invalid"));
    }
}
