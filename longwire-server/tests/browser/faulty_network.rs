//! A network between a browser and a server that can go silent, close connections, and block some requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The network, on its own port; it ends with the test.
pub(crate) struct Relay {
    pub(crate) port: u16,
    dark: watch::Sender<bool>,
    /// How often all connections were closed.
    cuts: watch::Sender<u64>,
    opened: Arc<AtomicU64>,
}

impl Relay {
    pub(crate) async fn start(server: u16) -> Self {
        Self::without(server, &[]).await
    }

    /// Drops connections whose first bytes contain one of these.
    pub(crate) async fn without(server: u16, blocked: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a socket").port();
        let (dark, is_dark) = watch::channel(false);
        let (cuts, cut) = watch::channel(0);
        let opened = Arc::<AtomicU64>::default();
        let count = Arc::clone(&opened);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (is_dark, mut cut) = (is_dark.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    let (near_reader, near_writer) = near.into_split();
                    let (far_reader, far_writer) = far.into_split();
                    // If one direction ends, both end, so that a blocked client notices.
                    tokio::select! {
                        () = carry(near_reader, far_writer, is_dark.clone(), blocked) => {}
                        () = carry(far_reader, near_writer, is_dark, &[]) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, dark, cuts, opened }
    }

    /// Stops or resumes all traffic silently.
    pub(crate) fn dark(&self, dark: bool) {
        self.dark.send_replace(dark);
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Returns the number of connections so far.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut dark: watch::Receiver<bool>,
    blocked: &[&str],
) {
    let mut block = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut block).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&block[..count]).to_ascii_lowercase();
        if count == 0 || blocked.iter().any(|blocked| text.contains(blocked)) {
            return;
        }
        if dark.wait_for(|dark| !dark).await.is_err() || to.write_all(&block[..count]).await.is_err() {
            return;
        }
    }
}
