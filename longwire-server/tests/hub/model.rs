//! Any sequence of calls compared with a simple model: every stream is what the model predicts.

use std::collections::HashMap;
use std::sync::Arc;

use longwire_server::hub::{
    Batch, CURSOR_BACKLOG, ChannelName, ChannelOptions, Cursor, Epoch, History, Hub, Keys, Limits, Position,
    Presence, PublishOptions, Published, Recovery, Subscription, Time,
};
use longwire_server::store::{Store, Sync};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{at, name, seconds};

const CHANNELS: [&str; 3] = ["kept/你好", "short 👋", "unkept"];

fn options(channel: &str) -> ChannelOptions {
    let history = match channel {
        "unkept" => History::OFF,
        "short 👋" => History { messages: 3, bytes: 40, age: seconds(20) },
        _ => History { messages: 12, bytes: 400, age: seconds(100) },
    };
    ChannelOptions { history, presence: Presence::Members(10), keys: Keys { count: 3, window: seconds(50) } }
}

fn limits(history_memory: usize) -> Limits {
    Limits { history_memory, replay_messages: 8, replay_bytes: 300, ..Limits::default() }
}

/// A position to resume from.
#[derive(Clone, Copy, Debug)]
enum From {
    Nowhere,
    /// This many messages before the latest one.
    Behind(u64),
    Beyond(u64),
    OtherEpoch,
}

#[derive(Clone, Debug)]
enum Step {
    Publish { channel: usize, length: usize, key: Option<u8> },
    Subscribe { channel: usize, from: From },
    Leave(usize),
    History { channel: usize, from: From, limit: usize },
    OpenCursor { channel: usize, from: From },
    ReadCursor { cursor: usize, limit: usize },
    DropCursor(usize),
    Pass(u64),
    Tick(u8),
    Reopen,
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        2 => Just(From::Nowhere),
        6 => (0..15_u64).prop_map(From::Behind),
        1 => (1..4_u64).prop_map(From::Beyond),
        1 => Just(From::OtherEpoch),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..CHANNELS.len();
    prop_oneof![
        12 => (channel.clone(), 0..60_usize, proptest::option::weighted(0.4, 0..5_u8))
            .prop_map(|(channel, length, key)| Step::Publish { channel, length, key }),
        4 => (channel.clone(), from()).prop_map(|(channel, from)| Step::Subscribe { channel, from }),
        2 => (0..8_usize).prop_map(Step::Leave),
        3 => (channel.clone(), from(), 0..14_usize)
            .prop_map(|(channel, from, limit)| Step::History { channel, from, limit }),
        2 => (channel, from()).prop_map(|(channel, from)| Step::OpenCursor { channel, from }),
        5 => (0..4_usize, 1..10_usize).prop_map(|(cursor, limit)| Step::ReadCursor { cursor, limit }),
        1 => (0..4_usize).prop_map(Step::DropCursor),
        4 => (0..40_000_u64).prop_map(Step::Pass),
        2 => any::<u8>().prop_map(Step::Tick),
        1 => Just(Step::Reopen),
    ]
}

/// A simple model of a channel.
#[derive(Default)]
struct Model {
    epoch: Option<Epoch>,
    /// All messages of this epoch, and the index of the oldest kept one.
    all: Vec<Published>,
    kept_from: usize,
    /// Keys with the offsets of their messages.
    keys: Vec<(u8, u64, Time)>,
    used: Option<Time>,
    /// The store may still have expired messages, and a cursor may have made them relevant again.
    more_may_be_kept: bool,
}

impl Model {
    fn expire(&mut self, options: &ChannelOptions, cursors: usize, now: Time) {
        let mut bounds = options.history;
        if cursors > 0 {
            self.more_may_be_kept = true;
            bounds.messages = bounds.messages.max(CURSOR_BACKLOG.messages);
            bounds.bytes = bounds.bytes.max(CURSOR_BACKLOG.bytes);
            bounds.age = bounds.age.max(CURSOR_BACKLOG.age);
        }
        loop {
            let kept = &self.all[self.kept_from..];
            let bytes: usize = kept.iter().map(|published| published.message.len()).sum();
            let old = kept.first().is_some_and(|oldest| oldest.at.after(bounds.age) <= now);
            if kept.len() <= bounds.messages && bytes <= bounds.bytes && !old {
                break;
            }
            self.kept_from += 1;
        }
        self.keys.retain(|(_, _, since)| since.after(options.keys.window) > now);
        while self.keys.len() > options.keys.count {
            self.keys.remove(0);
        }
    }

    fn head(&self) -> u64 {
        self.all.len() as u64
    }

