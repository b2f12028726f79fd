//! The tables: medians over the rounds, and ratios to the reference in the same round.

use crate::{
    load::{Memory, Outcome, Traffic, idle},
    machine,
    peer::{Contest, Peer},
    row::{Discipline, Row},
};
use serde_json::{Value, json};
use std::fmt;

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) contests: Vec<Contest>,
    pub(crate) cells: Vec<Cell>,
}

/// One measurement; without an outcome it failed.
pub(crate) struct Cell {
    pub(crate) row: Row,
    pub(crate) round: usize,
    pub(crate) peer: String,
    pub(crate) outcome: Option<Outcome>,
}

impl Report {
    /// The windows of one peer in one row, with their rounds.
    fn windows<'a>(&'a self, row: &'a Row, peer: &'a str) -> impl Iterator<Item = (usize, &'a Traffic)> {
        self.cells.iter().filter(move |cell| cell.row == *row && cell.peer == peer).filter_map(|cell| {
            match &cell.outcome {
                Some(Outcome::Traffic(traffic)) => Some((cell.round, traffic)),
                _ => None,
            }
        })
    }

    fn memory(&self, row: &Row, peer: &str) -> Option<&Memory> {
        self.cells.iter().find_map(|cell| match &cell.outcome {
            Some(Outcome::Memory(memory)) if cell.row == *row && cell.peer == peer => Some(memory),
            _ => None,
        })
    }

    fn median_of(&self, row: &Row, peer: &str, figure: impl Fn(&Traffic) -> f64) -> Option<f64> {
        median(self.windows(row, peer).map(|(_, traffic)| figure(traffic)).collect())
    }

    /// Server CPU per message against the reference in the same round: median, least, greatest.
    pub(crate) fn ratio(&self, row: &Row, peer: &str, reference: &str) -> Option<[f64; 3]> {
        let mut ratios = Vec::new();
        for (round, traffic) in self.windows(row, peer) {
            let mut references = self.windows(row, reference);
            ratios.extend(
                references.find(|(same, _)| *same == round).map(|(_, it)| traffic.cost() / it.cost()),
            );
        }
        let least = ratios.iter().copied().reduce(f64::min)?;
        let greatest = ratios.iter().copied().reduce(f64::max)?;
        Some([median(ratios)?, least, greatest])
    }

    /// A Markdown table with a column for each peer and a line for each row of traffic.
    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        contest: &Contest,
        title: &str,
        entry: impl Fn(&Row, &str) -> Option<String>,
    ) -> fmt::Result {
        let rows: Vec<_> = contest.rows.iter().filter(|row| !row.is_idle()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = contest.peers.iter().map(|peer| peer.name.as_str()).collect();
        writeln!(f, "{title}:\n\n| row | {} |\n|---|{}", names.join(" | "), "--:|".repeat(names.len()))?;
        for row in rows {
            let entries = contest
                .peers
                .iter()
                .map(|peer| entry(row, &peer.name).unwrap_or_else(|| absence(peer).to_owned()));
            writeln!(f, "| {row} | {} |", entries.collect::<Vec<_>>().join(" | "))?;
        }
        writeln!(f)
    }

    fn memory_table(&self, f: &mut fmt::Formatter<'_>, contest: &Contest) -> fmt::Result {
        for row in contest.rows.iter().filter(|row| row.is_idle()) {
            let stages = idle::stages(row.discipline());
            writeln!(f, "Resident memory of the server, bytes per connection ({row}):\n")?;
            writeln!(f, "| server | before, MB | {} |", stages.join(" | "))?;
            writeln!(f, "|---|--:|{}", "--:|".repeat(stages.len()))?;
            for peer in &contest.peers {
                write!(f, "| {} |", peer.name)?;
                match self.memory(row, &peer.name) {
                    Some(memory) => {
                        write!(f, " {:.1} |", memory.base as f64 / 1e6)?;
                        memory.per_connection.iter().try_for_each(|bytes| write!(f, " {bytes:.0} |"))?;
                    }
                    None => f.write_str(&format!(" {} |", absence(peer)).repeat(1 + stages.len()))?,
                }
                writeln!(f)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// What each server answered to permessage-deflate.
    fn agreements(&self, f: &mut fmt::Formatter<'_>, contest: &Contest) -> fmt::Result {
        if contest.discipline != Discipline::Deflate || contest.rows.iter().all(Row::is_idle) {
            return Ok(());
        }
        writeln!(f, "What is agreed:\n\n| server | Sec-WebSocket-Extensions |\n|---|---|")?;
        for peer in &contest.peers {
            let mut windows = contest.rows.iter().flat_map(|row| self.windows(row, &peer.name));
            let agreement = windows.find_map(|(_, traffic)| traffic.agreement.as_deref());
            writeln!(f, "| {} | {} |", peer.name, agreement.unwrap_or_else(|| absence(peer)))?;
        }
        writeln!(f)
    }

    /// Every sample, with the machine it was taken on.
    pub(crate) fn to_json(&self) -> Value {
        let samples = self.cells.iter().map(|cell| {
            let mut sample = json!({ "row": cell.row.to_string(), "round": cell.round, "peer": cell.peer });
            sample["result"] = match &cell.outcome {
                None => Value::Null,
                Some(Outcome::Traffic(it)) => json!({
                    "messages": it.messages,
                    "bytes": it.bytes,
                    "window_ns": it.window.as_nanos() as u64,
                    "server_cpu_ns": it.server_cpu.as_nanos() as u64,
                    "server_waited_ns": it.server_waited.as_nanos() as u64,
                    "load_idle_ns": it.load_idle.as_nanos() as u64,
                    "p50_ns": it.p50.as_nanos() as u64,
                    "p99_ns": it.p99.as_nanos() as u64,
                    "agreement": it.agreement,
                }),
                Some(Outcome::Memory(it)) => json!({
                    "base_bytes": it.base,
                    "stages": idle::stages(cell.row.discipline()),
                    "bytes_per_connection": it.per_connection,
                }),
            };
            sample
        });
        let references: Vec<_> = self.contests.iter().map(|contest| &contest.reference).collect();
        json!({
            "machine": machine::description(),
            "references": references,
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

/// Stands where a figure is missing.
const fn absence(peer: &Peer) -> &'static str {
    if peer.command.is_some() { "-" } else { "not here" }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", machine::description())?;
        self.contests.iter().try_for_each(|contest| self.tables(f, contest))
    }
}

impl Report {
    fn tables(&self, f: &mut fmt::Formatter<'_>, contest: &Contest) -> fmt::Result {
        let (message, messages, time) = match contest.discipline {
            Discipline::Plain | Discipline::Deflate => ("message", "Messages", "Round trip"),
            Discipline::Broadcast => ("delivery", "Deliveries", "From publishing to the last delivery"),
        };
        let title = format!(
            "Server CPU per {message}, ratio to {} in the same round, median (min-max)",
            contest.reference
        );
        self.table(f, contest, &title, |row, peer| {
            let [median, least, greatest] = self.ratio(row, peer, &contest.reference)?;
            Some(format!("{median:.2} ({least:.2}-{greatest:.2})"))
        })?;
        self.table(f, contest, &format!("Server CPU per {message}, ns, median"), |row, peer| {
            self.median_of(row, peer, Traffic::cost).map(|cost| format!("{cost:.0}"))
        })?;
        if contest.discipline == Discipline::Deflate {
            self.table(f, contest, "Bytes on the wire of a reply, median", |row, peer| {
                self.median_of(row, peer, Traffic::bytes_each).map(|bytes| format!("{bytes:.0}"))
            })?;
        }
        self.agreements(f, contest)?;
        self.table(f, contest, &format!("{messages} per second, median"), |row, peer| {
            self.median_of(row, peer, Traffic::per_second).map(|rate| format!("{rate:.0}"))
        })?;
        self.table(f, contest, &format!("{time}, µs, p50 / p99, medians"), |row, peer| {
            let p50 = self.median_of(row, peer, |traffic| traffic.p50.as_secs_f64() * 1e6)?;
            let p99 = self.median_of(row, peer, |traffic| traffic.p99.as_secs_f64() * 1e6)?;
            Some(format!("{p50:.0} / {p99:.0}"))
        })?;
        let title =
            "Shares of the window, %: server running + server waiting for its core / load busy, medians";
        self.table(f, contest, title, |row, peer| {
            let [running, waiting, load] =
                [0, 1, 2].map(|which| self.median_of(row, peer, |it| it.shares()[which]));
            Some(format!("{:.0} + {:.0} / {:.0}", running?, waiting?, load?))
        })?;
        self.memory_table(f, contest)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Work;
    use std::time::Duration;

    fn cell(round: usize, peer: &str, cost: u64) -> Cell {
        let window = Duration::from_secs(1);
        let server_cpu = Duration::from_nanos(10 * cost);
        let traffic = Traffic {
            messages: 10,
            bytes: 10,
            window,
            server_cpu,
            server_waited: window,
            load_idle: window,
            p50: window,
            p99: window,
            agreement: None,
        };
        Cell { row: row(), round, peer: peer.to_owned(), outcome: Some(Outcome::Traffic(traffic)) }
    }

    fn row() -> Row {
        Row { work: Work::Connect }
    }

    fn report(cells: Vec<Cell>) -> Report {
        Report { contests: Vec::new(), cells }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let report = report(vec![
            cell(1, "a", 100),
            cell(1, "b", 150),
            cell(2, "a", 1000),
            cell(2, "b", 1100),
            cell(3, "a", 10),
            cell(3, "b", 20),
        ]);
        assert_eq!(report.ratio(&row(), "b", "a"), Some([1.5, 1.1, 2.0]));
        assert_eq!(report.ratio(&row(), "a", "a"), Some([1.0, 1.0, 1.0]));
    }

    #[test]
    fn a_round_without_its_reference_does_not_count() {
        let mut failed = cell(1, "a", 100);
        failed.outcome = None;
        let report = report(vec![failed, cell(1, "b", 150), cell(2, "a", 100), cell(2, "b", 300)]);
        assert_eq!(report.ratio(&row(), "b", "a"), Some([3.0, 3.0, 3.0]));
        assert_eq!(report.ratio(&row(), "c", "a"), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
