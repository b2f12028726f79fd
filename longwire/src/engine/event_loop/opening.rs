//! The opening handshake in a loop: from an accepted socket to a WebSocket of the loop, the HTTP service or a refusal.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use longwire_proto::handshake::{HeadLimits, OpeningRequest, Refusal, ServerOpening, server};
use longwire_proto::{Config, Connection, DeflateParameters, Role};
use mio::unix::SourceFd;

use super::Loop;
use super::admission::Permit;
use super::place::{Place, Stage};
use crate::end::AcceptError;
use crate::engine::conn::Conn;
use crate::engine::entry::Entry;
use crate::engine::handler::{Handler, Opening};
use crate::engine::mailbox::id::Id;
use crate::engine::options::{HttpService, Options};
use crate::engine::socket::http_stream::HttpStream;
use crate::engine::socket::layer::Layer;
use crate::observe::counters::Told;
use crate::observe::trace;

/// When a client that was refused for lack of room may try again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// A connection whose request has not arrived, or not completely.
pub(crate) struct PendingRequest {
    from: SocketAddr,
    pub(crate) since: Instant,
    partial: Option<Box<PartialRequest>>,
}

/// The beginning of a request.
struct PartialRequest {
    input: Vec<u8>,
    opening: ServerOpening,
}

impl PendingRequest {
    pub(crate) const fn new(from: SocketAddr, since: Instant) -> Self {
        Self { from, since, partial: None }
    }
}

/// A request that keeps the rules and the policy, before the application is asked.
pub(crate) struct Checked {
    acceptance: server::Acceptance,
    /// For the response.
    headers: HeaderMap,
    /// The client's address, which a trusted proxy may have reported.
    pub(crate) from: SocketAddr,
}

/// A request that the application has accepted.
pub(crate) struct Accepted<S> {
    request: Request<()>,
    /// The encoded response; empty if the caller of [`Handle::invite`](crate::engine::Handle::invite) responds.
    response: Vec<u8>,
    pub(crate) subprotocol: Option<Box<str>>,
    pub(crate) deflate: Option<DeflateParameters>,
    pub(crate) config: Arc<Config>,
    state: S,
    from: SocketAddr,
    /// One of [`max_connections`](crate::engine::Engine::max_connections).
    room: Permit,
}

/// Runs code of the application. If it panics, the client gets 500.
fn catch_panic<T>(run: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let failed = |_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The application failed."));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(failed)
}

/// Applies what trusted proxies report about the client, and checks the request.
pub(crate) fn check<H>(
    options: &Options<H>,
    opening: &mut OpeningRequest,
    peer: SocketAddr,
) -> Result<Checked, Refusal> {
    let from = apply_proxies(options, &mut opening.request, peer)?;
    let mut headers = HeaderMap::new();
    let acceptance = catch_panic(|| options.acceptor.settings().check(&opening.request, &mut headers))?;
    Ok(Checked { acceptance, headers, from })
}

/// Returns the client's address.
pub(crate) fn apply_proxies<H>(
    options: &Options<H>,
    request: &mut Request<()>,
    peer: SocketAddr,
) -> Result<SocketAddr, Refusal> {
    match &options.proxies {
        Some(proxies) => proxies.apply(peer, request),
        None => Ok(peer),
    }
}

/// Accepts the request if there is room and the application agrees.
pub(crate) fn accept<H: Handler>(
    options: &Options<H>,
    request: Request<()>,
    checked: Checked,
) -> Result<Accepted<H::State>, Refusal> {
    let Checked { acceptance, mut headers, from } = checked;
    let mut accepted = accept_without_response(options, request, from, &mut headers)?;
    acceptance.encode(&headers, &mut accepted.response)?;
    accepted.subprotocol = acceptance.subprotocol().map(Into::into);
    accepted.deflate = acceptance.deflate();
    Ok(accepted)
}