    fn position(&self, from: From) -> Option<Position> {
        let epoch = self.epoch.unwrap_or(Epoch::from_bits(77).expect("bits"));
        match from {
            From::Nowhere => None,
            From::Behind(n) => Some(Position { epoch, offset: self.head().saturating_sub(n) }),
            From::Beyond(n) => Some(Position { epoch, offset: self.head() + n }),
            From::OtherEpoch => {
                let other = Epoch::from_bits(epoch.bits() ^ 1).expect("bits");
                Some(Position { epoch: other, offset: self.head() })
            }
        }
    }

    /// Returns the messages after a position, and whether the model keeps all of them; `None` for an unknown
    /// position.
    fn after(&self, position: Position) -> Option<(&[Published], bool)> {
        let offset = usize::try_from(position.offset).expect("small");
        let known = Some(position.epoch) == self.epoch && offset <= self.all.len();
        known.then(|| (&self.all[offset..], offset >= self.kept_from))
    }
}

struct Stream {
    channel: usize,
    subscription: Subscription,
    /// The messages delivered, and those the model predicts.
    got: Vec<Published>,
    wanted: Vec<Published>,
}

struct World {
    hub: Option<Hub>,
    directory: Option<tempfile::TempDir>,
    limits: Limits,
    now: u64,
    models: Vec<Model>,
    streams: Vec<Stream>,
    cursors: Vec<(usize, Cursor)>,
    made: u32,
}

