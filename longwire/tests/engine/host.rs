//! The application of the tests: it records its callbacks, and obeys commands from its peers.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use longwire::engine::{Conn, Engine, Handle, Handler, Id, MessageRef, Opening, Running};
use longwire::http::{HeaderMap, Request};
use longwire::{Acceptor, Closed, Config, Error, Refusal, SendError, Side, Snapshot};

use crate::raw::Raw;

/// How long a test waits for something that must happen: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One call of a callback.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Request,
    Opened(Id),
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Drained,
    /// An error of `send`.
    Unsent(String),
    Closed(Id, Result<Closed, Error>),
}

impl Told {
    /// Which message it was.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Opened(_) => "opened",
            Self::Message(_) => "message",
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::Drained => "drained",
            Self::Unsent(_) => "unsent",
            Self::Closed(..) => "closed",
        }
    }
}

/// The callbacks of each connection, by its path.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    told: Mutex<HashMap<String, Vec<Told>>>,
    changed: Condvar,
}

impl Log {
    pub(crate) fn add(&self, path: &str, told: Told) {
        self.0.told.lock().unwrap().entry(path.to_owned()).or_default().push(told);
        self.0.changed.notify_all();
    }

    pub(crate) fn of(&self, path: &str) -> Vec<Told> {
        self.0.told.lock().unwrap().get(path).cloned().unwrap_or_default()
    }

    pub(crate) fn names(&self, path: &str) -> Vec<&'static str> {
        self.of(path).iter().map(Told::name).collect()
    }

    /// Waits until `find` finds something in the callbacks of a connection.
    pub(crate) fn wait<T>(&self, path: &str, mut find: impl FnMut(&[Told]) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut log = self.0.told.lock().unwrap();
        loop {
            if let Some(found) = find(log.get(path).map_or(&[], Vec::as_slice)) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{path}: {:?}", log.get(path));
            log = self.0.changed.wait_timeout(log, Duration::from_millis(100)).unwrap().0;
        }
    }

    pub(crate) fn opened(&self, path: &str) -> Id {
        self.wait(path, |told| {
            told.iter().find_map(|told| if let Told::Opened(id) = told { Some(*id) } else { None })
        })
    }

    pub(crate) fn closed(&self, path: &str) -> Result<Closed, Error> {
        self.wait(path, |told| {
            told.iter()
                .find_map(|told| if let Told::Closed(_, end) = told { Some(end.clone()) } else { None })
        })
    }
}

