//! A command channel: an operator sends a command to one of many devices, and waits for its acknowledgement.
//!
//!     cargo run --example device_control -- serve 127.0.0.1:8080 SECRET
//!     cargo run --example device_control -- device ws://127.0.0.1:8080 SECRET lamp-1
//!     cargo run --example device_control -- command ws://127.0.0.1:8080 SECRET lamp-1 on
//!     cargo run --example device_control -- --demo
//!
//! A device connects to `/device/ID`, is told `{"welcome": ID}` when commands reach it, and answers `{"id": 7, "command": "on"}` with `{"id": 7, "answer": ..}`. An
//! operator connects to `/operator`, sends `{"id": 1, "device": "lamp-1", "command": "on", "seconds": 5}`, any
//! number at a time, and gets `{"id": 1, "answer": ..}` or `{"id": 1, "error": ..}`: that the device is offline, went
//! offline, is too busy, or did not answer in time. Each command has exactly one outcome. The demo brings about all
//! of them.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire::http::{Request, StatusCode, header};
use longwire::{Acceptor, Client, Config, Message, Refusal, Sender, WebSocket};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The longest message and the longest name of a device, in bytes.
const MESSAGE: usize = 16 * 1024;
const NAME: usize = 64;

/// Commands that one operator may have under way, and that one device may have to answer.
const UNDER_WAY: usize = 64;

/// How long an operator may let a command wait, in seconds.
const LONGEST: u64 = 60;

/// Closes a connection whose device has come again.
const REPLACED: u16 = 4000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address, secret] => {
            let listener = TcpListener::bind(address).await?;
            println!("ws://{}", listener.local_addr()?);
            serve(listener, (*secret).into()).await
        }
        ["device", url, secret, name] => {
            let mut ws = device(url, secret, name).await?;
            while let Some(message) = ws.recv().await? {
                let order: Value = serde_json::from_slice(message.as_bytes())?;
                println!("{}", order["command"]);
                ws.send(json!({ "id": order["id"], "answer": "done" }).to_string()).await?;
            }
            Ok(())
        }
        ["command", url, secret, device, command] => {
            let mut operator = connect(&format!("{url}/operator"), secret).await?;
            println!("{}", ask(&mut operator, json!({ "device": device, "command": command })).await?);
            Ok(operator.close(1000, "").await?)
        }
        ["--demo"] => demo().await,
        _ => Err("say `serve`, `device`, `command` or `--demo`, as the head of this file does".into()),
    }
}

/// The devices that are there.
#[derive(Clone, Default)]
struct Devices(Arc<Mutex<HashMap<String, Device>>>);

struct Device {
    sender: Sender<TcpStream>,
    /// Tells this connection from one before or after it.
    connection: u64,
    /// Who waits for the acknowledgement of which command. Dropped with the device, they learn that it is gone.
    waiting: HashMap<u64, oneshot::Sender<Value>>,
}

