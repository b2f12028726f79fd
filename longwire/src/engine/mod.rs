//! The server for very many connections: an event loop per core, which calls back.
//!
//! TaskState [`WebSocket`](crate::WebSocket), which gives each connection to a task of its own, this is the
//! other way to serve: one [`Handler`] is called for all connections, with messages that are lent where
//! they were read. A connection that is idle costs 160 bytes and the application's state, a message no
//! allocation, a broadcast one encoding and one write to each subscriber.
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
//! Each loop runs on a thread of its own, in a Tokio runtime of that thread. Callbacks may
//! [`spawn_local`](tokio::task::spawn_local) what has to wait, and what is no WebSocket request is handed, with
//! the bytes that were read, to the [HTTP service](Engine::http) beside it. Connections are spread evenly.
//! The rules and limits are those of [`Acceptor`] and [`Config`](crate::Config); deadlines are noticed
//! within 64 ms.
//!
//! Others are served besides: those that speak [TLS](Engine::tls), those about whom [somebody else](Engine::on_request) has to
//! be asked first, and streams that are no sockets, whose opening handshake
//! [was answered elsewhere](Handle::invite).
//!
//! Only on Unix.

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
mod conn;
mod entry;
mod event_loop;
mod handler;
mod mailbox;
mod options;
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
use options::{HttpService, Options, RequestHook, SlowPolicy};

/// Connections that wait to be accepted; the system has a bound of its own, which may be lower.
const BACKLOG: i32 = 4096;

/// A server for very many connections, before it is started.
pub struct Engine<H> {
    handler: H,
    acceptor: Acceptor,
    threads: Option<usize>,
    slow: Option<Arc<SlowPolicy>>,
    http: Option<Arc<HttpService>>,
    on_request: Option<Arc<RequestHook>>,
    proxies: Option<TrustedProxies>,
    max_connections: Option<usize>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    io_uring: bool,
}

impl<H> fmt::Debug for Engine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("acceptor", &self.acceptor)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Engine<H> {
    /// An engine that calls `handler`.
    pub fn new(handler: H) -> Self {
        Self {
            handler,
            acceptor: Acceptor::new(),
            threads: None,
            slow: None,
            http: None,
            on_request: None,
            proxies: None,
            max_connections: None,
            #[cfg(feature = "tls")]
            tls: None,
            io_uring: true,
        }
    }

    /// How opening handshakes are answered, and the limits and deadlines of the connections.
    #[must_use]
    pub fn acceptor(mut self, acceptor: Acceptor) -> Self {
        self.acceptor = acceptor;
        self
    }

    /// How many loops there are, from 1 to 1024; default one for each core.
    #[must_use]
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// What becomes of those who read too slowly; by default they are closed when
    /// [`Config::write_buffer`](crate::Config::write_buffer) bytes wait for them.
    #[must_use]
    pub fn slow_consumers(self, policy: SlowConsumer) -> Self {
        self.slow_consumers_of(move |_| policy)
    }

    /// As [`slow_consumers`](Self::slow_consumers), for each topic by its name. It is asked when the first
    /// connection subscribes.
    #[must_use]
    pub fn slow_consumers_of<F>(mut self, policy: F) -> Self
    where
        F: Fn(&str) -> SlowConsumer + Send + Sync + 'static,
    {
        self.slow = Some(Arc::new(policy));
        self
    }

    /// Whether what is published may be written by io_uring, which costs less than a call of the system for
    /// each subscriber; default yes. Where there is none it is written without.
    #[must_use]
    pub const fn io_uring(mut self, may: bool) -> Self {
        self.io_uring = may;
        self
    }

    /// Who serves connections that do not ask for a WebSocket: it gets the stream and what was read from
    /// it, the request's head included, and runs on the loop's thread. Without one they are answered 426.
    #[must_use]
    pub fn http<F, T>(mut self, service: F) -> Self
    where
        F: Fn(HttpStream, Bytes) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + 'static,
    {
        self.http = Some(Arc::new(move |stream, read| Box::pin(service(stream, read))));
        self
    }

    /// Speaks TLS. A handshake runs beside the loops, within [`Acceptor::handshake_timeout`], as the request behind it
    /// does; it holds some 5 KiB, and 80 KiB at most of a client that makes much of it. Who fails in one is
    /// [counted](crate::Snapshot::tls_failed). With [`ServerTls::http2`] a client that chooses HTTP/2 goes to the
    /// [HTTP service](Self::http) at once. What is known of a client is among the
    /// [extensions](Request::extensions) of its request, as [`Secured`](crate::tls::Secured).
    ///
    /// A connection that is idle holds some 8 KiB, nearly all of it rustls's; of what it has to write, up to 64 KiB may
    /// be sealed and not taken, besides [`Config::write_buffer`](crate::Config::write_buffer).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Asks somebody who has to be waited for, a database or another server, about each client whose request is
    /// otherwise good, before [`Handler::on_request`] sees it. What is answered is put into the request's
    /// [extensions](Request::extensions).
    ///
    /// It runs in a task on the loop's thread. An answer that does not come within
    /// [`Acceptor::handshake_timeout`] is a 503; a client that leaves meanwhile drops the future.
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
    ///             return Err(Refusal::new(StatusCode::UNAUTHORIZED, "who are you?"));
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
        self.on_request = Some(Arc::new(move |request, from| Box::pin(hook(request, from))));
        self
    }

    /// Proxies whose word is taken for who the client is: its address is then what [`Handler::on_request`] is given, and
    /// the host that it asked for the request's. See [`TrustedProxies::apply`].
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Some(proxies);
        self
    }

    /// How many WebSockets may be open at once, on all threads together; default any number. One more is answered 503
    /// with Retry-After.
    #[must_use]
    pub const fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = Some(most);
        self
    }

    /// Listens on an address, and starts.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and that of listening.
    pub fn listen(self, address: impl ToSocketAddrs) -> io::Result<Running> {
        self.start(std::net::TcpListener::bind(address)?)
    }

    /// Starts, on a listener that exists.
    ///
    /// # Errors
    ///
    /// What the operating system says of threads, sockets and what watches them.
    pub fn start(self, listener: std::net::TcpListener) -> io::Result<Running> {
        listener.set_nonblocking(true)?;
        // Those who come while a loop is busy wait here.
        rustix::net::listen(&listener, BACKLOG)?;
        // Without it a small message may wait for the acknowledgement of the one before. What is accepted
        // inherits it.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        self.run(Some(listener))
    }

    /// Starts without a listener: connections come by [`Handle::invite`] and `Handle::upgrade` only, as in an
    /// application whose HTTP server is another.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_without_listener(self) -> io::Result<Running> {
        self.run(None)
    }

    fn run(self, listener: Option<std::net::TcpListener>) -> io::Result<Running> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or_else(cores).clamp(1, 1024);
        let write_buffer = self.acceptor.settings().config.write_buffer.get();
        let slow = self.slow.unwrap_or_else(|| Arc::new(move |_| SlowConsumer::close(write_buffer)));
        let http = self.http;
        let options = Arc::new(Options {
            handler: self.handler,
            acceptor: self.acceptor,
            slow,
            on_request: self.on_request,
            proxies: self.proxies,
            max_connections: self.max_connections,
            connections: Arc::default(),
            #[cfg(feature = "tls")]
            // Only a service speaks HTTP/2.
            tls: self.tls.map(|tls| if http.is_some() { tls } else { tls.http2(false) }),
            http,
            io_uring: self.io_uring,
        });

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
