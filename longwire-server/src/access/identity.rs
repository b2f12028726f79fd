//! The identity of a client, and its rights.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::Publishers;
use crate::pattern::{Pattern, Patterns};

/// Maximum length of a user name, in bytes.
pub const USER_MAX: usize = 255;

/// The identity of a connection or request, and its rights. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Identity(Arc<IdentityData>);

/// The contents of an [`Identity`].
#[derive(Clone, Debug)]
pub(super) struct IdentityData {
    pub(super) kind: IdentityKind,
    pub(super) user: Option<Arc<str>>,
    pub(super) key: Option<Arc<str>>,
    pub(super) rights: Rights,
    /// May see the dashboard, the statistics and the metrics.
    pub(super) operator: bool,
    pub(super) expires: Option<SystemTime>,
    /// What the webhook is sent about the request.
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

/// How a client was identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityKind {
    /// There are no access rules.
    Open,
    /// The client presented no credential.
    Anonymous,
    /// By a token.
    Token,
    /// By an API key.
    Key,
    /// By the webhook.
    Webhook,
}

/// The channels that a client may subscribe to, and those it may publish to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) subscribe: Patterns,
    pub(super) publish: Patterns,
}

impl Rights {
    pub(super) fn all() -> Self {
        Self { subscribe: Patterns::all(), publish: Patterns::all() }
    }

    /// Returns the rights to one channel only.
    pub(super) fn of(channel: &str) -> Self {
        // A valid channel name is a pattern that matches only itself.
        let channel: Patterns = channel.parse::<Pattern>().into_iter().collect();
        Self { subscribe: channel.clone(), publish: channel }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.publish.is_empty()
    }
}

/// The parts of a request that the webhook is sent.
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

    /// Returns how the client was identified.
    pub fn kind(&self) -> IdentityKind {
        self.0.kind
    }

    /// Returns the user name: a token's `sub`, or the name that the webhook returned. It has at most
    /// [`USER_MAX`] bytes and no control characters.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.0.user.as_ref()
    }

    /// Returns the name of the API key in the configuration.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Returns when the identity expires. Close the connection with [`EXPIRED`](super::EXPIRED) at that time,
    /// unless the identity was renewed.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.expires
    }

    /// Returns whether the client may subscribe to a channel.
    pub fn may_subscribe(&self, channel: &str) -> bool {
        self.0.rights.subscribe.matches(channel)
    }

    /// Returns whether the client may publish to a channel, provided that the channel accepts it as a
    /// publisher ([`is_publisher`](Self::is_publisher)).
    pub fn may_publish(&self, channel: &str) -> bool {
        self.0.rights.publish.matches(channel)
    }

    /// Returns whether the client may see the dashboard, the statistics and the metrics. Without access
    /// rules, everybody may.
    pub fn is_operator(&self) -> bool {
        self.0.operator
    }

    /// Returns whether a channel that accepts these publishers accepts this client.
    pub fn is_publisher(&self, publishers: Publishers) -> bool {
        match publishers {
            Publishers::Anyone => true,
            Publishers::Users => self.0.user.is_some(),
            Publishers::Tokens => matches!(self.0.kind, IdentityKind::Token | IdentityKind::Key),
            Publishers::Nobody => false,
        }
    }
}

/// Returns whether a text is a valid user name.
pub(super) fn is_valid_user(text: &str) -> bool {
    !text.is_empty() && text.len() <= USER_MAX && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_by_kind_of_identity() {
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
