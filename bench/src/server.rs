//! A server under measurement: its process, its CPU clock, its memory.

use crate::{
    Failure,
    machine::{self, Cores},
};
use nix::{time::ClockId, unistd::Pid};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running server; it is killed when this is dropped.
pub(crate) struct Server {
    process: Child,
    clock: ClockId,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the server on its core and waits until it listens.
    pub(crate) fn start(command: &[String], cores: &Cores) -> Result<Self, Failure> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut words = command.iter().map(|word| word.replace("{port}", &address.port().to_string()));
        let program = words.next().ok_or("no command")?;
        let mut command = Command::new(&program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null());

        // A child inherits the core of the thread that starts it.
        machine::pin(cores.server)?;
        let process = command.spawn();
        machine::pin(cores.load)?;

        let process = process.map_err(|error| format!("cannot start {program}: {error}"))?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(process.id().try_into()?));
        let mut server = Self { process, clock: clock?, address };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    /// User and system time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        Ok(self.clock.now()?.into())
    }

    /// Time its threads were ready to run while the core did something else; zero where the kernel does not count it.
    pub(crate) fn waited(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let waited = tasks.into_iter().flatten().flatten().filter_map(|task| {
            let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            schedstat.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        Duration::from_nanos(waited.sum())
    }

    /// Resident memory in bytes. Only `smaps_rollup` counts page by page; `statm` and `status` lag behind.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let kibibytes = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB")?.trim().parse::<u64>().ok())
            .ok_or("no Rss in smaps_rollup")?;
        Ok(kibibytes * 1024)
    }

    fn wait_until_it_listens(&mut self) -> Result<(), Failure> {
        let patience = Instant::now() + Duration::from_secs(10);
        while Instant::now() < patience {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("ended at once: {status}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err("does not listen".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
