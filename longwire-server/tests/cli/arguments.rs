//! Valid and invalid command-line arguments.

use std::net::TcpListener;

use crate::process::run;

#[test]
fn help_has_examples_everywhere() {
    for arguments in [&["--help"][..], &["help", "serve"], &["serve", "--help"], &["connect", "--help"]] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, stderr), (Some(0), vec![]), "{arguments:?}");
        assert!(
            stdout.contains("Examples:\n  longwire ") || stdout.contains("Examples:\n  echo "),
            "{stdout}"
        );
    }
    let (_, serve, _) = run(&["serve", "--help"]);
    for option in [
        "--listen",
        "--threads",
        "--allow-origin",
        "--subprotocol",
        "--max-message",
        "--deflate",
        "--deflate-threshold",
    ] {
        assert!(serve.contains(option), "{option} in {serve}");
    }
    let (_, connect, _) = run(&["connect", "--help"]);
    for option in [
        "-H",
        "--subprotocol",
        "--no-input",
        "--echo",
        "--binary",
        "--cacert",
        "--cert",
        "--key",
        "--insecure",
        "--proxy",
        "--no-proxy",
        "--user",
        "--bearer",
        "--cookie",
        "--connect-timeout",
        "--read-timeout",
        "--max-redirects",
        "--no-redirect",
        "--verbose",
    ] {
        assert!(connect.contains(option), "{option} in {connect}");
    }
}

#[test]
fn a_threshold_requires_deflate() {
    let (status, _, stderr) = run(&["serve", "--deflate-threshold", "1K"]);
    assert_eq!(status, Some(2));
    assert!(stderr.iter().any(|line| line.contains("add --deflate")), "{stderr:?}");
}

#[test]
fn an_invalid_value_is_rejected_with_advice() {
    for (arguments, said) in [
        (&["serve", "--listen", "8080"][..], "write HOST:PORT, such as 127.0.0.1:8080"),
        (&["serve", "--listen", "127.0.0.1:99999"], "invalid port `99999` (0 to 65535)"),
        (&["serve", "--listen", "::1:8080"], "an IPv6 address must be in brackets"),
        (&["serve", "--allow-origin", "example.org"], "https://example.org"),
        (&["serve", "--allow-origin", "https://example.org/path"], "scheme, host and port only"),
        (&["serve", "--subprotocol", "two words"], "letters, digits"),
        (&["serve", "--max-message", "lots"], "a number of bytes"),
        (&["serve", "--deflate", "--deflate-threshold", "some"], "a number of bytes"),
        (&["serve", "--threads", "0"], "0 is not in 1..=1024"),
        (&["connect", "-H", "no colon", "ws://127.0.0.1/"], "'Name: value'"),
        (&["connect", "--subprotocol", "a,b", "ws://127.0.0.1/"], "letters, digits"),
        (&["connect", "--connect-timeout", "0", "ws://127.0.0.1/"], "invalid duration"),
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, &*stdout), (Some(2), ""), "{arguments:?}");
        assert_eq!(stderr.len(), 1, "{stderr:?}");
        assert!(stderr[0].starts_with("longwire: ") && stderr[0].contains(said), "{stderr:?}");
    }
}

#[test]
fn an_invalid_url_is_rejected_in_one_line() {
    for url in ["", "127.0.0.1:8080/lobby", "http://127.0.0.1:1/", "ws://", "ws://127.0.0.1:8080/#part"] {
        let (status, _, stderr) = run(&["connect", url]);
        assert_eq!(status, Some(1), "{url}: {stderr:?}");
        assert_eq!(stderr.len(), 1, "{stderr:?}");
        assert!(stderr[0].starts_with("longwire: "), "{stderr:?}");
    }
}

#[test]
fn an_unavailable_address_is_reported_with_advice() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other.local_addr().expect("bound").to_string();
    // Documentation addresses (RFC 5737) and invalid names (RFC 6761).
    for (address, said) in [
        (&*taken, "address already in use; choose another port, such as --listen 127.0.0.1:"),
        ("192.0.2.1:8080", "not an address of this machine"),
        ("nowhere.invalid:8080", "cannot listen on nowhere.invalid:8080"),
    ] {
        let (status, stdout, stderr) = run(&["serve", "--open", "--listen", address]);
        assert_eq!((status, &*stdout), (Some(1), ""), "{address}");
        assert_eq!(stderr.len(), 1, "{stderr:?}");
        assert!(stderr[0].contains(said), "{stderr:?}");
    }
}
