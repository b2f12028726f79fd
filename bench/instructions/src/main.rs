//! Counts the instructions that the engine spends on a message, and compares them with `expected.json`.
//!
//! This program starts itself under callgrind, twice for each row: once for a number of batches and once for twice as
//! many. The difference is what the messages cost; what happens before and after them cancels out. README.md of `bench`
//! says what is counted, and what to do when a count has grown.

mod callgrind;
mod drive;
mod expected;
mod row;

use clap::Parser;
use expected::{Expected, Verdict};
use row::Row;
use std::{error::Error, process::ExitCode};

/// Why a run came to nothing.
type Failure = Box<dyn Error + Send + Sync>;

/// Counts the instructions that the engine spends on a message.
#[derive(Parser)]
struct Options {
    /// Write what is counted to expected.json instead of comparing it
    #[arg(long)]
    accept: bool,

    /// Count so often, and say how far the counts lie apart
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    runs: usize,

    /// Only these rows
    #[arg(long, value_delimiter = ',', value_name = "ROW", conflicts_with = "accept")]
    rows: Vec<Row>,

    /// What runs under callgrind: so many batches of one row, and nothing else
    #[arg(long, num_args = 2, value_names = ["ROW", "BATCHES"], hide = true)]
    drive: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("instructions: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// True when nothing has grown.
fn run(options: &Options) -> Result<bool, Failure> {
    if let [row, batches] = &options.drive[..] {
        drive::drive(row.parse()?, batches.parse()?)?;
        return Ok(true);
    }
    if !callgrind::is_comparable() {
        println!("left out: the counts are those of x86-64 with AVX2, which this machine has not");
        return Ok(true);
    }
    let rows = if options.rows.is_empty() { Row::ALL.to_vec() } else { options.rows.clone() };
    let mut counted = Vec::new();
    for row in rows {
        let counts = (0..options.runs.max(1)).map(|_| callgrind::count(row));
        let mut counts = counts.collect::<Result<Vec<_>, _>>()?;
        counts.sort_by(f64::total_cmp);
        if let ([least, .., greatest], true) = (&counts[..], options.runs > 1) {
            let spread = 100.0 * (greatest / least - 1.0);
            eprintln!("{:<12} {least:.1} to {greatest:.1}: {spread:.3} % apart", row.name());
        }
        counted.push((row, counts[counts.len() / 2]));
    }
    if options.accept {
        Expected::write(&counted)?;
        println!("written to {}", Expected::path().display());
        return Ok(true);
    }
    let verdict = Verdict::new(&Expected::read()?, &counted)?;
    println!("{verdict}");
    Ok(verdict.is_good())
}
