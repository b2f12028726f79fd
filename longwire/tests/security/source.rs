//! Finds the numbers of the code: in `Debug` output, and in constants and defaults in the source text.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use Source::{Is, NotCompared};

/// The source of a number in SECURITY.md.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The number in the code, in bytes or milliseconds.
    Is(u64),
    /// The reason why the number cannot be compared.
    NotCompared(&'static str),
}

/// Parses a decimal number with at most one decimal place, and multiplies it by `scale`.
pub(crate) fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, tenths) = text.split_once('.').unwrap_or((text, "0"));
    let tenths: u64 = if tenths.len() == 1 { tenths.parse().ok()? } else { return None };
    Some(whole.parse::<u64>().ok()? * scale + tenths * scale / 10)
}

/// Returns a field from `Debug` output, such as `name: 10s` or `name: Some(16384)`.
pub(crate) fn setting(of: &impl Debug, name: &str) -> Source {
    let shown = format!("{of:?}");
    let (_, rest) = shown.split_once(&format!(" {name}: ")).unwrap_or_else(|| panic!("no {name} in {shown}"));
    let rest = rest.strip_prefix("Some(").unwrap_or(rest);
    let text = &rest[..rest.find([',', ')', ' ']).expect("an end")];
    let number = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let scale = match &text[number.len()..] {
        "" | "ms" => 1,
        "s" => 1000,
        unit => panic!("{name} has the unit {unit}"),
    };
    Is(decimal(number, scale).expect(name))
}

/// Returns the value of a constant or default in a file or folder. All definitions of this name must have the same value.
pub(crate) fn constant(place: &str, name: &str) -> Source {
    let found: BTreeSet<u64> =
        files(&root().join(place)).iter().flat_map(|(_, source)| values(source, name)).collect();
    assert_eq!(found.len(), 1, "{name} in {place} has the values {found:?}");
    Is(*found.first().expect("one"))
}

/// Returns the text between `beginning` and the next closing brace.
pub(crate) fn literal(place: &str, beginning: &str) -> String {
    let files = files(&root().join(place));
    let mut found = files.iter().filter_map(|(_, source)| source.split_once(beginning));
    let (_, rest) = found.next().unwrap_or_else(|| panic!("no `{beginning}` in {place}"));
    rest.split('}').next().unwrap_or_default().to_owned()
}

/// Returns the value of a field in a literal.
pub(crate) fn value(literal: &str, name: &str) -> Source {
    let found = values(literal, name);
    assert_eq!(found.len(), 1, "{name} in {literal}");
    Is(found[0])
}

/// Returns the values that a source assigns to `name`: `const NAME: T = VALUE;`, `name: VALUE,`.
fn values(source: &str, name: &str) -> Vec<u64> {
    let constant = format!("const {name}: ");
    let field = format!("{name}: ");
    let constants = source.split(constant.as_str()).skip(1).filter_map(|rest| rest.split_once(" = "));
    let constants = constants.filter_map(|(_, rest)| evaluate(rest.split(';').next()?));
    let is_whole = |before: &str| !before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    let fields = source.match_indices(field.as_str()).filter(|(at, _)| is_whole(&source[..*at]));
    let fields = fields
        .filter_map(|(at, _)| evaluate(source[at + field.len()..].split([',', '\n', '}']).next()?.trim()));
    constants.chain(fields).collect()
}

/// Evaluates `16 * 1024`, `64 << 20` or `Duration::from_secs(5)`, in bytes or milliseconds.
fn evaluate(text: &str) -> Option<u64> {
    let inner = |name: &str| text.strip_prefix(name)?.strip_suffix(')');
    if let Some(inner) = inner("Duration::from_secs(") {
        return Some(evaluate(inner)? * 1000);
    }
    if let Some(inner) = inner("Duration::from_millis(").or_else(|| inner("Size::new(")) {
        return evaluate(inner);
    }
    if let Some((number, bits)) = text.split_once(" << ") {
        return Some(evaluate(number)? << evaluate(bits)?);
    }
    text.split(" * ").map(|factor| factor.replace('_', "").parse::<u64>().ok()).product()
}

pub(crate) fn number(source: Source) -> u64 {
    match source {
        Is(number) => number,
        NotCompared(reason) => panic!("{reason}"),
    }
}

/// Returns the common number of two sources, which SECURITY.md states once.
pub(crate) fn both(one: Source, other: Source) -> Source {
    assert_eq!(number(one), number(other));
    one
}

/// Returns the path and text of a file, or of all Rust files in a folder.
pub(crate) fn files(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_file() {
        return vec![(path.to_owned(), fs::read_to_string(path).expect("a source"))];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.is_dir() || path.extension().is_some_and(|is| is == "rs"))
        .flat_map(|path| files(&path))
        .collect()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root of the repository").to_owned()
}
