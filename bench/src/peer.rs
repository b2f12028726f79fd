//! The servers that take part: those of this workspace, and those named on the command line.

use crate::{
    Failure,
    options::Options,
    row::{Discipline, Row},
};
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
    pub(crate) discipline: Discipline,
    pub(crate) rows: Vec<Row>,
    pub(crate) peers: Vec<Peer>,
    /// The name of the server that the ratios are to.
    pub(crate) reference: String,
}

/// A server of this workspace.
struct Ours {
    discipline: Discipline,
    name: &'static str,
    origin: Origin,
    /// What the program is given after the port.
    arguments: &'static [&'static str],
}

/// Where its program comes from.
#[derive(Clone, Copy)]
enum Origin {
    Cargo { package: &'static str, program: &'static str },
    Node { script: &'static str },
    Bun { script: &'static str },
}

const OURS: &[Ours] = {
    use Discipline::{Broadcast, Deflate, Plain};
    use Origin::{Bun, Node};
    const fn ours(
        discipline: Discipline,
        name: &'static str,
        origin: Origin,
        arguments: &'static [&'static str],
    ) -> Ours {
        Ours { discipline, name, origin, arguments }
    }
    const fn longwire(program: &'static str) -> Origin {
        Origin::Cargo { package: "longwire-echo", program }
    }
    const fn peers(program: &'static str) -> Origin {
        Origin::Cargo { package: "peers", program }
    }
    &[
        ours(Plain, "longwire", longwire("longwire-echo"), &[]),
        ours(Plain, "longwire-engine", longwire("longwire-engine-echo"), &[]),
        ours(Plain, "tokio-tungstenite", peers("tokio-tungstenite-echo"), &[]),
        ours(Plain, "fastwebsockets", peers("fastwebsockets-echo"), &[]),
        ours(Plain, "tokio-websockets", peers("tokio-websockets-echo"), &[]),
        ours(Plain, "bun", Bun { script: "bun-echo.js" }, &[]),
        ours(Plain, "ws", Node { script: "ws-echo.js" }, &[]),
        ours(Deflate, "longwire-deflate", longwire("longwire-echo"), &["--deflate"]),
        ours(Deflate, "longwire-engine", longwire("longwire-engine-echo"), &["--deflate"]),
        ours(Deflate, "longwire-takeover", longwire("longwire-echo"), &["--deflate-takeover", "268435456"]),
        ours(Deflate, "bun-shared", Bun { script: "bun-echo.js" }, &["shared"]),
        ours(Deflate, "bun-dedicated", Bun { script: "bun-echo.js" }, &["dedicated"]),
        ours(Deflate, "ws", Node { script: "ws-echo.js" }, &["deflate"]),
        ours(Deflate, "yawc", peers("yawc-echo"), &["takeover"]),
        ours(Deflate, "yawc-pool", peers("yawc-echo"), &["pool"]),
        ours(Deflate, "sockudo-ws", peers("sockudo-ws-echo"), &["dedicated"]),
        ours(Deflate, "sockudo-ws-shared", peers("sockudo-ws-echo"), &["shared"]),
        ours(Broadcast, "longwire", longwire("longwire-broadcast"), &[]),
        ours(Broadcast, "longwire-engine", longwire("longwire-engine-broadcast"), &[]),
        ours(Broadcast, "bun", Bun { script: "bun-broadcast.js" }, &[]),
        ours(Broadcast, "ws", Node { script: "ws-broadcast.js" }, &[]),
        ours(Broadcast, "sockudo-ws", peers("sockudo-ws-broadcast"), &[]),
        ours(Broadcast, "tokio-tungstenite", peers("tokio-tungstenite-broadcast"), &[]),
    ]
};

/// The names of the servers of this workspace; one name stands for all that a library has, whatever the discipline.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for ours in OURS {
        if !names.contains(&ours.name) {
            names.push(ours.name);
        }
    }
    names
}

