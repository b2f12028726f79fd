//! What the server `longwire` is made of: how it is configured, who may do what, and how much of it.
//!
//! [`config`] reads and checks the settings, [`access`] says yes or no, [`limits`] says not so fast, and
//! [`pattern`] is how all of them name channels.

pub mod access;
pub mod config;
pub mod limits;
pub mod pattern;
