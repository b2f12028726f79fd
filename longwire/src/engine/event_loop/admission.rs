//! What runs in tasks beside a loop, on its thread: TLS handshakes, verdicts that wait for somebody, HTTP, refusals. What
//! they let in they give to the loop.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header};
use longwire_proto::handshake::{Refusal, server};
use tokio::io::AsyncRead;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Loop;
use super::opening::{Accepted, PendingRequest, let_in, not_opened};
use super::place::Stage;
use crate::end::AcceptError;
use crate::engine::adopt::Invitations;
use crate::engine::handler::Handler;
use crate::engine::mailbox::command::Command;
use crate::engine::mailbox::handle::Handle;
use crate::engine::options::Options;
use crate::engine::socket::http_stream::HttpStream;
use crate::engine::socket::layer::Layer;
use crate::net::http_head::read_some;
use crate::server::accept::Handshake;

/// Bytes that are taken of a client while the verdict on it is waited for, and one block more; then it is not read
/// from.
const MEANWHILE: usize = 16 * 1024;

/// Who was greeted elsewhere has no address to be greeted at.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One of a bounded or counted number, given back when it is dropped.
#[derive(Default)]
pub(crate) struct Permit(Option<Arc<AtomicUsize>>);

impl Permit {
    /// One more.
    pub(crate) fn acquire(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self::of_counted(count)
    }

    /// One that is counted already.
    pub(crate) const fn of_counted(count: Arc<AtomicUsize>) -> Self {
        Self(Some(count))
    }

    /// It stays counted: somebody else gives it back.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What a loop and the tasks beside it share.
pub(crate) struct TaskState<S> {
    admitted: RefCell<Vec<Admission<S>>>,
    pub(crate) invited: RefCell<Invitations<S>>,
    opening: Cell<u64>,
    #[cfg(feature = "tls")]
    http: Cell<u64>,
    #[cfg(feature = "tls")]
    pub(crate) tls_failed: Cell<u64>,
    /// Nobody is let in any more.
    pub(crate) closing: CancellationToken,
}

impl<S> Default for TaskState<S> {
    fn default() -> Self {
        Self {
            admitted: RefCell::default(),
            invited: RefCell::default(),
            opening: Cell::default(),
            #[cfg(feature = "tls")]
            http: Cell::default(),
            #[cfg(feature = "tls")]
            tls_failed: Cell::default(),
            closing: CancellationToken::new(),
        }
    }
}

/// A connection that is let in.
pub(crate) struct Admission<S> {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) layer: Option<Layer>,
    pub(crate) accepted: Accepted<S>,
    /// What has come behind the request.
    pub(crate) input: Bytes,
    pub(crate) permit: Permit,
}

/// What a connection is for.
pub(crate) enum Next<S> {
    #[cfg(feature = "tls")]
    Http(HttpStream, Bytes),
    Admit(HttpStream, Bytes, Box<Accepted<S>>),
    Refuse(Handshake<HttpStream>, Refusal),
    Nothing,
}

/// Where a task is that opens connections.
pub(crate) struct OpeningTask<H: Handler> {
    pub(crate) options: Arc<Options<H>>,
    pub(crate) tasks: Rc<TaskState<H::State>>,
    pub(crate) engine: Handle,
    pub(crate) at: u16,
}

impl<H: Handler> Drop for OpeningTask<H> {
    fn drop(&mut self) {
        self.tasks.opening.set(self.tasks.opening.get() - 1);
        if let Some(mailbox) = self.engine.mailboxes().get(self.at) {
            // A loop that has ended has nothing to look at.
            let _ = mailbox.push(Command::OpenAdmitted);
        }
    }
}

