//! One connection in several hands: nothing lost, nothing reordered, nobody left waiting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use longwire::{
    CloseCode, Config, Error, Message, Receiver, SendError, Sender, SharedFrame, Side, WebSocket,
};
use longwire_proto::frame::OpCode;
use support::frames::{close, messages, text, whole_frames};
use support::wire::Wire;
use support::{duplex, pair, poll_once, poll_times, server_on, soon, tcp_pair};
use tokio::io::{AsyncRead, AsyncWrite};

/// `senders` tasks with `count` messages each; every fifth is large, some only fed, some not waited for.
fn send_from_many<S>(sender: &Sender<S>, senders: usize, count: usize) -> Vec<tokio::task::JoinHandle<()>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let task = |from: usize| {
        let sender = sender.clone();
        async move {
            for i in 0..count {
                let padding = if i % 5 == 0 { "长".repeat(i * 400) } else { "👋".repeat(i) };
                let text = format!("{from} {i} {padding}");
                match i % 4 {
                    0 => sender.feed(text).await.unwrap(),
                    1 => while_full(|| sender.try_send(text.as_str())).await,
                    _ => sender.send(text).await.unwrap(),
                }
            }
            sender.flush().await.unwrap();
        }
    };
    (0..senders).map(|from| tokio::spawn(task(from))).collect()
}

async fn while_full(mut attempt: impl FnMut() -> Result<(), SendError>) {
    loop {
        match attempt() {
            Err(SendError::Full) => tokio::task::yield_now().await,
            done => return done.unwrap(),
        }
    }
}

/// Receives what [`send_from_many`] sends, each sender's messages in order, then the Close.
async fn receive_from_many<S>(mut receiver: Receiver<S>, senders: usize, count: usize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut next: HashMap<usize, usize> = HashMap::new();
    for _ in 0..senders * count {
        let message = receiver.recv().await.unwrap().unwrap();
        let mut words = message.as_text().unwrap().split(' ').take(2).map(|word| word.parse().unwrap());
        let (from, i): (usize, usize) = (words.next().unwrap(), words.next().unwrap());
        let next = next.entry(from).or_default();
        assert_eq!(i, *next, "of sender {from}");
        *next += 1;
    }
    assert!(next.values().all(|&next| next == count));
    assert_eq!(receiver.recv().await.unwrap(), None);
}

