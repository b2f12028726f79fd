//! Both ends that the Autobahn suite is run against, and the judge of its reports.
//!
//! `conformance/run` calls it; `README.md` beside it says what is judged and how.

mod compare;
mod peer;

use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "\
longwire-conformance serve --listen ADDRESS           echo server; prints where it listens
longwire-conformance engine --listen ADDRESS          the same on the engine
longwire-conformance client --server URL              runs every case of a fuzzingserver, then has the reports written
longwire-conformance compare EXPECTED REPORTS SIDE... judges REPORTS/SIDE/*/index.json, SIDE being server, engine or client";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&arguments).await.unwrap_or_else(|error| {
        eprintln!("longwire-conformance: {error}");
        ExitCode::FAILURE
    })
}

async fn run(arguments: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    match arguments {
        ["serve", "--listen", address] => peer::serve(address).await?,
        ["engine", "--listen", address] => peer::serve_engine(address).await?,
        ["client", "--server", url] => peer::client(url).await?,
        ["compare", expected, reports, sides @ ..] if !sides.is_empty() => {
            let all_as_expected = compare::compare(expected.as_ref(), reports.as_ref(), sides)?;
            return Ok(if all_as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}
