//! Compares the suite's reports with `expected.json`: every case OK, those listed as informational so, none missing.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::peer::AGENT;

const OK: &str = "OK";
const INFORMATIONAL: &str = "INFORMATIONAL";
const MISSING: &str = "missing";

/// The number of a case, `7.1.6` as `[7, 1, 6]`: in this form cases sort as people count.
type Case = Vec<u32>;

/// What `expected.json` says.
struct Expected {
    cases: BTreeSet<Case>,
    informational: BTreeSet<Case>,
}

/// One side's report, judged.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    ok: usize,
    informational: usize,
    differing: Vec<Difference>,
}

/// A case that did not end as expected.
#[derive(Debug, PartialEq)]
struct Difference {
    case: String,
    behavior: String,
    behavior_close: String,
    close_code: String,
    /// File name of the case's own report, if there is one.
    report: Option<String>,
}

/// Prints a table of what differs, if anything does, and the summary line. True when all is as expected.
pub(crate) fn compare(expected: &Path, reports: &Path, sides: &[&str]) -> Result<bool, Box<dyn Error>> {
    let expected = Expected::read(&json(expected)?)?;
    let mut summaries = Vec::new();
    let mut all_as_expected = true;
    for side in sides {
        let verdict = expected.judge(&reported(reports, side)?);
        if !verdict.differing.is_empty() {
            all_as_expected = false;
            print_differing(side, reports, &verdict.differing);
        }
        summaries.push(format!("{side} {}", verdict.summary()));
    }
    println!("autobahn: {}", summaries.join("; "));
    Ok(all_as_expected)
}

/// The results of all runs of the suite on one side, each of which has a folder of its own.
fn reported(reports: &Path, side: &str) -> Result<Value, Box<dyn Error>> {
    let folder = reports.join(side);
    let mut all = serde_json::Map::new();
    for run in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let run = run?;
        let index = json(&run.path().join("index.json"))?;
        for (case, result) in index[AGENT].as_object().into_iter().flatten() {
            let mut result = result.clone();
            if let Some(file) = result["reportfile"].as_str() {
                result["reportfile"] = format!("{side}/{}/{file}", run.file_name().display()).into();
            }
            all.insert(case.clone(), result);
        }
    }
    Ok(Value::Object([(AGENT.to_owned(), all.into())].into_iter().collect()))
}

fn json(path: &Path) -> Result<Value, Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn number(case: &str) -> Result<Case, String> {
    case.split('.').map(|part| part.parse().map_err(|_| format!("{case:?} is no number of a case"))).collect()
}

