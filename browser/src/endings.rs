//! How connections end, and why they are not opened.

use std::time::Duration;

use longwire::{Client, ConnectError, Error, SendError};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::{Outcome, ending, fail, name_of};

/// Receives until the connection ends. Answers each message so late that the peer may have closed by then: what is sent
/// then is lost, and changes nothing about the end.
#[wasm_bindgen]
pub async fn listen(url: String) -> Outcome {
    let mut ws = longwire::connect(url).await?;
    let mut heard = Vec::new();
    loop {
        match ws.recv().await {
            Ok(Some(message)) => {
                heard.push(message.as_text().unwrap_or("binary").to_owned());
                block_page();
            }
            Ok(None) => heard.push(ending(ws.closed())),
            Err(error) => heard.push(name_of(&error)),
        }
        if ws.closed().is_some() || ws.try_send("?").is_err() {
            break;
        }
    }
    // It stays so.
    let again = match ws.recv().await {
        Ok(None) => "closed".into(),
        Ok(Some(_)) => return fail("a message after the end"),
        Err(error) => name_of(&error),
    };
    Ok(format!("{}; {again}", heard.join("; ")))
}

/// Closes after the first message, so late that the peer has closed too: the Close frames cross.
#[wasm_bindgen]
pub async fn close_late(url: String) -> Outcome {
    let mut ws = longwire::connect(url).await?;
    ws.recv().await?;
    block_page();
    ws.close(4000, "也好").await?;
    Ok(ending(ws.closed()))
}

/// Blocks the page, but not the network of the browser.
fn block_page() {
    let end = js_sys::Date::now() + 100.0;
    while js_sys::Date::now() < end {}
}

/// Why no connection was opened.
#[wasm_bindgen]
pub async fn refused(url: String, subprotocols: Vec<String>, millis: u32) -> Outcome {
    let client =
        Client::new().subprotocols(subprotocols).connect_timeout(Duration::from_millis(millis.into()));
    match client.connect(url).await {
        Ok(_) => fail("it is open"),
        Err(error) => {
            let name = match &error {
                ConnectError::Invalid(_) => "invalid",
                ConnectError::Timeout(_) => "timeout",
                ConnectError::Io(_) => "io",
                _ => "another",
            };
            Ok(format!("{name}, retryable {}: {error:#}", error.is_retryable()))
        }
    }
}

/// Codes and reasons that a page cannot send. The connection goes on.
#[wasm_bindgen]
pub async fn bad_closes(url: String) -> Outcome {
    let mut ws = longwire::connect(url).await?;
    let long = "长".repeat(42);
    for (code, reason) in [(1001, ""), (1006, ""), (1011, ""), (2999, ""), (5000, ""), (4000, &*long)] {
        match ws.close(code, reason).await {
            Err(Error::Send(_)) => {}
            other => return fail(format!("{code} {reason}: {other:?}")),
        }
    }
    ws.send("还在 👋").await?;
    let echoed = ws.recv().await?;
    // 123 bytes are the longest reason.
    ws.close(3999, &"长".repeat(41)).await?;
    Ok(format!("{}; {}", echoed.as_ref().and_then(|m| m.as_text()).unwrap_or("none"), ending(ws.closed())))
}

/// Drops an open connection.
#[wasm_bindgen]
pub async fn dropped(url: String) -> Outcome {
    let mut ws = longwire::connect(url).await?;
    ws.send("再见 👋").await?;
    drop(ws);
    Ok("dropped".into())
}

/// Drops the receiver only: nothing can be sent, but the connection can be closed.
#[wasm_bindgen]
pub async fn receiver_dropped(url: String) -> Outcome {
    let (sender, receiver) = longwire::connect(url).await?.split();
    let before = sender.is_closed();
    drop(receiver);
    let Err(SendError::ReceiverDropped) = sender.send("?").await else { return fail("it was sent") };
    let after = sender.is_closed();
    sender.close(4000, "走了 👣").await?;
    Ok(format!("{before} {after}"))
}

/// Closes a connection whose peer does not answer.
#[wasm_bindgen]
pub async fn unanswered(url: String) -> Outcome {
    let mut ws = Client::new().close_timeout(Duration::from_millis(50)).connect(url).await?;
    match ws.close(1000, "").await {
        Err(error) => Ok(name_of(&error)),
        Ok(()) => fail("it was answered"),
    }
}
