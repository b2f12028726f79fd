//! The connection options of `longwire connect`: TLS, proxies, redirects, credentials; secrets are never
//! printed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use longwire::Acceptor;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::process::{Lines, ended, longwire};

/// The result of a run: exit status, standard output, standard error.
type Said = (Option<i32>, String, String);

/// Runs `longwire connect --no-input` to its end, with these environment variables and no other proxy.
async fn connect(arguments: Vec<String>, variables: &[(&str, String)]) -> Said {
    let mut command = longwire();
    command.args(["connect", "--no-input"]).args(arguments);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let run = move || {
        let mut child = command.spawn().expect("it starts");
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        let status = ended(&mut child);
        (status.code(), stdout.rest().join("\n"), stderr.rest().join("\n"))
    };
    tokio::task::spawn_blocking(run).await.expect("run")
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Starts a server that handles each connection like this.
async fn serve<F>(each: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            tokio::spawn(each(listener.accept().await.expect("accepted").0));
        }
    });
    address
}

/// Sends one message and closes.
async fn greet(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    if let Ok(mut ws) = Acceptor::new().accept(stream).await {
        let _ = ws.send("你好 👋").await;
        let _ = ws.close(1000, "").await;
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text")
}

/// Starts a server that responds with 401 and records the requests.
async fn refusing() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let address = serve(move |mut stream| {
        let kept = Arc::clone(&kept);
        async move {
            let head = read_head(&mut stream).await;
            kept.lock().expect("kept").push(head);
            let _ = stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    (address, heads)
}

fn is_greeted((status, stdout, stderr): &Said) {
    assert_eq!((*status, stdout.as_str()), (Some(0), "你好 👋"), "{stderr}");
}

#[tokio::test]
async fn tls() {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("signed");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                greet(stream).await;
            }
        }
    })
    .await;
    let url = format!("wss://localhost:{}/", address.port());
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (roots, key) = (file("roots.pem", certificate.pem()), file("key.pem", key.serialize_pem()));

    let said = connect(words(&format!("-v --cacert {roots} {url}")), &[]).await;
    is_greeted(&said);
    for part in
        ["* localhost resolves to ", "* trying ", "* connected to ", "* TLS 1.3, no ALPN", "< HTTP/1.1 101 "]
    {
        assert!(said.2.contains(part), "{part} in {}", said.2);
    }
    assert!(said.2.to_ascii_lowercase().contains("< sec-websocket-accept: "), "{}", said.2);
    is_greeted(&connect(words(&format!("--cacert {roots} --cert {roots} --key {key} {url}")), &[]).await);

    let said = connect(words(&format!("--insecure {url}")), &[]).await;
    is_greeted(&said);
    assert!(said.2.contains("read and change"), "{}", said.2);

    for (arguments, told) in [
        (format!("--cacert {roots} wss://127.0.0.1:{}/", address.port()), "localhost"),
        (format!("--cacert {key} {url}"), "no certificate"),
        (format!("--cacert {roots} --cert {roots} --key {roots} {url}"), "private key"),
        (format!("--cacert /nowhere {url}"), "/nowhere"),
        (url.clone(), ""),
    ] {
        let (status, _, stderr) = connect(words(&arguments), &[]).await;
        assert_eq!((status, stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains(told), "{told} in {stderr}");
    }
}

#[tokio::test]
async fn the_proxy_of_the_environment_and_of_the_command_line() {
    let server = serve(greet).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    let proxy = serve(move |mut stream| {
        let kept = Arc::clone(&kept);
        async move {
            let head = read_head(&mut stream).await;
            kept.lock().expect("kept").push(head);
            let mut to = TcpStream::connect(server).await.expect("connected");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
            let _ = copy_bidirectional(&mut stream, &mut to).await;
        }
    })
    .await;
    let environment = [("http_proxy", format!("http://me:geheim@{proxy}"))];
    let far = "ws://somewhere.invalid/";

    is_greeted(&connect(words(far), &environment).await);
    assert!(
        asked
            .lock()
            .expect("kept")
            .pop()
            .expect("asked")
            .contains("\r\nProxy-Authorization: Basic bWU6Z2VoZWlt\r\n")
    );
    let said = connect(words(&format!("-v --proxy http://me:geheim@{proxy} ws://{server}/")), &[]).await;
    is_greeted(&said);
    assert!(
        said.2.contains("* tunnelled through http://127.0.0.1") && !said.2.contains("geheim"),
        "{}",
        said.2
    );
    assert!(asked.lock().expect("kept").pop().expect("asked").starts_with(&format!("CONNECT {server} ")));

    // Loopback addresses and those in no_proxy are reached directly; --no-proxy applies to all.
    is_greeted(&connect(words(&format!("ws://{server}/")), &environment).await);
    let excepted = [environment[0].clone(), ("no_proxy", "invalid".into())];
    for (arguments, variables) in
        [(far.to_owned(), &excepted[..]), (format!("--no-proxy {far}"), &environment)]
    {
        let (status, _, stderr) = connect(words(&arguments), variables).await;
        assert_eq!(status, Some(1), "{stderr}");
        assert!(stderr.contains("somewhere.invalid") && !stderr.contains("geheim"), "{stderr}");
    }
    assert!(asked.lock().expect("kept").is_empty());
}