fn name(case: &[u32]) -> String {
    case.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

impl Expected {
    fn read(value: &Value) -> Result<Self, String> {
        let mut cases = BTreeSet::new();
        for (group, count) in value["groups"].as_object().ok_or("`groups` is missing")? {
            let group = number(group)?;
            let count = count.as_u64().and_then(|count| u32::try_from(count).ok());
            let count = count.ok_or_else(|| format!("group {}: no number of cases", name(&group)))?;
            cases.extend((1..=count).map(|last| [group.as_slice(), &[last]].concat()));
        }
        let mut informational = BTreeSet::new();
        for (case, reason) in value["informational"].as_object().ok_or("`informational` is missing")? {
            let case = number(case)?;
            if !cases.contains(&case) {
                return Err(format!("informational {} is in no group", name(&case)));
            }
            if reason.as_str().is_none_or(str::is_empty) {
                return Err(format!("informational {} has no reason", name(&case)));
            }
            informational.insert(case);
        }
        Ok(Self { cases, informational })
    }

    fn judge(&self, index: &Value) -> Verdict {
        let mut reported = BTreeMap::new();
        for (case, result) in index[AGENT].as_object().into_iter().flatten() {
            reported.insert(number(case).unwrap_or_default(), result);
        }
        let mut verdict = Verdict::default();
        // A case of the report that nobody expects is judged as well: `expected.json` is to name all that ran
        for case in self.cases.iter().chain(reported.keys().filter(|case| !self.cases.contains(*case))) {
            let result = reported.get(case).copied().unwrap_or(&Value::Null);
            let behavior = result["behavior"].as_str().unwrap_or(MISSING);
            let behavior_close = result["behaviorClose"].as_str().unwrap_or(MISSING);
            let expected = if self.informational.contains(case) { INFORMATIONAL } else { OK };
            if !self.cases.contains(case) || behavior != expected || behavior_close != expected {
                verdict.differing.push(Difference {
                    case: name(case),
                    behavior: behavior.to_owned(),
                    behavior_close: behavior_close.to_owned(),
                    close_code: result["remoteCloseCode"]
                        .as_u64()
                        .map_or("-".into(), |code| code.to_string()),
                    report: result["reportfile"].as_str().map(str::to_owned),
                });
            } else if expected == OK {
                verdict.ok += 1;
            } else {
                verdict.informational += 1;
            }
        }
        verdict
    }
}

impl Verdict {
    fn summary(&self) -> String {
        let mut summary = format!("{} OK, {} informational", self.ok, self.informational);
        if !self.differing.is_empty() {
            summary += &format!(", {} not as expected", self.differing.len());
        }
        summary
    }
}

fn print_differing(side: &str, folder: &Path, differing: &[Difference]) {
    println!("\n{side}: {} cases are not as conformance/expected.json says", differing.len());
    println!("  {:8} {:14} {:17} {:5} report in {}", "case", "behavior", "closing", "code", folder.display());
    for row in differing {
        let Difference { case, behavior, behavior_close, close_code, report } = row;
        let report = report.as_deref().unwrap_or("-");
        println!("  {case:8} {behavior:14} {behavior_close:17} {close_code:5} {report}");
        // What the suite saw is in the case's own report
        if let Ok(details) = json(&folder.join(report)) {
            let (wanted, received) = (&details["expected"][OK], &details["received"]);
            if details["behavior"] != OK && wanted.is_array() && wanted != received {
                println!("{:11}expected {}", "", shortened(wanted));
                println!("{:11}received {}", "", shortened(received));
            } else if let (Some(said), true) = (details["result"].as_str(), details["behavior"] != OK) {
                println!("{:11}{said}", "");
            }
            if let (Some(said), true) = (details["resultClose"].as_str(), details["behaviorClose"] != OK) {
                println!("{:11}{said}", "");
            }
        }
    }
    println!();
}

/// Enough of a list of events to recognise them: a payload may be long.
fn shortened(events: &Value) -> String {
    const WIDTH: usize = 100;
    let text = events.to_string();
    if text.chars().count() <= WIDTH { text } else { text.chars().take(WIDTH).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expected() -> Expected {
        Expected::read(&json!({
            "groups": { "2": 1, "7.1": 2, "10.1": 1 },
            "informational": { "7.1.2": "unspecified" },
        }))
        .unwrap()
    }

    fn result(behavior: &str, behavior_close: &str) -> Value {
        json!({
            "behavior": behavior, "behaviorClose": behavior_close,
            "remoteCloseCode": 1002, "reportfile": "a.json",
        })
    }

    #[test]
    fn all_as_expected() {
        let index = json!({ "longwire": {
            "2.1": result("OK", "OK"), "7.1.1": result("OK", "OK"), "10.1.1": result("OK", "OK"),
            "7.1.2": result("INFORMATIONAL", "INFORMATIONAL"),
        } });
        let verdict = expected().judge(&index);
        assert_eq!(verdict, Verdict { ok: 3, informational: 1, differing: vec![] });
        assert_eq!(verdict.summary(), "3 OK, 1 informational");
    }

    #[test]
    fn whatever_differs_is_named_in_order() {
        let index = json!({ "longwire": {
            "2.1": result("NON-STRICT", "OK"),
            "7.1.1": result("OK", "WRONG CODE"),
            "7.1.2": result("OK", "OK"),
            "9.1.1": result("OK", "OK"),
        } });
        let verdict = expected().judge(&index);
        let rows: Vec<_> =
            verdict.differing.iter().map(|row| (&*row.case, &*row.behavior, &*row.close_code)).collect();
        assert_eq!(
            rows,
            [
                ("2.1", "NON-STRICT", "1002"),
                ("7.1.1", "OK", "1002"),
                ("7.1.2", "OK", "1002"),
                ("10.1.1", "missing", "-"),
                ("9.1.1", "OK", "1002"),
            ]
        );
        assert_eq!(verdict.summary(), "0 OK, 0 informational, 5 not as expected");
    }

    #[test]
    fn another_agents_report_is_no_report() {
        let verdict = expected().judge(&json!({ "other": { "2.1": result("OK", "OK") } }));
        assert_eq!(verdict.differing.len(), 4);
    }

    #[test]
    fn an_informational_case_needs_a_reason_and_a_group() {
        let no_reason = json!({ "groups": { "2": 1 }, "informational": { "2.1": "" } });
        assert_eq!(Expected::read(&no_reason).err().unwrap(), "informational 2.1 has no reason");
        let no_group = json!({ "groups": { "2": 1 }, "informational": { "2.2": "unspecified" } });
        assert_eq!(Expected::read(&no_group).err().unwrap(), "informational 2.2 is in no group");
    }

    #[test]
    fn the_expectations_of_this_repository_are_readable() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected.json");
        let expected = Expected::read(&json(&path).unwrap()).unwrap();
        assert!(expected.cases.contains(&vec![6, 22, 34]));
        assert!(expected.informational.contains(&vec![7, 1, 6]));
    }
}
