//! Thousands of connections that say nothing.

use std::time::Duration;

use longwire::{AcceptError, Config, ConnectError, Error};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use crate::victim::{End, Setup, Target, Victim};

/// Connections to the server, and then those of the client, to as many servers.
const CROWD: usize = 5_000;

/// What one may cost, its task and its place in the runtime included: before the opening handshake, and
/// behind it.
const BEFORE_MAX: isize = 5_000;
const BEHIND_MAX: isize = 3_000;

/// Only one of the tests that open very many connections runs at a time, where they share a process.
static CROWDS: Mutex<()> = Mutex::const_new(());

/// Raises the limit of open files as far as it may be. So many connections have to fit into it, with both
/// their ends, beside what the other tests of this process have open.
pub(crate) async fn crowd(count: usize) -> MutexGuard<'static, ()> {
    let alone = CROWDS.lock().await;
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = if raised.is_ok() { limit.maximum } else { limit.current };
    let needed = 2 * count as u64 + 2_000;
    assert!(
        files.is_none_or(|files| files >= needed),
        "{files:?} files may be open, a crowd of {count} needs {needed}: raise the hard limit (ulimit -Hn)"
    );
    alone
}

/// SECURITY.md: an opening handshake ends. A connection that has said nothing costs little until then, and
/// others are served meanwhile.
#[tokio::test]
async fn a_crowd_that_never_shakes_hands_is_cheap_and_is_dropped() {
    let _alone = crowd(CROWD).await;
    for target in [Target::Server, Target::Client, Target::Engine] {
        let victim = Setup::new(target).handshake_timeout(Duration::from_secs(4)).start();
        let old = victim.friend().await;
        let before = victim.live();
        let mut attackers = Vec::with_capacity(CROWD);
        for _ in 0..CROWD {
            attackers.push(victim.attacker().await);
        }
        let (each, open) = held(&victim, before).await;
        assert!(each < BEFORE_MAX, "{target:?}: {each} B each of {open}");
        let new = victim.friend().await;
        for mut attacker in attackers {
            if target == Target::Engine {
                // Who has said nothing is told nothing.
                assert!(attacker.read_to_end().await.is_empty());
                continue;
            }
            match (target, attacker.end().await) {
                (Target::Server, End::Accept(AcceptError::Timeout)) => {}
                (Target::Client, End::Connect(ConnectError::Timeout(longwire::Phase::Handshake))) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
        if target == Target::Engine {
            victim.has_refused(CROWD as u64).await;
        }
        given_back(&victim, before).await;
        old.goes_on().await;
        new.goes_on().await;
    }
}

/// SECURITY.md: a peer that is silent is dropped. An idle connection costs little until then, and others
/// are served meanwhile.
#[tokio::test]
async fn a_crowd_that_is_silent_is_cheap_and_is_dropped() {
    let _alone = crowd(CROWD).await;
    for target in [Target::Server, Target::Client, Target::Engine] {
        let config = |config: Config| {
            config.ping_after(Some(Duration::from_secs(10))).pong_timeout(Duration::from_millis(300))
        };
        let victim = Setup::new(target).config(config).start();
        let old = victim.friend().await;
        let before = victim.live();
        let mut attackers = Vec::with_capacity(CROWD);
        for _ in 0..CROWD {
            attackers.push(victim.open_attacker().await);
        }
        let (each, open) = held(&victim, before).await;
        assert!(each < BEHIND_MAX, "{target:?}: {each} B each of {open}");
        let new = victim.friend().await;
        for attacker in attackers {
            let end = attacker.end().await;
            assert!(matches!(end, End::Open(Err(Error::PingTimeout))), "{end:?}");
        }
        given_back(&victim, before).await;
        old.goes_on().await;
        new.goes_on().await;
    }
}

/// Bytes for each connection of the crowd that is open, and how many those are.
async fn held(victim: &Victim, before: isize) -> (isize, usize) {
    // The last ones may still be on their way.
    sleep(Duration::from_millis(100)).await;
    let open = match victim.target {
        Target::Engine if victim.open_ones() == 0 => CROWD - victim.counters().refused as usize,
        _ => victim.open_ones(),
    };
    let live = victim.live();
    assert!(open > CROWD / 2, "all but {open} are gone before they can be counted");
    ((live - before) / open as isize, open)
}

/// All is given back but what the runtime keeps for each connection that it ever had at one time.
async fn given_back(victim: &Victim, before: isize) {
    let kept = victim.settled(|_| true).await - before;
    assert!(kept < 200_000 + 500 * CROWD as isize, "{kept} B");
}
