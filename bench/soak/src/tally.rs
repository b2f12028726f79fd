//! What has happened to the clients.

use crate::{client::Failure, lives::Life};
use std::{collections::BTreeMap, time::Duration};

/// Failures that are told in full.
const TOLD: usize = 30;

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) lives: BTreeMap<Life, Lived>,
    /// Messages that came back as they were sent.
    pub(crate) echoes: u64,
    pub(crate) echoed_bytes: u64,
    /// Published messages that were received, and were those to be received.
    pub(crate) deliveries: u64,
    pub(crate) failures: u64,
    /// By how much the clients were behind their own clock, at most.
    pub(crate) late: Duration,
    /// The first of them.
    pub(crate) told: Vec<String>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Lived {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

impl Tally {
    pub(crate) fn begin(&mut self, life: Life) {
        self.lives.entry(life).or_default().begun += 1;
    }

    /// Whatever ends a client that nothing was to end is a failure.
    pub(crate) fn end(&mut self, life: Life, lived: Result<(), Failure>) {
        self.lives.entry(life).or_default().ended += 1;
        if let Err(failure) = lived {
            self.fail(format!("{life:?}: {failure}"));
        }
    }

    pub(crate) fn fail(&mut self, failure: String) {
        self.failures += 1;
        if self.told.len() < TOLD {
            eprintln!("FAILURE {failure}");
            self.told.push(failure);
        }
    }

    pub(crate) fn echo(&mut self, bytes: usize) {
        self.echoes += 1;
        self.echoed_bytes += bytes as u64;
    }

    pub(crate) fn begun(&self) -> u64 {
        self.lives.values().map(|lived| lived.begun).sum()
    }
}
