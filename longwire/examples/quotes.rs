//! A feed of quotes that outlives its connections: each has a number, the server keeps the last ones, and the
//! client asks for those from where it was. What was not kept is a gap, which the client sees and says.
//!
//!     cargo run --example quotes -- serve
//!     cargo run --example quotes -- watch
//!     cargo run --example quotes -- demo
//!
//! The demo has both in one process, over connections that die after a few quotes, and ends by itself.

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longwire::reconnect::{Backoff, Event, Reconnect};
use longwire::{Client, WebSocket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

type Failed = Box<dyn Error + Send + Sync>;

/// Quotes that the server keeps for those who come back.
const KEPT: usize = 100;

/// The last quotes, and the number of the next.
struct Exchange {
    last: Mutex<VecDeque<String>>,
    next: watch::Sender<u64>,
}

impl Exchange {
    /// A market that moves for ever.
    fn open(every: Duration) -> Arc<Self> {
        let exchange = Arc::new(Self { last: Mutex::default(), next: watch::Sender::new(1) });
        let market = Arc::clone(&exchange);
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(every);
            loop {
                clock.tick().await;
                market.next.send_modify(|next| {
                    let mut last = market.last.lock().unwrap_or_else(PoisonError::into_inner);
                    last.push_back(format!("{next} 茶叶🍵 {}", 100 + *next * 7 % 13));
                    if last.len() > KEPT {
                        last.pop_front();
                    }
                    *next += 1;
                });
            }
        });
        exchange
    }

    /// The quotes from this number on, as far as they are kept, and the number behind them.
    fn since(&self, from: u64) -> (Vec<String>, u64) {
        let next = *self.next.borrow();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = usize::try_from(next.saturating_sub(from)).unwrap_or(usize::MAX).min(last.len());
        (last.iter().skip(last.len() - wanted).cloned().collect(), next)
    }
}

/// Serves; each connection dies after so many quotes, if that is wanted.
async fn serve(
    listener: TcpListener,
    exchange: Arc<Exchange>,
    dies_after: Option<usize>,
) -> Result<(), Failed> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let exchange = Arc::clone(&exchange);
        tokio::spawn(async move {
            if let Err(error) = session(stream, &exchange, dies_after.unwrap_or(usize::MAX)).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn session(stream: TcpStream, exchange: &Exchange, mut left: usize) -> Result<(), Failed> {
    let mut ws: WebSocket<TcpStream> = longwire::accept(stream).await?;
    let Some(request) = ws.recv().await? else { return Ok(()) };
    let from = request.as_text().and_then(|text| text.strip_prefix("from "));
    let Some(mut from) = from.and_then(|from| from.parse().ok()) else {
        return Ok(ws.close(1008, "say: from NUMBER").await?);
    };
    let mut next = exchange.next.subscribe();
    loop {
        let (quotes, behind) = exchange.since(from);
        for quote in quotes {
            if left == 0 {
                // Without a goodbye, as a server that crashes.
                return Ok(ws.flush().await?);
            }
            ws.feed(quote).await?;
            left -= 1;
        }
        from = behind;
        ws.flush().await?;
        tokio::select! {
            changed = next.wait_for(|next| *next > from) => drop(changed?),
            received = ws.recv() => if received?.is_none() {
                return Ok(());
            },
        }
    }
}

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    quotes: u64,
    gaps: u64,
    connections: u64,
}

/// Watches until there were so many quotes.
async fn watch(plan: Reconnect, enough: u64) -> Result<Seen, Failed> {
    // The number that is wanted next: 0 before there was any.
    let next = Arc::new(AtomicU64::new(0));
    let position = Arc::clone(&next);
    let mut feed = plan
        .on_open(move |mut ws, _| {
            let from = position.load(Ordering::Relaxed);
            async move { Ok(ws.send(format!("from {from}")).await?) }
        })
        .start();
    let mut seen = Seen::default();
    while let Some(event) = feed.next().await {
        match event {
            Event::Message(message) => {
                let text = message.as_text().ok_or("binary is no quote")?;
                let number: u64 = text.split(' ').next().unwrap_or_default().parse()?;
                let wanted = next.swap(number + 1, Ordering::Relaxed);
                if number < wanted {
                    return Err(format!("{number} came again").into());
                }
                if wanted > 0 && number > wanted {
                    println!("gap: {wanted} to {} are not kept any more", number - 1);
                    seen.gaps += 1;
                }
                println!("{text}");
                seen.quotes += 1;
                if seen.quotes == enough {
                    // The connection may be dead already: nobody is left to be told.
                    let _ = feed.close(1000, "seen enough").await;
                    return Ok(seen);
                }
            }
            Event::Open(attempt) => seen.connections = attempt.opened + 1,
            Event::Lost { cause, retry_in } => eprintln!("{cause}; again in {retry_in:.0?}"),
            Event::GivenUp { cause, .. } => return Err(cause.into()),
            _ => {}
        }
    }
    Ok(seen)
}

/// Both ends, over connections that die: first with a client that is back at once, then with one that waits
/// for so long that more happens than is kept.
async fn demo() -> Result<(), Failed> {
    let exchange = Exchange::open(Duration::from_millis(2));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    tokio::spawn(serve(listener, exchange, Some(30)));
    let plan = |wait| {
        let backoff = Backoff::new().initial(wait).max(wait).no_jitter();
        // No jitter: the demo is to be the same each time.
        Reconnect::new(Client::new(), url.as_str()).backoff(backoff)
    };
    let prompt = watch(plan(Duration::ZERO), 200).await?;
    let late = watch(plan(Duration::from_millis(500)), 100).await?;
    println!("back at once: {prompt:?}\nback late: {late:?}");
    // A connection lives for 30 quotes.
    if prompt.connections < 7 || late.connections < 4 || late.gaps == 0 {
        return Err("that is not what should happen".into());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let place = |default: &str| arguments.get(1).cloned().unwrap_or_else(|| default.to_owned());
    match arguments.first().map(String::as_str) {
        Some("serve") => {
            let listener = TcpListener::bind(place("127.0.0.1:9001")).await?;
            println!("quotes on ws://{}", listener.local_addr()?);
            serve(listener, Exchange::open(Duration::from_millis(500)), None).await
        }
        Some("watch") => {
            let plan = Reconnect::new(Client::new(), place("ws://127.0.0.1:9001"));
            watch(plan, u64::MAX).await.map(drop)
        }
        Some("demo") => demo().await,
        _ => Err("say: serve [ADDRESS], watch [URL], or demo".into()),
    }
}