/// Like [`accept`], for a request that somebody else responds to, with what is added to `headers`.
pub(crate) fn accept_without_response<H: Handler>(
    options: &Options<H>,
    request: Request<()>,
    from: SocketAddr,
    headers: &mut HeaderMap,
) -> Result<Accepted<H::State>, Refusal> {
    let room = room(options)?;
    let state = catch_panic(|| options.handler.on_request(&request, from, headers))?;
    let config = Arc::clone(&options.acceptor.settings().config);
    let (response, subprotocol, deflate) = (Vec::new(), None, None);
    Ok(Accepted { request, response, subprotocol, deflate, config, state, from, room })
}

/// Counts and traces a handshake that has failed.
pub(crate) fn not_opened(told: &Told, from: Option<SocketAddr>, error: &AcceptError) {
    told.not_opened(error.reason());
    trace::not_opened(Role::Server, from, error.reason());
}

fn room<H>(options: &Options<H>) -> Result<Permit, Refusal> {
    let Some(most) = options.max_connections else { return Ok(Permit::default()) };
    let permit = Permit::acquire(Arc::clone(&options.connections));
    if options.connections.load(Ordering::Relaxed) <= most {
        return Ok(permit);
    }
    // RFC 9110 15.6.4 and 10.2.3.
    let text = "The server is at its connection limit; try again later.";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).header(header::RETRY_AFTER, RETRY_AFTER))
}

impl<H: Handler> Loop<H> {
    /// Reads, and answers the request when it is complete.
    pub(crate) fn read_request(&mut self, index: u32) {
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &mut place.stage else { return };
        let mut stream = &place.stream;
        if !std::mem::take(&mut place.readable) {
            return;
        }
        // The buffer is larger than the limit of a head, so there is room behind a partial one.
        let before = pending.partial.as_ref().map_or(0, |partial| partial.input.len());
        if let Some(partial) = &pending.partial {
            self.buffer[..before].copy_from_slice(&partial.input);
        }
        let count = match stream.read(&mut self.buffer[before..]) {
            Ok(0) => {
                self.not_opened(index, &AcceptError::Eof);
                return self.drop_pending(index);
            }
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.read_again(index),
            Err(error) => {
                self.not_opened(index, &error.into());
                return self.drop_pending(index);
            }
        };
        let length = before + count;
        let opening = pending.partial.take().map(|partial| partial.opening);
        let mut opening = opening.unwrap_or_else(|| ServerOpening::new(HeadLimits::default()));
        self.read_on(index, length == self.buffer.len());
        match opening.receive(&self.buffer[..length]) {
            Ok(None) => {
                let input = self.buffer[..length].to_vec();
                if let Some(Place { stage: Stage::Pending(pending), .. }) = self.slab.at(index) {
                    pending.partial = Some(Box::new(PartialRequest { input, opening }));
                }
            }
            Ok(Some(opening)) => self.answer(index, opening, length),
            Err(refusal) => self.refuse(index, refusal),
        }
    }

    fn read_again(&mut self, index: u32) {
        if let Some(place) = self.slab.at(index) {
            place.readable = true;
        }
        self.queue(index);
    }

    /// Answers a request, which is at the front of the `length` bytes in the buffer.
    fn answer(&mut self, index: u32, mut opening: OpeningRequest, length: usize) {
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &place.stage else { return };
        let peer = pending.from;
        let options = &*self.options;
        if !opening.is_websocket()
            && let Some(http) = &options.http
        {
            let http = Arc::clone(http);
            return self.hand_over(index, http, length);
        }
        let accepted = match check(options, &mut opening, peer) {
            Ok(checked) if options.on_request.is_some() => {
                return self.run_request_hook(index, opening, checked, length);
            }
            Ok(checked) => {
                let head_length = opening.head_length;
                accept(options, opening.request, checked).map(|accepted| (accepted, head_length))
            }
            Err(refusal) => Err(refusal),
        };
        match accepted {
            Ok((accepted, head_length)) => self.open(index, accepted, None, head_length, length),
            Err(refusal) => self.refuse(index, refusal),
        }
    }

