//! A client's connection, without a WebSocket library: what it sends may be good or bad, what it receives must be good.

use crate::{
    codec::{self, Codec},
    frames::{self, CLOSE, Fault, Frame, PING, PONG, Parser},
    message::Message,
    random::Random,
    serve::MAX_MESSAGE,
};
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep_until, timeout},
};

/// Addresses that connections come from: one has too few ports for those that have closed within a minute.
const SOURCES: usize = 64;

/// How long the server may let a client wait.
const PATIENCE: Duration = Duration::from_secs(60);

const LONGEST_ANSWER: usize = 4096;

/// Why a conversation ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The network or the server has ended it.
    Lost(io::Error),
    /// The server has done what it must not.
    Wrong(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "lost: {error}"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl From<Fault> for Failure {
    fn from(Fault(what): Fault) -> Self {
        Self::Wrong(what.to_owned())
    }
}

pub(crate) fn wrong(what: impl Into<String>) -> Failure {
    Failure::Wrong(what.into())
}

/// What a server has sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    Message(Message),
    Pong(Vec<u8>),
    /// The code, if there was one.
    Close(Option<u16>),
    /// It has ended its direction of TCP.
    End,
}

/// How a connection is opened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    pub(crate) deflate: bool,
    /// What is sent refers to what was sent before.
    pub(crate) takeover: bool,
    /// The request goes byte by byte.
    pub(crate) dribbles: bool,
    /// The kernel keeps little of what is not read.
    pub(crate) small_buffer: bool,
}

/// An open connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    parser: Parser,
    codec: Option<Codec>,
    /// The first opcode and the payload so far of a message that is half received, and whether it is compressed.
    begun: Option<(Message, bool)>,
    /// Pongs that are owed.
    owed: Vec<u8>,
}

/// Connects, from any of many addresses.
pub(crate) async fn connect(
    server: SocketAddr,
    small_buffer: bool,
    random: &mut Random,
) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if small_buffer {
        socket.set_recv_buffer_size(4096)?;
    }
    let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + random.below(SOURCES) as u32);
    socket.bind(SocketAddrV4::new(source, 0).into())?;
    let stream = timeout(PATIENCE, socket.connect(server)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An opening handshake with the sample key, so that its answer is known (RFC 6455 1.3).
pub(crate) fn request(server: SocketAddr, path: &str, deflate: bool) -> String {
    let extensions =
        if deflate { format!("Sec-WebSocket-Extensions: {}\r\n", codec::OFFER) } else { String::new() };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n"
    )
}

impl Client {
    /// Connects and opens.
    pub(crate) async fn open(
        server: SocketAddr,
        path: &str,
        manner: Manner,
        random: &mut Random,
    ) -> Result<Self, Failure> {
        let mut stream = connect(server, manner.small_buffer, random).await?;
        let request = request(server, path, manner.deflate);
        if manner.dribbles {
            dribble(&mut stream, request.as_bytes(), random).await?;
        } else {
            stream.write_all(request.as_bytes()).await?;
        }
        let (head, rest) = answer(&mut stream).await?;
        if !head.starts_with("HTTP/1.1 101 ") || !head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
            let status = head.lines().next().unwrap_or_default();
            return Err(wrong(format!("the handshake is refused: {status}")));
        }
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        let extensions = lines
            .find(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Extensions"))
            .map(|(_, value)| value);
        let codec = match (manner.deflate, extensions) {
            (true, Some(answer)) => Some(
                Codec::agreed(answer.trim(), manner.takeover)
                    .ok_or_else(|| wrong(format!("was not offered: {answer}")))?,
            ),
            (false, None) => None,
            _ => return Err(wrong(format!("compression: {extensions:?}"))),
        };
        Ok(Self { stream, parser: Parser::new(rest), codec, begun: None, owed: Vec::new() })
    }

    pub(crate) const fn is_compressed(&self) -> bool {
        self.codec.is_some()
    }

    /// The frames of a message: compressed, in several fragments with a Ping between them, or just so.
    pub(crate) fn encode(&mut self, message: &Message, random: &mut Random) -> Result<Vec<u8>, Failure> {
        let compressed = match &mut self.codec {
            Some(codec) if !random.one_in(4) => {
                Some(codec.compress(&message.payload).ok_or_else(|| wrong("zlib does not compress"))?)
            }
            _ => None,
        };
        let rsv1 = if compressed.is_some() { frames::RSV1 } else { 0 };
        let payload = compressed.as_deref().unwrap_or(&message.payload);
        let mut encoded = Vec::with_capacity(payload.len() + 64);
        if !random.one_in(5) {
            frames::push(&mut encoded, frames::FIN | rsv1 | message.opcode, payload, random);
            return Ok(encoded);
        }
        let (first, rest) = payload.split_at(random.below(payload.len() + 1));
        let (second, third) = rest.split_at(random.below(rest.len() + 1));
        frames::push(&mut encoded, rsv1 | message.opcode, first, random);
        frames::push(&mut encoded, 0, second, random);
        if random.one_in(2) {
            frames::push(&mut encoded, frames::FIN | PING, b"between", random);
        }
        frames::push(&mut encoded, frames::FIN, third, random);
        Ok(encoded)
    }

    pub(crate) async fn send(&mut self, message: &Message, random: &mut Random) -> Result<(), Failure> {
        let encoded = self.encode(message, random)?;
        self.write(&encoded).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        Ok(written.map_err(|_| wrong(format!("nothing was taken for {PATIENCE:?}")))??)
    }

