//! Messages sent while there is no connection: the policy, and those that are held.

use std::collections::VecDeque;

use longwire_proto::Outgoing;

/// What happens to messages that are sent while there is no connection.
///
/// Both limits apply; `bytes` counts payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offline {
    /// They are refused with [`NotSent::Offline`](super::NotSent::Offline).
    #[default]
    Refuse,
    /// They are held, and sent in order when there is a connection, after the messages of its hook. A message
    /// for which there is no room is refused with [`NotSent::Full`](super::NotSent::Full).
    Hold {
        /// The maximum number of messages.
        messages: usize,
        /// The maximum number of bytes.
        bytes: usize,
    },
    /// Like [`Hold`](Self::Hold), but the oldest messages are dropped to make room: for data that is soon out of
    /// date. A message larger than `bytes` is refused.
    HoldNewest {
        /// The maximum number of messages.
        messages: usize,
        /// The maximum number of bytes.
        bytes: usize,
    },
}

/// The messages that are held, the oldest first.
#[derive(Debug)]
pub(super) struct Held {
    offline: Offline,
    messages: VecDeque<Outgoing<'static>>,
    bytes: usize,
    /// How many made room for others.
    dropped: u64,
}

/// Why a message is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotHeld {
    Never,
    Full,
}

impl Held {
    pub(super) const fn new(offline: Offline) -> Self {
        Self { offline, messages: VecDeque::new(), bytes: 0, dropped: 0 }
    }

    pub(super) fn push(&mut self, message: Outgoing<'_>) -> Result<(), NotHeld> {
        let (messages, bytes, newest) = match self.offline {
            Offline::Refuse => return Err(NotHeld::Never),
            Offline::Hold { messages, bytes } => (messages, bytes, false),
            Offline::HoldNewest { messages, bytes } => (messages, bytes, true),
        };
        let length = message.len();
        if messages == 0 || length > bytes {
            return Err(NotHeld::Full);
        }
        while self.messages.len() >= messages || self.bytes > bytes - length {
            if !newest || self.pop().is_none() {
                return Err(NotHeld::Full);
            }
            self.dropped += 1;
        }
        self.bytes += length;
        self.messages.push_back(message.into_owned());
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing<'static>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    pub(super) fn oldest(&self) -> Option<&Outgoing<'static>> {
        self.messages.front()
    }

    pub(super) fn clear(&mut self) {
        self.messages = VecDeque::new();
        self.bytes = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(offline: Offline, texts: &[&str]) -> (Vec<Result<(), NotHeld>>, Vec<String>, u64) {
        let mut held = Held::new(offline);
        let pushed = texts.iter().map(|text| held.push((*text).into())).collect();
        let dropped = held.dropped();
        let kept =
            std::iter::from_fn(|| held.pop()).map(|message| message.into_message().to_string()).collect();
        assert_eq!((held.len(), held.bytes), (0, 0));
        (pushed, kept, dropped)
    }

    #[test]
    fn each_policy_at_its_limits_and_beyond() {
        use NotHeld::{Full, Never};
        type Row =
            (Offline, &'static [&'static str], &'static [Result<(), NotHeld>], &'static [&'static str], u64);
        let rows: &[Row] = &[
            (Offline::Refuse, &["一", ""], &[Err(Never), Err(Never)], &[], 0),
            // As many messages as there may be, and one more.
            (
                Offline::Hold { messages: 2, bytes: 99 },
                &["一", "二", ""],
                &[Ok(()), Ok(()), Err(Full)],
                &["一", "二"],
                0,
            ),
            // As many bytes, and one more; what is smaller still fits.
            (
                Offline::Hold { messages: 9, bytes: 4 },
                &["👋", "x", ""],
                &[Ok(()), Err(Full), Ok(())],
                &["👋", ""],
                0,
            ),
            (Offline::Hold { messages: 9, bytes: 4 }, &["12345", "1234"], &[Err(Full), Ok(())], &["1234"], 0),
            (Offline::Hold { messages: 0, bytes: 9 }, &[""], &[Err(Full)], &[], 0),
            (Offline::Hold { messages: 9, bytes: 0 }, &["", "x"], &[Ok(()), Err(Full)], &[""], 0),
            (Offline::HoldNewest { messages: 2, bytes: 99 }, &["a", "b", "c"], &[Ok(()); 3], &["b", "c"], 1),
            (
                Offline::HoldNewest { messages: 9, bytes: 4 },
                &["1", "2", "34", "567"],
                &[Ok(()); 4],
                &["567"],
                3,
            ),
            (
                Offline::HoldNewest { messages: 9, bytes: 4 },
                &["12", "34", "5"],
                &[Ok(()); 3],
                &["34", "5"],
                1,
            ),
            // One that never fits drives nobody out.
            (Offline::HoldNewest { messages: 9, bytes: 4 }, &["1", "12345"], &[Ok(()), Err(Full)], &["1"], 0),
            (Offline::HoldNewest { messages: 0, bytes: 9 }, &["1"], &[Err(Full)], &[], 0),
        ];
        for (offline, texts, pushed, kept, dropped) in rows {
            let (was_pushed, was_kept, was_dropped) = held(*offline, texts);
            assert_eq!(
                (&*was_pushed, was_kept.iter().map(String::as_str).collect::<Vec<_>>(), was_dropped),
                (*pushed, kept.to_vec(), *dropped),
                "{offline:?} {texts:?}"
            );
        }
    }
}
