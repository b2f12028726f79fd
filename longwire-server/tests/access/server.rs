//! A small HTTP server that responds as told, also in ways no server should.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The response to a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A status with further header lines, and a body.
    Whole(&'static str, String),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// A body without an end.
    Endless,
    /// No response.
    Silence,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::default());
        let server = Self { address, answer: Arc::clone(&answer), requests: Arc::clone(&requests) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answer), Arc::clone(&requests)));
            }
        });
        server
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("unpoisoned") = answer;
    }

    /// Returns header and body of each request so far.
    pub(crate) fn requests(&self) -> Vec<(String, String)> {
        self.requests.lock().expect("unpoisoned").clone()
    }
}

/// Serves requests one after the other. An error means that the client has disconnected.
async fn serve(
    mut stream: TcpStream,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<(String, String)>>>,
) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(read[..head_end].to_vec()).expect("a head").to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a number"));
        while read.len() < head_end + length {
            stream.read_buf(&mut read).await.ok().filter(|&bytes| bytes > 0)?;
        }
        let body = String::from_utf8(read[head_end..head_end + length].to_vec()).expect("text");
        read.drain(..head_end + length);
        requests.lock().expect("unpoisoned").push((head, body));
        let answer = answer.lock().expect("unpoisoned").clone();
        match answer {
            Answer::Whole(status, body) => {
                let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(text.as_bytes()).await.ok()?;
            }
            Answer::Raw(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return None;
            }
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.ok()?;
                loop {
                    stream.write_all(b"400\r\n").await.ok()?;
                    stream.write_all(&[b' '; 1024]).await.ok()?;
                    stream.write_all(b"\r\n").await.ok()?;
                }
            }
            Answer::Silence => std::future::pending().await,
        }
    }
}
