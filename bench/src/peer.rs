//! The servers that take part: those of this workspace, and those named on the command line.

use crate::{Failure, options::Options, row::Row};
use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A server and how to start it.
pub(crate) struct Peer {
    pub(crate) name: String,
    /// The program and its arguments; `{port}` in them stands for the port to listen on. None if this machine has not
    /// what the server runs on.
    pub(crate) command: Option<Vec<String>>,
}

/// Servers that are asked the same, row by row.
pub(crate) struct Contest {
    pub(crate) rows: Vec<Row>,
    pub(crate) peers: Vec<Peer>,
    /// The name of the server that the ratios are to.
    pub(crate) reference: String,
}

/// A server of this workspace.
struct Ours {
    name: &'static str,
    deflate: bool,
    origin: Origin,
    /// What the program is given after the port.
    arguments: &'static [&'static str],
}

/// Where its program comes from.
enum Origin {
    Cargo { package: &'static str, program: &'static str },
    Node { script: &'static str },
    Bun { script: &'static str },
}

const OURS: [Ours; 13] = {
    const fn cargo(name: &'static str, package: &'static str, program: &'static str) -> Ours {
        Ours { name, deflate: false, origin: Origin::Cargo { package, program }, arguments: &[] }
    }
    const fn deflate(name: &'static str, origin: Origin, arguments: &'static [&'static str]) -> Ours {
        Ours { name, deflate: true, origin, arguments }
    }
    const LONGWIRE: Origin = Origin::Cargo { package: "longwire-echo", program: "longwire-echo" };
    const YAWC: Origin = Origin::Cargo { package: "peers", program: "yawc-echo" };
    const SOCKUDO: Origin = Origin::Cargo { package: "peers", program: "sockudo-ws-echo" };
    const BUN: Origin = Origin::Bun { script: "bun-echo.js" };
    [
        cargo("longwire", "longwire-echo", "longwire-echo"),
        cargo("tokio-tungstenite", "peers", "tokio-tungstenite-echo"),
        cargo("fastwebsockets", "peers", "fastwebsockets-echo"),
        cargo("tokio-websockets", "peers", "tokio-websockets-echo"),
        deflate("longwire-deflate", LONGWIRE, &["--deflate"]),
        deflate("longwire-takeover", LONGWIRE, &["--deflate-takeover", "268435456"]),
        deflate("bun-shared", BUN, &["shared"]),
        deflate("bun-dedicated", BUN, &["dedicated"]),
        deflate("ws", Origin::Node { script: "ws-echo.js" }, &[]),
        deflate("yawc", YAWC, &["takeover"]),
        deflate("yawc-pool", YAWC, &["pool"]),
        deflate("sockudo-ws", SOCKUDO, &["dedicated"]),
        deflate("sockudo-ws-shared", SOCKUDO, &["shared"]),
    ]
};

/// The names of the servers of this workspace.
pub(crate) fn names() -> Vec<&'static str> {
    OURS.iter().map(|ours| ours.name).collect()
}

/// Everyone who takes part, in order, those of this workspace freshly built: first the rows without permessage-deflate
/// and their servers, then those with it. A contest without rows or without servers is left out.
pub(crate) fn line_up(options: &Options) -> Result<Vec<Contest>, Failure> {
    let mut chosen = Vec::new();
    for name in options.peers.iter().filter(|name| *name != "none") {
        chosen
            .push(OURS.iter().find(|ours| ours.name == name).ok_or_else(|| format!("no such peer: {name}"))?);
    }
    chosen.retain(|ours| options.rows.iter().any(|row| row.deflate() == ours.deflate));
    if !options.no_build {
        build(&chosen)?;
    }
    let node = Node::look_up(&chosen, !options.no_build && !options.smoke);
    let programs = env::current_exe()?.parent().map(Path::to_path_buf).ok_or("this program lies nowhere")?;

    let mut contests = Vec::new();
    let mut names = HashSet::new();
    for (deflate, external) in [(false, &options.external), (true, &options.external_deflate)] {
        let mut peers = external.iter().map(|peer| self::external(peer)).collect::<Result<Vec<_>, _>>()?;
        for ours in chosen.iter().filter(|ours| ours.deflate == deflate) {
            let command = ours.command(&programs, &node);
            if command.is_none() {
                eprintln!("{}: not here, it needs {}", ours.name, ours.origin.needs());
            }
            peers.push(Peer { name: ours.name.to_owned(), command });
        }
        if !peers.iter().all(|peer| names.insert(peer.name.clone())) {
            return Err("two servers of one name".into());
        }
        let rows: Vec<_> = options.rows.iter().filter(|row| row.deflate() == deflate).cloned().collect();
        let reference = reference(&peers, &options.reference);
        if let Some(reference) = reference.filter(|_| !rows.is_empty()) {
            contests.push(Contest { rows, peers, reference });
        }
    }
    if let Some(unknown) = options.reference.iter().find(|name| !names.contains(*name)) {
        return Err(format!("the reference does not take part: {unknown}").into());
    }
    if contests.is_empty() { Err("no server to measure".into()) } else { Ok(contests) }
}

/// The first server that is wanted, or else the first of all; none if no server is here.
fn reference(peers: &[Peer], wanted: &[String]) -> Option<String> {
    let mut here = peers.iter().filter(|peer| peer.command.is_some());
    let first = here.clone().next();
    here.find(|peer| wanted.contains(&peer.name)).or(first).map(|peer| peer.name.clone())
}

fn external(peer: &str) -> Result<Peer, Failure> {
    let (name, command) = peer.split_once('=').ok_or_else(|| format!("not name=command: {peer}"))?;
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if command.is_empty() {
        Err(format!("no command: {peer}").into())
    } else {
        Ok(Peer { name: name.to_owned(), command: Some(command) })
    }
}

impl Ours {
    /// How to start it; none if what it runs on is not here.
    fn command(&self, programs: &Path, node: &Node) -> Option<Vec<String>> {
        let path = |path: PathBuf| path.display().to_string();
        let mut command = match self.origin {
            Origin::Cargo { program, .. } => vec![path(programs.join(program))],
            Origin::Node { script } if node.ws => vec!["node".to_owned(), path(Node::folder().join(script))],
            Origin::Bun { script } if node.bun => vec![path(Node::bun()), path(Node::folder().join(script))],
            Origin::Node { .. } | Origin::Bun { .. } => return None,
        };
        command.push("{port}".to_owned());
        command.extend(self.arguments.iter().map(|&argument| argument.to_owned()));
        Some(command)
    }
}

impl Origin {
    const fn needs(&self) -> &'static str {
        match self {
            Self::Cargo { .. } => "cargo",
            Self::Node { .. } => "node, and ws by `npm ci` in peers/node",
            Self::Bun { .. } => "Bun by `npm ci` in peers/node",
        }
    }
}

/// What of the servers in JavaScript can run here.
struct Node {
    ws: bool,
    bun: bool,
}

impl Node {
    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/node")
    }

