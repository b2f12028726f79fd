//! Peers that are half gone: what keepalive sees, at which end, and when.

use std::time::Duration;

use crate::world::{PING_AFTER, PONG_TIMEOUT, SLACK, World};

const SECOND: Duration = Duration::from_secs(1);

/// Where nobody says anything, Pings alone keep a connection for as long as it is wanted.
#[test]
fn silence_is_no_loss() {
    let mut world = World::new(1, false);
    world.run(300 * SECOND);
    let seen = world.seen.lock().unwrap();
    assert_eq!((seen.opened.len(), seen.lost.len(), seen.server_lost.len()), (1, 0, 0), "{seen:?}");
}

/// Packets of the server's vanish: the client hears nothing, and the server hears Pings that it answers in vain.
#[test]
fn the_client_notices_a_server_that_it_cannot_hear() {
    let mut world = World::new(2, false);
    world.run(60 * SECOND);
    world.sim.partition_oneway("server", "client");
    let cut = world.now();
    let noticed = world.run_to_loss(1) - cut;
    // The silence may have begun before.
    assert!(noticed >= PONG_TIMEOUT && noticed <= PING_AFTER + PONG_TIMEOUT + SLACK, "{noticed:?}");
}

/// Packets of the client's vanish: the server notices, and its end of the connection reaches the client,
/// which hears news all the time.
#[test]
fn the_server_notices_a_client_that_it_cannot_hear() {
    let mut world = World::new(3, true);
    world.run(10 * SECOND);
    world.sim.partition_oneway("client", "server");
    let cut = world.now();
    while world.seen.lock().unwrap().server_lost.is_empty() {
        assert!(world.now() < cut + 60 * SECOND, "it is never noticed");
        world.run(Duration::from_millis(5));
    }
    let noticed = world.now() - cut;
    assert!(noticed >= PONG_TIMEOUT && noticed <= PING_AFTER + PONG_TIMEOUT + SLACK, "{noticed:?}");
    assert!(world.seen.lock().unwrap().server_lost[0].1.contains("ping timeout"));
    // The client is told, or notices the silence.
    let told = world.run_to_loss(1) - cut - noticed;
    assert!(told <= PING_AFTER + PONG_TIMEOUT + SLACK, "{told:?}");
    world.sim.repair("client", "server");
    world.run_to_open(2);
}

/// Packets that are late, but less than patience lasts, are no loss.
#[test]
fn late_is_not_lost() {
    let mut world = World::new(4, true);
    world.run(10 * SECOND);
    world.sim.hold("client", "server");
    world.run(PING_AFTER + PONG_TIMEOUT - SECOND);
    world.sim.release("client", "server");
    world.run(20 * SECOND);
    let seen = world.seen.lock().unwrap();
    assert_eq!((seen.opened.len(), seen.lost.len()), (1, 0), "{seen:?}");
    assert!(seen.next > 500, "{}", seen.next);
}
