//! A chat in axum: a page, and WebSockets over HTTP/1.1 and HTTP/2 that are closed gracefully when the server stops.
//!
//!     cargo run -p longwire --example axum_app --features axum,http2
//!
//! Open <http://127.0.0.1:8080> in two tabs; Ctrl-C closes all connections. With `-- --demo` it runs two clients of its own
//! and exits.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::response::{Html, Response};
use axum::routing::{any, get};
use axum::serve::ListenerExt;
use longwire::Shutdown;
use longwire::axum::{WebSocket, WithAcceptor};
use longwire::{
    Acceptor, Client, Config, Connections, Deflate, Http2, Message, Sender, SharedFrame, Upgraded,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8"><title>茶馆 🍵</title>
<form><input autofocus placeholder="说点什么"></form><ul></ul>
<script>
const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/chat`);
const say = text => document.querySelector("ul").append(Object.assign(document.createElement("li"), { textContent: text }));
socket.onmessage = ({ data }) => say(data);
socket.onclose = ({ code, reason }) => say(`closed: ${code} ${reason}`);
document.querySelector("form").onsubmit = event => {
    event.preventDefault();
    const input = document.querySelector("input");
    socket.send(input.value);
    input.value = "";
};
</script>"#;

#[derive(Clone)]
struct App {
    acceptor: Acceptor,
    connections: Connections,
    room: Arc<Mutex<HashMap<u64, Sender<Upgraded>>>>,
}

/// A state without an acceptor would not compile, so the limits below hold for sure.
impl FromRef<App> for Acceptor {
    fn from_ref(app: &App) -> Self {
        app.acceptor.clone()
    }
}

impl App {
    fn new() -> Self {
        let config = Config::server().max_message(4096).deflate(Deflate::new());
        Self {
            acceptor: Acceptor::new().config(config),
            connections: Connections::default(),
            room: Arc::default(),
        }
    }

    fn router(&self) -> Router {
        Router::new().route("/", get(Html(PAGE))).route("/chat", any(chat)).with_state(self.clone())
    }

    /// Sends a message to all members, framed and compressed once. Disconnects slow consumers.
    fn publish(&self, message: Message) {
        let frame = SharedFrame::new(message);
        for sender in self.room.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if sender.try_send(&frame).is_err() {
                // It fails only if the connection is closing already.
                let _ = sender.start_close(1008, "too slow");
            }
        }
    }

    async fn talk(self, socket: WebSocket) {
        let (sender, mut receiver) = socket.split();
        let id = {
            let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
            let id = room.keys().max().map_or(0, |last| last + 1);
            room.insert(id, sender);
            id
        };
        while let Ok(Some(message)) = receiver.recv().await {
            self.publish(message);
        }
        self.room.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

async fn chat(WithAcceptor(ws): WithAcceptor, State(app): State<App>) -> Response {
    ws.on_failed_upgrade(|error| eprintln!("lost before the connection was open: {error}"))
        .on_upgrade(move |socket| app.connections.clone().serve(socket, |socket| app.talk(socket)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let is_demo = std::env::args().any(|argument| argument == "--demo");
    let listener = TcpListener::bind(if is_demo { "127.0.0.1:0" } else { "127.0.0.1:8080" }).await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        // Without it small messages wait for acknowledgements. It fails only if the client has gone.
        let _ = stream.set_nodelay(true);
    });
    println!("http://{address}");

    let app = App::new();
    // axum accepts no new connections while the open ones are being closed.
    let server = axum::serve(listener, app.router()).with_graceful_shutdown(app.connections.stopping());
    let stop = async {
        let mut guests = None;
        if is_demo {
            guests = Some(demo(&format!("ws://{address}")).await?);
        } else {
            tokio::signal::ctrl_c().await?;
        }
        let shutdown = Shutdown::new(1012, "重启 🔄").spread(Duration::from_secs(1));
        let left = app.connections.shutdown(shutdown).await;
        println!("{left} connections had to be dropped");
        if let Some(guests) = guests {
            guests.await?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    let (served, stopped) = tokio::join!(server, stop);
    served?;
    stopped
}

/// Two clients, one over HTTP/2 and one over HTTP/1.1, that stay until the server closes them.
async fn demo(url: &str) -> Result<JoinHandle<()>, Box<dyn Error>> {
    let connection = Http2::new().connect(url).await?;
    let mut lin = connection.open(&Client::new(), "/chat").await?;
    let mut ada = longwire::connect(format!("{url}/chat")).await?;
    ada.send("你好 👋").await?;
    println!("{:?}", ada.recv().await?);
    lin.send("早上好 ☕").await?;
    println!("{:?}", ada.recv().await?);
    Ok(tokio::spawn(async move {
        tokio::join!(async { while let Ok(Some(_)) = lin.recv().await {} }, async {
            while let Ok(Some(_)) = ada.recv().await {}
        });
        println!("{:?} and {:?}", lin.closed(), ada.closed());
    }))
}
