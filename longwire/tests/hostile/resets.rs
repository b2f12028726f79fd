//! Connections that are reset in the middle of anything.

use std::io::ErrorKind;
use std::time::Duration;

use longwire::{AcceptError, Config, ConnectError, Error, Role};
use longwire_proto::frame::OpCode;
use tokio::time::{sleep, timeout};

use crate::attacker::{Attacker, announced};
use crate::support::frames::{close, frame, text};
use crate::support::{REQUEST, accept_of, read_head, response, server_and_socket};
use crate::victim::{End, Habit, Setup, Target, each_target};

/// A reset that was met while reading, or while writing.
pub(crate) fn is_reset(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

async fn in_the_head(attacker: &mut Attacker, target: Target, bytes: usize) {
    match target.role() {
        Role::Server => attacker.write(&REQUEST[..bytes]).await.unwrap(),
        Role::Client => {
            let accept = accept_of(&read_head(&mut attacker.stream).await);
            attacker.write(&response(&accept)[..bytes]).await.unwrap();
        }
    }
}

/// A reset in the opening handshake is an error of the transport, and nobody else's affair.
#[tokio::test]
async fn a_reset_in_the_head() {
    each_target(async |target| {
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        let before = victim.live();
        for bytes in [0, 1, 30, 100] {
            for pause in [0, 20] {
                let mut attacker = victim.attacker().await;
                in_the_head(&mut attacker, target, bytes).await;
                sleep(Duration::from_millis(pause)).await;
                if target == Target::Engine {
                    // It was never open: nobody is told.
                    attacker.stream.set_zero_linger().unwrap();
                    continue;
                }
                match (target, attacker.reset().await) {
                    (Target::Server, End::Accept(AcceptError::Io(error))) if is_reset(&error) => {}
                    (Target::Client, End::Connect(ConnectError::Io(error))) if is_reset(&error) => {}
                    (_, other) => panic!("{bytes} bytes: {other:?}"),
                }
            }
        }
        victim.settled(|live| live < before + 200_000).await;
        assert_eq!(victim.open_ones(), 0);
        friend.goes_on().await;
    })
    .await;
}

/// A reset of an open connection is an error of the transport, wherever it strikes.
#[tokio::test]
async fn a_reset_of_an_open_connection() {
    each_target(async |target| {
        let by_client = target.is_server();
        let announced = |size| announced(target, OpCode::Binary, 60_000, size);
        let rows = [
            ("behind the opening handshake", vec![]),
            ("in a header", announced(0)[..3].to_vec()),
            ("behind a header", announced(0)),
            ("in a payload", announced(100)),
            ("in a large payload", announced(50_000)),
            ("between fragments", frame(by_client, false, OpCode::Text, "你")),
            ("in a Ping", frame(by_client, true, OpCode::Ping, "在吗")[..4].to_vec()),
            ("in a Close frame", close(by_client, 1000, "")[..3].to_vec()),
            ("while it writes", text(by_client, &"长".repeat(20_000)).repeat(100)),
        ];
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        let before = victim.live();
        for (name, bytes) in rows {
            for pause in [0, 20] {
                let mut attacker = victim.narrow_attacker().await;
                // What is echoed and not read stops it; the rest is what is reset.
                let _ = timeout(Duration::from_millis(100), attacker.write(&bytes)).await;
                sleep(Duration::from_millis(pause)).await;
                match attacker.reset().await {
                    End::Open(Err(Error::Io(error))) if is_reset(&error) => {}
                    other => panic!("{target:?}, {name}: {other:?}"),
                }
            }
        }
        victim.settled(|live| live < before + 6_000_000).await;
        friend.goes_on().await;
    })
    .await;
}

/// A reset in the closing handshake: it was completed or it was not, and the end says which.
#[tokio::test]
async fn a_reset_in_the_closing_handshake() {
    each_target(async |target| {
        let by_client = target.is_server();
        let config = |config: Config| config.close_timeout(Duration::from_secs(2));
        for habit in [Habit::Close, Habit::Echo] {
            let victim = Setup::new(target).config(config).habit(habit).start();
            let friend = victim.friend().await;
            let whole = close(by_client, 1001, "再见");
            for (bytes, is_whole) in [(&whole[..0], false), (&whole[..4], false), (&whole, true)] {
                for pause in [0, 20] {
                    let mut attacker = victim.open_attacker().await;
                    attacker.write(bytes).await.unwrap();
                    sleep(Duration::from_millis(pause)).await;
                    match attacker.reset().await {
                        // What came before the reset may have been read or not.
                        End::Open(Ok(closed)) if is_whole => {
                            assert_eq!(u16::from(closed.frame.unwrap().code), 1001);
                        }
                        End::Open(Err(Error::Io(error))) if is_reset(&error) => {}
                        other => panic!("{habit:?}, {} bytes: {other:?}", bytes.len()),
                    }
                }
            }
            friend.goes_on().await;
        }
    })
    .await;
}

/// The system tells of a reset once. If it tells the one who writes, reading sees the end of TCP, and says
/// what it was all the same.
#[tokio::test]
async fn a_reset_that_a_write_has_met_is_told_to_the_reader_too() {
    let (mut ws, socket) = server_and_socket(Config::server()).await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    sleep(Duration::from_millis(50)).await;
    for ended in
        [ws.send("没人").await.map_err(Error::from), ws.recv().await.map(drop), ws.recv().await.map(drop)]
    {
        match ended {
            Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    }
}
