//! Our server behind real nginx and HAProxy, with the configurations of docs/deploy, and our client before them.
#![cfg(unix)]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longwire::Shutdown;
use longwire::engine::{Conn, Engine, Handle, Handler, HttpStream, Id, MessageRef, Opening, Running};
use longwire::http::{HeaderMap, Request, StatusCode};
use longwire::{
    Acceptor, Client, Closed, Config, ConnectError, Counters, Deflate, Error, Message, Refusal, Side,
};
use longwire_interop::{Front, Proxy};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

/// No single step of a test takes longer than this, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than any test is idle.
const LONG: Duration = Duration::from_secs(600);

/// The timeout for idle connections of a proxy in a test of it, and the time after which our server sends a Ping then.
const IDLE: Duration = Duration::from_secs(2);
const PING: Duration = Duration::from_millis(400);

const PROXIES: [Proxy; 2] = [Proxy::Nginx, Proxy::Haproxy];

/// Echoes; says at `/forwarded` what the proxy has said of the client; refuses at `/no`.
struct Host {
    ended: UnboundedSender<Result<Closed, Error>>,
    healthy: Arc<AtomicBool>,
}

impl Handler for Host {
    type State = Option<String>;

    fn on_request(
        &self,
        request: &Request<()>,
        _: SocketAddr,
        _: &mut HeaderMap,
    ) -> Result<Option<String>, Refusal> {
        let header = |name: &str| {
            let values: Vec<_> = request.headers().get_all(name).iter().collect();
            format!("{values:?}")
        };
        match request.uri().path() {
            "/no" => Err(Refusal::new(StatusCode::FORBIDDEN, "你不能进来 🚫\n")),
            "/forwarded" => {
                let names = ["x-forwarded-for", "x-forwarded-proto", "host"];
                Ok(Some(names.map(header).join("\n")))
            }
            _ => Ok(None),
        }
    }

    fn opened(&self, conn: &mut Conn<'_>, forwarded: &mut Option<String>, _: &Opening<'_>) {
        if let Some(text) = forwarded.take() {
            conn.send(text.as_str()).expect("it is open");
        }
    }

    fn message(&self, conn: &mut Conn<'_>, _: &mut Option<String>, message: MessageRef<'_>) {
        match message.as_text().and_then(|text| text.strip_prefix("close ")) {
            Some(code) => {
                conn.close(code.parse::<u16>().expect("a code"), "走吧 👋").expect("it may be sent")
            }
            None => conn.send(message).expect("there is room"),
        }
    }

    fn closed(&self, _: &Handle, _: Id, _: Option<String>, end: Result<Closed, Error>) {
        // Nobody listens where a test does not care.
        let _ = self.ended.send(end);
    }
}

/// The server, a proxy before it, and what the server tells of its ends.
struct House {
    running: Running,
    front: Front,
    counters: Counters,
    ended: UnboundedReceiver<Result<Closed, Error>>,
    healthy: Arc<AtomicBool>,
}

impl House {
    async fn open(proxy: Proxy, idle: Duration, ping: Option<Duration>) -> Self {
        println!("{proxy:?}");
        let (to, ended) = unbounded_channel();
        let (counters, healthy) = (Counters::new(), Arc::new(AtomicBool::new(false)));
        let config = Config::server().max_message(2 << 20).deflate(Deflate::new()).ping_after(ping);
        let acceptor = Acceptor::new().config(config).subprotocols(["chat.v9", "chat.v2"]);
        let host = Host { ended: to, healthy: Arc::clone(&healthy) };
        let asked = Arc::clone(&host.healthy);
        let running = Engine::new(host)
            .threads(1)
            .acceptor(acceptor.counters(&counters))
            .http(move |stream, read| healthy_answer(stream, read.len(), Arc::clone(&asked)))
            .listen("127.0.0.1:0")
            .expect("a free port");
        let server = running.local_addr().expect("it listens");
        let front = tokio::task::spawn_blocking(move || Front::start(proxy, server, idle)).await.expect("up");
        let house = Self { running, front, counters, ended, healthy };
        if proxy == Proxy::Haproxy {
            // It takes the server for alive to begin with; that its check works shows in what it asks.
            let begun = Instant::now();
            while !house.healthy.load(Ordering::Relaxed) {
                assert!(begun.elapsed() < PATIENCE, "HAProxy does not look at /-/healthy");
                sleep(Duration::from_millis(10)).await;
            }
        }
        house
    }

