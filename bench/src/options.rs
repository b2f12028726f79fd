//! The command line.

use crate::row::{self, Row};
use clap::Parser;
use std::path::PathBuf;

/// Measures WebSocket servers side by side: CPU per message, throughput, round trips and idle memory.
#[derive(Parser)]
pub(crate) struct Options {
    /// How often each server is measured in each row; the idle row is always measured once
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,

    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,

    /// Seconds of load before each measurement
    #[arg(long, default_value_t = 0.3)]
    pub(crate) warmup: f64,

    /// Rows to measure: `connect`, `idle`, or <connections>x<size>-<text|binary|zh>-d<messages in flight>
    #[arg(long, value_delimiter = ',', default_values_t = row::standard())]
    pub(crate) rows: Vec<Row>,

    /// Another server, as `name=command`; `{port}` in the command becomes the port to listen on at 127.0.0.1
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    pub(crate) external: Vec<String>,

    /// Which of the servers in this workspace take part; `none` for none
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME",
        default_value = "longwire,tokio-tungstenite,fastwebsockets,tokio-websockets"
    )]
    pub(crate) peers: Vec<String>,

    /// The server that the ratios are to [default: the first `--peer`, else the first of `--peers`]
    #[arg(long, value_name = "NAME")]
    pub(crate) reference: Option<String>,

    /// Compare every byte of every reply, with payloads of its own on each connection
    #[arg(long)]
    pub(crate) verify: bool,

    /// Only check that everything works: one short round, verified, with few idle connections
    #[arg(long)]
    pub(crate) smoke: bool,

    /// Also write every sample to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// How many connections the idle row opens
    #[arg(long, default_value_t = 10_000)]
    pub(crate) idle_connections: usize,

    /// The cores of the server and of the load [default: the first two that this process may use]
    #[arg(long, num_args = 2, value_names = ["SERVER", "LOAD"])]
    pub(crate) cores: Option<Vec<usize>>,

    /// Take the servers of this workspace as they were last built
    #[arg(long)]
    pub(crate) no_build: bool,
}

impl Options {
    /// `--smoke` spelled out.
    pub(crate) fn settled(mut self) -> Self {
        if self.smoke {
            self.rounds = 1;
            self.seconds = 0.1;
            self.warmup = 0.05;
            self.verify = true;
            self.idle_connections = 200;
        }
        self
    }
}
