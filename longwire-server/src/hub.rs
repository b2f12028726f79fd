//! Who is on which channel, and who hears what is said there.
//!
//! Plain state: it never awaits and knows no socket. What a member is, and how something is delivered
//! to it, is the caller's. Each channel has a lock of its own, so channels do not wait for each other;
//! the directory is locked to find a channel and to remove one, never together with a channel, for a
//! delivery may take its time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All channels, by name. A channel exists while someone is on it.
pub(crate) struct Hub<T> {
    channels: Mutex<HashMap<Box<str>, Arc<Channel<T>>>>,
}

struct Channel<T> {
    name: Box<str>,
    members: Mutex<Members<T>>,
}

struct Members<T> {
    /// Ordered by number, for numbers rise and who joins is put at the end.
    list: Vec<(u64, T)>,
    next: u64,
    /// The last one has left: nobody joins any more, and the directory forgets the channel.
    gone: bool,
}

/// A member's place on a channel; dropping it leaves the channel.
pub(crate) struct Seat<T> {
    hub: Arc<Hub<T>>,
    channel: Arc<Channel<T>>,
    number: u64,
}

/// What became of one delivery to one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivery {
    Done,
    /// The member does not keep up: it is taken off the channel.
    TooSlow,
}

/// What became of all deliveries of one [`Seat::say`].
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Said<T> {
    /// To how many members it was delivered, those who were too slow included.
    pub(crate) deliveries: usize,
    /// Those who were taken off the channel; it is the caller's to close them.
    pub(crate) too_slow: Vec<T>,
}

impl<T> Hub<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { channels: Mutex::new(HashMap::new()) })
    }

    /// Takes a seat on a channel, which is made when it does not exist.
    pub(crate) fn join(self: &Arc<Self>, name: &str, member: T) -> Seat<T> {
        loop {
            let channel = self.find(name);
            let mut members = lock(&channel.members);
            if members.gone {
                drop(members);
                self.forget(&channel);
                continue;
            }
            let number = members.next;
            members.next += 1;
            members.list.push((number, member));
            drop(members);
            return Seat { hub: Arc::clone(self), channel, number };
        }
    }

    fn find(&self, name: &str) -> Arc<Channel<T>> {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(name) {
            return Arc::clone(channel);
        }
        let members = Mutex::new(Members { list: Vec::new(), next: 0, gone: false });
        let channel = Arc::new(Channel { name: name.into(), members });
        channels.insert(name.into(), Arc::clone(&channel));
        channel
    }

    /// Takes a channel that is gone out of the directory, which may hold a newer one of this name by now.
    fn forget(&self, channel: &Arc<Channel<T>>) {
        let mut channels = lock(&self.channels);
        if channels.get(&*channel.name).is_some_and(|here| Arc::ptr_eq(here, channel)) {
            channels.remove(&*channel.name);
        }
    }
}

impl<T> Seat<T> {
    /// Delivers to every other member of the channel, in the order in which they joined.
    ///
    /// Who answers [`Delivery::TooSlow`] is taken off the channel, and so is no longer heard: what a
    /// member says that was taken off reaches nobody.
    pub(crate) fn say(&self, mut deliver: impl FnMut(&T) -> Delivery) -> Said<T> {
        let mut members = lock(&self.channel.members);
        let list = &mut members.list;
        if list.binary_search_by_key(&self.number, |(number, _)| *number).is_err() {
            return Said { deliveries: 0, too_slow: Vec::new() };
        }
        let deliveries = list.len() - 1;
        let too_slow = list
            .extract_if(.., |(number, member)| *number != self.number && deliver(member) == Delivery::TooSlow)
            .map(|(_, member)| member)
            .collect();
        Said { deliveries, too_slow }
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let mut members = lock(&self.channel.members);
        if let Ok(at) = members.list.binary_search_by_key(&self.number, |(number, _)| *number) {
            members.list.remove(at);
        }
        // The last one out takes the channel along.
        let last = members.list.is_empty();
        members.gone |= last;
        drop(members);
        if last {
            self.hub.forget(&self.channel);
        }
    }
}

