//! A [`tower`](https://docs.rs/tower) layer: [`WebSocketLayer`] takes the WebSocket requests of a service, over
//! HTTP/1.1 and HTTP/2.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Upgraded, is_websocket, upgrade};
use crate::connection::WebSocket;
use crate::server::accept::Acceptor;

/// Answers the WebSocket requests that reach a service, and passes all other requests to it.
///
/// The handler runs in its own task for each connection. It gets the connection and the request, without body and
/// with its extensions. Requests that break a rule are refused, and [`Acceptor::on_request`] can refuse more, such as
/// other paths.
///
/// It works with every service of hyper, axum or tonic whose response body is `Default + From<String>`, such as
/// `Full<Bytes>` and axum's `Body`. hyper has to serve with upgrades, see [`upgrade`](crate::upgrade()).
///
/// ```
/// use axum::{Router, routing::get};
/// use longwire::tower::WebSocketLayer;
/// use longwire::{Acceptor, http::StatusCode, Refusal};
///
/// let acceptor = Acceptor::new().on_request(|request, _| match request.uri().path() {
///     "/chat" => Ok(()),
///     _ => Err(Refusal::new(StatusCode::NOT_FOUND, "no WebSocket here")),
/// });
/// let websockets = WebSocketLayer::new(acceptor, async |mut ws, _request| {
///     while let Ok(Some(message)) = ws.recv().await {
///         if ws.send(message).await.is_err() {
///             break;
///         }
///     }
/// });
/// let app: Router = Router::new().route("/", get("你好 👋")).layer(websockets);
/// ```
///
/// In axum a layer sees only requests that match a route of the router, or its fallback.
#[derive(Clone)]
pub struct WebSocketLayer<H> {
    acceptor: Acceptor,
    handler: H,
}

impl<H> WebSocketLayer<H> {
    /// Creates a layer that calls `handler` for each connection that `acceptor` accepts.
    pub fn new<F>(acceptor: Acceptor, handler: H) -> Self
    where
        H: Fn(WebSocket<Upgraded>, Request<()>) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        Self { acceptor, handler }
    }
}

impl<H> fmt::Debug for WebSocketLayer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketLayer").field("acceptor", &self.acceptor).finish_non_exhaustive()
    }
}

impl<S, H: Clone> Layer<S> for WebSocketLayer<H> {
    type Service = WebSocketService<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        WebSocketService { inner, layer: self.clone() }
    }
}

/// The service that [`WebSocketLayer`] makes of another.
#[derive(Clone)]
pub struct WebSocketService<S, H> {
    inner: S,
    layer: WebSocketLayer<H>,
}

impl<S: fmt::Debug, H> fmt::Debug for WebSocketService<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketService").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, H, F, B, R> Service<Request<B>> for WebSocketService<S, H>
where
    S: Service<Request<B>, Response = Response<R>>,
    H: Fn(WebSocket<Upgraded>, Request<()>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
    R: Default + From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    /// # Panics
    ///
    /// Outside a Tokio runtime.
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !is_websocket(&request) {
            return ResponseFuture { kind: Kind::Inner { future: self.inner.call(request) } };
        }
        let response = match upgrade(&mut request, &self.layer.acceptor) {
            Ok(upgrade) => {
                let request = upgrade.request().clone();
                let (response, websocket) = upgrade.into_websocket();
                let handler = self.layer.handler.clone();
                tokio::spawn(async move {
                    // A failure is counted, and the handler has nothing to do.
                    if let Ok(websocket) = websocket.await {
                        handler(websocket, request).await;
                    }
                });
                response
            }
            Err(refusal) => refusal.into(),
        };
        ResponseFuture { kind: Kind::Answered { response: Some(response) } }
    }
}

pin_project! {
    /// The future of the response of a [`WebSocketService`].
    pub struct ResponseFuture<F, R> {
        #[pin]
        kind: Kind<F, R>,
    }
}

pin_project! {
    #[project = KindProjected]
    enum Kind<F, R> {
        Inner { #[pin] future: F },
        Answered { response: Option<Response<R>> },
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjected::Inner { future } => future.poll(cx),
            KindProjected::Answered { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                // Polled after it was ready.
                None => Poll::Pending,
            },
        }
    }
}

impl<F, R> fmt::Debug for ResponseFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
