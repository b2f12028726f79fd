//! What was received, judged by what the peer has sent.

use longwire::{Kind, Message, Part};

use crate::{Meaning, kinds_and_payloads};

/// What a call gave, in order, and what it may have dropped.
#[derive(Debug)]
pub(crate) enum Got {
    Message(Message),
    Part(Part),
    /// `recv` waited and was dropped: it goes on with skipping a message that was begun in parts.
    RecvDropped,
    /// `close` was polled: it drops messages.
    Closing,
}

/// Compares in order; how far it has come.
struct Judge<'a> {
    messages: Vec<(Kind, &'a [u8])>,
    partial: &'a [u8],
    /// The next message.
    at: usize,
    /// Bytes of it that came in parts.
    parts: Option<usize>,
    /// There may be gaps in its parts.
    gaps: bool,
    /// Messages may be missing.
    drops: bool,
}

/// Checks that messages came whole, in order and unchanged; `all`: that none is missing.
pub(crate) fn check(got: &[Got], expected: &Meaning, all: bool) {
    let mut judge = Judge {
        messages: kinds_and_payloads(&expected.seen),
        partial: &expected.partial,
        at: 0,
        parts: None,
        gaps: false,
        drops: false,
    };
    for got in got {
        match got {
            Got::Message(message) => judge.message(message),
            Got::Part(part) => judge.part(part),
            Got::RecvDropped => judge.gaps = true,
            Got::Closing => judge.drops = true,
        }
    }
    let skipped = usize::from(judge.parts.is_some());
    let left = judge.messages.len() - judge.at;
    assert!(!all || judge.drops || left <= skipped, "{left} messages are missing");
}

impl Judge<'_> {
    fn message(&mut self, message: &Message) {
        self.skip();
        let message = (message.kind(), message.as_bytes());
        if self.drops {
            let rest = &self.messages[self.at..];
            self.at += rest.iter().position(|sent| *sent == message).expect("a message that was sent");
        } else {
            assert_eq!(Some(&message), self.messages.get(self.at));
        }
        self.at += 1;
    }

    fn part(&mut self, part: &Part) {
        if self.drops {
            return;
        }
        if part.first {
            self.skip();
            self.gaps = false;
        }
        assert_eq!(part.first, self.parts.is_none());
        let from = self.parts.unwrap_or(0);
        let message = match self.messages.get(self.at) {
            Some((kind, message)) => {
                assert_eq!(part.kind, *kind);
                message
            }
            None => self.partial,
        };
        let end = from + part.payload.len();
        if !self.gaps {
            assert_eq!(message.get(from..end), Some(&part.payload[..]));
            assert!(!part.last || end == message.len());
        }
        self.parts = Some(end);
        if part.last {
            self.at += 1;
            self.parts = None;
        }
    }

    /// A message that was begun in parts is not wanted any more.
    fn skip(&mut self) {
        self.at += usize::from(self.parts.take().is_some());
    }
}
