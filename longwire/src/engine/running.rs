//! A running engine: its threads, and how they end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread::{Builder, JoinHandle};

use tokio::runtime;
use tokio::sync::mpsc;

use super::mailbox::handle::Handle;

/// A running engine. Dropping it [stops](Handle::stop) the engine.
#[must_use = "dropping it stops the engine: call `wait` or keep it"]
pub struct Running {
    address: Option<SocketAddr>,
    handle: Handle,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Closed once no thread has a clone of `alive` any more.
    all_ended: mpsc::Receiver<()>,
    alive: mpsc::Sender<()>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("address", &self.address)
            .field("threads", &self.threads.len())
            .finish()
    }
}

impl Running {
    pub(super) fn new(address: Option<SocketAddr>, handle: Handle) -> Self {
        let (alive, all_ended) = mpsc::channel(1);
        Self { address, handle, threads: Vec::new(), all_ended, alive }
    }

    /// Runs the future of loop `at` on a thread of its own, in a runtime of its own.
    pub(super) fn spawn<F, T>(&mut self, at: u16, start: F) -> io::Result<()>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = io::Result<()>>,
    {
        let runtime = || runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let alive = self.alive.clone();
        let mut end = LoopEnd { handle: self.handle.clone(), at, is_clean: false };
        let thread = Builder::new().name(format!("longwire-{at}")).spawn(move || {
            let ended = runtime().and_then(|runtime| runtime.block_on(start()));
            end.is_clean = ended.is_ok();
            drop(end);
            drop(alive);
            ended
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Returns the address that the engine listens on; `None` if it was started
    /// [without a listener](super::Engine::start_without_listener).
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns a handle on the engine, to publish, read counters and stop it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the engine has stopped. It stops only when asked to, through a [`Handle`].
    ///
    /// # Errors
    ///
    /// The error of the first loop that failed, because the operating system no longer watches its sockets.
    pub fn wait(mut self) -> io::Result<()> {
        self.join()
    }

    /// Like [`wait`](Self::wait), without blocking the thread.
    ///
    /// # Errors
    ///
    /// The same as [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: another call continues to wait.
    pub async fn ended(&mut self) -> io::Result<()> {
        let (other, _) = mpsc::channel(1);
        self.alive = other;
        // Nothing is ever sent: this is ready when the last thread has dropped its sender.
        let _ = self.all_ended.recv().await;
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a loop panicked")));
            result = result.and(ended);
        }
        result
    }
}

/// Closes the mailbox of a loop that ends, also by a panic. If the loop has failed, the others stop too.
struct LoopEnd {
    handle: Handle,
    at: u16,
    is_clean: bool,
}

impl Drop for LoopEnd {
    fn drop(&mut self) {
        if let Some(mailbox) = self.handle.mailboxes().get(self.at) {
            mailbox.close();
        }
        if !self.is_clean {
            self.handle.stop();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.stop();
            // Nobody is left to whom the error of a loop could be returned.
            let _ = self.join();
        }
    }
}
