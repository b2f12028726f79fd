//! A chat in axum: a page, and WebSockets over HTTP/1.1 and HTTP/2, which are told when the server stops.
//!
//!     cargo run -p longwire --example axum_app --features axum,http2
//!
//! Open <http://127.0.0.1:8080> in two tabs; Ctrl-C says goodbye to all. With `-- --demo` it talks to itself and ends.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::{Html, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use longwire::Shutdown;
use longwire::axum::{WebSocket, WebSocketUpgrade};
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

#[derive(Clone, Default)]
struct App {
    connections: Connections,
    room: Arc<Mutex<HashMap<u64, Sender<Upgraded>>>>,
}

impl App {
    fn router(&self) -> Router {
        let acceptor = Acceptor::new().config(Config::server().max_message(4096).deflate(Deflate::new()));
        Router::new()
            .route("/", get(Html(PAGE)))
            .route("/chat", any(chat))
            .layer(Extension(acceptor))
            .with_state(self.clone())
    }

    /// Tells everybody: framed and compressed once, and who reads too slowly is shown out.
    fn publish(&self, message: Message) {
        let frame = SharedFrame::new(message);
        for sender in self.room.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if sender.try_send(&frame).is_err() {
                // Fails when it is closing already.
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

async fn chat(ws: WebSocketUpgrade, State(app): State<App>) -> Response {
    ws.on_failed_upgrade(|error| eprintln!("lost before it was open: {error}"))
        .on_upgrade(move |socket| app.connections.clone().serve(socket, |socket| app.talk(socket)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let is_demo = std::env::args().any(|argument| argument == "--demo");
    let listener = TcpListener::bind(if is_demo { "127.0.0.1:0" } else { "127.0.0.1:8080" }).await?;
    let address = listener.local_addr()?;
    println!("http://{address}");

    let app = App::default();
    // axum takes no new connections from here on, while the sockets say goodbye.
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
        println!("{left} had to be dropped");
        if let Some(guests) = guests {
            guests.await?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    let (served, stopped) = tokio::join!(server, stop);
    served?;
    stopped
}

/// Two who talk, one over HTTP/2 and one over HTTP/1.1, and stay until they are told to go.
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
