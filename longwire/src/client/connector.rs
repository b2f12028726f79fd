//! Connects to a server: addresses, TCP, the tunnel of a proxy, TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use url::Host;

#[cfg(feature = "proxy")]
use crate::end::ProxyError;
use crate::end::{ConnectError, Phase};
use crate::net::transport::Transport;

use super::Client;
use super::dial::dial;
use super::progress::Step;
#[cfg(feature = "proxy")]
use super::proxy::Proxy;
use super::resolve::{Addresses, look_up};
use super::target::Target;

/// The version of HTTP that a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Http {
    One,
    #[cfg(feature = "http2")]
    Two,
}

impl Http {
    /// The protocol to offer by ALPN instead of those of [`Tls::alpn`](crate::Tls::alpn).
    #[cfg(feature = "tls")]
    const fn alpn(self) -> Option<&'static [u8]> {
        match self {
            Self::One => None,
            #[cfg(feature = "http2")]
            Self::Two => Some(b"h2"),
        }
    }
}

/// The time limit for all phases together.
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
    /// Connects to the server of `target`, for this version of HTTP.
    pub(super) async fn reach(&self, target: &Target, http: Http) -> Result<Transport, ConnectError> {
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
        return Ok(
            self.secured(limit.hold(Phase::Tls, self.tls.connect(&target.host, stream, http.alpn())).await??)
        );
        #[cfg(not(feature = "tls"))]
        {
            let _ = http;
            Err(no_tls())
        }
    }

    async fn tcp(&self, host: &Host<String>, port: u16, limit: Limit) -> Result<Transport, ConnectError> {
        let mut addresses = match host {
            Host::Domain(name) => {
                let (observer, host) = (self.observer.clone(), name.clone());
                look_up(name, port, move |found| observer.notify(Step::Resolved(&host, found)))
            }
            Host::Ipv4(address) => Addresses::from(SocketAddr::from((*address, port))),
            Host::Ipv6(address) => Addresses::from(SocketAddr::from((*address, port))),
        };
        limit.hold(Phase::Resolve, addresses.ready()).await??;
        let dialed = dial(addresses, |address| {
            let observer = self.observer.clone();
            async move {
                observer.notify(Step::Dialing(address));
                let connected = TcpStream::connect(address).await;
                if let Err(error) = &connected {
                    observer.notify(Step::Failed(address, error));
                }
                connected
            }
        });
        let stream = limit.hold(Phase::Tcp, dialed).await??;
        // Frames are written whole: waiting to gather them would only delay them.
        stream.set_nodelay(true)?;
        let stream = Transport::from(stream);
        self.observer.notify(Step::Connected(stream.peer_addr().ok()));
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
            self.secured(limit.hold(Phase::Tls, agreed).await??)
        } else {
            stream
        };
        #[cfg(not(feature = "tls"))]
        if proxy.is_secure() {
            return Err(no_tls());
        }
        // In TLS 1.3 a proxy rejects our certificate only here.
        let stream = match limit
            .hold(Phase::Proxy, proxy.tunnel(stream, target, &self.user_agent(), self.response_limits))
            .await?
        {
            Err(ProxyError::Io(error)) => match ConnectError::from(error) {
                ConnectError::Io(error) => return Err(ProxyError::Io(error).into()),
                other => return Err(other),
            },
            other => other?,
        };
        self.observer.notify(Step::Tunnelled(&proxy.to_string()));
        Ok(stream.tunnelled())
    }

    #[cfg(feature = "tls")]
    fn secured(&self, stream: Transport) -> Transport {
        if let Some(secured) = stream.tls() {
            self.observer.notify(Step::Secured(secured));
        }
        stream
    }
}

#[cfg(not(feature = "tls"))]
fn no_tls() -> ConnectError {
    ConnectError::Invalid("wss:// needs the feature `tls`; or pass a TLS stream to Client::handshake".into())
}
