//! The heart of `longwire serve`, as a library without sockets.
//!
//! [`hub`] is the state: channels with positions, history, presence. It is plain: it never awaits, its time is an
//! argument, and what it hands out goes through callbacks. [`store`] keeps history on disk, and is the only thing here
//! that does input and output. Both speak in the values of `value`, which know neither.

pub mod hub;
pub mod store;

mod value;
