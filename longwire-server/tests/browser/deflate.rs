//! permessage-deflate between a real browser and the server: negotiation, echoed messages, and bytes on the
//! wire.

use serde_json::json;

use crate::counting_proxy::Proxy;
use crate::devtools::{Browser, Tab};
use crate::process::Server;

/// In the page: connects to the echo and defines `echoed`, which checks that a message comes back unchanged.
const SCRIPT: &str = r"(async () => {
    window.socket = new WebSocket(`ws://${location.host}/-/echo`);
    socket.binaryType = 'arraybuffer';
    await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onclose: reject }));
    const same = (sent, received) => {
        if (typeof sent === 'string' || typeof received === 'string') return sent === received;
        received = new Uint8Array(received);
        return sent.length === received.length && sent.every((byte, at) => byte === received[at]);
    };
    window.echoed = (message) => new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) => resolve(same(message, data));
        socket.onclose = ({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`));
        socket.send(message);
    });
    window.random = (size) => {
        const bytes = new Uint8Array(size);
        for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
        return bytes;
    };
    window.digits = Array.from(random(2000), (byte) => byte.toString(16)[0]).join('');
    window.text = (size, piece) => {
        let text = piece.repeat(size / new TextEncoder().encode(piece).length);
        return text + ' '.repeat(size - new TextEncoder().encode(text).length);
    };
    return socket.extensions;
})()";

/// Sends all kinds of messages in all relevant sizes, and counts those that come back unchanged.
const ALL_SIZES: &str = r#"(async () => {
    let same = 0;
    for (const size of [0, 1, 125, 126, 1000, 65535, 65536, 300000]) {
        for (const message of [
            text(size, '{"from":"李雷","text":"你好 👋","price":17.5},'),
            text(size, '天地玄黄，宇宙洪荒。'),
            text(size, '👋🌊🎉👩‍🚀'),
            new Uint8Array(size).map((_, at) => (at / 7) % 5),
            random(size),
        ]) same += await echoed(message);
    }
    return same;
})()"#;

/// Returns the bytes of a message on the wire, to the server and back.
async fn cost(browser: &mut Browser, tab: &Tab, proxy: &Proxy, message: &str) -> (u64, u64) {
    let before = proxy.bytes();
    assert_eq!(browser.value(tab, &format!("echoed({message})")).await, json!(true), "{message}");
    let after = proxy.bytes();
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test]
async fn messages_are_compressed_both_ways() {
    let server = Server::start(&["--deflate"]);
    let proxy = Proxy::start(server.port).await;
    let mut browser = Browser::start().await;
    let tab = browser.open(&format!("http://127.0.0.1:{}/-/raw", proxy.port)).await;

    let agreed = "permessage-deflate; server_no_context_takeover";
    assert_eq!(browser.value(&tab, SCRIPT).await, json!(agreed));
    assert_eq!(proxy.offers(), ["permessage-deflate; client_max_window_bits"]);
    assert_eq!(proxy.answers(), [agreed]);

    assert_eq!(browser.value(&tab, ALL_SIZES).await, json!(40));

    let small = 64 * 1024;
    for message in ["text(1 << 20, '你好 👋 ')", "new Uint8Array(1 << 20)"] {
        let (sent, received) = cost(&mut browser, &tab, &proxy, message).await;
        assert!(sent < small && received < small, "{message}: {sent} B sent, {received} B received");
    }
    let (sent, received) = cost(&mut browser, &tab, &proxy, "random(1 << 20)").await;
    let whole = (1 << 20)..(1 << 20) + small;
    assert!(whole.contains(&sent) && whole.contains(&received), "{sent} B sent, {received} B received");

    // The browser uses context takeover, the server does not.
    let first = cost(&mut browser, &tab, &proxy, "digits").await;
    let second = cost(&mut browser, &tab, &proxy, "digits").await;
    assert!(first.0 > 900 && second.0 < 100, "{first:?}, then {second:?}");
    assert!(first.1 > 900 && second.1 == first.1, "{first:?}, then {second:?}");

    // Below the threshold, the server does not compress its echo.
    let (_, received) = cost(&mut browser, &tab, &proxy, "' '.repeat(255)").await;
    assert_eq!(received, 4 + 255);
    let (_, received) = cost(&mut browser, &tab, &proxy, "' '.repeat(256)").await;
    assert!(received < 30, "{received} B");

    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn nothing_is_compressed_without_the_option() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let mut browser = Browser::start().await;
    let tab = browser.open(&format!("http://127.0.0.1:{}/-/raw", proxy.port)).await;
    assert_eq!(browser.value(&tab, SCRIPT).await, json!(""));
    assert_eq!(proxy.answers(), Vec::<String>::new());
    let (sent, received) = cost(&mut browser, &tab, &proxy, "text(65536, '你好 👋 ')").await;
    assert!(sent > 65536 && received > 65536, "{sent} B sent, {received} B received");
    browser.close().await;
}
