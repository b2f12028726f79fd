//! TLS: peers that break it or are slow, the memory of idle connections, and certificates that are reloaded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use longwire::engine::{Conn, Engine, Handler, MessageRef};
use longwire::http::{HeaderMap, Request};
use longwire::tls::{Secured, ServerTls};
use longwire::{Acceptor, Config, Error, Refusal};
use longwire_proto::frame::OpCode;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bridge::{IDENTITY, Identity, localhost};
use crate::counting::Account;
use crate::host::{Host, House, PATIENCE, wait_for};
use crate::raw::{Raw, request};
use crate::support::frames::{frame, text};

type Client = StreamOwned<ClientConnection, TcpStream>;

/// The engine's own address, without the bridge.
fn address(house: &House) -> SocketAddr {
    house.running.local_addr().unwrap()
}

fn dial(address: SocketAddr, config: ClientConfig) -> Client {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), localhost()).unwrap(), stream)
}

/// A WebSocket over TLS.
fn open(address: SocketAddr, path: &str) -> Client {
    let mut client = dial(address, IDENTITY.client());
    client.write_all(request(path, "").as_bytes()).unwrap();
    let head = read_until(&mut client, b"\r\n\r\n");
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&head));
    client
}

fn read_until(client: &mut Client, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(end) {
        client.read_exact(&mut byte).unwrap();
        read.push(byte[0]);
    }
    read
}

/// Reads until the connection ends, however it does.
fn rest(client: &mut Client) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    rest
}

fn echo(client: &mut Client, message: &str) {
    client.write_all(&text(true, message)).unwrap();
    let mut frame = vec![0; text(false, message).len()];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(frame, text(false, message));
}

/// Resets the connection.
fn reset(client: &Client) {
    rustix::net::sockopt::set_socket_linger(&client.sock, Some(Duration::ZERO)).unwrap();
}

#[test]
fn what_is_no_tls_is_ended_at_once() {
    let house = House::new(Host::echo());
    let mut other = open(address(&house), "/other");
    for bytes in [
        request("/", "").into_bytes(),
        vec![0; 100_000],
        vec![0xFF; 5],
        b"\x16\x03\x01\xFF\xFF".repeat(1000),
        b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
    ] {
        let mut raw = Raw::connect(address(&house));
        // The connection may end while the client still writes.
        let _ = raw.stream.write_all(&bytes);
        let rest = raw.rest();
        assert!(rest.len() < 100, "an alert at most: {rest:?}");
    }
    assert_eq!(house.counters(|counters| counters.tls_failed == 5 && counters.opening == 0).opened, 1);
    echo(&mut other, "还在");
}

#[test]
fn who_dawdles_in_the_handshake_is_dropped() {
    let acceptor = Acceptor::new().handshake_timeout(Duration::from_millis(300));
    let house = House::with(Host::echo(), |engine| engine.threads(1).acceptor(acceptor));
    // A ClientHello without its end, one byte of it, nothing, the beginning of an alert, and no request.
    let mut hello = Vec::new();
    let mut connection = ClientConnection::new(Arc::new(IDENTITY.client()), localhost()).unwrap();
    connection.write_tls(&mut hello).unwrap();
    for bytes in [&hello[..hello.len() - 1], &hello[..1], &[], b"\x15\x03\x01\x00\x02\x01\x00"] {
        let mut raw = Raw::connect(address(&house));
        raw.send(bytes);
        assert!(raw.rest().is_empty());
    }
    assert_eq!(house.counters(|counters| counters.tls_failed == 4).refused, 0);
    let mut silent = dial(address(&house), IDENTITY.client());
    silent.conn.complete_io(&mut silent.sock).unwrap();
    assert!(rest(&mut silent).is_empty());
    house.counters(|counters| counters.refused == 1 && counters.opening == 0);
}

#[test]
fn a_byte_in_each_record() {
    let house = House::new(Host::echo());
    let mut other = open(address(&house), "/other");
    let mut client = open(address(&house), "/");
    let message = "多".repeat(3000);
    let mut sealed = Vec::new();
    for byte in text(true, &message) {
        client.conn.writer().write_all(&[byte]).unwrap();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut sealed).unwrap();
        }
    }
    assert!(sealed.len() > 9000 * 20);
    client.sock.write_all(&sealed).unwrap();
    echo(&mut other, "还在");
    let mut frame = vec![0; text(false, &message).len()];
    client.read_exact(&mut frame).unwrap();
    assert!(frame == text(false, &message));
}

