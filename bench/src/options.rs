//! The command line.

use crate::{
    peer,
    row::{self, Discipline, Row},
};
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

    /// Rows to measure: `connect`, `idle[-deflate][-<connections>]`,
    /// <connections>x<size>-<text|binary|zh|json>[-deflate]-d<messages in flight>, or
    /// <subscribers>x<size>-broadcast-w<messages in flight> [default: those of the README]
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    pub(crate) rows: Vec<Row>,

    /// Another server, as `name=command`; `{port}` in the command becomes the port to listen on at 127.0.0.1
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    pub(crate) external: Vec<String>,

    /// The same for a server that compresses: it takes part in the deflate rows, and in no others
    #[arg(long = "deflate-peer", value_name = "NAME=COMMAND")]
    pub(crate) external_deflate: Vec<String>,

    /// The same for a server that sends what anyone sends to everyone: it takes part in the broadcast rows only
    #[arg(long = "broadcast-peer", value_name = "NAME=COMMAND")]
    pub(crate) external_broadcast: Vec<String>,

    /// Which of the servers in this workspace take part; `none` for none
    #[arg(long, value_delimiter = ',', value_name = "NAME", default_values = peer::names())]
    pub(crate) peers: Vec<String>,

    /// The server that the ratios are to; several, if one does not take part in all kinds of rows [default: the first]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) reference: Vec<String>,

    /// Compare every byte of every reply, with payloads of its own on each connection
    #[arg(long)]
    pub(crate) verify: bool,

    /// Only check that everything works: one short round, verified, with few idle connections. Installs nothing
    #[arg(long)]
    pub(crate) smoke: bool,

    /// Measure the compressors only, by themselves
    #[arg(long)]
    pub(crate) codec: bool,

    /// Also write every sample to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Also draw the ratios, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// How many connections the idle rows open whose names do not say it [default: 10,000, with deflate 5,000]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) idle_connections: Option<usize>,

    /// The cores of the server and of the load [default: the first two that this process may use]
    #[arg(long, num_args = 2, value_names = ["SERVER", "LOAD"])]
    pub(crate) cores: Option<Vec<usize>>,

    /// Take the servers of this workspace as they were last built and installed
    #[arg(long)]
    pub(crate) no_build: bool,
}

impl Options {
    /// The servers named on the command line that take part in rows of this kind.
    pub(crate) fn external(&self, discipline: Discipline) -> &[String] {
        match discipline {
            Discipline::Plain => &self.external,
            Discipline::Deflate => &self.external_deflate,
            Discipline::Broadcast => &self.external_broadcast,
        }
    }

    /// The default rows and `--smoke` spelled out.
    pub(crate) fn settled(mut self) -> Self {
        if self.rows.is_empty() {
            self.rows = if self.smoke { row::smoke() } else { row::standard() };
        }
        if self.smoke {
            self.rounds = 1;
            self.seconds = 0.1;
            self.warmup = 0.05;
            self.verify = true;
            self.idle_connections = Some(200);
        }
        self
    }
}
