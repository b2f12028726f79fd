//! What an engine has done, counted by each loop for itself and read from anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What an [`Engine`](super::Engine) has done since it was started, all its loops together.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)+
        }

        /// What one loop has told of its counters.
        #[derive(Debug, Default)]
        pub(super) struct Told {
            $($name: AtomicU64,)+
        }

        impl Told {
            pub(super) fn tell(&self, counters: &Counters) {
                $(self.$name.store(counters.$name, Ordering::Relaxed);)+
            }

            fn add_to(&self, sum: &mut Counters) {
                $(sum.$name += self.$name.load(Ordering::Relaxed);)+
            }
        }
    };
}

counters! {
    /// WebSockets that are open now.
    open,
    /// WebSockets that were opened.
    opened,
    /// Opening handshakes that were refused, or not complete in time.
    refused,
    /// Connections whose TLS handshake, request or verdict is waited for in a task now.
    opening,
    /// TLS handshakes that failed, or were not complete in time.
    tls_failed,
    /// Connections that were handed to the HTTP service.
    http,
    /// Connections that could not be accepted, for want of descriptors or the like.
    accept_errors,
    /// Messages that were received.
    messages_received,
    /// Bytes of their payload, inflated.
    bytes_received,
    /// Messages that were sent or queued, each delivery of a published one counted.
    messages_sent,
    /// Bytes that were written, headers included, after compression.
    bytes_sent,
    /// Messages that a slow consumer did not get, for they were dropped.
    dropped,
    /// Messages that a slow consumer did not get, for a later one of their key took their place.
    replaced,
    /// Connections that were closed by a closing handshake.
    closed,
    /// Connections that were given up because they read too slowly.
    slow_consumers,
    /// Connections whose peer broke a rule or a limit.
    protocol_errors,
    /// Connections that came to their end by a deadline.
    timeouts,
    /// Connections that ended without a closing handshake, by the peer or the network.
    lost,
}

pub(super) fn sum(loops: &[Arc<Told>]) -> Counters {
    let mut sum = Counters::default();
    loops.iter().for_each(|told| told.add_to(&mut sum));
    sum
}