async fn flood_both_ways<S>(client: WebSocket<S>, server: WebSocket<S>, count: usize)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    const SENDERS: usize = 6;
    let (client_sender, client_receiver) = client.split();
    let (server_sender, server_receiver) = server.split();
    let receivers = [
        tokio::spawn(receive_from_many(client_receiver, SENDERS, count)),
        tokio::spawn(receive_from_many(server_receiver, SENDERS, count)),
    ];
    let mut senders = send_from_many(&client_sender, SENDERS, count);
    senders.extend(send_from_many(&server_sender, SENDERS, count));
    for task in senders {
        soon(task).await.unwrap();
    }
    client_sender.close(CloseCode::NORMAL, "都发完了").await.unwrap();
    for task in receivers {
        soon(task).await.unwrap();
    }
    assert_eq!(server_sender.closed().unwrap().by, Side::Peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_over_tcp() {
    let (client, server) = tcp_pair(Config::client(), Config::server()).await;
    flood_both_ways(client, server, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_through_small_buffers() {
    for size in [1, 50, 3_000] {
        let configs = [Config::client(), Config::server()].map(|config| config.write_buffer(size * 4));
        let [client, server] = configs;
        let (client, server) = duplex(size, client, server).await;
        flood_both_ways(client, server, if size == 1 { 6 } else { 40 }).await;
    }
}

#[tokio::test]
async fn many_senders_on_one_thread() {
    let (client, server) = duplex(500, Config::client(), Config::server()).await;
    flood_both_ways(client, server, 30).await;
}

/// The peer sends all before it reads anything: whoever echoes must read while writing is blocked, as
/// far as the write buffer goes.
#[tokio::test]
async fn an_echo_in_one_task_goes_on_when_the_peer_reads_late() {
    const COUNT: usize = 200;
    let (mut client, server) = duplex(2_000, Config::client(), Config::server()).await;
    let echo = tokio::spawn(async move {
        let (sender, mut receiver) = server.split();
        while let Some(message) = receiver.recv().await? {
            sender.feed(message).await?;
        }
        Ok::<_, Error>(())
    });
    let text = |i| format!("{i} {}", "回声".repeat(300));
    for i in 0..COUNT {
        soon(client.send(text(i))).await.unwrap();
    }
    for i in 0..COUNT {
        assert_eq!(soon(client.recv()).await.unwrap().unwrap().as_text(), Some(&*text(i)));
    }
    soon(client.close(1000, "")).await.unwrap();
    soon(echo).await.unwrap().unwrap();
}

#[tokio::test]
async fn two_sends_joined_in_one_task() {
    let (client, mut server) = duplex(64, Config::client().write_buffer(64), Config::server()).await;
    let (sender, mut receiver) = client.split();
    let both = async {
        let (one, two, three) = tokio::join!(
            sender.send("一".repeat(1_000)),
            sender.send("二".repeat(1_000)),
            sender.ping("三"),
        );
        one.and(two).and(three).unwrap();
        sender.close(1000, "").await.unwrap();
        receiver.recv().await
    };
    let reads = async {
        for expected in ["一", "二"] {
            assert_eq!(server.recv().await.unwrap().unwrap().as_text(), Some(&*expected.repeat(1_000)));
        }
        server.recv().await
    };
    let (sent, read) = soon(async { tokio::join!(both, reads) }).await;
    assert_eq!((sent.unwrap(), read.unwrap()), (None, None));
}

/// Whatever is dropped while it waits: frames are whole, and those that still wait go on.
#[tokio::test]
async fn a_send_that_is_dropped_tears_nothing_and_wakes_nobody_less() {
    for polls in 1..5 {
        let wire = Wire::new();
        let ws = server_on(&wire, Config::server().write_buffer(5_000)).await;
        let (sender, mut receiver) = ws.split();
        wire.room(Some(100));
        assert!(poll_times(sender.send("甲".repeat(2_000)), polls).is_none());
        let kept = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send("乙").await }
        });
        tokio::task::yield_now().await;
        assert!(poll_times(sender.send("丙"), polls).is_none());
        assert!(poll_times(sender.flush(), polls).is_none());
        assert!(poll_times(receiver.recv(), polls).is_none());
        wire.room(None);
        soon(kept).await.unwrap().unwrap();
        soon(sender.flush()).await.unwrap();
        let sent = messages(&whole_frames(&wire.take_written()));
        // The first was queued when it was dropped; then there was no room for the one that was dropped.
        assert_eq!(sent, [(OpCode::Text, "甲".repeat(2_000).into()), (OpCode::Text, "乙".into())]);
    }
}

#[tokio::test]
async fn one_shared_frame_to_many() {
    let mut receivers = Vec::new();
    let mut senders = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..50 {
        let (client, server) = pair().await;
        let (sender, receiver) = server.split();
        senders.push(sender);
        receivers.push(receiver);
        clients.push(client);
    }
    let recvs: Vec<_> = receivers
        .into_iter()
        .map(|mut receiver| tokio::spawn(async move { receiver.recv().await }))
        .collect();
    tokio::task::yield_now().await;
    for size in [1, 1_000, 10_000] {
        let text = "广播📣".repeat(size);
        let shared = SharedFrame::new(text.as_str());
        for sender in &senders {
            sender.try_send(&shared).unwrap();
        }
        for client in &mut clients {
            assert_eq!(soon(client.recv()).await.unwrap().unwrap().as_text(), Some(&*text));
        }
    }
    for (sender, client) in senders.iter().zip(clients) {
        sender.start_close(1001, "收工").unwrap();
        let mut client = client;
        assert_eq!(soon(client.recv()).await.unwrap(), None);
    }
    for recv in recvs {
        assert_eq!(soon(recv).await.unwrap().unwrap(), None);
    }
}

