//! The asynchronous request hook, and the limit of connections.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longwire::Shutdown;
use longwire::engine::Engine;
use longwire::http::{Extensions, Request, StatusCode};
use longwire::{Acceptor, Refusal, TrustedProxies};
use tokio::sync::Semaphore;

use crate::host::{Host, House, wait_for};
use crate::raw::{Raw, request};
use crate::support::frames::text;

/// The user, as the hook says.
#[derive(Clone)]
struct User(String);

/// A hook that decides when the test lets it.
#[derive(Clone)]
struct Oracle {
    may_answer: Arc<Semaphore>,
    asked: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
}

/// Counts the futures of the hook that were dropped.
struct Asked(Arc<AtomicUsize>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Oracle {
    fn new() -> Self {
        Self { may_answer: Arc::new(Semaphore::new(0)), asked: Arc::default(), left: Arc::default() }
    }

    async fn ask(self, request: Request<()>) -> Result<Extensions, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let asked = Asked(Arc::clone(&self.left));
        self.may_answer.acquire().await.unwrap().forget();
        std::mem::forget(asked);
        match request.uri().path() {
            "/no" => Err(Refusal::new(StatusCode::UNAUTHORIZED, "你是谁")),
            "/panic" => panic!("as was asked for"),
            path => {
                let mut extensions = Extensions::new();
                extensions.insert(User(format!("用户{path}")));
                Ok(extensions)
            }
        }
    }

    /// Starts an engine with this hook.
    fn house(&self, timeout: Duration, set: impl FnOnce(Engine<Host>) -> Engine<Host>) -> House {
        let mut host = Host::echo();
        host.on_request = Box::new(|request, headers| {
            let User(name) = request.extensions().get().expect("it was asked");
            headers.insert("x-user", name.len().to_string().parse().unwrap());
            Ok(())
        });
        let oracle = self.clone();
        House::with(host, |engine| {
            let acceptor = Acceptor::new().handshake_timeout(timeout);
            set(engine
                .threads(1)
                .acceptor(acceptor)
                .on_request(move |request, _| oracle.clone().ask(request)))
        })
    }

    fn wait_asked(&self, count: usize) {
        let asked = || self.asked.load(Ordering::SeqCst);
        wait_for(|| (asked() == count).then_some(()), || format!("{} were asked", asked()));
    }
}

const LONG: Duration = Duration::from_secs(60);

fn answered(raw: &mut Raw) -> String {
    let head = raw.head();
    head.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn it_is_waited_for_and_others_are_not() {
    let oracle = Oracle::new();
    let house = oracle.house(LONG, |engine| engine);
    let mut first = Raw::connect(house.address());
    // Frames behind the request wait too.
    first.send([request("/first", "").into_bytes(), text(true, "早")].concat());
    oracle.wait_asked(1);
    assert!(house.log.of("/first").is_empty(), "nobody was called");
    let mut no = Raw::connect(house.address());
    no.send(request("/no", ""));
    oracle.wait_asked(2);
    // The hook is not called for an invalid request.
    let mut bad = Raw::connect(house.address());
    bad.send(request("/bad", "Origin: https://evil.example\r\n"));
    assert_eq!(answered(&mut bad), "HTTP/1.1 403 Forbidden");
    first.send(text(true, "晚"));
    oracle.may_answer.add_permits(2);
    let head = first.head();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("x-user: 12"), "{head}");
    assert_eq!((first.next_text(), first.next_text()), ("早".into(), "晚".into()));
    let no = String::from_utf8(no.rest()).unwrap();
    assert!(no.starts_with("HTTP/1.1 401 ") && no.ends_with("你是谁"), "{no}");
    assert_eq!(oracle.asked.load(Ordering::SeqCst), 2);
    assert_eq!(house.counters(|counters| counters.opening == 0 && counters.refused == 2).opened, 1);
}

#[test]
fn a_verdict_that_does_not_come_is_503() {
    let oracle = Oracle::new();
    let house = oracle.house(Duration::from_millis(300), |engine| engine);
    let mut raw = Raw::connect(house.address());
    raw.send(request("/", ""));
    let answer = String::from_utf8(raw.rest()).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.to_lowercase().contains("retry-after: 1\r\n"),
        "{answer}"
    );
    assert_eq!(oracle.left.load(Ordering::SeqCst), 1);
}

#[test]
fn a_client_that_leaves_is_not_asked_about_any_more() {
    let oracle = Oracle::new();
    let house = oracle.house(LONG, |engine| engine);
    for number in 1..=3 {
        let mut raw = Raw::connect(house.address());
        raw.send(request("/", ""));
        oracle.wait_asked(number);
        match number {
            1 => drop(raw),
            2 => raw.reset(),
            _ => {
                raw.end();
                assert!(raw.rest().is_empty());
            }
        }
        let left = || oracle.left.load(Ordering::SeqCst);
        wait_for(|| (left() == number).then_some(()), || format!("{} are not asked about", left()));
    }
    assert_eq!(house.counters(|counters| counters.opening == 0).opened, 0);
}