/// Everyone who takes part, in order, those of this workspace freshly built: the rows of each discipline with the servers
/// for it. A contest without rows or without servers is left out.
pub(crate) fn line_up(options: &Options) -> Result<Vec<Contest>, Failure> {
    let mut chosen = Vec::new();
    for name in options.peers.iter().filter(|name| *name != "none") {
        let before = chosen.len();
        chosen.extend(OURS.iter().filter(|ours| ours.name == name));
        if chosen.len() == before {
            return Err(format!("no such peer: {name}").into());
        }
    }
    chosen.retain(|ours| options.rows.iter().any(|row| row.discipline() == ours.discipline));
    let programs = env::current_exe()?.parent().map(Path::to_path_buf).ok_or("this program lies nowhere")?;
    if options.no_build {
        find(&chosen, &programs)?;
    } else {
        build(&chosen, &programs)?;
    }
    let node = Node::look_up(&chosen, !options.no_build && !options.smoke);

    let mut contests = Vec::new();
    let mut names = HashSet::new();
    for discipline in Discipline::ALL {
        let external = options.external(discipline).iter().map(|peer| external(peer));
        let mut peers = external.collect::<Result<Vec<_>, _>>()?;
        for ours in chosen.iter().filter(|ours| ours.discipline == discipline) {
            let command = ours.command(&programs, &node);
            if command.is_none() {
                eprintln!("{}: not here, it needs {}", ours.name, ours.origin.needs());
            }
            peers.push(Peer { name: ours.name.to_owned(), command });
        }
        let distinct: HashSet<_> = peers.iter().map(|peer| peer.name.clone()).collect();
        if distinct.len() < peers.len() {
            return Err("two servers of one name".into());
        }
        names.extend(distinct);
        let of_it = options.rows.iter().filter(|row| row.discipline() == discipline);
        let rows: Vec<_> = of_it.cloned().collect();
        let reference = reference(&peers, &options.reference);
        if let Some(reference) = reference.filter(|_| !rows.is_empty()) {
            contests.push(Contest { discipline, rows, peers, reference });
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
    /// Package and name, if it is one that Cargo builds.
    const fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Cargo { package, program } => Some((package, program)),
            Self::Node { .. } | Self::Bun { .. } => None,
        }
    }

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
fn build(chosen: &[&Ours], programs: &Path) -> Result<(), Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null());
    // It lies in the folder of its profile, and that in the one for all.
    cargo.arg("--target-dir").arg(programs.parent().ok_or("this program lies nowhere")?);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let mut wanted = false;
    for (package, program) in chosen.iter().filter_map(|ours| ours.origin.program()) {
        cargo.args(["--package", package, "--bin", program]);
        wanted = true;
    }
    if !wanted || cargo.status()?.success() { Ok(()) } else { Err("the peers do not build".into()) }
}

/// All programs that should have been built before are there.
fn find(chosen: &[&Ours], programs: &Path) -> Result<(), Failure> {
    let wanted = chosen.iter().filter_map(|ours| ours.origin.program());
    let mut missing: Vec<_> =
        wanted.map(|(_, program)| program).filter(|program| !programs.join(program).is_file()).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let (missing, folder) = (missing.join(", "), programs.display());
    Err(format!("not built: {missing} in {folder}; leave out --no-build, or name others with --peers").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_built_is_named() {
        let chosen: Vec<_> = OURS.iter().filter(|ours| ours.name == "longwire-engine").collect();
        let failure = find(&chosen, Path::new("/nowhere")).expect_err("nothing is there").to_string();
        assert!(failure.contains("longwire-engine-broadcast, longwire-engine-echo in /nowhere"), "{failure}");
        let node: Vec<_> = OURS.iter().filter(|ours| ours.name == "ws").collect();
        assert!(find(&node, Path::new("/nowhere")).is_ok(), "Cargo builds none of it");
    }

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