#[test]
fn a_flood_of_key_updates_ends_it() {
    let house = House::new(Host::echo());
    let mut other = open(address(&house), "/other");
    // A few are allowed.
    let mut client = open(address(&house), "/good");
    for _ in 0..100 {
        client.conn.refresh_traffic_keys().unwrap();
        echo(&mut client, "换");
    }
    let mut client = open(address(&house), "/flood");
    for _ in 0..10_000 {
        client.conn.refresh_traffic_keys().unwrap();
        if client.conn.write_tls(&mut client.sock).is_err() {
            break;
        }
    }
    let error = house.log.closed("/flood").unwrap_err();
    let is_invalid = |error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData;
    assert!(matches!(&error, Error::Io(error) if is_invalid(error)), "{error:?}");
    echo(&mut other, "还在");
}

#[test]
fn a_record_that_was_changed_ends_it() {
    let house = House::new(Host::echo());
    let mut client = open(address(&house), "/");
    echo(&mut client, "好");
    // Messages in front of it are processed, also in the same read.
    client.conn.writer().write_all(&text(true, "前")).unwrap();
    let mut bytes = Vec::new();
    client.conn.write_tls(&mut bytes).unwrap();
    bytes.extend_from_slice(b"\x17\x03\x03\x00\x20not what was sealed by the client!");
    client.sock.write_all(&bytes).unwrap();
    let error = house.log.closed("/").unwrap_err();
    assert!(matches!(&error, Error::Io(error) if error.to_string().contains("decrypt")), "{error:?}");
    assert_eq!(house.log.names("/"), ["request", "opened", "message", "message", "closed"]);
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert_eq!(house.counters(|counters| counters.open == 0).lost, 1);
}

