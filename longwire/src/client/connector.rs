//! From a target to a stream that ends at its server: addresses, TCP, a proxy's tunnel, TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use url::Host;

use crate::end::{ConnectError, Phase};
use crate::net::transport::Transport;

use super::Client;
use super::dial::{ADDRESSES_MAX, dial};
use super::progress::Step;
#[cfg(feature = "proxy")]
use super::proxy::{Proxy, ProxyError};
use super::target::Target;

/// The time that all phases have together.
#[derive(Clone, Copy)]
struct Limit {
    begun: Instant,
    time: Duration,
}

impl Limit {
    async fn hold<T>(self, phase: Phase, work: impl Future<Output = T>) -> Result<T, ConnectError> {
        let left = self.time.saturating_sub(self.begun.elapsed());
        timeout(left, work).await.map_err(|_| ConnectError::Timeout(phase))
    }
}

impl Client {
    /// A stream to the server that `target` names.
    pub(crate) async fn reach(&self, target: &Target) -> Result<Transport, ConnectError> {
        let limit = Limit { begun: Instant::now(), time: self.connect_timeout };
        #[cfg(feature = "proxy")]
        let stream = match self.route.proxy(target)? {
            Some(proxy) => self.tunnel(&proxy, target, limit).await?,
            None => self.tcp(&target.host, target.port, limit).await?,
        };
        #[cfg(not(feature = "proxy"))]
        let stream = self.tcp(&target.host, target.port, limit).await?;
        if !target.secure {
            return Ok(stream);
        }
        #[cfg(feature = "tls")]
        return Ok(self.told_of_tls(limit.hold(Phase::Tls, self.tls.connect(&target.host, stream)).await??));
        #[cfg(not(feature = "tls"))]
        Err(no_tls())
    }

    async fn tcp(&self, host: &Host<String>, port: u16, limit: Limit) -> Result<Transport, ConnectError> {
        let addresses = match host {
            Host::Domain(name) => {
                let found = limit.hold(Phase::Resolve, lookup_host((name.as_str(), port))).await?;
                let found =
                    found.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
                let found: Vec<_> = found.take(4 * ADDRESSES_MAX).collect();
                self.watch.tell(Step::Resolved(name, &found));
                found
            }
            Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
        };
        let dialed = dial(addresses, |address| {
            let watch = self.watch.clone();
            async move {
                watch.tell(Step::Dialing(address));
                let connected = TcpStream::connect(address).await;
                if let Err(error) = &connected {
                    watch.tell(Step::Failed(address, error));
                }
                connected
            }
        });
        let stream = limit.hold(Phase::Tcp, dialed).await??;
        // Frames are written whole: waiting to gather them would only delay them.
        stream.set_nodelay(true)?;
        let stream = Transport::from(stream);
        self.watch.tell(Step::Connected(stream.peer_addr().ok()));
        Ok(stream)
    }

    #[cfg(feature = "proxy")]
    async fn tunnel(&self, proxy: &Proxy, target: &Target, limit: Limit) -> Result<Transport, ConnectError> {
        let stream = match self.tcp(proxy.host(), proxy.port(), limit).await {
            Err(ConnectError::Io(error)) => return Err(ProxyError::Unreachable(error).into()),
            other => other?,
        };
        #[cfg(feature = "tls")]
        let stream = if proxy.is_secure() {
            let agreed = self.tls.connect_to_proxy(proxy.host(), stream);
            self.told_of_tls(limit.hold(Phase::Tls, agreed).await??)
        } else {
            stream
        };
        #[cfg(not(feature = "tls"))]
        if proxy.is_secure() {
            return Err(no_tls());
        }
        // In TLS 1.3 it is here that a proxy refuses our certificate.
        let stream = match limit.hold(Phase::Proxy, proxy.tunnel(stream, target)).await? {
            Err(ProxyError::Io(error)) => match ConnectError::from(error) {
                ConnectError::Io(error) => return Err(ProxyError::Io(error).into()),
                other => return Err(other),
            },
            other => other?,
        };
        self.watch.tell(Step::Tunnelled(&proxy.to_string()));
        Ok(stream.tunnelled())
    }

    #[cfg(feature = "tls")]
    fn told_of_tls(&self, stream: Transport) -> Transport {
        if let Some(secured) = stream.tls() {
            self.watch.tell(Step::Secured(secured));
        }
        stream
    }
}

#[cfg(not(feature = "tls"))]
fn no_tls() -> ConnectError {
    ConnectError::Invalid(
        "TLS is not built in: switch on the feature `tls`, or pass a TLS stream to Client::handshake".into(),
    )
}
