//! A client: says hello and prints the answer. `cargo run --example hello -- ws://127.0.0.1:9000`.

use std::env;
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:9000".into());
    let mut ws = longwire::connect(url).await?;
    ws.send("hello, 你好 👋").await?;
    if let Some(message) = ws.recv().await? {
        println!("{}", message.as_text().unwrap_or("(binary)"));
    }
    ws.close(1000, "done").await?;
    Ok(())
}
