//! The table of the lifecycle on the engine, over paused time: the same rows as those of the other drivers.

#[path = "../../../../longwire-proto/tests/support/lifecycle_rows.rs"]
mod lifecycle_rows;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request};
use longwire_proto::handshake::Refusal;
use longwire_proto::{Cause, Config, MessageRef, Role};
use mio::{Poll, Waker};
use tokio::time::{Instant, sleep_until};

use self::lifecycle_rows::{Act, Row, message, ms, opcodes, rows};
use super::admitted::Admission;
use super::opening::accept_unanswered;
use super::{Loop, WAKER};
use crate::end::{Closed, Error, cause_of};
use crate::engine::Conn;
use crate::engine::handler::{Handler, Opening};
use crate::engine::mailbox::handle::{ConnHandle, Handle};
use crate::engine::mailbox::id::Id;
use crate::engine::mailbox::{Mailbox, Mailboxes};
use crate::engine::options::Options;
use crate::engine::permit::Permit;
use crate::engine::socket::Layer;
use crate::engine::socket::scripted::Scripted;
use crate::server::accept::Acceptor;

/// Each deadline is noticed up to a tick late, and Tokio's clock rounds up to milliseconds. No row has more than three
/// deadlines, one after the other.
const SLACK: u64 = 6;

/// How a connection ended, and when.
type End = (Result<Closed, Error>, Instant);

#[derive(Clone, Default)]
struct Seen {
    /// Send each message back.
    echoes: bool,
    handle: Arc<Mutex<Option<ConnHandle>>>,
    end: Arc<Mutex<Option<End>>>,
}

impl Handler for Seen {
    type State = ();

    fn on_request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, conn: &mut Conn<'_>, (): &mut (), _: &Opening<'_>) {
        *self.handle.lock().unwrap() = Some(conn.handle());
    }

    fn message(&self, conn: &mut Conn<'_>, (): &mut (), message: MessageRef<'_>) {
        if self.echoes {
            conn.send(message).unwrap();
        }
    }

    fn closed(&self, _: &Handle, _: Id, (): (), end: Result<Closed, Error>) {
        *self.end.lock().unwrap() = Some((end, Instant::now()));
    }
}

fn act(act: &Act, transport: &Scripted, conn: &ConnHandle) {
    let mut script = transport.script();
    match act {
        Act::Sends(..) => script.input.extend(act.bytes(Role::Server).unwrap()),
        Act::Ends => script.eof = true,
        Act::ReadFails(kind) => script.read_error = Some(*kind),
        Act::WritesFail(kind) => script.write_error = Some(*kind),
        Act::Takes(count) => script.room = *count,
        Act::Queues(count) => {
            let payload = vec![7; *count];
            conn.run(move |conn| conn.send(&payload[..]).unwrap()).unwrap();
        }
        Act::Closes => conn.close(1000, "").unwrap(),
    }
}

/// How a connection ended, when in milliseconds, and what was written.
struct Outcome {
    end: Result<Closed, Error>,
    at: u64,
    written: Vec<u8>,
}

async fn run(config: Config, echoes: bool, script: &[(u64, Act)]) -> Outcome {
    let seen = Seen { echoes, ..Seen::default() };
    let mut options = Options::new(seen.clone());
    options.acceptor = Acceptor::new().config(config);
    let options = Arc::new(options);
    let poll = Poll::new().unwrap();
    let mailbox = Mailbox::new(Waker::new(poll.registry(), WAKER).unwrap());
    let mailboxes = Arc::new(Mailboxes::new(Box::new([mailbox])));
    let engine = Handle::new(Arc::clone(&mailboxes));
    let mut event_loop = Loop::new(0, Arc::clone(&options), mailboxes, &poll, None).unwrap();

    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let accepted = accept_unanswered(&options, Request::new(()), from, &mut HeaderMap::new()).unwrap();
    let (near, doorbell) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let transport = Scripted::default();
    let layer = Some(Layer::Scripted(transport.clone()));
    let start = Instant::now();
    event_loop.admit(Admission {
        stream: TcpStream::from(OwnedFd::from(near)),
        layer,
        accepted,
        input: Bytes::new(),
        permit: Permit::acquire(Arc::clone(&engine.mailbox(0).connections)),
    });
    let running = tokio::task::spawn_local(event_loop.run(poll));
    let conn = seen.handle.lock().unwrap().take().unwrap();

    for (at, what) in script {
        sleep_until(start + ms(*at)).await;
        act(what, &transport, &conn);
        // The socket has room, and something to read: the loop looks at both.
        conn.run(|_| {}).unwrap();
        // The socket is closed when the connection is over.
        let _ = std::io::Write::write(&mut &doorbell, b"!");
    }
    let (end, at) = loop {
        if let Some(end) = seen.end.lock().unwrap().take() {
            break end;
        }
        tokio::time::sleep(ms(1)).await;
        assert!(start.elapsed() < ms(60_000), "it does not end");
    };
    engine.stop();
    running.await.unwrap().unwrap();

    let at = u64::try_from((at - start).as_millis()).unwrap();
    let written = std::mem::take(&mut transport.script().written);
    Outcome { end, at, written }
}

