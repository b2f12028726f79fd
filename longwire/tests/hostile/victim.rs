//! The attacked side: a server, a client or an engine on one thread, whose bytes are counted, and the
//! well-behaved peer that is served beside the attack.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use longwire::engine::{Running, SlowConsumer};
use longwire::{
    AcceptError, Acceptor, Client, Closed, Config, ConnectError, Deflate, Error, Role, SendError, Snapshot,
    WebSocket,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::attacker::Attacker;
use crate::counting::Account;
use crate::engine;

/// More than anything here takes on a busy machine; what takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// More connections than any test opens: the table of their ends does not grow on the attacked thread.
const MOST: usize = 12_000;

/// The path by which an engine, which has one listener, knows its friends.
pub(crate) const FRIENDLY: &str = "/friend";

/// What is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A server of the async driver.
    Server,
    /// A client of the async driver.
    Client,
    /// An engine, which is a server too.
    Engine,
}

impl Target {
    pub(crate) const fn role(self) -> Role {
        match self {
            Self::Server | Self::Engine => Role::Server,
            Self::Client => Role::Client,
        }
    }

    pub(crate) fn is_server(self) -> bool {
        self.role() == Role::Server
    }
}

/// Attacks a server, a client and an engine, each on a thread of its own.
pub(crate) async fn each_target(attack: impl AsyncFn(Target)) {
    tokio::join!(attack(Target::Server), attack(Target::Client), attack(Target::Engine));
}

/// How a connection of the attacked side ended. An engine says nothing of one that ended before it was open,
/// but counts it.
#[derive(Debug)]
pub(crate) enum End {
    /// In the opening handshake, as a server.
    Accept(AcceptError),
    /// In the opening handshake, as a client.
    Connect(ConnectError),
    /// After it.
    Open(Result<Closed, Error>),
}

/// What the attacked side does with an open connection, until it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// Echoes, as the documentation shows it: fed, and written when there is nothing to read.
    Echo,
    /// Echoes, and waits until each echo is written.
    Send,
    /// Takes messages and drops them.
    Listen,
    /// Takes parts of messages as they come and drops them; an engine, which has no parts, whole ones.
    Parts,
    /// Queues messages of this size without waiting, all the time; an engine publishes them.
    Broadcast(usize),
    /// Closes at once.
    Close,
}

/// How the attacked side is set up.
pub(crate) struct Setup {
    pub(crate) target: Target,
    pub(crate) config: Config,
    pub(crate) handshake_timeout: Duration,
    pub(crate) habit: Habit,
    /// What becomes of an engine's slow consumers; `None` is the default.
    pub(crate) slow: Option<SlowConsumer>,
}

impl Setup {
    /// The defaults of this role, but for the largest message: 64 KiB.
    pub(crate) fn new(target: Target) -> Self {
        let config = match target.role() {
            Role::Server => Config::server(),
            Role::Client => Config::client(),
        };
        let config = config.max_message(64 * 1024);
        Self { target, config, handshake_timeout: PATIENCE, habit: Habit::Echo, slow: None }
    }

    pub(crate) fn config(mut self, change: impl FnOnce(Config) -> Config) -> Self {
        self.config = change(self.config);
        self
    }

    pub(crate) fn deflate(self) -> Self {
        self.config(|config| config.deflate(Deflate::new()))
    }

    pub(crate) const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    pub(crate) const fn habit(mut self, habit: Habit) -> Self {
        self.habit = habit;
        self
    }

    pub(crate) const fn slow_consumers(mut self, policy: SlowConsumer) -> Self {
        self.slow = Some(policy);
        self
    }

