//! Accepting connections, and freeing them.

use std::collections::HashMap;

use rustix::process::{Resource, Rlimit};

use crate::host::{Host, House, wait_for};
use crate::raw::{Raw, request};
use crate::support::frames::text;

#[test]
fn they_are_spread_over_the_threads() {
    for threads in [2, 4] {
        let house = House::with(Host::new(), |engine| engine.threads(threads));
        let mut raws = Vec::new();
        for number in 0..200 {
            raws.push(Raw::open(house.address(), &format!("/{number}")));
        }
        let mut loops: HashMap<String, usize> = HashMap::new();
        for number in 0..200 {
            let id = house.log.opened(&format!("/{number}")).to_string();
            *loops.entry(id.split('-').next().unwrap().to_owned()).or_default() += 1;
        }
        let (fewest, most) = (loops.values().min().unwrap(), loops.values().max().unwrap());
        assert_eq!(loops.len(), threads, "{loops:?}");
        // Each loop compares the numbers of connections before it keeps one.
        assert!(*most <= fewest + 3 + fewest / 32, "{loops:?}");
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs in a process of its own, where no other test opens files.
#[test]
#[ignore = "run by the test that counts descriptors"]
fn descriptors_are_given_back() {
    let house = House::with(Host::echo(), |engine| engine.threads(2).http(async |_, _| {}));
    let address = house.address();
    // After it all threads have opened what they keep.
    let raws: Vec<_> = (0..4).map(|_| Raw::open(address, "/")).collect();
    raws.into_iter().for_each(Raw::close);
    house.counters(|counters| counters.closed == 4);
    let before = descriptors();
    for number in 0..1000 {
        let path = format!("/{number}");
        match number % 10 {
            0 => drop(Raw::connect(address)),
            1 => Raw::connect(address).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            2 => Raw::connect(address).send(request(&path, "Origin: https://evil.example\r\n")),
            3 => Raw::connect(address).send("GET / HT"),
            4 => Raw::open(address, &path).reset(),
            5 => Raw::connect(address).reset(),
            6 => Raw::open(address, &path).send(text(false, "not masked")),
            7 => drop(Raw::open(address, &path)),
            8 => Raw::open(address, &path).send(&text(true, "half")[..5]),
            _ => Raw::open(address, &path).close(),
        }
    }
    wait_for(
        || (descriptors() <= before && house.handle().counters().open == 0).then_some(()),
        || format!("{} instead of {before}, {:?}", descriptors(), house.handle().counters()),
    );
    drop(house);
    assert!(descriptors() < before, "listeners and what watches them are closed");
}

/// Runs in a process of its own: while no descriptor is left connections wait, and are served afterwards.
#[test]
#[ignore = "run by the test of what the system refuses"]
fn descriptors_are_waited_for() {
    let (told, failed) = std::sync::mpsc::channel();
    let on_accept_failed: Box<_> = Box::new(move || {
        told.send(()).unwrap();
        panic!("the loop goes on");
    });
    let house = House::new(Host { on_accept_failed, ..Host::echo() });
    let mut other = Raw::open(house.address(), "/other");
    let limit = Some(descriptors() as u64 + 50);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let mut files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    files.pop();
    let mut raw = Raw::connect(house.address());
    raw.send(request("/", ""));
    failed.recv().unwrap();
    other.text("还在");
    assert_eq!(other.next_text(), "还在");
    drop(files);
    assert!(raw.head().starts_with("HTTP/1.1 101 "));
    assert!(house.handle().counters().accept_errors > 0);
}

/// Runs a test in a process of its own.
fn alone(name: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn none_is_left_of_a_thousand() {
    if std::path::Path::new("/proc/self/fd").exists() {
        alone("accept::descriptors_are_given_back");
    }
}

#[test]
fn what_the_system_refuses_is_asked_for_again() {
    if std::path::Path::new("/proc/self/fd").exists() {
        alone("accept::descriptors_are_waited_for");
    }
}
