//! The topics of one loop, with their subscribers.

pub(super) mod backlog;
pub(super) mod log;

use std::collections::HashMap;
use std::sync::Arc;

use self::backlog::SlowConsumer;

/// A hole in a list of members: no connection has this index. A list of `Option`s would be twice as long, and is read
/// for every delivery.
pub(in crate::engine) const HOLE: u32 = u32::MAX;

/// Holes that are not worth closing.
const HOLES_MIN: usize = 64;

/// The topics that have subscribers.
#[derive(Debug, Default)]
pub(in crate::engine) struct Topics {
    by_name: HashMap<Arc<str>, u32>,
    list: Vec<Option<Topic>>,
    free: Vec<u32>,
    /// Topics that had no subscribers left at some moment.
    left: Vec<u32>,
    /// Topics whose lists were half holes at some moment.
    sparse: Vec<u32>,
}

/// A topic's members, in a flat list. A member that leaves leaves a hole, so that no other moves.
#[derive(Debug)]
pub(in crate::engine) struct Topic {
    pub(in crate::engine) name: Arc<str>,
    pub(in crate::engine) members: Vec<u32>,
    holes: Vec<u32>,
    pub(in crate::engine) slow: SlowConsumer,
}

/// A member's place in the list of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Membership {
    topic: u32,
    at: u32,
}

/// The topics that one connection is subscribed to.
#[derive(Debug, Default)]
pub(in crate::engine) enum Subscriptions {
    #[default]
    None,
    One(Membership),
    #[expect(clippy::box_collection, reason = "most connections have one, and are many")]
    Many(Box<HashMap<u32, u32>>),
}

impl Subscriptions {
    pub(in crate::engine) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(in crate::engine) fn contains(&self, topic: u32) -> bool {
        match self {
            Self::None => false,
            Self::One(membership) => membership.topic == topic,
            Self::Many(memberships) => memberships.contains_key(&topic),
        }
    }

    /// The place in one list has changed.
    pub(in crate::engine) fn moved(&mut self, membership: Membership) {
        match self {
            Self::One(one) if one.topic == membership.topic => *one = membership,
            Self::Many(memberships) => {
                memberships.insert(membership.topic, membership.at);
            }
            _ => {}
        }
    }

    fn insert(&mut self, Membership { topic, at }: Membership) {
        match self {
            Self::None => *self = Self::One(Membership { topic, at }),
            Self::One(one) => *self = Self::Many(Box::new([(one.topic, one.at), (topic, at)].into())),
            Self::Many(memberships) => {
                memberships.insert(topic, at);
            }
        }
    }

    fn remove(&mut self, topic: u32) -> Option<Membership> {
        match self {
            Self::One(membership) if membership.topic == topic => {
                let membership = *membership;
                *self = Self::None;
                Some(membership)
            }
            Self::Many(memberships) => {
                let at = memberships.remove(&topic)?;
                if memberships.is_empty() {
                    *self = Self::None;
                }
                Some(Membership { topic, at })
            }
            _ => None,
        }
    }
}

impl Topics {
    pub(in crate::engine) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(in crate::engine) fn get(&self, topic: u32) -> Option<&Topic> {
        self.list.get(topic as usize)?.as_ref()
    }

    /// The connection at a place of a topic's list, or [`HOLE`]; `None` behind the last place.
    #[inline]
    pub(in crate::engine) fn member(&self, topic: u32, at: usize) -> Option<u32> {
        self.get(topic)?.members.get(at).copied()
    }

    /// Subscribes connection `index`. Returns `false` if it already is.
    pub(in crate::engine) fn subscribe(
        &mut self,
        name: &str,
        index: u32,
        subscriptions: &mut Subscriptions,
        slow: impl FnOnce() -> SlowConsumer,
    ) -> bool {
        let number = self.find(name).unwrap_or_else(|| self.add(name, slow()));
        if subscriptions.contains(number) {
            return false;
        }
        let Some(Some(topic)) = self.list.get_mut(number as usize) else { return false };
        let at = if let Some(hole) = topic.holes.pop() {
            topic.members[hole as usize] = index;
            hole
        } else {
            topic.members.push(index);
            topic.members.len() as u32 - 1
        };
        subscriptions.insert(Membership { topic: number, at });
        true
    }

