//! A connection's socket, with what lies between it and the WebSocket: nothing, TLS, or a stream that a task carries.

pub(crate) mod http_stream;
pub(crate) mod layer;
pub(crate) mod plain;
#[cfg(feature = "tls")]
pub(crate) mod tls;
// Elsewhere the crate io-uring has no bindings; Cargo.toml has the same list.
#[cfg_attr(
    not(all(
        target_os = "linux",
        any(
            target_arch = "aarch64",
            target_arch = "loongarch64",
            target_arch = "powerpc64",
            target_arch = "riscv64",
            target_arch = "x86_64"
        )
    )),
    path = "no_uring.rs"
)]
mod uring;
pub(crate) mod writer;
