//! Compressed messages, with longwire's client as the peer.

use longwire::{Acceptor, Client, Compress, Config, Deflate, Message, Outgoing};

use crate::host::{Host, House, PATIENCE};

fn samples() -> Vec<Message> {
    let text = "行情 600519 贵州茅台 1688.00 +1.20% 👋 ".repeat(3000);
    let sizes = [0, 1, 50, 1_000, 20_000, 65_536, 150_000];
    let start = |size: usize| {
        let end = (0..=size.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        text[..end.unwrap()].to_owned()
    };
    let mut all: Vec<Message> = sizes.iter().map(|&size| start(size).into()).collect();
    all.extend(sizes.iter().map(|&size| Message::from(vec![7; size])));
    // Data that does not compress.
    all.push(
        (0..100_000_u64)
            .map(|at| (at.wrapping_mul(at).wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect::<Vec<_>>()
            .into(),
    );
    all
}

async fn echo(house: &House, client: Deflate, takeover: bool) {
    let url = format!("ws://{}/", house.address());
    let client = Client::new().config(Config::client().deflate(client));
    let mut ws = client.connect(&url).await.unwrap();
    let parameters = ws.deflate().unwrap();
    assert_eq!(!parameters.server_no_context_takeover, takeover, "{parameters:?}");
    for _ in 0..3 {
        for message in &samples() {
            for compress in [Compress::Auto, Compress::Never] {
                ws.send(Outgoing::from(message).compress(compress)).await.unwrap();
                let echoed = tokio::time::timeout(PATIENCE, ws.recv()).await.unwrap().unwrap().unwrap();
                assert!(echoed == *message, "{} bytes", message.len());
            }
        }
    }
    ws.close(1000, "").await.unwrap();
}

fn house(deflate: Deflate) -> House {
    let acceptor = Acceptor::new().config(Config::server().deflate(deflate));
    House::with(Host::echo(), |engine| engine.threads(1).acceptor(acceptor))
}

#[tokio::test]
async fn each_message_by_itself() {
    let house = house(Deflate::new());
    echo(&house, Deflate::new(), false).await;
    echo(&house, Deflate::new().no_context_takeover(), false).await;
    let counters = house.counters(|counters| counters.closed == 2);
    assert!(counters.sent.wire_bytes < counters.received.payload_bytes() / 2, "{counters:?}");
}

#[tokio::test]
async fn with_a_context_that_is_taken_over() {
    let house = house(Deflate::new().send_context_takeover(1024 * 1024));
    echo(&house, Deflate::new().send_context_takeover(1024 * 1024), true).await;
    house.counters(|counters| counters.closed == 1);
}

/// Published messages are compressed once for all subscribers with the same parameters.
#[tokio::test]
async fn topics_with_and_without_compression() {
    let deflate = Deflate::new().threshold(0).send_context_takeover(10 * 1024 * 1024);
    let acceptor = Acceptor::new().config(Config::server().deflate(deflate.clone()));
    let house = House::with(Host::new(), |engine| engine.threads(1).acceptor(acceptor));
    let url = format!("ws://{}/", house.address());
    let configs = [
        Config::client().no_deflate(),
        Config::client().deflate(Deflate::new().no_context_takeover()),
        Config::client().deflate(Deflate::new().receive_window_bits(9)),
        Config::client().deflate(deflate),
    ];
    let mut peers = Vec::new();
    for config in configs {
        let mut ws = Client::new().config(config).connect(&url).await.unwrap();
        // A message that is sent to it alone begins its compression context.
        for command in ["send 行情行情行情行情", "sub 行情"] {
            ws.send(command).await.unwrap();
            ws.recv().await.unwrap().unwrap();
        }
        peers.push(ws);
    }
    let samples = samples();
    for message in &samples {
        house.handle().publish("行情", message.clone()).unwrap();
        for ws in &mut peers {
            let heard = tokio::time::timeout(PATIENCE, ws.recv()).await.unwrap().unwrap().unwrap();
            assert!(heard == *message, "{} bytes", message.len());
        }
    }
    // Many messages in one iteration.
    for message in &samples {
        house.handle().publish("行情", message.clone()).unwrap();
    }
    for ws in &mut peers {
        for message in &samples {
            let heard = tokio::time::timeout(PATIENCE, ws.recv()).await.unwrap().unwrap().unwrap();
            assert!(heard == *message, "{} bytes", message.len());
        }
        ws.send("send 行情行情行情行情").await.unwrap();
        assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("行情行情行情行情"));
    }
}

/// A frame that inflates to much is processed in several turns, and others have theirs in between.
#[tokio::test]
async fn a_bomb_is_refused_and_others_go_on() {
    let house = house(Deflate::new());
    let url = format!("ws://{}/", house.address());
    let client = Client::new().config(Config::client().deflate(Deflate::new()));
    let mut bomber = client.connect(&url).await.unwrap();
    let mut other = client.connect(&url).await.unwrap();
    bomber.send(vec![0; 20 * 1024 * 1024]).await.unwrap();
    other.send("还在").await.unwrap();
    assert_eq!(other.recv().await.unwrap().unwrap().as_text(), Some("还在"));
    while let Ok(Some(_)) = bomber.recv().await {}
    house.counters(|counters| counters.protocol_errors == 1);
    // As large as the limit, compressed to a thousandth, many of them in one read.
    let mut many = client.connect(&url).await.unwrap();
    for _ in 0..20 {
        many.feed(vec![5; 1024 * 1024]).await.unwrap();
    }
    many.flush().await.unwrap();
    for _ in 0..20 {
        let echoed = tokio::time::timeout(PATIENCE, many.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(echoed.len(), 1024 * 1024);
    }
}
