//! History on disk: a directory with two files for each channel that has any (`log` says why two).
//!
//! Files are named by the SHA-1 of the channel's name, which their first record holds, so two channels that collide are
//! told apart and refused. A channel is read when it is first asked for; opening a store reads nothing.
//!
//! What is promised: a message that was acknowledged survives the death of the process at any moment, whole, at its
//! offset, in its epoch; its idempotency key does for its window. The death of the machine it survives by
//! [`Sync::Always`] only: by the others the end of a channel may be lost, its offsets are given again, and a file may
//! end in what counts as corrupt. One process at a time has a directory.

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

/// Files that are kept open, unless it is said otherwise.
const MOST_OPEN: usize = 512;

/// When what was written is forced to the disk. Without it, the operating system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// When the system likes.
    #[default]
    Os,
    /// At least so often: whoever has the store calls [`Store::sync`] at this interval.
    Interval(Duration),
    /// Before a message is acknowledged.
    Always,
}

/// A directory with channels in it.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    sync: Sync,
    most_open: usize,
    /// Files that are open.
    open: Arc<AtomicUsize>,
    /// Files that were written to since they were last synced.
    unsynced: Mutex<HashSet<PathBuf>>,
    sweep: Mutex<Sweep>,
    #[expect(dead_code, reason = "it holds the lock of the directory while it is open")]
    lock: File,
}

/// Where looking for stale files has come to.
#[derive(Debug, Default)]
struct Sweep {
    /// The directory to read next, of 256.
    next: u8,
    reading: Option<ReadDir>,
}

impl Store {
    /// Opens a directory, which is made if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] while another store has it, [`StoreError::Io`] where the system refuses.
    pub fn open(directory: impl Into<PathBuf>, sync: Sync) -> Result<Self, StoreError> {
        let directory = directory.into();
        let failed = |doing, file: &Path, error| StoreError::Io { doing, file: file.into(), error };
        fs::create_dir_all(&directory).map_err(|error| failed("make", &directory, error))?;
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

    /// How many files may stay open. 512 by default; beyond it a file is opened for each message.
    #[must_use]
    pub const fn open_files(mut self, most: usize) -> Self {
        self.most_open = most;
        self
    }

    /// Forces to the disk what was written since the last call. It waits for the disk; call it where that is allowed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] of the first file that failed; what failed is tried again by the next call.
    pub fn sync(&self) -> Result<(), StoreError> {
        let files = std::mem::take(&mut *lock_unpoisoned(&self.unsynced));
        // A file that is new is only there when its directory says so, and that when the one above does.
        let shelves: HashSet<_> = files.iter().filter_map(|file| file.parent()).map(PathBuf::from).collect();
        let mut first = Ok(());
        for file in files.iter().chain(&shelves).chain([&self.directory]) {
            match File::open(file).and_then(|opened| opened.sync_all()) {
                Ok(()) => {}
                // The channel was given up.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    lock_unpoisoned(&self.unsynced).extend(files.iter().cloned());
                    first = first.and(Err(StoreError::Io { doing: "sync", file: file.clone(), error }));
                }
            }
        }
        first
    }

    /// Reads a channel; `None` if nothing of it is stored. Each message goes to `each`, with its key, in order.
    pub(crate) fn load(
        &self,
        name: &ChannelName,
        each: &mut dyn FnMut(Published, Option<Box<str>>),
    ) -> Result<Option<(Log, Epoch)>, StoreError> {
        Log::load(self, name, each)
    }

    /// Somebody else has written to a channel's files.
    pub(crate) fn changed(&self, name: &ChannelName) -> StoreError {
        StoreError::Corrupt {
            file: self.path(name, "log"),
            at: 0,
            why: "it is not what was written: somebody has changed it while it was in use",
        }
    }

    /// Removes a channel.
    pub(crate) fn remove(&self, name: &ChannelName) -> Result<(), StoreError> {
        // In this order: an `.old` alone would be a channel that stands where it stood long ago.
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

    /// Looks at up to `count` further files, round and round, and gives `each` the channels they belong to, and when
    /// they were last written to.
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
            // Whatever else is wrong with the file is said when its channel is asked for.
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

    /// When a channel was last written to; `None` if nothing of it is stored.
    fn written(&self, name: &ChannelName) -> Option<Time> {
        let of = |which| fs::metadata(self.path(name, which)).and_then(|data| data.modified()).ok();
        let since = of("log").max(of("old"))?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Time::default().after(since))
    }

    /// A channel's file: `log` or `old`.
    fn path(&self, name: &ChannelName, which: &str) -> PathBuf {
        use std::fmt::Write;
        let mut path = String::with_capacity(48);
        for (n, byte) in Sha1::digest(name.as_bytes()).iter().enumerate() {
            // Writing to a String does not fail.
            let _ = write!(path, "{byte:02x}{}", if n == 0 { "/" } else { "" });
        }
        path.push('.');
        path.push_str(which);
        self.directory.join(path)
    }

    fn unsynced(&self, file: PathBuf) {
        lock_unpoisoned(&self.unsynced).insert(file);
    }

    /// Opens a channel's `.log` for appending; makes it, and the directory it is in, if need be.
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

    /// Forces to the disk that a channel has a new file.
    fn sync_directory(&self, name: &ChannelName) -> Result<(), StoreError> {
        let file = self.path(name, "log");
        for directory in [file.parent(), Some(self.directory.as_path())].into_iter().flatten() {
            let synced = File::open(directory).and_then(|opened| opened.sync_all());
            synced.map_err(|error| StoreError::Io { doing: "sync", file: directory.into(), error })?;
        }
        Ok(())
    }
}

/// A lock that no panic of another thread takes away.
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
        // One that cannot be removed, as if the process died in between.
        fs::create_dir_all(store.path(&name, "log")).expect("made");
        fs::write(store.path(&name, "old"), "old").expect("written");
        let removed = store.remove(&name);
        assert!(matches!(removed, Err(StoreError::Io { doing: "remove", .. })), "{removed:?}");
        assert!(!store.path(&name, "old").exists());
    }
}