/// No state here is left half changed by a panic: nothing between two changes can panic but `deliver`,
/// and a member whose delivery panicked stays.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// A member that keeps what it was given.
    #[derive(Clone, Default)]
    struct Ear(Rc<RefCell<Vec<String>>>);

    impl Ear {
        fn heard(&self) -> Vec<String> {
            self.0.borrow().clone()
        }
    }

    fn say(seat: &Seat<Ear>, text: &str) -> usize {
        let said = seat.say(|ear| {
            ear.0.borrow_mut().push(text.to_owned());
            Delivery::Done
        });
        assert!(said.too_slow.is_empty());
        said.deliveries
    }

    fn names(hub: &Hub<Ear>) -> Vec<String> {
        let mut names: Vec<String> = lock(&hub.channels).keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn everyone_but_the_speaker_hears() {
        let hub = Hub::new();
        let ears: Vec<Ear> = (0..3).map(|_| Ear::default()).collect();
        let seats: Vec<Seat<Ear>> = ears.iter().map(|ear| hub.join("/茶", ear.clone())).collect();

        assert_eq!(say(&seats[1], "你好 🌊"), 2);
        assert_eq!(say(&seats[0], "hello"), 2);

        assert_eq!(ears[0].heard(), ["你好 🌊"]);
        assert_eq!(ears[1].heard(), ["hello"]);
        assert_eq!(ears[2].heard(), ["你好 🌊", "hello"]);
    }

    #[test]
    fn channels_do_not_hear_each_other() {
        let hub = Hub::new();
        let (here, there) = (Ear::default(), Ear::default());
        let a = hub.join("/a", here.clone());
        let b = hub.join("/b", there.clone());

        assert_eq!(say(&a, "anyone?"), 0);
        assert_eq!(say(&b, "anyone?"), 0);
        assert!(here.heard().is_empty() && there.heard().is_empty());
    }

    #[test]
    fn who_left_hears_nothing_and_the_last_takes_the_channel_along() {
        let hub = Hub::new();
        let (first, second) = (Ear::default(), Ear::default());
        let a = hub.join("/a", first.clone());
        let b = hub.join("/a", second);
        assert_eq!(names(&hub), ["/a"]);

        drop(a);
        assert_eq!(say(&b, "gone?"), 0);
        assert!(first.heard().is_empty());
        assert_eq!(names(&hub), ["/a"]);
        drop(b);
        assert!(names(&hub).is_empty());
    }

    #[test]
    fn a_slow_member_is_taken_off_and_nobody_else_is_disturbed() {
        let hub = Hub::new();
        let ears: Vec<Ear> = (0..4).map(|_| Ear::default()).collect();
        let seats: Vec<Seat<Ear>> = ears.iter().map(|ear| hub.join("/", ear.clone())).collect();

        let said = seats[0].say(|ear| {
            ear.0.borrow_mut().push("flood".to_owned());
            if Rc::ptr_eq(&ear.0, &ears[2].0) { Delivery::TooSlow } else { Delivery::Done }
        });
        assert_eq!(said.deliveries, 3);
        assert_eq!(said.too_slow.len(), 1);
        assert!(Rc::ptr_eq(&said.too_slow[0].0, &ears[2].0));

        assert_eq!(say(&seats[3], "after"), 2);
        assert_eq!(ears[0].heard(), ["after"]);
        assert_eq!(ears[1].heard(), ["flood", "after"]);
        assert_eq!(ears[2].heard(), ["flood"]);
    }

    #[test]
    fn who_was_taken_off_is_no_longer_heard() {
        let hub = Hub::new();
        let (slow, other) = (Ear::default(), Ear::default());
        let slow_seat = hub.join("/", slow);
        let other_seat = hub.join("/", other.clone());
        assert_eq!(other_seat.say(|_| Delivery::TooSlow).too_slow.len(), 1);

        assert_eq!(say(&slow_seat, "still here"), 0);
        assert!(other.heard().is_empty());
    }

    #[test]
    fn a_seat_on_a_channel_that_is_gone_leaves_its_successor_alone() {
        let hub = Hub::new();
        let slow_seat = hub.join("/", Ear::default());
        let other_seat = hub.join("/", Ear::default());
        assert_eq!(other_seat.say(|_| Delivery::TooSlow).too_slow.len(), 1);
        drop(other_seat);
        assert!(names(&hub).is_empty());

        let successor = Ear::default();
        let _successor_seat = hub.join("/", successor.clone());
        let speaker = hub.join("/", Ear::default());
        drop(slow_seat);
        assert_eq!(names(&hub), ["/"]);
        assert_eq!(say(&speaker, "new"), 1);
        assert_eq!(successor.heard(), ["new"]);
    }

    #[test]
    fn who_joins_while_the_last_one_leaves_is_heard() {
        let hub = Hub::<std::sync::mpsc::Sender<u32>>::new();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for number in 0..5_000 {
                        let (heard, hears) = std::sync::mpsc::channel();
                        let listener = hub.join("/茶馆", heard.clone());
                        let speaker = hub.join("/茶馆", heard);
                        let said = speaker.say(|member| {
                            let _ = member.send(number);
                            Delivery::Done
                        });
                        assert!(said.deliveries >= 1);
                        assert!(hears.iter().any(|one| one == number), "on one channel");
                        drop((listener, speaker));
                    }
                });
            }
        });
        assert!(lock(&hub.channels).is_empty());
    }
}