async fn check(row: &Row) {
    let Outcome { end, at, written } = run(row.config(Role::Server), false, &row.script).await;
    let (name, expected) = (row.name, &row.end);
    let code = match &end {
        Ok(closed) => closed.frame.as_ref().map(|frame| u16::from(frame.code)),
        Err(Error::Protocol(error)) => Some(u16::from(error.close_code())),
        Err(_) => None,
    };
    assert_eq!(cause_of(Some(&end)).name(), expected.cause, "{name}: {end:?}");
    if let Some(code) = code {
        assert_eq!(code, expected.code, "{name}");
    }
    assert!((expected.at.0..=expected.at.1 + SLACK).contains(&at), "{name}: at {at} ms");
    assert_eq!(opcodes(&written), expected.sent, "{name}");
}

/// Runs over paused time.
fn block_on(test: impl Future<Output = ()>) {
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build_local(Default::default()).unwrap().block_on(test);
}

#[test]
fn every_row() {
    block_on(async {
        for row in rows().iter().filter(|row| row.roles.contains(&Role::Server)) {
            check(row).await;
        }
    });
}

/// A peer that does not read is not read from: what it sent meanwhile must not count as silence, nor as late.
#[test]
fn a_paused_connection_is_not_held_against_the_peer() {
    let config = Config::server().pong_timeout(ms(200)).write_timeout(ms(5000)).write_buffer(30);
    let config = config.ping_after(Some(ms(400))).message_timeout(Some(ms(600))).read_timeout(Some(ms(700)));
    let text = |range| Act::Sends(message(), range);
    // Its own messages fill the buffer with answers, or what the application sends does within a message of the peer's.
    let answers = [0..99, 0..99, 0..99, 0..99, 0..99, 0..3].map(|range| (0, text(range))).to_vec();
    let within = vec![(0, text(0..3)), (10, Act::Queues(100)), (20, text(3..99)), (30, text(0..3))];
    let goes_on = || vec![(1100, Act::Takes(None)), (1150, text(3..99)), (1200, Act::Ends)];
    // Behind the pause the connection is idle, and its deadlines come before the write deadline would have.
    let idle = vec![(10, Act::Queues(100)), (20, text(0..99)), (400, Act::Takes(None))];
    let idle_config = config.clone().ping_after(None).read_timeout(Some(ms(300))).write_timeout(ms(900));
    for (config, before, after, cause, at, sent) in [
        (config.clone(), answers, goes_on(), "eof", 1200, &[1, 1, 1, 1, 1, 1][..]),
        (config, within, goes_on(), "eof", 1200, &[2, 1, 1]),
        (idle_config, idle, vec![(750, Act::Ends)], "read_timeout", 750, &[2, 1, 8]),
    ] {
        let script = [vec![(0, Act::Takes(Some(0)))], before, after].concat();
        block_on(async move {
            let outcome = run(config, true, &script).await;
            assert_eq!(outcome.end.unwrap_err().cause().map(Cause::name), Some(cause));
            assert!((at..=at + SLACK).contains(&outcome.at), "{cause}: at {} ms", outcome.at);
            assert_eq!(opcodes(&outcome.written), sent);
        });
    }
}
