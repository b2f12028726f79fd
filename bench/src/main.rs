//! Measures WebSocket servers side by side in one run: each server is started alone on a core of its own, loaded
//! from another, and asked how much CPU a message costs it. The servers take turns within each round, and the
//! result is the ratio to the reference in the same round. README.md says how to read the tables.

mod chart;
mod codec;
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
    if options.codec {
        machine::pin(machine::choose_cores(options.cores.as_deref())?.server)?;
        codec::compare()?;
        return Ok(0);
    }
    let most = options.rows.iter().map(|row| row.connections(options.idle_connections)).max();
    machine::allow_connections(most.unwrap_or(0))?;
    let contests = peer::line_up(options)?;
    let cores = machine::choose_cores(options.cores.as_deref())?;
    machine::pin(cores.load)?;

    let mut cells = Vec::new();
    for contest in &contests {
        for row in &contest.rows {
            for round in 1..=row.rounds(options.rounds) {
                for peer in &contest.peers {
                    let Some(command) = &peer.command else { continue };
                    let outcome = measure(row, command, &cores, options);
                    match &outcome {
                        Ok(outcome) => eprintln!("{row} round {round} {}: {outcome}", peer.name),
                        Err(failure) => eprintln!("{row} round {round} {}: FAILED: {failure}", peer.name),
                    }
                    let (row, peer) = (row.clone(), peer.name.clone());
                    cells.push(Cell { row, round, peer, outcome: outcome.ok() });
                }
            }
        }
    }

    let report = Report { contests, cells };
    println!("{report}");
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&report.to_json())?)?;
    }
    if let Some(file) = &options.svg {
        fs::write(file, chart::svg(&report))?;
    }
    Ok(report.cells.iter().filter(|cell| cell.outcome.is_none()).count())
}

/// One server, started for this measurement alone.
fn measure(row: &Row, command: &[String], cores: &Cores, options: &Options) -> Result<Outcome, Failure> {
    let pace = Pace { warmup: options.warmup, window: options.seconds, verify: options.verify };
    let connections = row.connections(options.idle_connections);
    let start = || Server::start(command, cores);
    match &row.work {
        Work::Echo(echo) => load::echo::run(&start()?, echo, &pace).map(Outcome::Traffic),
        Work::Broadcast(broadcast) => load::broadcast::run(&start()?, broadcast, &pace).map(Outcome::Traffic),
        Work::Connect => load::connect::run(&start()?, connections, &pace).map(Outcome::Traffic),
        Work::Idle { deflate: false, .. } => load::idle::run(&start()?, connections).map(Outcome::Memory),
        Work::Idle { deflate: true, .. } => load::idle::run_deflate(start, connections).map(Outcome::Memory),
    }
}
