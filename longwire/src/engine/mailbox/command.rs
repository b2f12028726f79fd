//! The commands that a loop receives from other threads and from the tasks beside it.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use longwire_proto::{CloseFrame, Outgoing, SharedFrame};

use crate::connection::Shutdown;
use crate::engine::adopt::{Adoption, Invite};
use crate::engine::conn::Conn;
use crate::engine::slab::Key;

/// What a command costs in memory besides its message, in bytes.
const COMMAND_COST: usize = 128;

/// A function to call with a connection, on its thread.
type Act = dyn FnOnce(&mut Conn<'_>) + Send;

/// One command for a loop.
pub(in crate::engine) enum Command {
    /// Serve a connection that another loop accepted.
    Serve(TcpStream, SocketAddr),
    /// Open the connections that tasks of this thread have admitted.
    OpenAdmitted,
    Invite(Box<Invite>),
    Adopt(Adoption),
    /// Drop the state of an invitation that nobody will use.
    Forget(u64),
    Send(Key, Outgoing<'static>),
    Close(Key, CloseFrame),
    Subscribe(Key, Arc<str>),
    Unsubscribe(Key, Arc<str>),
    /// To all subscribers but `except`.
    Publish {
        topic: Arc<str>,
        key: Option<Arc<str>>,
        frame: SharedFrame,
        except: Option<Key>,
    },
    Run(Key, Box<Act>),
    Shutdown(Shutdown),
    Stop,
}

impl Command {
    /// Bytes of the command's message, topic and key included; `None` for a command without a message.
    pub(super) fn message_len(&self) -> Option<usize> {
        match self {
            Self::Send(_, message) => Some(message.len()),
            Self::Publish { topic, key, frame, .. } => {
                Some(frame.payload_len() + topic.len() + key.as_ref().map_or(0, |key| key.len()))
            }
            _ => None,
        }
    }

    pub(super) fn size(&self) -> usize {
        COMMAND_COST + self.message_len().unwrap_or(0)
    }
}
