//! Names of channels and users: validated once, then shared.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// Maximum length of a name, in bytes.
pub const NAME_MAX: usize = 255;

/// An invalid channel name, user name or idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidName {
    /// It is empty.
    Empty,
    /// It has this many bytes, more than [`NAME_MAX`].
    TooLong(usize),
    /// It has a control character at this byte.
    Control(usize),
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it must not be empty"),
            Self::TooLong(bytes) => write!(f, "it has {bytes} bytes; the maximum is {NAME_MAX}"),
            Self::Control(at) => write!(f, "it has a control character at byte {at}"),
        }
    }
}

impl std::error::Error for InvalidName {}

/// Validates a name: 1 to [`NAME_MAX`] bytes without control characters. `/` has no special meaning.
pub(crate) fn validate(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > NAME_MAX {
        return Err(InvalidName::TooLong(text.len()));
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(InvalidName::Control(at)),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])+ $name:ident) => {
        $(#[$doc])+
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates a name.
            ///
            /// # Errors
            ///
            /// Returns [`InvalidName`] if it is empty, too long, or has control characters.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                validate(text)?;
                Ok(Self(text.into()))
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name! {
    /// A channel name: 1 to 255 bytes of UTF-8 without control characters. Cloning does not copy it.
    ///
    /// ```
    /// use longwire_server::hub::ChannelName;
    ///
    /// assert_eq!(ChannelName::new("房间/👋")?.as_str(), "房间/👋");
    /// assert!(ChannelName::new("a\nb").is_err());
    /// # Ok::<_, longwire_server::hub::InvalidName>(())
    /// ```
    ChannelName
}

name! {
    /// The user of a connection; a user may have several. The rules for channel names apply.
    User
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_limited() {
        assert!(ChannelName::new(&"a".repeat(NAME_MAX)).is_ok());
        assert_eq!(ChannelName::new(&"a".repeat(NAME_MAX + 1)), Err(InvalidName::TooLong(256)));
        assert_eq!(ChannelName::new(&"海".repeat(86)), Err(InvalidName::TooLong(258)));
        assert_eq!(User::new(""), Err(InvalidName::Empty));
        for (text, at) in [("\0", 0), ("你\r", 3), ("ab\u{85}", 2), ("\x7f", 0)] {
            assert_eq!(ChannelName::new(text), Err(InvalidName::Control(at)));
        }
        assert!(ChannelName::new("//a b//\u{1f44b}").is_ok());
    }
}
