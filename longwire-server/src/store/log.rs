//! One channel on disk: two append-only files.
//!
//! Messages are appended to `.log`. When `.log` is large enough and all messages in `.old` have expired,
//! `.log` is renamed to `.old` and a new `.log` begins. Expired messages are thus removed in constant time,
//! without rewriting. A channel takes at most twice the size of its history, plus twice [`ROLL`].

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::record::{Next, Record, Records, encode_head, encode_message};
use super::{Store, StoreError, Sync};
use crate::value::{ChannelName, Epoch, Position, Published};

/// Size in bytes from which a `.log` may become `.old`.
pub const ROLL: u64 = 64 << 10;

/// The end of a channel's log.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<CountedFile>,
    /// Bytes of valid records in `.log`; 0 if the file does not exist.
    len: u64,
    /// The file may contain more than `len` bytes, from a failed write.
    torn: bool,
    /// The latest offset on disk.
    last: u64,
    /// The last offset in `.old`.
    old: Option<u64>,
}

/// A file that is counted while open.
#[derive(Debug)]
struct CountedFile(File, Arc<AtomicUsize>);

impl Drop for CountedFile {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Log {
    /// Creates the log of a channel without files, or with an empty one. Its next message follows `last`.
    pub(crate) const fn fresh(last: u64) -> Self {
        Self { file: None, len: 0, torn: true, last, old: None }
    }

    /// Reads a channel's files and truncates an unfinished record. Each message is passed to `each`, with its
    /// key, in order. Returns `None` if there is no complete record.
    pub(super) fn load(
        store: &Store,
        name: &ChannelName,
        each: &mut dyn FnMut(Published, Option<Box<str>>),
    ) -> Result<Option<(Self, Epoch)>, StoreError> {
        let mut log = Self::fresh(0);
        let mut epoch = None;
        if let Some(mut old) = Records::open(store.path(name, "old"))? {
            if log.read(&mut old, name, &mut epoch, each)? {
                // It was complete when it was renamed.
                return Err(old.corrupt("the file ends within a record"));
            }
            log.old = Some(log.last);
        }
        if let Some(mut current) = Records::open(store.path(name, "log"))? {
            let torn = log.read(&mut current, name, &mut epoch, each)?;
            log.len = current.at();
            log.torn = torn;
            if torn {
                log.truncate(store, name)?;
                tracing::warn!(file = %store.path(name, "log").display(), at = log.len, "truncated an unfinished record");
            }
        }
        Ok(epoch.map(|epoch| (log, epoch)))
    }

    /// Reads one file. Returns whether it ends with an unfinished record.
    fn read(
        &mut self,
        records: &mut Records,
        name: &ChannelName,
        known: &mut Option<Epoch>,
        each: &mut dyn FnMut(Published, Option<Box<str>>),
    ) -> Result<bool, StoreError> {
        let mut begun = false;
        loop {
            let record = match records.next()? {
                Next::End => return Ok(false),
                Next::Torn => return Ok(true),
                Next::Record(record) => record,
            };
            match (record, *known) {
                (Record::Head { epoch, base, name: whose }, before) if !begun => {
                    if whose != name.as_str() {
                        return Err(records.corrupt("the file belongs to another channel"));
                    }
                    if before.is_some_and(|before| before != epoch || base != self.last) {
                        return Err(records.corrupt("the file does not continue its .old"));
                    }
                    (self.last, *known, begun) = (base, Some(epoch), true);
                }
                (Record::Message { offset, at, from, key, message }, Some(epoch)) if begun => {
                    if self.last.checked_add(1) != Some(offset) {
                        return Err(records.corrupt("an offset is out of sequence"));
                    }
                    self.last = offset;
                    each(Published { position: Position { epoch, offset }, at, from, message }, key);
                }
                _ => return Err(records.corrupt("a head must be the first record, and only that")),
            }
        }
    }

    /// Returns the latest offset on disk.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// Appends a message. When this returns, the operating system has it; with [`Sync::Always`], the disk has
    /// it. Earlier messages are still needed from the offset `wanted` on.
    ///
    /// # Errors
    ///
    /// The message was not stored. The next append may succeed.
    pub(crate) fn append(
        &mut self,
        store: &Store,
        name: &ChannelName,
        published: &Published,
        key: Option<&str>,
        wanted: u64,
    ) -> Result<(), StoreError> {
        if self.torn {
            self.truncate(store, name)?;
        }
        if self.len >= ROLL && self.old.is_none_or(|last| last < wanted) {
            self.roll(store, name)?;
        }
        let mut bytes = Vec::new();
        if self.len == 0 {
            encode_head(&mut bytes, published.position.epoch, self.last, name);
        }
        encode_message(&mut bytes, published, key)?;
        if let Err(error) = self.write(store, name, &bytes) {
            self.file = None;
            self.torn = true;
            // If this fails, it is repeated before the next append.
            let _ = self.truncate(store, name);
            return Err(error);
        }
        self.len += bytes.len() as u64;
        self.last = published.position.offset;
        if self.file.as_ref().is_some_and(|open| open.1.load(Ordering::Relaxed) > store.most_open) {
            self.file = None;
        }
        Ok(())
    }

