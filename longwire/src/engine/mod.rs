//! A server for very many connections: one event loop per core, which calls a handler.
//!
//! [`WebSocket`](crate::WebSocket) gives each connection to a task of its own. The engine is the other way to serve: it
//! calls one [`Handler`] for all connections, and lends it each message where it was read. An idle connection costs 160
//! bytes and the application's state, a message costs no allocation, and a published message is encoded once and costs
//! one write for each subscriber.
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use longwire::engine::{Conn, Engine, Handler, MessageRef, Opening};
//! use longwire::http::{HeaderMap, Request};
//! use longwire::Refusal;
//!
//! struct Chat;
//!
//! impl Handler for Chat {
//!     type State = String;
//!
//!     fn on_request(&self, request: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<String, Refusal> {
//!         Ok(request.uri().path().to_owned())
//!     }
//!
//!     fn opened(&self, conn: &mut Conn<'_>, room: &mut String, _: &Opening<'_>) {
//!         conn.subscribe(room);
//!     }
//!
//!     fn message(&self, conn: &mut Conn<'_>, room: &mut String, message: MessageRef<'_>) {
//!         conn.publish(room, message);
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     Engine::new(Chat).listen("127.0.0.1:8080")?.wait()
//! }
//! ```
//!
//! Each loop runs on a thread of its own, in a Tokio runtime of that thread. Callbacks must not block; they can
//! [`spawn_local`](tokio::task::spawn_local) a task that waits. The engine spreads connections evenly over the loops.
//! Requests that ask for no WebSocket go to the [HTTP service](Engine::http). The rules and limits are those of
//! [`Acceptor`] and [`Config`](crate::Config). Deadlines are noticed up to 64 ms late.
//!
//! The engine also serves [TLS](Engine::tls), and connections whose opening handshake
//! [the caller answers](Handle::invite), for example in an HTTP server. A [hook](Engine::on_request) can decide about
//! each request asynchronously.
//!
//! The engine exists only on Unix.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, Request};
use longwire_proto::handshake::Refusal;
use mio::{Poll, Waker};

use crate::server::accept::Acceptor;
use crate::server::forwarded::TrustedProxies;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

mod adopt;
mod carry;
mod conn;
mod entry;
mod event_loop;
mod handler;
mod mailbox;
mod options;
mod permit;
mod running;
mod slab;
mod socket;
mod topics;
mod wheel;

pub use adopt::Invitation;
pub use conn::Conn;
pub use handler::{Handler, Opening};
pub use longwire_proto::{MessageRef, Outgoing};
pub use mailbox::handle::{ConnHandle, Handle};
pub use mailbox::id::Id;
pub use running::Running;
pub use socket::http_stream::HttpStream;
pub use topics::backlog::SlowConsumer;

use event_loop::{Loop, WAKER};
use mailbox::{Mailbox, Mailboxes};
use options::Options;

/// Connections that may wait to be accepted. The system has a limit of its own, which may be lower.
const BACKLOG: i32 = 4096;

/// A server for very many connections, before it is started.
pub struct Engine<H> {
    options: Options<H>,
    threads: Option<usize>,
}

impl<H> fmt::Debug for Engine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("acceptor", &self.options.acceptor)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Engine<H> {
    /// Creates an engine that calls `handler`.
    pub fn new(handler: H) -> Self {
        Self { options: Options::new(handler), threads: None }
    }

    /// Sets how opening handshakes are answered, and the limits and deadlines of the connections.
    #[must_use]
    pub fn acceptor(mut self, acceptor: Acceptor) -> Self {
        self.options.acceptor = acceptor;
        self
    }

    /// Sets the number of loops, from 1 to 1024; default: one per core.
    #[must_use]
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets the policy for connections that read too slowly; default: they are closed when
    /// [`Config::write_buffer`](crate::Config::write_buffer) bytes wait for them.
    #[must_use]
    pub fn slow_consumers(self, policy: SlowConsumer) -> Self {
        self.slow_consumers_of(move |_| policy)
    }

    /// Like [`slow_consumers`](Self::slow_consumers), for each topic by its name. The engine calls `policy` when a topic
    /// gets its first subscriber.
    #[must_use]
    pub fn slow_consumers_of<F>(mut self, policy: F) -> Self
    where
        F: Fn(&str) -> SlowConsumer + Send + Sync + 'static,
    {
        self.options.slow = Some(Arc::new(policy));
        self
    }

    /// Sets whether published messages may be written with io_uring, which costs less than one system call for each
    /// subscriber; default: yes. Without effect where the system has no io_uring.
    #[must_use]
    pub const fn io_uring(mut self, may: bool) -> Self {
        self.options.io_uring = may;
        self
    }

    /// Sets the service for requests that ask for no WebSocket; without one they get 426.
    ///
    /// It gets the stream and the bytes that were read from it, which begin with the request. It runs on the loop's
    /// thread.
    #[must_use]
    pub fn http<F, T>(mut self, service: F) -> Self
    where
        F: Fn(HttpStream, Bytes) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + 'static,
    {
        self.options.http = Some(Arc::new(move |stream, read| Box::pin(service(stream, read))));
        self
    }

