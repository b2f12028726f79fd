//! A server that serves the page, and behaves differently on each path.

use std::net::SocketAddr;
use std::sync::Arc;

use longwire::http::StatusCode;
use longwire::{Acceptor, Closed, Config, Handshake, Origins, Refusal, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::page::Page;
use crate::process::TIMEOUT;

pub(crate) struct Site {
    address: SocketAddr,
    seen: mpsc::UnboundedReceiver<String>,
    serving: JoinHandle<()>,
}

/// The state that its connections share.
struct Shared {
    page: Page,
    acceptor: Acceptor,
    seen: mpsc::UnboundedSender<String>,
    go: Notify,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Site {
    pub(crate) async fn start(page: &Page) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), page).await
    }

    pub(crate) async fn start_at(address: SocketAddr, page: &Page) -> Self {
        let listener = TcpListener::bind(address).await.expect("it can be listened on");
        let address = listener.local_addr().expect("it is bound");
        let (to, seen) = mpsc::unbounded_channel();
        let config = Config::server().max_message(64 * 1024 * 1024);
        let acceptor = Acceptor::new().subprotocols(["chat.v2"]).origins(Origins::Any).config(config);
        let shared = Arc::new(Shared { page: page.clone(), acceptor, seen: to, go: Notify::new() });
        let serving = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let shared = Arc::clone(&shared);
                connections.spawn(async move { shared.serve(stream).await });
            }
        });
        Self { address, seen, serving }
    }

    /// Ends all connections and stops listening, as if the process was killed.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.serving.abort();
        // It ends by being aborted.
        let _ = (&mut self.serving).await;
        self.address
    }

    /// The URL of a port at which nobody listens.
    pub(crate) async fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        format!("ws://{}/", listener.local_addr().expect("it is bound"))
    }

    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Returns the record of the next connection that ended.
    pub(crate) async fn seen(&mut self) -> String {
        timeout(TIMEOUT, self.seen.recv()).await.expect("in time").expect("it serves")
    }
}

impl Shared {
    fn saw(&self, path: &str, what: &str) {
        // A test that is over looks no more.
        let _ = self.seen.send(format!("{path}: {what}"));
    }

    async fn serve(&self, stream: TcpStream) {
        // A browser opens connections that it may need later.
        let Ok(handshake) = self.acceptor.receive(stream).await else { return };
        let path = handshake.request().uri().path().to_owned();
        if handshake.is_websocket() {
            self.talk(&path, handshake).await;
            return;
        }
        let (mut stream, _) = handshake.into_parts();
        // The browser may have gone.
        let _ = stream.write_all(&self.page.response(&path)).await;
        let _ = stream.shutdown().await;
    }

    async fn talk(&self, path: &str, handshake: Handshake<TcpStream>) {
        match path {
            "/forbidden" => {
                handshake.refuse(Refusal::new(StatusCode::FORBIDDEN, "no")).await;
                return self.saw(path, "403");
            }
            "/never" => {
                let (mut stream, _) = handshake.into_parts();
                // A reset is an end too.
                let _ = stream.read(&mut [0]).await;
                return self.saw(path, "ended");
            }
            "/vanish" => return drop(handshake.accept().await),
            "/garbage" => {
                let ws = handshake.accept().await.expect("accepted");
                return garbage(ws).await;
            }
            _ => {}
        }
        let mut ws = handshake.accept().await.expect("accepted");
        match path {
            "/bye" => {
                ws.send("一").await.expect("sent");
                ws.send("二").await.expect("sent");
                ws.close(4002, "打烊 🌙").await.expect("closed");
            }
            "/restart" => ws.close(1012, "").await.expect("closed"),
            "/no-code" => ws.close(1005, "").await.expect("closed"),
            "/unauthorized" => ws.close(3000, "请登录 🔑").await.expect("closed"),
            "/silent" => {
                // Neither reads nor ends before the site does.
                std::future::pending::<()>().await;
            }
            "/flood" => {
                for _ in 0..100 {
                    if ws.send("流".repeat(33) + "!").await.is_err() {
                        break;
                    }
                }
            }
            "/big-text" => {
                ws.send("大".repeat(333) + "!").await.expect("sent");
                ws.send("大".repeat(333) + "!!").await.expect("sent");
            }
            "/big-binary" => {
                ws.send(vec![7; 1000]).await.expect("sent");
                ws.send(vec![7; 1001]).await.expect("sent");
            }
            "/stall" => {
                self.go.notified().await;
                let mut count = 0;
                while let Some(message) = ws.recv().await.expect("closed") {
                    assert_eq!(message.len(), 1024 * 1024);
                    count += 1;
                }
                return self.saw(path, &format!("{count} messages, {}", ending(ws.closed())));
            }
            "/go" => self.go.notify_one(),
            _ => {}
        }
        let echoes = matches!(path, "/echo");
        while let Ok(Some(message)) = ws.recv().await {
            if message.as_text() == Some("restart") {
                ws.close(1012, "重启 🔧").await.expect("closed");
            } else if echoes {
                ws.send(message).await.expect("sent");
            }
        }
        self.saw(path, &ending(ws.closed()));
    }
}

/// A frame with a reserved opcode.
async fn garbage(mut ws: WebSocket<TcpStream>) {
    ws.get_ref().try_write(&[0x83, 0]).expect("written");
    // Until the browser ends it.
    while let Ok(Some(_)) = ws.recv().await {}
}

fn ending(closed: Option<&Closed>) -> String {
    match closed {
        None => "not closed".into(),
        Some(Closed { by, frame: None, .. }) => format!("{by:?} without a code"),
        Some(Closed { by, frame: Some(frame), .. }) => format!("{by:?} {} {}", frame.code, frame.reason),
    }
}