type OnRequest = dyn Fn(&Request<()>, &mut HeaderMap) -> Result<(), Refusal> + Send + Sync;
type OnOpened = dyn Fn(&mut Conn<'_>, &mut State, &Opening<'_>) + Send + Sync;
type OnMessage = dyn Fn(&mut Conn<'_>, &mut State, MessageRef<'_>) + Send + Sync;
type OnConn = dyn Fn(&mut Conn<'_>, &mut State) + Send + Sync;

/// The state of each connection.
pub(crate) struct State {
    pub(crate) path: String,
    pub(crate) log: Log,
}

/// The handler.
pub(crate) struct Host {
    pub(crate) log: Log,
    pub(crate) on_request: Box<OnRequest>,
    pub(crate) on_opened: Box<OnOpened>,
    pub(crate) on_message: Box<OnMessage>,
    pub(crate) on_ping: Box<OnConn>,
    pub(crate) on_drained: Box<OnConn>,
    pub(crate) on_accept_failed: Box<dyn Fn() + Send + Sync>,
}

impl Host {
    /// Obeys text messages: see [`obey`].
    pub(crate) fn new() -> Self {
        Self {
            log: Log::default(),
            on_request: Box::new(|_, _| Ok(())),
            on_opened: Box::new(|_, _, _| {}),
            on_message: Box::new(obey),
            on_ping: Box::new(|_, _| {}),
            on_drained: Box::new(|_, _| {}),
            on_accept_failed: Box::new(|| {}),
        }
    }

    /// Echoes messages.
    pub(crate) fn echo() -> Self {
        Self { on_message: Box::new(echo), ..Self::new() }
    }
}

pub(crate) fn echo(conn: &mut Conn<'_>, state: &mut State, message: MessageRef<'_>) {
    if let Err(error) = conn.send(message) {
        unsent(state, &error);
    }
}

fn unsent(state: &State, error: &SendError) {
    let State { path, log } = state;
    log.add(path, Told::Unsent(format!("{error:?}")));
}

/// Obeys a text message: a verb and its arguments, separated by spaces.
pub(crate) fn obey(conn: &mut Conn<'_>, state: &mut State, message: MessageRef<'_>) {
    let text = message.as_text().unwrap().to_owned();
    let words: Vec<&str> = text.splitn(4, ' ').collect();
    let done = match *words {
        ["send", text] => conn.send(text),
        ["ping", payload] => conn.ping(payload.as_bytes()),
        ["close", code, reason] => conn.close(code.parse::<u16>().unwrap(), reason),
        ["panic"] => panic!("as was asked for"),
        ["sub", topic] => {
            let done = conn.subscribe(topic);
            conn.send(done.to_string())
        }
        ["unsub", topic] => {
            let done = conn.unsubscribe(topic);
            conn.send(done.to_string())
        }
        ["sub", topic, "quietly"] => {
            conn.subscribe(topic);
            Ok(())
        }
        ["unsub", topic, "quietly"] => {
            conn.unsubscribe(topic);
            Ok(())
        }
        ["pub", topic, text] => {
            conn.publish(topic, text);
            Ok(())
        }
        ["latest", topic, key, text] => {
            conn.publish_latest(topic, key, text);
            Ok(())
        }
        // A number of messages, and the bytes of each.
        ["flood", count, size] => {
            let size = size.parse().unwrap();
            (0..count.parse().unwrap()).try_for_each(|_| conn.send(vec![b'x'; size]))
        }
        _ => panic!("{words:?}"),
    };
    if let Err(error) = done {
        unsent(state, &error);
    }
}

impl Handler for Host {
    type State = State;

    fn on_request(
        &self,
        request: &Request<()>,
        from: SocketAddr,
        headers: &mut HeaderMap,
    ) -> Result<State, Refusal> {
        assert!(from.ip().is_loopback());
        (self.on_request)(request, headers)?;
        let path = request.uri().path().to_owned();
        self.log.add(&path, Told::Request);
        Ok(State { path, log: self.log.clone() })
    }

    fn opened(&self, conn: &mut Conn<'_>, state: &mut State, opening: &Opening<'_>) {
        let id = conn.id();
        self.log.add(&state.path, Told::Opened(id));
        (self.on_opened)(conn, state, opening);
    }

    fn message(&self, conn: &mut Conn<'_>, state: &mut State, message: MessageRef<'_>) {
        // The beginning of a large message is enough.
        let beginning = message.as_bytes()[..message.len().min(64)].to_vec();
        self.log.add(&state.path, Told::Message(beginning));
        (self.on_message)(conn, state, message);
    }

    fn ping(&self, conn: &mut Conn<'_>, state: &mut State, payload: &[u8]) {
        self.log.add(&state.path, Told::Ping(payload.to_vec()));
        (self.on_ping)(conn, state);
    }

    fn pong(&self, _: &mut Conn<'_>, state: &mut State, payload: &[u8]) {
        self.log.add(&state.path, Told::Pong(payload.to_vec()));
    }

    fn drained(&self, conn: &mut Conn<'_>, state: &mut State) {
        self.log.add(&state.path, Told::Drained);
        (self.on_drained)(conn, state);
    }

    fn accept_failed(&self, error: &std::io::Error) {
        assert!(error.raw_os_error().is_some());
        (self.on_accept_failed)();
    }

    fn closed(&self, _: &Handle, id: Id, state: State, end: Result<Closed, Error>) {
        self.log.add(&state.path, Told::Closed(id, end));
    }
}

/// A host whose loop waits when a peer says so, until the test lets it continue.
pub(crate) fn held(host: Host) -> (Host, Hold) {
    let (hold, waits) = mpsc::channel();
    let waits = Mutex::new(waits);
    let on_message = host.on_message;
    let on_message: Box<OnMessage> = Box::new(move |conn, state, message| match message.as_text() {
        Some("hold") => waits.lock().unwrap().recv().unwrap(),
        _ => on_message(conn, state, message),
    });
    (Host { on_message, ..host }, Hold(hold))
}

pub(crate) struct Hold(mpsc::Sender<()>);

impl Hold {
    /// Holds the loop through this connection. Returns when it is held.
    pub(crate) fn hold(&self, house: &House, path: &str, raw: &mut Raw) {
        let before = house.log.of(path).len();
        raw.text("hold");
        house.log.wait(path, |told| (told.len() > before).then_some(()));
    }

    pub(crate) fn let_go(&self) {
        self.0.send(()).unwrap();
    }
}

/// A running engine.
pub(crate) struct House {
    pub(crate) running: Running,
    pub(crate) log: Log,
    /// The address to connect to.
    address: SocketAddr,
}

impl House {
    /// Starts it with one thread.
    pub(crate) fn new(host: Host) -> Self {
        Self::with(host, |engine| engine.threads(1))
    }

    /// Starts it with one thread and these limits and deadlines.
    pub(crate) fn of(host: Host, config: Config) -> Self {
        Self::with(host, |engine| engine.threads(1).acceptor(Acceptor::new().config(config)))
    }

    pub(crate) fn with(host: Host, set: impl FnOnce(Engine<Host>) -> Engine<Host>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), host, set)
    }

    pub(crate) fn on(
        listener: TcpListener,
        host: Host,
        set: impl FnOnce(Engine<Host>) -> Engine<Host>,
    ) -> Self {
        let log = host.log.clone();
        let engine = set(Engine::new(host));
        #[cfg(feature = "tls")]
        let engine = if crate::SECURE { engine.tls(crate::bridge::IDENTITY.server()) } else { engine };
        let running = engine.start(listener).unwrap();
        #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "there is no bridge"))]
        let mut address = running.local_addr().unwrap();
        #[cfg(feature = "tls")]
        if crate::SECURE {
            address = crate::bridge::to(address);
        }
        Self { running, log, address }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn handle(&self) -> Handle {
        self.running.handle()
    }

    /// Waits until the counters meet a condition.
    pub(crate) fn counters(&self, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        wait_for(
            || Some(self.handle().counters()).filter(&wanted),
            || format!("{:?}", self.handle().counters()),
        )
    }
}

/// Calls `find` repeatedly until it returns something.
pub(crate) fn wait_for<T>(mut find: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", what());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The end that closed, with code and reason of its Close frame.
pub(crate) fn closed(end: Result<Closed, Error>) -> (Side, Option<(u16, String)>) {
    let Closed { by, frame, .. } = end.unwrap();
    (by, frame.map(|frame| (u16::from(frame.code), frame.reason.to_string())))
}
