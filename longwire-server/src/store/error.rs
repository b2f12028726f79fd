//! Errors of the store.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An error of the [`Store`](super::Store). It names the file. Partial changes were reverted.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The system reported an error, such as a full disk or missing permission.
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// A file has invalid contents. Nothing is skipped: the channel is unavailable until an operator restores
    /// the file, or moves it and its twin (`.log`, `.old`) away.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The offset of the record, in bytes.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// Another process uses the directory.
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// A message exceeds the maximum record size.
    TooLarge {
        /// Size of its record, in bytes.
        bytes: usize,
        /// Maximum size of a record, in bytes.
        most: usize,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, file, error } => write!(f, "cannot {doing} {}: {error}", file.display()),
            Self::Corrupt { file, at, why } => write!(
                f,
                "{} is corrupt at byte {at}: {why}; restore it, or move it and its twin (.log, .old) away to \
                 discard the channel's history",
                file.display()
            ),
            Self::InUse { directory } => {
                write!(
                    f,
                    "another process uses {}; stop it, or choose another directory",
                    directory.display()
                )
            }
            Self::TooLarge { bytes, most } => {
                write!(f, "the message is too large for the store: {bytes} bytes, the maximum is {most}")
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
