//! The real binary as child processes: a server on a free port, and a client with its pipes. Waiting for
//! lines has a timeout. Processes end with the test, even if it fails.
#![allow(dead_code, reason = "each test crate uses its part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use longwire::{Message, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite};

/// Timeout of a single step, long enough for busy machines.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A message that tests whether a client has joined; [`receive`] and [`ClientProcess`] skip it.
pub(crate) const PROBE: &str = "here?";

pub(crate) fn longwire() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Sends a signal by its name, such as `INT`.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name} failed");
}

/// Waits for a child to exit; after the timeout, it is killed and the test fails.
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return status;
        }
        if began.elapsed() > TIMEOUT {
            child.kill().expect("the child can be killed");
            panic!("the process did not end in {TIMEOUT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a pipe. A thread reads them, so that waiting has a timeout.
pub(crate) struct Lines(Receiver<Vec<u8>>);

impl Lines {
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let Ok(line) = line else { return };
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// Returns the next line within the time; `None` after the time or at the end.
    pub(crate) fn within(&self, time: Duration) -> Option<String> {
        match self.0.recv_timeout(time) {
            Ok(line) => Some(String::from_utf8(line).expect("lines are UTF-8")),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    pub(crate) fn next(&self) -> String {
        self.within(TIMEOUT).expect("a line")
    }

    /// Returns all lines until the pipe ends.
    pub(crate) fn rest(&self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.0.recv_timeout(TIMEOUT) {
                Ok(line) => lines.push(String::from_utf8(line).expect("lines are UTF-8")),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("the pipe did not end; so far: {lines:?}"),
            }
        }
    }
}

/// `longwire serve` on a free port.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) port: u16,
    pub(crate) announced: String,
    pub(crate) stderr: Lines,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = longwire();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        Self::run(command)
    }

    /// Runs a command that becomes the server.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the server starts");
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        let Some(announced) = stdout.within(TIMEOUT) else {
            panic!("the server announced nothing: {:?}", stderr.rest());
        };
        let port = announced
            .split_once("://127.0.0.1:")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("no port in {announced:?}"));
        Self { child, port, announced, stderr }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) async fn connect(&self, path: &str) -> WebSocket {
        longwire::connect(self.url(path)).await.expect("the server accepts")
    }

    /// Connects to a channel and waits until the client receives messages, because the handshake completes
    /// before the client joins.
    pub(crate) async fn join(&self, path: &str) -> WebSocket {
        let mut member = self.connect(path).await;
        let mut caller = self.connect(path).await;
        let began = Instant::now();
        loop {
            caller.send(PROBE).await.expect("sent");
            if let Ok(heard) = tokio::time::timeout(Duration::from_millis(50), member.recv()).await {
                assert!(heard.expect("open").is_some(), "open");
                break;
            }
            assert!(began.elapsed() < TIMEOUT, "the member is never heard");
        }
        caller.close(1000, "").await.expect("closed");
        member
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        ended(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, if the test stops the server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Receives the next message that is not [`PROBE`].
pub(crate) async fn receive<S>(socket: &mut WebSocket<S>) -> Message
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let received = tokio::time::timeout(TIMEOUT, socket.recv()).await.expect("in time");
        let message = received.expect("open").expect("open");
        if message.as_text() != Some(PROBE) {
            return message;
        }
    }
}

/// `longwire connect` with its three pipes.
pub(crate) struct ClientProcess {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl ClientProcess {
    pub(crate) fn start(url: &str, arguments: &[&str]) -> Self {
        let mut command = longwire();
        command.arg("connect").args(arguments).arg(url).stdin(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        let stdin = child.stdin.take();
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        Self { child, stdin, stdout, stderr }
    }

    /// Starts a client on a channel and waits until it receives messages.
    pub(crate) async fn join(server: &Server, path: &str, arguments: &[&str]) -> Self {
        let client = Self::start(&server.url(path), arguments);
        let mut caller = server.connect(path).await;
        let began = Instant::now();
        while client.stdout.within(Duration::from_millis(50)).is_none() {
            assert!(began.elapsed() < TIMEOUT, "the client hears nothing");
            caller.send(PROBE).await.expect("sent");
        }
        caller.close(1000, "").await.expect("closed");
        client
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("still open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the client reads its input");
    }

    pub(crate) fn send_line(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Ends the input.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Returns the next line that is not [`PROBE`].
    pub(crate) fn next_line(&self) -> String {
        loop {
            let line = self.stdout.next();
            if line != PROBE {
                return line;
            }
        }
    }

    /// Returns the exit status and the lines of standard error.
    pub(crate) fn ended(&mut self) -> (Option<i32>, Vec<String>) {
        (ended(&mut self.child).code(), self.stderr.rest())
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the binary to its end. Returns exit status, standard output, and the lines of standard error.
pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String, Vec<String>) {
    let mut child = longwire().args(arguments).spawn().expect("it starts");
    let stdout = Lines::of(child.stdout.take().expect("piped"));
    let stderr = Lines::of(child.stderr.take().expect("piped"));
    let status = ended(&mut child);
    (status.code(), stdout.rest().join("\n"), stderr.rest())
}
