//! The files of the store: what is truncated, rejected and removed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longwire_server::hub::{
    ChannelOptions, Clock, History, Hub, HubError, Keys, Limits, Page, Position, PublishOptions, Time, User,
};
use longwire_server::store::{RECORD_MAX, ROLL, Store, StoreError, Sync};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{files, keeping, name, open, open_with};

/// Size of the head record of this channel: frame, kind, version, epoch, offset, name.
const HEAD: usize = 12 + 1 + 1 + 8 + 8 + "房间".len();

fn now() -> Time {
    Clock::start().now()
}

fn publish(hub: &Hub, text: &str) -> Result<Position, HubError> {
    hub.publish(&name("房间"), text.into(), PublishOptions::at(now()), &mut |_| ())
        .map(|receipt| receipt.position)
}

fn page(hub: &Hub) -> Result<Page, HubError> {
    hub.history(&name("房间"), None, usize::MAX, now())
}

fn texts(hub: &Hub) -> Vec<String> {
    let page = page(hub).expect("a page");
    page.messages.iter().map(|published| published.message.as_text().expect("text").to_owned()).collect()
}

/// Creates a store with one channel of these messages, and returns its last position and file.
fn stored(directory: &Path, messages: &[&str]) -> (Position, PathBuf) {
    let hub = open(directory, ChannelOptions::default());
    let mut last = None;
    for text in messages {
        last = Some(publish(&hub, text).expect("published"));
    }
    let [file] = &files(directory)[..] else { panic!("one file") };
    (last.expect("messages"), file.clone())
}

#[test]
fn messages_are_loaded_completely() {
    let directory = tempfile::tempdir().expect("a directory");
    let (hub, now) = (open(directory.path(), ChannelOptions::default()), now());
    let user = User::new("用户 👋").expect("a user");
    let how = PublishOptions { from: Some(user), key: Some("k"), now };
    let mut published = Vec::new();
    for message in ["你好".into(), b"\0\xff".into(), "".into(), longwire::Message::from(b"")] {
        let how = PublishOptions { key: None, ..how.clone() };
        hub.publish(&name("房间"), message, how, &mut |it| published.push(it.clone())).expect("published");
    }
    let first = hub.publish(&name("房间"), "keyed".into(), how.clone(), &mut |_| ()).expect("published");
    let before = page(&hub).expect("a page");
    assert_eq!(before.messages[..4], published);
    drop(hub);

    let hub = open(directory.path(), ChannelOptions::default());
    assert_eq!(page(&hub).expect("a page"), before);
    let again = hub.publish(&name("房间"), "keyed".into(), how, &mut |_| panic!("delivered")).expect("known");
    assert_eq!((again.position, again.duplicate), (first.position, true));
    // Nothing else was ever stored.
    let other = hub.history(&name("other"), None, 9, now).expect("a page");
    assert_eq!((other.position, files(directory.path()).len()), (None, 1));
}

#[test]
fn only_one_process_can_use_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path(), Sync::Os).expect("a store");
    let second = Store::open(directory.path(), Sync::Os);
    assert!(
        matches!(&second, Err(StoreError::InUse { directory: it }) if it == directory.path()),
        "{second:?}"
    );
    drop(store);
    Store::open(directory.path(), Sync::Os).expect("a store");

    let file = directory.path().join("lock");
    let no_directory = Store::open(&file, Sync::Os);
    assert!(matches!(no_directory, Err(StoreError::Io { .. })), "{no_directory:?}");
}

#[test]
fn an_unfinished_record_is_truncated() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, file) = stored(directory.path(), &["one", "two"]);
    let whole = fs::read(&file).expect("a file");
    let (position, _) = stored(directory.path(), &["three 你好"]);
    assert_eq!(position.offset, 3);
    let longer = fs::read(&file).expect("a file");
    for length in whole.len()..longer.len() {
        fs::write(&file, &longer[..length]).expect("written");
        let hub = open(directory.path(), ChannelOptions::default());
        assert_eq!(texts(&hub), ["one", "two"], "{length}");
        assert_eq!(publish(&hub, "other").expect("published"), position);
        drop(hub);
        let hub = open(directory.path(), ChannelOptions::default());
        assert_eq!(texts(&hub), ["one", "two", "other"], "{length}");
    }
    // A crashed system has extended the file without writing to it.
    for zeros in [1, 12, 5000] {
        fs::write(&file, [&whole[..], &vec![0; zeros]].concat()).expect("written");
        assert_eq!(texts(&open(directory.path(), ChannelOptions::default())), ["one", "two"]);
    }
    // The head is incomplete: the channel never existed.
    for length in 0..HEAD {
        fs::write(&file, &whole[..length]).expect("written");
        let hub = open(directory.path(), ChannelOptions::default());
        assert_eq!(page(&hub).expect("a page").position, None);
        assert_eq!(publish(&hub, "first").expect("published").offset, 1);
        drop(hub);
        assert_eq!(texts(&open(directory.path(), ChannelOptions::default())), ["first"]);
    }
}