    pub(crate) fn start(self) -> Victim {
        let target = self.target;
        let shared = Arc::new(Shared {
            ends: Mutex::new(HashMap::with_capacity(MOST)),
            ended: Notify::new(),
            begun: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
            full: AtomicUsize::new(0),
        });
        if target == Target::Engine {
            let (account, running) = engine::start(self, &shared);
            let address = running.local_addr().unwrap();
            return Victim {
                target,
                account,
                attacked: address,
                friendly: address,
                commands: None,
                asked: AtomicUsize::new(0),
                shared,
                thread: None,
                running: Some(running),
            };
        }
        let (commands, receives) = unbounded_channel();
        let (tell, told) = mpsc::channel();
        let here = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let account = Account::of_this_thread();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let attacked = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let friendly = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send((account, [&attacked, &friendly].map(|l| l.local_addr().unwrap()))).unwrap();
                self.run(attacked, friendly, receives, here).await;
            });
        });
        let (account, [attacked, friendly]) = told.recv().unwrap();
        Victim {
            target,
            account,
            attacked,
            friendly,
            commands: Some(commands),
            asked: AtomicUsize::new(0),
            shared,
            thread: Some(thread),
            running: None,
        }
    }

    async fn run(
        self,
        attacked: TcpListener,
        friendly: TcpListener,
        mut commands: UnboundedReceiver<Command>,
        shared: Arc<Shared>,
    ) {
        let (mut acceptor, mut client) = (Acceptor::new(), Client::new());
        match self.target.role() {
            Role::Server => acceptor = acceptor.config(self.config),
            Role::Client => client = client.config(self.config),
        }
        let acceptor = acceptor.handshake_timeout(self.handshake_timeout);
        let client = client.handshake_timeout(self.handshake_timeout);
        let habit = self.habit;
        loop {
            tokio::select! {
                accepted = attacked.accept() => {
                    let (stream, peer) = accepted.unwrap();
                    let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                    shared.begun.fetch_add(1, SeqCst);
                    tokio::spawn(async move {
                        let end = match acceptor.accept(stream).await {
                            Ok(ws) => habit.follow(ws, &shared).await,
                            Err(error) => End::Accept(error),
                        };
                        shared.end(peer, end);
                    });
                }
                accepted = friendly.accept() => {
                    let (stream, _) = accepted.unwrap();
                    tokio::spawn(async move {
                        let ws = Acceptor::new().accept(stream).await.expect("a friend");
                        echo(ws).await
                    });
                }
                command = commands.recv() => {
                    let Some(Command { address, is_friend }) = command else { return };
                    let (client, shared) = (client.clone(), Arc::clone(&shared));
                    shared.begun.fetch_add(usize::from(!is_friend), SeqCst);
                    tokio::spawn(async move {
                        let stream = TcpStream::connect(address).await.expect("the peer listens");
                        if is_friend {
                            let opened = Box::pin(Client::new().handshake("ws://localhost/", stream)).await;
                            let _ = echo(opened.expect("a friend")).await;
                            return;
                        }
                        let opened = Box::pin(client.handshake("ws://localhost/", stream)).await;
                        let end = match opened {
                            Ok(ws) => habit.follow(ws, &shared).await,
                            Err(error) => End::Connect(error),
                        };
                        shared.end(address, end);
                    });
                }
            }
        }
    }
}

impl Habit {
    async fn follow(self, ws: WebSocket<TcpStream>, shared: &Shared) -> End {
        End::Open(match self {
            Self::Echo => echo(ws).await,
            Self::Send => send(ws).await,
            Self::Listen => listen(ws).await,
            Self::Parts => parts(ws).await,
            Self::Broadcast(size) => Box::pin(broadcast(ws, size, shared)).await,
            Self::Close => close(ws).await,
        })
    }
}

async fn echo(mut ws: WebSocket<TcpStream>) -> Result<Closed, Error> {
    while let Some(message) = ws.recv().await? {
        ws.feed(message).await?;
    }
    Ok(ws.closed().expect("closed").clone())
}

async fn send(mut ws: WebSocket<TcpStream>) -> Result<Closed, Error> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(ws.closed().expect("closed").clone())
}

async fn listen(mut ws: WebSocket<TcpStream>) -> Result<Closed, Error> {
    while ws.recv().await?.is_some() {}
    Ok(ws.closed().expect("closed").clone())
}

async fn parts(mut ws: WebSocket<TcpStream>) -> Result<Closed, Error> {
    while ws.recv_part().await?.is_some() {}
    Ok(ws.closed().expect("closed").clone())
}