#[test]
fn ends_of_every_kind() {
    let house = House::new(Host::echo());
    // TLS ends, and TCP does not.
    let mut client = open(address(&house), "/notify");
    client.write_all(&text(true, "末")).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert!(matches!(house.log.closed("/notify"), Err(Error::Eof)));
    // The engine does the same.
    let mut came = Vec::new();
    client.read_to_end(&mut came).expect("close_notify, not just the end of TCP");
    assert_eq!(came, text(false, "末"));
    // TCP ends without close_notify.
    let client = open(address(&house), "/eof");
    client.sock.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(matches!(house.log.closed("/eof"), Err(Error::Eof)));
    let mut client = open(address(&house), "/reset");
    client.write_all(&frame(true, true, OpCode::Binary, [0; 100_000])[..50_000]).unwrap();
    reset(&client);
    drop(client);
    let error = house.log.closed("/reset").unwrap_err();
    assert!(
        matches!(&error, Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
}

/// A client that never reads: the encrypted bytes that wait are bounded, and the write timeout holds for the last of them.
#[test]
fn sealed_bytes_that_nobody_takes_end_with_the_write_timeout() {
    let config = Config::server().ping_after(None).write_timeout(Duration::from_millis(300));
    let house = House::of(Host::new(), config.write_buffer(64 * 1024 * 1024));
    let mut client = open(address(&house), "/");
    client.write_all(&text(true, "flood 200 100000")).unwrap();
    assert!(matches!(house.log.closed("/"), Err(Error::WriteTimeout)));
}

#[test]
fn clients_of_mutual_tls_are_known() {
    let (ours, theirs, foreign) = (Identity::new(), Identity::new(), Identity::new());
    let tls = ours.server().client_roots(&theirs.certificate).unwrap();
    let seen: Arc<Mutex<Vec<Secured>>> = Arc::default();
    let sees = Arc::clone(&seen);
    let mut host = Host::echo();
    host.on_request = Box::new(move |request, _| {
        sees.lock().unwrap().extend(request.extensions().get::<Secured>().cloned());
        Ok(())
    });
    let running = Engine::new(host).threads(1).tls(tls).listen("127.0.0.1:0").unwrap();
    let connect = |identity: Option<&Identity>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ours.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match identity {
            Some(identity) => {
                let key = rustls::pki_types::PrivateKeyDer::Pkcs8(
                    rcgen::KeyPair::from_pem(&identity.key).unwrap().serialize_der().into(),
                );
                builder.with_client_auth_cert(vec![identity.der.clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let mut client = dial(running.local_addr().unwrap(), config);
        client.write_all(request("/", "").as_bytes())?;
        let mut head = [0; 12];
        client.read_exact(&mut head)?;
        assert_eq!(&head, b"HTTP/1.1 101");
        Ok::<_, std::io::Error>(())
    };
    connect(None).unwrap_err();
    connect(Some(&foreign)).unwrap_err();
    connect(Some(&theirs)).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].certificate.as_deref(), Some(&theirs.der[..]));
    assert_eq!(seen[0].server_name.as_deref(), Some("localhost"));
}

/// Clients connect without pause while the certificate is reloaded repeatedly: each sees the old one or the new one.
#[test]
fn reloading_under_load() {
    let (one, two) = (Identity::new(), Identity::new());
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("链.pem"), directory.path().join("key.pem"));
    let write = |identity: &Identity| {
        std::fs::write(&chain, &identity.certificate).unwrap();
        std::fs::write(&key, &identity.key).unwrap();
    };
    write(&one);
    let tls = ServerTls::from_files(&chain, &key).unwrap();
    let running = Engine::new(Host::echo()).threads(2).tls(tls.clone()).listen("127.0.0.1:0").unwrap();
    let address = running.local_addr().unwrap();
    let mut first = dial(address, one.client());
    first.write_all(request("/first", "").as_bytes()).unwrap();
    read_until(&mut first, b"\r\n\r\n");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(one.der.clone()).unwrap();
    roots.add(two.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let either = builder.with_root_certificates(roots).with_no_client_auth();
    let over = AtomicBool::new(false);
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let mut either = either.clone();
                    // A resumed session shows no certificate.
                    either.resumption = rustls::client::Resumption::disabled();
                    let mut client = dial(address, either);
                    client.write_all(request("/", "").as_bytes()).unwrap();
                    read_until(&mut client, b"\r\n\r\n");
                    echo(&mut client, "好");
                    let shown = client.conn.peer_certificates().unwrap()[0].clone();
                    let at = if shown == one.der { 0 } else { 1 };
                    assert!(at == 0 || shown == two.der);
                    seen[at].fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 1.. {
            write(if round % 2 == 0 { &one } else { &two });
            tls.reload().unwrap();
            // An invalid certificate leaves the old one in place.
            std::fs::write(&chain, "-----BEGIN CERTIFICATE-----\n坏").unwrap();
            tls.reload().unwrap_err();
            let counts = [&seen[0], &seen[1]].map(|seen| seen.load(Ordering::SeqCst));
            if round > 20 && counts.iter().all(|count| *count > 10) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::SeqCst);
    });
    echo(&mut first, "旧的还在");
}

#[test]
fn http2_goes_to_the_service_at_once() {
    let service = |mut stream: longwire::engine::HttpStream, read: bytes::Bytes| async move {
        let said = format!("{} {} {}", stream.is_tls(), stream.is_http2(), read.len());
        stream.write_all(said.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read(&mut [0; 100]).await;
    };
    let tls = IDENTITY.server().http2(true);
    let engine = Engine::new(Host::echo()).threads(1).tls(tls).http(service);
    let running = engine.listen("127.0.0.1:0").unwrap();
    let said = |alpn: &[&[u8]], bytes: &[u8]| {
        let mut config = IDENTITY.client();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut client = dial(running.local_addr().unwrap(), config);
        client.write_all(bytes).unwrap();
        String::from_utf8(rest(&mut client)).unwrap()
    };
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(said(&[b"http/1.1", b"h2"], b""), "true true 0");
    assert_eq!(said(&[b"http/1.1"], get), format!("true false {}", get.len()));
    assert_eq!(said(&[], get), format!("true false {}", get.len()));
    wait_for(|| (running.handle().counters().http == 3).then_some(()), || "counted".into());
}

/// A handler without memory of its own, which records the loop's thread.
struct Quiet(Arc<OnceLock<&'static Account>>);

impl Handler for Quiet {
    type State = ();

    fn on_request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        self.0.get_or_init(Account::of_this_thread);
        Ok(())
    }

    fn message(&self, conn: &mut Conn<'_>, (): &mut (), message: MessageRef<'_>) {
        let _ = conn.send(message);
    }
}

/// What an idle connection may hold: rustls's state, a read buffer of 4 KiB, and the loop's part.
const IDLE_MAX: isize = 9_000;

/// What a wave of connections leaves: chunks, pools, and the sessions that can be resumed.
const LEFT_MAX: isize = 1_500_000;

#[test]
fn what_an_idle_connection_holds() {
    const COUNT: usize = 200;
    let account = Arc::new(OnceLock::new());
    let engine = Engine::new(Quiet(Arc::clone(&account))).threads(1).tls(IDENTITY.server());
    let engine = engine.acceptor(Acceptor::new().config(Config::server().ping_after(None)));
    let running = engine.listen("127.0.0.1:0").unwrap();
    let settled = |open: u64| {
        let counters = || running.handle().counters();
        wait_for(|| (counters().open == open && counters().opening == 0).then_some(()), || "open".into());
    };
    // After it everything that a wave leaves is there.
    drop((0..COUNT).map(|_| open(running.local_addr().unwrap(), "/")).collect::<Vec<_>>());
    settled(0);
    let account = *account.get().unwrap();
    let before = account.live();
    let mut clients: Vec<Client> = (0..COUNT).map(|_| open(running.local_addr().unwrap(), "/")).collect();
    settled(COUNT as u64);
    let each = |account: &Account| (account.live() - before) / COUNT as isize;
    let fresh = each(account);
    for client in &mut clients {
        echo(client, &"你好".repeat(10_000));
        echo(client, "静");
    }
    let used = each(account);
    println!("an idle connection in TLS holds {fresh} B, and {used} B when it has been used");
    assert!(fresh < IDLE_MAX && used < IDLE_MAX, "{fresh} B, {used} B");
    drop(clients);
    settled(0);
    wait_for(
        || (account.live() < before + LEFT_MAX).then_some(()),
        || format!("{} B are left", account.live() - before),
    );
}

/// Handshakes that stop hold little, and time out.
#[test]
fn what_a_crowd_holds_that_says_nothing() {
    const COUNT: usize = 200;
    let account = Arc::new(OnceLock::new());
    let engine = Engine::new(Quiet(Arc::clone(&account))).threads(1).tls(IDENTITY.server());
    let engine = engine.acceptor(Acceptor::new().handshake_timeout(Duration::from_secs(6)));
    let running = engine.listen("127.0.0.1:0").unwrap();
    drop(open(running.local_addr().unwrap(), "/"));
    let counters = || running.handle().counters();
    wait_for(|| (counters().open == 0 && counters().opened == 1).then_some(()), || "gone".into());
    let account = *account.get().unwrap();
    let before = account.live();
    let mut crowd: Vec<Raw> = (0..COUNT).map(|_| Raw::connect(running.local_addr().unwrap())).collect();
    wait_for(|| (counters().opening == COUNT as u64).then_some(()), || format!("{:?}", counters()));
    let silent = (account.live() - before) / COUNT as isize;
    // They begin a message of 64 KiB, in records of 16 KiB, and do not finish it.
    for raw in &mut crowd {
        raw.send(b"\x16\x03\x01\x40\x00\x01\x00\xff\x00");
        raw.send([0; 16 * 1024 - 4]);
        raw.send(b"\x16\x03\x01\x40\x00");
        raw.send([0; 16_000]);
    }
    thread::sleep(Duration::from_millis(500));
    let begun = (account.live() - before) / COUNT as isize;
    println!(
        "a handshake holds {silent} B of one who says nothing, and {begun} B of one who does not come to an end"
    );
    assert!(silent < 20_000 && begun < 20_000 + 64 * 1024, "{silent} B, {begun} B");
    wait_for(
        || (counters().tls_failed == COUNT as u64 && counters().opening == 0).then_some(()),
        || format!("{:?}", counters()),
    );
    wait_for(
        || (account.live() < before + LEFT_MAX).then_some(()),
        || format!("{} B are left", account.live() - before),
    );
}

#[test]
fn what_a_half_received_message_holds() {
    const COUNT: usize = 50;
    let account = Arc::new(OnceLock::new());
    let engine = Engine::new(Quiet(Arc::clone(&account))).threads(1).tls(IDENTITY.server());
    let running = engine.listen("127.0.0.1:0").unwrap();
    drop(open(running.local_addr().unwrap(), "/"));
    let account = *wait_for(|| account.get(), || "opened".into());
    let before = account.live();
    let message = frame(true, true, OpCode::Binary, [0; 1_000_000]);
    let mut clients: Vec<Client> = (0..COUNT).map(|_| open(running.local_addr().unwrap(), "/")).collect();
    for client in &mut clients {
        client.write_all(&message[..10_000]).unwrap();
        // Half a record behind it.
        client.conn.writer().write_all(&message[10_000..26_000]).unwrap();
        let mut sealed = Vec::new();
        client.conn.write_tls(&mut sealed).unwrap();
        client.sock.write_all(&sealed[..sealed.len() - 1]).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    let each = (account.live() - before) / COUNT as isize;
    assert!(each < IDLE_MAX + 2 * 10_000 + 2 * 18_000, "{each} B");
}
