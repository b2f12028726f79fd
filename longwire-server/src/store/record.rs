//! Encoding and decoding of records.
//!
//! A record has a frame of 12 bytes and a body. The frame consists of three little-endian 32-bit numbers: the
//! length of the body, the CRC-32 of the body, and the CRC-32 of these two. A damaged length can thus be
//! distinguished from an incomplete body. Only a body that ends with the file, after a valid frame, counts as
//! unfinished.
//!
//! | body | |
//! |---|---|
//! | head | 0, version (1), epoch (8), offset before the first message (8), name of the channel |
//! | message | 1 text or 2 binary, offset (8), time (8), length and user (1..), length and key (1..), payload |

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use bytes::Bytes;
use longwire::{Message, Utf8Bytes};

use super::StoreError;
use crate::value::{Epoch, Published, Time, User};

/// Maximum size of a record body, in bytes. It limits the size of a stored message.
pub const RECORD_MAX: usize = 64 << 20;

const FRAME: usize = 12;
const VERSION: u8 = 1;
const HEAD: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// A record of a file.
pub(super) enum Record {
    /// The first record: the channel of the file, and the offset before its first message.
    Head { epoch: Epoch, base: u64, name: String },
    /// A message of the epoch in the head.
    Message { offset: u64, at: Time, from: Option<User>, key: Option<Box<str>>, message: Message },
}

/// Appends the head of a file.
pub(super) fn encode_head(into: &mut Vec<u8>, epoch: Epoch, base: u64, name: &str) {
    framed(into, |body| {
        body.extend_from_slice(&[HEAD, VERSION]);
        body.extend_from_slice(&epoch.bits().to_le_bytes());
        body.extend_from_slice(&base.to_le_bytes());
        body.extend_from_slice(name.as_bytes());
    });
}

/// Appends a message.
pub(super) fn encode_message(
    into: &mut Vec<u8>,
    published: &Published,
    key: Option<&str>,
) -> Result<(), StoreError> {
    let Published { position, at, from, message } = published;
    let (from, key) = (from.as_deref().unwrap_or_default(), key.unwrap_or_default());
    let bytes = 1 + 8 + 8 + 1 + from.len() + 1 + key.len() + message.len();
    if bytes > RECORD_MAX {
        return Err(StoreError::TooLarge { bytes, most: RECORD_MAX });
    }
    into.reserve(FRAME + bytes);
    framed(into, |body| {
        body.push(if message.as_text().is_some() { TEXT } else { BINARY });
        body.extend_from_slice(&position.offset.to_le_bytes());
        body.extend_from_slice(&at.as_millis().to_le_bytes());
        for short in [from, key] {
            // Names and keys have at most 255 bytes, and are not empty if present.
            body.push(short.len() as u8);
            body.extend_from_slice(short.as_bytes());
        }
        body.extend_from_slice(message.as_bytes());
    });
    Ok(())
}

fn framed(into: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&[0; FRAME]);
    body(into);
    let body = &into[start + FRAME..];
    let mut frame = [0; FRAME];
    frame[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    frame[4..8].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let sealed = crc32fast::hash(&frame[..8]);
    frame[8..].copy_from_slice(&sealed.to_le_bytes());
    into[start..start + FRAME].copy_from_slice(&frame);
}

/// Reads the records of a file in order.
pub(super) struct Records {
    file: BufReader<File>,
    path: PathBuf,
    /// Offsets of the current and the next record.
    start: u64,
    at: u64,
    len: u64,
}

/// The next item of a file.
pub(super) enum Next {
    Record(Record),
    /// The end of the file.
    End,
    /// The file ends with an unfinished record or with zeros, because its writer crashed.
    Torn,
}

