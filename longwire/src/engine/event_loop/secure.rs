//! The opening handshake over TLS, in a task beside the loop.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::Loop;
use super::admission::{Next, OpeningTask, count};
use super::opening::{check, not_opened};
use crate::engine::handler::Handler;
use crate::engine::socket::http_stream::HttpStream;
use crate::tls::ServerTls;

impl<H: Handler> OpeningTask<H> {
    /// From a connection's first byte on: TLS, the request, the decision.
    async fn receive(&self, tls: &ServerTls, stream: TcpStream, from: SocketAddr) -> Next<H::State> {
        let stream = match tls.accept(stream, self.options.handshake_timeout()).await {
            Ok(stream) => HttpStream::from(stream),
            Err(_) => {
                count(&self.tasks.tls_failed);
                return Next::Nothing;
            }
        };
        if stream.is_http2() {
            return Next::Http(stream, Bytes::new());
        }
        let mut handshake = match self.options.acceptor.read_request(stream).await {
            Ok(handshake) => handshake,
            Err(error) => {
                let totals = &self.engine.mailbox(self.at).totals;
                not_opened(totals, Some(from), &error);
                return Next::Nothing;
            }
        };
        if !handshake.is_websocket() && self.options.http.is_some() {
            let (stream, read) = handshake.into_parts();
            return Next::Http(stream, read);
        }
        if let Some(secured) = handshake.stream.secured() {
            handshake.opening.request.extensions_mut().insert(secured);
        }
        match check(&self.options, &mut handshake.opening, from) {
            Ok(checked) => self.decide(handshake, checked).await,
            Err(refusal) => Next::Refuse(handshake, refusal),
        }
    }
}

impl<H: Handler> Loop<H> {
    /// Serves a connection over TLS. It is counted already.
    pub(super) fn serve_tls(&self, tls: ServerTls, stream: std::net::TcpStream, from: SocketAddr) {
        let (task, permit) = (self.opening_task(), self.permit());
        self.spawn(async move {
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            let closing = task.tasks.closing.clone();
            // Boxed, so that the task does not hold the memory of the handshake while the HTTP service runs.
            let received = Box::pin(closing.run_until_cancelled(task.receive(&tls, stream, from))).await;
            if let Some(next) = received {
                task.finish(next, permit).await;
            }
        });
    }
}
