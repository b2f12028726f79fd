//! Two hosts: a server that sends numbers, and a client that wants each of them once and in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire::reconnect::{Backoff, Event, Offline, Reconnect};
use longwire::{Acceptor, Client, Config, ConnectError};
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

pub(crate) const PING_AFTER: Duration = Duration::from_secs(5);
pub(crate) const PONG_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that the backoff waits.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(4);
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// For a tick of the simulation here and there, and what the link takes.
pub(crate) const SLACK: Duration = Duration::from_millis(500);
const NEWS_EVERY: Duration = Duration::from_millis(50);
const WORDS_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What the client got that it did not want: a panic of a simulated host would end only that.
    wrong: Option<String>,
    /// The next number that the client wants: it has had each before, once and in order.
    pub(crate) next: u64,
    /// When the client's connections were open and lost, and why.
    pub(crate) opened: Vec<Duration>,
    pub(crate) lost: Vec<(Duration, String)>,
    /// From where each connection of the server's went on.
    pub(crate) resumed: Vec<u64>,
    /// How the server's connections ended.
    pub(crate) server_lost: Vec<(Duration, String)>,
    /// What the server heard.
    pub(crate) heard: Vec<u64>,
}

pub(crate) type Shared = Arc<Mutex<Seen>>;

pub(crate) struct World {
    pub(crate) sim: Sim<'static>,
    pub(crate) seen: Shared,
}

impl World {
    /// `news`: the server sends numbers all the time; else only what is asked for is silence.
    pub(crate) fn new(seed: u64, news: bool) -> Self {
        let mut sim = Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis(20))
            .tcp_capacity(100_000)
            .build();
        let seen = Shared::default();
        let (server, client) = (Arc::clone(&seen), Arc::clone(&seen));
        sim.host("server", move || serve(Arc::clone(&server), news));
        sim.host("client", move || live(Arc::clone(&client)));
        Self { sim, seen }
    }

    /// One tick; fails with what the client got and did not want.
    fn step(&mut self) {
        self.sim.step().unwrap();
        assert_eq!(self.seen.lock().unwrap().wrong, None, "no gap, no repetition, in order");
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    /// Lets time pass until the client has seen what it should; when that was.
    fn run_until(&mut self, seen: impl Fn(&Seen) -> bool) -> Duration {
        let began = self.now();
        while !seen(&self.seen.lock().unwrap()) {
            assert!(self.now() - began < Duration::from_secs(120), "it never comes");
            self.step();
        }
        self.now()
    }

    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets time pass until the client has lost so many connections or attempts.
    pub(crate) fn run_to_loss(&mut self, count: usize) -> Duration {
        self.run_until(|seen| seen.lost.len() >= count)
    }

    /// Lets time pass until the client has had so many connections.
    pub(crate) fn run_to_open(&mut self, count: usize) -> Duration {
        self.run_until(|seen| seen.opened.len() >= count)
    }
}

fn config(config: Config) -> Config {
    config.ping_after(Some(PING_AFTER)).pong_timeout(PONG_TIMEOUT)
}

async fn serve(seen: Shared, news: bool) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", 80)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            if let Err(error) = session(stream, &seen, news).await {
                seen.lock().unwrap().server_lost.push((turmoil::sim_elapsed().unwrap(), error));
            }
        });
    }
}

async fn session(stream: TcpStream, seen: &Shared, news: bool) -> Result<(), String> {
    let text = |error: longwire::Error| format!("{error:#}");
    let acceptor = Acceptor::new().config(config(Config::server()));
    let mut ws = acceptor.accept(stream).await.map_err(|error| error.to_string())?;
    let Some(from) = ws.recv().await.map_err(text)? else { return Ok(()) };
    let mut number: u64 = from.as_text().unwrap().parse().unwrap();
    seen.lock().unwrap().resumed.push(number);
    let mut ticks = tokio::time::interval(NEWS_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick(), if news => {
                ws.feed(number.to_string()).await.map_err(|error| text(error.into()))?;
                number += 1;
            }
            received = ws.recv() => match received.map_err(text)? {
                Some(word) => seen.lock().unwrap().heard.push(word.as_text().unwrap().parse().unwrap()),
                None => return Ok(()),
            },
        }
    }
}

/// The client: it checks each message, and says a word now and then where there is news.
async fn live(seen: Shared) -> turmoil::Result {
    let wanted = Arc::clone(&seen);
    let mut feed = Reconnect::with(|_| async {
        let stream = TcpStream::connect(("server", 80)).await.map_err(ConnectError::from)?;
        Client::new().config(config(Config::client())).handshake("ws://server/行情", stream).await
    })
    .backoff(Backoff::new().max(BACKOFF_MAX).no_jitter())
    .open_timeout(OPEN_TIMEOUT)
    .offline(Offline::Hold { messages: 20, bytes: 1000 })
    .on_open(move |mut ws, _| {
        let from = wanted.lock().unwrap().next.to_string();
        async move { Ok(ws.send(from).await?) }
    })
    .start();
    let sender = feed.sender();
    let mut word = 0_u64;
    let mut last_word = tokio::time::Instant::now();
    while let Some(event) = feed.next().await {
        let now = turmoil::sim_elapsed().unwrap();
        let mut seen = seen.lock().unwrap();
        match event {
            Event::Message(message) => {
                if message.as_text() != Some(&*seen.next.to_string()) {
                    let wrong = format!("wanted {}, got {message:?}", seen.next);
                    seen.wrong.get_or_insert(wrong);
                }
                seen.next += 1;
            }
            Event::Open(_) => seen.opened.push(now),
            Event::Lost { cause, .. } => seen.lost.push((now, cause.to_string())),
            Event::Connecting(_) => {}
            other => seen.wrong = Some(format!("{other:?}")),
        }
        drop(seen);
        if last_word.elapsed() >= WORDS_EVERY {
            last_word = tokio::time::Instant::now();
            // Refused where more is held than may be: then it is never heard.
            let _ = sender.try_send(word.to_string());
            word += 1;
        }
    }
    Ok(())
}