impl World {
    fn new(stored: bool, memory: usize) -> Self {
        let mut world = Self {
            hub: None,
            directory: stored.then(|| tempfile::tempdir().expect("a directory")),
            limits: limits(memory),
            now: 0,
            models: CHANNELS.iter().map(|_| Model::default()).collect(),
            streams: Vec::new(),
            cursors: Vec::new(),
            made: 0,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let by_name: HashMap<_, _> = CHANNELS.iter().map(|name| (*name, Arc::new(options(name)))).collect();
        let options = move |name: &str| by_name[name].clone();
        self.hub = Some(match &self.directory {
            Some(directory) => {
                let store = Store::open(directory.path(), Sync::Os).expect("a store");
                Hub::with_store(self.limits, store, options)
            }
            None => Hub::new(self.limits, options),
        });
    }

    fn hub(&self) -> Hub {
        self.hub.clone().expect("open")
    }

    fn now(&self) -> Time {
        at(self.now)
    }

    fn channel(&self, channel: usize) -> ChannelName {
        name(CHANNELS[channel])
    }

    /// Returns whether the history may be evicted without being stored. Then the loss must be reported.
    fn may_lose(&self, channel: usize) -> bool {
        let stored = self.directory.is_some() && options(CHANNELS[channel]).history.messages > 0;
        self.limits.history_memory < usize::MAX && !stored
    }

    fn count_cursors(&self, channel: usize) -> usize {
        self.cursors.iter().filter(|(of, _)| *of == channel).count()
    }

    /// Returns the model of a channel that is used, and whose epoch the hub has just returned.
    fn agree(&mut self, channel: usize, epoch: Epoch) -> &mut Model {
        let now = self.now();
        let may_lose = self.may_lose(channel);
        let busy = self.count_cursors(channel) > 0 || self.streams.iter().any(|s| s.channel == channel);
        let model = &mut self.models[channel];
        if model.epoch.is_some_and(|before| before != epoch) {
            // It was dropped. This is only valid if it was unused for long and kept nothing, or if it was
            // never stored and the process restarted.
            let kept = model.kept_from < model.all.len() || !model.keys.is_empty();
            let unused = model.used.is_none_or(|used| used.after(self.limits.linger) <= now);
            assert!(!busy && unused && (!kept || may_lose), "channel {channel} was dropped too early");
            *model = Model::default();
        }
        model.epoch = Some(epoch);
        model.used = Some(now);
        model
    }

    fn expire(&mut self) {
        let now = self.now();
        for (channel, name) in CHANNELS.iter().enumerate() {
            let cursors = self.count_cursors(channel);
            self.models[channel].expire(&options(name), cursors, now);
        }
    }

    fn take(&mut self, step: Step) {
        self.expire();
        match step {
            Step::Publish { channel, length, key } => self.publish(channel, length, key),
            Step::Subscribe { channel, from } => self.subscribe(channel, from),
            Step::Leave(index) => {
                if index < self.streams.len() {
                    let stream = self.streams.remove(index);
                    assert_eq!(stream.got, stream.wanted);
                    let now = self.now();
                    self.models[stream.channel].used = Some(now);
                    drop(stream.subscription);
                }
            }
            Step::History { channel, from, limit } => self.history(channel, from, limit),
            Step::OpenCursor { channel, from } => {
                let after = self.models[channel].position(from);
                let cursor = self.hub().cursor(&self.channel(channel), after, self.now()).expect("a cursor");
                if after.is_none() {
                    let head = self.agree(channel, cursor.position().epoch).head();
                    assert_eq!(cursor.position().offset, head);
                } else {
                    self.settle_epoch(channel);
                }
                self.cursors.push((channel, cursor));
            }
            Step::ReadCursor { cursor, limit } => self.read(cursor, limit),
            Step::DropCursor(index) => {
                if index < self.cursors.len() {
                    self.cursors.remove(index);
                }
            }
            Step::Pass(millis) => self.now += millis,
            Step::Tick(times) => {
                for _ in 0..times {
                    self.hub().tick(self.now()).expect("upkeep");
                }
            }
            Step::Reopen => self.reopen(),
        }
    }

    /// Gets the epoch of a channel that was just used.
    fn settle_epoch(&mut self, channel: usize) {
        let page = self.hub().history(&self.channel(channel), None, 0, self.now()).expect("a page");
        let position = page.position.expect("it is there");
        assert_eq!(self.agree(channel, position.epoch).head(), position.offset);
    }

    fn publish(&mut self, channel: usize, length: usize, key: Option<u8>) {
        self.made += 1;
        let mut text = self.made.to_string();
        text.push_str(&"x".repeat(length.saturating_sub(text.len())));
        let text_key = key.map(|key| format!("键-{key}"));
        let how = PublishOptions { from: None, key: text_key.as_deref(), now: self.now() };
        let mut delivered = Vec::new();
        let receipt = self
            .hub()
            .publish(&self.channel(channel), text.as_str().into(), how, &mut |published| {
                delivered.push(published.clone());
            })
            .expect("published");
        let now = self.now();
        let model = self.agree(channel, receipt.position.epoch);
        let known = key.and_then(|key| model.keys.iter().find(|(other, _, _)| *other == key));
        if let Some((_, offset, _)) = known {
            assert!(receipt.duplicate);
            assert_eq!(receipt.position.offset, *offset);
            assert!(delivered.is_empty());
            return;
        }
        assert!(!receipt.duplicate);
        assert_eq!(receipt.position.offset, model.head() + 1);
        let wanted = Published { position: receipt.position, at: now, from: None, message: text.into() };
        assert_eq!(delivered, std::slice::from_ref(&wanted));
        model.all.push(wanted.clone());
        if let Some(key) = key {
            model.keys.push((key, receipt.position.offset, now));
        }
        self.expire();
        for stream in self.streams.iter_mut().filter(|stream| stream.channel == channel) {
            stream.got.extend(delivered.iter().cloned());
            stream.wanted.push(wanted.clone());
        }
    }

    fn subscribe(&mut self, channel: usize, from: From) {
        let after = self.models[channel].position(from);
        let (subscription, first) = self
            .hub()
            .subscribe(&self.channel(channel), None, after, self.now(), |subscribed| subscribed)
            .expect("subscribed");
        let (limits, may_lose) = (self.limits, self.may_lose(channel));
        let model = self.agree(channel, first.position.epoch);
        assert_eq!(first.position.offset, model.head());
        let behind = after.and_then(|after| model.after(after));
        let (mut got, mut wanted) = (Vec::new(), Vec::new());
        match (first.recovery, after, behind) {
            (Recovery::New, None, _) => {}
            (Recovery::Complete(messages), Some(_), Some((all, kept))) => {
                assert_eq!(messages, all);
                assert!(kept || model.more_may_be_kept, "what has expired was told");
                assert!(all.len() <= limits.replay_messages);
                (got, wanted) = (messages, all.to_vec());
            }
            (Recovery::Lost, Some(_), Some((all, kept))) => {
                let bytes: usize = all.iter().map(|published| published.message.len()).sum();
                let fits = all.len() <= limits.replay_messages && bytes <= limits.replay_bytes;
                assert!(!kept || !fits || (may_lose && !all.is_empty()), "what is kept was not told");
            }
            (Recovery::Lost, Some(_), None) => {}
            other => panic!("{other:?} from {after:?}"),
        }
        self.streams.push(Stream { channel, subscription, got: Vec::new(), wanted: Vec::new() });
        if let Some(stream) = self.streams.last_mut() {
            stream.got.append(&mut got);
            stream.wanted.append(&mut wanted);
        }
    }

    fn history(&mut self, channel: usize, from: From, limit: usize) {
        let after = self.models[channel].position(from);
        let page = self.hub().history(&self.channel(channel), after, limit, self.now()).expect("a page");
        let Some(head) = page.position else {
            // The channel was never used, or it was dropped.
            assert!(page.messages.is_empty() && !page.more && page.recovered == after.is_none());
            if let Some(epoch) = self.models[channel].epoch {
                let other = Epoch::from_bits(epoch.bits() ^ 2).expect("bits");
                self.agree(channel, other);
                self.models[channel] = Model::default();
            }
            return;
        };
        let (limits, may_lose) = (self.limits, self.may_lose(channel));
        let model = self.agree(channel, head.epoch);
        assert_eq!(head.offset, model.head());
        let behind = after.and_then(|after| model.after(after));
        let exact = !may_lose && !model.more_may_be_kept;
        if let Some((all, kept)) = behind
            && page.recovered
        {
            assert!(kept || model.more_may_be_kept);
            assert!(all.starts_with(&page.messages), "a hole");
            assert_eq!(page.more, page.messages.len() < all.len());
            assert!(
                page.messages.len() == all.len().min(limit).min(limits.replay_messages)
                    || page_is_full(&page.messages, all, &limits)
            );
        } else {
            assert_eq!(page.recovered, after.is_none());
            assert!(!exact || !behind.is_some_and(|(_, kept)| kept), "what is kept was not told");
            // From the oldest kept message.
            let first = page.messages.first().map(|published| published.position.offset as usize - 1);
            let all = &model.all[first.unwrap_or(model.all.len())..];
            assert!(all.starts_with(&page.messages), "a hole");
            if exact && limit > 0 {
                assert_eq!(first.unwrap_or(model.all.len()), model.kept_from);
            }
        }
    }

    fn read(&mut self, cursor: usize, limit: usize) {
        if cursor >= self.cursors.len() {
            return;
        }
        let now = self.now();
        let (channel, cursor) = &mut self.cursors[cursor];
        let (before, batch) = (cursor.position(), cursor.read(limit, now).expect("a batch"));
        let (after, channel) = (cursor.position(), *channel);
        let may_lose = self.may_lose(channel);
        let model = &mut self.models[channel];
        model.used = Some(now);
        match (batch, model.after(before)) {
            (Batch::Messages(messages), Some((all, kept))) => {
                assert!(kept || model.more_may_be_kept);
                assert!(!messages.is_empty() && all.starts_with(&messages), "a hole");
                assert_eq!(Some(after), messages.last().map(|last| last.position));
                assert!(messages.len() <= limit);
            }
            (Batch::Nothing, Some((all, _))) => assert!(all.is_empty(), "messages were not told of"),
            (Batch::Gap(to), behind) => {
                assert_eq!((to.offset, to), (model.head(), after));
                assert!(!behind.is_some_and(|(_, kept)| kept) || may_lose, "no gap");
            }
            other => panic!("{other:?} at {before}"),
        }
    }

    fn reopen(&mut self) {
        if self.directory.is_none() {
            return;
        }
        for stream in &self.streams {
            assert_eq!(stream.got, stream.wanted);
        }
        self.streams.clear();
        self.cursors.clear();
        self.hub = None;
        self.open();
        for (channel, model) in self.models.iter_mut().enumerate() {
            model.used = None;
            if options(CHANNELS[channel]).history.messages == 0 || model.all.is_empty() {
                *model = Model::default();
            }
        }
    }

    fn end(self) {
        for stream in &self.streams {
            assert_eq!(stream.got, stream.wanted);
        }
    }
}

/// Returns whether another message would exceed the size of a page.
fn page_is_full(page: &[Published], all: &[Published], limits: &Limits) -> bool {
    let more = &all[..all.len().min(page.len() + 1)];
    more.iter().map(|published| published.message.len().max(1)).sum::<usize>() > limits.replay_bytes
}

fn run(stored: bool, memory: usize, steps: Vec<Step>) {
    let mut world = World::new(stored, memory);
    for step in steps {
        world.take(step);
    }
    world.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_match_the_model(steps in vec(step(), 1..150)) {
        run(false, usize::MAX, steps);
    }

    #[test]
    fn evicted_histories_are_reported_as_lost(steps in vec(step(), 1..150)) {
        run(false, 1500, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn evicted_histories_are_loaded_from_the_store(steps in vec(step(), 1..150)) {
        run(true, 1500, steps);
    }

    #[test]
    fn a_reopened_store_has_all_messages(steps in vec(step(), 1..150)) {
        run(true, usize::MAX, steps);
    }
}
