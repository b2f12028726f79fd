//! Servers of this process.

use std::net::SocketAddr;

use longwire::{Acceptor, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Does this with each connection to a port of its own.
pub(crate) async fn serve<F>(
    each: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            tokio::spawn(each(listener.accept().await.unwrap().0));
        }
    });
    (address, server)
}

/// Echoes until the end, if there is a beginning.
pub(crate) async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    if let Ok(mut ws) = Acceptor::new().accept(stream).await {
        while let Ok(Some(message)) = ws.recv().await {
            let _ = ws.feed(message).await;
        }
    }
}

/// The address of a server that echoes.
pub(crate) async fn echo_server() -> SocketAddr {
    serve(echo).await.0
}

/// The port of a server that echoes within TLS.
pub(crate) async fn tls_server(acceptor: TlsAcceptor) -> u16 {
    let each = move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    };
    serve(each).await.0.port()
}

/// Says something and hears it.
pub(crate) async fn talk(ws: &mut WebSocket) {
    ws.send("你好 👋").await.unwrap();
    assert_eq!(crate::support::soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("你好 👋"));
}
