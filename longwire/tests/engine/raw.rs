//! A peer that sees and writes every byte.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use longwire_proto::frame::{Header, OpCode};
use longwire_proto::mask;

use crate::host::PATIENCE;
use crate::support::frames::{Frame, close, frame, text};

pub(crate) const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The request of an opening handshake, with additional headers.
pub(crate) fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{KEY}\
         Sec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    /// Input that was read and not taken.
    pub(crate) read: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, "").0
    }

    /// Like [`open`](Self::open), and returns the head of the response.
    pub(crate) fn open_with(address: SocketAddr, path: &str, headers: &str) -> (Self, String) {
        let mut raw = Self::connect(address);
        raw.send(request(path, headers));
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (raw, head)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn text(&mut self, message: &str) {
        self.send(text(true, message));
    }

    /// Sends many messages in one segment, if they are small enough.
    pub(crate) fn texts<'m>(&mut self, messages: impl IntoIterator<Item = &'m str>) {
        self.send(messages.into_iter().flat_map(|message| text(true, message)).collect::<Vec<_>>());
    }

    pub(crate) fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }

    /// Reads more. Returns `false` at the end.
    fn more(&mut self) -> bool {
        let mut block = [0; 64 * 1024];
        let count = self.stream.read(&mut block).unwrap();
        self.read.extend_from_slice(&block[..count]);
        count > 0
    }

    /// Reads a head, and nothing behind it.
    pub(crate) fn head(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more(), "{:?}", String::from_utf8_lossy(&self.read));
        };
        String::from_utf8(self.read.drain(..end).collect()).unwrap()
    }

    /// Reads the next frame; `None` at the end.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, size)) = Header::decode(&self.read).unwrap() {
                let end = size + usize::try_from(header.length).unwrap();
                if self.read.len() >= end {
                    let mut payload = self.read[size..end].to_vec();
                    mask::apply(&mut payload, header.mask.unwrap_or_default());
                    self.read.drain(..end);
                    let Header { fin, opcode, .. } = header;
                    return Some(Frame { fin, opcode, masked: header.mask.is_some(), payload });
                }
            }
            if !self.more() {
                assert!(self.read.is_empty(), "{} bytes of a torn frame", self.read.len());
                return None;
            }
        }
    }

    /// Reads the next message, which no control frame may interrupt.
    pub(crate) fn message(&mut self) -> (OpCode, Vec<u8>) {
        let Frame { mut fin, opcode, mut payload, .. } = self.frame().expect("a message");
        assert!(!opcode.is_control(), "{opcode:?} {:?}", String::from_utf8_lossy(&payload));
        while !fin {
            let next = self.frame().expect("a continuation");
            assert_eq!(next.opcode, OpCode::Continuation);
            payload.extend_from_slice(&next.payload);
            fin = next.fin;
        }
        (opcode, payload)
    }

    pub(crate) fn next_text(&mut self) -> String {
        let (opcode, payload) = self.message();
        assert_eq!(opcode, OpCode::Text);
        String::from_utf8(payload).unwrap()
    }

    /// Reads the texts in front of this one, and this one.
    pub(crate) fn texts_until(&mut self, last: &str) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let text = self.next_text();
            if text == last {
                return texts;
            }
            texts.push(text);
        }
    }

    /// Reads up to the Close frame, and the end of TCP behind it.
    pub(crate) fn close_frame(&mut self) -> (u16, String) {
        loop {
            let frame = self.frame().expect("a Close frame");
            if frame.opcode == OpCode::Close {
                assert_eq!(self.frame(), None);
                let reason = String::from_utf8(frame.payload.get(2..).unwrap_or_default().to_vec());
                return (frame.close_code(), reason.unwrap());
            }
        }
    }

    /// Reads up to the Close frame, and answers it.
    pub(crate) fn answer_close(&mut self) -> (u16, String) {
        loop {
            let frame = self.frame().expect("a Close frame");
            if frame.opcode == OpCode::Close {
                let reason = String::from_utf8(frame.payload.get(2..).unwrap_or_default().to_vec()).unwrap();
                self.send(close(true, frame.close_code(), &reason));
                assert_eq!(self.frame(), None);
                return (frame.close_code(), reason);
            }
        }
    }

    /// The closing handshake.
    pub(crate) fn close(mut self) {
        self.send(close(true, 1000, ""));
        assert_eq!(self.close_frame().0, 1000);
    }

    /// Sends a Ping and reads the Pong: everything in front of it is processed then.
    pub(crate) fn settle(&mut self) {
        self.send(frame(true, true, OpCode::Ping, "settled?"));
        let pong = self.frame().unwrap();
        assert!(pong.is(OpCode::Pong, "settled?"), "{pong:?}");
    }

    /// Reads until TCP ends, also by a reset.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        rest
    }
}