    /// Closes the file; it is opened again when needed.
    pub(crate) fn release(&mut self) {
        self.file = None;
    }

    fn write(&mut self, store: &Store, name: &ChannelName, bytes: &[u8]) -> Result<(), StoreError> {
        let path = || store.path(name, "log");
        let CountedFile(file, _) = match &mut self.file {
            Some(open) => open,
            None => {
                let file = store.append_to(name)?;
                store.open.fetch_add(1, Ordering::Relaxed);
                self.file.insert(CountedFile(file, store.open.clone()))
            }
        };
        file.write_all(bytes).map_err(|error| StoreError::Io { doing: "write to", file: path(), error })?;
        match store.sync {
            Sync::Os => {}
            Sync::Interval(_) => store.unsynced(path()),
            Sync::Always => {
                file.sync_data().map_err(|error| StoreError::Io { doing: "sync", file: path(), error })?;
                if self.len == 0 {
                    store.sync_directory(name)?;
                }
            }
        }
        Ok(())
    }

    /// Truncates `.log` after its valid records.
    fn truncate(&mut self, store: &Store, name: &ChannelName) -> Result<(), StoreError> {
        let path = store.path(name, "log");
        let truncate = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file.set_len(self.len),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.len == 0 => Ok(()),
            Err(error) => Err(error),
        };
        truncate.map_err(|error| StoreError::Io { doing: "truncate", file: path, error })?;
        self.torn = false;
        Ok(())
    }

    fn roll(&mut self, store: &Store, name: &ChannelName) -> Result<(), StoreError> {
        let (log, old) = (store.path(name, "log"), store.path(name, "old"));
        if store.sync != Sync::Os {
            // Later syncs look for the data in `.log`.
            let synced = File::open(&log).and_then(|file| file.sync_data());
            synced.map_err(|error| StoreError::Io { doing: "sync", file: log.clone(), error })?;
        }
        self.file = None;
        std::fs::rename(&log, old).map_err(|error| StoreError::Io { doing: "rename", file: log, error })?;
        self.old = Some(self.last);
        self.len = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::value::Time;

    fn appended(store: &Store, log: &mut Log, offset: u64, wanted: u64) -> Result<(), StoreError> {
        let name = ChannelName::new("房间").expect("a name");
        let epoch = Epoch::from_bits(7).expect("bits");
        let message = "x".repeat(1000).into();
        let published =
            Published { position: Position { epoch, offset }, at: Time::default(), from: None, message };
        log.append(store, &name, &published, Some("k"), wanted)
    }

    #[test]
    fn remains_of_a_failed_write_are_truncated() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), Sync::Interval(Duration::ZERO)).expect("a store");
        let name = ChannelName::new("房间").expect("a name");
        let mut log = Log::fresh(0);
        for offset in 1..200 {
            let file = store.path(&name, "log");
            if file.exists() {
                // As on a disk that is full in the middle of a record.
                let garbage =
                    OpenOptions::new().append(true).open(&file).and_then(|mut it| it.write_all(b"half"));
                garbage.expect("written");
                log.torn = true;
            }
            appended(&store, &mut log, offset, offset).expect("appended");
        }
        let mut offsets = Vec::new();
        let loaded = store.load(&name, &mut |published, _| offsets.push(published.position.offset));
        let (loaded, epoch) = loaded.expect("sound").expect("there");
        assert_eq!((loaded.last(), epoch.bits(), loaded.len, loaded.old), (199, 7, log.len, log.old));
        assert!(offsets.len() < 199 && offsets.iter().copied().eq(offsets[0]..200));
        store.sync().expect("synced");
    }

    #[test]
    fn a_log_rolls_only_when_large_and_expired() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), Sync::Os).expect("a store");
        let mut log = Log::fresh(0);
        let mut rolls = Vec::new();
        for offset in 1..=300 {
            let before = log.len;
            appended(&store, &mut log, offset, if offset < 250 { 1 } else { offset }).expect("appended");
            if log.len < before {
                assert!(before >= ROLL);
                rolls.push(offset);
            } else {
                // The second roll waits until the first message is no longer needed.
                assert!(before < ROLL || log.old.is_some());
            }
        }
        assert!(rolls.len() == 2 && rolls[0] < 70 && rolls[1] == 250, "{rolls:?}");
    }
}
