//! A feed that runs while the test looks at it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use longwire::Client;
use longwire::reconnect::{Backoff, Event, Offline, Reconnect, Sender};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_futures::spawn_local;

use crate::{Outcome, ending, fail, name_of};

thread_local! {
    static EVENTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static SENDER: RefCell<Option<Sender>> = const { RefCell::new(None) };
}

/// Starts a feed with this first wait; 0 attempts means any number.
#[wasm_bindgen]
pub fn feed_start(url: String, millis: u32, attempts: u32) {
    let wait = Duration::from_millis(millis.into());
    let minute = Duration::from_secs(60);
    let backoff = Backoff::new().initial(wait).max(4 * wait).restart(minute..=minute);
    let mut plan = Reconnect::new(Client::new(), url)
        .backoff(backoff)
        .offline(Offline::Hold { messages: 2, bytes: 100 })
        .prepare(async |client, _| Ok::<_, Infallible>(client.subprotocols(["chat.v2"])))
        .on_open(async |mut ws, attempt| {
            let subprotocol = ws.subprotocol().unwrap_or("none").to_owned();
            Ok(ws.send(format!("订阅 {} {subprotocol}", attempt.opened)).await?)
        });
    if attempts > 0 {
        plan = plan.max_attempts(attempts);
    }
    let mut feed = plan.start();
    EVENTS.with_borrow_mut(Vec::clear);
    SENDER.set(Some(feed.sender()));
    spawn_local(async move {
        while let Some(event) = feed.next().await {
            EVENTS.with_borrow_mut(|events| events.push(told(&event)));
        }
        EVENTS.with_borrow_mut(|events| events.push("over".into()));
    });
}

fn told(event: &Event) -> String {
    match event {
        Event::Connecting(attempt) => format!("connecting {}", attempt.number),
        Event::Open(attempt) => format!("open {}", attempt.opened),
        Event::Message(message) => format!("message {}", message.as_text().unwrap_or("binary")),
        Event::Lost { cause, retry_in } => format!("lost: {cause:#}, again in {} s", retry_in.as_secs()),
        Event::GivenUp { cause, why } => format!("given up, {why:?}: {cause:#}"),
        Event::Closed(Ok(closed)) => format!("closed, {}", ending(closed.as_ref())),
        Event::Closed(Err(error)) => format!("closed, {}", name_of(error)),
        _ => "another".into(),
    }
}

/// The events so far.
#[wasm_bindgen]
pub fn feed_events() -> String {
    EVENTS.with_borrow(|events| events.join("\n"))
}

fn sender() -> Result<Sender, wasm_bindgen::JsError> {
    SENDER.with_borrow(Clone::clone).map_or_else(|| fail("no feed"), Ok)
}

/// Sends a text, or says why not.
#[wasm_bindgen]
pub fn feed_send(text: String) -> Outcome {
    Ok(match sender()?.try_send(text) {
        Ok(()) => "ok".into(),
        Err(error) => error.to_string(),
    })
}

/// Stops waiting.
#[wasm_bindgen]
pub fn feed_retry() -> Outcome {
    sender()?.retry_now();
    Ok("ok".into())
}

/// Begins to close.
#[wasm_bindgen]
pub fn feed_close(code: u16, reason: String) -> Outcome {
    sender()?.start_close(code, &reason)?;
    Ok("ok".into())
}