async fn broadcast(ws: WebSocket<TcpStream>, size: usize, shared: &Shared) -> Result<Closed, Error> {
    let (sender, mut receiver) = ws.split();
    let broadcasts = async {
        loop {
            match sender.try_send(vec![b'x'; size]) {
                Ok(()) => tokio::task::yield_now().await,
                Err(SendError::Full) => {
                    shared.full.fetch_add(1, SeqCst);
                    sleep(Duration::from_millis(1)).await;
                }
                Err(error) => break error,
            }
        }
    };
    tokio::select! {
        error = broadcasts => Err(error.into()),
        ended = async { while receiver.recv().await?.is_some() {} Ok(()) } => {
            ended.map(|()| receiver.closed().expect("closed"))
        }
    }
}

async fn close(mut ws: WebSocket<TcpStream>) -> Result<Closed, Error> {
    ws.close(1001, "再见").await?;
    Ok(ws.closed().expect("closed").clone())
}

/// The attacked side as a client opens a connection.
struct Command {
    address: SocketAddr,
    is_friend: bool,
}

/// What the attacked side tells of itself.
pub(crate) struct Shared {
    /// By the address of the attacker.
    ends: Mutex<HashMap<SocketAddr, End>>,
    ended: Notify,
    pub(crate) begun: AtomicUsize,
    over: AtomicUsize,
    /// How often a broadcast found the write buffer full.
    full: AtomicUsize,
}

impl Shared {
    pub(crate) fn end(&self, attacker: SocketAddr, end: End) {
        self.ends.lock().unwrap().insert(attacker, end);
        self.over.fetch_add(1, SeqCst);
        self.ended.notify_waiters();
    }

    pub(crate) async fn end_of(&self, attacker: SocketAddr) -> End {
        let began = Instant::now();
        loop {
            let ended = self.ended.notified();
            if let Some(end) = self.ends.lock().unwrap().remove(&attacker) {
                return end;
            }
            assert!(began.elapsed() < PATIENCE, "the attacked connection does not end");
            let _ = timeout(Duration::from_millis(100), ended).await;
        }
    }
}

/// The attacked side, from outside.
pub(crate) struct Victim {
    pub(crate) target: Target,
    account: &'static Account,
    attacked: SocketAddr,
    friendly: SocketAddr,
    commands: Option<UnboundedSender<Command>>,
    /// Connections that attackers have asked the server for.
    asked: AtomicUsize,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    running: Option<Running>,
}

impl Victim {
    /// A connection to the attacked side, before any byte has passed. A narrow one holds little that its
    /// reader has not taken.
    async fn connection(&self, is_friend: bool, is_narrow: bool) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        if is_narrow {
            socket.set_recv_buffer_size(8 * 1024).unwrap();
        }
        let stream = match self.target {
            Target::Engine => socket.connect(self.attacked).await.unwrap(),
            Target::Server => {
                let address = if is_friend { self.friendly } else { self.attacked };
                // What waits to be accepted is the system's, and it drops what is too much.
                self.asked.fetch_add(usize::from(!is_friend), SeqCst);
                while self.asked.load(SeqCst) > self.shared.begun.load(SeqCst) + 100 {
                    sleep(Duration::from_millis(1)).await;
                }
                socket.connect(address).await.unwrap()
            }
            Target::Client => {
                socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                let listener = socket.listen(1).unwrap();
                let address = listener.local_addr().unwrap();
                self.commands.as_ref().unwrap().send(Command { address, is_friend }).ok().unwrap();
                listener.accept().await.unwrap().0
            }
        };
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn aim(&self, is_narrow: bool) -> Attacker {
        let stream = self.connection(false, is_narrow).await;
        // Of one that had this address before and was not asked how it ended.
        self.shared.ends.lock().unwrap().remove(&stream.local_addr().unwrap());
        Attacker::new(stream, self.target, Arc::clone(&self.shared))
    }

    /// An attacker that has said nothing yet, nor read anything.
    pub(crate) async fn attacker(&self) -> Attacker {
        self.aim(false).await
    }

    /// An attacker behind a good opening handshake.
    pub(crate) async fn open_attacker(&self) -> Attacker {
        let mut attacker = self.attacker().await;
        attacker.shake_hands().await;
        attacker
    }

    /// One whose receive buffer is small, behind a good opening handshake.
    pub(crate) async fn narrow_attacker(&self) -> Attacker {
        let mut attacker = self.aim(true).await;
        attacker.shake_hands().await;
        attacker
    }

