//! The server's side of TLS with the async driver: certificates and keys of every kind, what is exchanged and how that
//! is told, and what an idle connection holds.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../longwire-proto/tests/support/counting.rs"]
mod counting;

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use longwire::tls::{CertificateError, ServerTls, TlsAcceptError, TlsStream};
use longwire::{Acceptor, Client, Config, WebSocket};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client};

use crate::counting::Account;

const PATIENCE: Duration = Duration::from_secs(30);

/// A key in PKCS#1, of no certificate here.
const RSA: &str = "-----BEGIN RSA PRIVATE KEY-----
MIIEowIBAAKCAQEA3QcOgpS6T50hZPA+1K8mJLXKxVR75KCAZQ3JT5l99kFMQ7IH
RkYkKWtfLJW+59ILYNeWNtTmPqY8Y7RH5MeAOTuAz6Ul70qa4WcbJ0mok8OofL8W
VwmhrGZODeDB3JZ1FW5qE/dmg22j7qvF5M5PCRN6Tzin/nKLdAwadEi8UK4+lL6o
Fl+6OJYh0MUf0Jv+PZcpAV6XAJDTLBRBAVCY8GfwinZFEWU4leCLNw21eZfr4KfP
gWnRUE1MvX0Ov6rWnZ1zlTa68pPxch9jELzhVaAxlwAPXj9itmKLbyEzTRvNIN+y
oqdcTSHE1bM+qzHVarO/T+Cav/v1bVp64IwVVwIDAQABAoIBAGIKVUdazWGvIzbw
0g3pOxQhhzYMiYAaKZmpidhDD3qB8GA+wbdMOZIdzHOsYKfXpbBpMHpV6WN0vWjE
ePdj/t5kJHj2mmMQRq8g2wyMQbh5m2zqHfCxlwMvxgOl5JgCLSE6ftcocFJv+b1O
eFNLqAcwmpo1WV8mU/E/xSQ7dzyZmkfx8I14klaI5ZsaNikpOcXIbZGMY33qTGpS
bK/Zja3uek5b3hTuikzhlqIV7+9FakKFoXi3WlS/6EabbnvY5+S2oGnSw8i/qoXP
E3ZKhEXThOr1Frqk/obt9rWFo08+oXKb3iGKFAacLRzY8j952XGhx0uxAIRtUy37
YQiEpoECgYEA/FCGBQo7rrTu+Gn5mkHx0vJxs25jzTRmAnZ4jqGo57IE0WYFeqXK
7l5G/29DtXUYoT0Qw0U5D5a/SZ7yUebYzlPOdIrxYNN6vOPl4DC3JWytqQhvcAjV
iCXaSSjCgAxb4XHu8u1yoS7aDupchI2+Kd+UDgb3h2NdbuiVmJUSRiECgYEA4EGK
y6rbLt7pMLp5b4MCsyGPolP/RTTt32AS32ymrMrPwSLfHM4oXEH0/sa+sUvDhvIA
p0I5bjjo5u88prJTFSYe6Z6Bm8Aixn+pmsfyMlWejLoV8/b+lRVTz8MMAF75OePo
YFcrjv4VGCLV84LP1Du3FTBABwm3xJL6Qk1l/HcCgYAqjLnNJ8ig0cprAhQhu3U4
icI67CbQeEGrsKbsBr8hM5g0Z+wMnuD2CdgXQ4A7nZ+lsVKeW5If2uAvXiqnPTLa
uK9cYAIMvh04tYYSpKR+HzG6C74fOp4n85o4NDN4vJzSDBCrzvdBz1Deqw8nG3Ay
R44EP5CGuG8NQRPZQ2ptgQKBgQC2+aNm1GxsTOMVqEDnFI1CXXLVrxWMgUhJRxl/
BSblu8FRw8MpvKg/xm1A6Ca1gKzz0UdpMWasoXCe5LqnBL83dVgpo/P6ggWd0pIv
QU9DdIqeJkM9QN2uBK3SykFjmBpf+q4i1V0sGfJaNCo/uw8aCvMyLaFAXNR9ZrMd
IAvDtwKBgHseogJCEtG5iyajqYiDGddRpLdxNfeIMoPnmBUhhl52K0R8bka50KSh
gbeEbZ+DJbn2DTTSg8i90NXgyiOhkGfFWolyaHlZIA4TuA4SFvv4bcyt00WHLdkj
NFbszrjW6Z9QwthkuwmMB4So+AhyYcfV7pcX5AvvHIYzDRkSj5L5
-----END RSA PRIVATE KEY-----";

