//! The peers as child processes. What is started here ends with the test, however that ends.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::authority::Authority;

/// No single step of a test takes longer than this, on a busy machine either.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An implementation that the tests run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// `ws` on Node.
    Ws,
    /// `websockets` on Python.
    Websockets,
    /// What Bun has built in.
    Bun,
    /// undici on Node, which is the `WebSocket` of Node itself: a client.
    Undici,
    /// aiohttp on Python.
    Aiohttp,
    /// `java.net.http` of the JDK: a client.
    Java,
}

impl Library {
    /// The program and the script that play `role`.
    fn script(self, role: &str) -> (PathBuf, PathBuf) {
        let peers = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
        let (program, folder, suffix) = match self {
            Self::Ws => ("node".into(), "ws", "mjs"),
            Self::Websockets => (peers.join("venv/bin/python"), "websockets", "py"),
            Self::Undici => ("node".into(), "undici", "mjs"),
            Self::Aiohttp => (peers.join("venv/bin/python"), "aiohttp", "py"),
            Self::Java => ("java".into(), "java", "java"),
            Self::Bun => {
                let package = format!("node_modules/@oven/bun-linux-{}/bin/bun", architecture());
                (peers.join(package), "bun", "mjs")
            }
        };
        (program, peers.join(folder).join(role).with_extension(suffix))
    }
}

/// As npm calls it.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64" } else { "x64" }
}

/// A running peer.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    /// It ends when this does.
    _stdin: Option<ChildStdin>,
}

impl Peer {
    fn start(
        library: Library,
        role: &str,
        arguments: &[&str],
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let (program, script) = library.script(role);
        let mut child = Command::new(&program)
            .arg(script)
            .args(arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{} does not start: {error}\nInstall the peers with interop/setup", program.display())
            });
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        Self { child, said: BufReader::new(stdout).lines(), _stdin: stdin }
    }

    /// Starts a server that echoes, and says its port.
    pub(crate) async fn server(library: Library, options: &Value) -> (Self, u16) {
        let mut peer = Self::start(library, "server", &[&options.to_string()], Vec::new());
        let line = peer.says().await.unwrap_or_default();
        let port = line.strip_prefix("listening ").and_then(|port| port.parse().ok());
        (peer, port.unwrap_or_else(|| panic!("{library:?} server: no port in {line:?}")))
    }

    /// Starts a client that connects to `port` of this machine and echoes.
    pub(crate) fn client(library: Library, options: &Value, port: u16) -> Self {
        let url = format!("ws://127.0.0.1:{port}/");
        Self::start(library, "client", &[&options.to_string(), &url], Vec::new())
    }

    /// As [`client`](Self::client), over TLS.
    pub(crate) fn secure_client(library: Library, options: &Value, port: u16, authority: &Authority) -> Self {
        let url = format!("wss://localhost:{port}/");
        let trust =
            if library == Library::Java { authority.environment_of_java() } else { authority.environment() };
        Self::start(library, "client", &[&options.to_string(), &url], trust)
    }

    /// The next line that it prints; `None` when it has ended.
    pub(crate) async fn says(&mut self) -> Option<String> {
        timeout(PATIENCE, self.said.next_line())
            .await
            .expect("the peer says nothing")
            .expect("lines are UTF-8")
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ends(&mut self) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the peer does not end");
        assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "the peer ended: {status:?}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has ended already where the test has seen it end.
        let _ = self.child.start_kill();
        while matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
