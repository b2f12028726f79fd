//! The members of a channel, and the changes since the last report.
//!
//! Two states are kept in one: the current one and the last reported one. Queries return the last reported
//! state, so that later changes continue it. A user that leaves and rejoins between two reports never left.

use std::collections::HashMap;

use super::options::Presence as Mode;
use crate::value::User;

/// Numbers of members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subscriptions, including those without a user.
    pub connections: usize,
    /// Users with at least one subscription.
    pub users: usize,
}

/// The changes since the last report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceChange {
    /// The current numbers.
    pub counts: Counts,
    /// The change of the list.
    pub members: Members,
}

/// A change of the list of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// Users that joined or left. Either list may be empty.
    Changed {
        /// Users with a first subscription.
        joined: Vec<User>,
        /// Users without a subscription.
        left: Vec<User>,
    },
    /// The complete list, which replaces the previous one.
    All(Vec<User>),
    /// The list is not reported: it is too long or disabled.
    Unlisted,
}

#[derive(Debug, Default)]
pub(super) struct Presence {
    now: Counts,
    reported: Counts,
    /// Number of subscriptions of each user.
    users: HashMap<User, u32>,
    /// Users whose subscriptions have changed, and whether they were listed before.
    changed: HashMap<User, bool>,
    /// The last report has no list, or the list can no longer be continued.
    unlisted: bool,
    /// There is an unreported change, and whether it is queued.
    pending: bool,
    is_queued: bool,
}

impl Presence {
    pub(super) fn join(&mut self, user: Option<&User>, mode: Mode) {
        self.now.connections += 1;
        self.pending = true;
        if let Some(user) = user {
            self.remember_state(user, mode);
            *self.users.entry(user.clone()).or_default() += 1;
            self.now.users = self.users.len();
        }
    }

    /// Reverts one `join` of the same user.
    pub(super) fn leave(&mut self, user: Option<&User>, mode: Mode) {
        self.now.connections = self.now.connections.saturating_sub(1);
        self.pending = true;
        let Some(user) = user else { return };
        let Some(&connections) = self.users.get(user) else { return };
        self.remember_state(user, mode);
        if connections > 1 {
            self.users.insert(user.clone(), connections - 1);
        } else {
            self.users.remove(user);
        }
        self.now.users = self.users.len();
    }

    /// Records whether a user was listed before, once per report.
    fn remember_state(&mut self, user: &User, mode: Mode) {
        let Mode::Members(most) = mode else { return };
        if self.unlisted || self.changed.contains_key(user) {
            return;
        }
        if self.changed.len() >= most.saturating_mul(2) {
            // More changes than this would be longer than a new list.
            self.unlisted = true;
            self.changed = HashMap::new();
            return;
        }
        self.changed.insert(user.clone(), self.users.contains_key(user));
    }

    /// Returns whether there is a change that has not been queued yet.
    pub(super) fn needs_report(&mut self) -> bool {
        self.pending && !std::mem::replace(&mut self.is_queued, true)
    }

    /// Returns the changes and starts a new interval. Returns `None` if nothing has changed in the end.
    pub(super) fn take(&mut self, mode: Mode) -> Option<PresenceChange> {
        (self.pending, self.is_queued) = (false, false);
        let (counts, changed) = (self.now, std::mem::take(&mut self.changed));
        let same = std::mem::replace(&mut self.reported, counts) == counts;
        let members = match mode {
            Mode::Members(most) if self.users.len() <= most => {
                if std::mem::replace(&mut self.unlisted, false) {
                    Members::All(sorted(self.users.keys().cloned()))
                } else {
                    let (mut joined, mut left) = (Vec::new(), Vec::new());
                    for (user, was_listed) in changed {
                        match (was_listed, self.users.contains_key(&user)) {
                            (false, true) => joined.push(user),
                            (true, false) => left.push(user),
                            _ => {}
                        }
                    }
                    if same && joined.is_empty() && left.is_empty() {
                        return None;
                    }
                    Members::Changed { joined: sorted(joined), left: sorted(left) }
                }
            }
            _ => {
                let was_listed = std::mem::replace(&mut self.unlisted, true);
                if same && was_listed {
                    return None;
                }
                Members::Unlisted
            }
        };
        Some(PresenceChange { counts, members })
    }

    /// Returns the numbers of the last report.
    pub(super) const fn counts(&self) -> Counts {
        self.reported
    }

    /// Returns the users of the last report; `None` if they are not listed.
    pub(super) fn members(&self, mode: Mode) -> Option<Vec<User>> {
        let Mode::Members(_) = mode else { return None };
        if self.unlisted {
            return None;
        }
        let untouched = self.users.keys().filter(|user| !self.changed.contains_key(*user));
        let changed = self.changed.iter().filter(|(_, was_listed)| **was_listed).map(|(user, _)| user);
        Some(sorted(untouched.chain(changed).cloned()))
    }

    /// Returns whether there are no members and no unreported changes.
    pub(super) fn is_empty(&self) -> bool {
        self.now.connections == 0 && !self.pending
    }
}

fn sorted(users: impl IntoIterator<Item = User>) -> Vec<User> {
    let mut users: Vec<_> = users.into_iter().collect();
    users.sort_unstable();
    users
}
