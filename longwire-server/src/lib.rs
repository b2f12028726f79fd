//! The real-time server of `longwire`, as a library.
//!
//! [`hub`] manages channels with positions, history and presence. It is plain state: it never awaits, the
//! time is an argument, and messages are delivered through callbacks. [`store`] keeps history on disk. Both
//! use the types in `value`. [`config`] reads and checks the settings, [`access`] decides who may do what,
//! [`limits`] limits rates and connections, and [`pattern`] selects channels by name. [`realtime`] combines
//! them and serves connections and requests.

pub mod access;
pub mod config;
pub mod hub;
pub mod limits;
pub mod pattern;
#[cfg(unix)]
pub mod realtime;
pub mod store;

mod value;

/// The examples of the README are compiled.
#[cfg(all(doctest, unix))]
#[doc = include_str!("../README.md")]
struct Readme;
