//! What `tracing` is told.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use longwire::http::StatusCode;
use longwire::{Acceptor, Client, Config, Deflate, Refusal};
use tokio::io::duplex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::endings::{config, live, table};
use crate::support::REQUEST;
use crate::support::frames::close;
use crate::support::wire::Wire;

/// Events as lines of JSON.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn subscriber(&self, filter: &str) -> impl tracing::Subscriber + use<> {
        tracing_subscriber::fmt()
            .json()
            .with_span_list(false)
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(self.clone())
            .finish()
    }

    fn lines(&self, message: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let wanted = format!("\"message\":\"{message}\"");
        text.lines().filter(|line| line.contains(&wanted)).map(str::to_owned).collect()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[track_caller]
fn assert_has(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// Whatever the end: one event tells of it, with its cause, and as loud as it is.
#[tokio::test(start_paused = true)]
async fn each_end_is_told_once() {
    for ending in table() {
        let log = Log::default();
        let guard = tracing::subscriber::set_default(log.subscriber("trace"));
        let wire = Wire::new();
        wire.input(REQUEST);
        let ws = Acceptor::new().config(config()).accept(wire.clone()).await.unwrap();
        live(&ending, &wire, ws).await;
        drop(guard);
        let (opened, ended) = (log.lines("opened"), log.lines("ended"));
        assert_eq!((opened.len(), ended.len()), (1, 1), "{}", log.text());
        let quiet = ["closed_by_us", "closed_by_peer", "eof", "reset", "ping_timeout", "dropped"];
        let level = if quiet.contains(&ending.cause) { "INFO" } else { "WARN" };
        assert_has(
            &ended[0],
            &[
                &format!("\"cause\":\"{}\"", ending.cause),
                &format!("\"level\":\"{level}\""),
                "\"side\":\"server\"",
                "\"path\":\"/chat\"",
                "\"target\":\"longwire\"",
            ],
        );
    }
}

#[tokio::test]
async fn both_ends_and_their_totals() {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.subscriber("trace"));
    let (near, far) = duplex(64 * 1024);
    let acceptor = Acceptor::new().subprotocols(["chat.v2"]).config(Config::server().deflate(Deflate::new()));
    let client = Client::new().subprotocols(["chat.v2"]).header("Authorization", "Bearer s3cret");
    let url = "ws://localhost/room?token=s3cret";
    let (server, client) = tokio::join!(acceptor.accept(near), client.handshake(url, far));
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    client.send("s3cret 你好").await.unwrap();
    server.recv().await.unwrap().unwrap();
    let closing = client.close(4001, "s3cret");
    let (closed, received) = tokio::join!(closing, server.recv());
    closed.unwrap();
    received.unwrap();
    drop(guard);
    let ended = log.lines("ended");
    assert_eq!(ended.len(), 2, "{}", log.text());
    for line in &ended {
        assert_has(
            line,
            &["\"path\":\"/room\"", "\"subprotocol\":\"chat.v2\"", "\"deflate\":true", "\"code\":4001"],
        );
    }
    let of = |side: &str| ended.iter().find(|line| line.contains(&format!("\"side\":\"{side}\""))).unwrap();
    assert_has(of("server"), &["closed_by_peer", "\"messages_received\":1", "\"messages_sent\":0"]);
    assert_has(of("client"), &["closed_by_us", "\"messages_received\":0", "\"messages_sent\":1"]);
    assert_eq!(log.lines("message").len(), 2, "{}", log.text());
    assert!(!log.text().contains("s3cret"), "no payload, query, header or reason: {}", log.text());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_opened() {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.subscriber("info"));
    let wire = Wire::new();
    wire.input(REQUEST);
    wire.eof();
    let refusing = Acceptor::new().on_request(|_, _| Err(Refusal::new(StatusCode::FORBIDDEN, "s3cret")));
    assert!(refusing.accept(wire).await.is_err());
    let (near, _far) = duplex(1000);
    assert!(Client::new().handshake("ws://localhost/", near).await.is_err());
    drop(guard);
    let lines = log.lines("not opened");
    assert_eq!(lines.len(), 2, "{}", log.text());
    assert_has(&lines[0], &["\"side\":\"server\"", "\"status\":403", "\"cause\":\"refused\"", "INFO"]);
    assert_has(&lines[1], &["\"side\":\"client\"", "\"cause\":\"timeout\"", "WARN"]);
    assert!(!log.text().contains("s3cret"));
}

/// Who wants warnings only gets them with their context, and nothing of what went well.
#[tokio::test(start_paused = true)]
async fn warnings_only() {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.subscriber("warn"));
    for bytes in [vec![0x81, 0], close(true, 1000, "")] {
        let wire = Wire::new();
        wire.input(REQUEST);
        let mut ws = Acceptor::new().accept(wire.clone()).await.unwrap();
        wire.input(bytes);
        while let Ok(Some(_)) = ws.recv().await {}
    }
    drop(guard);
    let text = log.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_has(&text, &["\"cause\":\"not_masked\"", "\"code\":1002", "\"path\":\"/chat\""]);
}

