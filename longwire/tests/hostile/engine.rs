//! An engine of one loop as the attacked side: a handler with the habits of [`victim`](crate::victim).

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use longwire::engine::{Conn, Engine, Handle, Handler, Id, MessageRef, Opening, Running};
use longwire::http::{HeaderMap, Request};
use longwire::{Acceptor, Closed, Error, Refusal, SendError};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::counting::Account;
use crate::support::REQUEST;
use crate::victim::{End, FRIENDLY, Habit, Setup, Shared};

/// Where a habit of broadcasting does so.
const TOPIC: &str = "广播";

struct Attacked {
    habit: Habit,
    /// That of the loop's thread, from the first request on.
    account: Arc<OnceLock<&'static Account>>,
    shared: Arc<Shared>,
}

/// What is kept with each connection; a friend has no address, for nobody asks how it ended.
struct State {
    from: Option<SocketAddr>,
    broadcasts: Option<AbortHandle>,
}

impl Handler for Attacked {
    type State = State;

    fn on_request(
        &self,
        request: &Request<()>,
        from: SocketAddr,
        _: &mut HeaderMap,
    ) -> Result<State, Refusal> {
        self.account.get_or_init(Account::of_this_thread);
        let is_friend = request.uri().path() == FRIENDLY;
        self.shared.begun.fetch_add(usize::from(!is_friend), SeqCst);
        Ok(State { from: (!is_friend).then_some(from), broadcasts: None })
    }

    fn opened(&self, conn: &mut Conn<'_>, state: &mut State, _: &Opening<'_>) {
        match self.habit {
            _ if state.from.is_none() => {}
            Habit::Broadcast(size) => {
                conn.subscribe(TOPIC);
                let broadcasts = tokio::task::spawn_local(broadcast(conn.engine(), size));
                state.broadcasts = Some(broadcasts.abort_handle());
            }
            Habit::Close => conn.close(1001, "再见").unwrap(),
            Habit::Echo | Habit::Send | Habit::Listen | Habit::Parts => {}
        }
    }

    /// There is room for one answer to each message: what else it says is a fault of the engine's.
    fn message(&self, conn: &mut Conn<'_>, state: &mut State, message: MessageRef<'_>) {
        if state.from.is_none() || matches!(self.habit, Habit::Echo | Habit::Send) {
            conn.send(message).unwrap();
        }
    }

    fn closed(&self, _: &Handle, _: Id, state: State, end: Result<Closed, Error>) {
        if let Some(broadcasts) = state.broadcasts {
            broadcasts.abort();
        }
        if let Some(from) = state.from {
            self.shared.end(from, End::Open(end));
        }
    }
}

async fn broadcast(engine: Handle, size: usize) {
    loop {
        match engine.publish(TOPIC, vec![b'x'; size]) {
            Ok(()) => tokio::task::yield_now().await,
            Err(SendError::Full) => sleep(Duration::from_millis(1)).await,
            Err(_) => return,
        }
    }
}

/// Starts it. One connection has been there, by which the loop's thread is known.
pub(crate) fn start(setup: Setup, shared: &Arc<Shared>) -> (&'static Account, Running) {
    let account = Arc::new(OnceLock::new());
    let attacked = Attacked { habit: setup.habit, account: Arc::clone(&account), shared: Arc::clone(shared) };
    let acceptor = Acceptor::new().config(setup.config).handshake_timeout(setup.handshake_timeout);
    let mut engine = Engine::new(attacked).threads(1).acceptor(acceptor);
    if let Some(slow) = setup.slow {
        engine = engine.slow_consumers(slow);
    }
    let running = engine.listen("127.0.0.1:0").unwrap();
    let mut first = TcpStream::connect(running.local_addr().unwrap()).unwrap();
    let request = REQUEST.replace("/chat", FRIENDLY);
    std::io::Write::write_all(&mut first, request.as_bytes()).unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    first.read_to_end(&mut Vec::new()).unwrap();
    (account.get().unwrap(), running)
}
