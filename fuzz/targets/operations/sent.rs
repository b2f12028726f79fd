//! What was asked to be sent, and what of it may, must and must not be on the wire.

use longwire::{Error, Kind};

/// How one request to send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is on the wire.
    Written,
    /// It will be on the wire, unless the connection breaks.
    Queued,
    /// The future was dropped, or the connection broke.
    Open,
    /// It was refused, or never begun.
    Not,
}

impl Fate {
    /// From the result of the future, `None` when it was dropped after so many polls.
    pub(crate) fn of(result: Option<&Result<(), Error>>, polls: usize, if_ok: Self) -> Self {
        match result {
            Some(Ok(())) => if_ok,
            Some(Err(Error::Send(_))) => Self::Not,
            Some(Err(_)) => Self::Open,
            None if polls == 0 => Self::Not,
            None => Self::Open,
        }
    }

    fn may_be_absent(self, torn: bool) -> bool {
        match self {
            Self::Written => false,
            Self::Queued => torn,
            Self::Open | Self::Not => true,
        }
    }
}

/// The place of a payload in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Whole,
    Part,
    LastPart,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    pub(crate) size: usize,
    pub(crate) fate: Fate,
}

/// Everything that was asked to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) data: Vec<Request>,
    pub(crate) pings: Vec<Fate>,
}

/// The payload of the request with this number; no two are equal.
pub(crate) fn payload(number: usize, size: usize) -> String {
    format!("<{number}>{}", "发".repeat(size / 3))
}

/// The number that a payload begins with, if it is there.
fn number_of(payload: &[u8]) -> Option<usize> {
    let end = payload.iter().position(|byte| *byte == b'>')?;
    std::str::from_utf8(&payload[1..end]).ok()?.parse().ok()
}

impl Requests {
    /// `messages` are on the wire, and then the beginning of one. `torn`: it may be cut anywhere.
    pub(crate) fn check(&self, messages: &[(Kind, &[u8])], partial: &[u8], torn: bool) {
        let mut next = 0;
        for (kind, message) in messages {
            let mut rest = *message;
            let mut first = true;
            loop {
                let number = number_of(rest).expect("a number");
                let request = &self.data[number];
                let payload = payload(number, request.size);
                rest = rest.strip_prefix(payload.as_bytes()).expect("the whole payload");
                self.passed(&mut next, number, torn);
                assert_eq!(request.kind, *kind);
                let place = match (first, rest.is_empty()) {
                    (true, true) if request.place == Place::Whole => Place::Whole,
                    (_, true) => Place::LastPart,
                    (_, false) => Place::Part,
                };
                assert_eq!(request.place, place, "{request:?}");
                first = false;
                if rest.is_empty() {
                    break;
                }
            }
        }
        let mut rest = partial;
        while let Some(number) = number_of(rest) {
            let payload = payload(number, self.data[number].size);
            let Some(behind) = rest.strip_prefix(payload.as_bytes()) else {
                assert!(torn && payload.as_bytes().starts_with(rest), "a part of a payload");
                break;
            };
            self.passed(&mut next, number, torn);
            assert!(torn || self.data[number].place == Place::Part);
            rest = behind;
        }
        assert!(rest.is_empty() || torn, "nothing but payloads");
        self.passed(&mut next, self.data.len(), torn);
    }

    /// The next one on the wire has this number: those between are not.
    fn passed(&self, next: &mut usize, number: usize, torn: bool) {
        assert!(number >= *next, "{number} comes once and in its turn, not after {next}");
        for absent in &self.data[*next..number] {
            assert!(absent.fate.may_be_absent(torn), "lost: {absent:?}");
        }
        if let Some(request) = self.data.get(number) {
            assert_ne!(request.fate, Fate::Not, "{request:?}");
        }
        *next = number + 1;
    }

    /// These Pings are on the wire; those of keepalive are empty.
    pub(crate) fn check_pings(&self, payloads: &[&[u8]], torn: bool) {
        let mut next = 0;
        for payload in payloads.iter().filter(|payload| !payload.is_empty()) {
            let number = number_of(payload).expect("a number");
            assert!(number >= next, "Pings keep their order");
            assert!(self.pings[next..number].iter().all(|fate| fate.may_be_absent(torn)), "a Ping was lost");
            assert_ne!(self.pings[number], Fate::Not);
            next = number + 1;
        }
        assert!(self.pings[next..].iter().all(|fate| fate.may_be_absent(torn)), "a Ping was lost");
    }
}