    fn bun() -> PathBuf {
        Self::folder().join("node_modules/.bin/bun")
    }

    /// With `install`, packages that are missing or not those of the lock file are installed, if npm is here.
    fn look_up(chosen: &[&Ours], install: bool) -> Self {
        if chosen.iter().all(|ours| matches!(ours.origin, Origin::Cargo { .. })) {
            return Self { ws: false, bun: false };
        }
        let written = |path| fs::metadata(Self::folder().join(path)).and_then(|file| file.modified()).ok();
        // npm writes this file when it has installed everything.
        if install && written("node_modules/.package-lock.json") < written("package-lock.json") {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
                .current_dir(Self::folder())
                .stdout(Stdio::null());
            if !npm.status().is_ok_and(|status| status.success()) {
                eprintln!("the packages in peers/node cannot be installed");
            }
        }
        let runs = |program: &Path| {
            let mut version = Command::new(program);
            version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            version.status().is_ok_and(|status| status.success())
        };
        let ws = Self::folder().join("node_modules/ws").exists() && runs(Path::new("node"));
        Self { ws, bun: runs(&Self::bun()) }
    }
}

/// Builds into the directory that this program itself was built into.
fn build(chosen: &[&Ours]) -> Result<(), Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let mut programs = 0;
    for ours in chosen {
        if let Origin::Cargo { package, program } = ours.origin {
            cargo.args(["--package", package, "--bin", program]);
            programs += 1;
        }
    }
    if programs == 0 || cargo.status()?.success() { Ok(()) } else { Err("the peers do not build".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_one_that_is_here() {
        let peer = |name: &str, here: bool| Peer {
            name: name.to_owned(),
            command: here.then(|| vec!["true".to_owned()]),
        };
        let peers = [peer("a", false), peer("b", true), peer("c", true)];
        for (wanted, expected) in [(vec![], "b"), (vec!["c"], "c"), (vec!["a"], "b"), (vec!["x", "c"], "c")] {
            let wanted: Vec<_> = wanted.into_iter().map(str::to_owned).collect();
            assert_eq!(reference(&peers, &wanted).as_deref(), Some(expected), "{wanted:?}");
        }
    }
}
