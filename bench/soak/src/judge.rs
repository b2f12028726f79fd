//! What was seen of the server from outside, and whether that is good.

use serde_json::{Value, json};
use std::fmt;

/// By so much more may be allocated in the end than before the first client: the pools of the threads.
const ALLOCATED: u64 = 12 << 20;

/// By so much more may be resident: those, and what the allocator keeps, which is in pieces by then.
const RESIDENT: u64 = 16 << 20;
const RESIDENT_EACH: u64 = 32 << 10;

/// By so much may memory grow from the third quarter of the run to the fourth, in per cent, and in bytes besides.
const GROWTH_PERCENT: u64 = 15;
const GROWTH: u64 = 4 << 20;

/// The server at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) second: u64,
    /// WebSockets that are open.
    pub(crate) open: u64,
    pub(crate) descriptors: usize,
    /// Bytes that it has allocated and not freed.
    pub(crate) allocated: u64,
    /// Bytes that it has of the machine's memory.
    pub(crate) resident: u64,
}

/// A server before, during and after the run.
pub(crate) struct Seen {
    pub(crate) start: Sample,
    /// At equal distances.
    pub(crate) during: Vec<Sample>,
    pub(crate) end: Sample,
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { second, open, descriptors, allocated, resident } = self;
        let (allocated, resident) = (mebibytes(*allocated), mebibytes(*resident));
        write!(f, "{second:>4} s: {open:>5} open, {descriptors:>5} descriptors, ")?;
        write!(f, "{allocated:>6.1} MiB allocated, {resident:>6.1} MiB resident")
    }
}

impl Sample {
    fn to_json(self) -> Value {
        let Self { second, open, descriptors, allocated, resident } = self;
        json!({
            "second": second,
            "open": open,
            "descriptors": descriptors,
            "allocated": allocated,
            "resident": resident,
        })
    }
}

impl Seen {
    /// The medians of the third quarter and of the fourth.
    fn quarters(&self, figure: impl Fn(&Sample) -> u64) -> (u64, u64) {
        let median = |samples: &[Sample]| {
            let mut figures: Vec<_> = samples.iter().map(&figure).collect();
            figures.sort_unstable();
            figures.get(figures.len() / 2).copied().unwrap_or(0)
        };
        let half = &self.during[self.during.len() / 2..];
        let (third, fourth) = half.split_at(half.len() / 2);
        (median(third), median(fourth))
    }

    fn most(&self, figure: impl Fn(&Sample) -> u64) -> u64 {
        self.during.iter().map(figure).max().unwrap_or(0)
    }

    /// What is wrong with it, after so many clients.
    pub(crate) fn complaints(&self, clients: u64) -> Vec<String> {
        let Self { start, end, .. } = self;
        let mut complaints = Vec::new();
        if end.open != 0 {
            complaints.push(format!("{} connections are left", end.open));
        }
        if end.descriptors != start.descriptors {
            complaints
                .push(format!("{} descriptors at first, {} at last", start.descriptors, end.descriptors));
        }
        let resident = RESIDENT + clients * RESIDENT_EACH;
        for (what, [first, last], most) in [
            ("allocated", [start.allocated, end.allocated], ALLOCATED),
            ("resident", [start.resident, end.resident], resident),
        ] {
            if last > first + most {
                let [first, last, most] = [first, last, most].map(mebibytes);
                complaints
                    .push(format!("{first:.1} MiB {what} at first, {last:.1} at last: over {most:.1} more"));
            }
        }
        for (what, (third, fourth)) in [
            ("allocated", self.quarters(|sample| sample.allocated)),
            ("resident", self.quarters(|sample| sample.resident)),
        ] {
            if fourth > third + third * GROWTH_PERCENT / 100 + GROWTH {
                let [third, fourth] = [third, fourth].map(mebibytes);
                complaints.push(format!(
                    "memory grows: {third:.1} MiB {what} in the third quarter, {fourth:.1} in the fourth"
                ));
            }
        }
        complaints
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "start": self.start.to_json(),
            "during": self.during.iter().map(|sample| sample.to_json()).collect::<Vec<_>>(),
            "end": self.end.to_json(),
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, .. } = self;
        writeln!(f, "open: {} at most", self.most(|sample| sample.open))?;
        writeln!(f, "descriptors: {} at first, {} at last", start.descriptors, end.descriptors)?;
        for (what, figure) in [
            ("allocated", (|sample| sample.allocated) as fn(&Sample) -> u64),
            ("resident", |sample| sample.resident),
        ] {
            let (third, fourth) = self.quarters(figure);
            let figures = [figure(start), third, fourth, self.most(figure), figure(end)].map(mebibytes);
            let [first, third, fourth, most, last] = figures;
            write!(
                f,
                "{what}, MiB: {first:.1} at first, {third:.1} in the third quarter, {fourth:.1} in the "
            )?;
            writeln!(f, "fourth, {most:.1} at most, {last:.1} at last")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(mebibytes: u64) -> Sample {
        let bytes = mebibytes << 20;
        Sample { second: 0, open: 0, descriptors: 10, allocated: bytes, resident: bytes }
    }

    fn seen(last: [u64; 2], end: Sample) -> Seen {
        let during = [10, 50, last[0], last[1]].into_iter().flat_map(|figure| [sample(figure); 9]);
        Seen { start: sample(10), during: during.collect(), end }
    }

    #[test]
    fn a_run_that_ends_as_it_began_is_good() {
        assert!(seen([100, 119], sample(22)).complaints(0).is_empty());
        assert!(Seen { start: sample(10), during: Vec::new(), end: sample(10) }.complaints(0).is_empty());
    }

    #[test]
    fn whatever_is_left_is_told() {
        let told = |last, end, clients| seen(last, end).complaints(clients).len();
        assert_eq!(told([100, 100], sample(27), 0), 2);
        assert_eq!(told([100, 100], sample(27), 64), 1);
        assert_eq!(told([100, 120], sample(10), 0), 2);
        assert_eq!(told([100, 100], Sample { open: 1, descriptors: 11, ..sample(10) }, 0), 2);
    }
}