struct Identity {
    certificate: String,
    key: rcgen::KeyPair,
}

impl Identity {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key }
    }

    fn server(&self) -> ServerTls {
        ServerTls::from_pem(&self.certificate, self.key.serialize_pem()).unwrap()
    }

    fn connector(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).unwrap();
        TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

async fn connect<S>(connector: &TlsConnector, stream: S) -> io::Result<client::TlsStream<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

type Pair = (WebSocket<client::TlsStream<DuplexStream>>, WebSocket<TlsStream<DuplexStream>>);

async fn pair(identity: &Identity, versions: &[&'static rustls::SupportedProtocolVersion]) -> Pair {
    let (near, far) = tokio::io::duplex(100_000);
    let (connector, tls) = (identity.connector(versions), identity.server());
    let client = async {
        let stream = connect(&connector, near).await.unwrap();
        Client::new().handshake("wss://localhost/", stream).await.unwrap()
    };
    let server = async {
        let stream = tls.accept(far, PATIENCE).await.unwrap();
        assert_eq!(stream.secured().server_name.as_deref(), Some("localhost"));
        assert!(stream.secured().certificate.is_none() && !stream.is_http2());
        Acceptor::new().accept(stream).await.unwrap()
    };
    tokio::join!(client, server)
}

#[tokio::test]
async fn both_versions_carry_messages() {
    let identity = Identity::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (mut client, mut server) = pair(&identity, &[version]).await;
        for message in ["你好 🔒", "", &"长".repeat(300_000)] {
            let echo = async {
                let received = server.recv().await.unwrap().unwrap();
                server.send(received).await.unwrap();
            };
            let talk = async {
                client.send(message).await.unwrap();
                client.recv().await.unwrap().unwrap()
            };
            let (answer, ()) = tokio::join!(talk, echo);
            assert_eq!(answer.as_text(), Some(message));
        }
        let (closed, received) = tokio::join!(client.close(1000, "再见"), server.recv());
        closed.unwrap();
        assert!(received.unwrap().is_none());
    }
}

