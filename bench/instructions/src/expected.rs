//! What is expected, and how what was counted compares with it.

use crate::{Failure, row::Row};
use serde_json::{Map, Value, json};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// In per cent, for rows that are written for the first time.
const TOLERANCE: f64 = 3.0;

/// What `expected.json` says.
pub(crate) struct Expected(Value);

impl Expected {
    pub(crate) fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("expected.json")
    }

    pub(crate) fn read() -> Result<Self, Failure> {
        let path = Self::path();
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(serde_json::from_str(&text)?))
    }

    /// Takes what was counted for what is expected from now on. Tolerances stay as they are.
    pub(crate) fn write(counted: &[(Row, f64)]) -> Result<(), Failure> {
        let before = Self::read().ok();
        let rows = counted.iter().map(|(row, count)| {
            let tolerance =
                before.as_ref().and_then(|before| before.of(*row)).map_or(TOLERANCE, |(_, it)| it);
            let entry = json!({
                "what": row.meaning(),
                "instructions": (count * 10.0).round() / 10.0,
                "tolerance_percent": tolerance,
            });
            (row.name().to_owned(), entry)
        });
        let expected = json!({ "counted_with": tools(), "rows": rows.collect::<Map<_, _>>() });
        fs::write(Self::path(), serde_json::to_string_pretty(&expected)? + "\n")?;
        Ok(())
    }

    /// Instructions and tolerance.
    fn of(&self, row: Row) -> Option<(f64, f64)> {
        let entry = &self.0["rows"][row.name()];
        Some((entry["instructions"].as_f64()?, entry["tolerance_percent"].as_f64()?))
    }
}

/// What, besides the code, has a say in the counts.
fn tools() -> Value {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| "unknown".to_owned())
    };
    json!({
        "rustc": said("rustc", &["--version"]),
        "valgrind": said("valgrind", &["--version"]),
        "libc": said("getconf", &["GNU_LIBC_VERSION"]),
    })
}

/// What was counted beside what is expected.
pub(crate) struct Verdict {
    lines: Vec<Line>,
    /// Each tool that is another by now: then and now.
    tools: Vec<(String, String)>,
}

struct Line {
    row: Row,
    expected: f64,
    counted: f64,
    /// In per cent.
    tolerance: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Finding {
    AsExpected,
    Grown,
    Shrunk,
}

impl Line {
    fn change(&self) -> f64 {
        100.0 * (self.counted / self.expected - 1.0)
    }

    fn finding(&self) -> Finding {
        match self.change() {
            change if change > self.tolerance => Finding::Grown,
            change if change < -self.tolerance => Finding::Shrunk,
            _ => Finding::AsExpected,
        }
    }
}

impl Verdict {
    pub(crate) fn new(expected: &Expected, counted: &[(Row, f64)]) -> Result<Self, Failure> {
        let lines = counted.iter().map(|(row, counted)| {
            let (expected, tolerance) = expected
                .of(*row)
                .ok_or_else(|| format!("{} is not in {}", row.name(), Expected::path().display()))?;
            Ok(Line { row: *row, expected, counted: *counted, tolerance })
        });
        let lines = lines.collect::<Result<_, Failure>>()?;
        let (then, now) = (&expected.0["counted_with"], tools());
        let tools = now.as_object().into_iter().flatten().filter(|(name, now)| then[name.as_str()] != **now);
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        let tools = tools.map(|(name, now)| (text(&then[name.as_str()]), text(now))).collect();
        Ok(Self { lines, tools })
    }

    pub(crate) fn is_good(&self) -> bool {
        self.lines.iter().all(|line| line.finding() != Finding::Grown)
    }

    fn has(&self, finding: Finding) -> bool {
        self.lines.iter().any(|line| line.finding() == finding)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {:>9} {:>9} {:>8}", "row", "expected", "counted", "change")?;
        for line in &self.lines {
            let finding = match line.finding() {
                Finding::AsExpected => "",
                Finding::Grown => "  GROWN",
                Finding::Shrunk => "  fewer",
            };
            let Line { row, expected, counted, .. } = line;
            write!(f, "{:<12} {expected:>9.1} {counted:>9.1} {:>+6.1} %", row.name(), line.change())?;
            writeln!(f, "{finding:<7}  {}", row.meaning())?;
        }
        for (then, now) in &self.tools {
            writeln!(f, "note: expected.json was counted with {then}, this is {now}")?;
        }
        if self.has(Finding::Shrunk) {
            writeln!(f, "{FEWER}")?;
        }
        if self.has(Finding::Grown) {
            writeln!(f, "{GROWN}")?;
        }
        f.write_str("instructions: ")?;
        f.write_str(if self.is_good() { "none has grown" } else { "what costs more is marked GROWN" })
    }
}

const FEWER: &str = "Some need fewer than expected. Lest that is lost again unseen, in bench: cargo run --release -p instructions -- --accept";

const GROWN: &str = "Where they go: callgrind_annotate bench/target/release/instructions-profiles/ROW-BATCHES.callgrind | head -60, here and in
a tree from before. If it is meant, in bench: cargo run --release -p instructions -- --accept, and commit
instructions/expected.json with the reason.";

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(counted: f64) -> Verdict {
        let expected =
            Expected(json!({ "rows": { "echo": { "instructions": 100.0, "tolerance_percent": 3.0 } } }));
        Verdict::new(&expected, &[(Row::Echo, counted)]).expect("a verdict")
    }

    #[test]
    fn more_than_the_tolerance_fails_and_less_is_told() {
        for (counted, good, finding) in [
            (100.0, true, Finding::AsExpected),
            (102.9, true, Finding::AsExpected),
            (103.1, false, Finding::Grown),
            (97.1, true, Finding::AsExpected),
            (96.9, true, Finding::Shrunk),
        ] {
            let verdict = verdict(counted);
            assert_eq!((verdict.is_good(), verdict.lines[0].finding()), (good, finding), "{counted}");
        }
        assert!(verdict(104.0).to_string().contains("--accept"));
        assert!(verdict(90.0).to_string().contains("fewer than expected"));
    }

    #[test]
    fn a_row_that_nothing_is_expected_of_is_an_error() {
        let expected = Expected(json!({ "rows": {} }));
        assert!(Verdict::new(&expected, &[(Row::Echo, 1.0)]).is_err());
    }

    #[test]
    fn something_is_expected_of_every_row() {
        let expected = Expected::read().expect("expected.json");
        assert!(Row::ALL.into_iter().all(|row| expected.of(row).is_some_and(|(count, _)| count > 0.0)));
    }
}
