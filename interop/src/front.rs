//! Real proxies in front of a server of ours, with the configurations of docs/deploy, as child processes. What is
//! started here ends with the test, however that ends.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::peer::PATIENCE;

/// TLS to the proxy.
pub type Secure = tokio_rustls::client::TlsStream<TcpStream>;

/// A proxy that the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

/// A running one.
#[derive(Debug)]
pub struct Front {
    child: Child,
    port: u16,
    tls_port: u16,
    certificate: CertificateDer<'static>,
    folder: TempDir,
}

impl Proxy {
    /// The file in docs/deploy.
    fn configuration(self) -> String {
        let name = if self == Self::Nginx { "nginx.conf" } else { "haproxy.cfg" };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// That which is installed, for root or for everybody.
    fn program(self) -> PathBuf {
        let name = if self == Self::Nginx { "nginx" } else { "haproxy" };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
        found.unwrap_or_else(|| panic!("{name} is not installed: `./check interop` does that"))
    }

    /// Its file with the addresses, files and names of a test instead of those marked with `<-`, and a short
    /// time for connections that are idle.
    fn adapted(self, folder: &Path, server: SocketAddr, ports: [u16; 2], idle: Duration) -> String {
        let [port, tls_port] = ports;
        let at = folder.display();
        let idle = format!("{}ms", idle.as_millis());
        let replacements = match self {
            Self::Nginx => vec![
                ("http {", temporary(folder)),
                ("listen 80;", format!("listen 127.0.0.1:{port};")),
                ("listen 443 ssl;", format!("listen 127.0.0.1:{tls_port} ssl;")),
                ("example.com;", "localhost;".into()),
                ("/etc/ssl/certs/example.com.pem", format!("{at}/certificate.pem")),
                ("/etc/ssl/private/example.com.key", format!("{at}/key.pem")),
                ("127.0.0.1:8080", server.to_string()),
                ("proxy_read_timeout 60s", format!("proxy_read_timeout {idle}")),
                ("proxy_send_timeout 60s", format!("proxy_send_timeout {idle}")),
                ("worker_rlimit_nofile 131072;", String::new()),
                ("worker_connections 65536;", "worker_connections 256;".into()),
            ],
            Self::Haproxy => vec![
                ("bind :80\n", format!("bind 127.0.0.1:{port}\n")),
                ("bind :443", format!("bind 127.0.0.1:{tls_port}")),
                ("/etc/haproxy/example.com.pem", format!("{at}/both.pem")),
                ("127.0.0.1:8080", server.to_string()),
                ("timeout tunnel 60s", format!("timeout tunnel {idle}")),
                ("global\n", "global\n    nbthread 2\n".into()),
            ],
        };
        let mut text = self.configuration();
        for (old, new) in replacements {
            assert!(text.contains(old), "{self:?}: no {old:?} in its file in docs/deploy");
            text = text.replace(old, &new);
        }
        if self == Self::Haproxy {
            // No more than an ordinary user may have open.
            text = text.replace("maxconn 65536", "maxconn 200");
        }
        text
    }

    fn command(self, folder: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::Nginx => {
                let global = format!("daemon off; pid {0}/pid; error_log {0}/log;", folder.display());
                command.arg("-p").arg(folder).args(["-e", "stderr", "-c", "configuration", "-g", &global])
            }
            Self::Haproxy => command.arg("-db").arg("-f").arg(folder.join("configuration")),
        };
        command
    }
}

/// nginx's own places for what it keeps for a while are root's, and root's workers would be somebody else.
fn temporary(folder: &Path) -> String {
    let is_root = fs::metadata(folder).is_ok_and(|metadata| metadata.uid() == 0);
    let user = if is_root { "user root;" } else { "" };
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths = kinds.map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()));
    format!("{user}\nhttp {{\naccess_log off;\n{}", paths.join("\n"))
}

impl Front {
    /// Starts one in front of `server`, which ends connections that are idle for so long.
    pub fn start(proxy: Proxy, server: SocketAddr, idle: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        write("certificate.pem", &certificate);
        write("key.pem", &key);
        write("both.pem", &(certificate + &key));
        // Somebody else may take the port before the proxy does: then it ends, and another one is tried.
        for _ in 0..10 {
            let ports = [(); 2].map(|()| free_port());
            write("configuration", &proxy.adapted(folder.path(), server, ports, idle));
            let log = fs::File::create(folder.path().join("output")).expect("a file");
            let mut child = proxy
                .command(folder.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a file"))
                .stderr(log)
                .spawn()
                .expect("it starts");
            if is_up(&mut child, ports) {
                let [port, tls_port] = ports;
                return Self { child, port, tls_port, certificate: made.cert.der().clone(), folder };
            }
        }
        let output = fs::read_to_string(folder.path().join("output")).unwrap_or_default();
        panic!("{proxy:?} does not start: {output}");
    }

    /// A URL of the server by way of the proxy.
    pub fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    /// The same over TLS, which ends at the proxy, and a stream to it.
    pub async fn secure(&self, path: &str) -> (String, Secure) {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.tls_port)).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
        (format!("wss://localhost:{}{path}", self.tls_port), stream)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a socket").port()
}

/// Waits until it listens; not if it has ended.
fn is_up(child: &mut Child, ports: [u16; 2]) -> bool {
    let begun = Instant::now();
    for port in ports {
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "the proxy does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    true
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["output", "log"] {
                let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
                println!("{name} of the proxy: {text}");
            }
        }
        // SIGTERM: nginx has workers, which a master that is killed leaves behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
