//! How connections of plain HTTP are served: one request on one without TLS; HTTP/1.1 with keep-alive and HTTP/2 in
//! TLS. Each wait and each number has its bound here; what is answered is in `http`.

use std::convert::Infallible;
use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use longwire::engine::HttpStream;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::http;

/// For a whole exchange without TLS, for a head, and for what is under way when a connection is to end, so that a client
/// that reads or writes a byte at a time holds nothing for long.
const DEADLINE: Duration = Duration::from_secs(15);

/// How long a client that still sends is listened to after its answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long a connection in TLS stays on which no request is under way.
const IDLE: Duration = Duration::from_secs(60);

/// How long a connection of HTTP/2 may be silent, and how long it may take to say that it lives (RFC 9113 6.7).
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Of HTTP/2: streams that are open at once, and the octets of a head (RFC 9113 6.5.2). How many streams may be reset
/// before they were answered is bounded by hyper (CVE-2023-44487).
const STREAMS: u32 = 128;
const HEAD: u32 = 16 * 1024;

/// Of HTTP/1.1, the bytes of a head and what is behind it.
const BUFFER: usize = 32 * 1024;

/// Serves connections, until it is told to end.
#[derive(Clone)]
pub(crate) struct Site {
    /// Connections are to end.
    closing: watch::Receiver<bool>,
}

impl Site {
    /// And by what it is told so.
    pub(crate) fn new() -> (Self, watch::Sender<bool>) {
        let (close, closing) = watch::channel(false);
        (Self { closing }, close)
    }

    /// Serves a connection from which `read` has been read already.
    pub(crate) async fn serve(self, stream: HttpStream, read: Bytes) {
        if stream.is_tls() {
            self.serve_secure(stream, read).await;
        } else {
            // A client that went away, or was too slow, has nobody to tell.
            let _ = timeout(DEADLINE, exchange(stream, read)).await;
        }
    }

    async fn serve_secure(mut self, stream: HttpStream, read: Bytes) {
        let (from, to) = tokio::io::split(stream);
        let io = TokioIo::new(tokio::io::join(Cursor::new(read).chain(from), to));
        let under_way = UnderWay::default();
        let service = service_fn(|request: Request<Incoming>| {
            let busy = under_way.begin();
            async move {
                let response = if is_extended_connect(&request) {
                    http::websocket(request, busy).await
                } else {
                    let response = http::answer(&request);
                    drop(busy);
                    response
                };
                Ok::<_, Infallible>(response)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(DEADLINE).max_buf_size(BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT);
        let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
        tokio::select! {
            // How it ended is its client's affair.
            _ = connection.as_mut() => return,
            () = under_way.idle() => {}
            _ = self.closing.wait_for(|closing| *closing) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(DEADLINE, connection).await;
    }
}

/// RFC 8441 4.
fn is_extended_connect(request: &Request<Incoming>) -> bool {
    request.method() == Method::CONNECT && request.extensions().get::<hyper::ext::Protocol>().is_some()
}

/// Requests of a connection that are under way.
#[derive(Clone, Default)]
struct UnderWay(Arc<Count>);

#[derive(Default)]
struct Count {
    requests: AtomicUsize,
    changed: Notify,
}

impl UnderWay {
    /// One more, until what is returned is dropped.
    fn begin(&self) -> Busy {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.changed.notify_one();
        Busy(self.clone())
    }

    /// Waits until there was none for a while.
    async fn idle(&self) {
        loop {
            if self.0.requests.load(Ordering::Relaxed) > 0 {
                self.0.changed.notified().await;
            } else if timeout(IDLE, self.0.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// A request that is under way, or a stream that came of one.
pub(crate) struct Busy(UnderWay);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.0.changed.notify_one();
    }
}

/// Answers one request, and ends the connection.
async fn exchange(stream: HttpStream, read: Bytes) -> Result<(), hyper::Error> {
    let (from, to) = tokio::io::split(stream);
    let mut io = tokio::io::join(Cursor::new(read).chain(from), to);
    // It flushes, and ends our direction.
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .serve_connection(
            TokioIo::new(&mut io),
            service_fn(async |request| Ok::<_, Infallible>(http::answer(&request))),
        )
        .await?;

    // RFC 9112 9.6: closing while a body that nobody wants is still coming would reset the connection,
    // and the reset may overtake the answer. So the rest is dropped.
    let _ = timeout(LINGER, tokio::io::copy(&mut io, &mut tokio::io::sink())).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has asked for nothing in a minute is idle, and nobody of whom a request is under way, however long.
    #[tokio::test(start_paused = true)]
    async fn a_minute_without_a_request() {
        let under_way = UnderWay::default();
        let begun = tokio::time::Instant::now();
        under_way.idle().await;
        assert_eq!(begun.elapsed().as_secs(), 60);
        let busy = [under_way.begin(), under_way.begin()];
        assert!(timeout(Duration::from_secs(3600), under_way.idle()).await.is_err());
        let [one, two] = busy;
        drop(one);
        assert!(timeout(Duration::from_secs(3600), under_way.idle()).await.is_err());
        drop(two);
        assert!(timeout(Duration::from_secs(59), under_way.idle()).await.is_err());
        drop(under_way.begin());
        let begun = tokio::time::Instant::now();
        under_way.idle().await;
        assert_eq!(begun.elapsed().as_secs(), 60);
    }
}
