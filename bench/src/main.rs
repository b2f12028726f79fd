//! Measures WebSocket servers side by side in one run: each server is started alone on a core of its own, loaded
//! from another, and asked how much CPU a message costs it. The servers take turns within each round, and the
//! result is the ratio to the reference in the same round. README.md says how to read the tables.

mod load;
mod machine;
mod options;
mod peer;
mod report;
mod row;
mod server;

use clap::Parser;
use load::{Outcome, Pace};
use machine::Cores;
use options::Options;
use peer::Peer;
use report::{Cell, Report};
use row::{Row, Work};
use server::Server;
use std::{error::Error, fs, process::ExitCode};

/// Why a run, or one measurement of it, came to nothing.
type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match run(&Options::parse().settled()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} measurements failed");
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The whole run; says how many measurements failed.
fn run(options: &Options) -> Result<usize, Failure> {
    let peers = peer::line_up(options)?;
    let reference = peer::reference(&peers, options.reference.as_deref())?;
    let cores = machine::choose_cores(options.cores.as_deref())?;
    machine::pin(cores.load)?;
    let most = options.rows.iter().map(|row| row.connections(options.idle_connections)).max();
    machine::allow_connections(most.unwrap_or(0))?;

    let mut cells = Vec::new();
    for row in &options.rows {
        for round in 1..=row.rounds(options.rounds) {
            for peer in &peers {
                let outcome = measure(row, peer, &cores, options);
                match &outcome {
                    Ok(outcome) => eprintln!("{row} round {round} {}: {outcome}", peer.name),
                    Err(failure) => eprintln!("{row} round {round} {}: FAILED: {failure}", peer.name),
                }
                cells.push(Cell { row: row.clone(), round, peer: peer.name.clone(), outcome: outcome.ok() });
            }
        }
    }

    let names = peers.into_iter().map(|peer| peer.name).collect();
    let report = Report { reference, peers: names, rows: options.rows.clone(), cells };
    println!("{report}");
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&report.to_json())?)?;
    }
    Ok(report.cells.iter().filter(|cell| cell.outcome.is_none()).count())
}

/// One server, started for this measurement alone.
fn measure(row: &Row, peer: &Peer, cores: &Cores, options: &Options) -> Result<Outcome, Failure> {
    let pace = Pace { warmup: options.warmup, window: options.seconds, verify: options.verify };
    let server = Server::start(peer, cores)?;
    match &row.work {
        Work::Echo(echo) => load::echo::run(&server, echo, &pace).map(Outcome::Traffic),
        Work::Connect => load::connect::run(&server, Row::CONNECT_AT_ONCE, &pace).map(Outcome::Traffic),
        Work::Idle => load::idle::run(&server, options.idle_connections).map(Outcome::Memory),
    }
}
