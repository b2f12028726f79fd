//! RFC 6455 in tables, one file for each section: what comes in, what is found, what goes out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/frames.rs"]
mod frames;
#[path = "../support/pair.rs"]
mod pair;
#[path = "../support/receiver.rs"]
mod receiver;
#[path = "../support/row.rs"]
mod row;

mod closing;
mod control;
mod data;
mod deadlines;
mod fragmentation;
mod framing;
mod limits;
mod masking;
mod outbox;
mod parts;

use std::collections::BTreeSet;

use row::Row;

/// Every variant of `ProtocolError`.
const VARIANTS: &[&str] = &[
    "ReservedBits",
    "ReservedOpcode",
    "LengthNotMinimal",
    "LengthTooLarge",
    "NotMasked",
    "Masked",
    "ControlFragmented",
    "ControlTooLong",
    "UnexpectedContinuation",
    "ExpectedContinuation",
    "InvalidUtf8",
    "InvalidDeflate",
    "CloseTooShort",
    "InvalidCloseCode",
    "MessageTooBig",
    "TooManyFragments",
    "TooManyControlFrames",
];

fn rows() -> Vec<Row> {
    [
        framing::rows(),
        masking::rows(),
        fragmentation::rows(),
        control::rows(),
        data::rows(),
        closing::rows(),
        limits::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_variant_of_protocol_error_is_caused_by_some_row() {
    let mut caused: BTreeSet<String> = rows().iter().filter_map(Row::variant).collect();
    // By the rows of RFC 7692.
    caused.insert("InvalidDeflate".into());
    let named: BTreeSet<String> = VARIANTS.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(caused, named);
}

/// The list above is complete: it is as long as the enumeration in the source.
#[test]
fn every_variant_of_protocol_error_is_named() {
    let source = include_str!("../../src/error.rs");
    let body =
        source.split("pub enum ProtocolError {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
    let variants: Vec<&str> = body
        .lines()
        .filter(|line| line.starts_with("    ") && line[4..].starts_with(char::is_uppercase))
        .map(|line| line.trim().trim_end_matches([',', '{', ' ']).split('(').next().unwrap())
        .collect();
    assert_eq!(variants, VARIANTS);
}
