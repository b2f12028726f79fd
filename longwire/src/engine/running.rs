//! An engine that runs: its threads, and how they end.

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
    /// Each thread holds the sender of it.
    ended: mpsc::Receiver<()>,
    holds: mpsc::Sender<()>,
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
    pub(crate) fn new(address: Option<SocketAddr>, handle: Handle) -> Self {
        let (holds, ended) = mpsc::channel(1);
        Self { address, handle, threads: Vec::new(), ended, holds }
    }

    /// Runs what `start` makes on a thread of its own, in a runtime of its own.
    pub(crate) fn spawn<F, T>(&mut self, at: u16, start: F) -> io::Result<()>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = io::Result<()>>,
    {
        let runtime = || runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let held = self.holds.clone();
        let mut ends = Ends { handle: self.handle.clone(), at, well: false };
        let thread = Builder::new().name(format!("longwire-{at}")).spawn(move || {
            let ended = runtime().and_then(|runtime| runtime.block_on(start()));
            ends.well = ended.is_ok();
            drop(ends);
            drop(held);
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
        self.holds = other;
        // Nobody sends: this says that the last sender is gone.
        let _ = self.ended.recv().await;
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

/// A loop ends: nothing more is for it, and if it failed the others end too.
struct Ends {
    handle: Handle,
    at: u16,
    well: bool,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(mailbox) = self.handle.mailboxes().get(self.at) {
            mailbox.close();
        }
        if !self.well {
            self.handle.stop();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.stop();
            // That of a loop which failed is nobody's any more.
            let _ = self.join();
        }
    }
}
