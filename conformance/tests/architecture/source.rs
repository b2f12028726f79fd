//! The modules of a crate and what each of them imports, read from the source text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules of a crate by their paths, without the root and without tests.
pub(crate) struct Crate {
    sources: BTreeMap<String, String>,
    /// The re-exports of each folder and of the root: name to path.
    exports: BTreeMap<(String, String), Vec<String>>,
}

impl Crate {
    pub(crate) fn read(src: &Path) -> Self {
        let mut sources = BTreeMap::new();
        collect(src, "", &mut sources);
        Self::of(sources)
    }

    pub(crate) fn of(sources: BTreeMap<String, String>) -> Self {
        let sources: BTreeMap<_, _> =
            sources.into_iter().map(|(module, text)| (module, without_comments_and_tests(&text))).collect();
        let mut exports = BTreeMap::new();
        for (module, text) in &sources {
            for statement in statements(text).filter(|statement| is_export(statement)) {
                for path in expand(use_tree(statement)) {
                    let (path, name) = named(path);
                    // Names for a browser come second, and stand for others.
                    exports.entry((module.clone(), name)).or_insert_with(|| absolute(module, &path));
                }
            }
        }
        Self { sources, exports }
    }

    /// All but the root, `lib` or `main`.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &String> {
        self.sources.keys().filter(|module| !module.is_empty())
    }

    /// For each file the files that it imports.
    pub(crate) fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut imports = BTreeMap::new();
        for module in self.modules() {
            let mut used = BTreeSet::new();
            let text: String = statements(&self.sources[module])
                .filter(|statement| !is_export(statement))
                .flat_map(|statement| [statement, ";"])
                .collect();
            for path in paths(&text) {
                used.extend(self.resolve(&absolute(module, &path), 0));
            }
            used.remove(module);
            imports.insert(module.clone(), used);
        }
        imports
    }

    /// The file that an absolute path leads to, through re-exports.
    fn resolve(&self, path: &[String], depth: usize) -> Option<String> {
        let known = (0..=path.len()).rev().find(|end| self.sources.contains_key(&path[..*end].join("::")))?;
        let module = path[..known].join("::");
        if let Some(name) = path.get(known)
            && let Some(target) = self.exports.get(&(module.clone(), name.clone()))
            && depth < 8
        {
            return self.resolve(&[target, &path[known + 1..]].concat(), depth + 1);
        }
        (!module.is_empty()).then_some(module)
    }
}

/// Files that import each other in a ring: the strongly connected components of more than one.
pub(crate) fn rings(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reach = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for used in imports.get(file).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    next.push(used);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = imports.keys().map(|file| (file, reach(file))).collect();
    let mut rings = BTreeSet::new();
    for (file, below) in &reached {
        if below.contains(*file) {
            let ring =
                below.iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(*file)));
            rings.insert(ring.cloned().collect::<BTreeSet<_>>());
        }
    }
    rings.into_iter().collect()
}

fn collect(folder: &Path, path: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let file = entry.expect("the entry can be read").path();
        let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("names are UTF-8").to_owned();
        let own = if path.is_empty() { stem.clone() } else { format!("{path}::{stem}") };
        if file.is_dir() {
            collect(&file, &own, sources);
        } else if file.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            let module = if matches!(stem.as_str(), "mod" | "lib" | "main") { path.to_owned() } else { own };
            let text = fs::read_to_string(&file).expect("the file can be read");
            // A crate with a library and a binary has two roots.
            sources.entry(module).or_default().push_str(&text);
        }
    }
}

/// Comments and strings name what they do not use, and tests may use everything.
fn without_comments_and_tests(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.map(|line| line.split(" // ").next().unwrap_or_default());
    let code = code.map(|line| line.split('"').step_by(2).collect::<Vec<_>>().join("\"\""));
    code.collect::<Vec<_>>().join("\n")
}

fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(';')
}

/// `pub use` or `pub(crate) use`: it hands on, and imports nothing.
fn is_export(statement: &str) -> bool {
    let words =
        statement.lines().filter(|line| !line.trim_start().starts_with("#[")).flat_map(str::split_whitespace);
    let words: Vec<_> = words.take(2).collect();
    matches!(*words, [public, "use"] if public.starts_with("pub"))
}

fn use_tree(statement: &str) -> &str {
    statement.split_once("use ").map_or("", |(_, tree)| tree)
}

/// All paths in code that begin at the crate, at the parent or here.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            // A part of a longer path is found with its beginning.
            let before = code[..at].chars().next_back();
            if before.is_none_or(|before| {
                !before.is_alphanumeric() && before != '_' && before != ':' && before != '$'
            }) {
                found.extend(expand(&code[at..]));
            }
        }
    }
    found
}

/// The paths that `a::{b, c::d}` stands for, up to the first thing that belongs to no path.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim_start();
    let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    if let Some(group) = rest.strip_prefix("::").map(str::trim_start).and_then(|rest| rest.strip_prefix('{'))
    {
        let inner = group_of(group).into_iter().flat_map(expand);
        return inner.map(|path| [vec![name.to_owned()], path].concat()).collect();
    }
    match rest.strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
            expand(rest).into_iter().map(|path| [vec![name.to_owned()], path].concat()).collect()
        }
        // `use a as b` is known as b.
        _ => match rest.trim_start().strip_prefix("as ") {
            Some(alias) if !name.is_empty() => {
                let alias: String =
                    alias.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                vec![vec![name.to_owned(), format!("as {alias}")]]
            }
            _ => vec![vec![name.to_owned()]],
        },
    }
}

/// The elements of a group up to its closing brace.
fn group_of(text: &str) -> Vec<&str> {
    let (mut elements, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                elements.push(&text[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                elements.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    elements.retain(|element| !element.trim().is_empty());
    elements
}

/// A path and the name under which it is known.
fn named(mut path: Vec<String>) -> (Vec<String>, String) {
    if let Some(alias) = path.last().and_then(|last| last.strip_prefix("as ")).map(str::to_owned) {
        path.pop();
        return (path, alias);
    }
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = path.last().cloned().unwrap_or_default();
    (path, name)
}

/// A path as seen from the root of the crate.
fn absolute(module: &str, path: &[String]) -> Vec<String> {
    let mut base: Vec<String> =
        module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let mut rest = path.iter().filter(|part| !part.starts_with("as ")).peekable();
    match rest.peek().map(|first| first.as_str()) {
        Some("crate") => {
            base.clear();
            rest.next();
        }
        Some("self") => {
            rest.next();
        }
        _ => {}
    }
    while rest.next_if(|part| *part == "super").is_some() {
        base.pop();
    }
    base.extend(rest.filter(|part| *part != "self").cloned());
    base
}