#[tokio::test]
async fn a_close_by_a_sender_completes_in_the_receiver() {
    let (client, mut server) = pair().await;
    let (sender, mut receiver) = client.split();
    let receives = tokio::spawn(async move {
        let mut messages = Vec::new();
        while let Some(message) = receiver.recv().await.unwrap() {
            messages.push(message);
        }
        (messages, receiver.closed())
    });
    server.feed("还有一条").await.unwrap();
    sender.close(4000, "再见").await.unwrap();
    server.flush().await.unwrap();
    assert!(matches!(sender.send("太晚").await, Err(SendError::Closed)));
    assert!(matches!(sender.try_send("太晚"), Err(SendError::Closed)));
    sender.close(4001, "第二次").await.unwrap();
    assert_eq!(soon(server.recv()).await.unwrap(), None);
    assert_eq!(server.closed().unwrap().frame.as_ref().unwrap().reason.as_str(), "再见");
    let (messages, closed) = soon(receives).await.unwrap();
    assert_eq!(messages.iter().map(|message| message.as_text().unwrap()).collect::<Vec<_>>(), ["还有一条"]);
    let closed = closed.unwrap();
    assert_eq!((closed.by, closed.frame.unwrap().code), (Side::Us, CloseCode::from(4000)));
}

#[tokio::test]
async fn a_sender_without_a_receiver_is_told() {
    let (client, mut server) = pair().await;
    let (sender, receiver) = client.split();
    let other = receiver.sender();
    assert!(!sender.is_closed());
    drop(receiver);
    assert!(sender.is_closed() && other.is_closed());
    for refused in [
        sender.try_send("没人收"),
        sender.send("没人收").await,
        sender.feed("没人收").await,
        sender.ping("").await,
        sender.start_close(1000, ""),
    ] {
        assert!(matches!(refused, Err(SendError::ReceiverDropped)), "{refused:?}");
    }
    assert_eq!(sender.buffered_amount(), 0);
    // The peer may still be told why.
    other.close(1011, "再见").await.unwrap();
    drop((sender, other));
    assert_eq!(soon(server.recv()).await.unwrap(), None);
    assert_eq!(server.closed().unwrap().frame.as_ref().unwrap().code, CloseCode::INTERNAL);
}

#[tokio::test]
async fn a_sender_that_waits_for_room_learns_that_the_receiver_was_dropped() {
    let wire = Wire::new();
    let (sender, receiver) = server_on(&wire, Config::server().write_buffer(10)).await.split();
    wire.room(Some(0));
    sender.try_send("先占地方 👋").unwrap();
    let waits = tokio::spawn(async move { sender.feed("等地方").await });
    tokio::task::yield_now().await;
    drop(receiver);
    assert!(matches!(soon(waits).await.unwrap(), Err(SendError::ReceiverDropped)));
}

#[tokio::test]
async fn the_last_hand_ends_tcp() {
    let (client, mut server) = pair().await;
    let (sender, receiver) = client.split();
    drop(receiver);
    let other = sender.clone();
    drop(sender);
    tokio::task::yield_now().await;
    drop(other);
    assert!(matches!(soon(server.recv()).await, Err(Error::Eof)));
}

#[tokio::test]
async fn the_halves_know_the_connection_and_are_put_together_again() {
    let (client, server) = tcp_pair(Config::client(), Config::server()).await;
    let address = client.get_ref().local_addr().unwrap();
    let (sender, receiver) = server.split();
    assert_eq!((sender.role(), receiver.role()), (longwire::Role::Server, longwire::Role::Server));
    assert_eq!((sender.peer_addr().unwrap(), receiver.peer_addr().unwrap()), (address, address));
    assert_eq!((sender.subprotocol(), receiver.deflate()), (None, None));

    // Not while there is another sender, nor with one of another connection.
    let other = sender.clone();
    let longwire::ReuniteError(sender, receiver) = receiver.reunite(sender).unwrap_err();
    drop(other);
    let (foreign, mut client) = client.split();
    let longwire::ReuniteError(foreign, receiver) = receiver.reunite(foreign).unwrap_err();
    assert!(!sender.is_closed() && !foreign.is_closed());
    let mut server = receiver.reunite(sender).unwrap();
    soon(server.send("又在一起 👋")).await.unwrap();
    assert_eq!(soon(client.recv()).await.unwrap().unwrap(), "又在一起 👋");
}

