//! The servers that take part: those of this workspace, and those named on the command line.

use crate::{Failure, options::Options};
use std::{
    collections::HashSet,
    env,
    path::Path,
    process::{Command, Stdio},
};

/// A server and how to start it.
pub(crate) struct Peer {
    pub(crate) name: String,
    /// The program and its arguments; `{port}` in them stands for the port to listen on.
    pub(crate) command: Vec<String>,
}

/// The servers of this workspace: name, package, program.
const OURS: [(&str, &str, &str); 4] = [
    ("longwire", "longwire-echo", "longwire-echo"),
    ("tokio-tungstenite", "peers", "tokio-tungstenite-echo"),
    ("fastwebsockets", "peers", "fastwebsockets-echo"),
    ("tokio-websockets", "peers", "tokio-websockets-echo"),
];

/// Everyone who takes part, in order, those of this workspace freshly built.
pub(crate) fn line_up(options: &Options) -> Result<Vec<Peer>, Failure> {
    let mut peers = options.external.iter().map(|peer| external(peer)).collect::<Result<Vec<_>, _>>()?;

    let mut ours = Vec::new();
    for name in options.peers.iter().filter(|name| *name != "none") {
        ours.push(
            OURS.iter().find(|(known, ..)| known == name).ok_or_else(|| format!("no such peer: {name}"))?,
        );
    }
    if !options.no_build && !ours.is_empty() {
        build(ours.iter().map(|(_, package, _)| *package))?;
    }
    let programs = env::current_exe()?.parent().map(Path::to_path_buf).ok_or("this program lies nowhere")?;
    for (name, _, program) in ours {
        let program = programs.join(program).display().to_string();
        peers.push(Peer { name: (*name).to_owned(), command: vec![program, "{port}".to_owned()] });
    }

    let names: HashSet<_> = peers.iter().map(|peer| &peer.name).collect();
    match peers.len() {
        0 => Err("no server to measure".into()),
        all if all > names.len() => Err("two servers of one name".into()),
        _ => Ok(peers),
    }
}

/// The name of the server that the ratios are to.
pub(crate) fn reference(peers: &[Peer], wanted: Option<&str>) -> Result<String, Failure> {
    let mut found = peers.iter().filter(|peer| wanted.is_none_or(|name| peer.name == name));
    found.next().map(|peer| peer.name.clone()).ok_or_else(|| "the reference does not take part".into())
}

fn external(peer: &str) -> Result<Peer, Failure> {
    let (name, command) = peer.split_once('=').ok_or_else(|| format!("not name=command: {peer}"))?;
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if command.is_empty() {
        Err(format!("no command: {peer}").into())
    } else {
        Ok(Peer { name: name.to_owned(), command })
    }
}

/// Builds into the directory that this program itself was built into.
fn build<'a>(packages: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    for package in packages {
        cargo.args(["--package", package]);
    }
    if cargo.status()?.success() { Ok(()) } else { Err("the peers do not build".into()) }
}
