//! Reads standard input as lines in a separate thread, because a terminal cannot be read without blocking.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

/// Maximum length of a line, in bytes. It equals the default message limit of clients.
const LINE_MAX: u64 = 64 * 1024 * 1024;

/// Size of a read, in bytes. Lines that arrive together stay together.
const BLOCK: usize = 64 * 1024;

/// Lines in order, and the reason if the input cannot be read further.
pub(super) struct Batch {
    pub(super) lines: Vec<String>,
    pub(super) error: Option<String>,
}

/// Starts reading. The channel ends with the input, or after a batch with an error. The thread waits until
/// each batch is taken. It therefore buffers little more than two blocks, or two long lines.
pub(super) fn read() -> mpsc::Receiver<Batch> {
    let (to, batches) = mpsc::channel(1);
    // The thread is not joined: it may be blocked in a read when the program ends.
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(BLOCK, io::stdin());
        let mut lines = Vec::new();
        for number in 1_u64.. {
            let error = match next(&mut input) {
                Ok(Some(line)) => {
                    lines.push(line);
                    if input.buffer().contains(&b'\n') {
                        continue;
                    }
                    None
                }
                Ok(None) => return,
                Err(error) => Some(format!("line {number} of standard input {error}")),
            };
            let last = error.is_some();
            let batch = Batch { lines: std::mem::take(&mut lines), error };
            if to.blocking_send(batch).is_err() || last {
                return;
            }
        }
    });
    batches
}

/// Returns the next line without its line break, or `None` at the end of the input.
fn next(input: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    let read = input
        .take(LINE_MAX)
        .read_until(b'\n', &mut line)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        line.pop_if(|byte| *byte == b'\r');
    } else if read as u64 == LINE_MAX {
        return Err(format!("is longer than {} MiB", LINE_MAX >> 20));
    }
    String::from_utf8(line).map(Some).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        format!("is not UTF-8: invalid byte {at}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_lf_or_crlf() {
        let mut input: &[u8] = "one\n二\r\n\n🌊\rstays\nlast without end".as_bytes();
        let mut lines = Vec::new();
        while let Ok(Some(line)) = next(&mut input) {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "二", "", "🌊\rstays", "last without end"]);
    }

    #[test]
    fn invalid_utf8_is_reported_with_its_position() {
        let mut input: &[u8] = b"ab\xff\n";
        assert_eq!(next(&mut input), Err("is not UTF-8: invalid byte 3".to_owned()));
    }
}