/// An engine's connections have no spans: each event has the connection's name.
#[cfg(unix)]
#[tokio::test]
async fn an_engine() {
    use longwire::engine::{Conn, Engine, Handler, MessageRef};
    use longwire::http::{HeaderMap, Request};

    struct Host;

    impl Handler for Host {
        type State = ();

        fn on_request(
            &self,
            request: &Request<()>,
            _: std::net::SocketAddr,
            _: &mut HeaderMap,
        ) -> Result<(), Refusal> {
            match request.uri().path() {
                "/no" => Err(Refusal::new(StatusCode::FORBIDDEN, "s3cret")),
                _ => Ok(()),
            }
        }

        fn message(&self, conn: &mut Conn<'_>, (): &mut (), _: MessageRef<'_>) {
            conn.close(1012, "s3cret").unwrap();
        }
    }

    let log = Log::default();
    // Its loops are threads of their own. Other tests of this process have a subscriber of theirs, or no engine
    // that is at a path of this one's.
    tracing::subscriber::set_global_default(log.subscriber("debug")).unwrap();
    let running = Engine::new(Host).threads(1).listen("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", running.local_addr().unwrap());
    let mut ws = longwire::connect(format!("{url}/traced?token=s3cret")).await.unwrap();
    ws.send("你好").await.unwrap();
    assert!(ws.recv().await.unwrap().is_none());
    assert!(longwire::connect(format!("{url}/no")).await.is_err());
    running.handle().shutdown(longwire::Shutdown::default());
    running.wait().unwrap();

    let opened: Vec<_> =
        log.lines("opened").into_iter().filter(|line| line.contains("\"path\":\"/traced\"")).collect();
    let opened: Vec<_> = opened.iter().filter(|line| line.contains("\"id\":")).collect();
    assert_eq!(opened.len(), 1, "{}", log.text());
    assert_has(opened[0], &["\"side\":\"server\"", "\"peer\":\"127.0.0.1:"]);
    let id = opened[0].split("\"id\":").nth(1).unwrap().split('"').nth(1).unwrap();
    let ended = log.lines("ended").into_iter().filter(|line| line.contains("\"id\":")).collect::<Vec<_>>();
    let ended: Vec<_> = ended.iter().filter(|line| line.contains("closed_by_us")).collect();
    assert_eq!(ended.len(), 1, "{}", log.text());
    assert_has(
        ended[0],
        &["\"cause\":\"closed_by_us\"", "\"code\":1012", &format!("\"id\":\"{id}\""), "INFO"],
    );
    let refused = log.lines("not opened");
    let refused = refused.iter().find(|line| line.contains("\"status\":403") && line.contains("\"server\""));
    assert_has(refused.unwrap(), &["\"peer\":\"127.0.0.1:", "\"cause\":\"refused\""]);
    assert!(!log.text().contains("s3cret"), "{}", log.text());
}

/// A span of the application ends when the application leaves it, however long the connection lives.
#[tokio::test]
async fn a_connection_does_not_keep_the_span_open_in_which_it_was_opened() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_env_filter(EnvFilter::new("trace"))
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (near, far) = duplex(10_000);
    let (client, acceptor) = (Client::new(), Acceptor::new());
    let opening = async { tokio::join!(client.handshake("ws://localhost/茶", near), acceptor.accept(far)) };
    let (client, server) = {
        let span = tracing::info_span!("request");
        tracing::Instrument::instrument(opening, span).await
    };
    let closed = log.lines("close");
    assert!(closed.iter().any(|line| line.contains("\"name\":\"request\"")), "{}", log.text());
    assert!(!closed.iter().any(|line| line.contains("\"name\":\"websocket\"")), "{}", log.text());
    drop((client.unwrap(), server.unwrap()));
    let closed = log.lines("close");
    assert_eq!(
        closed.iter().filter(|line| line.contains("\"name\":\"websocket\"")).count(),
        2,
        "{}",
        log.text()
    );
}

/// The default limits apply where no acceptor is found, and that is said once.
#[cfg(feature = "axum")]
#[tokio::test]
async fn a_missing_acceptor_is_a_warning() {
    use axum::routing::any;
    use axum::{Extension, Router};
    use longwire::axum::WebSocketUpgrade;

    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber("longwire=warn"));
    let acceptor = Acceptor::new().config(Config::server().max_message(64 * 1024));
    let app = Router::new()
        .route("/found", any(async |ws: WebSocketUpgrade| ws.on_upgrade(async |_| ())))
        .layer(Extension(acceptor))
        // axum does not apply the layer to what is added after it.
        .route("/missed", any(async |ws: WebSocketUpgrade| ws.on_upgrade(async |_| ())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = Client::new();
    client.connect(format!("ws://{address}/found")).await.unwrap();
    assert!(!log.text().contains("no Acceptor"), "{}", log.text());
    client.connect(format!("ws://{address}/missed")).await.unwrap();
    client.connect(format!("ws://{address}/missed")).await.unwrap();
    assert_eq!(log.text().matches("no Acceptor").count(), 1, "{}", log.text());
}
