//! Over TLS, where ALPN says which HTTP it is: one port, one server, a client of each.

use std::sync::Arc;

use axum::{Router, routing::any};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use longwire::axum::WebSocketUpgrade;
use longwire::{Client, ConnectError, Http2, Http2Error, Tls};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::soon;

const NAME: &str = "localhost";

async fn serve(alpn: &[&[u8]]) -> (std::net::SocketAddr, CertificateDer<'static>) {
    let pair = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let certificate = CertificateDer::from(pair.cert);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
    let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let tls = TlsAcceptor::from(Arc::new(tls));
    let app = Router::new().route(
        "/",
        any(async |ws: WebSocketUpgrade| {
            let asked = format!("{:?}", ws.request().version());
            ws.on_upgrade(async |mut socket| {
                socket.send(asked).await.unwrap();
                while let Ok(Some(message)) = socket.recv().await {
                    socket.send(message).await.unwrap();
                }
            })
        }),
    );
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2().enable_connect_protocol();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, http, service) = (tls.clone(), http.clone(), TowerToHyperService::new(app.clone()));
            tokio::spawn(async move {
                let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                let _ = http.serve_connection_with_upgrades(stream, service).await;
            });
        }
    });
    (address, certificate)
}

async fn tls_client(
    address: std::net::SocketAddr,
    certificate: CertificateDer<'static>,
    protocol: &str,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    stream
}

#[tokio::test]
async fn both_versions_on_one_port() {
    let (address, certificate) = serve(&[b"h2", b"http/1.1"]).await;
    let url = format!("wss://{NAME}:{}", address.port());
    let text = "天地玄黄 🌏".repeat(5000);

    let stream = tls_client(address, certificate.clone(), "h2").await;
    let connection = soon(Http2::new().handshake(&url, stream)).await.unwrap();
    let mut two = soon(connection.open(&Client::new(), "/")).await.unwrap();
    assert_eq!(soon(two.recv()).await.unwrap().unwrap().as_text(), Some("HTTP/2.0"));
    two.send(text.as_str()).await.unwrap();
    assert_eq!(soon(two.recv()).await.unwrap().unwrap().as_text(), Some(text.as_str()));
    soon(two.close(1000, "")).await.unwrap();

    let stream = tls_client(address, certificate, "http/1.1").await;
    let mut one = soon(Client::new().handshake(&url, stream)).await.unwrap();
    assert_eq!(soon(one.recv()).await.unwrap().unwrap().as_text(), Some("HTTP/1.1"));
    one.send(text.as_str()).await.unwrap();
    assert_eq!(soon(one.recv()).await.unwrap().unwrap().as_text(), Some(text.as_str()));
    soon(one.close(1000, "")).await.unwrap();
}

/// A client that is to speak HTTP/2 offers nothing else, and takes nothing else for it.
#[tokio::test]
async fn http2_is_chosen_by_alpn_or_it_is_said_that_it_was_not() {
    for (alpn, chosen) in [(&[&b"h2"[..], b"http/1.1"][..], true), (&[], false)] {
        let (address, certificate) = serve(alpn).await;
        let via = Client::new().no_proxy().tls(Tls::new().pin_der(&certificate));
        let connected = soon(Http2::new().via(via).connect(format!("wss://{NAME}:{}", address.port()))).await;
        if !chosen {
            assert!(matches!(connected, Err(ConnectError::Http2(Http2Error::NotSpoken))), "{connected:?}");
            continue;
        }
        let mut ws = soon(connected.unwrap().open(&Client::new(), "/")).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("HTTP/2.0"));
        soon(ws.close(1000, "再见")).await.unwrap();
    }
}
