//! A connection with a peer that echoes, all of whose bytes are judged in the end.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use longwire::{
    Acceptor, Client, Compress, Config, DeflateParameters, Kind, Message, Outgoing, Role, SharedFrame,
    WebSocket,
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::peer::{Library, PATIENCE, Peer};
use crate::recorded::{Record, Recorded};
use crate::wire::{Limits, Usage, judge};

/// Bytes on the wire for a message, and for its echo.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// By us.
    pub sent: usize,
    /// By the peer.
    pub received: usize,
}

/// The connection.
#[derive(Debug)]
pub struct Link {
    ws: WebSocket<Recorded>,
    record: Record,
    peer: Peer,
    /// Every message, which went both ways.
    exchanged: Vec<Message>,
}

impl Link {
    /// Opens a connection between an end of ours in the given role and one of the library in the other.
    pub(crate) async fn open(library: Library, role: Role, ours: Config, theirs: &Value) -> Self {
        // No Ping by itself: the messages alone are counted.
        let ours = ours.ping_after(None).write_timeout(PATIENCE).close_timeout(PATIENCE);
        let (ws, record, peer) = match role {
            Role::Client => {
                let (peer, port) = Peer::server(library, theirs).await;
                let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the peer listens");
                stream.set_nodelay(true).expect("a socket");
                let (stream, record) = Recorded::new(stream);
                let client = Client::new().config(ours).handshake_timeout(PATIENCE);
                let url = format!("ws://127.0.0.1:{port}/");
                (client.handshake(url, stream).await.expect("the peer accepts"), record, peer)
            }
            Role::Server => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let port = listener.local_addr().expect("a socket").port();
                let peer = Peer::client(library, theirs, port);
                let (stream, _) = in_time(listener.accept()).await.expect("the peer connects");
                stream.set_nodelay(true).expect("a socket");
                let (stream, record) = Recorded::new(stream);
                let acceptor = Acceptor::new().config(ours).handshake_timeout(PATIENCE);
                (acceptor.accept(stream).await.expect("a good request"), record, peer)
            }
        };
        Self { ws, record, peer, exchanged: Vec::new() }
    }

    /// The extensions that the client offered.
    pub(crate) fn offer(&self) -> Option<String> {
        let bytes = self.record.bytes();
        extensions(if self.ws.role() == Role::Client { &bytes.sent } else { &bytes.received })
    }

    /// The extensions that the server accepted.
    pub(crate) fn answer(&self) -> Option<String> {
        let bytes = self.record.bytes();
        extensions(if self.ws.role() == Role::Client { &bytes.received } else { &bytes.sent })
    }

    /// What our end says was agreed.
    pub(crate) fn agreed(&self) -> Option<DeflateParameters> {
        self.ws.deflate()
    }

    /// Sends a message and receives its echo.
    pub async fn echo(&mut self, message: impl Into<Message>) -> Cost {
        let message = message.into();
        let before = self.count();
        in_time(self.ws.send(message.clone())).await.expect("open");
        self.hear(message).await;
        self.since(before)
    }

    /// Sends a message that is not to be compressed, and receives its echo.
    pub(crate) async fn echo_plain(&mut self, message: impl Into<Message>) -> Cost {
        let message = message.into();
        let before = self.count();
        in_time(self.ws.send(Outgoing::from(message.clone()).compress(Compress::Never))).await.expect("open");
        self.hear(message).await;
        self.since(before)
    }

    /// Sends a message as it is sent to many at once, and receives its echo.
    pub(crate) async fn echo_shared(&mut self, message: impl Into<Message>) -> Cost {
        let frame = SharedFrame::new(message.into());
        let before = self.count();
        in_time(self.ws.feed(&frame)).await.expect("open");
        self.hear(frame.message()).await;
        self.since(before)
    }

    /// Sends a message in parts and receives its echo.
    pub(crate) async fn echo_parts(&mut self, kind: Kind, parts: &[&[u8]]) -> Cost {
        let whole = parts.concat();
        let before = self.count();
        for (number, part) in parts.iter().enumerate() {
            let last = number + 1 == parts.len();
            in_time(self.ws.send_part((kind, Bytes::copy_from_slice(part), last))).await.expect("open");
        }
        self.hear(match kind {
            Kind::Text => Message::from(String::from_utf8(whole).expect("text")),
            Kind::Binary => Message::from(whole),
        })
        .await;
        self.since(before)
    }

    /// Sends many messages before it receives their echoes. They must fit the write buffer.
    pub(crate) async fn echo_many(&mut self, messages: Vec<Message>) -> Cost {
        let before = self.count();
        for message in &messages {
            in_time(self.ws.feed(message.clone())).await.expect("open");
        }
        for message in messages {
            self.hear(message).await;
        }
        self.since(before)
    }

    /// Sends a Ping. The Pong comes with the next echo.
    pub(crate) async fn ping(&mut self) {
        in_time(self.ws.ping("在吗 👀")).await.expect("open");
    }

    async fn hear(&mut self, expected: Message) {
        let end = in_time(self.ws.recv()).await;
        self.exchanged.push(expected);
        let expected = self.exchanged.last();
        if matches!(&end, Ok(Some(message)) if Some(message) == expected) {
            return;
        }
        // The first direction that is not as it should be, to begin with ours, is where the fault lies.
        self.judge();
        let said = timeout(Duration::from_secs(2), self.peer.says()).await;
        let end = end.map(|message| message.map(|message| message.len()));
        panic!("{} bytes came back as {end:?}; the peer: {said:?}", expected.map_or(0, Message::len));
    }

    /// Sends a message whose echo is larger than our end takes, and sees both ends close with 1009.
    pub(crate) async fn echo_too_large(mut self, message: Message) {
        in_time(self.ws.send(message)).await.expect("open");
        let end = in_time(self.ws.recv()).await;
        let said = self.peer.says().await;
        let told = said.as_ref().is_some_and(|line| line.starts_with("closed 1009"));
        assert!(end.is_err() && told, "{end:?}; the peer: {said:?}");
    }

    fn count(&self) -> Cost {
        let bytes = self.record.bytes();
        Cost { sent: bytes.sent.len(), received: bytes.received.len() }
    }

    fn since(&self, before: Cost) -> Cost {
        let now = self.count();
        Cost { sent: now.sent - before.sent, received: now.received - before.received }
    }

    /// Closes the connection, and judges what went over it: what we sent, and what the peer did.
    pub async fn close(mut self) -> (Usage, Usage) {
        let closed = in_time(self.ws.close(1000, "再见 👋")).await;
        let said = self.peer.says().await;
        let clean = said.as_ref().is_some_and(|line| line.starts_with("closed 1000"));
        assert!(closed.is_ok() && clean, "{closed:?}; the peer: {said:?}");
        if self.ws.role() == Role::Server {
            self.peer.ends().await;
        }

        self.judge()
    }

    /// Judges what we sent, and what the peer did.
    fn judge(&self) -> (Usage, Usage) {
        let agreed = self.agreed();
        let client = agreed.map(|agreed| Limits {
            no_context_takeover: agreed.client_no_context_takeover,
            max_window_bits: agreed.client_max_window_bits,
        });
        let server = agreed.map(|agreed| Limits {
            no_context_takeover: agreed.server_no_context_takeover,
            max_window_bits: agreed.server_max_window_bits,
        });
        let (us, them) = if self.ws.role() == Role::Client { (client, server) } else { (server, client) };
        let bytes = self.record.bytes();
        (
            judge(behind_head(&bytes.sent), us, &self.exchanged),
            judge(behind_head(&bytes.received), them, &self.exchanged),
        )
    }
}

/// The output of a future that must not hang.
async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it hangs")
}

/// What follows the head of the opening handshake.
fn behind_head(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    &bytes[end + 4..]
}

/// Sec-WebSocket-Extensions of the head.
fn extensions(bytes: &[u8]) -> Option<String> {
    let head = &bytes[..bytes.len() - behind_head(bytes).len()];
    let head = std::str::from_utf8(head).expect("text");
    let values: Vec<_> = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"))
        .map(|(_, value)| value.trim())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}
