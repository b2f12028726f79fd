//! Tasks beside a loop, on its thread: TLS handshakes, the application's request hook, HTTP, refusals. What they admit
//! goes to the loop.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header};
use longwire_proto::handshake::{MAX_READ_AHEAD, OpeningRequest, Refusal};
use tokio::io::AsyncRead;
use tokio::time::timeout;

use super::Loop;
use super::admitted::{Accepted, Admission, TaskState};
use super::opening::{Checked, accept, not_opened};
use super::place::{PendingRequest, Stage};
use crate::end::AcceptError;
use crate::engine::handler::Handler;
use crate::engine::mailbox::command::Command;
use crate::engine::mailbox::handle::Handle;
use crate::engine::options::Options;
use crate::engine::permit::Permit;
use crate::engine::socket::http_stream::HttpStream;
use crate::net::http_head::read_some;
use crate::server::accept::Handshake;

/// A place for a connection that is opened at once needs no address.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What an opening handshake leads to.
pub(super) enum Next<S> {
    #[cfg(feature = "tls")]
    Http(HttpStream, Bytes),
    Admit(HttpStream, Bytes, Box<Accepted<S>>),
    Refuse(Handshake<HttpStream>, Refusal),
    Nothing,
}

/// A task that opens connections.
pub(super) struct OpeningTask<H: Handler> {
    pub(super) options: Arc<Options<H>>,
    pub(super) tasks: Rc<TaskState<H::State>>,
    pub(super) engine: Handle,
    pub(super) at: u16,
}

impl<H: Handler> Drop for OpeningTask<H> {
    fn drop(&mut self) {
        self.tasks.opening.set(self.tasks.opening.get() - 1);
        if let Some(mailbox) = self.engine.mailboxes().get(self.at) {
            // A loop that has stopped opens nothing.
            let _ = mailbox.push(Command::OpenAdmitted);
        }
    }
}

pub(super) fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl<H: Handler> OpeningTask<H> {
    /// Decides about a request that was checked.
    pub(super) async fn decide(
        &self,
        mut handshake: Handshake<HttpStream>,
        checked: Checked,
    ) -> Next<H::State> {
        let mut input = handshake.input.split_off(handshake.opening.head_length);
        if self.options.on_request.is_some() {
            let asked = self.run_request_hook(&mut handshake.opening.request, checked.from);
            match unless(asked, client_leaves(&mut handshake.stream, &mut input)).await {
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

    /// Runs the application's hook, if there is one, and puts what it returns into the request.
    pub(super) async fn run_request_hook(
        &self,
        request: &mut Request<()>,
        from: SocketAddr,
    ) -> Result<(), Refusal> {
        let Some(hook) = &self.options.on_request else { return Ok(()) };
        let decided = timeout(self.options.handshake_timeout(), hook(request.clone(), from)).await;
        // RFC 9110 15.6.4.
        let late = |_| {
            let text = "The server could not check in time whether this connection is allowed; try again.";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
                .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        };
        request.extensions_mut().extend(decided.map_err(late)??);
        Ok(())
    }

    /// Does what the handshake leads to.
    pub(super) async fn finish(self, next: Next<H::State>, permit: Permit) {
        match next {
            Next::Nothing => {}
            Next::Admit(stream, input, accepted) => {
                if let Ok((stream, layer)) = stream.into_parts() {
                    self.admit(Admission { stream, layer, accepted: *accepted, input, permit });
                }
            }
            Next::Refuse(handshake, refusal) => {
                let totals = &self.engine.mailbox(self.at).totals;
                let from = handshake.stream().peer_addr().ok();
                not_opened(totals, from, &AcceptError::Refused(refusal.clone()));
                drop((self, permit));
                // `not_opened` has counted it.
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

    /// Gives it to the loop, which opens it once this task is dropped.
    pub(super) fn admit(&self, admission: Admission<H::State>) {
        self.tasks.admitted.borrow_mut().push(admission);
    }
}

/// Runs `future`, unless `end` is ready first.
pub(super) async fn unless<T>(future: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Waits until the client leaves. Keeps what it sends meanwhile, up to the limit and one block more.
async fn client_leaves<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) {
    while input.len() < MAX_READ_AHEAD {
        if !matches!(read_some(stream, input).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending().await
}

impl<H: Handler> Loop<H> {
    pub(super) fn opening_task(&self) -> OpeningTask<H> {
        count(&self.tasks.opening);
        OpeningTask {
            options: Arc::clone(&self.shared.options),
            tasks: Rc::clone(&self.tasks),
            engine: self.shared.local.engine.clone(),
            at: self.shared.local.at,
        }
    }

    /// Runs the application's hook for a request that is otherwise accepted, in a task. The request is at the front of
    /// the `length` bytes in the buffer.
    pub(super) fn run_hook_in_task(
        &mut self,
        index: u32,
        opening: OpeningRequest,
        checked: Checked,
        length: usize,
    ) {
        let input = BytesMut::from(&self.shared.buffer[..length]);
        let Some((stream, permit)) = self.take_stream(index) else { return };
        let settings = Arc::clone(self.shared.options.acceptor.settings());
        let (stream, opening) = (HttpStream::from(stream), Box::new(opening));
        let handshake = Handshake { settings, stream, input, opening };
        let task = self.opening_task();
        self.spawn(async move {
            let closing = task.tasks.closing.clone();
            let decided = Box::pin(closing.run_until_cancelled(task.decide(handshake, checked))).await;
            if let Some(next) = decided {
                task.finish(next, permit).await;
            }
        });
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let held = Rc::clone(&self.tasks);
        tokio::task::spawn_local(async move {
            task.await;
            drop(held);
        });
    }

    /// Opens the connections that tasks have admitted.
    pub(super) fn open_admitted(&mut self) {
        for admission in self.tasks.admitted.take() {
            self.admit(admission);
        }
    }

    /// Opens a WebSocket whose request was accepted elsewhere.
    pub(super) fn admit(&mut self, admission: Admission<H::State>) {
        let Admission { stream, layer, accepted, input, permit } = admission;
        // That much input is not read in front of an opening: no more than a block and a head.
        if self.draining.is_some() || input.len() > self.shared.buffer.len() {
            return;
        }
        self.shared.buffer[..input.len()].copy_from_slice(&input);
        let pending = PendingRequest::new(UNKNOWN, self.shared.local.now);
        let Some(index) = self.put(stream, Stage::Pending(pending)) else { return };
        permit.forget();
        // The layer may hold input already, which no event reports.
        if let Some(place) = self.slab.at(index) {
            place.ready.readable = true;
        }
        self.queue(index);
        self.open(index, accepted, layer, 0, input.len());
    }

    /// Adds what the tasks have counted.
    pub(super) fn collect_task_counts(&mut self) {
        let (counters, tasks) = (&mut self.shared.local.counters, &self.tasks);
        counters.opening = tasks.opening.get();
        #[cfg(feature = "tls")]
        {
            counters.http += tasks.http.take();
            counters.tls_failed += tasks.tls_failed.take();
        }
    }
}
