//! A real link that is cut: TCP through a relay in this process that stops forwarding, without FIN or RST, and
//! comes back. The connections that it cut stay dead, as behind a router that has forgotten them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longwire::reconnect::{Backoff, Cause, Event, Offline, Reconnect};
use longwire::{Acceptor, Client, Config, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::support::soon;

const PING_AFTER: Duration = Duration::from_millis(500);
const PONG_TIMEOUT: Duration = Duration::from_millis(1000);

/// Forwards one direction until the link is cut; from then on it holds the sockets and does nothing.
async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut cut: watch::Receiver<bool>,
) {
    let mut bytes = [0; 4096];
    loop {
        let read = tokio::select! {
            biased;
            _ = async { cut.wait_for(|cut| *cut).await.is_ok() } => break,
            read = from.read(&mut bytes) => read,
        };
        match read {
            Ok(count) if count > 0 && to.write_all(&bytes[..count]).await.is_ok() => {}
            _ => return drop(to.shutdown().await),
        }
    }
    std::future::pending::<()>().await;
}

/// The relay: while it is cut, new connections are taken in by the system, and nobody answers them.
async fn relay(listener: TcpListener, server: SocketAddr, mut cut: watch::Receiver<bool>) {
    loop {
        cut.wait_for(|cut| !*cut).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let is_cut = *cut.borrow();
        let cut = cut.clone();
        tokio::spawn(async move {
            if is_cut {
                let _held = near;
                std::future::pending::<()>().await;
                return;
            }
            let far = TcpStream::connect(server).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::join!(forward(near_in, far_out, cut.clone()), forward(far_in, near_out, cut));
        });
    }
}

/// Sends the numbers from the one that is asked for, one each few milliseconds, and hands on what it hears.
async fn serve(listener: TcpListener, heard: mpsc::UnboundedSender<String>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let heard = heard.clone();
        tokio::spawn(async move {
            // Who came while the link was cut has gone meanwhile.
            let Ok(mut ws) = Acceptor::new().accept(stream).await else { return };
            let Ok(Some(from)) = ws.recv().await else { return };
            let mut number: u64 = from.as_text().unwrap().parse().unwrap();
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        if ws.feed(number.to_string()).await.is_err() {
                            return;
                        }
                        number += 1;
                    }
                    received = ws.recv() => match received {
                        Ok(Some(message)) => heard.send(message.as_text().unwrap().to_owned()).unwrap(),
                        _ => return,
                    },
                }
            }
        });
    }
}

#[tokio::test]
async fn a_link_that_is_cut_is_noticed_and_comes_back_without_gap_or_repetition() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let entrance = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/行情", entrance.local_addr().unwrap());
    let (cut, is_cut) = watch::channel(false);
    let (heard, mut hears) = mpsc::unbounded_channel();
    tokio::spawn(relay(entrance, server.local_addr().unwrap(), is_cut));
    tokio::spawn(serve(server, heard));

    let config = Config::client().ping_after(Some(PING_AFTER)).pong_timeout(PONG_TIMEOUT);
    let client = Client::new().config(config).handshake_timeout(Duration::from_secs(2));
    let next = Arc::new(AtomicU64::new(0));
    let wanted = Arc::clone(&next);
    let mut feed = Reconnect::new(client, url)
        .backoff(Backoff::new().initial(Duration::from_millis(50)).max(Duration::from_millis(200)))
        .offline(Offline::Hold { messages: 9, bytes: 99 })
        .on_open(move |mut ws, _| {
            let from = wanted.load(Ordering::Relaxed).to_string();
            async move { Ok(ws.send(from).await?) }
        })
        .start();

    let mut cut_at = None;
    let (mut opened, mut failed, mut noticed) = (0, 0, None);
    loop {
        match soon(feed.next()).await.unwrap() {
            Event::Message(message) => {
                // No gap, no repetition, in order: over all connections.
                let number = next.load(Ordering::Relaxed);
                assert_eq!(message.as_text(), Some(&*number.to_string()));
                next.store(number + 1, Ordering::Relaxed);
                if cut_at.is_none() && number >= 20 {
                    cut.send(true).unwrap();
                    cut_at = Some(Instant::now());
                }
                if failed >= 2 && number > 60 {
                    break;
                }
            }
            Event::Open(_) => opened += 1,
            Event::Lost { cause, .. } => match noticed {
                // A machine that is very busy may look like a link that is cut.
                None if cut_at.is_none() => {}
                None => {
                    assert!(matches!(cause, Cause::Failed(Error::PingTimeout)), "{cause:?}");
                    noticed = Some(cut_at.unwrap().elapsed());
                    feed.send("held 你好").await.unwrap();
                }
                Some(_) => {
                    failed += 1;
                    assert!(failed > 2 || matches!(cause, Cause::Connect(_)), "{cause:?}");
                    // Two attempts that met nobody are enough.
                    cut.send(failed < 2).unwrap();
                }
            },
            Event::Connecting(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let noticed = noticed.unwrap();
    assert!(noticed >= PONG_TIMEOUT, "{noticed:?}");
    // What was under way as the link was cut is life, too; the rest is for a machine that is busy.
    assert!(noticed < PING_AFTER + PONG_TIMEOUT + Duration::from_secs(5), "{noticed:?}");
    assert!(opened >= 2 && failed >= 2, "{opened} {failed}");
    assert_eq!(soon(hears.recv()).await.unwrap(), "held 你好");
    assert!(hears.is_empty(), "once");
}