#[test]
fn every_changed_byte_is_detected_and_nothing_is_skipped() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, file) = stored(directory.path(), &["one 你好", "two", "three"]);
    let whole = fs::read(&file).expect("a file");
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1 << (place % 8);
        fs::write(&file, &changed).expect("written");
        let hub = open(directory.path(), ChannelOptions::default());
        for result in [page(&hub).map(drop), publish(&hub, "more").map(drop)] {
            let Err(HubError::Store(StoreError::Corrupt { file: blamed, at, .. })) = result else {
                panic!("byte {place}: {result:?}");
            };
            assert_eq!(blamed, file);
            assert!(usize::try_from(at).expect("small") <= place);
        }
        // Other channels work, and the file is unchanged.
        hub.publish(&name("other"), "text".into(), PublishOptions::at(now()), &mut |_| ())
            .expect("published");
        assert_eq!(fs::read(&file).expect("a file"), changed);
    }
    fs::write(&file, whole).expect("written");
    assert_eq!(texts(&open(directory.path(), ChannelOptions::default())).len(), 3);
}

/// Returns a valid record with this body.
fn record(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).expect("small").to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_le_bytes());
    [&frame, body].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any file, even with valid checksums, is read, truncated or rejected, and the hub keeps working.
    #[test]
    fn any_file_contents_are_handled(
        whole in any::<bool>(),
        bodies in vec((0..4_u8, vec(any::<u8>(), 0..60)), 0..4),
        end in vec(any::<u8>(), 0..30),
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let (_, file) = stored(directory.path(), &["one"]);
        let mut bytes = if whole { fs::read(&file).expect("a file") } else { Vec::new() };
        for (kind, body) in bodies {
            bytes.extend(record(&[&[kind], &body[..]].concat()));
        }
        bytes.extend(end);
        fs::write(&file, &bytes).expect("written");
        let hub = open(directory.path(), ChannelOptions::default());
        match page(&hub) {
            Ok(page) => {
                prop_assert_eq!(page.position.is_some(), publish(&hub, "more").expect("published").offset > 1);
            }
            Err(HubError::Store(StoreError::Corrupt { file: blamed, .. })) => {
                prop_assert_eq!(&blamed, &file);
                prop_assert_eq!(fs::read(file).expect("a file"), bytes);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_file_of_another_channel_is_rejected() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, file) = stored(directory.path(), &["one"]);
    let hub = open(directory.path(), ChannelOptions::default());
    hub.publish(&name("other"), "text".into(), PublishOptions::at(now()), &mut |_| ()).expect("published");
    let other = files(directory.path()).into_iter().find(|it| *it != file).expect("another");
    fs::copy(other, &file).expect("copied");
    let refused = page(&hub);
    assert!(matches!(refused, Err(HubError::Store(StoreError::Corrupt { at: 0, .. }))), "{refused:?}");

    // A valid record in the wrong place.
    let directory = tempfile::tempdir().expect("a directory");
    let (_, file) = stored(directory.path(), &["one"]);
    let one = fs::read(&file).expect("a file");
    OpenOptions::new().append(true).open(&file).expect("a file").write_all(&one).expect("written");
    let refused = page(&open(directory.path(), ChannelOptions::default()));
    let at_end = one.len() as u64;
    assert!(
        matches!(refused, Err(HubError::Store(StoreError::Corrupt { at, .. })) if at == at_end),
        "{refused:?}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_rejects_messages_and_damages_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    // No file stays open, so that each message finds the current file.
    let store = Store::open(directory.path(), Sync::Os).expect("a store").open_files(0);
    let hub = open_with(store, ChannelOptions::default());
    let first = publish(&hub, "one").expect("published");
    let [file] = &files(directory.path())[..] else { panic!("one file") };
    let aside = directory.path().join("aside");
    fs::rename(file, &aside).expect("moved");
    std::os::unix::fs::symlink("/dev/full", file).expect("linked");
    for _ in 0..3 {
        let how = PublishOptions { from: None, key: Some("k"), now: now() };
        let refused = hub.publish(&name("房间"), "lost".into(), how, &mut |_| panic!("delivered"));
        assert!(
            matches!(&refused, Err(HubError::Store(StoreError::Io { file: it, .. })) if it == file),
            "{refused:?}"
        );
        // History can be read meanwhile, and other channels accept messages.
        assert_eq!(texts(&hub), ["one"]);
        hub.publish(&name("other"), "text".into(), PublishOptions::at(now()), &mut |_| ())
            .expect("published");
    }
    fs::remove_file(file).expect("removed");
    fs::rename(&aside, file).expect("moved");
    let how = PublishOptions { from: None, key: Some("k"), now: now() };
    let second = hub.publish(&name("房间"), "two".into(), how, &mut |_| ()).expect("published");
    assert_eq!((second.position.epoch, second.position.offset, second.duplicate), (first.epoch, 2, false));
    drop(hub);
    assert_eq!(texts(&open(directory.path(), ChannelOptions::default())), ["one", "two"]);
}

#[test]
fn expired_messages_leave_the_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = open(directory.path(), keeping(10, usize::MAX));
    let (text, record) = ("x".repeat(1000), 1100);
    let mut olds = 0;
    for n in 1..=1000 {
        assert_eq!(publish(&hub, &text).expect("published").offset, n);
        let files = files(directory.path());
        olds = olds.max(files.len());
        let bytes: u64 = files.iter().map(|file| file.metadata().expect("a file").len()).sum();
        assert!(bytes <= 2 * (ROLL + record) + 10 * record, "{bytes} after {n}");
    }
    assert_eq!(olds, 2);
    drop(hub);
    let hub = open(directory.path(), keeping(10, usize::MAX));
    assert_eq!((texts(&hub).len(), publish(&hub, "on").expect("published").offset), (10, 1001));
}

#[test]
fn idempotency_keys_keep_their_messages_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let options =
        ChannelOptions { keys: Keys { count: 9, window: Duration::from_secs(600) }, ..keeping(1, 9999) };
    let hub = open(directory.path(), options.clone());
    let how = PublishOptions { from: None, key: Some("early"), now: now() };
    let first = hub.publish(&name("房间"), "text".into(), how.clone(), &mut |_| ()).expect("published");
    for _ in 0..300 {
        publish(&hub, &"x".repeat(1000)).expect("published");
    }
    drop(hub);
    let hub = open(directory.path(), options);
    let again = hub.publish(&name("房间"), "text".into(), how, &mut |_| panic!("delivered")).expect("known");
    assert_eq!(again.position, first.position);
}