#[test]
fn what_comes_meanwhile_is_bounded_and_not_lost() {
    let oracle = Oracle::new();
    let house = oracle.house(LONG, |engine| engine);
    let mut raw = Raw::connect(house.address());
    raw.send(request("/", ""));
    oracle.wait_asked(1);
    raw.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let message = text(true, &"多".repeat(3000));
    let mut written = 0;
    while let Ok(count) = raw.stream.write(&message[written % message.len()..]) {
        written += count;
        assert!(written < 256 * 1024 * 1024, "it reads on and on");
    }
    raw.stream.set_write_timeout(None).unwrap();
    oracle.may_answer.add_permits(1);
    assert_eq!(answered(&mut raw), "HTTP/1.1 101 Switching Protocols");
    let left = message[written % message.len()..].to_vec();
    let count = written.div_ceil(message.len());
    let mut writer = Raw { stream: raw.stream.try_clone().unwrap(), read: Vec::new() };
    let sends =
        std::thread::spawn(move || writer.send(if left.len() == message.len() { Vec::new() } else { left }));
    for _ in 0..count {
        assert_eq!(raw.next_text().len(), 9000);
    }
    sends.join().unwrap();
}

#[test]
fn a_question_that_panics_ends_only_itself() {
    let oracle = Oracle::new();
    let house = oracle.house(LONG, |engine| engine);
    oracle.may_answer.add_permits(2);
    let mut raw = Raw::connect(house.address());
    raw.send(request("/panic", ""));
    assert!(raw.rest().is_empty());
    Raw::open(house.address(), "/other").close();
    house.counters(|counters| counters.opening == 0);
}

#[test]
fn who_waits_is_not_waited_for_at_the_end() {
    let oracle = Oracle::new();
    let house = oracle.house(LONG, |engine| engine);
    let mut raw = Raw::connect(house.address());
    raw.send(request("/", ""));
    oracle.wait_asked(1);
    house.handle().shutdown(Shutdown::default().timeout(Duration::MAX));
    assert!(raw.rest().is_empty());
    let House { running, .. } = house;
    running.wait().unwrap();
    assert_eq!(oracle.left.load(Ordering::SeqCst), 1);
}

#[test]
fn as_many_as_there_may_be() {
    let house = House::with(Host::new(), |engine| engine.threads(2).max_connections(3));
    for round in 0..3 {
        let raws: Vec<Raw> = (0..3).map(|_| Raw::open(house.address(), "/")).collect();
        let mut more = Raw::connect(house.address());
        more.send(request("/more", ""));
        let answer = String::from_utf8(more.rest()).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.to_lowercase().contains("retry-after: 10\r\n"),
            "{answer}"
        );
        assert!(house.log.of("/more").is_empty(), "the application is not asked");
        for (at, raw) in raws.into_iter().enumerate() {
            if at % 2 == 0 { raw.close() } else { raw.reset() }
        }
        house.counters(|counters| counters.open == 0 && counters.refused == round + 1);
    }
}

/// A client that the application rejects does not count against the limit.
#[test]
fn refusals_take_no_room() {
    let mut host = Host::new();
    host.on_request = Box::new(|request, _| match request.uri().path() {
        "/no" => Err(Refusal::new(StatusCode::FORBIDDEN, "")),
        "/panic" => panic!("as was asked for"),
        _ => Ok(()),
    });
    let house = House::with(host, |engine| engine.threads(1).max_connections(1));
    for path in ["/no", "/panic", "/no"] {
        let mut raw = Raw::connect(house.address());
        raw.send(request(path, ""));
        let status = answered(&mut raw);
        assert!(!status.contains("503"), "{path}: {status}");
    }
    Raw::open(house.address(), "/").close();
}

#[test]
fn clients_behind_proxies_are_known_by_their_address() {
    let proxies = TrustedProxies::new(["127.0.0.0/8"]).unwrap();
    let mut host = Host::new();
    host.on_opened = Box::new(|conn, _, opening| {
        let forwarded = opening.request().extensions().get::<longwire::Forwarded>().unwrap();
        let host = opening.request().headers()["host"].to_str().unwrap().to_owned();
        let _ = conn.send(format!("{} {host} {:?}", forwarded.client, forwarded.secure));
    });
    let house = House::with(host, |engine| engine.threads(1).trusted_proxies(proxies));
    let headers =
        "X-Forwarded-For: 6.6.6.6, 127.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: 例.example\r\n";
    let mut raw = Raw::connect(house.address());
    raw.send(request("/", headers));
    // This is not ASCII and so no host: all of it is ignored.
    assert_eq!(answered(&mut raw), "HTTP/1.1 400 Bad Request");
    let headers = headers.replace("例", "chat");
    // The application of the tests accepts only clients of this machine, and panics otherwise.
    let mut raw = Raw::connect(house.address());
    raw.send(request("/", &headers));
    assert_eq!(answered(&mut raw), "HTTP/1.1 500 Internal Server Error");
    let headers = headers.replace("6.6.6.6", "127.0.0.9:99");
    let (mut raw, _) =
        Raw::open_with(house.address(), "/", &format!("{headers}Origin: https://chat.example\r\n"));
    assert_eq!(raw.next_text(), "127.0.0.9:99 chat.example Some(true)");
}
