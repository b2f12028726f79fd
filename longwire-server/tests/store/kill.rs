//! A publishing process is killed at random moments: all acknowledged messages survive.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use longwire_server::hub::{ChannelOptions, Clock, History, Keys, PublishOptions};

use super::{files, name, open};

const DIRECTORY: &str = "LONGWIRE_TEST_STORE";
const KILLS: u32 = 50;
const CHANNELS: usize = 4;
/// Messages that each channel keeps.
const KEPT: usize = 40;

fn options() -> ChannelOptions {
    ChannelOptions {
        history: History { messages: KEPT, bytes: usize::MAX, age: Duration::from_secs(3600) },
        keys: Keys { count: 8, window: Duration::from_secs(3600) },
        ..ChannelOptions::default()
    }
}

/// Returns the message at an offset: small and large ones, up to many pages.
fn text(channel: usize, offset: u64) -> String {
    let length = match offset % 50 {
        0 => 100_000,
        1..=9 => 4000,
        n => n as usize,
    };
    let mut text = format!("{channel} {offset} 你好 ");
    while text.len() < length {
        text.push_str("👋 and again, ");
    }
    text
}

fn key(channel: usize, offset: u64) -> Option<String> {
    offset.is_multiple_of(3).then(|| format!("键 {channel} {offset}"))
}

/// The process that is killed: publishes to each channel from a thread, and prints acknowledgements.
#[test]
#[ignore = "it is run, and killed, by the other test"]
fn writer() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (hub, clock) = (open(Path::new(&directory), options()), Clock::start());
    thread::scope(|scope| {
        for channel in 0..CHANNELS {
            let hub = &hub;
            scope.spawn(move || {
                let room = name(&format!("房间 {channel}"));
                let page = hub.history(&room, None, 0, clock.now()).expect("a page");
                let mut offset = page.position.map_or(0, |head| head.offset);
                loop {
                    offset += 1;
                    let key = key(channel, offset);
                    let how = PublishOptions { from: None, key: key.as_deref(), now: clock.now() };
                    let receipt = hub
                        .publish(&room, text(channel, offset).into(), how, &mut |_| ())
                        .expect("published");
                    assert_eq!((receipt.position.offset, receipt.duplicate), (offset, false));
                    let said = format!("\nack {channel} {} {offset} .\n", receipt.position.epoch);
                    std::io::stdout().write_all(said.as_bytes()).expect("somebody listens");
                }
            });
        }
    });
}

#[test]
fn acknowledged_messages_survive() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut acknowledged: [Option<(String, u64)>; CHANNELS] = Default::default();
    let mut random = u64::from(std::process::id());
    let (mut rolled, mut most) = (false, 0);
    for _ in 0..KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut writer = Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "kill::writer", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a writer");
        let said = BufReader::new(writer.stdout.take().expect("its output"));
        let lives = Duration::from_micros((random >> 33) % 30_000);
        let mut dies: Option<Instant> = None;
        for line in said.lines() {
            let line = line.expect("a line");
            // Ignore a line that was cut off by the kill.
            let words: Vec<_> = line.split(' ').collect();
            if let ["ack", channel, epoch, offset, "."] = words[..] {
                let channel: usize = channel.parse().expect("a channel");
                acknowledged[channel] = Some((epoch.to_owned(), offset.parse().expect("an offset")));
            }
            // It writes from before its first line on, so any moment is suitable.
            if Instant::now() > *dies.get_or_insert_with(|| Instant::now() + lives) {
                writer.kill().expect("killed");
            }
        }
        assert!(!writer.wait().expect("its end").success(), "it was killed");
        rolled |= files(directory.path()).iter().any(|file| file.extension().is_some_and(|e| e == "old"));
        most = most.max(verify(directory.path(), &mut acknowledged));
    }
    assert!(rolled && most > 5 * KEPT as u64, "too little was written to prove anything: {most}");
}

/// Opens the store and compares it with the acknowledgements. Returns the largest offset.
fn verify(directory: &Path, acknowledged: &mut [Option<(String, u64)>; CHANNELS]) -> u64 {
    let (hub, now) = (open(directory, options()), Clock::start().now());
    let mut most = 0;
    for (channel, acknowledged) in acknowledged.iter_mut().enumerate() {
        let Some((epoch, last)) = acknowledged else { continue };
        let room = name(&format!("房间 {channel}"));
        let page = hub.history(&room, None, usize::MAX, now).expect("nothing is corrupt");
        let head = page.position.expect("it is there");
        assert_eq!(head.epoch.to_string(), *epoch);
        // The next message may be stored, but not acknowledged yet.
        assert!((*last..=*last + 1).contains(&head.offset), "{head} behind {last}");
        let kept = page.messages.len() as u64;
        assert_eq!(kept, head.offset.min(KEPT as u64));
        for (published, offset) in page.messages.iter().zip(head.offset - kept + 1..) {
            assert_eq!(published.position.offset, offset);
            assert_eq!(published.message.as_text(), Some(&*text(channel, offset)), "torn");
        }
        let keyed = *last - *last % 3;
        if let Some(key) = key(channel, keyed).filter(|_| keyed > 0) {
            let how = PublishOptions { from: None, key: Some(&key), now };
            let again = hub.publish(&room, "again".into(), how, &mut |_| panic!("delivered")).expect("known");
            assert_eq!((again.duplicate, again.position.offset), (true, keyed));
        }
        *last = head.offset;
        most = most.max(head.offset);
    }
    most
}
