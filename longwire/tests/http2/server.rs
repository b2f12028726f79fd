//! A hyper server for HTTP/2 on TCP whose WebSockets do what their path says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longwire::{Acceptor, Bytes, Closed, Error, Upgraded, WebSocket};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use crate::support::soon;

/// A message that is sent at `/big`.
pub(crate) const BIG: usize = 1 << 20;

/// How a WebSocket of the server's ended.
pub(crate) type End = Result<Option<Closed>, Error>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    ends: mpsc::UnboundedReceiver<End>,
    /// What waits at `/big`, when nothing more is taken.
    waits: mpsc::UnboundedReceiver<usize>,
    /// Says GOAWAY.
    pub(crate) go_away: Arc<Notify>,
}

impl Server {
    pub(crate) async fn start(acceptor: Acceptor) -> Self {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.enable_connect_protocol();
        Self::with(acceptor, http).await
    }

    pub(crate) async fn with(acceptor: Acceptor, http: http2::Builder<TokioExecutor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, ends) = mpsc::unbounded_channel();
        let (counted, waits) = mpsc::unbounded_channel();
        let go_away = Arc::new(Notify::new());
        let leaving = Arc::clone(&go_away);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, told, counted) = (acceptor.clone(), told.clone(), counted.clone());
                let service = service_fn(move |request| {
                    answer(request, acceptor.clone(), told.clone(), counted.clone())
                });
                let connection = http.serve_connection(TokioIo::new(stream), service);
                let leaving = Arc::clone(&leaving);
                tokio::spawn(async move {
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        () = leaving.notified() => connection.as_mut().graceful_shutdown(),
                    }
                    let _ = connection.await;
                });
            }
        });
        Self { address, ends, waits, go_away }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// How much waits at `/big`.
    pub(crate) async fn waits(&mut self) -> usize {
        soon(self.waits.recv()).await.expect("the server lives")
    }

    /// How the next WebSocket that ends does so.
    pub(crate) async fn end(&mut self) -> End {
        soon(self.ends.recv()).await.expect("the server lives")
    }
}

async fn answer(
    mut request: Request<Incoming>,
    acceptor: Acceptor,
    told: mpsc::UnboundedSender<End>,
    counted: mpsc::UnboundedSender<usize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let (response, websocket) = match longwire::upgrade(&mut request, &acceptor) {
        Ok(upgrade) => upgrade.into_websocket(),
        Err(refusal) => return Ok(refusal.into()),
    };
    tokio::spawn(async move {
        let mut ws = websocket.await.expect("an upgrade");
        assert_eq!(ws.get_ref().is_http2(), request.version() == http::Version::HTTP_2);
        let end = live(&mut ws, &path, &counted).await;
        let _ = told.send(end.map(|()| ws.closed().cloned()));
    });
    Ok(response)
}

/// Does what the path says, until the connection has ended.
async fn live(
    ws: &mut WebSocket<Upgraded>,
    path: &str,
    counted: &mpsc::UnboundedSender<usize>,
) -> Result<(), Error> {
    match path {
        "/close" => ws.close(4001, "再见 👋").await?,
        "/big" => {
            ws.feed(vec![7; BIG]).await?;
            let _ = tokio::time::timeout(Duration::from_millis(200), ws.flush()).await;
            let _ = counted.send(ws.buffered_amount());
        }
        "/drop" => return Ok(()),
        "/flood" => loop {
            ws.send(vec![7; 64 * 1024]).await?;
        },
        _ => {}
    }
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
