//! `longwire connect`: its options, the exchange of messages, and the exit status.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use longwire::http::{HeaderName, HeaderValue};
use longwire::{CloseCode, Closed, Config, ConnectError, Error, Receiver, SendError, Sender};
use tokio::sync::mpsc;

use super::Failure;
use super::client_options::{self, ClientOptions};
use super::output::Output;
use super::stdin::{self, Batch};
use crate::signals::Signals;
use crate::terminal;

/// How long Ctrl-C waits for the closing handshake.
pub(super) const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connect to a WebSocket server and exchange messages.
///
/// Each line of standard input is sent as a text message. Each received text message is printed as a line,
/// and each binary message as a hex dump. The end of input closes the connection with 1000.
///
/// The exit status is 0 if the connection is closed with 1000 or 1001, and 1 otherwise. In case of failure,
/// one line on standard error states the reason.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Connect {
    /// Server URL, such as ws://127.0.0.1:8080/lobby or wss://example.org/feed
    pub(super) url: String,

    /// Add a header to the opening handshake (repeatable)
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// Offer a subprotocol, the preferred one first (repeatable)
    #[arg(long, value_name = "NAME", value_parser = super::subprotocol)]
    subprotocol: Vec<String>,

    /// Do not read standard input; receive until the server closes
    #[arg(long)]
    pub(super) no_input: bool,

    /// Send every received message back
    #[arg(long)]
    pub(super) echo: bool,

    /// Print binary messages unchanged instead of as a hex dump
    #[arg(long)]
    pub(super) binary: bool,

    /// Do not offer compression (permessage-deflate, RFC 7692)
    #[arg(long)]
    no_deflate: bool,

    /// Reconnect automatically when the connection is lost
    ///
    /// The delay is at most 0.5 s at first and doubles each time, up to 30 s. It does not reconnect after a
    /// close with 1000 or a rejection such as 403. Input lines wait for a connection. After the end of input,
    /// the remaining lines are sent and the connection is closed.
    #[arg(long)]
    reconnect: bool,

    #[command(flatten)]
    options: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  longwire connect ws://127.0.0.1:8080/lobby
      Join a channel. Ctrl-D (end of input) or Ctrl-C closes the connection.

  echo '你好 🌊' | longwire connect ws://127.0.0.1:8080/lobby
      Send one message and close.

  longwire connect --no-input ws://127.0.0.1:8080/lobby >> lobby.txt
      Append received messages to a file until the server closes.

  longwire connect --no-input --reconnect ws://127.0.0.1:8080/lobby >> lobby.txt
      The same, and reconnect after interruptions.

  longwire connect --no-input --echo ws://127.0.0.1:8080/lobby
      Send every message back.

  longwire connect -H 'Authorization: Bearer TOKEN' --subprotocol chat.v2 ws://example.org/feed
      Send a header and offer a subprotocol.

  longwire connect -v --cacert company.pem -u me:secret wss://inner.example.org/feed
      Use a private CA and Basic credentials, and show each step.

  longwire connect --proxy socks5://127.0.0.1:1080 wss://example.org/feed
      Connect through a proxy.";

impl Connect {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))?;
        let ended = runtime.block_on(self.connect());
        // A blocked write to standard output must not keep the program running.
        runtime.shutdown_background();
        ended
    }

    async fn connect(self) -> Result<(), Failure> {
        let mut signals = Signals::listen()
            .map_err(|error| Failure::new(format!("cannot register signal handlers: {error}")))?;
        let config = if self.no_deflate { Config::client().no_deflate() } else { Config::client() };
        let mut client =
            self.options.client(config)?.subprotocols(self.subprotocol.iter().map(String::as_str));
        for (name, value) in &self.headers {
            client = client.header(name, value);
        }
        if self.reconnect {
            return super::reconnect::run(&self, client, &mut signals).await;
        }
        let socket = tokio::select! {
            connected = client.connect(&self.url) => connected.map_err(|error| self.connect_failure(&error))?,
            status = signals.next() => return Err(Failure::signal(status)),
        };
        let subprotocol =
            socket.subprotocol().map(|name| format!(", subprotocol {name}")).unwrap_or_default();
        let deflate = if socket.deflate().is_some() { ", compressed" } else { "" };
        let url = terminal::excerpt(&client_options::without_credentials(&self.url));
        terminal::event("connected", &format!(" to {url}{subprotocol}{deflate}"));

        let (sender, receiver) = socket.split();
        let mut receiving = pin!(receive(receiver, Output::new(self.binary), self.echo));
        let input = if self.no_input { None } else { Some(stdin::read()) };
        let (input_result, close_timeout) = tokio::select! {
            end = &mut receiving => return report_end(end),
            input_result = send_input(input, &sender) => (input_result, Duration::MAX),
            _ = signals.next() => (Ok(()), INTERRUPT_TIMEOUT),
        };

        // Queued messages are sent first, then the closing handshake, which `receiving` completes within the
        // connection's own deadline. An error means that the connection is closing already.
        let _ = sender.start_close(CloseCode::NORMAL, "");
        let end = tokio::select! {
            end = receiving => end,
            () = tokio::time::sleep(close_timeout) => ConnectionEnd::Failed(Error::CloseTimeout),
            status = signals.next() => return Err(Failure::signal(status)),
        };
        input_result.and_then(|()| report_end(end))
    }

    pub(super) fn connect_failure(&self, error: &ConnectError) -> Failure {
        let text = match error {
            ConnectError::Io(error) => {
                format!("cannot connect to {}: {error}", client_options::without_credentials(&self.url))
            }
            other => format!("{other:#}"),
        };
        Failure::new(terminal::excerpt(&text))
    }
}

