//! Files of any size, in parts, in little memory, with a checksum.
//!
//!     cargo run --example file_transfer -- receive 127.0.0.1:8080 DIRECTORY
//!     cargo run --example file_transfer -- send ws://127.0.0.1:8080 FILE
//!     cargo run --example file_transfer -- --demo [MIB]
//!
//! A file is three messages: `{"name": .., "size": ..}`, its content in parts, and its SHA-256 in hexadecimal. The
//! answer is `stored`, or a Close frame that says what is wrong. The demo starts both ends as processes of their
//! own, sends a file of 1024 MiB, or so many, and fails if one of them takes over 20 MiB of memory.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use longwire::{Acceptor, Client, Config, Kind, Message, WebSocket};
use ring::digest::{Context, Digest, SHA256};
use serde_json::{Value, json};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What is read of a file and sent in one part.
const PART: usize = 256 * 1024;

/// The largest file that is received.
const MAX_SIZE: u64 = 1 << 40;

/// What each side of the demo may take at most.
const MEMORY_MIB: u64 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["receive", address, directory] => receive_all(address, directory.as_ref(), false).await,
        ["receive", address, directory, "--once"] => receive_all(address, directory.as_ref(), true).await,
        ["send", url, file] => send(url, file.as_ref()).await,
        ["--demo"] => demo(1024),
        ["--demo", mib] => demo(mib.parse()?),
        _ => Err("say `receive ADDRESS DIRECTORY`, `send URL FILE` or `--demo [MIB]`".into()),
    }
}

async fn send(url: &str, path: &Path) -> Result<()> {
    let mut file = File::open(path).await?;
    let size = file.metadata().await?.len();
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("the file's name is not UTF-8")?;
    let mut ws = Client::new().config(Config::client().no_deflate()).connect(url).await?;
    ws.send(json!({ "name": name, "size": size }).to_string()).await?;

    let (mut hash, mut progress) = (Context::new(&SHA256), Progress::new("sent", size));
    loop {
        let mut part = BytesMut::with_capacity(PART);
        // Waits until the part is written: what is not taken by the receiver is not read from the file.
        if file.read_buf(&mut part).await? == 0 {
            ws.send_part((Kind::Binary, part, true)).await?;
            break;
        }
        hash.update(&part);
        progress.add(part.len());
        ws.send_part((Kind::Binary, part, false)).await?;
        // A receiver that refuses says so in the middle. This also answers its Pings.
        if let Ok(answer) = timeout(Duration::ZERO, ws.recv()).await {
            return Err(refusal(&ws, answer?));
        }
    }
    ws.send(hex(&hash.finish())).await?;
    let answer = ws.recv().await?;
    if answer.as_ref().and_then(Message::as_text) != Some("stored") {
        return Err(refusal(&ws, answer));
    }
    ws.close(1000, "").await?;
    progress.end();
    Ok(())
}

/// What the receiver has said instead of `stored`.
fn refusal(ws: &WebSocket, answer: Option<Message>) -> Box<dyn Error> {
    match (answer, ws.closed().and_then(|closed| closed.frame.as_ref())) {
        (Some(answer), _) => format!("not an answer: {answer:?}").into(),
        (None, Some(frame)) => format!("refused: {} ({})", frame.reason, frame.code).into(),
        (None, None) => "closed without an answer".into(),
    }
}

async fn receive_all(address: &str, directory: &Path, is_once: bool) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("ws://{}", listener.local_addr()?);
    // The limit is for headers and checksums: the content comes in parts, and nothing of it is kept.
    let acceptor = Acceptor::new().config(Config::server().max_message(4 * 1024));
    loop {
        let (stream, peer) = listener.accept().await?;
        let (acceptor, directory) = (acceptor.clone(), directory.to_owned());
        let connection = tokio::task::spawn(async move {
            let outcome = serve(&acceptor, stream, &directory).await;
            outcome.map_err(|error| format!("{peer}: {error}"))
        });
        if is_once {
            return Ok(connection.await??);
        }
        tokio::spawn(async move {
            if let Ok(Err(error)) = connection.await {
                eprintln!("{error}");
            }
        });
    }
}

async fn serve(
    acceptor: &Acceptor,
    stream: TcpStream,
    directory: &Path,
) -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
    let mut ws = acceptor.accept(stream).await?;
    while let Some(header) = ws.recv().await? {
        match Incoming::create(&header, directory).await {
            Ok(incoming) => {
                let partial = incoming.partial.clone();
                if let Err((code, reason)) = incoming.receive(&mut ws).await {
                    // What is left of it is of no use; it may not be there any more.
                    let _ = fs::remove_file(partial).await;
                    // Whether or not the sender waits for it.
                    let _ = ws.close(code, &reason).await;
                    return Err(reason.into());
                }
                ws.send("stored").await?;
            }
            Err(reason) => {
                let _ = ws.close(1008, &reason).await;
                return Err(reason.into());
            }
        }
    }
    Ok(())
}

/// A file that is being received.
struct Incoming {
    file: File,
    size: u64,
    /// Where it is until it is complete.
    partial: PathBuf,
    complete: PathBuf,
}

