//! Presence: applying the reported changes yields the state that queries return.

use std::collections::BTreeSet;

use longwire_server::hub::{
    ChannelOptions, Counts, Hub, Members, Presence, PresenceChange, Subscription, Time, User,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{at, hub, name};

const MOST: usize = 3;

fn with(presence: Presence) -> Hub {
    hub(ChannelOptions { presence, ..ChannelOptions::default() })
}

fn user(n: impl std::fmt::Display) -> User {
    User::new(&format!("用户 {n}")).expect("a user")
}

fn join(hub: &Hub, user: Option<User>) -> Subscription {
    hub.subscribe(&name("room"), user, None, at(0), |_| ()).expect("subscribed").0
}

fn take_changes(hub: &Hub, now: Time) -> Vec<PresenceChange> {
    let mut changes = Vec::new();
    hub.take_presence_changes(now, &mut |channel, change| {
        assert_eq!(channel, &name("room"));
        changes.push(change);
    });
    changes
}

fn counts(connections: usize, users: usize) -> Counts {
    Counts { connections, users }
}

fn changed(joined: &[User], left: &[User]) -> Members {
    Members::Changed { joined: joined.to_vec(), left: left.to_vec() }
}

#[test]
fn joins_and_leaves_are_collected() {
    let hub = with(Presence::Members(10));
    let (alice, bob) = (user("Alice"), user("Bob 👋"));
    let first = join(&hub, Some(alice.clone()));
    let second = join(&hub, Some(alice.clone()));
    let anonymous = join(&hub, None);
    assert_eq!(hub.presence(&name("room")).map(|present| present.counts), Some(counts(0, 0)));
    assert_eq!(take_changes(&hub, at(0)), []);
    assert_eq!(take_changes(&hub, at(999)), []);
    let all = PresenceChange { counts: counts(3, 1), members: changed(std::slice::from_ref(&alice), &[]) };
    assert_eq!(take_changes(&hub, at(1000)), [all]);
    assert_eq!(take_changes(&hub, at(5000)), []);

    // One of two connections leaves, one user rejoins, one joins and leaves: only the counts change.
    drop(first);
    drop(join(&hub, Some(bob.clone())));
    drop(second);
    let again = join(&hub, Some(alice.clone()));
    take_changes(&hub, at(6000));
    assert_eq!(
        take_changes(&hub, at(7000)),
        [PresenceChange { counts: counts(2, 1), members: changed(&[], &[]) }]
    );

    drop(again);
    let bobs = join(&hub, Some(bob.clone()));
    take_changes(&hub, at(8000));
    // The last reported state, until the next report.
    let present = hub.presence(&name("room")).expect("present");
    assert_eq!(present.members, Some(vec![alice.clone()]));
    let swapped = changed(std::slice::from_ref(&bob), &[alice]);
    assert_eq!(take_changes(&hub, at(9000)), [PresenceChange { counts: counts(2, 1), members: swapped }]);

    drop((bobs, anonymous));
    take_changes(&hub, at(10_000));
    assert_eq!(
        take_changes(&hub, at(11_000)),
        [PresenceChange { counts: counts(0, 0), members: changed(&[], &[bob]) }]
    );
    assert_eq!(hub.presence(&name("room")), None);
}

#[test]
fn changes_without_effect_are_not_reported() {
    let hub = with(Presence::Members(10));
    drop(join(&hub, Some(user(1))));
    take_changes(&hub, at(0));
    assert_eq!(take_changes(&hub, at(1000)), []);
}

#[test]
fn above_the_maximum_only_counts_are_reported() {
    let hub = with(Presence::Members(MOST));
    let mut all: Vec<_> = (0..MOST).map(|n| join(&hub, Some(user(n)))).collect();
    take_changes(&hub, at(0));
    let list: Vec<_> = (0..MOST).map(user).collect();
    assert_eq!(
        take_changes(&hub, at(1000)),
        [PresenceChange { counts: counts(3, 3), members: changed(&list, &[]) }]
    );

    all.push(join(&hub, Some(user(MOST))));
    take_changes(&hub, at(2000));
    let unlisted = PresenceChange { counts: counts(4, 4), members: Members::Unlisted };
    assert_eq!(take_changes(&hub, at(3000)), [unlisted]);
    assert_eq!(hub.presence(&name("room")).expect("present").members, None);

    drop(all.remove(0));
    take_changes(&hub, at(4000));
    let list: Vec<_> = (1..=MOST).map(user).collect();
    assert_eq!(
        take_changes(&hub, at(5000)),
        [PresenceChange { counts: counts(3, 3), members: Members::All(list) }]
    );
}

#[test]
fn counts_only_and_nothing() {
    let counted = with(Presence::Counts);
    let (one, _) = (join(&counted, Some(user(1))), drop(join(&counted, Some(user(2)))));
    take_changes(&counted, at(0));
    let change = PresenceChange { counts: counts(1, 1), members: Members::Unlisted };
    assert_eq!(take_changes(&counted, at(1000)), [change]);
    assert_eq!(counted.presence(one.channel()).expect("present").members, None);

    let off = with(Presence::Off);
    let room = name("room");
    let (_one, first) = off.subscribe(&room, Some(user(1)), None, at(0), |first| first).expect("subscribed");
    assert_eq!(first.counts, None);
    take_changes(&off, at(0));
    assert_eq!(take_changes(&off, at(1000)), []);
    assert_eq!(off.presence(&room), None);
}

#[test]
fn many_changes_between_two_reports_become_a_list() {
    let hub = with(Presence::Members(MOST));
    let stays = join(&hub, Some(user("stays")));
    take_changes(&hub, at(0));
    take_changes(&hub, at(1000));
    for n in 0..2 * MOST {
        drop(join(&hub, Some(user(n))));
    }
    take_changes(&hub, at(2000));
    assert_eq!(take_changes(&hub, at(3000)), []);
    for n in 0..=2 * MOST {
        drop(join(&hub, Some(user(n))));
    }
    take_changes(&hub, at(4000));
    let all = Members::All(vec![user("stays")]);
    assert_eq!(take_changes(&hub, at(5000)), [PresenceChange { counts: counts(1, 1), members: all }]);
    drop(stays);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Joins and leaves of five users and of anonymous connections in any order; the followed state is
    /// correct after each report.
    #[test]
    fn applied_changes_equal_the_queried_state(steps in vec((0..6_usize, any::<bool>(), any::<bool>()), 1..200)) {
        let hub = with(Presence::Members(MOST));
        let mut there: Vec<(usize, Subscription)> = Vec::new();
        let mut followed: Option<BTreeSet<User>> = Some(BTreeSet::new());
        let mut followed_counts = counts(0, 0);
        let mut now = 0;
        for (who, joins, reports) in steps {
            let at_place = there.iter().position(|(other, _)| *other == who);
            match at_place {
                Some(place) if !joins => drop(there.swap_remove(place)),
                _ => there.push((who, join(&hub, (who > 0).then(|| user(who))))),
            }
            if !reports {
                continue;
            }
            take_changes(&hub, at(now));
            now += 1000;
            let users: BTreeSet<_> = there.iter().filter(|(who, _)| *who > 0).map(|(who, _)| user(who)).collect();
            for change in take_changes(&hub, at(now)) {
                followed_counts = change.counts;
                match change.members {
                    Members::All(all) => followed = Some(all.into_iter().collect()),
                    Members::Unlisted => followed = None,
                    Members::Changed { joined, left } => {
                        let followed = followed.as_mut().expect("a list that was told");
                        for user in left {
                            assert!(followed.remove(&user), "{user} left who was not there");
                        }
                        for user in joined {
                            assert!(followed.insert(user.clone()), "{user} joined who was there");
                        }
                    }
                }
            }
            prop_assert_eq!(followed_counts, counts(there.len(), users.len()));
            prop_assert_eq!(&followed, &(users.len() <= MOST).then_some(users));
            let present = hub.presence(&name("room"));
            prop_assert_eq!(present.is_none(), there.is_empty());
            if let Some(present) = present {
                prop_assert_eq!(present.counts, followed_counts);
                prop_assert_eq!(present.members, followed.clone().map(|all| all.into_iter().collect()));
            }
        }
    }
}
