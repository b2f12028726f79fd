//! A conversation with a peer that echoes: messages of all kinds and sizes, in fragments, Pings both ways, closing
//! handshakes by both ends.

use std::time::Duration;

use longwire::{
    Acceptor, Client, CloseFrame, Closed, Config, Counters, Deflate, Kind, Message, Role, Side, WebSocket,
};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::authority::Authority;
use crate::peer::{Library, PATIENCE, Peer};

/// What the peer can do.
#[derive(Clone, Copy, Debug)]
pub struct Theirs {
    /// It speaks permessage-deflate, and we ask for it.
    pub deflate: bool,
    /// It sends a Ping when it is told to.
    pub pings: bool,
    /// It echoes as it hears, part by part.
    pub parts: bool,
}

/// The end of a conversation.
#[derive(Clone, Copy, Debug)]
enum End {
    Ours(u16, &'static str),
    Theirs(u16, &'static str),
}

const ENDS: [End; 4] =
    [End::Ours(1000, "再见 👋"), End::Ours(4999, ""), End::Theirs(1000, "走了"), End::Theirs(4001, "👋")];

/// How our end is configured.
fn config(role: Role, theirs: Theirs) -> Config {
    let config = if role == Role::Client { Config::client() } else { Config::server() };
    let config = config.max_message(4 << 20).frame_size(100_000).ping_after(None);
    let config = config.write_timeout(PATIENCE).close_timeout(PATIENCE);
    if theirs.deflate { config.deflate(Deflate::new()) } else { config.no_deflate() }
}

/// What a client of theirs is told.
fn client_options(theirs: Theirs) -> Value {
    json!({ "protocols": ["chat.v1", "chat.v2"], "compress": theirs.deflate })
}

fn acceptor(theirs: Theirs, counters: &Counters) -> Acceptor {
    let acceptor = Acceptor::new().config(config(Role::Server, theirs)).counters(counters);
    acceptor.subprotocols(["chat.v2"]).handshake_timeout(PATIENCE)
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("a socket").port();
    (listener, port)
}

async fn connection(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("the peer connects").expect("a socket").0
}

/// Talks as `role` with the library in the other one, several times over, with each end of it.
pub async fn talk(library: Library, role: Role, theirs: Theirs) {
    for end in ENDS {
        println!("{library:?} with a {role:?} of ours: {theirs:?}, {end:?}");
        let counters = Counters::new();
        match role {
            Role::Client => {
                let options = json!({ "protocols": ["chat.v2"], "compress": theirs.deflate });
                let (peer, port) = Peer::server(library, &options).await;
                let client = Client::new().config(config(role, theirs)).counters(&counters);
                let client = client.subprotocols(["chat.v1", "chat.v2"]).handshake_timeout(PATIENCE);
                let opened = client.connect(format!("ws://127.0.0.1:{port}/")).await;
                converse(opened.expect("the peer accepts"), peer, theirs, end, &counters).await;
            }
            Role::Server => {
                let (listener, port) = listen().await;
                let peer = Peer::client(library, &client_options(theirs), port);
                let opened = acceptor(theirs, &counters).accept(connection(&listener).await).await;
                converse(opened.expect("a good request"), peer, theirs, end, &counters).await;
            }
        }
    }
}

/// As [`talk`], as a server, over TLS.
pub async fn talk_securely(library: Library, theirs: Theirs) {
    let authority = Authority::new();
    for end in [ENDS[0], ENDS[3]] {
        println!("{library:?} with a server of ours over TLS: {theirs:?}, {end:?}");
        let counters = Counters::new();
        let (listener, port) = listen().await;
        let peer = Peer::secure_client(library, &client_options(theirs), port, &authority);
        let stream = connection(&listener).await;
        let stream = timeout(PATIENCE, authority.acceptor.accept(stream)).await.expect("it hangs");
        let opened = acceptor(theirs, &counters).accept(stream.expect("it trusts the authority")).await;
        converse(opened.expect("a good request"), peer, theirs, end, &counters).await;
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut ws: WebSocket<S>,
    mut peer: Peer,
    theirs: Theirs,
    end: End,
    counters: &Counters,
) {
    assert_eq!(ws.subprotocol(), Some("chat.v2"));
    assert_eq!(ws.deflate().is_some(), theirs.deflate);
    for text in ["", "你好", "👋🏽 👩‍🚀 🇨🇳", "a\0b\u{10FFFF}"] {
        echo(&mut ws, text.into()).await;
    }
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        echo(&mut ws, (0..size).map(|at| (at * 7 / 3) as u8).collect::<Vec<_>>().into()).await;
    }
    echo(&mut ws, "天地玄黄 宇宙洪荒 🌊 ".repeat((1 << 20) / 32).into()).await;
    // Cut within a character.
    let text = "你好 👋";
    for (at, part) in text.as_bytes().chunks(2).enumerate() {
        let last = 2 * (at + 1) >= text.len();
        ws.send_part((Kind::Text, part.to_vec(), last)).await.expect("open");
    }
    hear(&mut ws, text.into()).await;
    if theirs.parts {
        // Which an end that puts messages together cannot tell from a whole one: so it is heard in parts.
        ws.send_part((Kind::Binary, vec![1; 1000], false)).await.expect("open");
        ws.send_part((Kind::Binary, vec![2; 1000], true)).await.expect("open");
        let mut parts = Vec::new();
        while parts.last().is_none_or(|part: &longwire::Part| !part.last) {
            let part = timeout(PATIENCE, ws.recv_part()).await.expect("it hangs").expect("open");
            parts.push(part.expect("open"));
        }
        assert!(parts.len() > 1, "they send fragments");
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.payload.to_vec()).collect();
        assert_eq!(whole, [[1; 1000], [2; 1000]].concat());
    }
    ws.ping("在吗").await.expect("open");
    if theirs.pings {
        ws.send("ping").await.expect("open");
        hear(&mut ws, "pinged".into()).await;
    }
    // Behind it their Pong has come.
    echo(&mut ws, "还在".into()).await;
    while counters.snapshot().received.pongs == 0 {
        let idle = timeout(Duration::from_millis(20), ws.recv()).await;
        assert!(idle.is_err(), "only a Pong is to come: {idle:?}");
    }
    assert_eq!(counters.snapshot().received.pings, u64::from(theirs.pings));

    let (code, reason) = match end {
        End::Ours(code, reason) => {
            timeout(PATIENCE, ws.close(code, reason)).await.expect("it hangs").expect("a closing handshake");
            (code, reason)
        }
        End::Theirs(code, reason) => {
            ws.send(format!("close {code} {reason}")).await.expect("open");
            let last = timeout(PATIENCE, ws.recv()).await.expect("it hangs");
            assert_eq!(last.expect("a closing handshake"), None);
            (code, reason)
        }
    };
    let by = if matches!(end, End::Ours(..)) { Side::Us } else { Side::Peer };
    let Closed { by: first, frame, .. } = ws.closed().expect("closed");
    assert_eq!((*first, frame.as_ref()), (by, Some(&CloseFrame::new(code, reason))));
    let said = peer.says().await.expect("a line");
    // When they began, what they say is what they heard back, of which not all keep the reason.
    match end {
        End::Ours(..) => assert_eq!(said, format!("closed {code} {reason}").trim_end()),
        End::Theirs(..) => assert!(said.starts_with(&format!("closed {code}")), "{said}"),
    }
    if ws.role() == Role::Server {
        peer.ends().await;
    }
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(ws: &mut WebSocket<S>, message: Message) {
    timeout(PATIENCE, ws.send(message.clone())).await.expect("it hangs").expect("open");
    hear(ws, message).await;
}

async fn hear<S: AsyncRead + AsyncWrite + Unpin>(ws: &mut WebSocket<S>, expected: Message) {
    let heard = timeout(PATIENCE, ws.recv()).await.expect("it hangs").expect("open").expect("open");
    assert!(heard == expected, "{} bytes became {}", expected.len(), heard.len());
}
