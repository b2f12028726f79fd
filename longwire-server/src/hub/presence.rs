//! Who is subscribed to a channel, and what has changed of it since it was last told.
//!
//! Two states are kept in one: the present, and the one that was told last. What is asked for is always the latter, for
//! the changes that come later continue it; a user that leaves and comes between two of them was always there.

use std::collections::HashMap;

use super::options::Presence as Mode;
use crate::value::User;

/// How many are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subscriptions, those without a user as well.
    pub connections: usize,
    /// Users with at least one subscription.
    pub users: usize,
}

/// What has changed since the last of these, as one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceChange {
    /// How many are there now.
    pub counts: Counts,
    /// Who.
    pub members: Members,
}

/// What has become of the list of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// It has changed by these. Either may be empty.
    Changed {
        /// Users that had no subscription, and have one now.
        joined: Vec<User>,
        /// Users that had one, and have none.
        left: Vec<User>,
    },
    /// It is this now, whatever was told before.
    All(Vec<User>),
    /// It is not told: there are too many, or it is not wanted.
    Unlisted,
}

#[derive(Debug, Default)]
pub(super) struct Presence {
    now: Counts,
    reported: Counts,
    /// Subscriptions of each user.
    users: HashMap<User, u32>,
    /// Users whose subscriptions have changed, and whether they were told to be there.
    changed: HashMap<User, bool>,
    /// What was told last is not a list of all, or can no longer be continued.
    unlisted: bool,
    /// A change waits to be told, and whether that was said.
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

    /// Undoes one `join` of the same user.
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

    /// Remembers how it was with a user, once.
    fn remember_state(&mut self, user: &User, mode: Mode) {
        let Mode::Members(most) = mode else { return };
        if self.unlisted || self.changed.contains_key(user) {
            return;
        }
        if self.changed.len() >= most.saturating_mul(2) {
            // As many as may have left and come: a list is shorter than the changes.
            self.unlisted = true;
            self.changed = HashMap::new();
            return;
        }
        self.changed.insert(user.clone(), self.users.contains_key(user));
    }

    /// Something has changed, for the first time since it was told.
    pub(super) fn needs_report(&mut self) -> bool {
        self.pending && !std::mem::replace(&mut self.is_queued, true)
    }

    /// Tells what has changed, and begins anew. `None` if in the end nothing has.
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
                    for (user, was) in changed {
                        match (was, self.users.contains_key(&user)) {
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
                let was = std::mem::replace(&mut self.unlisted, true);
                if same && was {
                    return None;
                }
                Members::Unlisted
            }
        };
        Some(PresenceChange { counts, members })
    }

    /// The counts that were told last.
    pub(super) const fn counts(&self) -> Counts {
        self.reported
    }

    /// The users that were told last; `None` while they are not listed.
    pub(super) fn members(&self, mode: Mode) -> Option<Vec<User>> {
        let Mode::Members(_) = mode else { return None };
        if self.unlisted {
            return None;
        }
        let untouched = self.users.keys().filter(|user| !self.changed.contains_key(*user));
        let changed = self.changed.iter().filter(|(_, was)| **was).map(|(user, _)| user);
        Some(sorted(untouched.chain(changed).cloned()))
    }

    /// Nobody is there, and all know it.
    pub(super) fn is_empty(&self) -> bool {
        self.now.connections == 0 && !self.pending
    }
}

fn sorted(users: impl IntoIterator<Item = User>) -> Vec<User> {
    let mut users: Vec<_> = users.into_iter().collect();
    users.sort_unstable();
    users
}
