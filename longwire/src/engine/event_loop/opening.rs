//! The opening handshake without TLS: from an accepted socket to a WebSocket of the loop, the HTTP service or a refusal.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use longwire_proto::handshake::{HeadLimits, OpeningRequest, Refusal, ServerOpening, server};
use longwire_proto::{Connection, Role};
use mio::unix::SourceFd;

use super::Loop;
use super::admitted::Accepted;
use super::place::{PartialRequest, Place, Stage};
use super::turn::Turn;
use crate::end::AcceptError;
use crate::engine::entry::Entry;
use crate::engine::handler::{Handler, Opening};
use crate::engine::mailbox::id::Id;
use crate::engine::options::{HttpService, Options};
use crate::engine::permit::Permit;
use crate::engine::socket::Layer;
use crate::engine::socket::http_stream::HttpStream;
use crate::observe::counters::Totals;
use crate::observe::trace;

/// When a client that was rejected because the server is full may try again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// A request that keeps the rules and the policy, before the application is asked.
pub(super) struct Checked {
    acceptance: server::Acceptance,
    /// For the response.
    headers: HeaderMap,
    /// The client's address.
    pub(super) from: SocketAddr,
}

/// Calls the application. If it panics, the client gets 500.
fn catch_panic<T>(run: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let failed = |_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The application failed."));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(failed)
}

/// Checks the request, without asking the application whether it accepts it. `peer` is the address of the socket.
pub(super) fn check<H>(
    options: &Options<H>,
    opening: &mut OpeningRequest,
    peer: SocketAddr,
) -> Result<Checked, Refusal> {
    let from = client_address(options, &mut opening.request, peer)?;
    let mut headers = HeaderMap::new();
    let acceptance = catch_panic(|| options.acceptor.settings().check(&opening.request, &mut headers))?;
    Ok(Checked { acceptance, headers, from })
}

/// Accepts the request, if the application does and there is room.
pub(super) fn accept<H: Handler>(
    options: &Options<H>,
    request: Request<()>,
    checked: Checked,
) -> Result<Accepted<H::State>, Refusal> {
    let Checked { acceptance, mut headers, from } = checked;
    let mut accepted = accept_unanswered(options, request, from, &mut headers)?;
    acceptance.encode(&headers, &mut accepted.response)?;
    accepted.subprotocol = acceptance.subprotocol().map(Into::into);
    accepted.deflate = acceptance.deflate();
    Ok(accepted)
}

/// Like [`accept`], for a request that the caller answers, with what is added to `headers`.
pub(super) fn accept_unanswered<H: Handler>(
    options: &Options<H>,
    request: Request<()>,
    from: SocketAddr,
    headers: &mut HeaderMap,
) -> Result<Accepted<H::State>, Refusal> {
    let room = reserve(options)?;
    let state = catch_panic(|| options.handler.on_request(&request, from, headers))?;
    let config = Arc::clone(&options.acceptor.settings().config);
    let (response, subprotocol, deflate) = (Vec::new(), None, None);
    Ok(Accepted { request, response, subprotocol, deflate, config, state, from, room })
}

/// Counts and traces a handshake that has failed.
pub(super) fn not_opened(totals: &Totals, from: Option<SocketAddr>, error: &AcceptError) {
    totals.not_opened(error.reason());
    trace::not_opened(Role::Server, from, error.reason());
}

fn reserve<H>(options: &Options<H>) -> Result<Permit, Refusal> {
    let Some(most) = options.max_connections else { return Ok(Permit::default()) };
    let permit = Permit::acquire(Arc::clone(&options.connections));
    if options.connections.load(Ordering::Relaxed) <= most {
        return Ok(permit);
    }
    // RFC 9110 15.6.4 and 10.2.3.
    let text = "The server is at its connection limit; try again later.";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).header(header::RETRY_AFTER, RETRY_AFTER))
}

/// The client's address: what trusted proxies say, or the socket's.
pub(super) fn client_address<H>(
    options: &Options<H>,
    request: &mut Request<()>,
    from: SocketAddr,
) -> Result<SocketAddr, Refusal> {
    match &options.proxies {
        Some(proxies) => proxies.apply(from, request),
        None => Ok(from),
    }
}