    /// Serves TLS.
    ///
    /// The TLS handshake and the request behind it run in a task beside the loop, each within
    /// [`Acceptor::handshake_timeout`]. They hold about 5 KiB, and at most 80 KiB. Failed handshakes are
    /// [counted](crate::Snapshot::tls_failed). With [`ServerTls::http2`], a client that chooses HTTP/2 goes to the
    /// [HTTP service](Self::http) at once. The [extensions](Request::extensions) of a request contain what is known of the
    /// client, as [`Secured`](crate::tls::Secured).
    ///
    /// An idle connection holds about 8 KiB, nearly all of it rustls's. Besides
    /// [`Config::write_buffer`](crate::Config::write_buffer), up to 64 KiB of encrypted bytes may wait to be written.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.options.tls = Some(tls);
        self
    }

    /// Sets a hook that accepts or rejects each request asynchronously, for example by asking a database.
    ///
    /// The hook sees requests that are valid otherwise, before [`Handler::on_request`] does, and what it returns is put
    /// into the request's [extensions](Request::extensions). It runs in a task on the loop's thread. If it takes longer
    /// than [`Acceptor::handshake_timeout`], the client gets 503. If the client leaves meanwhile, the future is dropped.
    ///
    /// ```
    /// use longwire::Refusal;
    /// use longwire::engine::{Engine, Handler};
    /// use longwire::http::{Extensions, StatusCode};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// # async fn look_up(token: &str) -> Option<User> { Some(User(token.into())) }
    /// fn with_users<H: Handler>(engine: Engine<H>) -> Engine<H> {
    ///     engine.on_request(async |request, _| {
    ///         let token = request.uri().query().unwrap_or_default();
    ///         let Some(user) = look_up(token).await else {
    ///             return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unknown token"));
    ///         };
    ///         let mut extensions = Extensions::new();
    ///         extensions.insert(user);
    ///         Ok(extensions)
    ///     })
    /// }
    /// ```
    #[must_use]
    pub fn on_request<F, T>(mut self, hook: F) -> Self
    where
        F: Fn(Request<()>, SocketAddr) -> T + Send + Sync + 'static,
        T: Future<Output = Result<Extensions, Refusal>> + 'static,
    {
        self.options.on_request = Some(Arc::new(move |request, from| Box::pin(hook(request, from))));
        self
    }

    /// Sets the proxies whose forwarding headers are believed. [`Handler::on_request`] then gets the client's address
    /// instead of the proxy's, and the request has the host that the client asked for. See [`TrustedProxies::apply`].
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.options.proxies = Some(proxies);
        self
    }

    /// Sets the maximum number of open WebSockets, on all threads together; default: unlimited. Further requests get 503
    /// with Retry-After.
    #[must_use]
    pub const fn max_connections(mut self, most: usize) -> Self {
        self.options.max_connections = Some(most);
        self
    }

    /// Listens on an address and starts the engine.
    ///
    /// # Errors
    ///
    /// The error of the operating system if it cannot listen, and the same as [`start`](Self::start).
    pub fn listen(self, address: impl ToSocketAddrs) -> io::Result<Running> {
        self.start(std::net::TcpListener::bind(address)?)
    }

    /// Starts the engine on a listener.
    ///
    /// # Errors
    ///
    /// The error of the operating system if it does not provide threads, sockets or descriptors.
    pub fn start(self, listener: std::net::TcpListener) -> io::Result<Running> {
        listener.set_nonblocking(true)?;
        // Connections that come while a loop is busy wait here.
        rustix::net::listen(&listener, BACKLOG)?;
        // Without it a small message may wait for the acknowledgement of the one before. Accepted sockets inherit it.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        self.run(Some(listener))
    }

    /// Starts the engine without a listener: connections come only through [`Handle::invite`] and `Upgrade::into_engine`, for
    /// example from another HTTP server.
    ///
    /// # Errors
    ///
    /// The same as [`start`](Self::start).
    pub fn start_without_listener(self) -> io::Result<Running> {
        self.run(None)
    }

    fn run(self, listener: Option<std::net::TcpListener>) -> io::Result<Running> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or_else(cores).clamp(1, 1024);
        #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "nothing is adapted without TLS"))]
        let mut options = self.options;
        #[cfg(feature = "tls")]
        if options.http.is_none() {
            // Only a service speaks HTTP/2.
            options.tls = options.tls.map(|tls| tls.http2(false));
        }
        let options = Arc::new(options);

        let polls = (0..threads).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let mailboxes = polls.iter().map(|poll| Ok(Mailbox::new(Waker::new(poll.registry(), WAKER)?)));
        let mailboxes = Arc::new(Mailboxes::new(mailboxes.collect::<io::Result<_>>()?));
        let address = listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
        let mut running = Running::new(address, Handle::new(Arc::clone(&mailboxes)));
        for (at, poll) in (0..).zip(polls) {
            let (options, mailboxes) = (Arc::clone(&options), Arc::clone(&mailboxes));
            let listener = listener.as_ref().map(std::net::TcpListener::try_clone).transpose()?;
            running.spawn(at, move || async move {
                Loop::new(at, options, mailboxes, &poll, listener)?.run(poll).await
            })?;
        }
        Ok(running)
    }
}