    /// Opens a WebSocket in this place. The bytes that followed the request are in the buffer, from `start` to `length`.
    pub(crate) fn open(
        &mut self,
        index: u32,
        accepted: Accepted<H::State>,
        layer: Option<Layer>,
        start: usize,
        length: usize,
    ) {
        let Accepted { request, response, subprotocol, deflate, config, state, from, room } = accepted;
        let Some(key) = self.slab.key(index) else { return };
        let Some(place) = self.slab.at(index) else { return };
        let mut core = Connection::server(config, self.local.now);
        if let Some(parameters) = deflate {
            core = core.with_deflate(parameters);
        }
        let mut entry = Entry::new(core);
        if layer.is_some() {
            entry.held().layer = layer;
        }
        place.stage = Stage::Open(entry, state);
        room.forget();
        self.told.opened();
        let id = Id { at: self.local.at, key };
        trace::engine_opened(id, from, request.uri().path(), subprotocol.as_deref(), deflate.is_some());
        self.local.counters.bytes_received += (length - start) as u64;
        self.local.out.append_head(&response);
        let opening = Opening { request: &request, subprotocol: subprotocol.as_deref(), deflate };
        let Place { stage: Stage::Open(entry, state), stream, .. } = place else { return };
        let handler = &self.options.handler;
        let mut conn = Conn { key, entry, stream, local: &mut self.local };
        crate::engine::entry::guard(&mut conn, |conn| handler.opened(conn, state, &opening));
        self.arm(index);
        self.work_off(index, start, length);
    }

    /// Ends a connection whose request is not complete in time.
    pub(crate) fn check_request_deadline(&mut self, index: u32) {
        let timeout = self.options.handshake_timeout();
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &place.stage else { return };
        if self.local.now.saturating_duration_since(pending.since) < timeout {
            return;
        }
        let refusal = pending.partial.as_ref().and_then(|partial| partial.opening.time_out());
        self.not_opened(index, &AcceptError::Timeout);
        match refusal {
            Some(refusal) => self.send_refusal(index, refusal),
            None => self.drop_pending(index),
        }
    }

    /// Gives the socket and what was read, the first `length` bytes of the buffer, to the HTTP service.
    fn hand_over(&mut self, index: u32, http: Arc<HttpService>, length: usize) {
        let read = Bytes::copy_from_slice(&self.buffer[..length]);
        self.local.counters.http += 1;
        let Some((stream, permit)) = self.take_stream(index) else { return };
        drop(permit);
        // Called within the task, so that a panic ends only the task.
        self.spawn(async move { http(HttpStream::from(stream), read).await });
    }

    fn refuse(&mut self, index: u32, refusal: Refusal) {
        self.not_opened(index, &AcceptError::Refused(refusal.clone()));
        self.send_refusal(index, refusal);
    }

    fn send_refusal(&mut self, index: u32, refusal: Refusal) {
        let Some((mut stream, permit)) = self.take_stream(index) else { return };
        drop(permit);
        let acceptor = self.options.acceptor.clone();
        self.spawn(async move {
            acceptor.settings().refuse(&mut stream, refusal).await;
        });
    }

    /// Counts and traces a handshake that has failed.
    fn not_opened(&mut self, index: u32, error: &AcceptError) {
        let from = match self.slab.at(index).map(|place| &place.stage) {
            Some(Stage::Pending(pending)) => Some(pending.from),
            _ => None,
        };
        not_opened(&self.told, from, error);
    }

    /// Takes the socket out of the loop, for a task, with the permit that it had there.
    pub(crate) fn take_stream(&mut self, index: u32) -> Option<(tokio::net::TcpStream, Permit)> {
        let place = self.slab.remove(index)?;
        let permit = self.permit();
        self.registry.deregister(&mut SourceFd(&place.stream.as_raw_fd())).ok()?;
        Some((tokio::net::TcpStream::from_std(place.stream).ok()?, permit))
    }

    /// Returns the permit of a connection that is already counted.
    pub(crate) fn permit(&self) -> Permit {
        let connections: &Arc<AtomicUsize> = &self.local.engine.mailbox(self.local.at).connections;
        Permit::of_counted(Arc::clone(connections))
    }

    pub(crate) fn drop_pending(&mut self, index: u32) {
        if self.slab.remove(index).is_some() {
            self.uncount();
        }
    }
}