    /// The next thing that is no Ping; Pings are answered. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Result<Event, Failure> {
        loop {
            while let Some(frame) = self.parser.next()? {
                if let Some(event) = self.take(frame)? {
                    return Ok(event);
                }
            }
            while !self.owed.is_empty() {
                let written = self.stream.write(&self.owed).await?;
                self.owed.drain(..written);
            }
            let mut block = [0; 8192];
            match self.stream.read(&mut block).await? {
                0 if self.parser.is_between_frames() => return Ok(Event::End),
                0 => return Err(wrong("the end in the middle of a frame")),
                count => self.parser.push(&block[..count]),
            }
        }
    }

    /// As [`receive`](Self::receive); that nothing comes is wrong.
    pub(crate) async fn expect(&mut self) -> Result<Event, Failure> {
        let received = timeout(PATIENCE, self.receive()).await;
        received.unwrap_or_else(|_| Err(wrong(format!("nothing has come for {PATIENCE:?}"))))
    }

    /// The next message; anything else but a Pong is wrong.
    pub(crate) async fn expect_message(&mut self) -> Result<Message, Failure> {
        loop {
            match self.expect().await? {
                Event::Message(message) => return Ok(message),
                Event::Pong(_) => {}
                event => return Err(wrong(format!("no message but {event:?}"))),
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<Event>, Failure> {
        let Frame { first, payload } = frame;
        let (fin, rsv1, opcode) = (first & frames::FIN != 0, first & frames::RSV1 != 0, first & 0x0f);
        if first & 0x30 != 0 || (rsv1 && (self.codec.is_none() || !(1..=2).contains(&opcode))) {
            return Err(wrong(format!("reserved bits: {first:#x}")));
        }
        match opcode {
            PING => {
                // The key is of no importance here.
                frames::push(&mut self.owed, frames::FIN | PONG, &payload, &mut Random::new(1));
                Ok(None)
            }
            PONG => Ok(Some(Event::Pong(payload))),
            CLOSE => match payload[..] {
                [] => Ok(Some(Event::Close(None))),
                [high, low, ..] => Ok(Some(Event::Close(Some(u16::from_be_bytes([high, low]))))),
                _ => Err(wrong("a Close frame of one byte")),
            },
            0..=2 => {
                let begun = match (self.begun.take(), opcode) {
                    (Some((mut begun, compressed)), 0) => {
                        begun.payload.extend(payload);
                        (begun, compressed)
                    }
                    (None, 1..=2) => (Message { opcode, payload }, rsv1),
                    _ => return Err(wrong("fragments in disorder")),
                };
                if !fin {
                    self.begun = Some(begun);
                    return Ok(None);
                }
                self.whole(begun).map(|message| Some(Event::Message(message)))
            }
            _ => Err(wrong(format!("opcode {opcode}"))),
        }
    }

    fn whole(&mut self, (mut message, compressed): (Message, bool)) -> Result<Message, Failure> {
        if compressed && let Some(codec) = &mut self.codec {
            let inflated = codec.inflate(&message.payload, MAX_MESSAGE);
            message.payload = inflated.ok_or_else(|| wrong("a message that does not inflate"))?;
        }
        if message.opcode == crate::message::TEXT && str::from_utf8(&message.payload).is_err() {
            return Err(wrong("text that is no UTF-8"));
        }
        Ok(message)
    }

    /// The closing handshake: the server answers with the same code and ends TCP. Messages before that are
    /// taken.
    pub(crate) async fn close(mut self, code: u16, random: &mut Random) -> Result<(), Failure> {
        let mut encoded = Vec::new();
        frames::push(&mut encoded, frames::FIN | CLOSE, &code.to_be_bytes(), random);
        self.write(&encoded).await?;
        loop {
            match self.expect().await? {
                Event::Close(Some(answer)) if answer == code => break,
                Event::Close(answer) => {
                    return Err(wrong(format!("Close {code} is answered with {answer:?}")));
                }
                Event::End => return Err(wrong("the end without a Close frame")),
                Event::Message(_) | Event::Pong(_) => {}
            }
        }
        self.ended().await
    }

    /// Nothing but the end comes.
    pub(crate) async fn ended(mut self) -> Result<(), Failure> {
        match self.expect().await? {
            Event::End => Ok(()),
            event => Err(wrong(format!("behind the Close frame: {event:?}"))),
        }
    }

    /// Ends with a reset.
    pub(crate) fn reset(self) {
        reset(self.stream);
    }
}

/// Ends a connection with a reset.
pub(crate) fn reset(stream: TcpStream) {
    // If it cannot be set it is an ordinary end.
    let _ = stream.set_zero_linger();
}

/// Byte by byte, or a few at a time. Who is late makes up for it, for the server's deadlines go on.
pub(crate) async fn dribble(stream: &mut TcpStream, bytes: &[u8], random: &mut Random) -> io::Result<()> {
    let (mut rest, mut due) = (bytes, Instant::now());
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + random.below(7)));
        stream.write_all(now).await?;
        due += random.millis(1, 40);
        sleep_until(due).await;
        rest = later;
    }
    Ok(())
}

/// The head of an answer, and what came behind it.
pub(crate) async fn answer(stream: &mut TcpStream) -> Result<(String, Vec<u8>), Failure> {
    let mut received = Vec::new();
    loop {
        let mut block = [0; 2048];
        let read = timeout(PATIENCE, stream.read(&mut block)).await;
        match read.map_err(|_| wrong(format!("no answer for {PATIENCE:?}")))?? {
            0 => return Err(wrong("the end instead of an answer")),
            count => received.extend(&block[..count]),
        }
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = received.split_off(end + 4);
            let head = String::from_utf8(received).map_err(|_| wrong("an answer that is no text"))?;
            return Ok((head, rest));
        }
        if received.len() > LONGEST_ANSWER {
            return Err(wrong("the answer does not end"));
        }
    }
}
