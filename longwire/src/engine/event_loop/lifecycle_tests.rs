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
use longwire_proto::{MessageRef, Role};
use mio::{Poll, Waker};
use tokio::time::{Instant, sleep_until};

use self::lifecycle_rows::{Act, Row, ms, opcodes, rows};
use super::admission::Admission;
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

#[derive(Clone, Default)]
struct Seen {
    handle: Arc<Mutex<Option<ConnHandle>>>,
    end: Arc<Mutex<Option<(Result<Closed, Error>, Instant)>>>,
}

impl Handler for Seen {
    type State = ();

    fn on_request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, conn: &mut Conn<'_>, (): &mut (), _: &Opening<'_>) {
        *self.handle.lock().unwrap() = Some(conn.handle());
    }

    fn message(&self, _: &mut Conn<'_>, (): &mut (), _: MessageRef<'_>) {}

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

async fn run(row: &Row) {
    let seen = Seen::default();
    let mut options = Options::new(seen.clone());
    options.acceptor = Acceptor::new().config(row.config(Role::Server));
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

    for (at, what) in &row.script {
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
        assert!(start.elapsed() < ms(60_000), "{}: it does not end", row.name);
    };
    engine.stop();
    running.await.unwrap().unwrap();

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
    let at = u64::try_from((at - start).as_millis()).unwrap();
    assert!((expected.at.0..=expected.at.1 + SLACK).contains(&at), "{name}: at {at} ms");
    assert_eq!(opcodes(&transport.script().written), expected.sent, "{name}");
}

#[test]
fn every_row() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(Default::default())
        .unwrap();
    runtime.block_on(async {
        for row in rows().iter().filter(|row| row.roles.contains(&Role::Server)) {
            run(row).await;
        }
    });
}