pub(crate) fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl<H: Handler> OpeningTask<H> {
    /// Lets in a client whose request is good, or not.
    pub(crate) async fn decide(
        &self,
        mut handshake: Handshake<HttpStream>,
        from: SocketAddr,
        checked: (server::Acceptance, http::HeaderMap),
    ) -> Next<H::State> {
        let mut input = handshake.input.split_off(handshake.head);
        if self.options.on_request.is_some() {
            let asked = self.run_request_hook(&mut handshake.request, from);
            match unless(asked, leaves(&mut handshake.stream, &mut input)).await {
                Some(Ok(())) => {}
                Some(Err(refusal)) => return Next::Refuse(handshake, refusal),
                None => return Next::Nothing,
            }
        }
        match let_in(&self.options, (*handshake.request).clone(), from, checked) {
            Ok(accepted) => Next::Admit(handshake.stream, input.freeze(), Box::new(accepted)),
            Err(refusal) => Next::Refuse(handshake, refusal),
        }
    }

    /// Asks whom the application wants to be asked, and puts into the request what they say.
    pub(crate) async fn run_request_hook(
        &self,
        request: &mut Request<()>,
        from: SocketAddr,
    ) -> Result<(), Refusal> {
        let Some(hook) = &self.options.on_request else { return Ok(()) };
        let asked = timeout(self.options.handshake_timeout(), hook(request.clone(), from)).await;
        // RFC 9110 15.6.4.
        let late = |_| {
            let text = "Whether this connection is allowed could not be found out in time.";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
                .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        };
        request.extensions_mut().extend(asked.map_err(late)??);
        Ok(())
    }

    /// Does what is next.
    pub(crate) async fn go_on(self, next: Next<H::State>, permit: Permit) {
        match next {
            Next::Nothing => {}
            Next::Admit(stream, input, accepted) => {
                if let Ok((stream, layer)) = stream.into_parts() {
                    self.admit(Admission { stream, layer, accepted: *accepted, input, permit });
                }
            }
            Next::Refuse(handshake, refusal) => {
                let told = &self.engine.mailbox(self.at).told;
                let from = handshake.stream().peer_addr().ok();
                not_opened(told, from, &AcceptError::Refused(refusal.clone()));
                drop((self, permit));
                // It is counted already.
                handshake.write_refusal(refusal).await;
            }
            #[cfg(feature = "tls")]
            Next::Http(stream, read) => {
                count(&self.tasks.http);
                let http = self.options.http.clone();
                drop((self, permit));
                if let Some(http) = http {
                    http(stream, read).await;
                }
            }
        }
    }

    /// Gives it to the loop, which looks when this is dropped.
    pub(crate) fn admit(&self, admission: Admission<H::State>) {
        self.tasks.admitted.borrow_mut().push(admission);
    }
}

/// What comes of `future`, unless `end` comes first.
pub(crate) async fn unless<T>(future: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Waits until a client leaves, and keeps a little of what it sends meanwhile.
async fn leaves<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) {
    while input.len() < MEANWHILE {
        if !matches!(read_some(stream, input).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending().await
}

impl<H: Handler> Loop<H> {
    pub(crate) fn task(&self) -> OpeningTask<H> {
        count(&self.tasks.opening);
        OpeningTask {
            options: Arc::clone(&self.options),
            tasks: Rc::clone(&self.tasks),
            engine: self.local.engine.clone(),
            at: self.local.at,
        }
    }

    /// Asks about a client, whose request is good and in the first `head` of `length` bytes in the buffer.
    pub(crate) fn wait_for_verdict(
        &mut self,
        index: u32,
        request: Request<()>,
        from: SocketAddr,
        checked: (server::Acceptance, http::HeaderMap),
        head: usize,
        length: usize,
    ) {
        let input = BytesMut::from(&self.buffer[..length]);
        let Some((stream, permit)) = self.take_stream(index) else { return };
        let settings = Arc::clone(self.options.acceptor.settings());
        let (stream, request) = (HttpStream::from(stream), Box::new(request));
        let handshake = Handshake { settings, stream, input, head, request };
        let task = self.task();
        self.spawn(async move {
            let closing = task.tasks.closing.clone();
            let decided = Box::pin(closing.run_until_cancelled(task.decide(handshake, from, checked))).await;
            if let Some(next) = decided {
                task.go_on(next, permit).await;
            }
        });
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let held = Rc::clone(&self.tasks);
        tokio::task::spawn_local(async move {
            task.await;
            drop(held);
        });
    }

    /// Takes what the tasks have let in.
    pub(crate) fn look_beside(&mut self) {
        for admission in self.tasks.admitted.take() {
            self.take_in(admission);
        }
    }

    /// A WebSocket begins here whose request has been accepted elsewhere.
    pub(crate) fn take_in(&mut self, admission: Admission<H::State>) {
        let Admission { stream, layer, accepted, input, permit } = admission;
        // Of what has come, no more than a block and a head was read.
        if self.draining.is_some() || input.len() > self.buffer.len() {
            return;
        }
        self.buffer[..input.len()].copy_from_slice(&input);
        let pending = PendingRequest::new(NOBODY, self.local.now);
        let Some(index) = self.put(stream, Stage::Pending(pending)) else { return };
        permit.forget();
        // What lies between may hold something already, of which the system does not tell.
        if let Some(place) = self.slab.at(index) {
            place.readable = true;
        }
        self.queue(index);
        self.open(index, accepted, layer, 0, input.len());
    }

    /// What the tasks have done since they were asked.
    pub(crate) fn count_beside(&mut self) {
        let (counters, tasks) = (&mut self.local.counters, &self.tasks);
        counters.opening = tasks.opening.get();
        #[cfg(feature = "tls")]
        {
            counters.http += tasks.http.take();
            counters.tls_failed += tasks.tls_failed.take();
        }
    }
}