#[test]
fn empty_channels_are_removed_in_memory_and_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = open(directory.path(), ChannelOptions::default());
    let start = now();
    for n in 0..40 {
        hub.publish(&name(&n.to_string()), "text".into(), PublishOptions::at(start), &mut |_| ())
            .expect("published");
    }
    let round = |hub: &Hub, now| (0..256).for_each(|_| hub.tick(now).expect("upkeep"));
    // Idle channels leave memory, and the disk once they have expired.
    let idle = start.after(Limits::default().linger);
    round(&hub, idle);
    assert_eq!((hub.channels(), hub.history_memory(), files(directory.path()).len()), (0, 0, 40));
    let page = hub.history(&name("7"), None, 9, idle).expect("a page");
    assert_eq!((page.messages.len(), hub.channels()), (1, 1));
    // One is in memory and in use, one in memory, the others are not.
    let (in_use, ()) = hub.subscribe(&name("8"), None, None, idle, drop).expect("subscribed");
    round(&hub, start.after(Duration::from_secs(299)));
    assert_eq!(files(directory.path()).len(), 40);
    // The files are slightly newer than the messages.
    round(&hub, start.after(Duration::from_secs(310)));
    assert_eq!((hub.channels(), files(directory.path()).len()), (1, 1));
    drop((in_use, hub));
}

