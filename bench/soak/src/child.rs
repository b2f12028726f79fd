//! The server's process: started, asked, watched from outside, and ended.

use crate::Failure;
use serde_json::Value;
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long it may take to end once it is told to.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running server; it is killed when this is dropped.
pub(crate) struct Server {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it says to standard error: nothing, if all is well.
    said: Option<JoinHandle<Vec<String>>>,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(threads: usize) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--serve", &threads.to_string()]).env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let (input, output, errors) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let mut output = BufReader::new(output.ok_or("no standard output")?);
        let errors = BufReader::new(errors.ok_or("no standard error")?);
        let said = thread::spawn(move || {
            let lines = errors.lines().map_while(Result::ok);
            lines.inspect(|line| eprintln!("server: {line}")).collect()
        });
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("no address but {line:?}"))?;
        Ok(Self { process, input, output, said: Some(said), address })
    }

    /// Its counters.
    pub(crate) fn counters(&mut self) -> Result<Value, Failure> {
        self.input.as_mut().ok_or("it is told to end already")?.write_all(b"\n")?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the server has ended".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Open descriptors, but for the io_uring that each loop opens when it first publishes to many.
    pub(crate) fn descriptors(&self) -> Result<usize, Failure> {
        let all = fs::read_dir(format!("/proc/{}/fd", self.process.id()))?;
        let is_ring = |path: PathBuf| path.as_os_str() == "anon_inode:[io_uring]";
        Ok(all
            .filter(|entry| !entry.as_ref().is_ok_and(|it| fs::read_link(it.path()).is_ok_and(is_ring)))
            .count())
    }

    /// Resident memory in bytes. Only `smaps_rollup` counts page by page.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB"));
        Ok(line.and_then(|kibibytes| kibibytes.trim().parse::<u64>().ok()).ok_or("no Rss")? * 1024)
    }

    /// Tells it to end; what is to be said about that.
    pub(crate) fn end(mut self) -> Result<Vec<String>, Failure> {
        drop(self.input.take());
        let until = Instant::now() + PATIENCE;
        let mut complaints = Vec::new();
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => break,
                Some(status) => {
                    complaints.push(format!("the server ended with {status}"));
                    break;
                }
                None if Instant::now() > until => {
                    complaints.push(format!("the server does not end within {PATIENCE:?}"));
                    self.process.kill()?;
                    break;
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
        if let Some(Ok(said)) = self.said.take().map(JoinHandle::join) {
            complaints.extend(said.into_iter().map(|line| format!("the server said: {line}")));
        }
        Ok(complaints)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
