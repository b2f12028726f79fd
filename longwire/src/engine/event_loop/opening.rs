//! The opening handshake: from an accepted socket to a WebSocket of the loop, or to whoever else it is for.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use longwire_proto::handshake::{HeadLimits, HeadReader, Refusal, server};
use longwire_proto::{Connection, DeflateParameters, Role};
use mio::unix::SourceFd;

use super::Loop;
use super::admission::Permit;
use super::place::{Place, Stage};
use crate::end::AcceptError;
use crate::engine::conn::Conn;
use crate::engine::entry::Entry;
use crate::engine::handler::{Handler, Opening};
use crate::engine::mailbox::id::Id;
use crate::engine::options::Options;
use crate::engine::socket::http_stream::HttpStream;
use crate::engine::socket::layer::Layer;
use crate::observe::counters::Told;
use crate::observe::trace;
use crate::server::accept::Settings;

/// When those who were not let in may come again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// A connection whose request has not come, or not whole.
pub(crate) struct PendingRequest {
    from: SocketAddr,
    pub(crate) since: Instant,
    partial: Option<Box<PartialHead>>,
}

/// The beginning of a head.
struct PartialHead {
    input: Vec<u8>,
    reader: HeadReader,
}

impl PendingRequest {
    pub(crate) const fn new(from: SocketAddr, since: Instant) -> Self {
        Self { from, since, partial: None }
    }
}

/// A request that the application has let in.
pub(crate) struct Accepted<S> {
    request: Request<()>,
    /// The head that answers it; empty where somebody else answers.
    answer: Vec<u8>,
    pub(crate) subprotocol: Option<Box<str>>,
    pub(crate) deflate: Option<DeflateParameters>,
    state: S,
    from: SocketAddr,
    /// One of [`max_connections`](crate::engine::Engine::max_connections).
    room: Permit,
}

/// Runs what belongs to the application; should it panic, the client is told.
fn guard<T>(run: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let failed = |_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The application failed."));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(failed)
}

/// Whether the request is a good one, and the headers that are added to its answer.
pub(crate) fn check<H>(
    options: &Options<H>,
    request: &Request<()>,
) -> Result<(server::Acceptance, HeaderMap), Refusal> {
    let mut headers = HeaderMap::new();
    let acceptance = guard(|| options.acceptor.settings().judge(request, &mut headers))?;
    Ok((acceptance, headers))
}

/// Lets it in, if the application wants to and there is room.
pub(crate) fn let_in<H: Handler>(
    options: &Options<H>,
    request: Request<()>,
    from: SocketAddr,
    (acceptance, mut headers): (server::Acceptance, HeaderMap),
) -> Result<Accepted<H::State>, Refusal> {
    let room = room(options)?;
    guard(|| {
        let state = options.handler.on_request(&request, from, &mut headers)?;
        let response = Settings::response(&acceptance, &headers)?;
        let mut answer = Vec::new();
        server::encode_response(&response, &mut answer);
        let subprotocol = acceptance.subprotocol().map(Into::into);
        Ok(Accepted { request, answer, subprotocol, deflate: acceptance.deflate(), state, from, room })
    })
}

/// As [`let_in`], of a request that somebody else answers, with these headers besides.
pub(crate) fn let_in_unanswered<H: Handler>(
    options: &Options<H>,
    request: Request<()>,
    from: SocketAddr,
) -> Result<(Accepted<H::State>, HeaderMap), Refusal> {
    let room = room(options)?;
    let mut headers = HeaderMap::new();
    let state = guard(|| options.handler.on_request(&request, from, &mut headers))?;
    let (answer, subprotocol, deflate) = (Vec::new(), None, None);
    Ok((Accepted { request, answer, subprotocol, deflate, state, from, room }, headers))
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
    let text = "This server has as many connections as it may have: come again later.";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).header(header::RETRY_AFTER, RETRY_AFTER))
}

/// Who a request is from, and what trusted proxies say of it.
pub(crate) fn arrive<H>(
    options: &Options<H>,
    request: &mut Request<()>,
    from: SocketAddr,
) -> Result<SocketAddr, Refusal> {
    match &options.proxies {
        Some(proxies) => proxies.apply(from, request),
        None => Ok(from),
    }
}

/// The answer where there is no HTTP service: that no upgrade is asked for is what is wrong.
pub(crate) fn upgrade_required() -> Refusal {
    Refusal::new(
        StatusCode::UPGRADE_REQUIRED,
        "This is a WebSocket endpoint: the request needs Upgrade: websocket (RFC 6455 4.2.1).",
    )
}

