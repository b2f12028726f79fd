//! The limits of the client in a page.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use longwire::{Client, WebSocket};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::{Outcome, fail, name_of, pause};

/// Receives until an error, and counts the messages before it.
async fn drain(mut ws: WebSocket) -> Outcome {
    let mut count = 0;
    loop {
        match ws.recv().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => return fail("closed without an error"),
            Err(error) => return Ok(format!("{count}; {}", name_of(&error))),
        }
    }
}

/// Does not receive while the server sends.
#[wasm_bindgen]
pub async fn flood(url: String) -> Outcome {
    let mut ws = Client::new().receive_buffer(1000).connect(url).await?;
    while ws.try_send("还在 ⏳").is_ok() {
        pause(0).await?;
    }
    drain(ws).await
}

/// The largest message, and one that is larger by a byte.
#[wasm_bindgen]
pub async fn too_big(url: String) -> Outcome {
    let ws = Client::new().max_message(1000).connect(url).await?;
    drain(ws).await
}

/// Sends to a server that does not read until `go` is connected to.
#[wasm_bindgen]
pub async fn fill(url: String, go: String) -> Outcome {
    const PIECE: usize = 1024 * 1024;
    let mut ws = Client::new().write_buffer(PIECE).connect(url).await?;
    let mut sent = 0_usize;
    while ws.try_send(vec![7; PIECE]).is_ok() {
        sent += 1;
        if sent == 200 {
            return fail("nothing fills up");
        }
        pause(10).await?;
    }
    if ws.buffered_amount() < PIECE {
        return fail("it is not full");
    }
    {
        let mut sending = pin!(ws.send(vec![7; PIECE]));
        for _ in 0..5 {
            if poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await.is_ready() {
                return fail("it does not wait");
            }
            pause(20).await?;
        }
        let _reading = longwire::connect(go).await?;
        sending.await?;
        sent += 1;
    }
    ws.flush().await?;
    let left = ws.buffered_amount();
    ws.close(1000, "").await?;
    Ok::<_, JsError>(format!("{sent} {left}"))
}