/// `stream.forward(sender)`, while another sender sends too.
#[tokio::test]
async fn a_sender_is_a_sink() {
    let (client, mut server) = duplex(256, Config::client().write_buffer(64), Config::server()).await;
    let (sender, mut receiver) = client.split();
    let other = sender.clone();
    let reads = tokio::spawn(async move { receiver.recv().await });
    let messages = (0..20).map(|i| Ok(Message::from(format!("{i} {}", "长".repeat(50)))));
    let sends = tokio::spawn(futures_util::stream::iter(messages).forward(sender));
    let others = tokio::spawn(async move {
        for _ in 0..20 {
            other.send("别的 👋").await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let (mut own, mut count) = (0, 0);
    while count < 20 || own < 20 {
        match soon(server.recv()).await.unwrap() {
            Some(message) if message == "别的 👋" => own += 1,
            Some(message) => {
                assert!(message.as_text().unwrap().starts_with(&format!("{count} ")));
                count += 1;
            }
            // The sink closes behind its last message.
            None => break,
        }
    }
    assert_eq!(count, 20);
    soon(sends).await.unwrap().unwrap();
    assert_eq!(soon(server.recv()).await.unwrap(), None);
    assert_eq!(soon(reads).await.unwrap().unwrap(), None);
    let _ = soon(others).await;
}

#[tokio::test]
async fn try_send_is_written_by_a_receiver_that_waits_with_others() {
    let (client, mut server) = pair().await;
    let (sender, mut receiver) = client.split();
    let (hang_up, mut hung_up) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                _ = &mut hung_up => break,
                message = receiver.recv() => assert_eq!(message.unwrap().unwrap().as_text(), Some("回")),
            }
        }
    });
    for i in 0..20 {
        tokio::task::yield_now().await;
        sender.try_send(format!("第{i}")).unwrap();
        assert_eq!(soon(server.recv()).await.unwrap().unwrap().as_text(), Some(&*format!("第{i}")));
        server.send("回").await.unwrap();
    }
    hang_up.send(()).unwrap();
    soon(task).await.unwrap();
}