    async fn end(&mut self) -> Result<Closed, Error> {
        timeout(PATIENCE, self.ended.recv()).await.expect("it ends").expect("the engine lives")
    }
}

/// What HAProxy's health check gets.
async fn healthy_answer(mut stream: HttpStream, read: usize, asked: Arc<AtomicBool>) {
    assert!(read > 0);
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
    // Who has left has no need of it.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
    asked.store(true, Ordering::Relaxed);
}

fn client() -> Client {
    let config = Config::client().ping_after(None).write_timeout(PATIENCE).close_timeout(PATIENCE);
    Client::new().config(config).handshake_timeout(PATIENCE).subprotocols(["chat.v1", "chat.v2"])
}

type Ws<S> = longwire::WebSocket<S>;

async fn next<S: AsyncRead + AsyncWrite + Unpin>(ws: &mut Ws<S>) -> Result<Option<Message>, Error> {
    timeout(PATIENCE, ws.recv()).await.expect("it hangs")
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(ws: &mut Ws<S>, message: impl Into<Message>) {
    let message = message.into();
    timeout(PATIENCE, ws.send(message.clone())).await.expect("it hangs").expect("open");
    let heard = next(ws).await.expect("open").expect("open");
    assert!(heard == message, "{} bytes became {}", message.len(), heard.len());
}

/// Messages of every kind and size, whole.
async fn echo_all<S: AsyncRead + AsyncWrite + Unpin>(ws: &mut Ws<S>) {
    assert_eq!(ws.subprotocol(), Some("chat.v2"));
    assert!(ws.deflate().is_some(), "the extension passes");
    for text in ["", "你好", "👋🏽 👩‍🚀 🇨🇳", "a\0b"] {
        echo(ws, text).await;
    }
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        echo(ws, (0..size).map(|at| (at * 7 / 3) as u8).collect::<Vec<_>>()).await;
    }
    echo(ws, "天地玄黄 宇宙洪荒 🌊 ".repeat((1 << 20) / 32)).await;
}

#[tokio::test]
async fn messages_pass() {
    for proxy in PROXIES {
        let mut house = House::open(proxy, LONG, None).await;
        let mut ws = client().connect(house.front.url("/a")).await.expect("the way is free");
        echo_all(&mut ws).await;
        ws.close(1000, "再见").await.expect("a closing handshake");
        house.end().await.expect("a closing handshake");
        let counted = house.counters.snapshot();
        assert_eq!((counted.opened, counted.received.texts, counted.received.binaries), (1, 5, 7));
        assert!(counted.received.wire_bytes < counted.received.payload_bytes(), "it stays compressed");
    }
}

#[tokio::test]
async fn tls_ends_at_the_proxy() {
    for proxy in PROXIES {
        let mut house = House::open(proxy, LONG, None).await;
        let (url, stream) = house.front.secure("/a").await;
        let mut ws = client().handshake(url, stream).await.expect("the way is free");
        echo_all(&mut ws).await;
        ws.close(1000, "").await.expect("a closing handshake");
        house.end().await.expect("a closing handshake");
    }
}

#[tokio::test]
async fn what_the_proxy_says_of_the_client() {
    for proxy in PROXIES {
        let house = House::open(proxy, LONG, None).await;
        // What a client says of itself stands before what the proxy says.
        let client = client().header("X-Forwarded-For", "192.0.2.1");
        let mut plain = client.connect(house.front.url("/forwarded")).await.expect("the way is free");
        let (url, stream) = house.front.secure("/forwarded").await;
        let mut secure = client.handshake(&url, stream).await.expect("the way is free");
        let heard = next(&mut plain).await.expect("open").expect("open");
        let heard: Vec<_> = heard.as_text().expect("text").lines().collect();
        assert!(heard[0].contains("192.0.2.1") && heard[0].ends_with("127.0.0.1\"]"), "{heard:?}");
        let host = house.front.url("").replace("ws://", "");
        assert_eq!(heard[2], format!("[{host:?}]"));
        let heard = next(&mut secure).await.expect("open").expect("open");
        let heard: Vec<_> = heard.as_text().expect("text").lines().collect();
        assert_eq!(heard[1], "[\"https\"]");
        let host = url.replace("wss://", "").replace("/forwarded", "");
        assert_eq!(heard[2], format!("[{host:?}]"), "by it the page's origin is judged");
    }
}

