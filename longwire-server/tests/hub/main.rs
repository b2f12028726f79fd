//! The hub compared with models, with many threads, and at its limits.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod benchmarks;
mod cursors;
mod limits;
mod model;
mod presence;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use longwire_server::hub::{
    ChannelName, ChannelOptions, Hub, Limits, Position, PublishOptions, Published, Time,
};

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("a name")
}

/// Returns a time after the beginning of 2100, when all files are old.
fn at(millis: u64) -> Time {
    Time::from_millis(4_102_444_800_000 + millis)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn hub(options: ChannelOptions) -> Hub {
    hub_within(Limits::default(), options)
}

fn hub_within(limits: Limits, options: ChannelOptions) -> Hub {
    let options = Arc::new(options);
    Hub::new(limits, move |_| options.clone())
}

/// Publishes a text and returns its position.
fn publish(hub: &Hub, channel: &ChannelName, text: &str, now: Time) -> Position {
    let mut delivered = None;
    let receipt = hub
        .publish(channel, text.into(), PublishOptions::at(now), &mut |published| {
            assert!(delivered.replace(published.position).is_none(), "delivered twice");
        })
        .expect("published");
    assert_eq!(delivered, Some(receipt.position));
    receipt.position
}

fn texts(messages: &[Published]) -> Vec<&str> {
    messages.iter().filter_map(|published| published.message.as_text()).collect()
}
