//! How engines shut down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use longwire::Shutdown;
use longwire::engine::Running;
use longwire::{Error, Side};
use tokio::sync::Notify;

use crate::host::{Host, House, closed, wait_for};
use crate::raw::Raw;

fn open(house: &House, count: usize) -> Vec<Raw> {
    (0..count).map(|number| Raw::open(house.address(), &format!("/{number}"))).collect()
}

/// Whether the engine no longer accepts.
fn is_shut(running: &Running) -> bool {
    match std::net::TcpStream::connect(running.local_addr().unwrap()) {
        Err(_) => true,
        // A connection that was not accepted is reset.
        Ok(mut stream) => {
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            !matches!(std::io::Read::read(&mut stream, &mut [0]), Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
        }
    }
}

#[test]
fn everyone_is_told_and_it_ends() {
    for (drain, wanted) in [
        (Shutdown::default(), (1001, "")),
        (Shutdown::new(1012, "重启"), (1012, "重启")),
        (Shutdown::new(1006, "never sent"), (1001, "never sent")),
    ] {
        let house = House::with(Host::new(), |engine| engine.threads(2));
        let mut raws = open(&house, 20);
        // A connection that has not sent a request yet.
        let mut silent = Raw::connect(house.address());
        house.handle().shutdown(drain);
        house.handle().shutdown(Shutdown::new(1000, "too late"));
        for (number, raw) in raws.iter_mut().enumerate() {
            let (code, reason) = raw.answer_close();
            assert_eq!((code, reason.as_str()), wanted);
            let end = closed(house.log.closed(&format!("/{number}")));
            assert_eq!(end, (Side::Us, Some((wanted.0, wanted.1.to_owned()))));
        }
        assert!(silent.rest().is_empty());
        let handle = house.handle();
        house.running.wait().unwrap();
        assert_eq!((handle.counters().open, handle.counters().closed), (0, 20));
    }
}

/// An engine without connections.
#[tokio::test]
async fn an_empty_one_ends() {
    let mut house = House::with(Host::new(), |engine| engine.threads(2));
    house.handle().shutdown(Shutdown::default().spread(Duration::from_secs(3600)));
    house.running.ended().await.unwrap();
    assert!(is_shut(&house.running));
}

#[test]
fn spread_over_its_window() {
    let house = House::new(Host::new());
    let mut raws = open(&house, 20);
    let begun = Instant::now();
    house.handle().shutdown(Shutdown::new(1012, "").spread(Duration::from_secs(2)));
    let mut times = Vec::new();
    for raw in &mut raws {
        assert_eq!(raw.answer_close().0, 1012);
        times.push(begun.elapsed());
    }
    assert!(times[19] >= Duration::from_millis(1500), "{times:?}");
    assert!(times[19] - times[0] >= Duration::from_millis(500), "{times:?}");
    house.running.wait().unwrap();
}

#[test]
fn no_new_ones_and_http_is_waited_for() {
    let release = Arc::new(Notify::new());
    let waits = Arc::clone(&release);
    let house = House::with(Host::new(), |engine| {
        engine.threads(1).http(move |stream, _| {
            let waits = Arc::clone(&waits);
            async move {
                waits.notified().await;
                drop(stream);
            }
        })
    });
    let mut http = Raw::connect(house.address());
    http.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    house.counters(|counters| counters.http == 1);
    let mut raws = open(&house, 3);
    house.handle().shutdown(Shutdown::default().timeout(Duration::MAX));
    for raw in &mut raws {
        assert_eq!(raw.answer_close().0, 1001);
    }
    wait_for(|| is_shut(&house.running).then_some(()), || "it accepts".into());
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    let House { running, .. } = house;
    let waiting = thread::spawn(move || {
        running.wait().unwrap();
        told.store(true, Ordering::SeqCst);
    });
    thread::sleep(Duration::from_millis(300));
    assert!(!ended.load(Ordering::SeqCst), "the request is not done");
    release.notify_one();
    waiting.join().unwrap();
    assert!(http.rest().is_empty());
}

#[test]
fn who_does_not_answer_is_dropped_when_time_is_up() {
    let house =
        House::with(Host::new(), |engine| engine.threads(2).http(async |_, _| std::future::pending().await));
    let mut raws = open(&house, 4);
    let mut http = Raw::connect(house.address());
    http.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    house.counters(|counters| counters.http == 1);
    house.handle().shutdown(Shutdown::default().timeout(Duration::from_millis(300)));
    let House { running, log, .. } = house;
    running.wait().unwrap();
    for (number, raw) in raws.iter_mut().enumerate() {
        assert!(matches!(log.closed(&format!("/{number}")), Err(Error::Io(_))));
        assert_eq!(raw.close_frame().0, 1001);
    }
    assert!(http.rest().is_empty());
}

#[test]
fn stopping_ends_at_once() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    let mut raws = open(&house, 4);
    // Also during a graceful shutdown.
    house.handle().shutdown(Shutdown::default().spread(Duration::from_secs(3600)).timeout(Duration::MAX));
    house.handle().stop();
    house.running.wait().unwrap();
    raws.iter_mut().for_each(|raw| drop(raw.rest()));
}

#[test]
fn dropping_it_stops_it() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    let mut raw = Raw::open(house.address(), "/");
    let House { running, log, .. } = house;
    let address = running.local_addr().unwrap();
    drop(running);
    log.closed("/").unwrap_err();
    assert!(raw.rest().is_empty());
    assert!(std::net::TcpListener::bind(address).is_ok() || std::net::TcpStream::connect(address).is_err());
}
