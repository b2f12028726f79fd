//! Tasks that open connections on the thread of a loop: TLS handshakes, the application's asynchronous hook, HTTP and
//! refusals. They pass the connections that they accept to the loop.

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
use longwire_proto::handshake::{MAX_READ_AHEAD, OpeningRequest, Refusal};
use tokio::io::AsyncRead;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Loop;
use super::opening::{Accepted, Checked, PendingRequest, accept, not_opened};
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

/// The peer address of a connection whose request has been accepted elsewhere. It is not read.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One of a counted number of connections, returned when it is dropped.
#[derive(Default)]
pub(crate) struct Permit(Option<Arc<AtomicUsize>>);

impl Permit {
    /// Counts one more.
    pub(crate) fn acquire(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self::of_counted(count)
    }

    /// Owns one that is counted already.
    pub(crate) const fn of_counted(count: Arc<AtomicUsize>) -> Self {
        Self(Some(count))
    }

    /// Keeps it counted: another owner returns it.
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

/// What a loop and its tasks share.
pub(crate) struct TaskState<S> {
    admitted: RefCell<Vec<Admission<S>>>,
    pub(crate) invited: RefCell<Invitations<S>>,
    opening: Cell<u64>,
    #[cfg(feature = "tls")]
    http: Cell<u64>,
    #[cfg(feature = "tls")]
    pub(crate) tls_failed: Cell<u64>,
    /// Cancelled when no more connections are accepted.
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

/// A connection that has been accepted and is on its way to the loop.
pub(crate) struct Admission<S> {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) layer: Option<Layer>,
    pub(crate) accepted: Accepted<S>,
    /// The bytes that followed the request.
    pub(crate) input: Bytes,
    pub(crate) permit: Permit,
}

/// What happens with a connection next.
pub(crate) enum Next<S> {
    #[cfg(feature = "tls")]
    Http(HttpStream, Bytes),
    Admit(HttpStream, Bytes, Box<Accepted<S>>),
    Refuse(Handshake<HttpStream>, Refusal),
    Nothing,
}

/// A task that opens a connection.
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
    /// Asks the application about a request.
    pub(crate) async fn decide(
        &self,
        mut handshake: Handshake<HttpStream>,
        checked: Checked,
    ) -> Next<H::State> {
        let mut input = handshake.input.split_off(handshake.opening.head_length);
        if self.options.on_request.is_some() {
            let asked = self.run_request_hook(&mut handshake.opening.request, checked.from);
            match unless(asked, disconnected(&mut handshake.stream, &mut input)).await {
                Some(Ok(())) => {}
                Some(Err(refusal)) => return Next::Refuse(handshake, refusal),
                None => return Next::Nothing,
            }
        }
        let request = std::mem::take(&mut handshake.opening.request);
        match accept(&self.options, request, checked) {
            Ok(accepted) => Next::Admit(handshake.stream, input.freeze(), Box::new(accepted)),
            Err(refusal) => Next::Refuse(handshake, refusal),
        }
    }

    /// Runs [`Engine::on_request`](crate::engine::Engine::on_request), whose extensions are added to the request.
    pub(crate) async fn run_request_hook(
        &self,
        request: &mut Request<()>,
        from: SocketAddr,
    ) -> Result<(), Refusal> {
        let Some(hook) = &self.options.on_request else { return Ok(()) };
        let asked = timeout(self.options.handshake_timeout(), hook(request.clone(), from)).await;
        // RFC 9110 15.6.4.
        let late = |_| {
            let text = "The server could not decide about the request in time; try again later.";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
                .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        };
        request.extensions_mut().extend(asked.map_err(late)??);
        Ok(())
    }

    /// Does what comes next.
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
                // The refusal is counted already.
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

    /// Passes it to the loop, which looks for it when this task is dropped.
    pub(crate) fn admit(&self, admission: Admission<H::State>) {
        self.tasks.admitted.borrow_mut().push(admission);
    }
}

/// Returns the output of `future`, or `None` if `end` is ready first.
pub(crate) async fn unless<T>(future: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Waits until the client disconnects. Keeps what it sends meanwhile, up to the limit and one block more.
async fn disconnected<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) {
    while input.len() < MAX_READ_AHEAD {
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

    /// Asks the application in a task about a request, which is at the front of the `length` bytes in the buffer.
    pub(crate) fn run_request_hook(
        &mut self,
        index: u32,
        opening: OpeningRequest,
        checked: Checked,
        length: usize,
    ) {
        let input = BytesMut::from(&self.buffer[..length]);
        let Some((stream, permit)) = self.take_stream(index) else { return };
        let settings = Arc::clone(self.options.acceptor.settings());
        let (stream, opening) = (HttpStream::from(stream), Box::new(opening));
        let handshake = Handshake { settings, stream, input, opening };
        let task = self.task();
        self.spawn(async move {
            let closing = task.tasks.closing.clone();
            let decided = Box::pin(closing.run_until_cancelled(task.decide(handshake, checked))).await;
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

    /// Opens the connections that the tasks have accepted.
    pub(crate) fn open_admitted(&mut self) {
        for admission in self.tasks.admitted.take() {
            self.open_in_loop(admission);
        }
    }

    /// Opens a WebSocket whose request has been accepted in a task.
    pub(crate) fn open_in_loop(&mut self, admission: Admission<H::State>) {
        let Admission { stream, layer, accepted, input, permit } = admission;
        // A task reads at most a head, the bytes behind it up to the limit, and a block.
        if self.draining.is_some() || input.len() > self.buffer.len() {
            return;
        }
        self.buffer[..input.len()].copy_from_slice(&input);
        let pending = PendingRequest::new(UNKNOWN, self.local.now);
        let Some(index) = self.put(stream, Stage::Pending(pending)) else { return };
        permit.forget();
        // TLS may hold bytes already, of which the system does not tell.
        if let Some(place) = self.slab.at(index) {
            place.readable = true;
        }
        self.queue(index);
        self.open(index, accepted, layer, 0, input.len());
    }

    /// Adds what the tasks have counted since the last call.
    pub(crate) fn count_tasks(&mut self) {
        let (counters, tasks) = (&mut self.local.counters, &self.tasks);
        counters.opening = tasks.opening.get();
        #[cfg(feature = "tls")]
        {
            counters.http += tasks.http.take();
            counters.tls_failed += tasks.tls_failed.take();
        }
    }
}
