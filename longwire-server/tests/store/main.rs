//! The store: what survives, what is removed, and how damaged files are handled.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

#[cfg(unix)]
mod kill;

mod files;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longwire_server::hub::{ChannelName, ChannelOptions, History, Hub, Limits};
use longwire_server::store::{Store, Sync};

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("a name")
}

fn keeping(messages: usize, bytes: usize) -> ChannelOptions {
    let history = History { messages, bytes, age: Duration::from_secs(300) };
    ChannelOptions { history, ..ChannelOptions::default() }
}

fn open(directory: &Path, options: ChannelOptions) -> Hub {
    open_with(Store::open(directory, Sync::Os).expect("a store"), options)
}

fn open_with(store: Store, options: ChannelOptions) -> Hub {
    let options = Arc::new(options);
    Hub::with_store(Limits::default(), store, move |_| options.clone())
}

/// Returns the files of all channels, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let shelves = fs::read_dir(directory).expect("a store").flatten().map(|entry| entry.path());
    let mut files: Vec<_> = shelves
        .filter(|path| path.is_dir())
        .flat_map(|shelf| fs::read_dir(shelf).expect("a shelf").flatten().map(|entry| entry.path()))
        .collect();
    files.sort();
    files
}
