//! Thousands of connections that come, go, stall, dribble, are reset and break rules, against the engine in a process of its
//! own, beside well-behaved ones that check whatever they receive. In the end nothing may be left: README.md of `bench`.

mod child;
mod client;
mod codec;
mod frames;
mod judge;
mod lives;
mod message;
mod random;
mod serve;
mod tally;

use child::Server;
use clap::Parser;
use judge::{Sample, Seen};
use lives::World;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use random::Random;
use serde_json::{Value, json};
use std::{error::Error, process::ExitCode, rc::Rc, time::Duration};
use tokio::{
    runtime,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Counts what is allocated: what is resident says less, for the allocator keeps what it had once.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// Why a run came to nothing.
type Failure = Box<dyn Error>;

/// Puts the engine under load of every kind, and looks what is left of it.
#[derive(Parser)]
struct Options {
    /// How long
    #[arg(long, default_value_t = 600)]
    seconds: u64,

    /// How many clients there are at any time
    #[arg(long, default_value_t = 5000)]
    connections: usize,

    /// Threads of the engine
    #[arg(long, default_value_t = 2)]
    threads: usize,

    /// Another one gives other clients
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    /// Be the server, of so many threads
    #[arg(long, hide = true)]
    serve: Option<usize>,
}

/// How long clients may take to end once the run is over: the longest of their own deadlines.
const GOODBYE: Duration = Duration::from_secs(120);

/// How long the server may take then to be as it was.
const QUIET: Duration = Duration::from_secs(30);

/// Clients that are so late may miss the deadlines of the server.
const LATE: Duration = Duration::from_secs(2);

/// Seconds between two lines of progress.
const PROGRESS: u64 = 10;

/// Files beside the connections.
const OTHER_FILES: u64 = 100;

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.serve {
        Some(threads) => serve::serve(threads).map(|()| true),
        None => run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("soak: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// True when all was good.
fn run(options: &Options) -> Result<bool, Failure> {
    allow_files(options.connections as u64 + OTHER_FILES)?;
    let mut server = Server::start(options.threads)?;
    let world = World::new(server.address, options.connections).ok_or("zlib does not compress")?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    let Judged { mut complaints, text, mut result } =
        runtime.block_on(soak(options, &mut server, Rc::new(world)))?;
    complaints.extend(server.end()?);
    result["complaints"] = json!(complaints);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        print!("{text}");
        complaints.iter().for_each(|complaint| println!("NOT GOOD: {complaint}"));
        let verdict = if complaints.is_empty() { "nothing is left and nothing was wrong" } else { "FAILED" };
        println!("soak: {verdict}");
    }
    Ok(complaints.is_empty())
}

/// What a run has shown, the end of the server's process aside.
struct Judged {
    complaints: Vec<String>,
    text: String,
    result: Value,
}

async fn soak(options: &Options, server: &mut Server, world: Rc<World>) -> Result<Judged, Failure> {
    lives::rehearse(&world).await.map_err(|failure| format!("in the rehearsal: {failure}"))?;
    quiet(server, None).await?;
    let start = sample(server, 0)?;
    eprintln!("{start}, before the first client");

    let mut clients = JoinSet::new();
    let mut random = Random::new(options.seed);
    // They come within the first tenth of the time.
    let ramp = (options.seconds * 100).min(15_000) as usize;
    for _ in 0..options.connections {
        clients.spawn_local(lives::clients(Rc::clone(&world), random.next(), random.millis(0, ramp)));
    }
    clients.spawn_local(lives::watch_the_clock(Rc::clone(&world)));
    let during = watch(options.seconds, server, &world).await?;

    world.stopping.set(true);
    let ended = timeout(GOODBYE, async { while clients.join_next().await.is_some_and(|end| end.is_ok()) {} });
    let ended = ended.await.is_ok() && clients.is_empty();
    if !ended {
        world.tally.borrow_mut().fail(format!("{} clients do not come to an end", clients.len()));
        clients.shutdown().await;
    }
    quiet(server, Some(&start)).await?;
    // What a thread frees late, and what the allocator gives back late.
    sleep(Duration::from_secs(1)).await;
    let (end, counters) = (sample(server, options.seconds)?, server.counters()?);
    eprintln!("{end}, after the last client");
    Ok(judged(options, &world, &Seen { start, during, end }, &counters))
}

/// A sample each second, and a line of progress from time to time.
async fn watch(seconds: u64, server: &mut Server, world: &World) -> Result<Vec<Sample>, Failure> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    for second in 1..=seconds {
        sleep_until(begun + Duration::from_secs(second)).await;
        let sample = sample(server, second)?;
        samples.push(sample);
        if second % PROGRESS == 0 || second == seconds {
            let tally = world.tally.borrow();
            eprintln!(
                "{sample}; {} lives, {} echoes, {} deliveries, {} failures; late by {} ms at most",
                tally.begun(),
                tally.echoes,
                tally.deliveries,
                tally.failures,
                tally.late.as_millis(),
            );
        }
    }
    Ok(samples)
}

fn judged(options: &Options, world: &World, seen: &Seen, counters: &Value) -> Judged {
    let tally = world.tally.borrow();
    let mut complaints = seen.complaints(options.connections as u64);
    complaints.extend(tally.told.iter().cloned());
    if tally.failures > tally.told.len() as u64 {
        complaints.push(format!("{} failures in all", tally.failures));
    }
    if tally.failures > 0 && tally.late > LATE {
        let late = tally.late.as_millis();
        complaints.push(format!("but this machine may be too slow for it: clients were late by {late} ms"));
    }
    if counters["live"] != 0 {
        complaints.push(format!("`closed` was not called once for each: {} are left", counters["live"]));
    }
    let count = |name: &str| counters[name].as_u64().unwrap_or(0);
    let ends = ["closed", "slow_consumers", "protocol_errors", "timeouts", "lost"].map(count);
    if ends.iter().sum::<u64>() != count("opened") {
        complaints.push(format!("{} were opened, and {ends:?} ended", count("opened")));
    }
    let lives = tally.lives.iter().map(|(life, lived)| (format!("{life:?}"), json!(lived.ended)));
    let lives: serde_json::Map<_, _> = lives.collect();
    let text = format!(
        "lives: {}\nserver: {counters}\nchecked: {} echoes with {} MiB, {} deliveries; {} failures; clients were late \
         by {} ms at most\n{seen}",
        Value::from(lives.clone()),
        tally.echoes,
        tally.echoed_bytes >> 20,
        tally.deliveries,
        tally.failures,
        tally.late.as_millis(),
    );
    let result = json!({
        "seen": seen.to_json(),
        "lives": lives,
        "server": counters,
        "echoes": tally.echoes,
        "echoed_bytes": tally.echoed_bytes,
        "deliveries": tally.deliveries,
        "failures": tally.failures,
        "late_ms": tally.late.as_millis() as u64,
    });
    Judged { complaints, text, result }
}

fn sample(server: &mut Server, second: u64) -> Result<Sample, Failure> {
    let counters = server.counters()?;
    let count = |name: &str| counters[name].as_u64().ok_or_else(|| format!("no counter {name}"));
    let (open, allocated) = (count("open")?, count("allocated")?);
    Ok(Sample { second, open, descriptors: server.descriptors()?, allocated, resident: server.resident()? })
}

/// Waits until no connection is left, and no more descriptors are there than in the beginning.
async fn quiet(server: &mut Server, start: Option<&Sample>) -> Result<(), Failure> {
    let until = Instant::now() + QUIET;
    let mut before = 0;
    while Instant::now() < until {
        let counters = server.counters()?;
        let descriptors = server.descriptors()?;
        let settled = start.map_or(descriptors == before, |start| descriptors == start.descriptors);
        if counters["open"] == 0 && counters["live"] == 0 && settled {
            return Ok(());
        }
        before = descriptors;
        sleep(Duration::from_millis(500)).await;
    }
    // What is left is told by the comparison.
    Ok(())
}

/// Lets this process and the server have so many files each.
fn allow_files(wanted: u64) -> Result<(), Failure> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).map_err(|error| {
            format!("{wanted} open files are needed, `ulimit -n` ends at {hard} ({error})")
        })?;
    }
    Ok(())
}
