//! Ends of HTTP/2 that do as they are told, and know of WebSocket only what a test writes.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use longwire::{Http2, Http2Connection};
use tokio::net::TcpStream;

use crate::support::{sockets, soon};

/// A request that the raw server has got.
pub(crate) type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// A server that accepts streams and leaves them to the test; each end of its connection by itself.
pub(crate) struct RawServer {
    pub(crate) asked: tokio::sync::mpsc::UnboundedReceiver<Asked>,
    /// To end the connection: `true` with GOAWAY at once, `false` in peace.
    pub(crate) end: tokio::sync::mpsc::UnboundedSender<bool>,
}

impl RawServer {
    /// A client's connection to a raw server, made by `client`.
    pub(crate) async fn start(client: Http2) -> (Http2Connection, Self) {
        Self::start_at(client, "ws://server.example.com").await
    }

    /// Like [`start`](Self::start), with the URL that the client has for the server.
    pub(crate) async fn start_at(client: Http2, url: &str) -> (Http2Connection, Self) {
        let (near, far) = sockets().await;
        let (told, asked) = tokio::sync::mpsc::unbounded_channel();
        let (end, mut ending) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut connection = h2::server::Builder::new()
                .enable_connect_protocol()
                .handshake::<_, Bytes>(far)
                .await
                .unwrap();
            loop {
                tokio::select! {
                    Some(at_once) = ending.recv() => {
                        if at_once {
                            connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                        } else {
                            connection.graceful_shutdown();
                        }
                    }
                    accepted = connection.accept() => match accepted {
                        Some(Ok(stream)) => { let _ = told.send(stream); }
                        _ => break,
                    }
                }
            }
        });
        let connection = soon(client.handshake(url, near)).await.unwrap();
        (connection, Self { asked, end })
    }

    pub(crate) async fn asked(&mut self) -> Asked {
        soon(self.asked.recv()).await.expect("a request")
    }

    /// Opens the WebSocket that the client asks for next.
    pub(crate) async fn accept(&mut self) -> (SendStream<Bytes>, RecvStream) {
        let (request, mut respond) = self.asked().await;
        (respond.send_response(Response::new(()), false).unwrap(), request.into_body())
    }
}

/// A client that sends what it likes.
pub(crate) async fn raw_client(address: std::net::SocketAddr) -> SendRequest<Bytes> {
    raw_client_with(address, &h2::client::Builder::new()).await
}

pub(crate) async fn raw_client_with(
    address: std::net::SocketAddr,
    builder: &h2::client::Builder,
) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (requests, mut connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    // The settings of the server are known then.
    soon(pings.ping(h2::Ping::opaque())).await.unwrap();
    soon(requests.ready()).await.unwrap()
}

/// A good request for a WebSocket, to be spoilt.
pub(crate) fn request(path: &str) -> Request<()> {
    let mut request = Request::builder()
        .method("CONNECT")
        .uri(format!("http://server.example.com{path}"))
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

/// The next bytes of a stream, given back to its window at once; `None` at its end.
pub(crate) async fn data(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let data = soon(body.data()).await;
    if let Some(Ok(data)) = &data {
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    data
}

/// All that comes until the stream has ended, or how it broke.
pub(crate) async fn all(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(more) = data(body).await {
        bytes.extend_from_slice(&more?);
    }
    Ok(bytes)
}
