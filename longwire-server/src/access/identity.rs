//! Who somebody is, as far as is known, and what they may do.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::Publishers;
use crate::pattern::{Pattern, Patterns};

/// Bytes of the name of a user.
pub const USER_MAX: usize = 255;

/// Who a connection or a request is of, and what they may do. A pointer: cloning costs nothing.
#[derive(Clone, Debug)]
pub struct Identity(Arc<IdentityData>);

/// What is known of somebody.
#[derive(Clone, Debug)]
pub(super) struct IdentityData {
    pub(super) kind: IdentityKind,
    pub(super) user: Option<Arc<str>>,
    pub(super) key: Option<Arc<str>>,
    pub(super) rights: Rights,
    /// They may see what is told of the server.
    pub(super) operator: bool,
    pub(super) expires: Option<SystemTime>,
    /// What the webhook will be told again.
    pub(super) context: Option<Arc<RequestContext>>,
}

impl IdentityData {
    pub(super) fn new(kind: IdentityKind, rights: Rights) -> Self {
        Self {
            kind,
            user: None,
            key: None,
            rights,
            operator: kind == IdentityKind::Open,
            expires: None,
            context: None,
        }
    }
}

impl From<IdentityData> for Identity {
    fn from(data: IdentityData) -> Self {
        Self(Arc::new(data))
    }
}

/// By what somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityKind {
    /// By nothing: there are no rules.
    Open,
    /// By nothing: they have shown nothing.
    Anonymous,
    /// By a token.
    Token,
    /// By the key of a program.
    Key,
    /// By the webhook.
    Webhook,
}

/// The channels that somebody may hear, and those that they may speak on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) subscribe: Patterns,
    pub(super) publish: Patterns,
}

impl Rights {
    pub(super) fn all() -> Self {
        Self { subscribe: Patterns::all(), publish: Patterns::all() }
    }

    /// Of one channel only.
    pub(super) fn of(channel: &str) -> Self {
        // What may be a name is a pattern that stands for itself.
        let channel: Patterns = channel.parse::<Pattern>().into_iter().collect();
        Self { subscribe: channel.clone(), publish: channel }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.publish.is_empty()
    }
}

/// What is known of a request.
#[derive(Debug)]
pub(super) struct RequestContext {
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) address: IpAddr,
}

impl Identity {
    pub(super) fn data(&self) -> &IdentityData {
        &self.0
    }

    /// By what they are known.
    pub fn kind(&self) -> IdentityKind {
        self.0.kind
    }

    /// Their name: a token's `sub`, or what the webhook says. At most [`USER_MAX`] bytes without control characters.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.0.user.as_ref()
    }

    /// What the key of a program is called in the configuration.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// When it ends: close with [`EXPIRED`](super::EXPIRED) then, unless it was renewed.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.expires
    }

    /// Whether they may hear a channel.
    pub fn may_subscribe(&self, channel: &str) -> bool {
        self.0.rights.subscribe.matches(channel)
    }

    /// Whether they may speak on a channel, as far as the channel itself lets them ([`is_publisher`](Self::is_among)).
    pub fn may_publish(&self, channel: &str) -> bool {
        self.0.rights.publish.matches(channel)
    }

    /// Whether they may see the dashboard, the statistics and the metrics: everybody where there are no rules.
    pub fn is_operator(&self) -> bool {
        self.0.operator
    }

    /// Whether they are among those that a channel lets speak.
    pub fn is_publisher(&self, publishers: Publishers) -> bool {
        match publishers {
            Publishers::Anyone => true,
            Publishers::Users => self.0.user.is_some(),
            Publishers::Tokens => matches!(self.0.kind, IdentityKind::Token | IdentityKind::Key),
            Publishers::Nobody => false,
        }
    }
}

/// Whether a text can be the name of a user.
pub(super) fn is_valid_user(text: &str) -> bool {
    !text.is_empty() && text.len() <= USER_MAX && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_speak() {
        let data = |kind, user: Option<&str>| {
            Identity::from(IdentityData {
                user: user.map(Into::into),
                ..IdentityData::new(kind, Rights::all())
            })
        };
        for (identity, users, tokens) in [
            (data(IdentityKind::Open, None), false, false),
            (data(IdentityKind::Anonymous, None), false, false),
            (data(IdentityKind::Token, None), false, true),
            (data(IdentityKind::Token, Some("李雷")), true, true),
            (data(IdentityKind::Key, None), false, true),
            (data(IdentityKind::Webhook, Some("李雷")), true, false),
        ] {
            assert!(identity.is_publisher(Publishers::Anyone) && !identity.is_publisher(Publishers::Nobody));
            assert_eq!(
                (identity.is_publisher(Publishers::Users), identity.is_publisher(Publishers::Tokens)),
                (users, tokens),
                "{identity:?}"
            );
        }
    }

    #[test]
    fn names_of_users_are_bounded() {
        assert!(is_valid_user(&"a".repeat(USER_MAX)) && !is_valid_user(&"a".repeat(USER_MAX + 1)));
        assert!(
            is_valid_user("李雷 🌊") && !is_valid_user("") && !is_valid_user("a\nb") && !is_valid_user("a\0")
        );
    }
}
