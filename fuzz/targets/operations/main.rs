//! Arbitrary calls on a `WebSocket` of either role, each polled some times and then dropped, on a stream
//! that waits, cuts and breaks as it likes, to a peer that sends what it likes. Then all that was written
//! is read as the peer reads it: whole valid frames, with what was sent, once and in order. And all that
//! was received is what the peer has sent.
//!
//! An input is the settings, the number of decisions of the stream, those, and the calls: see `session`.

#![no_main]

#[path = "../../../longwire-proto/tests/support/frames.rs"]
mod frames;
#[path = "../../../longwire-proto/tests/support/receiver.rs"]
mod receiver;

mod peer;
mod received;
mod sent;
mod session;
mod stream;

use libfuzzer_sys::fuzz_target;
use longwire::{Acceptor, Client, Config, Deflate, DeflateParameters, Kind, Role, WebSocket};
use longwire_proto::handshake::server::Policy;
use receiver::{Entry, Receiver, Seen};
use session::Session;
use stream::Stream;
use tokio::runtime::{Builder, Runtime};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

const FRAME_SIZES: [usize; 4] = [256 * 1024, 20_000, 1_000, 125];
const WRITE_BUFFERS: [usize; 4] = [1024 * 1024, 20_000, 300, 1];

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
}

fuzz_target!(|data: &[u8]| {
    let [settings, count, rest @ ..] = data else { return };
    let (decisions, calls) = rest.split_at(usize::from(*count).min(rest.len()));
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let stream = Stream::default();
            let ws = open(&stream, *settings).await;
            stream.state().decisions = decisions.to_vec();
            let mut session = Session::new(ws, stream);
            session.run(calls).await;
            session.finish();
        });
    });
});

/// None, the default, with takeover of whatever size, and with small windows and none.
fn deflate(settings: u8) -> Option<Deflate> {
    match settings >> 6 {
        0 => None,
        1 => Some(Deflate::new()),
        2 => Some(Deflate::new().threshold(0).level(6).send_context_takeover(1 << 20)),
        _ => Some(Deflate::new().no_context_takeover().send_window_bits(8).receive_window_bits(10)),
    }
}

/// An open connection: by role, how the stream writes, frame size, write buffer and compression. Messages
/// are not bounded, so that nothing but what arrives decides what is allocated.
async fn open(stream: &Stream, settings: u8) -> WebSocket<Stream> {
    let choice = |of: [usize; 4], shift: u8| of[usize::from(settings >> shift) % 4];
    let deflate = deflate(settings);
    let config = |config: Config| {
        let config = match deflate.clone() {
            Some(deflate) => config.deflate(deflate),
            None => config.no_deflate(),
        };
        config
            .max_message(usize::MAX)
            .message_timeout(None)
            .frame_size(choice(FRAME_SIZES, 2))
            .write_buffer(choice(WRITE_BUFFERS, 4))
    };
    stream.state().vectored = settings & 2 != 0;
    let ws = if settings & 1 == 0 {
        stream.state().input.extend_from_slice(REQUEST);
        let acceptor = Acceptor::new().config(config(Config::server()));
        acceptor.accept(stream.clone()).await.expect("a valid request")
    } else {
        stream.state().answers = Some(Policy::new().deflate(deflate.clone()));
        let client = Client::new().config(config(Config::client()));
        client.handshake("ws://localhost/", stream.clone()).await.expect("a valid answer")
    };
    stream.state().written.clear();
    stream.state().flushed = 0;
    ws
}

/// What the bytes of one end mean to the other.
struct Meaning {
    seen: Vec<Seen>,
    /// The beginning of a message that is not whole.
    partial: Vec<u8>,
    outcome: Outcome,
}

/// Where the bytes lead.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    Closed,
    /// Failed, with this code in the Close frame.
    Failed(u16),
}

/// Reads all the bytes as an end of this role does, which targets `receive` and `inflate` compare with the
/// RFCs.
fn read(bytes: &[u8], as_role: Role, deflate: Option<DeflateParameters>) -> Meaning {
    let whole = read_in_pieces(bytes, as_role, deflate, bytes.len());
    match whole.outcome {
        // Only byte by byte is everything handed out that is good.
        Outcome::Failed(_) => read_in_pieces(bytes, as_role, deflate, 1),
        _ => whole,
    }
}

fn read_in_pieces(bytes: &[u8], as_role: Role, deflate: Option<DeflateParameters>, size: usize) -> Meaning {
    let config = Config::server().max_small_fragments(u32::MAX).max_control_run(u16::MAX);
    let mut end = Receiver::new(Entry::Connection, as_role, &config);
    if let Some(parameters) = deflate {
        end.connection = end.connection.with_deflate(parameters);
    }
    for piece in bytes.chunks(size.max(1)) {
        end.feed(piece);
    }
    let outcome = match end.error {
        Some(error) => Outcome::Failed(error.close_code().into()),
        None if end.connection.is_done() => Outcome::Closed,
        None => Outcome::Open,
    };
    Meaning { seen: end.seen, partial: end.joined.unwrap_or((Kind::Text, Vec::new())).1, outcome }
}

const fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// The messages among what was seen.
fn kinds_and_payloads(seen: &[Seen]) -> Vec<(Kind, &[u8])> {
    let messages = seen.iter().filter_map(|seen| match seen {
        Seen::Text(text) => Some((Kind::Text, text.as_bytes())),
        Seen::Binary(bytes) => Some((Kind::Binary, &bytes[..])),
        _ => None,
    });
    messages.collect()
}
