//! An engine that runs: its threads, and how they end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread::{Builder, JoinHandle};

use tokio::runtime;
use tokio::sync::mpsc;

use super::mailbox::Handle;

/// An engine that runs. Dropped, it is [stopped](Handle::stop).
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

    /// The address that it listens on; that of nobody, `0.0.0.0:0`, if it was started
    /// [without a listener](super::Engine::start_without_listener).
    pub fn local_addr(&self) -> SocketAddr {
        self.address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// A handle on it, to publish, to count and to end it.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until it has ended, which somebody has to ask for.
    ///
    /// # Errors
    ///
    /// That of the first loop that failed: the operating system no longer watches its sockets.
    pub fn wait(mut self) -> io::Result<()> {
        self.join()
    }

    /// As [`wait`](Self::wait), for a task.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: another call waits on.
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
        if let Some(link) = self.handle.0.0.get(usize::from(self.at)) {
            link.end();
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