    fn add(&mut self, name: &str, slow: SlowConsumer) -> u32 {
        let name: Arc<str> = name.into();
        let topic = Topic { name: Arc::clone(&name), members: Vec::new(), holes: Vec::new(), slow };
        let number = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            self.list.len() as u32 - 1
        });
        self.list[number as usize] = Some(topic);
        self.by_name.insert(name, number);
        number
    }

    /// Unsubscribes. Returns `false` if it was not subscribed.
    pub(in crate::engine) fn unsubscribe(&mut self, name: &str, subscriptions: &mut Subscriptions) -> bool {
        let Some(topic) = self.find(name) else { return false };
        let Some(membership) = subscriptions.remove(topic) else { return false };
        self.leave(membership);
        true
    }

    pub(in crate::engine) fn unsubscribe_all(&mut self, subscriptions: &mut Subscriptions) {
        match std::mem::take(subscriptions) {
            Subscriptions::None => {}
            Subscriptions::One(membership) => self.leave(membership),
            Subscriptions::Many(memberships) => {
                memberships.into_iter().for_each(|(topic, at)| self.leave(Membership { topic, at }));
            }
        }
    }

    fn leave(&mut self, membership: Membership) {
        let Some(Some(topic)) = self.list.get_mut(membership.topic as usize) else { return };
        topic.members[membership.at as usize] = HOLE;
        topic.holes.push(membership.at);
        if topic.holes.len() == topic.members.len() {
            self.left.push(membership.topic);
        } else if topic.holes.len() > HOLES_MIN && topic.holes.len() == topic.members.len() / 2 {
            self.sparse.push(membership.topic);
        }
    }

    /// Closes the holes of topics that have many. `moved` gets each member's new place. Must not be called while a list is
    /// walked: the walk would miss members.
    pub(in crate::engine) fn compact(&mut self, mut moved: impl FnMut(u32, Membership)) {
        for number in std::mem::take(&mut self.sparse) {
            let Some(Some(topic)) = self.list.get_mut(number as usize) else { continue };
            topic.members.retain(|&index| index != HOLE);
            topic.members.shrink_to_fit();
            topic.holes = Vec::new();
            for (&index, at) in topic.members.iter().zip(0..) {
                moved(index, Membership { topic: number, at });
            }
        }
    }

    /// Removes the topics that have no subscribers. Must not be called while the log has entries: their numbers would
    /// belong to other topics.
    pub(in crate::engine) fn sweep(&mut self) {
        for number in std::mem::take(&mut self.left) {
            let Some(slot) = self.list.get_mut(number as usize) else { continue };
            if let Some(topic) = slot.take_if(|topic| topic.holes.len() == topic.members.len()) {
                self.by_name.remove(&topic.name);
                self.free.push(number);
            }
        }
        if self.by_name.is_empty() && !self.list.is_empty() {
            // The memory of a wave of subscriptions is not kept.
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(topics: &mut Topics, name: &str, index: u32, subscriptions: &mut Subscriptions) -> bool {
        topics.subscribe(name, index, subscriptions, || SlowConsumer::close(1))
    }

    fn members(topics: &Topics, name: &str) -> Vec<u32> {
        let topic = topics.find(name).and_then(|topic| topics.get(topic));
        topic.map_or(Vec::new(), |topic| {
            topic.members.iter().copied().filter(|&index| index != HOLE).collect()
        })
    }

    #[test]
    fn who_subscribes_is_a_member_until_it_leaves() {
        let mut topics = Topics::default();
        let mut subscriptions: Vec<Subscriptions> = (0..4).map(|_| Subscriptions::default()).collect();
        for (index, mine) in subscriptions.iter_mut().enumerate() {
            assert!(subscribe(&mut topics, "聊天", index as u32, mine));
            assert!(!subscribe(&mut topics, "聊天", index as u32, mine), "it is already");
            for number in 0..index {
                assert!(subscribe(&mut topics, &format!("topic {number}"), index as u32, mine));
            }
        }
        assert_eq!(members(&topics, "聊天"), [0, 1, 2, 3]);
        assert_eq!(members(&topics, "topic 1"), [2, 3]);
        assert!(topics.unsubscribe("聊天", &mut subscriptions[1]));
        assert!(!topics.unsubscribe("聊天", &mut subscriptions[1]));
        assert!(!topics.unsubscribe("never", &mut subscriptions[1]));
        topics.unsubscribe_all(&mut subscriptions[3]);
        assert!(subscriptions[3].is_empty());
        assert_eq!((members(&topics, "聊天"), members(&topics, "topic 2")), (vec![0, 2], vec![]));
        assert!(subscribe(&mut topics, "聊天", 9, &mut subscriptions[3]));
        assert_eq!(members(&topics, "聊天").len(), 3);
        assert_eq!(topics.get(topics.find("聊天").unwrap()).unwrap().members.len(), 4, "holes are filled");
    }

    #[test]
    fn a_topic_that_was_large_becomes_small() {
        let mut topics = Topics::default();
        let mut subscriptions: Vec<Subscriptions> = (0..1000).map(|_| Subscriptions::default()).collect();
        for (index, mine) in subscriptions.iter_mut().enumerate() {
            subscribe(&mut topics, "a", index as u32, mine);
        }
        for index in (0..1000).filter(|index| index % 2 == 0) {
            topics.unsubscribe_all(&mut subscriptions[index]);
        }
        topics.compact(|index, membership| subscriptions[index as usize].moved(membership));
        let topic = topics.get(topics.find("a").unwrap()).unwrap();
        assert_eq!((topic.members.len(), topic.holes.len()), (500, 0));
        for index in (0..1000).filter(|index| index % 2 == 1) {
            assert!(topics.unsubscribe("a", &mut subscriptions[index]));
        }
        assert!(members(&topics, "a").is_empty());
    }

    #[test]
    fn a_topic_that_nobody_is_subscribed_to_is_forgotten() {
        let mut topics = Topics::default();
        let (mut one, mut two) = (Subscriptions::default(), Subscriptions::default());
        subscribe(&mut topics, "a", 1, &mut one);
        subscribe(&mut topics, "b", 1, &mut one);
        topics.unsubscribe("a", &mut one);
        subscribe(&mut topics, "a", 2, &mut two);
        topics.unsubscribe("b", &mut one);
        topics.sweep();
        assert_eq!((topics.find("a").is_some(), topics.find("b")), (true, None));
        topics.unsubscribe_all(&mut two);
        topics.sweep();
        assert!(topics.list.is_empty() && topics.by_name.is_empty());
    }
}