/// How receiving ended.
pub(super) enum ConnectionEnd {
    /// With a closing handshake.
    Closed(Option<Closed>),
    Failed(Error),
    /// Standard output failed.
    Output(io::Error),
}

/// Sends each line. Returns at the end of the input, or with the reason why it cannot be read.
async fn send_input(input: Option<mpsc::Receiver<Batch>>, sender: &Sender) -> Result<(), Failure> {
    let Some(mut batches) = input else { return pending().await };
    while let Some(Batch { lines, error }) = batches.recv().await {
        if send(lines, sender).await.is_err() {
            // The connection is ending; the receiver reports why.
            return pending().await;
        }
        if let Some(error) = error {
            return Err(Failure::new(error));
        }
    }
    Ok(())
}

/// Sends lines in as few writes as possible.
async fn send(lines: Vec<String>, sender: &Sender) -> Result<(), SendError> {
    for line in lines {
        sender.feed(line).await?;
    }
    sender.flush().await
}

/// Prints messages until the connection ends. If the reader of standard output is gone, keeps receiving
/// silently.
async fn receive(mut receiver: Receiver, mut output: Output, echo: bool) -> ConnectionEnd {
    let ended = match show(&mut receiver, &mut output, echo).await {
        Ok(ended) => ended,
        // The reader, such as `head`, has closed the pipe: close without an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => close_quietly(&mut receiver).await,
        Err(error) => return ConnectionEnd::Output(error),
    };
    match ended {
        Ok(()) => ConnectionEnd::Closed(receiver.closed()),
        Err(error) => ConnectionEnd::Failed(error),
    }
}

/// Prints each message until the connection ends. Fails if standard output does.
async fn show(receiver: &mut Receiver, output: &mut Output, echo: bool) -> io::Result<Result<(), Error>> {
    let sender = receiver.sender();
    let mut has_unflushed = false;
    let ended = loop {
        // Prints messages that arrive together in one write, and flushes before it waits.
        let received = tokio::select! {
            biased;
            received = receiver.recv() => received,
            flushed = output.flush(), if has_unflushed => {
                flushed?;
                has_unflushed = false;
                continue;
            }
        };
        match received {
            Ok(Some(message)) => {
                output.write(&message).await?;
                has_unflushed = true;
                if echo {
                    // The next `recv` reports the error with more detail.
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

/// Closes the connection, unless it is closing already, and waits for the end.
async fn close_quietly(receiver: &mut Receiver) -> Result<(), Error> {
    // 1000 is a valid code, and closing twice is not an error.
    let _ = receiver.sender().start_close(CloseCode::NORMAL, "");
    while receiver.recv().await?.is_some() {}
    Ok(())
}

/// Success is a closing handshake with 1000 or 1001. Everything else is reported as a failure.
pub(super) fn report_end(end: ConnectionEnd) -> Result<(), Failure> {
    let closed = match end {
        ConnectionEnd::Closed(closed) => closed,
        ConnectionEnd::Failed(error) => return Err(Failure::new(terminal::excerpt(&format!("{error:#}")))),
        ConnectionEnd::Output(error) => {
            return Err(Failure::new(format!("cannot write to standard output: {error}")));
        }
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

/// Short descriptions of the close codes of RFC 6455 7.4.1 and 11.7.
fn meaning(code: CloseCode) -> &'static str {
    match u16::from(code) {
        1000 => "normal closure",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported data",
        1005 => "no status code",
        1007 => "invalid payload",
        1008 => "policy violation",
        1009 => "message too big",
        1010 => "extension missing",
        1011 => "internal error",
        1012 => "service restart",
        1013 => "try again later",
        1014 => "bad gateway",
        3000..=3999 => "library code",
        _ => "application code",
    }
}

/// Parses a header as `curl` does. The library checks whether a client may set it.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("invalid header; write 'Name: value'")?;
    let (name, value) = (name.trim(), value.trim());
    if name.parse::<HeaderName>().is_err() {
        return Err(format!("invalid header name `{name}`; write 'Name: value'"));
    }
    if HeaderValue::from_str(value).is_err() {
        return Err("the header value has invalid characters".into());
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
