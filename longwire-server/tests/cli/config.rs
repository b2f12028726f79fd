//! `longwire config`: effective settings, errors with their location, and API keys.

use std::process::Command;

use serde_json::Value;

use crate::process::{longwire, run};

fn written(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("longwire.toml");
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("text").to_owned();
    (folder, path)
}

/// Returns exit status, standard output and standard error.
fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_example_and_its_output_are_valid() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/longwire.toml");
    let (status, shown, stderr) = run(&["config", "check", example]);
    assert_eq!((status, stderr), (Some(0), vec![]));
    assert!(shown.contains("max_message = \"1M\"  # ") && shown.contains("docs/longwire.toml:"), "{shown}");
    let (_folder, path) = written(&shown);
    let (status, again, stderr) = run(&["config", "check", &path]);
    assert_eq!((status, stderr), (Some(0), vec![]));
    let values = |text: &str| {
        text.lines().map(|line| line.split("  # ").next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(values(&shown), values(&again));
}

#[test]
fn errors_show_their_location() {
    let (_folder, path) = written("listen = \"0.0.0.0:80\"\n[limits.adress]\nconnections = 5\n");
    let (status, stdout, stderr) = run(&["config", "check", &path]);
    assert_eq!((status, &*stdout), (Some(1), ""));
    let expected = [
        &format!(
            "longwire: {path}:2:9: unknown key `adress`; did you mean `address`? Valid keys: connection, address, user"
        ),
        "  |",
        "2 | [limits.adress]",
        "  |         ^^^^^^",
    ];
    assert_eq!(stderr, expected);
    let (status, _, stderr) = run(&["config", "check", "/nowhere/at/all.toml"]);
    assert_eq!(status, Some(1));
    assert!(stderr[0].starts_with("longwire: /nowhere/at/all.toml: cannot read the file: "), "{stderr:?}");
}

#[test]
fn the_environment_overrides_the_file_and_secrets_are_masked() {
    let (_folder, path) = written("max_message = \"2M\"\ndrain = 5\n");
    let (status, stdout, stderr) = output(
        longwire()
            .args(["config", "check", "--json", &path])
            .env("LONGWIRE_MAX_MESSAGE", "4M")
            .env("LONGWIRE_LISTEN", "0.0.0.0:0")
            .env("LONGWIRE_ACCESS_TOKEN_SECRET", "a secret that is long enough for it"),
    );
    assert_eq!((status, &*stderr), (Some(0), ""));
    let shown: Value = serde_json::from_str(&stdout).expect("JSON");
    let setting = |key: &str| {
        let found =
            shown["settings"].as_array().expect("a list").iter().find(|setting| setting["key"] == key);
        let found = found.expect("there");
        (found["value"].as_str().expect("text").to_owned(), found["from"].as_str().expect("text").to_owned())
    };
    assert_eq!(setting("max_message"), ("4M".into(), "LONGWIRE_MAX_MESSAGE".into()));
    assert_eq!(setting("drain"), ("5s".into(), format!("{path}:2")));
    assert_eq!(setting("access.token.secret"), ("***".into(), "LONGWIRE_ACCESS_TOKEN_SECRET".into()));
    assert!(!stdout.contains("long enough"));

    let (status, _, stderr) = output(longwire().args(["config", "check"]).env("LONGWIRE_MAX_MESSAGE", "4X"));
    assert_eq!(status, Some(1));
    assert_eq!(
        stderr,
        "longwire: LONGWIRE_MAX_MESSAGE: invalid size; write a number of bytes, such as 65536, 64K, 16M or 1G\n"
    );
    let (status, _, stderr) =
        output(longwire().args(["config", "check"]).env("LONGWIRE_LISTEN", "0.0.0.0:80"));
    assert_eq!(status, Some(1));
    let expected =
        "longwire: LONGWIRE_LISTEN: without access rules, anyone who can reach 0.0.0.0:80 may do anything";
    assert!(stderr.starts_with(expected), "{stderr}");
}

#[test]
fn a_generated_key_can_be_used() {
    let (status, section, stderr) =
        run(&["config", "key", "海 \"backend\"", "--publish", "a.>", "--publish", "b"]);
    assert_eq!(status, Some(0));
    let key = stderr[0].rsplit_once(": ").expect("a key").1;
    assert!(key.starts_with("lwk_") && key.len() == 47, "{key}");
    assert!(!section.contains(key));
    let (_folder, path) = written(&section);
    let (status, shown, stderr) = run(&["config", "check", &path]);
    assert_eq!((status, stderr), (Some(0), vec![]));
    assert!(shown.contains("publish = [\"a.>\", \"b\"]  # "), "{shown}");
    let (status, _, stderr) = run(&["config", "key", "backend", "--publish", "a*"]);
    assert_eq!(status, Some(2));
    assert!(stderr[0].contains("* and > must be whole segments"), "{stderr:?}");
}
