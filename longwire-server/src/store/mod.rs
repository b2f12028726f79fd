//! History on disk: a directory with two files for each channel with a history (see `log`).
//!
//! Files are named by the SHA-1 of the channel name. The first record contains the name, so colliding
//! channels are detected and rejected. A channel is loaded on first use; opening a store reads nothing.
//!
//! Guarantees: an acknowledged message survives a crash of the process at any moment, with its offset and
//! epoch, and its idempotency key for the configured time. It survives a crash of the machine only with
//! [`Sync::Always`]. In the other modes, the latest messages of a channel may be lost, their offsets are
//! assigned again, and a file may end with data that counts as corrupt. Only one process at a time can use a
//! directory.

mod error;
mod log;
mod record;

use std::collections::HashSet;
use std::fs::{self, File, ReadDir, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use sha1::{Digest, Sha1};

pub use error::StoreError;
pub(crate) use log::Log;
pub use log::ROLL;
pub use record::RECORD_MAX;

use crate::value::{ChannelName, Epoch, Published, Time};
use record::{Next, Record, Records};

/// Default number of files that are kept open.
const MOST_OPEN: usize = 512;

/// When written data is synced to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// When the operating system does.
    #[default]
    Os,
    /// At this interval: the owner of the store calls [`Store::sync`].
    Interval(Duration),
    /// Before a message is acknowledged.
    Always,
}

/// A directory with the history of channels.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    sync: Sync,
    most_open: usize,
    /// Number of open files.
    open: Arc<AtomicUsize>,
    /// Files written since the last sync.
    unsynced: Mutex<HashSet<PathBuf>>,
    sweep: Mutex<Sweep>,
    #[expect(dead_code, reason = "holds the lock of the directory while it is open")]
    lock: File,
}

/// How far the search for expired files has come.
#[derive(Debug, Default)]
struct Sweep {
    /// The next of 256 directories.
    next: u8,
    reading: Option<ReadDir>,
}

impl Store {
    /// Opens a directory, and creates it if necessary.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::InUse`] if another store uses it, or [`StoreError::Io`] if the system reports an
    /// error.
    pub fn open(directory: impl Into<PathBuf>, sync: Sync) -> Result<Self, StoreError> {
        let directory = directory.into();
        let failed = |doing, file: &Path, error| StoreError::Io { doing, file: file.into(), error };
        fs::create_dir_all(&directory).map_err(|error| failed("create", &directory, error))?;
        let path = directory.join("lock");
        let opened = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = opened.map_err(|error| failed("open", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { directory }),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
        }
        Ok(Self {
            directory,
            sync,
            most_open: MOST_OPEN,
            open: Arc::default(),
            unsynced: Mutex::default(),
            sweep: Mutex::default(),
            lock,
        })
    }

    /// Sets the number of files that stay open; 512 by default. Above it, a file is opened for each message.
    #[must_use]
    pub const fn open_files(mut self, most: usize) -> Self {
        self.most_open = most;
        self
    }

