//! The machine: which core the server runs on and which one the load, how many sockets may be open, its name.

use crate::Failure;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Pid,
};
use std::fs;

pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

/// The cores asked for, or else the first two that this process may use.
pub(crate) fn choose_cores(wanted: Option<&[usize]>) -> Result<Cores, Failure> {
    let usable: Vec<usize> = match wanted {
        Some(cores) => cores.to_vec(),
        None => {
            let set = sched_getaffinity(THIS_THREAD)?;
            (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect()
        }
    };
    match usable[..] {
        [server, load, ..] => Ok(Cores { server, load }),
        [only] => {
            eprintln!("only one core: the server and the load share it, so the figures mean nothing");
            Ok(Cores { server: only, load: only })
        }
        [] => Err("no core to run on".into()),
    }
}

/// Keeps this thread, and the processes it will start, on one core.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(THIS_THREAD, &set).map_err(|error| format!("cannot run on core {core}: {error}"))?;
    Ok(())
}

const THIS_THREAD: Pid = Pid::from_raw(0);

/// Lets this process and the servers it will start have this many connections each.
pub(crate) fn allow_connections(connections: usize) -> Result<(), Failure> {
    const OTHER_FILES: u64 = 64;
    let wanted = connections as u64 + OTHER_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        // Beyond the hard limit only a privileged process may go, and nobody beyond `fs.nr_open`.
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).map_err(|error| {
            let possible = hard.saturating_sub(OTHER_FILES);
            format!(
                "{connections} connections need {wanted} open files, `ulimit -n` ends at {hard}: \
                 {possible} connections are possible, as in the row idle-{possible} ({error})"
            )
        })?;
    }
    Ok(())
}

/// Processor, kernel and congestion control, as far as the system tells.
pub(crate) fn description() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).unwrap_or_default().1;
    let kernel = read("/proc/sys/kernel/osrelease");
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    format!("{model}, Linux {kernel}, TCP congestion control {congestion}")
}
