//! A peer that speaks raw bytes and keeps no rule.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longwire::Role;
use longwire_proto::frame::{Header, OpCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::frames::{Frame, frame, split_frames};
use crate::support::{REQUEST, accept_of, read_head, response};
use crate::victim::{End, PATIENCE, Shared, Target};

pub(crate) struct Attacker {
    pub(crate) stream: TcpStream,
    /// Whom it attacks.
    of: Target,
    address: SocketAddr,
    victim: Arc<Shared>,
}

impl Attacker {
    pub(crate) fn new(stream: TcpStream, of: Target, victim: Arc<Shared>) -> Self {
        let address = stream.local_addr().unwrap();
        Self { stream, of, address, victim }
    }

    /// The opening handshake, as it should be.
    pub(crate) async fn shake_hands(&mut self) {
        self.shake_hands_with("\r\n").await;
    }

    /// The same, with compression agreed on.
    pub(crate) async fn agree_on_deflate(&mut self) {
        self.shake_hands_with("\r\nSec-WebSocket-Extensions: permessage-deflate\r\n").await;
    }

    /// With further headers, and the line ends around them.
    async fn shake_hands_with(&mut self, headers: &str) {
        let with = |head: &str| head.replace("\r\n\r\n", &format!("{headers}\r\n"));
        match self.of.role() {
            Role::Server => {
                self.write(with(REQUEST)).await.unwrap();
                let head = read_head(&mut self.stream).await;
                assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            }
            Role::Client => {
                let request = read_head(&mut self.stream).await;
                self.write(with(&response(&accept_of(&request)))).await.unwrap();
            }
        }
    }

    /// A frame as the attacked side expects it: masked if that is the server.
    pub(crate) fn frame(&self, fin: bool, opcode: OpCode, payload: impl AsRef<[u8]>) -> Vec<u8> {
        frame(self.of.is_server(), fin, opcode, payload)
    }

    /// A frame that begins a compressed message.
    pub(crate) fn deflated(&self, fin: bool, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let mut frame = self.frame(fin, OpCode::Binary, payload);
        frame[0] |= 0x40;
        frame
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let written = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        written.expect("the attacked side reads or ends the connection")
    }

    /// Writes the bytes one by one; stops where the connection has ended.
    pub(crate) async fn dribble(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) -> io::Result<()> {
        for byte in bytes.as_ref() {
            self.write([*byte]).await?;
            sleep(pause).await;
        }
        Ok(())
    }

    /// Writes the bytes again and again, until the attacked side ends the connection; reads nothing.
    pub(crate) async fn flood(&mut self, bytes: impl AsRef<[u8]>) {
        while self.write(bytes.as_ref()).await.is_ok() {}
    }

    /// Writes `first`, then `more` again and again, and reads all that comes meanwhile, until the attacked
    /// side has ended its direction. Says what was read.
    pub(crate) async fn flood_and_read(
        &mut self,
        first: impl AsRef<[u8]>,
        more: impl AsRef<[u8]>,
    ) -> Vec<u8> {
        let (mut reads, mut writes) = self.stream.split();
        let mut came = Vec::new();
        let flood = async {
            let _ = writes.write_all(first.as_ref()).await;
            while writes.write_all(more.as_ref()).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        // A reset ends it as well: what came before is there.
        let read = timeout(PATIENCE, async {
            tokio::select! { _ = reads.read_to_end(&mut came) => {}, () = flood => {} }
        });
        read.await.expect("the attacked side ends the connection");
        came
    }

    /// Reads until the attacked side has ended its direction, or the connection.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut came = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut came)).await;
        let _ = read.expect("the attacked side ends the connection");
        came
    }

    /// As [`read_to_end`](Self::read_to_end), as frames; one that is torn at the end is left out.
    pub(crate) async fn read_frames(&mut self) -> Vec<Frame> {
        split_frames(&self.read_to_end().await).0
    }

    /// Sends a Ping and reads until its Pong has come: all that was sent before has been processed.
    pub(crate) async fn sync(&mut self) {
        let ping = self.frame(true, OpCode::Ping, "到了吗");
        self.write(ping).await.unwrap();
        let mut came = Vec::new();
        let mut buffer = [0; 4096];
        while !split_frames(&came).0.iter().any(|frame| frame.is(OpCode::Pong, "到了吗")) {
            let count = timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("a Pong").unwrap();
            assert!(count > 0, "the connection has ended");
            came.extend_from_slice(&buffer[..count]);
        }
    }

    /// How the attacked side's end of this connection ends, while this one stays.
    pub(crate) async fn end(&self) -> End {
        self.victim.end_of(self.address).await
    }

    /// The same, once this one has gone.
    pub(crate) async fn leave(self) -> End {
        drop(self.stream);
        self.victim.end_of(self.address).await
    }

    /// The same, once this one has reset the connection.
    pub(crate) async fn reset(self) -> End {
        self.stream.set_zero_linger().unwrap();
        self.leave().await
    }
}

/// A frame's header that announces so many bytes, and the first of them.
pub(crate) fn announced(of: Target, opcode: OpCode, length: u64, come: usize) -> Vec<u8> {
    let mask = of.is_server().then_some([1, 2, 3, 4]);
    let mut bytes = Header { fin: true, rsv: 0, opcode, mask, length }.encode().to_vec();
    bytes.resize(bytes.len() + come, b'x');
    bytes
}

/// The code of the last frame, which is a Close frame.
pub(crate) fn close_code(frames: &[Frame]) -> u16 {
    frames.last().expect("a Close frame").close_code()
}
