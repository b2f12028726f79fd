//! A server of channels on a free port.

use std::net::{Ipv4Addr, TcpListener};

use longwire::engine::{Engine, Running};
use longwire::tls::ServerTls;
use longwire::{Acceptor, Client, Message, WebSocket};
use longwire_server::config::Config;
use longwire_server::hub::ChannelName;
use longwire_server::realtime::http::Http;
use longwire_server::realtime::{ConnectionHandler, Realtime, SUBPROTOCOL};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Answer, Connection};
use crate::http_server::HttpServer;
use crate::in_time;

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) realtime: Realtime,
    pub(crate) close: watch::Sender<bool>,
    _running: Running,
    upkeep: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

pub(crate) fn config(text: &str) -> Config {
    toml::from_str(text).expect("a configuration")
}

impl Server {
    pub(crate) fn start(text: &str) -> Self {
        Self::with(text, |http| http)
    }

    pub(crate) fn with(text: &str, set: impl FnOnce(Http) -> Http) -> Self {
        Self::run(text, set, None)
    }

    pub(crate) fn secure(text: &str, tls: ServerTls) -> Self {
        Self::run(text, |http| http, Some(tls))
    }

    fn run(text: &str, set: impl FnOnce(Http) -> Http, tls: Option<ServerTls>) -> Self {
        let realtime = Realtime::new(config(text)).expect("channels");
        let acceptor = Acceptor::new().subprotocols([SUBPROTOCOL]);
        let http = Http::new(realtime.clone()).listening(Ipv4Addr::LOCALHOST.into());
        let http = set(http.websockets(acceptor.clone()));
        let (http_server, close) = HttpServer::new(http, std::time::Duration::ZERO);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, slow) = (realtime.clone(), realtime.clone());
        let mut engine = Engine::new(ConnectionHandler::new(realtime.clone(), |_| ()))
            .acceptor(acceptor)
            .on_request(move |request, from| ConnectionHandler::authorise(asked.clone(), request, from))
            .slow_consumers_of(move |topic| slow.slow_consumer(topic))
            .http(move |stream, read| http_server.clone().serve(stream, read))
            .threads(1);
        if let Some(tls) = tls {
            engine = engine.tls(tls);
        }
        let running = engine.start(listener).expect("an engine");
        realtime.set_engine(running.handle());
        let kept = realtime.clone();
        let upkeep = tokio::spawn(async move { kept.upkeep(|refused| panic!("{refused}")).await });
        Self { port, realtime, close, _running: running, upkeep }
    }

    /// Publishes a message as the server and returns its position.
    pub(crate) fn publish(&self, channel: &str, message: impl Into<Message>) -> String {
        let channel = ChannelName::new(channel).expect("a name");
        self.realtime.publish(&channel, message).expect("published").position.to_string()
    }

    /// Returns the number of members of a channel.
    pub(crate) fn present(&self, channel: &str) -> usize {
        let channel = ChannelName::new(channel).expect("a name");
        self.realtime.hub().presence(&channel).map_or(0, |present| present.counts.connections)
    }

    pub(crate) async fn connection(&self) -> Connection {
        Connection::open(self.port).await
    }

    /// Sends one request on a new connection.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut connection = self.connection().await;
        connection.send(method, path, headers, body).await;
        in_time(connection.answer()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes()).await
    }

    /// Opens an event stream.
    pub(crate) async fn events(&self, path: &str, headers: &[(&str, &str)]) -> Connection {
        let mut connection = self.connection().await;
        let mut all = vec![("Accept", "text/event-stream")];
        all.extend_from_slice(headers);
        connection.send("GET", path, &all, b"").await;
        let head = in_time(connection.head()).await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{head:?}");
        connection
    }

    /// Opens a raw connection and waits until it is a member.
    pub(crate) async fn raw(&self, path: &str) -> WebSocket {
        let channel = longwire_server::pattern::name_of_path(path).expect("a path");
        let before = self.subscribers(&channel);
        let socket =
            in_time(longwire::connect(format!("ws://127.0.0.1:{}{path}", self.port))).await.expect("open");
        crate::wait_until(|| self.subscribers(&channel) > before).await;
        socket
    }

    /// As last reported.
    fn subscribers(&self, channel: &str) -> usize {
        self.present(channel)
    }

    pub(crate) async fn session(&self) -> Session {
        let client = Client::new().subprotocols([SUBPROTOCOL]);
        let url = format!("ws://127.0.0.1:{}/-/session", self.port);
        let mut session = Session(in_time(client.connect(url)).await.expect("open"));
        assert_eq!(session.receive().await["type"], "welcome");
        session
    }
}

/// A session of `longwire.v1`.
pub(crate) struct Session(WebSocket);

impl Session {
    pub(crate) async fn publish(&mut self, request: Value) {
        self.0.send(request.to_string()).await.expect("sent");
    }

    pub(crate) async fn receive(&mut self) -> Value {
        let message = in_time(self.0.recv()).await.expect("open").expect("open");
        serde_json::from_str(message.as_text().expect("text")).expect("JSON")
    }

    pub(crate) async fn subscribe(&mut self, channel: &str) {
        self.publish(json!({"type": "subscribe", "id": 1, "channel": channel})).await;
        assert_eq!(self.receive().await["type"], "ok");
    }
}
