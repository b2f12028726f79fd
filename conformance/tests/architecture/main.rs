//! ARCHITECTURE.md is true: it names every source file of what is shipped, and no file imports one that stands
//! above it in the layers that it states.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod layers;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use layers::Layers;
use source::Crate;

/// The published crates. Each has its layers in ARCHITECTURE.md.
const CRATES: [&str; 3] = ["longwire-proto", "longwire", "longwire-server"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace holds this crate")
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md can be read")
}

fn layers(name: &str) -> Layers {
    Layers::stated(&architecture(), &format!("{name}/src"))
        .unwrap_or_else(|| panic!("ARCHITECTURE.md has no block of layers that begins with {name}/src"))
}

#[test]
fn every_source_file_is_named() {
    for name in CRATES {
        let files: BTreeSet<_> = Crate::read(&root().join(name).join("src")).modules().cloned().collect();
        let named = layers(name).modules();
        let unnamed: Vec<_> = files.difference(&named).collect();
        let gone: Vec<_> = named.difference(&files).collect();
        assert!(unnamed.is_empty(), "{name}: ARCHITECTURE.md does not name {unnamed:?}");
        assert!(gone.is_empty(), "{name}: ARCHITECTURE.md names files that do not exist: {gone:?}");
    }
}

#[test]
fn no_import_points_upwards() {
    let mut wrong = Vec::new();
    for name in CRATES {
        let stated = layers(name);
        for (file, imports) in Crate::read(&root().join(name).join("src")).imports() {
            for import in imports.iter().filter(|import| !stated.may_use(&file, import)) {
                wrong.push(format!("{name}: {file} uses {import}, which stands above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} imports break the layers:\n{}", wrong.len(), wrong.join("\n"));
}

/// Files that import each other in a ring are listed on one line, so that the layers hide none. This prints them:
/// `cargo test -p longwire-conformance --test architecture -- --nocapture rings`.
#[test]
fn rings_are_stated() {
    for name in CRATES {
        let imports = Crate::read(&root().join(name).join("src")).imports();
        let stated = layers(name);
        for ring in source::rings(&imports) {
            let names = ring.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            println!("{name}: {names}");
            assert!(stated.state_ring(&ring), "{name}: these import each other in a ring: {names}");
        }
    }
}

/// The rules themselves, on a crate that breaks each of them once.
#[test]
fn what_breaks_the_rules_is_found() {
    let text = "```text\ndemo/src, from the bottom up\n    a               the first\n    \
                b/              two that use each other\n        d\n        e\n    & c\n    f\n```\n";
    let layers = Layers::stated(text, "demo/src").expect("the block is there");
    assert_eq!(layers.modules(), ["a", "b", "b::d", "b::e", "c", "f"].map(String::from).into());
    for (user, used, may) in [
        ("f", "a", true),
        ("a", "f", false),
        ("b::e", "b::d", true),
        ("b::d", "b::e", false),
        ("b::d", "a", true),
        ("b::d", "c", true),
        ("c", "b::e", true),
        ("a", "b::d", false),
        ("b", "b::e", true),
        ("b::e", "b", false),
    ] {
        assert_eq!(layers.may_use(user, used), may, "{user} uses {used}");
    }

    let sources = BTreeMap::from([
        ("a".to_owned(), "use crate::{b::d::{self, Thing}, f};\n// use crate::c;\n".to_owned()),
        ("b".to_owned(), "pub use d::Thing;\nuse self::e::Other;".to_owned()),
        ("b::d".to_owned(), "fn x() { crate::c::run() }".to_owned()),
        ("b::e".to_owned(), "use super::Thing;\n#[cfg(test)]\nmod tests { use crate::f; }".to_owned()),
        ("c".to_owned(), "const X: &str = \"crate::a\";".to_owned()),
        ("f".to_owned(), "use crate::b::Thing;".to_owned()),
    ]);
    let imports = Crate::of(sources).imports();
    let of = |file: &str| imports[file].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("a"), ["b::d", "f"]);
    // A re-export is no import: it hands on what its folder holds.
    assert_eq!(of("b"), ["b::e"]);
    assert_eq!(of("b::d"), ["c"]);
    assert_eq!(of("b::e"), ["b::d"]);
    assert_eq!(of("c"), Vec::<&str>::new());
    assert_eq!(of("f"), ["b::d"]);
    let ring = BTreeMap::from([
        ("x".to_owned(), BTreeSet::from(["y".to_owned()])),
        ("y".to_owned(), BTreeSet::from(["z".to_owned()])),
        ("z".to_owned(), BTreeSet::from(["x".to_owned()])),
        ("w".to_owned(), BTreeSet::from(["x".to_owned()])),
    ]);
    assert_eq!(source::rings(&ring), [BTreeSet::from(["x", "y", "z"].map(String::from))]);
}