impl Incoming {
    async fn create(header: &Message, directory: &Path) -> std::result::Result<Self, String> {
        let header: Value = serde_json::from_slice(header.as_bytes()).map_err(|_| "the header is no JSON")?;
        let (Some(name), Some(size)) = (header["name"].as_str(), header["size"].as_u64()) else {
            return Err("the header has no name or size".into());
        };
        // A name and no path, wherever it points: the peer chose it.
        let is_plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | ':');
        if name.is_empty() || name.starts_with('.') || name.len() > 200 || !name.chars().all(is_plain) {
            return Err("that is no name for a file".into());
        }
        if size > MAX_SIZE {
            return Err(format!("files have at most {MAX_SIZE} bytes"));
        }
        let (complete, partial) = (directory.join(name), directory.join(format!("{name}.part")));
        if fs::try_exists(&complete).await.unwrap_or(true) {
            return Err("there is such a file".into());
        }
        let file = File::create_new(&partial).await.map_err(|error| error.to_string())?;
        Ok(Self { file, size, partial, complete })
    }

    /// Receives the content and its checksum; the error is what the peer is told.
    async fn receive(mut self, ws: &mut WebSocket<TcpStream>) -> std::result::Result<(), (u16, String)> {
        let lost = |error: longwire::Error| (1011, error.to_string());
        let broken = |error: std::io::Error| (1011, error.to_string());
        let (mut hash, mut progress) = (Context::new(&SHA256), Progress::new("received", self.size));
        while let Some(part) = ws.recv_part().await.map_err(lost)? {
            if part.kind != Kind::Binary {
                return Err((1003, "the content is binary".into()));
            }
            progress.add(part.payload.len());
            if progress.done > self.size {
                return Err((1009, "more than was announced".into()));
            }
            hash.update(&part.payload);
            // The next part is not read before this one is written: so a slow disk slows the sender.
            self.file.write_all(&part.payload).await.map_err(broken)?;
            if part.last {
                break;
            }
        }
        if progress.done < self.size {
            return Err((1008, "less than was announced".into()));
        }
        let sum = ws.recv().await.map_err(lost)?;
        if sum.as_ref().and_then(Message::as_text) != Some(&*hex(&hash.finish())) {
            return Err((1008, "the checksum is another".into()));
        }
        self.file.sync_all().await.map_err(broken)?;
        fs::rename(&self.partial, &self.complete).await.map_err(broken)?;
        progress.end();
        Ok(())
    }
}

/// What is told while a file passes: a line for each tenth, on standard error.
struct Progress {
    what: &'static str,
    size: u64,
    done: u64,
    told: u64,
    begun: Instant,
}

impl Progress {
    fn new(what: &'static str, size: u64) -> Self {
        Self { what, size, done: 0, told: 0, begun: Instant::now() }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let tenth = self.done.saturating_mul(10) / self.size.max(1);
        if tenth > self.told {
            self.told = tenth;
            let rate = self.done as f64 / self.begun.elapsed().as_secs_f64() / f64::from(1 << 20);
            eprintln!("{} {} % at {rate:.0} MiB/s", self.what, tenth * 10);
        }
    }

    /// The last line is for the demo.
    fn end(&self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        println!("{} {} bytes in {seconds:.1} s, {} MiB of memory", self.what, self.done, peak_mib());
    }
}

/// The most memory that this process had at once, as Linux tells it; 0 elsewhere.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0).div_ceil(1024)
}

fn hex(digest: &Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn demo(mib: u64) -> Result<()> {
    let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let path = from.path().join("大文件 👋.bin");
    let mut file = std::fs::File::create(&path)?;
    let mut block = vec![0; 1 << 20];
    for at in 0..mib {
        block[..8].copy_from_slice(&at.to_le_bytes());
        file.write_all(&block)?;
    }
    drop(file);

    let program = env::current_exe()?;
    let mut receiver = Command::new(&program)
        .args(["receive", "127.0.0.1:0"])
        .arg(to.path())
        .arg("--once")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(receiver.stdout.take().ok_or("no output")?).lines();
    let url = said.next().ok_or("the receiver said nothing")??;
    let sender = Command::new(&program).args(["send", &url]).arg(&path).stderr(Stdio::null()).output()?;
    if !sender.status.success() {
        // Else it would wait for another.
        receiver.kill()?;
    }
    let received = said.next().unwrap_or_else(|| Ok("the receiver stored nothing".into()))?;
    let sent = String::from_utf8(sender.stdout)?;
    println!("{}\n{received}", sent.trim_end());
    if !receiver.wait()?.success() || std::fs::metadata(to.path().join("大文件 👋.bin"))?.len() != mib << 20
    {
        return Err("the file did not arrive".into());
    }
    for line in [sent.trim_end(), &received] {
        let memory = line.rsplit(", ").next().and_then(|last| last.split(' ').next()?.parse().ok());
        if memory.is_none_or(|memory: u64| memory > MEMORY_MIB) {
            return Err(format!("over {MEMORY_MIB} MiB of memory: {line}").into());
        }
    }
    Ok(())
}
