//! RFC 6455 and RFC 7692 as state and values: the WebSocket protocol without socket, clock, randomness or log.
//! What it shares are bounded pools of each thread: buffers of large messages (at most 4 MiB), the compressor, and
//! eight inflaters. An idle connection holds none of them, whichever thread it is used on.
//!
//! This crate is for authors of drivers. Programs use `longwire`, which has drivers for Tokio and for an event loop.
//!
//! A [`Connection`] is one end of an open connection. The driver owns both buffers, gives it the bytes that
//! come and the time, and writes what it finds in the [`Outbox`]. The connection keeps all deadlines, knows why
//! it ended ([`Cause`]), and says how to end TCP ([`TcpStep`]).
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use bytes::{Buf, BytesMut};
//! use longwire_proto::{Assembler, Config, Connection, Incoming, Message, Outbox};
//!
//! let now = Instant::now();
//! let mut client = Connection::client(Arc::new(Config::client()), [7; 32], now);
//! let mut server = Connection::server(Arc::new(Config::server()), now);
//!
//! let mut wire = Outbox::new();
//! client.send(Message::from("你好"), &mut wire)?;
//!
//! let mut input = BytesMut::new();
//! let mut replies = Outbox::new();
//! let mut assembler = Assembler::default();
//! while wire.has_remaining() {
//!     // In a driver these bytes come from a socket, in pieces of any size.
//!     input.extend_from_slice(&wire.chunk()[..1]);
//!     wire.advance(1);
//!     client.wrote(1);
//!     server.heard(1, now);
//!     while let Some(incoming) = assembler.receive(&mut server, &mut input, &mut replies)? {
//!         if let Incoming::Data(message) = incoming {
//!             assert_eq!(message.as_text(), Some("你好"));
//!             server.send(message, &mut replies)?;
//!         }
//!     }
//! }
//! assert_eq!(replies.chunk(), b"\x81\x06\xe4\xbd\xa0\xe5\xa5\xbd");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod frame;
pub mod handshake;
pub mod mask;

mod assembler;
mod batch;
mod buffer_pool;
mod cause;
mod close;
mod close_code;
mod config;
mod connection;
mod deflate;
mod error;
mod lifecycle;
mod message;
mod message_ref;
mod outgoing;
mod receive;
mod role;
mod text;

pub use assembler::{Assembler, Incoming, Lent};
pub use batch::{Batch, BatchClass};
pub use cause::{Cause, CauseClass, Counted, Initiator};
pub use close::CloseFrame;
pub use close_code::{CloseCode, MAX_REASON};
pub use config::Config;
pub use connection::{Connection, Event, Received};
pub use deflate::{Compress, Deflate, DeflateParameters};
pub use error::{ProtocolError, SendError};
pub use lifecycle::TcpStep;
pub use message::{Kind, Message, Part};
pub use message_ref::MessageRef;
pub use outgoing::message::Outgoing;
pub use outgoing::outbox::Outbox;
pub use outgoing::shared::SharedFrame;
pub use receive::{PartAt, Payload};
pub use role::Role;
pub use text::{InvalidUtf8, Utf8Bytes, Utf8State, unmask_text};

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
