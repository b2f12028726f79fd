//! Conversations with undici (the WebSocket of Node), aiohttp and the JDK.

use longwire::Role;
use longwire_interop::{Library, Theirs, talk, talk_securely};

#[tokio::test]
async fn undici_as_a_client() {
    for deflate in [true, false] {
        talk(Library::Undici, Role::Server, Theirs { deflate, pings: false, parts: false }).await;
    }
    talk_securely(Library::Undici, Theirs { deflate: true, pings: false, parts: false }).await;
}

#[tokio::test]
async fn aiohttp_as_a_client() {
    for deflate in [true, false] {
        talk(Library::Aiohttp, Role::Server, Theirs { deflate, pings: true, parts: false }).await;
    }
    talk_securely(Library::Aiohttp, Theirs { deflate: true, pings: true, parts: false }).await;
}

#[tokio::test]
async fn aiohttp_as_a_server() {
    for deflate in [true, false] {
        talk(Library::Aiohttp, Role::Client, Theirs { deflate, pings: true, parts: false }).await;
    }
}

#[tokio::test]
async fn the_jdk_as_a_client() {
    let there = std::process::Command::new("java").arg("-version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "java is missing: `./check interop` installs it");
        eprintln!("SKIPPED: java is missing, so nothing was shown of the JDK: `./check interop` installs it");
        return;
    }
    // It has no extensions.
    let theirs = Theirs { deflate: false, pings: true, parts: true };
    talk(Library::Java, Role::Server, theirs).await;
    talk_securely(Library::Java, theirs).await;
}