impl<H: Handler> Loop<H> {
    /// Reads on, and answers once the request is complete.
    pub(super) fn read_request(&mut self, index: u32) {
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &mut place.stage else { return };
        let mut stream = &place.stream;
        if !std::mem::take(&mut place.ready.readable) {
            return;
        }
        // No head that is within its limits fills the buffer.
        let before = pending.partial.as_ref().map_or(0, |partial| partial.input.len());
        if let Some(partial) = &pending.partial {
            self.shared.buffer[..before].copy_from_slice(&partial.input);
        }
        let count = match stream.read(&mut self.shared.buffer[before..]) {
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
        // No event reports what a full buffer has left, or the end of a stream that is known to end.
        if length == self.shared.buffer.len() || place.ready.read_closed {
            self.read_again(index);
        }
        match opening.receive(&self.shared.buffer[..length]) {
            Ok(None) => {
                let input = self.shared.buffer[..length].to_vec();
                if let Some(Place { stage: Stage::Pending(pending), .. }) = self.slab.at(index) {
                    pending.partial = Some(Box::new(PartialRequest { input, opening }));
                }
            }
            Ok(Some(opening)) => self.handle_request(index, opening, length),
            Err(refusal) => self.refuse(index, refusal),
        }
    }

    fn read_again(&mut self, index: u32) {
        if let Some(place) = self.slab.at(index) {
            place.ready.readable = true;
        }
        self.queue(index);
    }

    /// Handles a request, which is at the front of the `length` bytes in the buffer.
    fn handle_request(&mut self, index: u32, mut opening: OpeningRequest, length: usize) {
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &place.stage else { return };
        let peer = pending.from;
        let options = &*self.shared.options;
        if !opening.is_websocket()
            && let Some(http) = &options.http
        {
            let http = Arc::clone(http);
            return self.hand_to_http(index, http, length);
        }
        let head_length = opening.head_length;
        let accepted = match check(options, &mut opening, peer) {
            Ok(checked) if options.on_request.is_some() => {
                return self.run_hook_in_task(index, opening, checked, length);
            }
            Ok(checked) => accept(options, opening.request, checked),
            Err(refusal) => Err(refusal),
        };
        match accepted {
            Ok(accepted) => self.open(index, accepted, None, head_length, length),
            Err(refusal) => self.refuse(index, refusal),
        }
    }

    /// Opens a WebSocket in this place. What came behind the request is in the buffer, from `start` to `length`.
    pub(super) fn open(
        &mut self,
        index: u32,
        accepted: Accepted<H::State>,
        layer: Option<Layer>,
        start: usize,
        length: usize,
    ) {
        let Accepted { request, response, subprotocol, deflate, config, state, from, room } = accepted;
        let Some((key, place)) = self.slab.find(index) else { return };
        let local = &mut self.shared.local;
        let mut core = Connection::server(config, local.now);
        if let Some(parameters) = deflate {
            core = core.with_deflate(parameters);
        }
        place.stage = Stage::Open(Entry::new(core, layer), state);
        room.forget();
        self.totals.opened();
        let id = Id { at: local.at, key };
        trace::engine_opened(id, from, request.uri().path(), subprotocol.as_deref(), deflate.is_some());
        local.counters.bytes_received += (length - start) as u64;
        // In front of what the application sends when it is called.
        local.out.append_head(&response);
        let opening = Opening { request: &request, subprotocol: subprotocol.as_deref(), deflate };
        let Some(mut turn) = Turn::new(key, place, &mut self.shared) else { return };
        turn.call(|conn, state, handler| handler.opened(conn, state, &opening));
        turn.schedule();
        let after = turn.process(start, length);
        self.conclude(index, after);
    }

    /// Puts a connection whose request is not complete into the wheel.
    pub(super) fn schedule_request(&mut self, index: u32) {
        let Some(Place { stage: Stage::Pending(pending), armed, .. }) = self.slab.at(index) else { return };
        if let Some(due) = pending.since.checked_add(self.shared.options.handshake_timeout()) {
            self.shared.wheel.arm(index, armed, due);
        }
    }

    /// Rejects a request that is not complete in time.
    pub(super) fn check_request_deadline(&mut self, index: u32) {
        let timeout = self.shared.options.handshake_timeout();
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Pending(pending) = &place.stage else { return };
        if self.shared.local.now.saturating_duration_since(pending.since) < timeout {
            return self.schedule_request(index);
        }
        let refusal = pending.partial.as_ref().and_then(|partial| partial.opening.time_out());
        self.not_opened(index, &AcceptError::Timeout);
        match refusal {
            Some(refusal) => self.write_refusal(index, refusal),
            None => self.drop_pending(index),
        }
    }

    /// Gives the socket and what was read, the first `length` bytes of the buffer, to the HTTP service.
    fn hand_to_http(&mut self, index: u32, http: Arc<HttpService>, length: usize) {
        let read = Bytes::copy_from_slice(&self.shared.buffer[..length]);
        self.shared.local.counters.http += 1;
        let Some((stream, permit)) = self.take_stream(index) else { return };
        drop(permit);
        // Called in the task: if it panics, only the task ends.
        self.spawn(async move { http(HttpStream::from(stream), read).await });
    }

    fn refuse(&mut self, index: u32, refusal: Refusal) {
        self.not_opened(index, &AcceptError::Refused(refusal.clone()));
        self.write_refusal(index, refusal);
    }

    fn write_refusal(&mut self, index: u32, refusal: Refusal) {
        let Some((mut stream, permit)) = self.take_stream(index) else { return };
        drop(permit);
        let acceptor = self.shared.options.acceptor.clone();
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
        not_opened(&self.totals, from, error);
    }

    /// Takes the socket out of the loop, for a task, with the permit of a connection that is counted.
    pub(super) fn take_stream(&mut self, index: u32) -> Option<(tokio::net::TcpStream, Permit)> {
        let place = self.slab.remove(index)?;
        let permit = self.permit();
        self.registry.deregister(&mut SourceFd(&place.stream.as_raw_fd())).ok()?;
        Some((tokio::net::TcpStream::from_std(place.stream).ok()?, permit))
    }

    /// The permit of a connection that is counted.
    pub(super) fn permit(&self) -> Permit {
        let connections: &Arc<AtomicUsize> =
            &self.shared.local.engine.mailbox(self.shared.local.at).connections;
        Permit::of_counted(Arc::clone(connections))
    }

    pub(super) fn drop_pending(&mut self, index: u32) {
        if self.slab.remove(index).is_some() {
            self.uncount();
        }
    }
}