    /// One of either kind, behind an opening handshake that agreed on compression.
    pub(crate) async fn deflating_attacker(&self, is_narrow: bool) -> Attacker {
        let mut attacker = self.aim(is_narrow).await;
        attacker.agree_on_deflate().await;
        attacker
    }

    /// A well-behaved peer, which talks with the attacked side from now on.
    pub(crate) async fn friend(&self) -> Friend {
        let stream = self.connection(true, false).await;
        let opened = timeout(PATIENCE, async {
            match self.target.role() {
                Role::Server => {
                    let url = format!("ws://localhost{FRIENDLY}");
                    Client::new().handshake(&url, stream).await.unwrap()
                }
                Role::Client => Acceptor::new().accept(stream).await.unwrap(),
            }
        });
        let mut ws = opened.await.expect("a friend is served");
        let (enough, mut stop) = oneshot::channel::<()>();
        let talk = tokio::spawn(async move {
            let mut echoes = 0;
            while echoes == 0 || stop.try_recv().is_err() {
                let said = format!("还好吗 👋 {echoes}");
                let echo = timeout(PATIENCE, async {
                    ws.send(&*said).await.unwrap();
                    ws.recv().await.unwrap().unwrap()
                });
                assert_eq!(echo.await.expect("an echo in time").as_text(), Some(&*said));
                echoes += 1;
                sleep(Duration::from_millis(10)).await;
            }
            timeout(PATIENCE, ws.close(1000, "")).await.expect("closed in time").unwrap();
        });
        Friend { enough, talk }
    }

    /// Bytes that the attacked thread holds.
    pub(crate) fn live(&self) -> isize {
        self.account.live()
    }

    /// As [`live`](Self::live); the peak counts from here.
    pub(crate) fn rewind(&self) -> isize {
        self.account.rewind()
    }

    pub(crate) fn peak(&self) -> isize {
        self.account.peak()
    }

    /// Connections of attackers that have begun, and not ended. Those of an engine begin when their request
    /// has come, others when they are accepted.
    pub(crate) fn open_ones(&self) -> usize {
        self.shared.begun.load(SeqCst) - self.shared.over.load(SeqCst)
    }

    /// Waits until all connections of attackers have ended.
    pub(crate) async fn is_deserted(&self) {
        let began = Instant::now();
        while self.open_ones() > 0 {
            assert!(began.elapsed() < PATIENCE, "{} connections do not end", self.open_ones());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// How often a broadcast found the write buffer full; of an engine, how many messages were dropped.
    pub(crate) fn full(&self) -> usize {
        match &self.running {
            Some(_) => self.counters().dropped as usize,
            None => self.shared.full.load(SeqCst),
        }
    }

    /// What the attacked engine has counted.
    pub(crate) fn counters(&self) -> Snapshot {
        self.running.as_ref().expect("an engine").handle().counters()
    }

    /// Waits until the attacked engine has refused, or given up, so many opening handshakes.
    pub(crate) async fn has_refused(&self, count: u64) {
        let began = Instant::now();
        while self.counters().refused != count {
            assert!(began.elapsed() < PATIENCE, "{:?} instead of {count}", self.counters());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until what the attacked thread holds satisfies `enough`, and then until it rests.
    pub(crate) async fn settled(&self, enough: impl Fn(isize) -> bool) -> isize {
        let began = Instant::now();
        let mut last = (self.live(), Instant::now());
        loop {
            sleep(Duration::from_millis(5)).await;
            let live = self.live();
            if live != last.0 {
                last = (live, Instant::now());
            }
            if enough(live) && last.1.elapsed() >= Duration::from_millis(60) {
                return live;
            }
            assert!(began.elapsed() < PATIENCE, "it holds {live} B and does not come to rest");
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(running) = self.running.take() {
            running.handle().stop();
            let ended = running.wait();
            assert!(std::thread::panicking() || ended.is_ok(), "{ended:?}");
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the attacked thread panicked");
        }
    }
}

/// A well-behaved peer.
pub(crate) struct Friend {
    enough: oneshot::Sender<()>,
    talk: tokio::task::JoinHandle<()>,
}

impl Friend {
    /// It was served all the time.
    pub(crate) async fn goes_on(self) {
        let _ = self.enough.send(());
        self.talk.await.expect("served all the time");
    }
}