impl<H: Handler> Loop<H> {
    /// Reads on, and answers when the request is whole.
    pub(crate) fn read_request(&mut self, index: u32) {
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &mut place.stage else { return };
        let mut stream = &place.stream;
        if !std::mem::take(&mut place.readable) {
            return;
        }
        // No head that is within its limits fills the buffer.
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
        let limits = HeadLimits::default();
        let reader = pending.partial.take().map(|partial| partial.reader);
        let mut reader = reader.unwrap_or_else(|| HeadReader::for_request(limits));
        self.read_on(index, length == self.buffer.len());
        match reader.scan(&self.buffer[..length]) {
            Ok(None) => {
                let input = self.buffer[..length].to_vec();
                if let Some(Place { stage: Stage::Pending(pending), .. }) = self.slab.at(index) {
                    pending.partial = Some(Box::new(PartialHead { input, reader }));
                }
            }
            Ok(Some(head)) => self.answer(index, head, length),
            Err(error) => self.refuse(index, error.into()),
        }
    }

    fn read_again(&mut self, index: u32) {
        if let Some(place) = self.slab.at(index) {
            place.readable = true;
        }
        self.queue(index);
    }

    /// The request is in the first `head` of `length` bytes in the buffer.
    fn answer(&mut self, index: u32, head: usize, length: usize) {
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &place.stage else { return };
        let from = pending.from;
        let mut request = match server::parse_request(&self.buffer[..head], HeadLimits::default()) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(index, refusal),
        };
        if !server::is_websocket(&request) {
            return self.hand_over(index, length);
        }
        let options = &*self.options;
        let checked =
            arrive(options, &mut request, from).and_then(|from| Ok((from, check(options, &request)?)));
        let accepted = match checked {
            Ok((from, checked)) if options.on_request.is_some() => {
                return self.wait_for_verdict(index, request, from, checked, head, length);
            }
            Ok((from, checked)) => let_in(options, request, from, checked),
            Err(refusal) => Err(refusal),
        };
        match accepted {
            Ok(accepted) => self.open(index, accepted, None, head, length),
            Err(refusal) => self.refuse(index, refusal),
        }
    }

    /// A WebSocket begins in this place. What has come behind the request is in the buffer, from `start` to `length`.
    pub(crate) fn open(
        &mut self,
        index: u32,
        accepted: Accepted<H::State>,
        layer: Option<Layer>,
        start: usize,
        length: usize,
    ) {
        let Accepted { request, answer, subprotocol, deflate, state, from, room } = accepted;
        let Some(key) = self.slab.key(index) else { return };
        let Some(place) = self.slab.at(index) else { return };
        let config = Arc::clone(&self.options.acceptor.settings().config);
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
        self.local.out.append_head(&answer);
        let opening = Opening { request: &request, subprotocol: subprotocol.as_deref(), deflate };
        let Place { stage: Stage::Open(entry, state), stream, .. } = place else { return };
        let handler = &self.options.handler;
        let mut conn = Conn { key, entry, stream, local: &mut self.local };
        crate::engine::entry::guard(&mut conn, |conn| handler.opened(conn, state, &opening));
        self.arm(index);
        self.work_off(index, start, length);
    }

    /// The request is not whole in time.
    pub(crate) fn check_request_deadline(&mut self, index: u32) {
        let timeout = self.options.handshake_timeout();
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &place.stage else { return };
        if self.local.now.saturating_duration_since(pending.since) < timeout {
            return;
        }
        let is_silent = pending.partial.is_none();
        self.not_opened(index, &AcceptError::Timeout);
        if is_silent {
            return self.drop_pending(index);
        }
        let refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, "The request was not complete in time.");
        self.tell_refused(index, refusal);
    }

    /// Gives the socket and what was read, the first `length` bytes of the buffer, to the HTTP service.
    fn hand_over(&mut self, index: u32, length: usize) {
        let Some(http) = &self.options.http else { return self.refuse(index, upgrade_required()) };
        let http = Arc::clone(http);
        let read = Bytes::copy_from_slice(&self.buffer[..length]);
        self.local.counters.http += 1;
        let Some((stream, permit)) = self.take_stream(index) else { return };
        drop(permit);
        // Called in the task: should it panic, only that ends.
        self.spawn(async move { http(HttpStream::from(stream), read).await });
    }

    fn refuse(&mut self, index: u32, refusal: Refusal) {
        self.not_opened(index, &AcceptError::Refused(refusal.clone()));
        self.tell_refused(index, refusal);
    }

    fn tell_refused(&mut self, index: u32, refusal: Refusal) {
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

    /// Takes the socket out of the loop, for the runtime beside it, and the permit that it has had there.
    pub(crate) fn take_stream(&mut self, index: u32) -> Option<(tokio::net::TcpStream, Permit)> {
        let place = self.slab.remove(index)?;
        let permit = self.permit();
        self.registry.deregister(&mut SourceFd(&place.stream.as_raw_fd())).ok()?;
        Some((tokio::net::TcpStream::from_std(place.stream).ok()?, permit))
    }

    /// That of a connection which was counted.
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
