//! `longwire connect`: its options, the talk, and what its end means.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use longwire::http::{HeaderName, HeaderValue};
use longwire::{CloseCode, Closed, Config, ConnectError, Error, Receiver, SendError, Sender};
use tokio::sync::mpsc;

use super::Failure;
use super::lines::{self, Batch};
use super::output::Output;
use super::reach::{self, Reach};
use crate::stop::Signals;
use crate::terminal;

/// How long Ctrl-C waits for the closing handshake.
pub(super) const INTERRUPTED: Duration = Duration::from_secs(2);

/// Connect to a WebSocket server and talk: lines in, messages out.
///
/// Each line of standard input is sent as a text message; each text message received is a line on
/// standard output, and a binary one is a hex dump. The end of the input closes with 1000.
///
/// The exit status is 0 after a closing handshake with 1000 or 1001, and 1 otherwise, with one line on
/// standard error that says what happened: refused, timed out, a broken rule of the protocol, closed
/// with another code or with none (1005), or ended without a closing handshake (1006).
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Connect {
    /// The server and its path, as in ws://127.0.0.1:8080/lobby or wss://example.org/feed
    pub(super) url: String,

    /// A header of the opening handshake. May be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// A subprotocol to offer, the preferred one first. May be given several times
    #[arg(long, value_name = "NAME", value_parser = super::subprotocol)]
    subprotocol: Vec<String>,

    /// Do not read standard input: receive until the server closes
    #[arg(long)]
    pub(super) no_input: bool,

    /// Send back every message that is received
    #[arg(long)]
    pub(super) echo: bool,

    /// Write binary messages as they are instead of as a hex dump
    #[arg(long)]
    pub(super) binary: bool,

    /// Do not offer to compress messages (permessage-deflate, RFC 7692)
    #[arg(long)]
    no_deflate: bool,

    /// Connect again when the connection is lost: after 0.5 s at most, then twice as long each time, up to 30 s.
    /// Not after a close with 1000 or a refusal such as 403. Lines wait for a connection; the end of the
    /// input ends it all, once they are sent
    #[arg(long)]
    reconnect: bool,

    #[command(flatten)]
    reach: Reach,
}

const EXAMPLES: &str = "\
Examples:
  longwire connect ws://127.0.0.1:8080/lobby
      Talk on a channel. Ctrl-D, the end of input, closes; so does Ctrl-C.

  echo '你好 🌊' | longwire connect ws://127.0.0.1:8080/lobby
      Say one thing and leave.

  longwire connect --no-input ws://127.0.0.1:8080/lobby >> lobby.txt
      Write down what is said until the server closes.

  longwire connect --no-input --reconnect ws://127.0.0.1:8080/lobby >> lobby.txt
      The same, also over restarts of the server and of the network.

  longwire connect --no-input --echo ws://127.0.0.1:8080/lobby
      Answer every message with itself.

  longwire connect -H 'Authorization: Bearer TOKEN' --subprotocol chat.v2 ws://example.org/feed
      Add a header, and offer a subprotocol.

  longwire connect -v --cacert company.pem -u me:secret wss://inner.example.org/feed
      Over TLS with roots of your own, as a user, and show how it is reached.

  longwire connect --proxy socks5://127.0.0.1:1080 wss://example.org/feed
      Through a proxy.";

impl Connect {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
        let ended = runtime.block_on(self.connect());
        // A write to standard output that is stuck does not keep the program.
        runtime.shutdown_background();
        ended
    }

    async fn connect(self) -> Result<(), Failure> {
        let mut signals =
            Signals::listen().map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;
        let config = if self.no_deflate { Config::client().no_deflate() } else { Config::client() };
        let mut client = self.reach.client(config)?.subprotocols(self.subprotocol.iter().map(String::as_str));
        for (name, value) in &self.headers {
            client = client.header(name, value);
        }
        if self.reconnect {
            return super::reconnect::run(&self, client, &mut signals).await;
        }
        let socket = tokio::select! {
            connected = client.connect(&self.url) => connected.map_err(|error| self.refused(&error))?,
            status = signals.next() => return Err(Failure::signal(status)),
        };
        let subprotocol =
            socket.subprotocol().map(|name| format!(", subprotocol {name}")).unwrap_or_default();
        let deflate = if socket.deflate().is_some() { ", compressed" } else { "" };
        let url = terminal::excerpt(&reach::shown(&self.url));
        terminal::event("connected", &format!(" to {url}{subprotocol}{deflate}"));

        let (sender, receiver) = socket.split();
        let mut listening = pin!(listen(receiver, Output::new(self.binary), self.echo));
        let input = if self.no_input { None } else { Some(lines::read()) };
        let (talked, patience) = tokio::select! {
            end = &mut listening => return judge(end),
            talked = talk(input, &sender) => (talked, Duration::MAX),
            _ = signals.next() => (Ok(()), INTERRUPTED),
        };

        // What is queued goes first; then the closing handshake, which `listening` sees through within
        // the connection's own deadline. That it is closing already is no error.
        let _ = sender.start_close(CloseCode::NORMAL, "");
        let end = tokio::select! {
            end = listening => end,
            () = tokio::time::sleep(patience) => End::Failed(Error::CloseTimeout),
            status = signals.next() => return Err(Failure::signal(status)),
        };
        talked.and_then(|()| judge(end))
    }

    pub(super) fn refused(&self, error: &ConnectError) -> Failure {
        let text = match error {
            ConnectError::Io(error) => format!("cannot connect to {}: {error}", reach::shown(&self.url)),
            other => format!("{other:#}"),
        };
        Failure::new(terminal::excerpt(&text))
    }
}

