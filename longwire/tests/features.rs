//! Every feature of Cargo.toml is explained to readers of docs.rs and of crates.io.

const MANIFEST: &str = include_str!("../Cargo.toml");
const CRATE_DOCS: &str = include_str!("../src/lib.rs");
const README: &str = include_str!("../README.md");

#[test]
fn each_feature_is_in_the_docs_and_in_the_readme() {
    let (_, features) = MANIFEST.split_once("\n[features]\n").unwrap();
    let (features, _) = features.split_once("\n[").unwrap();
    let mut lines = features.lines();
    let defaults = lines.next().unwrap().strip_prefix("default = ").unwrap();
    let names: Vec<_> = lines.filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        let is_default = defaults.contains(&format!("\"{name}\""));
        let in_docs = format!("//! - `{name}`{}: ", if is_default { " (default)" } else { "" });
        assert!(CRATE_DOCS.contains(&in_docs), "src/lib.rs has no line {in_docs:?}");
        let in_readme = format!("| `{name}` | {}| ", if is_default { "yes " } else { "" });
        assert!(README.contains(&in_readme), "README.md has no line {in_readme:?}");
    }
}
