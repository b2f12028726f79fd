//! Runs this program under callgrind, and reads what it has counted.

use crate::{Failure, drive::NOT_COUNTED, row::Row};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// Valgrind shows programs a processor of its own, the same on every machine that has AVX2.
pub(crate) fn is_comparable() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// What one of what the row counts costs, in instructions.
pub(crate) fn count(row: Row) -> Result<f64, Failure> {
    let batches = row.batches();
    let (short, long) = thread::scope(|scope| {
        let short = scope.spawn(|| total(row, batches));
        let long = total(row, 2 * batches);
        (short.join(), long)
    });
    let (short, long) = (short.map_err(|_| "a thread panicked")??, long?);
    Ok((long as f64 - short as f64) / (batches * row.each()) as f64)
}

/// Instructions of a whole run.
fn total(row: Row, batches: usize) -> Result<u64, Failure> {
    let profile = profile(row, batches)?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        // What the client does is not counted. The order is of importance: the first option switches counting off.
        .arg(format!("--toggle-collect={NOT_COUNTED}"))
        .arg("--collect-atstart=yes")
        .arg(env::current_exe()?)
        .args(["--drive", row.name(), &batches.to_string()])
        .stdin(Stdio::null());
    let output = valgrind.output().map_err(|error| format!("cannot start valgrind: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}\n{said}", row.name(), output.status).into());
    }
    read(&profile)
}

/// Where callgrind writes; the longer run's is kept for `callgrind_annotate`.
fn profile(row: Row, batches: usize) -> Result<PathBuf, Failure> {
    let program = env::current_exe()?;
    let folder = program.parent().unwrap_or(Path::new(".")).join("instructions-profiles");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{}-{batches}.callgrind", row.name())))
}

fn read(profile: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(profile)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| format!("{} has no totals", profile.display()).into())
}