impl Devices {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Device>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device serves until its connection ends, or it connects again: a device that lost its network is back
    /// before the server has noticed.
    async fn serve(&self, name: String, ws: WebSocket<TcpStream>) -> Result<()> {
        let (sender, mut receiver) = ws.split();
        let connection = unique();
        // Before all commands; written by the first `recv`.
        sender.try_send(json!({ "welcome": name }).to_string())?;
        let device = Device { sender, connection, waiting: HashMap::new() };
        let before = self.lock().insert(name.clone(), device);
        if let Some(before) = before {
            // It may be closing already.
            let _ = before.sender.start_close(REPLACED, "replaced");
        }
        let ended = loop {
            match receiver.recv().await {
                Ok(Some(message)) => self.acknowledge(&name, connection, &message),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        let mut devices = self.lock();
        if devices.get(&name).is_some_and(|device| device.connection == connection) {
            devices.remove(&name);
        }
        ended
    }

    fn acknowledge(&self, name: &str, connection: u64, message: &Message) {
        let Ok(mut message) = serde_json::from_slice::<Value>(message.as_bytes()) else { return };
        let mut devices = self.lock();
        let device = devices.get_mut(name).filter(|device| device.connection == connection);
        let waits = device.zip(message["id"].as_u64()).and_then(|(device, id)| device.waiting.remove(&id));
        if let Some(waits) = waits {
            // Nobody may wait any more: then it came too late.
            let _ = waits.send(message["answer"].take());
        }
    }

    /// Gives a command to a device, and waits for its acknowledgement; the error is for the operator.
    async fn command(
        &self,
        name: &str,
        command: &Value,
        time: Duration,
    ) -> std::result::Result<Value, &'static str> {
        let id = unique();
        let acknowledged = {
            let mut devices = self.lock();
            let device = devices.get_mut(name).ok_or("offline")?;
            if device.waiting.len() >= UNDER_WAY {
                return Err("busy");
            }
            let order = json!({ "id": id, "command": command }).to_string();
            // It does not wait: a device that does not read holds up nobody but those who want something of it.
            device.sender.try_send(order).map_err(|_| "busy")?;
            let (waits, acknowledged) = oneshot::channel();
            device.waiting.insert(id, waits);
            acknowledged
        };
        match timeout(time, acknowledged).await {
            Ok(Ok(answer)) => Ok(answer),
            // Whether it has done something is not known.
            Ok(Err(_)) => Err("went offline"),
            Err(_) => {
                if let Some(device) = self.lock().get_mut(name) {
                    device.waiting.remove(&id);
                }
                Err("no answer in time")
            }
        }
    }

    async fn operate(&self, ws: WebSocket<TcpStream>) -> Result<()> {
        let (sender, mut receiver) = ws.split();
        let under_way = Arc::new(Semaphore::new(UNDER_WAY));
        while let Some(message) = receiver.recv().await? {
            let Ok(request) = serde_json::from_slice::<Value>(message.as_bytes()) else {
                sender.close(1008, "not JSON").await?;
                continue;
            };
            // Who asks for more than that is not read from until something is answered.
            let place = Arc::clone(&under_way).acquire_owned().await?;
            let (devices, sender) = (self.clone(), sender.clone());
            tokio::spawn(async move {
                let seconds = request["seconds"].as_u64().unwrap_or(5).clamp(1, LONGEST);
                let name = request["device"].as_str().unwrap_or_default();
                let outcome = devices.command(name, &request["command"], Duration::from_secs(seconds)).await;
                let answer = match outcome {
                    Ok(answer) => json!({ "id": request["id"], "answer": answer }),
                    Err(error) => json!({ "id": request["id"], "error": error }),
                };
                // The operator may have left.
                let _ = sender.send(answer.to_string()).await;
                drop(place);
            });
        }
        Ok(())
    }
}

/// A number that nothing else has.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn serve(listener: TcpListener, secret: Arc<str>) -> Result<()> {
    let config = Config::server().max_message(MESSAGE);
    let acceptor = Acceptor::new().config(config).on_request(move |request, _| authorize(request, &secret));
    let devices = Devices::default();
    loop {
        let (stream, peer) = listener.accept().await?;
        let (acceptor, devices) = (acceptor.clone(), devices.clone());
        tokio::spawn(async move {
            if let Err(error) = connected(&acceptor, &devices, stream).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn connected(acceptor: &Acceptor, devices: &Devices, stream: TcpStream) -> Result<()> {
    let handshake = acceptor.receive(stream).await?;
    let path = handshake.request().uri().path().to_owned();
    match path.strip_prefix("/device/") {
        Some(name) if !name.is_empty() && name.len() <= NAME => {
            devices.serve(name.to_owned(), handshake.accept().await?).await
        }
        None if path == "/operator" => devices.operate(handshake.accept().await?).await,
        _ => Err(handshake
            .refuse(Refusal::new(StatusCode::NOT_FOUND, "Try /device/ID or /operator"))
            .await
            .into()),
    }
}

/// One secret for all. A service of many gives each device its own, and all of it goes through TLS.
fn authorize(request: &Request<()>, secret: &str) -> std::result::Result<(), Refusal> {
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    match given.and_then(|value| value.strip_prefix(b"Bearer ")) {
        Some(given) if given == secret.as_bytes() => Ok(()),
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "Send the secret as a bearer token.")),
    }
}

async fn connect(url: &str, secret: &str) -> Result<WebSocket> {
    Ok(Client::new().header("authorization", format!("Bearer {secret}")).connect(url).await?)
}

/// A device that commands reach.
async fn device(url: &str, secret: &str, name: &str) -> Result<WebSocket> {
    let mut ws = connect(&format!("{url}/device/{name}"), secret).await?;
    match next(&mut ws).await? {
        welcome if welcome["welcome"] == name => Ok(ws),
        other => Err(format!("no welcome: {other}").into()),
    }
}

/// Sends a request of an operator's, and waits for what comes.
async fn ask(operator: &mut WebSocket, request: Value) -> Result<Value> {
    operator.send(request.to_string()).await?;
    next(operator).await
}

/// What comes next.
async fn next(ws: &mut WebSocket) -> Result<Value> {
    let message = timeout(Duration::from_secs(LONGEST + 5), ws.recv()).await??;
    Ok(serde_json::from_slice(message.ok_or("closed")?.as_bytes())?)
}

async fn demo() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    tokio::spawn(serve(listener, "暗号".into()));

    if !matches!(connect(&format!("{url}/operator"), "猜").await, Err(error) if error.to_string().contains("401"))
    {
        return Err("somebody without the secret was let in".into());
    }
    let mut operator = connect(&format!("{url}/operator"), "暗号").await?;
    let on = |id: u64, seconds: u64| json!({ "id": id, "device": "lamp-1", "command": "开灯 💡", "seconds": seconds });

    outcome(&ask(&mut operator, on(1, 5)).await?, &json!({ "id": 1, "error": "offline" }))?;

    // A device that answers, once it is there.
    let mut lamp = device(&url, "暗号", "lamp-1").await?;
    operator.send(on(2, 30).to_string()).await?;
    let order = next(&mut lamp).await?;
    lamp.send(json!({ "id": order["id"], "answer": "亮了" }).to_string()).await?;
    outcome(&next(&mut operator).await?, &json!({ "id": 2, "answer": "亮了" }))?;

    // One that does not, in its time; its late answer is nobody's.
    outcome(&ask(&mut operator, on(3, 1)).await?, &json!({ "id": 3, "error": "no answer in time" }))?;
    let late = next(&mut lamp).await?;
    lamp.send(json!({ "id": late["id"], "answer": "迟到" }).to_string()).await?;

    // Several at a time, answered the other way round.
    operator.send(on(4, 30).to_string()).await?;
    let first = next(&mut lamp).await?;
    operator.send(on(5, 30).to_string()).await?;
    let second = next(&mut lamp).await?;
    for (order, text) in [(&second, "二"), (&first, "一")] {
        lamp.send(json!({ "id": order["id"], "answer": text }).to_string()).await?;
        let id = if text == "二" { 5 } else { 4 };
        outcome(&next(&mut operator).await?, &json!({ "id": id, "answer": text }))?;
    }

    // It connects again: what the connection before was to do is over.
    operator.send(on(6, 30).to_string()).await?;
    next(&mut lamp).await?;
    let mut again = device(&url, "暗号", "lamp-1").await?;
    outcome(&next(&mut operator).await?, &json!({ "id": 6, "error": "went offline" }))?;
    while lamp.recv().await?.is_some() {}
    if lamp.closed().and_then(|closed| closed.frame.as_ref()).is_none_or(|frame| frame.code != REPLACED) {
        return Err(format!("it was not replaced: {:?}", lamp.closed()).into());
    }
    operator.send(on(7, 30).to_string()).await?;
    next(&mut again).await?;
    drop(again);
    outcome(&next(&mut operator).await?, &json!({ "id": 7, "error": "went offline" }))?;
    operator.close(1000, "").await?;
    println!("every command had its outcome");
    Ok(())
}

fn outcome(is: &Value, expected: &Value) -> Result<()> {
    if is == expected { Ok(()) } else { Err(format!("{is} instead of {expected}").into()) }
}