/// How the listening ended.
pub(super) enum End {
    /// By a closing handshake.
    Closed(Option<Closed>),
    Failed(Error),
    /// Standard output takes no more.
    Output(io::Error),
}

/// Sends each line. Returns at the end of the input, or with what is wrong about it.
async fn talk(input: Option<mpsc::Receiver<Batch>>, sender: &Sender) -> Result<(), Failure> {
    let Some(mut batches) = input else { return pending().await };
    while let Some(Batch { lines, trouble }) = batches.recv().await {
        if send(lines, sender).await.is_err() {
            // The connection is ending; how, the receiver knows.
            return pending().await;
        }
        if let Some(trouble) = trouble {
            return Err(Failure::new(trouble));
        }
    }
    Ok(())
}

/// Sends lines in as few writes as they take.
async fn send(lines: Vec<String>, sender: &Sender) -> Result<(), SendError> {
    for line in lines {
        sender.feed(line).await?;
    }
    sender.flush().await
}

/// Shows what comes until the connection ends, also when nobody looks any more.
async fn listen(mut receiver: Receiver, mut output: Output, echo: bool) -> End {
    let ended = match show(&mut receiver, &mut output, echo).await {
        Ok(ended) => ended,
        // Whoever read has seen enough, as `head` does: leave quietly.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => leave(&mut receiver).await,
        Err(error) => return End::Output(error),
    };
    match ended {
        Ok(()) => End::Closed(receiver.closed()),
        Err(error) => End::Failed(error),
    }
}

/// Writes down each message until the connection ends; fails when standard output does.
async fn show(receiver: &mut Receiver, output: &mut Output, echo: bool) -> io::Result<Result<(), Error>> {
    let sender = receiver.sender();
    let mut unseen = false;
    let ended = loop {
        // What came together is written together, and nothing waits for what has not come yet.
        let received = tokio::select! {
            biased;
            received = receiver.recv() => received,
            flushed = output.flush(), if unseen => {
                flushed?;
                unseen = false;
                continue;
            }
        };
        match received {
            Ok(Some(message)) => {
                output.write(&message).await?;
                unseen = true;
                if echo {
                    // Of an error the next `recv` knows more.
                    let _ = sender.feed(message).await;
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    output.flush().await?;
    Ok(ended)
}

/// Closes, unless that has begun, and waits for the end.
async fn leave(receiver: &mut Receiver) -> Result<(), Error> {
    // The code may be sent, and closing what is closing is no error.
    let _ = receiver.sender().start_close(CloseCode::NORMAL, "");
    while receiver.recv().await?.is_some() {}
    Ok(())
}

/// Success is a closing handshake with 1000 or 1001; all else is told.
pub(super) fn judge(end: End) -> Result<(), Failure> {
    let closed = match end {
        End::Closed(closed) => closed,
        End::Failed(error) => return Err(Failure::new(terminal::excerpt(&format!("{error:#}")))),
        End::Output(error) => return Err(Failure::new(format!("cannot write to standard output: {error}"))),
    };
    let (code, reason) = match closed.and_then(|closed| closed.frame) {
        Some(frame) => (frame.code, frame.reason),
        None => (CloseCode::NO_STATUS, "".into()),
    };
    let reason = if reason.is_empty() { String::new() } else { format!(": {}", terminal::excerpt(&reason)) };
    if code == CloseCode::NORMAL || code == CloseCode::GOING_AWAY {
        terminal::event("closed", &format!(" {code}{reason}"));
        return Ok(());
    }
    Err(Failure::new(format!("closed by the server with {code} ({}){reason}", meaning(code))))
}

/// RFC 6455 7.4.1 and the registry of 11.7, in a few words.
fn meaning(code: CloseCode) -> &'static str {
    match u16::from(code) {
        1000 => "normal closure",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported data",
        1005 => "no code given",
        1007 => "invalid payload",
        1008 => "policy violation",
        1009 => "message too big",
        1010 => "extension missing",
        1011 => "internal error",
        1012 => "restart",
        1013 => "try again later",
        1014 => "bad gateway",
        3000..=3999 => "of a library or framework",
        _ => "of the application",
    }
}

/// A header as `curl` takes it; whether a client may set it, the library knows.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    let (name, value) = (name.trim(), value.trim());
    if name.parse::<HeaderName>().is_err() {
        return Err(format!("`{name}` is no name of a header; write 'Name: value'"));
    }
    if HeaderValue::from_str(value).is_err() {
        return Err("the value holds characters that no header may".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let (name, value) = header("X-Token:  a:b ").expect("a header");
        assert_eq!((&*name, &*value), ("X-Token", "a:b"));
        for text in ["", "no colon", ": value", "two words: x", "a: b\r\nc: d"] {
            assert!(header(text).is_err(), "{text:?}");
        }
    }
}
