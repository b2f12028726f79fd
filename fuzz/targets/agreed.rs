//! What was agreed on permessage-deflate, for one direction.

use longwire_proto::{DeflateParameters, Role};

use crate::inflate::Window;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) bits: u8,
    pub(crate) takeover: bool,
}

impl Agreed {
    /// The lowest three bits are those of the window beyond 8, the next one is takeover.
    pub(crate) const fn of(settings: u8) -> Self {
        Self { bits: 8 + settings % 8, takeover: settings & 8 != 0 }
    }

    /// The other direction is as different as it can be.
    pub(crate) fn parameters(self, sender: Role) -> DeflateParameters {
        let no_takeover = |role| (role == sender) != self.takeover;
        let bits = |role| if role == sender { self.bits } else { 23 - self.bits };
        DeflateParameters {
            server_no_context_takeover: no_takeover(Role::Server),
            client_no_context_takeover: no_takeover(Role::Client),
            server_max_window_bits: bits(Role::Server),
            client_max_window_bits: bits(Role::Client),
        }
    }

    pub(crate) fn window(self) -> Window {
        Window::new(self.bits, self.takeover)
    }
}

pub(crate) const fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}
