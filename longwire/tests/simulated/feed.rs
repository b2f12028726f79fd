//! A feed goes on over everything that networks and hosts do, without gap, repetition or disorder.

use std::time::Duration;

use crate::world::{BACKOFF_MAX, OPEN_TIMEOUT, PING_AFTER, PONG_TIMEOUT, SLACK, World};

const SECOND: Duration = Duration::from_secs(1);

/// The words of the client were heard at most once and in order.
fn check_words(heard: &[u64]) {
    assert!(heard.is_sorted_by(|one, other| one < other), "{heard:?}");
}

/// All packets vanish, in both directions: nobody is told.
#[test]
fn a_partition_is_noticed_in_time_and_outlived() {
    let mut world = World::new(1, true);
    world.run(10 * SECOND);
    let before = world.seen.lock().unwrap().next;
    assert!(before > 100, "{before}");
    world.sim.partition("client", "server");
    let cut = world.now();
    let noticed = world.run_to_loss(1) - cut;
    assert!(noticed >= PING_AFTER && noticed <= PING_AFTER + PONG_TIMEOUT + SLACK, "{noticed:?}");
    assert!(
        world.seen.lock().unwrap().lost[0].1.contains("ping timeout"),
        "{:?}",
        world.seen.lock().unwrap().lost
    );
    world.run(20 * SECOND);
    assert_eq!(world.seen.lock().unwrap().opened.len(), 1);
    world.sim.repair("client", "server");
    let repaired = world.now();
    let back = world.run_to_open(2) - repaired;
    assert!(back <= OPEN_TIMEOUT + BACKOFF_MAX + SLACK, "{back:?}");
    world.run(10 * SECOND);
    let seen = world.seen.lock().unwrap();
    assert!(seen.next > before + 100, "{}", seen.next);
    assert_eq!(seen.resumed.len(), 2);
    assert!(seen.resumed[1] >= before, "from where it was: {:?}", seen.resumed);
    check_words(&seen.heard);
}

/// The server dies without a word and starts again.
#[test]
fn a_server_that_restarts() {
    let mut world = World::new(2, true);
    world.run(5 * SECOND);
    for restart in 1..=3 {
        let before = world.seen.lock().unwrap().next;
        world.sim.crash("server");
        let died = world.now();
        let losses = world.seen.lock().unwrap().lost.len();
        let noticed = world.run_to_loss(losses + 1) - died;
        assert!(noticed <= PING_AFTER + PONG_TIMEOUT + SLACK, "{noticed:?}");
        world.run(10 * SECOND);
        world.sim.bounce("server");
        let started = world.now();
        let back = world.run_to_open(restart + 1) - started;
        assert!(back <= OPEN_TIMEOUT + BACKOFF_MAX + SLACK, "{back:?}");
        world.run(5 * SECOND);
        assert!(world.seen.lock().unwrap().next > before + 50);
    }
    check_words(&world.seen.lock().unwrap().heard);
}

/// A link on which the opening handshake takes longer than is waited for, and then one on which it does not.
#[test]
fn a_slow_opening_handshake() {
    let mut world = World::new(3, true);
    world.sim.set_link_latency("client", "server", 2 * SECOND);
    world.run(30 * SECOND);
    {
        let seen = world.seen.lock().unwrap();
        assert!(seen.opened.is_empty(), "{:?}", seen.opened);
        assert!(
            seen.lost.len() > 3 && seen.lost.iter().all(|(_, why)| why.contains("in time")),
            "{:?}",
            seen.lost
        );
    }
    world.sim.set_link_latency("client", "server", Duration::from_millis(600));
    world.run_to_open(1);
    world.run(20 * SECOND);
    let seen = world.seen.lock().unwrap();
    assert_eq!(seen.opened.len(), 1, "slow is not lost: {:?}", seen.lost);
    assert!(seen.next > 300, "{}", seen.next);
    check_words(&seen.heard);
}

/// Whatever happens, whenever: for many seeds.
#[test]
fn trouble_at_random() {
    for seed in 1..=8_u64 {
        let mut world = World::new(seed, true);
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..8 {
            world.run(Duration::from_millis(random(8000)));
            let outage = Duration::from_millis(random(12_000));
            match random(5) {
                0 => world.sim.partition("client", "server"),
                1 => world.sim.partition_oneway("client", "server"),
                2 => world.sim.partition_oneway("server", "client"),
                3 => world.sim.hold("client", "server"),
                _ => {
                    world.sim.crash("server");
                    world.run(outage);
                    world.sim.bounce("server");
                    continue;
                }
            }
            world.run(outage);
            world.sim.release("client", "server");
            world.sim.repair("client", "server");
        }
        let before = world.seen.lock().unwrap().next;
        world.run(60 * SECOND);
        let seen = world.seen.lock().unwrap();
        assert!(seen.next > before + 500, "seed {seed}: it has recovered: {seen:?}");
        assert!(seen.heard.len() > 100, "seed {seed}");
        check_words(&seen.heard);
    }
}
