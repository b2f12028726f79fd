//! What is counted: an engine with one loop, and a client that is called by it.
//!
//! The client runs within the engine's callback, on the engine's thread: each time the last message of a batch has come, it
//! reads what the batch before has brought, and writes the next one. So there is always something to do, nobody
//! waits for anybody, and the engine takes the same steps in every run. What the client does is not counted.

use crate::{Failure, row::Row};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use longwire::engine::{Conn, Engine, Handler, MessageRef, Opening};
use longwire::http::{HeaderMap, Request};
use longwire::{Acceptor, Config, Deflate, Refusal};
use std::{
    hint::black_box,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The function of this file that callgrind leaves out, with all that it calls.
pub(crate) const NOT_COUNTED: &str = "instructions::drive::take_turn";

const TOPIC: &str = "topic";
const SUBSCRIBE: &str = "/subscribe";

/// How long a handshake may take. When it is over the engine's clock has nothing left to look at: how far away its next
/// deadline lies would otherwise be in the count.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// How long the client waits for bytes that should be there already.
const PATIENCE: Duration = Duration::from_secs(20);

const TEXT_32: &[u8; 32] = b"The quick brown fox jumps over t";
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: u8 = 0x81;
const RSV1: u8 = 0x40;

/// The whole of a run.
pub(crate) fn drive(row: Row, batches: usize) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // All ask before the engine starts, so that it accepts them in this order.
    let client = Arc::new(Mutex::new(Client::connect(row, batches, listener.local_addr()?)?));
    let mut config = Config::server().ping_after(None);
    if row == Row::Deflate {
        config = config.deflate(Deflate::new().threshold(0));
    }
    let acceptor = Acceptor::new().config(config).handshake_timeout(HANDSHAKE);
    let engine = Engine::new(Asked { row, client: Arc::clone(&client) }).acceptor(acceptor).threads(1);
    let running = engine.start(listener)?;
    lock(&client).begin()?;
    running.wait()?;
    Ok(())
}

/// The application.
struct Asked {
    row: Row,
    client: Arc<Mutex<Client>>,
}

impl Handler for Asked {
    type State = ();

    fn on_request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, conn: &mut Conn<'_>, (): &mut (), opening: &Opening<'_>) {
        if opening.request().uri().path() == SUBSCRIBE {
            conn.subscribe(TOPIC);
        }
    }

    fn message(&self, conn: &mut Conn<'_>, (): &mut (), message: MessageRef<'_>) {
        match self.row {
            Row::Receive | Row::Receive16 => {
                black_box(message);
            }
            Row::Echo | Row::Echo16 | Row::Deflate => {
                // That it fails shows when the client misses the reply.
                let _ = conn.send(message);
            }
            Row::Publish1 | Row::Publish100 => conn.publish(TOPIC, message),
        }
        take_turn(&self.client, conn);
    }
}

/// The client's turn, which is not counted: its name is in [`NOT_COUNTED`].
#[inline(never)]
fn take_turn(client: &Mutex<Client>, conn: &Conn<'_>) {
    match lock(client).message_has_come() {
        Ok(false) => {}
        Ok(true) => conn.engine().stop(),
        Err(failure) => {
            eprintln!("the client: {failure}");
            process::exit(1);
        }
    }
}

fn lock(client: &Mutex<Client>) -> MutexGuard<'_, Client> {
    client.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All sockets of the client's side.
struct Client {
    row: Row,
    publisher: TcpStream,
    subscribers: Vec<TcpStream>,
    message: Vec<u8>,
    /// Replies are read into it: the client allocates nothing on the engine's thread, as far as it can.
    block: Box<[u8]>,
    /// What is written at once.
    batch: Vec<u8>,
    batches: usize,
    written: usize,
    /// Messages of the last batch that the engine has called back for.
    come: usize,
}

impl Client {
    fn connect(row: Row, batches: usize, server: SocketAddr) -> Result<Self, Failure> {
        let message = if row == Row::Deflate { prices() } else { TEXT_32.to_vec() };
        let frame = if row == Row::Deflate {
            frame(TEXT | RSV1, &compressed(&message)?)
        } else {
            frame(TEXT, &message)
        };
        let subscribers = (0..row.subscribers()).map(|_| connect(server, SUBSCRIBE, false));
        Ok(Self {
            row,
            publisher: connect(server, "/", row == Row::Deflate)?,
            subscribers: subscribers.collect::<Result<_, _>>()?,
            block: vec![0; message.len() + 64].into(),
            message,
            batch: frame.repeat(row.depth()),
            batches,
            written: 0,
            come: 0,
        })
    }

