//! The server under test, a process of its own: echo, topics, and a few ways to end, by the path of the request.
//!
//! It prints its address. For every line on standard input it prints its counters, and when the input ends it drains.

use crate::Failure;
use longwire::engine::{Conn, Engine, Handle, Handler, Id, MessageRef, Opening, SlowConsumer};
use longwire::http::{HeaderMap, Request};
use longwire::{Acceptor, Closed, Config, Deflate, Error, Message, Refusal, Shutdown, Snapshot};
use serde_json::json;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{task, time};

/// What a message that comes is answered with.
#[derive(Clone, Copy)]
enum Kind {
    /// Itself.
    Echo,
    /// Itself, after a while.
    Late,
    /// Itself and a Close frame.
    Leave,
    /// Nothing: it goes to the others of the room.
    Room(u32),
}

/// The deadlines are short, so that all of them pass often.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(5);
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
const WRITE_TIMEOUT: Duration = Duration::from_secs(8);
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const MAX_MESSAGE: usize = 1024 * 1024;
pub(crate) const LEAVE_CODE: u16 = 4001;

const TICK: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_millis(20);
const QUOTES: u64 = 8;

/// What is known of a connection.
struct Guest {
    kind: Kind,
    /// It keeps every rule and deadline, and is not to be ended by one.
    good: bool,
}

/// The query of those who are well-behaved.
pub(crate) const GOOD: &str = "?good";

struct Application {
    /// Opened and not closed yet, by what the callbacks say.
    live: Arc<AtomicI64>,
}

impl Handler for Application {
    type State = Guest;

    fn on_request(&self, request: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<Guest, Refusal> {
        let path = request.uri().path();
        let kind = match path {
            "/late" => Kind::Late,
            "/leave" => Kind::Leave,
            _ => {
                path.strip_prefix("/room/").and_then(|room| room.parse().ok()).map_or(Kind::Echo, Kind::Room)
            }
        };
        Ok(Guest { kind, good: request.uri().query().is_some() })
    }

    fn opened(&self, conn: &mut Conn<'_>, guest: &mut Guest, opening: &Opening<'_>) {
        self.live.fetch_add(1, Ordering::Relaxed);
        match opening.request().uri().path() {
            "/ticks" => conn.subscribe("ticks"),
            "/quotes" => conn.subscribe("quotes"),
            "/both" => conn.subscribe("ticks") && conn.subscribe("quotes"),
            room if matches!(guest.kind, Kind::Room(_)) => conn.subscribe(room),
            _ => true,
        };
    }

    fn message(&self, conn: &mut Conn<'_>, guest: &mut Guest, message: MessageRef<'_>) {
        // A send that fails shows when the client misses the reply.
        match guest.kind {
            Kind::Echo => drop(conn.send(message)),
            Kind::Late => {
                let (peer, message) = (conn.handle(), message.into_message());
                task::spawn_local(async move {
                    time::sleep(LATE).await;
                    // Perhaps to a connection that is gone, whose place another one has taken.
                    let _ = peer.send(message);
                });
            }
            Kind::Leave => {
                let _ = conn.send(message);
                let _ = conn.close(LEAVE_CODE, "leaving");
            }
            Kind::Room(room) => conn.publish(&format!("/room/{room}"), message.into_message()),
        }
    }

    fn closed(&self, _: &Handle, id: Id, guest: Guest, end: Result<Closed, Error>) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        match end {
            // That of TCP is the client's doing.
            Ok(_) | Err(Error::Eof | Error::Io(_)) => {}
            Err(error) if guest.good => eprintln!("{id}, which is well-behaved, was ended: {error}"),
            Err(_) => {}
        }
    }
}

/// Serves until standard input ends.
pub(crate) fn serve(threads: usize) -> Result<(), Failure> {
    let config = Config::server()
        .max_message(MAX_MESSAGE)
        .ping_after(Some(PING_AFTER))
        .pong_timeout(PONG_TIMEOUT)
        .close_timeout(CLOSE_TIMEOUT)
        .write_timeout(WRITE_TIMEOUT)
        .message_timeout(Some(MESSAGE_TIMEOUT))
        .deflate(Deflate::new());
    let live = Arc::new(AtomicI64::new(0));
    let running = Engine::new(Application { live: Arc::clone(&live) })
        .acceptor(Acceptor::new().config(config).handshake_timeout(HANDSHAKE_TIMEOUT))
        .threads(threads)
        .slow_consumers_of(|topic| match topic {
            "quotes" => SlowConsumer::keep_latest(4 * 1024 * 1024).max_age(Duration::from_secs(3)),
            _ => SlowConsumer::close(128 * 1024),
        })
        .listen("127.0.0.1:0")?;
    println!("{}", running.local_addr().ok_or("the engine has no listener")?);
    let handle = running.handle();
    let over = Arc::new(AtomicBool::new(false));
    let ticker = thread::spawn({
        let (handle, over) = (handle.clone(), Arc::clone(&over));
        move || tick(&handle, &over)
    });
    for line in io::stdin().lines() {
        line?;
        println!("{}", told(&handle.counters(), live.load(Ordering::Relaxed)));
    }
    over.store(true, Ordering::Relaxed);
    ticker.join().map_err(|_| "the ticker panicked")?;
    handle.shutdown(Shutdown::new(1012, "restart").timeout(Duration::from_secs(10)));
    running.wait()?;
    Ok(())
}

/// Publishes ticks with rising numbers, and quotes of which only the latest counts.
fn tick(handle: &Handle, over: &AtomicBool) {
    let pad = "price ".repeat(60);
    for number in 0_u64.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        // When a loop has 64 MiB of them to work off there are worse things to tell.
        let _ = handle.publish("ticks", Message::from(format!(r#"{{"tick":{number},"pad":"{pad}"}}"#)));
        for quote in 0..QUOTES {
            let text = Message::from(format!(r#"{{"quote":{number},"of":{quote},"pad":"{pad}"}}"#));
            let _ = handle.publish_latest("quotes", &quote.to_string(), text);
        }
        thread::sleep(TICK);
    }
}

fn told(counters: &Snapshot, live: i64) -> serde_json::Value {
    json!({
        "live": live,
        "allocated": crate::ALLOCATOR.allocated(),
        "open": counters.open,
        "opened": counters.opened,
        "refused": counters.refused,
        "accept_errors": counters.accept_errors,
        "messages_received": counters.received.messages(),
        "messages_sent": counters.sent.messages(),
        "bytes_received": counters.received.payload_bytes(),
        "bytes_sent": counters.sent.wire_bytes,
        "dropped": counters.dropped,
        "replaced": counters.replaced,
        "closed": counters.closed,
        "slow_consumers": counters.slow_consumers,
        "protocol_errors": counters.protocol_errors,
        "timeouts": counters.timeouts,
        "lost": counters.lost,
    })
}
