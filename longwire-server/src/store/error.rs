//! What can go wrong with the disk.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An error of the [`Store`](super::Store). It names the file; nothing was half done that is not undone.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused: disk full, no permission, too many open files.
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or directory.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file holds what was never written so. Nothing is skipped: its channel stays refused until somebody has
    /// looked at the file, and has moved it and its twin (`.log`, `.old`) away or restored them.
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// The byte at which the record begins.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process has the directory.
    InUse {
        /// Which directory.
        directory: PathBuf,
    },
    /// A message is larger than a record may be.
    TooLarge {
        /// Bytes of its record.
        bytes: usize,
        /// Bytes of the largest record.
        most: usize,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, file, error } => write!(f, "cannot {doing} {}: {error}", file.display()),
            Self::Corrupt { file, at, why } => write!(
                f,
                "{} is corrupt at byte {at}: {why}; restore it, or move it and its twin (.log, .old) away to give \
                 up the channel's history",
                file.display()
            ),
            Self::InUse { directory } => {
                write!(f, "another process uses {}; end it, or choose another directory", directory.display())
            }
            Self::TooLarge { bytes, most } => {
                write!(f, "a message of {bytes} bytes cannot be stored; at most {most} are possible")
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
