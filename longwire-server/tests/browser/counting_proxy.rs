//! A proxy between a browser and a server that counts bytes and records extensions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The proxy, on its own port; it ends with the test.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    to_server: Arc<Direction>,
    to_browser: Arc<Direction>,
}

#[derive(Default)]
struct Direction {
    bytes: AtomicU64,
    /// Values of Sec-WebSocket-Extensions.
    extensions: Mutex<Vec<String>>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a socket").port();
        let (to_server, to_browser) = (Arc::<Direction>::default(), Arc::<Direction>::default());
        let (up, down) = (Arc::clone(&to_server), Arc::clone(&to_browser));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", server)).await.expect("the server listens");
                let (near_reader, near_writer) = near.into_split();
                let (far_reader, far_writer) = far.into_split();
                tokio::spawn(Arc::clone(&up).carry(near_reader, far_writer));
                tokio::spawn(Arc::clone(&down).carry(far_reader, near_writer));
            }
        });
        Self { port, to_server, to_browser }
    }

    /// Returns the bytes so far, to the server and to the browser.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.to_server.bytes.load(Ordering::Relaxed), self.to_browser.bytes.load(Ordering::Relaxed))
    }

    /// Returns the extensions that browsers offered.
    pub(crate) fn offers(&self) -> Vec<String> {
        self.to_server.extensions.lock().expect("no panic").clone()
    }

    /// Returns the extensions that the server accepted.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.to_browser.extensions.lock().expect("no panic").clone()
    }
}

impl Direction {
    async fn carry(self: Arc<Self>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut block = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut block).await.unwrap_or(0);
            let bytes = &block[..count];
            self.bytes.fetch_add(count as u64, Ordering::Relaxed);
            // Headers are small and are written at once.
            if bytes.starts_with(b"GET ") || bytes.starts_with(b"HTTP/1.1 ") {
                self.extensions.lock().expect("no panic").extend(extensions(bytes));
            }
            if count == 0 || to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}

fn extensions(head: &[u8]) -> Option<String> {
    String::from_utf8_lossy(head)
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"))
        .map(|(_, value)| value.trim().to_owned())
}