    /// Syncs everything that was written since the last call. It blocks on the disk.
    ///
    /// # Errors
    ///
    /// Returns the [`StoreError::Io`] of the first failed file. The next call retries.
    pub fn sync(&self) -> Result<(), StoreError> {
        let files = std::mem::take(&mut *lock_unpoisoned(&self.unsynced));
        // A new file is durable only when its directory and the parent directory are synced.
        let shelves: HashSet<_> = files.iter().filter_map(|file| file.parent()).map(PathBuf::from).collect();
        let mut first = Ok(());
        for file in files.iter().chain(&shelves).chain([&self.directory]) {
            match File::open(file).and_then(|opened| opened.sync_all()) {
                Ok(()) => {}
                // The channel was removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    lock_unpoisoned(&self.unsynced).extend(files.iter().cloned());
                    first = first.and(Err(StoreError::Io { doing: "sync", file: file.clone(), error }));
                }
            }
        }
        first
    }

    /// Loads a channel; `None` if it is not stored. Each message is passed to `each`, with its key, in order.
    pub(crate) fn load(
        &self,
        name: &ChannelName,
        each: &mut dyn FnMut(Published, Option<Box<str>>),
    ) -> Result<Option<(Log, Epoch)>, StoreError> {
        Log::load(self, name, each)
    }

    /// Returns the error for files that another program has modified.
    pub(crate) fn changed(&self, name: &ChannelName) -> StoreError {
        StoreError::Corrupt {
            file: self.path(name, "log"),
            at: 0,
            why: "another program changed the file while it was in use",
        }
    }

    /// Removes a channel.
    pub(crate) fn remove(&self, name: &ChannelName) -> Result<(), StoreError> {
        // In this order, because an `.old` alone would be an outdated channel.
        for which in ["old", "log"] {
            let file = self.path(name, which);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Io { doing: "remove", file, error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks up to `count` further files in a cycle. Passes their channels to `each`, with the time of the
    /// last write.
    pub(crate) fn sweep(
        &self,
        count: usize,
        each: &mut dyn FnMut(ChannelName, Time),
    ) -> Result<(), StoreError> {
        let mut sweep = lock_unpoisoned(&self.sweep);
        let Sweep { next, reading } = &mut *sweep;
        for _ in 0..count {
            let entry = match reading {
                Some(reading) => reading.next(),
                None => {
                    let shelf = self.directory.join(format!("{next:02x}"));
                    *next = next.wrapping_add(1);
                    *reading = match fs::read_dir(&shelf) {
                        Ok(listed) => Some(listed),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                        Err(error) => return Err(StoreError::Io { doing: "list", file: shelf, error }),
                    };
                    continue;
                }
            };
            let Some(Ok(entry)) = entry else {
                *reading = None;
                continue;
            };
            // Other errors are reported when the channel is used.
            let Ok(Some(mut records)) = Records::open(entry.path()) else { continue };
            let Ok(Next::Record(Record::Head { name, .. })) = records.next() else { continue };
            if let Ok(name) = ChannelName::new(&name)
                && let Some(written) = self.written(&name)
            {
                each(name, written);
            }
        }
        Ok(())
    }

    /// Returns the time of the last write; `None` if the channel is not stored.
    fn written(&self, name: &ChannelName) -> Option<Time> {
        let of = |which| fs::metadata(self.path(name, which)).and_then(|data| data.modified()).ok();
        let since = of("log").max(of("old"))?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Time::default().after(since))
    }

    /// Returns the path of a channel's file: `log` or `old`.
    fn path(&self, name: &ChannelName, which: &str) -> PathBuf {
        use std::fmt::Write;
        let mut path = String::with_capacity(48);
        for (n, byte) in Sha1::digest(name.as_bytes()).iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(path, "{byte:02x}{}", if n == 0 { "/" } else { "" });
        }
        path.push('.');
        path.push_str(which);
        self.directory.join(path)
    }

    fn unsynced(&self, file: PathBuf) {
        lock_unpoisoned(&self.unsynced).insert(file);
    }

    /// Opens a channel's `.log` for appending; creates it and its directory if necessary.
    fn append_to(&self, name: &ChannelName) -> Result<File, StoreError> {
        let file = self.path(name, "log");
        let open = || File::options().append(true).create(true).open(&file);
        let opened = match (open(), file.parent()) {
            (Err(error), Some(shelf)) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(shelf).and_then(|()| open())
            }
            (opened, _) => opened,
        };
        opened.map_err(|error| StoreError::Io { doing: "open", file, error })
    }

    /// Syncs the directory entry of a new file.
    fn sync_directory(&self, name: &ChannelName) -> Result<(), StoreError> {
        let file = self.path(name, "log");
        for directory in [file.parent(), Some(self.directory.as_path())].into_iter().flatten() {
            let synced = File::open(directory).and_then(|opened| opened.sync_all());
            synced.map_err(|error| StoreError::Io { doing: "sync", file: directory.into(), error })?;
        }
        Ok(())
    }
}

/// Locks a mutex even if another thread has panicked.
fn lock_unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_file_goes_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), Sync::Os).expect("a store");
        let name = ChannelName::new("房间").expect("a name");
        // A file that cannot be removed simulates a crash in between.
        fs::create_dir_all(store.path(&name, "log")).expect("made");
        fs::write(store.path(&name, "old"), "old").expect("written");
        let removed = store.remove(&name);
        assert!(matches!(removed, Err(StoreError::Io { doing: "remove", .. })), "{removed:?}");
        assert!(!store.path(&name, "old").exists());
    }
}
