//! The layers that ARCHITECTURE.md states: one block for each crate, one line for each layer, from the bottom up.
//!
//! A line holds names, then two spaces, then what they are. A name that ends in `/` is a folder, and the lines
//! indented below it are its files. Names on one line may use each other, and a line that begins with `&` belongs to the
//! one before it; otherwise a line uses lines above it.
//! A folder stands above the files in it, unless a line `mod` among them places it elsewhere.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// Each module's line, for each level of its path: `engine::conn` has the line of `engine`, then its own.
    lines: BTreeMap<String, Vec<usize>>,
}

impl Layers {
    /// The block that begins with `title`, if there is one.
    pub(crate) fn stated(text: &str, title: &str) -> Option<Self> {
        let mut lines = text.lines();
        lines.find(|line| {
            line.strip_prefix(title).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        })?;
        let mut layers = Self::default();
        // The folders that the current line is in: indentation, path, and its lines.
        let mut within: Vec<(usize, String, Vec<usize>)> = Vec::new();
        // The last line at each indentation.
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, line) in lines.take_while(|line| !line.starts_with("```")).enumerate() {
            let names = line.trim_start();
            let indent = line.len() - names.len();
            // A description that goes on is indented deeper than any name.
            if names.is_empty() || indent > 16 {
                continue;
            }
            within.retain(|(outer, ..)| *outer < indent);
            let (path, outer) =
                within.last().map_or_else(Default::default, |(_, path, at)| (path.clone(), at.clone()));
            let names = names.split("  ").next().unwrap_or_default();
            let joined = names.strip_prefix("& ");
            let at = joined.and_then(|_| last.get(&indent).copied()).unwrap_or(at);
            last.insert(indent, at);
            let names = joined.unwrap_or(names);
            let position = [&outer[..], &[at]].concat();
            for name in names.split(' ') {
                let folder = name.strip_suffix('/');
                let own = folder.unwrap_or(name);
                let full = match (path.as_str(), own) {
                    ("", own) => own.to_owned(),
                    // The folder's own file, placed among those in it.
                    (path, "mod") => path.to_owned(),
                    (path, own) => format!("{path}::{own}"),
                };
                let mut position = position.clone();
                if folder.is_some() {
                    within.push((indent, full.clone(), position.clone()));
                    position.push(usize::MAX);
                }
                layers.lines.insert(full, position);
            }
        }
        Some(layers)
    }

    pub(crate) fn modules(&self) -> BTreeSet<String> {
        self.lines.keys().cloned().collect()
    }

    /// Whether the layers allow it. A file that is not named is another test's affair.
    pub(crate) fn may_use(&self, user: &str, used: &str) -> bool {
        let (Some(user), Some(used)) = (self.lines.get(user), self.lines.get(used)) else { return true };
        let first = user.iter().zip(used).find(|(user, used)| user != used);
        first.is_none_or(|(user, used)| user > used)
    }

    /// Whether a ring of files is stated: all of them stand on one line, or in folders of one line.
    pub(crate) fn state_ring<'a>(&self, ring: impl IntoIterator<Item = &'a String>) -> bool {
        let lines: Vec<_> = ring.into_iter().filter_map(|file| self.lines.get(file)).collect();
        let depth = lines.iter().map(|line| line.len()).min().unwrap_or_default();
        lines.windows(2).all(|pair| pair[0][..depth] == pair[1][..depth])
    }
}
