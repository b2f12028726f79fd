//! Prints messages on standard output: text as lines, binary as a hex dump or unchanged.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use longwire::Message;
use tokio::io::{AsyncWriteExt, BufWriter, Stdout};

use crate::terminal;

/// Bytes per row of a hex dump.
const ROW: usize = 16;

/// Bytes that are formatted at once; a multiple of [`ROW`].
const CHUNK: usize = 16 * 1024;

/// Size of the output buffer, in bytes.
const BLOCK: usize = 64 * 1024;

/// Standard output.
pub(super) struct Output {
    stdout: BufWriter<Stdout>,
    raw: bool,
    /// Standard output is a terminal: escape control characters in text.
    terminal: bool,
}

impl Output {
    /// With `raw`, binary messages are printed unchanged.
    pub(super) fn new(raw: bool) -> Self {
        Self {
            stdout: BufWriter::with_capacity(BLOCK, tokio::io::stdout()),
            raw,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// Writes one message; it is visible at the latest after [`flush`](Self::flush). Not cancel-safe: a part
    /// of it may have been written.
    pub(super) async fn write(&mut self, message: &Message) -> io::Result<()> {
        match message {
            Message::Text(text) => {
                let text: &str = text;
                if self.terminal {
                    self.stdout.write_all(terminal::escaped(text).as_bytes()).await?;
                } else {
                    self.stdout.write_all(text.as_bytes()).await?;
                }
                self.stdout.write_all(b"\n").await?;
            }
            Message::Binary(bytes) if self.raw => self.stdout.write_all(bytes).await?,
            Message::Binary(bytes) => {
                for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
                    self.stdout.write_all(hex_rows(index * CHUNK, chunk).as_bytes()).await?;
                }
                // Like `hexdump -C`, the dump ends with the length, even for an empty message.
                self.stdout.write_all(format!("{:08x}\n", bytes.len()).as_bytes()).await?;
            }
        }
        Ok(())
    }

    /// Flushes the output. Cancel-safe: the next call continues.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush().await
    }
}

/// Formats rows with the offset, the bytes in hexadecimal, and their ASCII characters.
fn hex_rows(offset: usize, bytes: &[u8]) -> String {
    let mut rows = String::with_capacity(bytes.len() * 5 + 80);
    for (index, row) in bytes.chunks(ROW).enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(rows, "{:08x} ", offset + index * ROW);
        for at in 0..ROW {
            if at % 8 == 0 {
                rows.push(' ');
            }
            match row.get(at) {
                Some(byte) => drop(write!(rows, "{byte:02x} ")),
                None => rows.push_str("   "),
            }
        }
        rows.push_str(" |");
        rows.extend(
            row.iter()
                .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }),
        );
        rows.push_str("|\n");
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_hexdump() {
        let bytes: Vec<u8> = (0x3a_u8..0x4d).collect();
        assert_eq!(
            hex_rows(0x10, &bytes),
            "00000010  3a 3b 3c 3d 3e 3f 40 41  42 43 44 45 46 47 48 49  |:;<=>?@ABCDEFGHI|\n\
             00000020  4a 4b 4c                                          |JKL|\n"
        );
        assert_eq!(
            hex_rows(0, b"\x00\xff \x7f"),
            format!("00000000  00 ff 20 7f {}|.. .|\n", " ".repeat(38))
        );
    }
}
