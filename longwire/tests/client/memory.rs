//! What a client's connection over TLS holds while it is idle: what rustls keeps, which the docs of `Tls` say.

use longwire::{Client, Config, Tls};

use crate::certificates::Identity;
use crate::counting::Account;
use crate::servers::{talk, tls_server};
use crate::support::poll_times;

/// Bytes that an idle connection may hold: rustls' state, Tokio's socket, and ours.
const IDLE_MAX: isize = 10 * 1024;

const MANY: usize = 50;

fn live() -> isize {
    Account::of_this_thread().live()
}

#[test]
fn an_idle_connection_over_tls() {
    // The servers have a thread of their own: only the client's side is counted.
    let identity = Identity::self_signed("localhost", 4000);
    let acceptor = identity.acceptor();
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let port = servers.block_on(tls_server(acceptor));

    let clients = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    clients.block_on(async {
        let config = Config::client().no_deflate();
        let client = Client::new().config(config).tls(Tls::new().pin_der(identity.certificate.der()));
        let idle = async |size: usize| {
            let mut ws = client.connect(format!("wss://127.0.0.1:{port}/")).await.unwrap();
            talk(&mut ws).await;
            ws.send(vec![7_u8; size]).await.unwrap();
            assert_eq!(ws.recv().await.unwrap().unwrap().as_bytes().len(), size);
            assert!(poll_times(ws.recv(), 1).is_none());
            ws
        };
        for size in [10, 100_000] {
            // What the thread keeps for all its connections is bounded, and there before counting.
            let mut kept = (live(), 0);
            while kept.1 < 3 {
                drop(idle(size).await);
                kept = if live() > kept.0 { (live(), 0) } else { (kept.0, kept.1 + 1) };
            }
            let before = live();
            let mut open = Vec::with_capacity(MANY);
            for _ in 0..MANY {
                open.push(idle(size).await);
            }
            let each = (live() - before) / MANY as isize;
            assert!(each < IDLE_MAX, "after {size} bytes: {each} B");
        }
    });
}
