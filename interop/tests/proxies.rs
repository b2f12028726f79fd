//! Our client through proxies that others have written: squid by HTTP CONNECT, microsocks by SOCKS5; `ws` and
//! `wss`, with a login and without.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::fs::{Permissions, set_permissions, write};
use std::net::TcpListener as PortFinder;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use longwire::http::StatusCode;
use longwire::{Acceptor, Client, ConnectError, Proxy, ProxyError, Tls};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// No single step takes longer than this, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy that runs, and its folder; both end with the test.
struct Running {
    port: u16,
    child: Child,
    _folder: TempDir,
}

/// `me:geheim`, as `htpasswd` writes it.
const PASSWORDS: &str = "me:$apr1$longwire$pwvbMfEgvzWQ0G6MulIJL0\n";

impl Running {
    async fn squid(with_login: bool) -> Self {
        let folder = folder();
        let passwords = folder.path().join("passwords");
        write(&passwords, PASSWORDS).expect("written");
        // Where it is started by root it reads them as somebody else.
        set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("permitted");
        let helper = ["/usr/lib/squid/basic_ncsa_auth", "/usr/lib64/squid/basic_ncsa_auth"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .expect("squid's basic_ncsa_auth: install squid");
        let allowed = if with_login {
            format!(
                "auth_param basic program {helper} {}\nauth_param basic children 1\n\
                 acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n",
                passwords.display()
            )
        } else {
            "http_access allow all\n".into()
        };
        Self::start(folder, |port, folder| {
            let configuration = folder.join("squid.conf");
            let text = format!(
                "http_port 127.0.0.1:{port}\npid_filename none\ncache deny all\naccess_log none\ncache_log /dev/null\n\
                 cache_store_log none\ncoredump_dir none\nshutdown_lifetime 0 seconds\nvisible_hostname localhost\n\
                 memory_cache_shared off\nnetdb_filename none\npinger_enable off\n{allowed}"
            );
            write(&configuration, text).expect("written");
            let mut command = Command::new("squid");
            // What it shares in memory has this name, for others may run.
            command.args(["-N", "-n", &format!("longwire{port}"), "-f"]).arg(configuration);
            command
        })
        .await
    }

    async fn microsocks(with_login: bool) -> Self {
        Self::start(folder(), |port, _| {
            let mut command = Command::new("microsocks");
            command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
            if with_login {
                command.args(["-u", "me", "-P", "geheim"]);
            }
            command
        })
        .await
    }

    /// Starts it on a free port and waits until it listens.
    async fn start(folder: TempDir, command: impl FnOnce(u16, &std::path::Path) -> Command) -> Self {
        let found = PortFinder::bind("127.0.0.1:0").expect("a free port");
        let port = found.local_addr().expect("bound").port();
        drop(found);
        let mut command = command(port, folder.path());
        // Debian keeps squid where only root's PATH leads.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "{:?} does not start: {error}\nInstall squid and microsocks",
                command.as_std().get_program()
            )
        });
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "nothing listens on port {port}");
            let status = child.try_wait().expect("a child");
            assert!(status.is_none(), "the proxy ended: {status:?}");
            sleep(Duration::from_millis(20)).await;
        }
        Self { port, child, _folder: folder }
    }

    fn client(&self, scheme: &str, login: &str) -> Client {
        let url = format!("{scheme}://{login}127.0.0.1:{}", self.port);
        Client::new().proxy(Proxy::parse(&url).expect("a proxy")).connect_timeout(PATIENCE)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // By a signal that it can handle, for squid leaves its shared memory behind if it is killed.
        let Some(id) = self.child.id() else { return };
        let _ = std::process::Command::new("kill").arg(id.to_string()).status();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    if let Ok(mut ws) = Acceptor::new().accept(stream).await {
        while let Ok(Some(message)) = ws.recv().await {
            let _ = ws.feed(message).await;
        }
    }
}

/// A server of `ws` and one of `wss` that echo: their ports, and whom to trust.
async fn servers() -> (u16, u16, Tls) {
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
    let mut ports = Vec::new();
    for is_secure in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        ports.push(listener.local_addr().expect("bound").port());
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            loop {
                let stream = listener.accept().await.expect("accepted").0;
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if !is_secure {
                        echo(stream).await;
                    } else if let Ok(stream) = acceptor.accept(stream).await {
                        echo(stream).await;
                    }
                });
            }
        });
    }
    (ports[0], ports[1], Tls::new().roots_pem(certificate.pem()).expect("roots"))
}

/// Talks to both servers, in messages small and large, and closes.
async fn talks(client: Client) {
    let (plain, secure, tls) = servers().await;
    let client = client.tls(tls);
    for (url, is_secure) in [
        (format!("ws://localhost:{plain}/房间"), false),
        (format!("ws://127.0.0.1:{plain}/"), false),
        (format!("wss://localhost:{secure}/"), true),
    ] {
        let mut ws = client.connect(&url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(ws.get_ref().tls().is_some(), is_secure);
        for text in ["你好 👋".to_owned(), "汉".repeat(200_000)] {
            ws.send(text.clone()).await.expect("sent");
            let heard = timeout(PATIENCE, ws.recv()).await.expect("in time").expect("open").expect("open");
            assert!(heard.as_text() == Some(&text));
        }
        ws.close(1000, "再见").await.expect("closed");
    }
}

async fn refused(client: Client) -> ProxyError {
    let (plain, secure, tls) = servers().await;
    let client = client.tls(tls);
    let secure = client.connect(format!("wss://localhost:{secure}/")).await;
    assert!(matches!(secure, Err(ConnectError::Proxy(_))), "{secure:?}");
    match client.connect(format!("ws://localhost:{plain}/")).await {
        Err(ConnectError::Proxy(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn squid_that_knows_nobody() {
    let squid = Running::squid(false).await;
    talks(squid.client("http", "")).await;
    talks(squid.client("http", "me:geheim@")).await;
    // Nobody listens there, which squid finds out.
    let free = PortFinder::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    match squid.client("http", "").connect(format!("ws://{free}/")).await {
        Err(ConnectError::Proxy(ProxyError::Refused(status))) => {
            assert!(status.is_server_error(), "{status}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn squid_that_wants_a_login() {
    let squid = Running::squid(true).await;
    talks(squid.client("http", "me:geheim@")).await;
    for login in ["", "me:falsch@", "du:geheim@"] {
        let error = refused(squid.client("http", login)).await;
        assert!(matches!(error, ProxyError::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED)), "{error:?}");
    }
}

#[tokio::test]
async fn microsocks_that_knows_nobody() {
    let socks = Running::microsocks(false).await;
    talks(socks.client("socks5", "")).await;
    talks(socks.client("socks5h", "me:geheim@")).await;
    let free = PortFinder::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    match socks.client("socks5", "").connect(format!("ws://{free}/")).await {
        Err(ConnectError::Proxy(ProxyError::Socks(text))) => assert!(text.contains("refused"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn microsocks_that_wants_a_login() {
    let socks = Running::microsocks(true).await;
    talks(socks.client("socks5", "me:geheim@")).await;
    for login in ["", "me:falsch@", "du:geheim@"] {
        let error = refused(socks.client("socks5", login)).await;
        assert!(matches!(error, ProxyError::Login), "{error:?}");
    }
}
