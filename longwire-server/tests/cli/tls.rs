//! `longwire serve` over TLS: certificates from files and generated ones, HTTP/1.1 and HTTP/2 next to
//! WebSocket.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use longwire::{Client, ConnectError, Http2, WebSocket};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::process::{Server, TIMEOUT, receive, run};

/// A self-signed certificate and its key.
struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    fn new() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).expect("made");
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn write(&self, directory: &Path) -> (String, String) {
        let [chain, key] = ["chain.pem", "钥匙.pem"].map(|name| directory.join(name));
        std::fs::write(&chain, &self.certificate).expect("written");
        std::fs::write(&key, &self.key).expect("written");
        (chain.to_str().expect("UTF-8").into(), key.to_str().expect("UTF-8").into())
    }
}

fn trusting(certificate: &str, own: Option<&Identity>, alpn: &[&[u8]]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder =
        builder.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
    let mut config = match own {
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a key")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn secure(server: &Server, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await?;
    connector.connect(ServerName::try_from("localhost").expect("a name"), stream).await
}

async fn connect(
    server: &Server,
    connector: &TlsConnector,
    path: &str,
) -> Result<WebSocket<TlsStream<TcpStream>>, ConnectError> {
    let stream = secure(server, connector).await.map_err(ConnectError::Io)?;
    Client::new().handshake(format!("wss://localhost:{}{path}", server.port), stream).await
}

/// Two clients exchange messages until the second one is received by the first.
async fn talk(server: &Server, connector: &TlsConnector) {
    let mut one = connect(server, connector, "/房间").await.expect("accepted");
    let mut two = connect(server, connector, "/房间").await.expect("accepted");
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < TIMEOUT);
        two.send("你好 🔒").await.expect("sent");
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(100), receive(&mut one)).await {
            assert_eq!(heard.as_text(), Some("你好 🔒"));
            break;
        }
    }
    two.close(1000, "").await.expect("closed");
}

#[tokio::test]
async fn a_generated_certificate() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("made.pem");
    let server = Server::start(&[&format!("--tls-self-signed={}", file.display())]);
    assert!(server.announced.contains(&format!("https://127.0.0.1:{}", server.port)), "{}", server.announced);
    assert!(server.announced.contains(&format!("wss://127.0.0.1:{}/", server.port)), "{}", server.announced);
    let notice = server.stderr.next();
    assert!(notice.contains("localhost, 127.0.0.1, ::1") && notice.contains("--cacert"), "{notice}");
    let fingerprint = notice.rsplit(' ').next().expect("the last word");
    assert!(fingerprint.len() == 95 && fingerprint.split(':').count() == 32, "{notice}");
    let certificate = std::fs::read_to_string(&file).expect("written");
    talk(&server, &trusting(&certificate, None, &[])).await;
    // A new certificate is generated at each start.
    let other = Server::start(&["--tls-self-signed"]);
    let refused = connect(&other, &trusting(&certificate, None, &[]), "/").await;
    assert!(matches!(refused, Err(ConnectError::Tls(_) | ConnectError::Io(_))), "{refused:?}");
    assert!(other.stderr.next().contains("--insecure"));
}

#[tokio::test]
async fn a_renewed_certificate() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, two) = (Identity::new(), Identity::new());
    let (chain, key) = one.write(directory.path());
    let server = Server::start(&["--tls-cert", &chain, "--tls-key", &key]);
    let mut old =
        connect(&server, &trusting(&one.certificate, None, &[]), "/-/echo").await.expect("accepted");
    // An invalid file for a while.
    std::fs::write(&chain, "no certificate").expect("written");
    let told = server.stderr.next();
    assert!(told.contains("cannot reload the certificate") && told.contains("BEGIN CERTIFICATE"), "{told}");
    connect(&server, &trusting(&one.certificate, None, &[]), "/").await.expect("the old one");
    two.write(directory.path());
    loop {
        // The server may read between the two writes.
        let told = server.stderr.next();
        if told.contains("new connections use it") {
            break;
        }
        assert!(told.contains("does not belong to the certificate"), "{told}");
    }
    connect(&server, &trusting(&one.certificate, None, &[]), "/").await.expect_err("the new one");
    talk(&server, &trusting(&two.certificate, None, &[])).await;
    old.send("旧的还在").await.expect("sent");
    assert_eq!(receive(&mut old).await.as_text(), Some("旧的还在"));
}

#[tokio::test]
async fn client_certificates_are_required() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = Identity::new();
    let (chain, _) = client.write(directory.path());
    let made = directory.path().join("made.pem");
    let server =
        Server::start(&["--tls-client-ca", &chain, &format!("--tls-self-signed={}", made.display())]);
    let certificate = std::fs::read_to_string(&made).expect("written");
    talk(&server, &trusting(&certificate, Some(&client), &[])).await;
    for other in [None, Some(&Identity::new())] {
        let refused = connect(&server, &trusting(&certificate, other, &[]), "/").await;
        assert!(matches!(refused, Err(ConnectError::Tls(_) | ConnectError::Io(_))), "{refused:?}");
    }
}