/// Senders that wait for a peer that does not read, on a connection that `end` ends for the receiver:
/// what they are told, and what it is told. They are polled before it, so it has to wake them.
async fn senders_of_a_connection_that_ends(
    end: impl FnOnce(&Wire),
) -> (Result<(), Error>, Result<(), Error>, Error) {
    let wire = Wire::new();
    let config = Config::server().write_buffer(1_000).write_timeout(Duration::from_secs(3_600));
    let (sender, mut receiver) = server_on(&wire, config).await.split();
    wire.room(Some(10));
    let receives = tokio::spawn(async move { receiver.recv().await });
    let mut sends = pin!(async { tokio::join!(sender.send(vec![1; 2_000]), sender.feed("等地方")) });
    assert!(poll_once(sends.as_mut()).is_pending());
    tokio::task::yield_now().await;
    end(&wire);
    let start = tokio::time::Instant::now();
    let minute = Duration::from_secs(60);
    let sent = tokio::time::timeout(minute, sends).await;
    assert!(start.elapsed() < minute, "nobody wakes them");
    let (sent, fed) = sent.unwrap();
    (sent.map_err(Error::from), fed.map_err(Error::from), receives.await.unwrap().unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_waits_learns_of_a_ping_timeout() {
    let (sent, fed, ended) = senders_of_a_connection_that_ends(|_| {}).await;
    assert!(matches!(ended, Error::PingTimeout), "{ended}");
    assert!(sent.is_err(), "its message was dropped");
    assert!(fed.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_waits_learns_of_eof() {
    let (sent, fed, ended) = senders_of_a_connection_that_ends(Wire::eof).await;
    assert!(matches!(ended, Error::Eof), "{ended}");
    assert!(sent.is_err(), "its message was dropped");
    assert!(fed.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_waits_learns_of_a_protocol_error() {
    let (sent, fed, ended) = senders_of_a_connection_that_ends(|wire| wire.input([0xFF, 0xFF])).await;
    assert!(matches!(ended, Error::Protocol(_)), "{ended}");
    assert!(sent.is_err(), "its message was dropped");
    assert!(fed.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_write_timeout_is_known_to_both_hands() {
    let wire = Wire::new();
    let ws = server_on(&wire, Config::server().write_timeout(Duration::from_secs(4))).await;
    wire.room(Some(10));
    let (sender, mut receiver) = ws.split();
    let receives = tokio::spawn(async move { receiver.recv().await });
    let sent = soon(sender.send("写不出去")).await;
    assert!(matches!(sent, Err(SendError::Failed(Error::WriteTimeout))), "{sent:?}");
    assert!(matches!(soon(receives).await.unwrap(), Err(Error::WriteTimeout)));
    assert_eq!(wire.take_written().len(), 10);
}

#[tokio::test]
async fn nothing_is_queued_on_a_connection_that_has_ended() {
    type End = (&'static str, fn(&Wire));
    let ends: [End; 4] = [
        ("reset", |wire| wire.read_error(std::io::ErrorKind::ConnectionReset)),
        ("eof", Wire::eof),
        ("bad frame", |wire| wire.input([0xFF, 0xFF])),
        ("close", |wire| wire.input(close(true, 1000, ""))),
    ];
    for (name, end) in ends {
        let wire = Wire::new();
        let (sender, mut receiver) = server_on(&wire, Config::server()).await.split();
        end(&wire);
        wire.eof();
        let _ = poll_times(receiver.recv(), 3).unwrap();
        assert!(sender.try_send("谁来写").is_err(), "{name}: nobody will ever write it");
        assert!(sender.try_send(SharedFrame::new("谁来写")).is_err(), "{name}");
        assert_eq!(sender.buffered_amount(), 0, "{name}");
    }
}

#[tokio::test]
async fn the_receiver_gets_what_came_while_senders_worked() {
    let wire = Wire::new();
    let (sender, mut receiver) = server_on(&wire, Config::server()).await.split();
    let mut recv = pin!(receiver.recv());
    assert!(poll_once(recv.as_mut()).is_pending());
    wire.input(text(true, "来了"));
    soon(sender.send("去了")).await.unwrap();
    assert_eq!(soon(recv).await.unwrap().unwrap().as_text(), Some("来了"));
    assert!(whole_frames(&wire.take_written())[0].is(OpCode::Text, "去了"));
}

#[tokio::test(start_paused = true)]
async fn a_round_trip_is_measured() {
    let (client, mut server) = pair().await;
    let (sender, mut receiver) = client.split();
    assert_eq!(sender.latency(), None);
    let reads = tokio::spawn(async move { while let Ok(Some(_)) = receiver.recv().await {} });
    let measures =
        tokio::spawn(async move { (sender.round_trip().await, sender.round_trip().await, sender) });
    // The server answers when it receives, and it is busy until then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let serves = tokio::spawn(async move { while let Ok(Some(_)) = server.recv().await {} });
    let (first, second, sender) = soon(measures).await.unwrap();
    assert_eq!((first.unwrap(), second.unwrap()), (Duration::from_millis(300), Duration::ZERO));
    assert_eq!(sender.latency(), Some(Duration::ZERO));
    sender.close(1000, "").await.unwrap();
    assert!(matches!(sender.round_trip().await, Err(SendError::Closed)));
    soon(reads).await.unwrap();
    soon(serves).await.unwrap();
}

/// A Pong that never comes: the end of the connection is learned.
#[tokio::test(start_paused = true)]
async fn a_round_trip_ends_with_its_connection() {
    let wire = Wire::new();
    let (sender, mut receiver) = server_on(&wire, Config::server()).await.split();
    let reads = tokio::spawn(async move { receiver.recv().await });
    let waits = tokio::spawn(async move { sender.round_trip().await });
    tokio::task::yield_now().await;
    wire.eof();
    assert!(matches!(soon(waits).await.unwrap(), Err(SendError::Failed(Error::Eof))));
    assert!(matches!(soon(reads).await.unwrap(), Err(Error::Eof)));
}