#[tokio::test]
async fn credentials_are_sent_and_never_printed() {
    let (server, heads) = refusing().await;
    for (arguments, line) in [
        (format!("-u me:geheim ws://{server}/"), "Authorization: Basic bWU6Z2VoZWlt"),
        (format!("ws://me:geheim@{server}/"), "Authorization: Basic bWU6Z2VoZWlt"),
        (format!("--bearer geheim ws://{server}/"), "Authorization: Bearer geheim"),
        (format!("--cookie a=geheim --cookie b=2 ws://{server}/"), "Cookie: a=geheim; b=2"),
        (format!("-H X-Key:geheim ws://{server}/"), "X-Key: geheim"),
    ] {
        let (status, _, stderr) = connect(words(&format!("-v {arguments}")), &[]).await;
        assert_eq!(status, Some(1), "{stderr}");
        assert!(stderr.contains("401") && !stderr.contains("geheim"), "{stderr}");
        let head = heads.lock().expect("kept").pop().expect("asked");
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let mut bad = vec![
        vec![format!("ws://me:geheim@{closed}/")],
        vec![format!("ws://me:geheim@{server}/#x")],
        words(&format!("--proxy http://u:geheim@{closed} ws://a.invalid/")),
        words(&format!("--proxy ftp://u:geheim@{closed} ws://{server}/")),
        words(&format!("--cookie geheim ws://{server}/")),
    ];
    for option in ["--user=me:geheim\n", "--bearer=geheim\n", "--cookie=a=geheim\n"] {
        bad.push(vec![option.to_owned(), format!("ws://{server}/")]);
    }
    // Values that clap rejects.
    for header in ["X-Key=geheim", "X-Key: geheim\n", ": geheim"] {
        bad.push(vec!["-H".into(), header.into(), format!("ws://{server}/")]);
    }
    for arguments in bad {
        let (status, _, stderr) = connect(arguments.clone(), &[]).await;
        assert!(matches!(status, Some(1 | 2)) && stderr.lines().count() == 1, "{arguments:?}: {stderr}");
        assert!(!stderr.contains("geheim"), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn redirects() {
    let server = serve(greet).await;
    let leading = serve(move |mut stream| async move {
        read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 307 There\r\nLocation: ws://{server}/\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let said = connect(words(&format!("-v ws://{leading}/")), &[]).await;
    is_greeted(&said);
    assert!(said.2.contains(&format!("* redirected to ws://{server}/")), "{}", said.2);
    for option in ["--no-redirect", "--max-redirects 0"] {
        let (status, _, stderr) = connect(words(&format!("{option} ws://{leading}/")), &[]).await;
        assert_eq!(status, Some(1));
        assert!(stderr.contains("307"), "{stderr}");
    }
}

#[tokio::test]
async fn timeouts() {
    let silent = serve(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    for (url, told) in
        [(format!("wss://{silent}/"), "TLS handshake"), (format!("ws://{silent}/"), "opening handshake")]
    {
        let (status, _, stderr) = connect(words(&format!("--connect-timeout 0.5 {url}")), &[]).await;
        assert_eq!(status, Some(1));
        assert!(stderr.contains("timed out") && stderr.contains(told), "{stderr}");
    }
    let stuck = serve(|stream| async move {
        if let Ok(mut ws) = longwire::accept(stream).await {
            while let Ok(Some(_)) = ws.recv().await {}
        }
    })
    .await;
    let (status, _, stderr) = connect(words(&format!("--read-timeout 0.5 ws://{stuck}/")), &[]).await;
    assert_eq!(status, Some(1));
    assert!(stderr.contains("read timeout"), "{stderr}");
}