impl Records {
    /// Opens a file; `None` if it does not exist.
    pub(super) fn open(path: PathBuf) -> Result<Option<Self>, StoreError> {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Io { doing: "open", file: path, error }),
        };
        match file.metadata() {
            Ok(data) => Ok(Some(Self { file: BufReader::new(file), path, start: 0, at: 0, len: data.len() })),
            Err(error) => Err(StoreError::Io { doing: "inspect", file: path, error }),
        }
    }

    /// Returns the number of valid bytes that were read.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Returns an error for the current record.
    pub(super) fn corrupt(&self, why: &'static str) -> StoreError {
        StoreError::Corrupt { file: self.path.clone(), at: self.start, why }
    }

    /// Reads the next record. Allocates no more than the size of the file.
    pub(super) fn next(&mut self) -> Result<Next, StoreError> {
        self.start = self.at;
        let left = self.len - self.at;
        if left == 0 {
            return Ok(Next::End);
        }
        if left < FRAME as u64 {
            return Ok(Next::Torn);
        }
        let mut frame = [0; FRAME];
        self.fill(&mut frame)?;
        let number = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        if crc32fast::hash(&frame[..8]) != number(8) {
            // A system that crashed may have extended the file before writing to it.
            let zeros = frame == [0; FRAME] && self.rest_is_zero()?;
            return if zeros { Ok(Next::Torn) } else { Err(self.corrupt("a frame fails its checksum")) };
        }
        let length = number(0) as usize;
        if length > RECORD_MAX {
            return Err(self.corrupt("a record exceeds the maximum size"));
        }
        if (length as u64) > left - FRAME as u64 {
            return Ok(Next::Torn);
        }
        let mut body = vec![0; length];
        self.fill(&mut body)?;
        if crc32fast::hash(&body) != number(4) {
            return Err(self.corrupt("a record fails its checksum"));
        }
        let record = decode(body.into()).ok_or_else(|| self.corrupt("a record is invalid"))?;
        self.at += (FRAME + length) as u64;
        Ok(Next::Record(record))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), StoreError> {
        let filled = self.file.read_exact(bytes);
        filled.map_err(|error| StoreError::Io { doing: "read", file: self.path.clone(), error })
    }

    fn rest_is_zero(&mut self) -> Result<bool, StoreError> {
        let mut block = [0; 4096];
        loop {
            match self.file.read(&mut block) {
                Ok(0) => return Ok(true),
                Ok(n) if block[..n].iter().all(|&b| b == 0) => {}
                Ok(_) => return Ok(false),
                Err(error) => return Err(StoreError::Io { doing: "read", file: self.path.clone(), error }),
            }
        }
    }
}

fn decode(mut body: Bytes) -> Option<Record> {
    let take = |body: &mut Bytes, n: usize| (body.len() >= n).then(|| body.split_to(n));
    let long = |body: &mut Bytes| Some(u64::from_le_bytes(take(body, 8)?.as_ref().try_into().ok()?));
    let kind = *take(&mut body, 1)?.first()?;
    if kind == HEAD {
        if *take(&mut body, 1)?.first()? != VERSION {
            return None;
        }
        let (epoch, base) = (Epoch::from_bits(long(&mut body)?)?, long(&mut body)?);
        return Some(Record::Head { epoch, base, name: String::from_utf8(body.into()).ok()? });
    }
    let (offset, at) = (long(&mut body)?, Time::from_millis(long(&mut body)?));
    let short = |body: &mut Bytes| {
        let length = *take(body, 1)?.first()?;
        String::from_utf8(take(body, length.into())?.into()).ok()
    };
    let (from, key) = (short(&mut body)?, short(&mut body)?);
    let from = if from.is_empty() { None } else { Some(User::new(&from).ok()?) };
    let key = (!key.is_empty()).then(|| key.into_boxed_str());
    let message = match kind {
        TEXT => Message::Text(Utf8Bytes::try_from(body).ok()?),
        BINARY => Message::Binary(body),
        _ => return None,
    };
    Some(Record::Message { offset, at, from, key, message })
}
