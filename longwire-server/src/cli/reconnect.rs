//! `longwire connect --reconnect`: exchanges messages over a connection that is re-established when lost.
//!
//! Lines are read while there is a connection, and each is sent at most once. After the end of the input, the
//! remaining lines are sent and the connection is closed for good.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use longwire::reconnect::{Cause, Event, Feed, NotSent, Reconnect, Sender};
use longwire::{Client, CloseCode, Closed, Error, Message};
use tokio::sync::{mpsc, watch};

use super::Failure;
use super::connect::{Connect, ConnectionEnd, INTERRUPT_TIMEOUT, report_end};
use super::output::Output;
use super::stdin::{self, Batch};
use crate::signals::Signals;
use crate::terminal;

/// The number of the open connection, counted from 1.
type Connection = Option<u64>;

/// Exchanges messages until this side closes, or until reconnecting cannot succeed.
pub(super) async fn run(connect: &Connect, client: Client, signals: &mut Signals) -> Result<(), Failure> {
    let feed = Reconnect::new(client, &connect.url).start();
    let sender = feed.sender();
    let (opened, open) = watch::channel(None);
    let mut receiving = pin!(receive(feed, opened, &connect.url, Output::new(connect.binary), connect.echo));
    let input = if connect.no_input { None } else { Some(stdin::read()) };
    let (input_result, close_timeout) = tokio::select! {
        end = &mut receiving => return report_outcome(connect, end),
        input_result = send_input(input, &sender, open) => (input_result, Duration::MAX),
        _ = signals.next() => (Ok(()), INTERRUPT_TIMEOUT),
    };
    // 1000 is a valid code. If nothing is open, this ends immediately.
    let _ = sender.start_close(CloseCode::NORMAL, "");
    let end = tokio::select! {
        end = receiving => end,
        () = tokio::time::sleep(close_timeout) => Outcome::Closed(Err(Error::CloseTimeout)),
        status = signals.next() => return Err(Failure::signal(status)),
    };
    input_result.and_then(|()| report_outcome(connect, end))
}

/// How it ended.
enum Outcome {
    /// Closed by this side.
    Closed(Result<Option<Closed>, Error>),
    GivenUp(Cause),
    /// Standard output failed.
    Output(io::Error),
}

fn report_outcome(connect: &Connect, outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::Closed(Ok(None)) => Ok(()),
        Outcome::Closed(Ok(closed)) => report_end(ConnectionEnd::Closed(closed)),
        Outcome::Closed(Err(error)) | Outcome::GivenUp(Cause::Failed(error)) => {
            report_end(ConnectionEnd::Failed(error))
        }
        Outcome::GivenUp(Cause::Closed(closed)) => report_end(ConnectionEnd::Closed(Some(closed))),
        Outcome::GivenUp(Cause::Connect(error)) => Err(connect.connect_failure(&error)),
        Outcome::GivenUp(cause) => Err(Failure::new(terminal::excerpt(&format!("{cause:#}")))),
        Outcome::Output(error) => report_end(ConnectionEnd::Output(error)),
    }
}

/// Sends each line on the current connection. Returns at the end of the input, or with the reason why it
/// cannot be read.
async fn send_input(
    input: Option<mpsc::Receiver<Batch>>,
    sender: &Sender,
    mut open: watch::Receiver<Connection>,
) -> Result<(), Failure> {
    let Some(mut batches) = input else { return pending().await };
    while let Some(Batch { lines, error }) = batches.recv().await {
        for line in lines {
            send(line, sender, &mut open).await;
        }
        if let Some(error) = error {
            return Err(Failure::new(error));
        }
    }
    Ok(())
}

/// Sends one line as soon as a connection accepts it.
async fn send(line: String, sender: &Sender, open: &mut watch::Receiver<Connection>) {
    let message = Message::from(line);
    loop {
        // This fails after the receiver has ended, which also ends this future.
        let Ok(connection) = open.wait_for(Option::is_some).await.map(|open| *open) else {
            return pending().await;
        };
        match sender.send(message.clone()).await {
            Ok(()) => return,
            Err(NotSent::Failed(error)) => {
                terminal::warn(&format!(
                    "a line may not have arrived: {}",
                    terminal::excerpt(&format!("{error:#}"))
                ));
                return;
            }
            // This connection has ended; the line was not sent on it.
            Err(_) => {
                if open.wait_for(|now| *now != connection).await.is_err() {
                    return pending().await;
                }
            }
        }
    }
}

/// Prints messages and connection events until the end.
async fn receive(
    mut feed: Feed,
    open: watch::Sender<Connection>,
    url: &str,
    mut output: Output,
    echo: bool,
) -> Outcome {
    match show(&mut feed, &open, url, &mut output, echo).await {
        Ok(outcome) => outcome,
        // The reader, such as `head`, has closed the pipe: close without an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Outcome::Closed(feed.close(CloseCode::NORMAL, "").await)
        }
        Err(error) => Outcome::Output(error),
    }
}

/// Runs until the last event. Fails if standard output does.
async fn show(
    feed: &mut Feed,
    open: &watch::Sender<Connection>,
    url: &str,
    output: &mut Output,
    echo: bool,
) -> io::Result<Outcome> {
    let sender = feed.sender();
    let mut has_unflushed = false;
    // The attempt in progress.
    let mut attempt_number = None;
    let outcome = loop {
        // Prints messages that arrive together in one write, and flushes before it waits.
        let event = tokio::select! {
            biased;
            event = feed.next() => event,
            flushed = output.flush(), if has_unflushed => {
                flushed?;
                has_unflushed = false;
                continue;
            }
        };
        match event {
            Some(Event::Message(message)) => {
                output.write(&message).await?;
                has_unflushed = true;
                // A late echo is useless, so nothing is queued here; `Lost` reports the rest.
                if echo && matches!(sender.try_send(message), Err(NotSent::Full)) {
                    terminal::warn("message not echoed: the server reads too slowly");
                }
            }
            Some(Event::Connecting(attempt)) => {
                attempt_number = Some(attempt.number);
                terminal::event("connecting", &format!(", attempt {}", attempt.number));
            }
            Some(Event::Open(attempt)) => {
                attempt_number = None;
                let again = if attempt.opened > 0 { " again" } else { "" };
                terminal::event(
                    "connected",
                    &format!(
                        "{again} to {}",
                        terminal::excerpt(&super::client_options::without_credentials(url))
                    ),
                );
                open.send_replace(Some(attempt.opened + 1));
            }
            Some(Event::Lost { cause, retry_in }) => {
                open.send_replace(None);
                let attempt =
                    attempt_number.take().map(|number| format!("attempt {number}: ")).unwrap_or_default();
                let cause = terminal::excerpt(&format!("{cause:#}"));
                terminal::warn(&format!("{attempt}{cause}; reconnecting in {:.1} s", retry_in.as_secs_f64()));
            }
            Some(Event::GivenUp { cause, .. }) => break Outcome::GivenUp(cause),
            Some(Event::Closed(closed)) => break Outcome::Closed(closed),
            Some(_) => {}
            None => break Outcome::Closed(Ok(None)),
        }
    };
    output.flush().await?;
    Ok(outcome)
}