    /// Waits until all are open and the engine's clock is empty, and writes the first batch.
    fn begin(&mut self) -> Result<(), Failure> {
        for stream in self.subscribers.iter_mut().chain([&mut self.publisher]) {
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                answer.push(byte[0]);
            }
            if !answer.starts_with(b"HTTP/1.1 101 ") {
                return Err(String::from_utf8_lossy(&answer).into());
            }
        }
        thread::sleep(HANDSHAKE + Duration::from_millis(200));
        self.write()
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.publisher.write_all(&self.batch)?;
        self.written += 1;
        Ok(())
    }

    /// The engine has called back for one more message. True when it was the last of all.
    fn message_has_come(&mut self) -> Result<bool, Failure> {
        self.come += 1;
        if self.come < self.row.depth() {
            return Ok(false);
        }
        self.come = 0;
        if self.written > 1 {
            // The replies to the batch before this one, which the engine has written behind its turn.
            self.read_replies()?;
        }
        if self.written == self.batches {
            return Ok(true);
        }
        self.write()?;
        Ok(false)
    }

    fn read_replies(&mut self) -> Result<(), Failure> {
        let Self { row, publisher, subscribers, message, block, .. } = self;
        match row {
            Row::Receive | Row::Receive16 => Ok(()),
            Row::Echo | Row::Echo16 | Row::Deflate => {
                (0..row.depth()).try_for_each(|_| read_reply(publisher, message, block))
            }
            Row::Publish1 | Row::Publish100 => {
                subscribers.iter_mut().try_for_each(|subscriber| read_reply(subscriber, message, block))
            }
        }
    }
}

/// Connects and asks; the answer is not read yet.
fn connect(server: SocketAddr, path: &str, deflate: bool) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let extensions = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n"
    );
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// A masked frame (RFC 6455 5.2) of at most 65,535 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: u8 = 0x80;
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(MASK | length as u8),
        length => {
            frame.push(MASK | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Reads one frame into `block` and compares it with the message.
fn read_reply(stream: &mut TcpStream, message: &[u8], block: &mut [u8]) -> Result<(), Failure> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).map_err(|error| format!("a reply is missing: {error}"))?;
    let length = match header[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            u16::from_be_bytes(length).into()
        }
        length => usize::from(length),
    };
    let payload = block.get_mut(..length).ok_or("a reply is longer than its message")?;
    stream.read_exact(payload)?;
    let same = match header[0] {
        TEXT => payload == message,
        first if first == TEXT | RSV1 => inflated(payload, message.len())? == message,
        _ => false,
    };
    if same { Ok(()) } else { Err("a reply is not what was sent".into()) }
}

/// JSON of 1 KiB: prices, as servers send them.
fn prices() -> Vec<u8> {
    const SYMBOLS: [&str; 5] = ["BTC-USD", "ETH-USD", "SOL-EUR", "XRP-USD", "ADA-EUR"];
    let mut json = r#"{"type":"ticks","ticks":["#.to_owned();
    for (number, symbol) in (1_u64..).zip(SYMBOLS.iter().cycle()) {
        let (price, time) = (number * 7_919 % 100_000, 1_760_000_000_000 + number * 37);
        let (whole, cents) = (price / 100, price % 100);
        let tick = format!(r#"{{"symbol":"{symbol}","bid":{whole}.{cents:02},"ts":{time}}}"#);
        if json.len() + tick.len() + 3 > 1024 {
            break;
        }
        if number > 1 {
            json.push(',');
        }
        json.push_str(&tick);
    }
    json.push_str("]}");
    let mut json = json.into_bytes();
    json.resize(1024, b' ');
    json
}

/// The end of every compressed message, which is not sent (RFC 7692 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

fn compressed(message: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut compressed = Vec::with_capacity(2 * message.len());
    Compress::new(Compression::new(6), false).compress_vec(message, &mut compressed, FlushCompress::Sync)?;
    let length = compressed.len().saturating_sub(TAIL.len());
    compressed.truncate(length);
    Ok(compressed)
}

fn inflated(payload: &[u8], length: usize) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::with_capacity(length + 1);
    let input = [payload, &TAIL].concat();
    Decompress::new(false).decompress_vec(&input, &mut message, FlushDecompress::Sync)?;
    Ok(message)
}
