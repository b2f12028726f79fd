//! A server in the test process, and its clients.

use std::time::Duration;

use longwire::engine::Running;
use longwire::{Acceptor, Client, Config as Limits, Message, WebSocket};
use longwire_server::config::{Config, Sources};
use longwire_server::realtime::{Realtime, SUBPROTOCOL};
use serde_json::{Value, json};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    pub(crate) realtime: Realtime,
    running: Running,
    upkeep: tokio::task::JoinHandle<()>,
}

/// Returns the configuration of this text.
pub(crate) fn config(text: &str) -> Config {
    let mut sources = Sources::new();
    sources.text("test.toml", text).unwrap();
    sources.load().unwrap().config
}

/// Returns the offset of a position.
pub(crate) fn at(value: &Value) -> u64 {
    let position = value["position"].as_str().unwrap_or_else(|| panic!("no position: {value}"));
    position.split_once('-').unwrap().1.parse().unwrap()
}

/// Receives the next message.
pub(crate) async fn receive(socket: &mut WebSocket) -> Message {
    timeout(TIMEOUT, socket.recv()).await.expect("in time").expect("open").expect("open")
}

impl Server {
    pub(crate) fn start(config: Config) -> Self {
        let limits = Limits::server().max_message(config.max_message.in_memory());
        let realtime = Realtime::new(config).unwrap();
        let running = realtime
            .engine(|_| ())
            .acceptor(Acceptor::new().subprotocols([SUBPROTOCOL]).config(limits))
            .threads(2)
            .listen("127.0.0.1:0")
            .unwrap();
        realtime.set_engine(running.handle());
        let kept = realtime.clone();
        let upkeep = tokio::spawn(async move { kept.upkeep(|error| panic!("{error}")).await });
        Self { realtime, running, upkeep }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.running.local_addr().unwrap())
    }

    pub(crate) async fn raw(&self, path: &str) -> WebSocket {
        longwire::connect(self.url(path)).await.unwrap()
    }

    /// Opens a session with this query and waits for its welcome.
    pub(crate) async fn session(&self, query: &str) -> Session {
        let client = Client::new().subprotocols([SUBPROTOCOL]);
        let socket = client.connect(self.url(&format!("/-/session{query}"))).await.unwrap();
        assert_eq!(socket.subprotocol(), Some(SUBPROTOCOL));
        let mut session = Session { socket, id: 0, events: Vec::new(), welcome: Value::Null };
        session.welcome = session.next().await;
        assert_eq!(session.welcome["type"], "welcome");
        session
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

pub(crate) struct Session {
    pub(crate) socket: WebSocket,
    id: u64,
    events: Vec<Value>,
    pub(crate) welcome: Value,
}

impl Session {
    pub(crate) async fn send(&mut self, request: Value) {
        self.socket.send(request.to_string()).await.unwrap();
    }

    /// Returns the next event or reply.
    pub(crate) async fn next(&mut self) -> Value {
        let message = receive(&mut self.socket).await;
        serde_json::from_str(message.as_text().expect("text")).expect("JSON")
    }

    /// Sends a request and waits for its reply; earlier events are kept for [`event`](Self::event).
    pub(crate) async fn request_reply(&mut self, mut request: Value) -> Value {
        self.id += 1;
        request["id"] = json!(self.id);
        self.send(request).await;
        loop {
            let said = self.next().await;
            if said["id"] == json!(self.id) {
                return said;
            }
            self.events.push(said);
        }
    }

    /// Returns the next event.
    pub(crate) async fn event(&mut self) -> Value {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        self.next().await
    }

    /// Waits for the end and returns code and reason.
    pub(crate) async fn closed_with(&mut self) -> (u16, String) {
        while let Some(_message) =
            timeout(TIMEOUT, self.socket.recv()).await.expect("in time").expect("a clean end")
        {}
        let frame = self.socket.closed().and_then(|closed| closed.frame.clone()).expect("a code");
        (frame.code.into(), frame.reason.as_str().to_owned())
    }
}
