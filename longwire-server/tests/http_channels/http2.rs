//! Channels over HTTP/2 with TLS: many requests on one connection.

use std::sync::Arc;

use h2::client::SendRequest;
use longwire::Bytes;
use longwire::http::{Method, Request, Response};
use longwire::tls::ServerTls;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::Event;
use crate::server::Server;
use crate::{in_time, wait_until};

/// Starts a server and connects to it.
async fn start() -> (Server, SendRequest<Bytes>) {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("made");
    let certificate = made.cert.pem();
    let tls = ServerTls::from_pem(&certificate, made.signing_key.serialize_pem()).expect("a certificate");
    let server = Server::secure("", tls.http2(true));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let mut config = builder
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("secured");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    (server, client)
}

async fn ask(
    client: &SendRequest<Bytes>,
    method: Method,
    path: &str,
    accept: &str,
    body: &[u8],
) -> Response<h2::RecvStream> {
    let mut client = in_time(client.clone().ready()).await.expect("ready");
    let uri = format!("https://localhost{path}");
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("accept", accept)
        .header("content-type", "text/plain");
    let (response, mut stream) =
        client.send_request(request.body(()).expect("a request"), false).expect("sent");
    stream.send_data(Bytes::copy_from_slice(body), true).expect("sent");
    in_time(response).await.expect("answered")
}

async fn json_of(response: Response<h2::RecvStream>) -> Value {
    assert_eq!(response.status(), 200);
    let (mut body, mut text) = (response.into_body(), Vec::new());
    while let Some(data) = in_time(body.data()).await {
        text.extend_from_slice(&data.expect("data"));
    }
    serde_json::from_slice(&text).expect("JSON")
}

/// Reads the events of the next DATA frame.
async fn events(body: &mut h2::RecvStream) -> Option<Vec<Event>> {
    let data = in_time(body.data()).await?.expect("data");
    let text = std::str::from_utf8(&data).expect("UTF-8");
    Some(text.split_terminator("\n\n").map(Event::parse).collect())
}

#[tokio::test]
async fn streams_and_posts_share_a_connection() {
    let (server, client) = start().await;
    let mut streams = Vec::new();
    for path in ["/rooms/%E4%B8%80", "/-/events?channel=rooms/%E4%B8%80"] {
        let response = ask(&client, Method::GET, path, "text/event-stream", b"").await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        assert_eq!(events(&mut body).await.expect("events").len(), 1);
        streams.push(body);
    }
    let posted =
        json_of(ask(&client, Method::POST, "/rooms/%E4%B8%80", "*/*", "你好 👋".as_bytes()).await).await;
    let position = posted["position"].as_str().expect("a position");
    let one = events(&mut streams[0]).await.expect("events");
    assert_eq!(one, [Event { id: position.into(), data: "你好 👋".into(), ..Event::default() }]);
    let many = events(&mut streams[1]).await.expect("events");
    assert_eq!(
        many[0].json(),
        json!({"type": "message", "channel": "rooms/一", "position": position, "data": "你好 👋"})
    );
    wait_until(|| server.present("rooms/一") == 2).await;
    // One stream ends; the connection continues.
    drop(streams.pop());
    wait_until(|| server.present("rooms/一") == 1).await;
    let polled = json_of(ask(&client, Method::GET, "/rooms/%E4%B8%80", "*/*", b"").await).await;
    assert_eq!(polled["position"], position);
    server.close.send(true).expect("served");
    while events(&mut streams[0]).await.is_some() {}
}
