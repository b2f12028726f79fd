//! The peers under test: an echo server on either driver, and a client that echoes what each case sends.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longwire::engine::{Conn, Engine, Handler, MessageRef};
use longwire::http::{HeaderMap, Request};
use longwire::{Acceptor, Client, Config, Deflate, Message, Origins, Refusal, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// The name of the column in the suite's reports.
pub(crate) const AGENT: &str = "longwire";

/// Longer than any case may take: the suite gives 100 s to the slowest of section 9.
const PATIENCE: Duration = Duration::from_secs(150);

/// Section 9 sends messages of 16 MiB and messages of 65,536 fragments, more than the defaults allow.
/// No Ping of ours: the suite compares every frame. Sections 12 and 13 are to find compression with and
/// without context takeover, in messages of every size.
fn roomy(config: Config) -> Config {
    let deflate = Deflate::new().threshold(0).send_context_takeover(1 << 30);
    config.max_message(64 << 20).max_small_fragments(1 << 17).ping_after(None).deflate(deflate)
}

fn acceptor() -> Acceptor {
    Acceptor::new().origins(Origins::Any).config(roomy(Config::server()))
}

/// As [`serve`], on the engine. An echo of 16 MiB is queued whole, and nothing read until it is written.
pub(crate) async fn serve_engine(address: &str) -> Result<(), Box<dyn Error>> {
    let mut running = Engine::new(Echo).acceptor(acceptor()).threads(1).listen(address)?;
    println!("listening on {}", running.local_addr().ok_or("the engine has no listener")?);
    Ok(running.ended().await?)
}

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    fn message(&self, conn: &mut Conn<'_>, (): &mut (), message: MessageRef<'_>) {
        if let Err(error) = conn.send(message) {
            eprintln!("{}: {error}", conn.id());
        }
    }
}

/// Echoes on `address` until the process is ended; prints the address it got first.
pub(crate) async fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let acceptor = Arc::new(acceptor());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = Arc::clone(&acceptor);
        tokio::spawn(async move {
            match acceptor.accept(stream).await {
                Ok(socket) => echo(socket).await,
                Err(error) => eprintln!("opening handshake: {error}"),
            }
        });
    }
}

/// Runs every case that the fuzzingserver at `server` has, one after the other.
pub(crate) async fn client(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::new().config(roomy(Config::client()));
    let mut socket = client.connect(format!("{server}/getCaseCount")).await?;
    let count: usize = match socket.recv().await? {
        Some(Message::Text(count)) => count.parse()?,
        other => return Err(format!("expected the number of cases, got {other:?}").into()),
    };
    echo(socket).await;

    for case in 1..=count {
        let url = format!("{server}/runCase?case={case}&agent={AGENT}");
        let socket = client.connect(url).await.map_err(|error| format!("case {case} of {count}: {error}"))?;
        if timeout(PATIENCE, echo(socket)).await.is_err() {
            eprintln!("case {case} of {count}: still open after {} s, dropped", PATIENCE.as_secs());
        }
    }

    // The suite closes this connection when the reports are written
    let reports = client.connect(format!("{server}/updateReports?agent={AGENT}")).await?;
    timeout(PATIENCE, echo(reports)).await?;
    Ok(())
}

/// Sends every message back until the connection ends. How it ends is the suite's to judge.
///
/// `feed` and not `send`: echoes must leave before the Close frame that a later violation causes.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocket<S>) {
    while let Ok(Some(message)) = socket.recv().await {
        if socket.feed(message).await.is_err() {
            return;
        }
    }
}