/// Who ends TCP and no more is told from who ends WebSocket, by what WebSocket has for it.
#[tokio::test]
async fn an_end_without_a_word_is_one() {
    let (client, mut server) = pair(&Identity::new(), &[&rustls::version::TLS13]).await;
    drop(client);
    assert!(matches!(server.recv().await, Err(longwire::Error::Eof)));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_timed_out() {
    let tls = Identity::new().server();
    let (mut near, far) = tokio::io::duplex(1000);
    near.write_all(b"\x16\x03\x01").await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = tls.accept(far, Duration::from_secs(7)).await.unwrap_err();
    assert!(matches!(error, TlsAcceptError::Timeout), "{error:?}");
    assert_eq!(begun.elapsed().as_secs(), 7);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn what_is_no_tls_is_said_to_be_none() {
    let tls = Identity::new().server();
    let (mut near, far) = tokio::io::duplex(1000);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = tls.accept(far, PATIENCE).await.unwrap_err();
    assert!(matches!(error, TlsAcceptError::NotTls), "{error:?}");
    assert!(error.to_string().contains("wss://"), "{error}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.unwrap();
    assert!(said.len() <= 7, "an alert: {said:?}");
}

/// The same key in SEC1 (RFC 5915), which PKCS#8 has inside.
fn sec1(pkcs8: &[u8]) -> Vec<u8> {
    let begin = [2, 1, 1, 4, 32];
    let at = pkcs8.windows(5).position(|window| window == begin).unwrap() - 2;
    pkcs8[at..at + 2 + usize::from(pkcs8[at + 1])].to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn certificates_and_keys_of_every_kind() {
    let (identity, other) = (Identity::new(), Identity::new());
    let chain = &identity.certificate;
    let key = identity.key.serialize_pem();
    let sec1 = pem("EC PRIVATE KEY", &sec1(&identity.key.serialize_der()));
    ServerTls::from_pem(chain, &key).unwrap();
    ServerTls::from_pem(chain, &sec1).unwrap();
    ServerTls::from_pem(format!("文字\n{chain}{}", other.certificate), format!("{chain}\n{key}")).unwrap();
    let mismatch = |key: &str| matches!(ServerTls::from_pem(chain, key), Err(CertificateError::KeyMismatch));
    assert!(mismatch(&other.key.serialize_pem()));
    // It is read, or that it is another one could not be told.
    assert!(mismatch(RSA));
    for (chain, key, wanted) in [
        ("", &*key, "no certificate"),
        (&*key, &key, "no certificate"),
        (chain, "", "no private key"),
        (chain, chain, "no private key"),
        (&pem("CERTIFICATE", b"no DER"), &key, "is invalid"),
        (chain, &pem("PRIVATE KEY", b"no DER"), "is invalid"),
        (chain, &pem("ENCRYPTED PRIVATE KEY", b"x"), "not encrypted"),
        ("-----BEGIN CERTIFICATE-----\n坏", &key, "-----END"),
        ("-----BEGIN CERTIFICATE-----\n坏\n-----END CERTIFICATE-----", &key, "is invalid"),
    ] {
        let error = ServerTls::from_pem(chain, key).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}: {wanted}");
    }
    let roots = identity.server().client_roots("");
    assert!(matches!(roots, Err(CertificateError::NoCertificate)));
    assert!(identity.server().client_roots(pem("CERTIFICATE", b"no DER")).is_err());
}

#[test]
fn who_is_asked_keeps_what_is_offered() {
    let identity = Identity::new();
    let before = identity.server().http2(true).client_roots(&identity.certificate).unwrap();
    let behind = identity.server().client_roots(&identity.certificate).unwrap().http2(true);
    for tls in [before, behind] {
        let text = format!("{tls:?}");
        assert!(text.contains("asks_for_certificates: true, http2: true"), "{text}");
    }
}

/// Each fault of a handshake has its own variant, and its text is a sentence.
#[tokio::test]
async fn what_fails_in_a_handshake_is_typed() {
    let identity = Identity::new();
    let handshake = async |tls: ServerTls, connector: TlsConnector| {
        let (near, far) = tokio::io::duplex(100_000);
        let client = async {
            // A client of TLS 1.3 reads the server's verdict on its certificate after its own handshake.
            if let Ok(mut stream) = connect(&connector, near).await {
                let _ = stream.read_u8().await;
            }
        };
        tokio::join!(tls.accept(far, PATIENCE), client).0.map(drop).unwrap_err()
    };

    // The client does not trust the certificate.
    let mut other = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    other.distinguished_name.push(rcgen::DnType::CommonName, "别的 🏢");
    let key = rcgen::KeyPair::generate().unwrap();
    let other = Identity { certificate: other.self_signed(&key).unwrap().pem(), key };
    let error = handshake(identity.server(), other.connector(&[&rustls::version::TLS13])).await;
    assert!(matches!(error, TlsAcceptError::Alert(42 | 46 | 48)), "{error:?}");
    assert!(error.to_string().contains("does not trust the server's certificate"), "{error}");

    // The server asks for a certificate that the client does not have.
    let mutual = identity.server().client_roots(&identity.certificate).unwrap();
    let error = handshake(mutual, identity.connector(&[&rustls::version::TLS13])).await;
    assert!(matches!(error, TlsAcceptError::CertificateRequired), "{error:?}");

    // The client leaves.
    let (mut near, far) = tokio::io::duplex(1000);
    near.write_all(b"\x16\x03\x01").await.unwrap();
    drop(near);
    let error = identity.server().accept(far, PATIENCE).await.unwrap_err();
    assert!(matches!(error, TlsAcceptError::Eof), "{error:?}");
}

#[tokio::test]
async fn tcp_nodelay_is_set() {
    let identity = Identity::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, peer) = listener.accept().await.unwrap();
    assert!(!far.nodelay().unwrap());
    let (connector, tls) = (identity.connector(&[&rustls::version::TLS13]), identity.server());
    let (accepted, connected) = tokio::join!(tls.accept(far, PATIENCE), connect(&connector, near));
    let _client = connected.unwrap();
    let accepted = accepted.unwrap();
    assert!(accepted.stream().nodelay().unwrap());
    assert_eq!(accepted.peer_addr().unwrap(), peer);
}

/// The files change after they were loaded and before anybody watches them.
#[tokio::test]
async fn a_change_before_the_watch_is_noticed() {
    let (one, two) = (Identity::new(), Identity::new());
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("链.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, &one.certificate).unwrap();
    std::fs::write(&key, one.key.serialize_pem()).unwrap();
    let tls = ServerTls::from_files(&chain, &key).unwrap();
    // Beyond the resolution of the file system's clock, and of another length.
    std::fs::write(&chain, format!("证书 🔒\n{}", two.certificate)).unwrap();
    std::fs::write(&key, format!("{}\n", two.key.serialize_pem())).unwrap();
    shown(&tls, &one).await.unwrap();

    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let watched = tls.clone();
    let watch = tokio::spawn(async move {
        watched
            .watch(Duration::from_millis(10), |outcome| report.send(outcome.is_ok()).unwrap_or_default())
            .await;
    });
    assert_eq!(timeout(PATIENCE, reports.recv()).await.expect("a report"), Some(true));
    shown(&tls, &two).await.unwrap();
    watch.abort();
}

/// Files that are moved away and back are in use again, though they are as they were.
#[tokio::test]
async fn files_that_come_back_are_reported() {
    let identity = Identity::new();
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("链.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, &identity.certificate).unwrap();
    std::fs::write(&key, identity.key.serialize_pem()).unwrap();
    let tls = ServerTls::from_files(&chain, &key).unwrap();
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let watch = tokio::spawn(async move {
        tls.watch(Duration::from_millis(10), |outcome| report.send(outcome.is_ok()).unwrap_or_default())
            .await;
    });
    let away = directory.path().join("away.pem");
    std::fs::rename(&key, &away).unwrap();
    assert_eq!(timeout(PATIENCE, reports.recv()).await.expect("a report"), Some(false));
    std::fs::rename(&away, &key).unwrap();
    assert_eq!(timeout(PATIENCE, reports.recv()).await.expect("a report"), Some(true));
    watch.abort();
}

async fn shown(tls: &ServerTls, identity: &Identity) -> io::Result<()> {
    let (near, far) = tokio::io::duplex(100_000);
    let connector = identity.connector(&[&rustls::version::TLS13]);
    let (accepted, connected) = tokio::join!(tls.accept(far, PATIENCE), connect(&connector, near));
    connected?;
    Ok(accepted.map(drop)?)
}

#[tokio::test]
async fn files_are_watched() {
    let (one, two) = (Identity::new(), Identity::new());
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("链.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, &one.certificate).unwrap();
    std::fs::write(&key, one.key.serialize_pem()).unwrap();
    let tls = ServerTls::from_files(&chain, &key).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let watched = tls.clone();
    let watch = tokio::spawn(async move {
        let tell = |outcome: Result<(), CertificateError>| {
            drop(tell.send(outcome.map_err(|error| error.to_string())))
        };
        watched.watch(Duration::from_millis(10), tell).await;
    });
    // What has not changed is not told of.
    assert!(timeout(Duration::from_millis(200), told.recv()).await.is_err());
    std::fs::remove_file(&key).unwrap();
    let mut next = async || timeout(PATIENCE, told.recv()).await.expect("told").unwrap();
    let gone = next().await.unwrap_err();
    assert!(gone.contains("cannot read") && gone.contains("key.pem"), "{gone}");
    shown(&tls, &one).await.expect("what was there");
    // The other file first: for a moment they do not belong together.
    std::fs::write(&key, two.key.serialize_pem()).unwrap();
    let mismatch = next().await.unwrap_err();
    assert!(mismatch.contains("does not belong to the certificate"), "{mismatch}");
    std::fs::write(&chain, &two.certificate).unwrap();
    next().await.unwrap();
    shown(&tls, &two).await.unwrap();
    shown(&tls, &one).await.unwrap_err();
    watch.abort();
    tls.replace(&one.certificate, one.key.serialize_pem()).unwrap();
    shown(&tls, &one).await.unwrap();
    tls.replace(&one.certificate, two.key.serialize_pem()).unwrap_err();
    shown(&tls, &one).await.unwrap();
}

/// Without files there is nothing to reload, and to watch.
#[tokio::test(start_paused = true)]
async fn what_came_from_memory_is_not_watched() {
    let tls = Identity::new().server();
    tls.reload().unwrap();
    let watch = tls.watch(Duration::from_secs(1), |_| panic!("there is nothing to tell"));
    assert!(timeout(Duration::from_secs(3600), watch).await.is_err());
}

/// What a task, its WebSocket and its TLS hold, while nothing comes.
const IDLE_MAX: isize = 11_000;

#[test]
fn what_an_idle_connection_holds() {
    const COUNT: usize = 200;
    let identity = Identity::new();
    let tls = identity.server();
    let (address, addressed) = mpsc::channel();
    let (ask, asked) = tokio::sync::mpsc::unbounded_channel::<mpsc::Sender<isize>>();
    std::thread::spawn(move || serve(tls, &address, asked));
    let (address, account) = addressed.recv().unwrap();
    let live = || {
        let (say, said) = mpsc::channel();
        ask.send(say).unwrap();
        said.recv_timeout(PATIENCE).unwrap()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connector = identity.connector(&[&rustls::version::TLS13]);
        let mut clients = Vec::new();
        let mut before = 0;
        for number in 0..=COUNT {
            let stream = connect(&connector, TcpStream::connect(address).await.unwrap()).await.unwrap();
            let mut ws =
                Client::new().config(Config::client()).handshake("wss://localhost/", stream).await.unwrap();
            for message in ["静".repeat(20_000), "静".into()] {
                ws.send(&*message).await.unwrap();
                assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some(&*message));
            }
            clients.push(ws);
            if number == 0 {
                before = live();
            }
        }
        let each = (live() - before) / COUNT as isize;
        println!("an idle connection in TLS holds {each} B with its task");
        assert!(each < IDLE_MAX, "{each} B");
        assert!(account.live() > 0);
    });
}

type Addressed = mpsc::Sender<(std::net::SocketAddr, &'static Account)>;

/// Echoes on this thread, and says what it holds.
fn serve(
    tls: ServerTls,
    address: &Addressed,
    mut asked: tokio::sync::mpsc::UnboundedReceiver<mpsc::Sender<isize>>,
) {
    let account = Account::of_this_thread();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        address.send((listener.local_addr().unwrap(), account)).unwrap();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.unwrap();
                    tokio::spawn(echo(tls.clone(), stream));
                }
                say = asked.recv() => match say {
                    Some(say) => say.send(account.live()).unwrap(),
                    None => return,
                },
            }
        }
    });
}

async fn echo(tls: ServerTls, stream: TcpStream) {
    let stream = tls.accept(stream, PATIENCE).await.unwrap();
    let mut ws = Acceptor::new().accept(stream).await.unwrap();
    while let Ok(Some(message)) = ws.recv().await {
        ws.send(message).await.unwrap();
    }
}
