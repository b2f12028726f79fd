//! The opening handshake: from an accepted socket to a WebSocket of the loop, or to whoever else it is for.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use longwire_proto::handshake::{HeadLimits, HeadReader, Refusal, server};
use longwire_proto::{Connection, Role};
use mio::unix::SourceFd;

use super::conn::{Conn, Entry};
use super::event_loop::{Loop, Place, What};
use super::handler::{Handler, Opening};
use super::links::Id;
use crate::accept::Settings;
use crate::cause;
use crate::error::AcceptError;
use crate::trace;

/// A connection whose request has not come, or not whole.
pub(super) struct Greeting {
    from: SocketAddr,
    pub(super) since: Instant,
    begun: Option<Box<Begun>>,
}

/// The beginning of a head.
struct Begun {
    input: Vec<u8>,
    reader: HeadReader,
}

impl Greeting {
    pub(super) const fn new(from: SocketAddr, since: Instant) -> Self {
        Self { from, since, begun: None }
    }
}

/// What a request is for.
enum Verdict<S> {
    WebSocket(Box<Accepted<S>>),
    Http,
    Refused(Refusal),
}

struct Accepted<S> {
    request: Request<()>,
    acceptance: server::Acceptance,
    response: http::Response<()>,
    state: S,
}

impl<H: Handler> Loop<H> {
    /// Reads on, and answers when the request is whole.
    pub(super) fn greet(&mut self, index: u32) {
        let Some(place) = self.slab.at(index) else { return };
        let What::Greeting(greeting) = &mut place.what else { return };
        let mut stream = &place.stream;
        if !std::mem::take(&mut place.readable) {
            return;
        }
        // No head that is within its limits fills the buffer.
        let before = greeting.begun.as_ref().map_or(0, |begun| begun.input.len());
        if let Some(begun) = &greeting.begun {
            self.buffer[..before].copy_from_slice(&begun.input);
        }
        let count = match stream.read(&mut self.buffer[before..]) {
            Ok(0) => {
                self.not_opened(index, &AcceptError::Eof);
                return self.forget_greeting(index);
            }
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.read_again(index),
            Err(error) => {
                self.not_opened(index, &error.into());
                return self.forget_greeting(index);
            }
        };
        let length = before + count;
        let limits = HeadLimits::default();
        let reader = greeting.begun.take().map(|begun| begun.reader);
        let mut reader = reader.unwrap_or_else(|| HeadReader::for_request(limits));
        self.read_on(index, length == self.buffer.len());
        match reader.scan(&self.buffer[..length]) {
            Ok(None) => {
                let input = self.buffer[..length].to_vec();
                if let Some(Place { what: What::Greeting(greeting), .. }) = self.slab.at(index) {
                    greeting.begun = Some(Box::new(Begun { input, reader }));
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
        let What::Greeting(greeting) = &place.what else { return };
        let from = greeting.from;
        match self.judge(&self.buffer[..head], from) {
            Verdict::WebSocket(accepted) => self.open(index, from, *accepted, head, length),
            Verdict::Http => self.hand_over(index, length),
            Verdict::Refused(refusal) => self.refuse(index, refusal),
        }
    }

    fn judge(&self, head: &[u8], from: SocketAddr) -> Verdict<H::State> {
        let request = match server::parse_request(head, HeadLimits::default()) {
            Ok(request) => request,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        if !server::is_websocket(&request) {
            return Verdict::Http;
        }
        let mut headers = HeaderMap::new();
        let settings = self.options.acceptor.settings();
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let acceptance = settings.judge(&request, &mut headers)?;
            let state = self.options.handler.request(&request, from, &mut headers)?;
            let response = Settings::response(&acceptance, &headers)?;
            Ok((acceptance, state, response))
        }));
        let failed = |_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The application failed."));
        match asked.unwrap_or_else(failed) {
            Ok((acceptance, state, response)) => {
                Verdict::WebSocket(Box::new(Accepted { request, acceptance, response, state }))
            }
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    fn open(
        &mut self,
        index: u32,
        from: SocketAddr,
        accepted: Accepted<H::State>,
        head: usize,
        length: usize,
    ) {
        let Accepted { request, acceptance, response, state } = accepted;
        let Some(key) = self.slab.key(index) else { return };
        let Some(place) = self.slab.at(index) else { return };
        let config = Arc::clone(&self.options.acceptor.settings().config);
        let mut core = Connection::server(config, self.local.now);
        if let Some(parameters) = acceptance.deflate() {
            core = core.with_deflate(parameters);
        }
        place.what = What::Open(Entry::new(core), state);
        self.told.opened();
        let (path, subprotocol) = (request.uri().path(), acceptance.subprotocol());
        let id = Id { at: self.local.at, key };
        trace::engine_opened(id, from, path, subprotocol, acceptance.deflate().is_some());
        self.local.counters.bytes_received += (length - head) as u64;
        let mut encoded = Vec::new();
        server::encode_response(&response, &mut encoded);
        self.local.out.append_head(&encoded);
        let opening = Opening {
            request: &request,
            subprotocol: acceptance.subprotocol(),
            deflate: acceptance.deflate(),
        };
        let Place { what: What::Open(entry, state), stream, .. } = place else { return };
        let handler = &self.options.handler;
        let mut conn = Conn { key, entry, stream, local: &mut self.local };
        super::turn::guard(&mut conn, |conn| handler.opened(conn, state, &opening));
        self.arm(index);
        self.work_off(index, head, length);
    }

    /// The request is not whole in time.
    pub(super) fn greeting_due(&mut self, index: u32) {
        let timeout = self.options.handshake_timeout();
        let Some(place) = self.slab.at(index) else { return };
        let What::Greeting(greeting) = &place.what else { return };
        if self.local.now.saturating_duration_since(greeting.since) < timeout {
            return;
        }
        if greeting.begun.is_none() {
            self.not_opened(index, &AcceptError::Timeout);
            return self.forget_greeting(index);
        }
        let refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, "The request was not complete in time.");
        self.refuse(index, refusal);
    }

    /// Gives the socket and what was read, the first `length` bytes of the buffer, to the HTTP service.
    fn hand_over(&mut self, index: u32, length: usize) {
        let Some(http) = &self.options.http else {
            // No upgrade is asked for: that is what is wrong.
            let refusal = Refusal::new(
                StatusCode::UPGRADE_REQUIRED,
                "This is a WebSocket endpoint: the request needs Upgrade: websocket (RFC 6455 4.2.1).",
            );
            return self.refuse(index, refusal);
        };
        let http = Arc::clone(http);
        let read = Bytes::copy_from_slice(&self.buffer[..length]);
        self.local.counters.http += 1;
        let Some(stream) = self.take_stream(index) else { return };
        // Called in the task: should it panic, only that ends.
        self.spawn(async move { http(stream, read).await });
    }

    fn refuse(&mut self, index: u32, refusal: Refusal) {
        self.not_opened(index, &AcceptError::Refused(refusal.clone()));
        let Some(mut stream) = self.take_stream(index) else { return };
        let acceptor = self.options.acceptor.clone();
        self.spawn(async move {
            acceptor.settings().refuse(&mut stream, refusal).await;
        });
    }

    /// Counts and traces a handshake that has failed.
    fn not_opened(&mut self, index: u32, error: &AcceptError) {
        self.told.not_opened(cause::reason(error.status(), error.cause()));
        let from = match self.slab.at(index).map(|place| &place.what) {
            Some(What::Greeting(greeting)) => Some(greeting.from),
            _ => None,
        };
        trace::not_opened(Role::Server, from, error.status(), error.cause());
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let held = Rc::clone(&self.tasks);
        tokio::task::spawn_local(async move {
            task.await;
            drop(held);
        });
    }

    /// Takes the socket out of the loop, for the runtime beside it.
    fn take_stream(&mut self, index: u32) -> Option<tokio::net::TcpStream> {
        let place = self.slab.remove(index)?;
        self.uncount();
        self.registry.deregister(&mut SourceFd(&place.stream.as_raw_fd())).ok()?;
        tokio::net::TcpStream::from_std(place.stream).ok()
    }

    pub(super) fn forget_greeting(&mut self, index: u32) {
        if self.slab.remove(index).is_some() {
            self.uncount();
        }
    }
}
