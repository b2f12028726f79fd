//! Requests that ask for no WebSocket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::host::{Host, House};
use crate::raw::Raw;

/// A service that echoes all bytes, including those that were read before it was called.
fn mirror(host: Host) -> House {
    House::with(host, |engine| {
        engine.threads(1).http(async |mut stream, read| {
            assert!(!read.starts_with(b"GET /panic"));
            stream.write_all(&read).await.unwrap();
            let mut block = vec![0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut block).await {
                stream.write_all(&block[..count]).await.unwrap();
            }
        })
    })
}

#[test]
fn the_service_gets_all_the_bytes() {
    let house = mirror(Host::echo());
    for size in [0, 1, 10_000, 500_000] {
        let mut raw = Raw::connect(house.address());
        let head = "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n";
        let bytes = [head.as_bytes(), &vec![b'b'; size]].concat();
        let mut writer = Raw { stream: raw.stream.try_clone().unwrap(), read: Vec::new() };
        let sent = bytes.clone();
        let sends = std::thread::spawn(move || {
            writer.send(sent);
            writer.end();
        });
        assert!(raw.rest() == bytes, "{size}");
        sends.join().unwrap();
    }
    assert_eq!(house.counters(|counters| counters.http == 4).refused, 0);
}

#[test]
fn a_service_that_panics_ends_nothing_else() {
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let house = House::with(Host::echo(), |engine| {
        engine.threads(1).http(move |_, read| {
            count.fetch_add(1, Ordering::Relaxed);
            assert!(!read.starts_with(b"GET /panic"));
            async {}
        })
    });
    let mut other = Raw::open(house.address(), "/");
    let mut raw = Raw::connect(house.address());
    raw.send("GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(raw.rest().is_empty());
    other.text("还在");
    assert_eq!((other.next_text().as_str(), called.load(Ordering::Relaxed)), ("还在", 1));
}

#[test]
fn websockets_beside_it_are_not_its() {
    let house = mirror(Host::echo());
    let mut raw = Raw::open(house.address(), "/");
    raw.text("好");
    assert_eq!(raw.next_text(), "好");
    assert_eq!(house.handle().counters().http, 0);
}
