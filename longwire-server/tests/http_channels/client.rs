//! An HTTP/1.1 client that exposes everything: headers, bodies, chunks, events.

use std::net::Ipv4Addr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::in_time;

pub(crate) struct Connection {
    port: u16,
    pub(crate) stream: BufReader<TcpStream>,
    /// Received data of a stream that was not read yet.
    events: String,
    /// The response to HEAD has no body, whatever its header says.
    asked_for_head: bool,
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Returns a header by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.head.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the JSON of a successful response.
    pub(crate) fn good(&self) -> Value {
        assert_eq!(self.head.status, 200, "{self:?}");
        self.json()
    }

    /// Returns status and code of an error response.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        (self.head.status, error["code"].as_str().expect("a code").to_owned())
    }
}

/// An event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) comment: bool,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Parses an event as in WHATWG HTML 9.2.6; its lines end with LF.
    pub(crate) fn parse(block: &str) -> Self {
        let mut event = Self::default();
        let mut lines = Vec::new();
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => event.comment = true,
                "id" => event.id = value.into(),
                "event" => event.kind = value.into(),
                "data" => lines.push(value),
                other => panic!("{other:?} in {block:?}"),
            }
        }
        event.data = lines.join("\n");
        event
    }
}

impl Connection {
    pub(crate) async fn open(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("connected");
        Self { port, stream: BufReader::new(stream), events: String::new(), asked_for_head: false }
    }

    /// Opens a connection with a small receive buffer.
    pub(crate) async fn narrow(port: u16) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.expect("connected");
        Self { port, stream: BufReader::new(stream), events: String::new(), asked_for_head: false }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        self.asked_for_head = method == "HEAD";
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if method == "POST" && !headers.iter().any(|(name, _)| *name == "Content-Length") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.write(format!("{head}\r\n").as_bytes()).await;
        self.write(body).await;
    }

    pub(crate) async fn head(&mut self) -> Head {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.expect("read");
            let line =
                line.strip_suffix("\r\n").unwrap_or_else(|| panic!("no line: {line:?} after {lines:?}"));
            if line.is_empty() {
                break;
            }
            lines.push(line.to_owned());
        }
        let status = lines[0].split(' ').nth(1).expect("a status").parse().expect("a number");
        let headers = lines[1..].iter().map(|line| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Head { status, headers: headers.collect() }
    }

    /// Reads a complete response with a length.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let length = head.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        let mut body = vec![0; if self.asked_for_head { 0 } else { length }];
        self.stream.read_exact(&mut body).await.expect("the body");
        Answer { head, body: String::from_utf8(body).expect("UTF-8") }
    }

    /// Reads the next chunk (RFC 9112 7.1); `None` after the last one.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        if self.stream.read_line(&mut size).await.ok()? == 0 {
            return None;
        }
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a size");
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await.ok()?;
        assert_eq!(chunk.split_off(size), b"\r\n");
        (size > 0).then_some(chunk)
    }

    /// Reads the next event or comment; `None` at the end.
    pub(crate) async fn next_or_end(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.events.split_once("\n\n") {
                let event = Event::parse(block);
                self.events = rest.to_owned();
                return Some(event);
            }
            let chunk = in_time(self.chunk()).await?;
            // Frames contain whole events.
            self.events += &String::from_utf8(chunk).expect("UTF-8");
        }
    }

    /// Reads the next event.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            let event = self.next_or_end().await.expect("an event");
            if !event.comment {
                return event;
            }
        }
    }

    /// Reads to the end of the connection.
    pub(crate) async fn ends(&mut self) {
        let mut rest = Vec::new();
        // A reset counts as the end.
        let _ = in_time(self.stream.read_to_end(&mut rest)).await;
    }
}
