//! Sessions of `longwire serve`: memory for each with presence and history on, from publishing to delivery, and how many
//! resume in a second.
//!
//! The server is the binary that `--server` names, in a process of its own; its clients are here.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::future::try_join_all;
use longwire::{Client, Config, WebSocket};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `longwire serve` spends on sessions, and how long a message takes.
#[derive(Parser)]
struct Options {
    /// The binary
    #[arg(long, default_value = "../target/release/longwire")]
    server: PathBuf,
    /// Sessions
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// Channels, over which they are spread
    #[arg(long, default_value_t = 50)]
    channels: usize,
    /// Messages that are published, one after the other, every 10 ms
    #[arg(long, default_value_t = 500)]
    messages: usize,
    /// Subscriptions that are resumed, of 100 messages each
    #[arg(long, default_value_t = 2000)]
    resumes: usize,
    /// Where history is kept on disk; without it, in memory
    #[arg(long)]
    data: Option<PathBuf>,
}

struct Server(Child, String);

impl Server {
    fn start(options: &Options) -> Result<Self, Error> {
        let mut command = Command::new(&options.server);
        command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        if let Some(data) = &options.data {
            command.arg("--data").arg(data);
        }
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.ok_or_else(|| format!("no address in {line:?}"))?.to_owned();
        Ok(Self(child, format!("ws://{address}/-/session")))
    }

    /// Resident memory in bytes; page by page, as the other numbers of the system lag behind.
    fn memory(&self) -> Result<usize, Error> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("no Rss")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn open(url: &str) -> Result<WebSocket, Error> {
    let client = Client::new().subprotocols(["longwire.v1"]).config(Config::client().no_deflate());
    let mut ws = client.handshake_timeout(PATIENCE).connect(url).await?;
    next(&mut ws).await?;
    Ok(ws)
}

async fn next(ws: &mut WebSocket) -> Result<Value, Error> {
    let message = timeout(PATIENCE, ws.recv()).await??.ok_or("closed")?;
    Ok(serde_json::from_slice(message.as_bytes())?)
}

/// Asks, and awaits the answer; what else comes is passed over.
async fn ask(ws: &mut WebSocket, request: &Value) -> Result<Value, Error> {
    ws.send(request.to_string()).await?;
    loop {
        let said = next(ws).await?;
        match said["type"].as_str() {
            Some("ok") => return Ok(said),
            Some("error") => return Err(said.to_string().into()),
            _ => {}
        }
    }
}

fn channel(number: usize) -> String {
    format!("频道/{number}")
}

/// Opens so many sessions, each subscribed to a channel with presence.
async fn crowd(url: &str, options: &Options) -> Result<Vec<WebSocket>, Error> {
    let mut all = Vec::with_capacity(options.connections);
    for begin in (0..options.connections).step_by(100) {
        let some = (begin..options.connections.min(begin + 100)).map(|number| async move {
            let mut ws = open(url).await?;
            let name = channel(number % options.channels);
            ask(&mut ws, &json!({"type": "subscribe", "id": 1, "channel": name, "presence": true})).await?;
            Ok::<_, Error>(ws)
        });
        all.extend(try_join_all(some).await?);
    }
    Ok(all)
}

fn percentile(sorted: &[Duration], of: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * of) as usize]
}

async fn measure(options: &Options) -> Result<(), Error> {
    let server = Server::start(options)?;
    let url = server.1.clone();
    // What a server has anyway: threads, buffers, the history of the channels.
    let mut publisher = open(&url).await?;
    let filling = options.channels.min(50);
    for number in 0..filling {
        for text in 0..100 {
            let data = format!("{text} {}", "行情 📈".repeat(8));
            ask(
                &mut publisher,
                &json!({"type": "publish", "id": 2, "channel": channel(number), "data": data}),
            )
            .await?;
        }
    }
    let before = server.memory()?;
    let sessions = crowd(&url, options).await?;
    // Joins are told of once a second: until all have read them.
    let (told, mut heard) = mpsc::unbounded_channel();
    let count = sessions.len();
    for mut ws in sessions {
        let told = told.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = ws.recv().await {
                if message.as_bytes().starts_with(b"{\"type\":\"message\"")
                    && told.send(Instant::now()).is_err()
                {
                    break;
                }
            }
        });
    }
    sleep(Duration::from_secs(3)).await;
    let each = server.memory()?.saturating_sub(before) / count;
    println!(
        "memory: {each} B for each of {count} sessions on {} channels, with presence and history",
        options.channels
    );

    let listeners = count / options.channels;
    let mut times = Vec::with_capacity(options.messages * listeners);
    let mut acknowledged = Vec::with_capacity(options.messages);
    for number in 0..options.messages {
        let name = channel(number % options.channels);
        let begun = Instant::now();
        let request = json!({"type": "publish", "id": 3, "channel": name, "data": "你好 👋".repeat(8)});
        ask(&mut publisher, &request).await?;
        acknowledged.push(begun.elapsed());
        for _ in 0..listeners {
            let at = timeout(PATIENCE, heard.recv()).await?.ok_or("nobody listens")?;
            times.push(at.saturating_duration_since(begun));
        }
        sleep(Duration::from_millis(10).saturating_sub(begun.elapsed())).await;
    }
    times.sort_unstable();
    acknowledged.sort_unstable();
    println!(
        "publish to delivery, {listeners} subscribers of each channel: p50 {:?}, p99 {:?}; acknowledged: p50 {:?}, p99 {:?}",
        percentile(&times, 0.5),
        percentile(&times, 0.99),
        percentile(&acknowledged, 0.5),
        percentile(&acknowledged, 0.99)
    );

    // Appending: answers are awaited 100 at a time.
    let begun = Instant::now();
    let appended = options.messages * 10;
    let mut other = open(&url).await?;
    for batch in 0..appended / 100 {
        for id in 0..100 {
            let request =
                json!({"type": "publish", "id": id, "channel": "写", "data": format!("{batch}-{id} 🌊")});
            other.feed(request.to_string()).await?;
        }
        for _ in 0..100 {
            next(&mut other).await?;
        }
    }
    let rate = (appended / 100 * 100) as f64 / begun.elapsed().as_secs_f64();
    println!("appending, by one session, 100 in flight: {rate:.0} a second");

    // Resuming: 100 messages each time.
    let page = ask(&mut other, &json!({"type": "history", "id": 4, "channel": "写", "limit": 1})).await?;
    let first = page["messages"][0]["position"].clone();
    let begun = Instant::now();
    let mut resumed = 0;
    for _ in 0..options.resumes {
        let request = json!({"type": "subscribe", "id": 5, "channel": "写", "after": first});
        let answer = ask(&mut other, &request).await?;
        if answer["recovered"] != json!(true) {
            return Err(format!("not recovered: {answer}").into());
        }
        for _ in 0..99 {
            next(&mut other).await?;
            resumed += 1;
        }
        ask(&mut other, &json!({"type": "unsubscribe", "id": 6, "channel": "写"})).await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "resuming, by one session: {:.0} a second, {:.0} messages",
        options.resumes as f64 / seconds,
        f64::from(resumed) / seconds
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    measure(&Options::parse()).await
}
