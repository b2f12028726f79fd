//! What the server `longwire` is made of.
//!
//! [`hub`] is its heart: channels with positions, history, presence. It is plain state: it never awaits, its time is
//! an argument, and what it hands out goes through callbacks. [`store`] keeps history on disk. Both speak in the values
//! of `value`, which know neither. [`config`] reads and checks the settings, [`access`] says yes or no, [`limits`]
//! says not so fast, and [`pattern`] is how all of them name channels. [`realtime`] joins them: it is what a
//! connection or a request meets.

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