#[test]
fn unusable_certificates_are_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let (chain, key) = Identity::new().write(directory.path());
    let other = directory.path().join("other.pem");
    std::fs::write(&other, Identity::new().key).expect("written");
    let other = other.to_str().expect("UTF-8");
    for (arguments, status, wanted) in [
        (&["--tls-cert", "/nowhere/chain.pem", "--tls-key", &key][..], 1, "cannot read /nowhere/chain.pem"),
        (&["--tls-cert", &chain, "--tls-key", other], 1, "does not belong to the certificate"),
        (&["--tls-cert", &key, "--tls-key", &key], 1, "no certificate"),
        (&["--tls-cert", &chain, "--tls-key", &chain], 1, "no private key"),
        (&["--tls-cert", &chain], 2, "--tls-key"),
        (&["--tls-client-ca", &chain], 2, "set tls.cert and tls.key"),
        (&["--tls-self-signed", "--tls-client-ca", &key], 1, "cannot verify clients"),
        (&["--tls-self-signed", "--tls-cert", &chain, "--tls-key", &key], 2, "cannot be used with"),
    ] {
        let all = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        let (code, _, lines) = run(&all);
        let text = lines.join("\n");
        assert!(code == Some(status) && text.contains(wanted), "{arguments:?}: {code:?} {text}");
    }
}

/// Two requests on one HTTP/1.1 connection, whatever else the client supports.
#[tokio::test]
async fn http_1_1_keeps_the_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("made.pem");
    let server = Server::start(&[&format!("--tls-self-signed={}", file.display())]);
    let certificate = std::fs::read_to_string(&file).expect("written");
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let mut stream = secure(&server, &trusting(&certificate, None, alpn)).await.expect("connected");
        for path in ["/-/healthy", "/", "/-/healthy"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("written");
            let mut answer = String::new();
            while !(answer.ends_with("ok\n") || answer.ends_with("</html>\n")) {
                let mut block = [0; 4096];
                let count = stream.read(&mut block).await.expect("read");
                assert!(count > 0, "{answer}");
                answer.push_str(std::str::from_utf8(&block[..count]).expect("UTF-8"));
            }
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
    talk(&server, &trusting(&certificate, None, &[b"http/1.1"])).await;
}

#[tokio::test]
async fn http_2_is_served_and_ends_when_the_server_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("made.pem");
    let mut server = Server::start(&[&format!("--tls-self-signed={}", file.display())]);
    let certificate = std::fs::read_to_string(&file).expect("written");
    let stream =
        secure(&server, &trusting(&certificate, None, &[b"h2", b"http/1.1"])).await.expect("connected");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    for path in ["/", "/-/healthy", "/-/nothing"] {
        client = client.ready().await.expect("ready");
        let request =
            longwire::http::Request::get(format!("https://localhost{path}")).body(()).expect("good");
        let (response, _) = client.send_request(request, true).expect("sent");
        let response = response.await.expect("answered");
        assert_eq!(response.status(), if path == "/-/nothing" { 404 } else { 200 });
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data.expect("data");
            length += data.len();
            body.flow_control().release_capacity(data.len()).expect("released");
        }
        assert!(length > 0);
    }
    // RFC 9113 6.5.2: limits of streams and headers; each header counts 32 more bytes.
    assert_eq!(client.current_max_send_streams(), 128);
    for (length, status) in [(16 * 1024 - 400, 200), (16 * 1024, 431)] {
        client = client.ready().await.expect("ready");
        let request =
            longwire::http::Request::get("https://localhost/-/healthy").header("x", "x".repeat(length));
        let (response, _) = client.send_request(request.body(()).expect("good"), true).expect("sent");
        assert_eq!(response.await.expect("answered").status(), status, "{length}");
    }
    // RFC 8441 3 and 4.
    assert!(client.is_extended_connect_protocol_enabled());
    let mut request = longwire::http::Request::builder()
        .method("CONNECT")
        .uri("https://localhost/room")
        .header("sec-websocket-version", "13")
        .body(())
        .expect("good");
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, _) = client.send_request(request, false).expect("sent");
    assert_eq!(response.await.expect("answered").status(), 200);
    let began = Instant::now();
    server.signal("TERM");
    assert!(server.ended().success());
    connection.await.expect("no panic").expect("GOAWAY, and the end");
    assert!(began.elapsed() < TIMEOUT);
}

#[tokio::test]
async fn plain_http_is_rejected() {
    let server = Server::start(&["--tls-self-signed"]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < 10, "{answer:?}");
}

/// The server stops reading from a client that does not read its echo. That must not stall the other WebSockets of the
/// same HTTP/2 connection, which share its window.
#[tokio::test]
async fn a_websocket_that_is_not_read_stalls_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("made.pem");
    let server = Server::start(&[&format!("--tls-self-signed={}", file.display())]);
    let certificate = std::fs::read_to_string(&file).expect("written");
    let stream = secure(&server, &trusting(&certificate, None, &[b"h2"])).await.expect("connected");
    let connection = Http2::new().handshake("wss://localhost", stream).await.expect("HTTP/2");
    let mut unread = connection.open(&Client::new(), "/-/echo").await.expect("opened");
    let mut other = connection.open(&Client::new(), "/-/echo").await.expect("opened");
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    // Its messages fill every window and buffer, and then it waits.
    let flood = tokio::spawn(async move {
        let message = "堵塞 🚧".repeat(4096);
        while unread.send(message.as_str()).await.is_ok() {
            counter.fetch_add(message.len(), Ordering::Relaxed);
        }
    });
    let talk = async {
        let (mut before, mut same) = (0, 0);
        // Until the flood has not progressed for many round trips: by then it has filled its windows.
        while same < 2000 {
            other.send("还在 🙋").await.expect("sent");
            let echo = other.recv().await.expect("open").expect("open");
            assert_eq!(echo.as_text(), Some("还在 🙋"));
            let now = sent.load(Ordering::Relaxed);
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
    };
    tokio::time::timeout(TIMEOUT, talk).await.expect("the other WebSocket goes on");
    assert!(!flood.is_finished() && sent.load(Ordering::Relaxed) > 0);
    flood.abort();
}
