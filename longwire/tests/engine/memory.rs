//! The memory of connections, as counted on the loop's own thread.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use longwire::engine::{Conn, Engine, Handler, MessageRef, Opening, Running, SlowConsumer};
use longwire::http::{HeaderMap, Request};
use longwire::{Acceptor, Config, Refusal, Snapshot};
use longwire_proto::frame::OpCode;

use crate::counting::Account;
use crate::host::wait_for;
use crate::raw::Raw;
use crate::support::frames::{frame, text};

/// The application's state of each connection.
type State = [u64; 2];

const COUNT: usize = 1000;

/// What an idle connection may hold besides the application's state, in bytes.
const IDLE_MAX: isize = 200;

/// What may be left of a wave of connections: a chunk of places, buffers kept for the next wave, and the runtime.
const LEFT_MAX: isize = 600_000;

/// A handler without memory of its own.
#[derive(Clone, Default)]
struct Quiet(Arc<OnceLock<&'static Account>>);

impl Handler for Quiet {
    type State = State;

    fn on_request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<State, Refusal> {
        self.0.get_or_init(Account::of_this_thread);
        Ok([0; 2])
    }

    fn opened(&self, conn: &mut Conn<'_>, _: &mut State, opening: &Opening<'_>) {
        if opening.request().uri().path() == "/subscribed" {
            conn.subscribe("甲");
        }
    }

    fn message(&self, conn: &mut Conn<'_>, _: &mut State, message: MessageRef<'_>) {
        // Nothing is sent to a connection whose buffer is full.
        let _ = conn.send(message);
    }
}

struct Counted {
    running: Running,
    account: &'static Account,
}

impl Counted {
    /// Starts an engine with one thread, and warms it up with a connection and a large message.
    fn new() -> Self {
        let quiet = Quiet::default();
        let account = Arc::clone(&quiet.0);
        let config = Config::server().write_buffer(64 * 1024).ping_after(None);
        let running = Engine::new(quiet)
            .threads(1)
            .acceptor(Acceptor::new().config(config))
            .slow_consumers(SlowConsumer::drop_oldest(64 * 1024))
            .listen("127.0.0.1:0")
            .unwrap();
        let mut raw = Raw::open(running.local_addr().unwrap(), "/");
        raw.send(frame(true, true, OpCode::Binary, [0; 100_000]));
        assert_eq!(raw.message().1.len(), 100_000);
        raw.close();
        let counted = Self { running, account: account.get().unwrap() };
        counted.wait(|counters| counters.open == 0);
        counted
    }

    fn wait(&self, wanted: impl Fn(&Snapshot) -> bool) {
        let counters = || self.running.handle().counters();
        wait_for(|| wanted(&counters()).then_some(()), || format!("{:?}", counters()));
    }

    fn open(&self, path: &str) -> Vec<Raw> {
        let raws: Vec<Raw> =
            (0..COUNT).map(|_| Raw::open(self.running.local_addr().unwrap(), path)).collect();
        self.wait(|counters| counters.open == COUNT as u64);
        raws
    }

    /// Waits until no more bytes than this are allocated.
    fn at_most(&self, most: isize) {
        wait_for(
            || (self.account.live() <= most).then_some(()),
            || format!("{} B instead of {most}", self.account.live()),
        );
    }
}

/// The tests run one by one, because they share the process's descriptors.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn an_idle_connection_holds_itself_and_its_state() {
    let _alone = ALONE.lock();
    let counted = Counted::new();
    for path in ["/", "/subscribed"] {
        let before = counted.account.live();
        let most = before + COUNT as isize * (IDLE_MAX + size_of::<State>() as isize);
        let mut raws = counted.open(path);
        counted.at_most(most);
        // No more after all have sent something and are silent again.
        for raw in &mut raws {
            raw.text("你好");
            assert_eq!(raw.next_text(), "你好");
        }
        for raw in &mut raws {
            raw.send(frame(true, true, OpCode::Binary, [0; 40_000]));
            assert_eq!(raw.message().1.len(), 40_000);
        }
        counted.running.handle().publish("甲", "x".repeat(10_000)).unwrap();
        if path == "/subscribed" {
            raws.iter_mut().for_each(|raw| assert_eq!(raw.next_text().len(), 10_000));
        }
        // The thread keeps some memory of large messages.
        counted.at_most(most + LEFT_MAX);
        drop(raws);
        counted.wait(|counters| counters.open == 0);
        counted.at_most(before + LEFT_MAX);
    }
}

#[test]
fn half_a_message_holds_about_what_has_come() {
    let _alone = ALONE.lock();
    let counted = Counted::new();
    let before = counted.account.live();
    let mut raws = counted.open("/");
    let message = frame(true, true, OpCode::Binary, [0; 1_000_000]);
    let mut sent = 0;
    for come in [3, 1000, 10_000] {
        for raw in &mut raws {
            raw.send(&message[sent..come]);
        }
        sent = come;
        std::thread::sleep(Duration::from_millis(50));
        counted.at_most(before + COUNT as isize * (IDLE_MAX + 900 + 2 * come as isize) + LEFT_MAX);
    }
    drop(raws);
    counted.wait(|counters| counters.open == 0);
    counted.at_most(before + LEFT_MAX);
}

/// A peer that never reads costs at most the limit, whether it asks for echoes or is subscribed.
#[test]
fn what_waits_is_bounded_and_given_back() {
    let _alone = ALONE.lock();
    let counted = Counted::new();
    let before = counted.account.live();
    let mut raws: Vec<Raw> =
        (0..20).map(|_| Raw::open(counted.running.local_addr().unwrap(), "/subscribed")).collect();
    let message = text(true, &"x".repeat(10_000)).repeat(20);
    for raw in &mut raws {
        raw.stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        while std::io::Write::write_all(&mut raw.stream, &message).is_ok() {}
    }
    counted.account.rewind();
    for _ in 0..200 {
        counted.running.handle().publish("甲", "x".repeat(30_000)).unwrap();
    }
    counted.wait(|counters| counters.dropped > 20 * 100);
    // Input that was read, output that waits, and messages published meanwhile.
    let most = before + 20 * (130_000 + 64 * 1024 + 64 * 1024 + 64 * 1024) + 10_000_000;
    assert!(counted.account.peak() < most, "{} B", counted.account.peak() - before);
    drop(raws);
    counted.wait(|counters| counters.open == 0);
    counted.at_most(before + LEFT_MAX);
}
