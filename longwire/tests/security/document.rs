//! Reads SECURITY.md: its paragraphs and rows, their numbers, and the tests that they name.

use std::fs;
use std::path::Path;

use crate::source::{decimal, files, root};

/// Returns whether a test exists. It is named as `path`, `path::name`, `module::name` or `name`, relative to `folder` or to
/// the root of the repository. A `*` at the end matches anything.
pub(crate) fn names_a_test(folder: &Path, named: &str) -> bool {
    let (place, name) = match named.split_once("::") {
        Some((place, name)) => (place, name),
        None if is_path(named) => (named, "*"),
        None => ("", named),
    };
    let place = if is_path(place) || place.is_empty() { place.to_owned() } else { format!("{place}.rs") };
    let inside = root().join(folder);
    let places = if place.is_empty() { vec![inside] } else { vec![root().join(&place), inside.join(&place)] };
    let Some(path) = places.into_iter().find(|path| path.exists()) else { return false };
    let wanted =
        name.strip_suffix('*').map_or_else(|| format!("fn {name}("), |prefix| format!("fn {prefix}"));
    files(&path).iter().any(|(_, source)| source.contains(&wanted))
}

fn is_path(text: &str) -> bool {
    text.contains('/') || text.ends_with(".rs")
}

pub(crate) fn document() -> String {
    fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md")
}

/// Returns the texts that can state numbers: paragraphs, list items and rows of tables.
pub(crate) fn paragraphs(document: &str) -> impl Iterator<Item = &str> {
    document.split("\n\n").flat_map(|block| {
        let lines: Vec<&str> = match block.lines().next() {
            Some(first) if first.starts_with('|') => {
                block.lines().filter_map(|row| row.strip_prefix("| ")).collect()
            }
            Some(first) if first.starts_with("- ") => {
                block.split("\n- ").map(|item| item.trim_start_matches("- ")).collect()
            }
            _ => vec![block],
        };
        lines
    })
}

/// Returns the numbers of a text, in bytes or milliseconds. Skips code, words such as ChaCha8, references to an RFC, and the
/// columns of a row after its default.
pub(crate) fn numbers(text: &str) -> Vec<u64> {
    let text: String = text.split(" | ").take(3).collect::<Vec<_>>().join(" | ");
    let prose: String = text.split('`').step_by(2).collect();
    let words: Vec<&str> = prose.split([' ', '\n', '/', ';', '(']).filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let word = word.trim_end_matches([',', ')', '.', ':']);
        let before = at.checked_sub(1).map_or("", |before| words[before]);
        let digits = word.replace(',', "");
        if !word.starts_with(|first: char| first.is_ascii_digit()) || matches!(before, "RFC" | "HTTP") {
            continue;
        }
        let unit = words.get(at + 1).map_or("", |next| next.trim_end_matches([',', ')', '.', ':']));
        let scale = match unit {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "s" => 1000,
            "min" => 60_000,
            _ => 1,
        };
        found.push(decimal(&digits, scale).unwrap_or_else(|| panic!("{word} is not a number: {text}")));
    }
    found
}