#[tokio::test]
async fn close_codes_pass_both_ways() {
    for proxy in PROXIES {
        let mut house = House::open(proxy, LONG, None).await;
        for code in [1000, 1001, 3000, 4999] {
            let mut ws = client().connect(house.front.url("/a")).await.expect("the way is free");
            ws.close(code, "再见 👋").await.expect("a closing handshake");
            let Closed { by, frame, .. } = house.end().await.expect("a closing handshake");
            let frame = frame.expect("a code");
            assert_eq!((by, u16::from(frame.code), &*frame.reason), (Side::Peer, code, "再见 👋"));

            let mut ws = client().connect(house.front.url("/a")).await.expect("the way is free");
            ws.send(format!("close {code}")).await.expect("open");
            assert_eq!(next(&mut ws).await.expect("a closing handshake"), None);
            let Closed { by, frame, .. } = ws.closed().expect("closed");
            let frame = frame.as_ref().expect("a code");
            assert_eq!((*by, u16::from(frame.code), &*frame.reason), (Side::Peer, code, "走吧 👋"));
            assert_eq!(house.end().await.expect("a closing handshake").by, Side::Us);
        }
        // What breaks a rule is told to the client, too.
        let mut ws = client().connect(house.front.url("/a")).await.expect("the way is free");
        ws.send(vec![0; (2 << 20) + 1]).await.expect("open");
        assert_eq!(next(&mut ws).await.expect("a closing handshake"), None);
        let code = ws.closed().and_then(|closed| closed.frame.as_ref()).map(|frame| u16::from(frame.code));
        assert_eq!(code, Some(1009));
    }
}

/// Without Pings the proxy ends what is idle; with them it does not.
#[tokio::test]
async fn keepalive_outlives_the_timeout_of_the_proxy() {
    for proxy in PROXIES {
        let mut silent = House::open(proxy, IDLE, None).await;
        let mut ws = client().connect(silent.front.url("/a")).await.expect("the way is free");
        echo(&mut ws, "你好").await;
        let end = next(&mut ws).await;
        assert!(matches!(end, Err(Error::Eof | Error::Io(_))), "the proxy has a timeout: {end:?}");
        assert!(silent.end().await.is_err());

        let house = House::open(proxy, IDLE, Some(PING)).await;
        let mut ws = client().connect(house.front.url("/a")).await.expect("the way is free");
        let idle = timeout(3 * IDLE, ws.recv()).await;
        assert!(idle.is_err(), "nothing comes and nothing ends: {idle:?}");
        echo(&mut ws, "还在 👋").await;
        assert!(house.counters.snapshot().received.pongs >= 3);
    }
}

#[tokio::test]
async fn a_restart_is_told_and_a_server_that_is_gone_is_an_answer() {
    for proxy in PROXIES {
        for code in [1001, 1012] {
            let house = House::open(proxy, LONG, None).await;
            let mut ws = client().connect(house.front.url("/a")).await.expect("the way is free");
            echo(&mut ws, "你好").await;
            house.running.handle().shutdown(Shutdown::new(code, "重启"));
            assert_eq!(next(&mut ws).await.expect("a closing handshake"), None);
            let frame = ws.closed().and_then(|closed| closed.frame.clone()).expect("a code");
            assert_eq!((u16::from(frame.code), &*frame.reason), (code, "重启"));
            let House { running, front, .. } = house;
            tokio::task::spawn_blocking(|| running.wait()).await.expect("it ends").expect("well");
            let refused = client().connect(front.url("/a")).await;
            let Err(ConnectError::Refused(response)) = refused else { panic!("{refused:?}") };
            assert!([502, 503].contains(&response.status.as_u16()), "{response:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_passes_as_http() {
    for proxy in PROXIES {
        let house = House::open(proxy, LONG, None).await;
        let refused = client().connect(house.front.url("/no")).await;
        let Err(ConnectError::Refused(response)) = refused else { panic!("{refused:?}") };
        assert_eq!((response.status, &*response.body), (StatusCode::FORBIDDEN, "你不能进来 🚫\n"));
        assert_eq!(house.counters.snapshot().not_opened_by("403"), 1);
    }
}
