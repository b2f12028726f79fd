//! Messages in both directions.

use longwire::{Bytes, Client, Message};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_futures::spawn_local;

use crate::{Outcome, ending, fail};

/// Sends texts and bytes to an echo, compares what comes back, and closes.
#[wasm_bindgen]
pub async fn talk(url: String) -> Outcome {
    let client = Client::new().subprotocols(["chat.v9", "chat.v2"]);
    let mut ws = client.connect(url).await?;
    let long = "漫长 🌊".repeat(100_000);
    let messages = [
        Message::from("你好，世界 🌊"),
        Message::from(""),
        Message::from(long),
        Message::from(&[0, 1, 255]),
        Message::from(Bytes::new()),
        Message::from(vec![7; 300_000]),
    ];
    for message in messages {
        ws.send(message.clone()).await?;
        if ws.recv().await?.as_ref() != Some(&message) {
            return fail(format!("a message of {} bytes came back as another", message.len()));
        }
    }
    // All at once, in order.
    for number in 0..100 {
        ws.try_send(format!("第 {number}"))?;
    }
    ws.flush().await?;
    for number in 0..100 {
        if ws.recv().await?.as_ref().and_then(Message::as_text) != Some(&format!("第 {number}")) {
            return fail(format!("number {number} is missing"));
        }
    }
    let subprotocol = ws.subprotocol().unwrap_or("none").to_owned();
    ws.close(4001, "午饭 🍜").await?;
    // Closing a closed connection is no error, and nothing more comes.
    ws.close(4001, "again").await?;
    if ws.recv().await?.is_some() {
        return fail("a message after the end");
    }
    let late = ws.send("too late").await;
    Ok(format!("{subprotocol}; {}; {}", ending(ws.closed()), late.is_err()))
}

/// Two tasks send while a third receives.
#[wasm_bindgen]
pub async fn talk_in_tasks(url: String) -> Outcome {
    let (sender, mut receiver) = longwire::connect(url).await?.split();
    for name in ["甲", "乙"] {
        let sender = sender.clone();
        spawn_local(async move {
            for number in 0..10 {
                // The receiver counts what has arrived.
                let _ = sender.send(format!("{name} {number}")).await;
            }
        });
    }
    let (mut a, mut b) = (0, 0);
    while a + b < 20 {
        let Some(message) = receiver.recv().await? else { return fail("closed early") };
        let (name, number) = message.as_text().and_then(|text| text.split_once(' ')).unwrap_or_default();
        let count = if name == "甲" { &mut a } else { &mut b };
        if number != count.to_string() {
            return fail(format!("{name} {number} is out of order"));
        }
        *count += 1;
    }
    sender.start_close(1000, "")?;
    while receiver.recv().await?.is_some() {}
    Ok::<_, JsError>(ending(receiver.closed().as_ref()))
}