#[test]
fn channels_of_another_process_are_removed_gradually() {
    let directory = tempfile::tempdir().expect("a directory");
    let (hub, count, a_tick) = (open(directory.path(), ChannelOptions::default()), 100_usize, 32);
    for n in 0..count {
        hub.publish(&name(&n.to_string()), "text".into(), PublishOptions::at(now()), &mut |_| ())
            .expect("published");
    }
    drop(hub);
    let hub = open(directory.path(), ChannelOptions::default());
    let much_later = now().after(Duration::from_secs(1000));
    for ticks in 0..=(256 + 256 + count) / a_tick {
        assert!(files(directory.path()).len() >= count.saturating_sub(ticks * a_tick));
        hub.tick(much_later).expect("upkeep");
    }
    assert_eq!(files(directory.path()).len(), 0);
}

#[test]
fn many_channels_are_removed_in_one_round() {
    let directory = tempfile::tempdir().expect("a directory");
    // Enough channels that some shards are checked in several portions.
    let (hub, count, start) = (open(directory.path(), ChannelOptions::default()), 60 * 256, now());
    for n in 0..count {
        hub.publish(&name(&n.to_string()), "text".into(), PublishOptions::at(start), &mut |_| ())
            .expect("published");
    }
    assert_eq!(hub.channels(), count);
    (0..256).for_each(|_| hub.tick(start.after(Duration::from_secs(1000))).expect("upkeep"));
    assert_eq!((hub.channels(), hub.history_memory(), files(directory.path()).len()), (0, 0, 0));
}

#[test]
fn files_that_do_not_belong_together_are_rejected() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = || open(directory.path(), keeping(10, usize::MAX));
    let hub = open();
    for _ in 0..100 {
        publish(&hub, &"x".repeat(1000)).expect("published");
    }
    drop(hub);
    let [log, old] = &files(directory.path())[..] else { panic!("two files") };
    assert_eq!(texts(&open()).len(), 10);
    let (log_was, old_was) = (fs::read(log).expect("a file"), fs::read(old).expect("a file"));
    let refused = |blamed: &Path| match page(&open()) {
        Err(HubError::Store(StoreError::Corrupt { file, .. })) => assert_eq!(file, blamed),
        other => panic!("{other:?}"),
    };
    // An older `.old`, one of another epoch, and a truncated one.
    fs::write(log, &old_was).expect("written");
    refused(log);
    fs::write(log, &log_was).expect("written");
    fs::write(old, &old_was[..old_was.len() - 1]).expect("written");
    refused(old);
    let other = tempfile::tempdir().expect("a directory");
    let (_, fresh) = stored(other.path(), &["one"]);
    fs::copy(fresh, old).expect("copied");
    refused(log);
    fs::write(old, &old_was).expect("written");
    assert_eq!(texts(&open()).len(), 10);
}

#[test]
fn a_record_is_bounded() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = ChannelOptions {
        history: History { messages: 1, bytes: usize::MAX, age: Duration::from_secs(600) },
        ..ChannelOptions::default()
    };
    let hub = open(directory.path(), options.clone());
    // Kind, offset, time, no user, no key.
    let largest = RECORD_MAX - 19;
    let text = "x".repeat(largest + 1);
    let refused = publish(&hub, &text);
    assert!(
        matches!(refused, Err(HubError::Store(StoreError::TooLarge { bytes, most })) if bytes == most + 1),
        "{refused:?}"
    );
    assert_eq!(publish(&hub, &text[1..]).expect("published").offset, 1);
    drop(hub);
    assert_eq!(texts(&open(directory.path(), options))[0].len(), largest);
}

#[test]
fn synced_messages_are_loaded() {
    for sync in [Sync::Always, Sync::Interval(Duration::from_millis(10))] {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), sync).expect("a store").open_files(1);
        let hub = open_with(store, keeping(5, usize::MAX));
        for n in 0..200 {
            publish(&hub, &format!("{n} {}", "x".repeat(1000))).expect("published");
            hub.publish(&name("other"), "text".into(), PublishOptions::at(now()), &mut |_| ())
                .expect("published");
            hub.store().expect("it has one").sync().expect("synced");
        }
        drop(hub);
        assert_eq!(texts(&open(directory.path(), keeping(5, usize::MAX))).len(), 5);
    }
}
