//! longwire in a page of a real browser, with a real server: a page that is compiled to WebAssembly calls the client,
//! and the test compares what it reports with what the server has seen.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

#[allow(dead_code, reason = "the tests of the server's pages use more of it")]
#[path = "../../../longwire-server/tests/browser/devtools.rs"]
mod devtools;
mod page;
mod process;
mod site;

use devtools::{Browser, Tab};
use page::Page;
use serde_json::json;
use site::Site;

/// Calls a function of the page, and returns what it reports.
async fn call(browser: &mut Browser, tab: &Tab, call: &str) -> String {
    let text = format!("page.{call}.catch(error => 'failed: ' + error.message)");
    let reported = browser.value(tab, &text).await;
    reported.as_str().unwrap_or_else(|| panic!("{call}: {reported}")).to_owned()
}

async fn open(browser: &mut Browser, site: &Site) -> Tab {
    let tab = browser.open(&site.http("/")).await;
    browser.until(&tab, "document.getElementById('state').textContent === 'ready'").await;
    tab
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn longwire_in_a_page() {
    let page = Page::build();
    let mut browser = Browser::start().await;
    let mut site = Site::start(&page).await;
    let tab = open(&mut browser, &site).await;
    messages(&mut browser, &tab, &mut site).await;
    endings(&mut browser, &tab, &mut site).await;
    refusals(&mut browser, &tab, &mut site).await;
    limits(&mut browser, &tab, &mut site).await;
    reconnecting(&mut browser, &tab, &page).await;
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

async fn messages(browser: &mut Browser, tab: &Tab, site: &mut Site) {
    let talk = call(browser, tab, &format!("talk('{}')", site.ws("/echo"))).await;
    assert_eq!(talk, "chat.v2; Us 4001 午饭 🍜; true");
    assert_eq!(site.seen().await, "/echo: Peer 4001 午饭 🍜");

    let tasks = call(browser, tab, &format!("talk_in_tasks('{}')", site.ws("/echo"))).await;
    assert_eq!(tasks, "Us 1000 ");
    assert_eq!(site.seen().await, "/echo: Peer 1000 ");
}

async fn endings(browser: &mut Browser, tab: &Tab, site: &mut Site) {
    let rows = [
        ("/bye", "一; 二; Peer 4002 打烊 🌙; closed", "/bye: Us 4002 打烊 🌙"),
        ("/restart", "Peer 1012 ; closed", "/restart: Us 1012 "),
        ("/no-code", "Peer without a code; closed", "/no-code: Us without a code"),
    ];
    for (path, reported, seen) in rows {
        assert_eq!(call(browser, tab, &format!("listen('{}')", site.ws(path))).await, reported);
        assert_eq!(site.seen().await, seen);
    }
    let crossed = call(browser, tab, &format!("close_late('{}')", site.ws("/bye"))).await;
    assert_eq!(crossed, "Peer 4002 打烊 🌙");
    assert_eq!(site.seen().await, "/bye: Us 4002 打烊 🌙");
    // TCP ends, and the peer breaks the protocol: a page cannot tell one from the other.
    for path in ["/vanish", "/garbage"] {
        let reported = call(browser, tab, &format!("listen('{}')", site.ws(path))).await;
        let (first, second) = reported.split_once("; ").expect("two parts");
        assert!(first.starts_with("eof: ") && first.contains("1006"), "{first}");
        assert_eq!(first, second);
    }

    let closes = call(browser, tab, &format!("bad_closes('{}')", site.ws("/echo"))).await;
    let reason = "长".repeat(41);
    assert_eq!(closes, format!("还在 👋; Us 3999 {reason}"));
    assert_eq!(site.seen().await, format!("/echo: Peer 3999 {reason}"));

    call(browser, tab, &format!("dropped('{}')", site.ws("/echo"))).await;
    assert_eq!(site.seen().await, "/echo: Peer without a code");

    let dropped = call(browser, tab, &format!("receiver_dropped('{}')", site.ws("/echo"))).await;
    assert_eq!(dropped, "false true");
    assert_eq!(site.seen().await, "/echo: Peer 4000 走了 👣");

    let unanswered = call(browser, tab, &format!("unanswered('{}')", site.ws("/silent"))).await;
    assert!(unanswered.starts_with("close_timeout: "), "{unanswered}");
}

async fn refusals(browser: &mut Browser, tab: &Tab, site: &mut Site) {
    let nobody = Site::nobody().await;
    let rows = [
        // The server selects none of them.
        (site.ws("/echo"), "['chat.v9']", 10_000, "io, retryable true: "),
        (site.ws("/forbidden"), "['chat.v2']", 10_000, "io, retryable true: "),
        (nobody, "[]", 10_000, "io, retryable true: "),
        ("ws://".into(), "[]", 10_000, "invalid, retryable false: "),
        (site.ws("/echo#部分"), "[]", 10_000, "invalid, retryable false: "),
        (site.ws("/echo"), "['a', 'a']", 10_000, "invalid, retryable false: "),
        (site.ws("/echo"), "['中文']", 10_000, "invalid, retryable false: "),
        (site.ws("/never"), "[]", 50, "timeout, retryable true: timed out in the opening handshake"),
    ];
    for (url, subprotocols, millis, expected) in rows {
        let reported = call(browser, tab, &format!("refused('{url}', {subprotocols}, {millis})")).await;
        assert!(reported.starts_with(expected), "{url}: {reported}");
    }
    let mut seen = [site.seen().await, site.seen().await, site.seen().await];
    seen.sort();
    // A page that gives up leaves no connection behind.
    assert_eq!(seen, ["/echo: not closed", "/forbidden: 403", "/never: ended"]);
}

async fn limits(browser: &mut Browser, tab: &Tab, site: &mut Site) {
    // Each message takes 100 bytes and 64 beside them; the seventh would exceed 1000.
    let flood = call(browser, tab, &format!("flood('{}')", site.ws("/flood"))).await;
    assert!(flood.starts_with("6; io: ") && flood.contains("1000 bytes"), "{flood}");
    assert_eq!(site.seen().await, "/flood: Peer 4009 receive buffer full");

    for path in ["/big-text", "/big-binary"] {
        let too_big = call(browser, tab, &format!("too_big('{}')", site.ws(path))).await;
        assert!(too_big.starts_with("1; message_too_big: ") && too_big.contains("1000 bytes"), "{too_big}");
        assert_eq!(site.seen().await, format!("{path}: Peer 4009 message too big"));
    }

    let fill = call(browser, tab, &format!("fill('{}', '{}')", site.ws("/stall"), site.ws("/go"))).await;
    let (sent, left) = fill.split_once(' ').expect("two numbers");
    assert_eq!(left, "0");
    let mut seen = [site.seen().await, site.seen().await];
    seen.sort();
    assert_eq!(seen, ["/go: Peer without a code".to_owned(), format!("/stall: {sent} messages, Peer 1000 ")]);
}

/// The events of the feed so far.
async fn events(browser: &mut Browser, tab: &Tab) -> Vec<String> {
    let events = browser.value(tab, "page.feed_events()").await;
    events.as_str().expect("text").lines().map(str::to_owned).collect()
}

/// Waits until the last event is this one.
async fn until(browser: &mut Browser, tab: &Tab, event: &str) {
    let event = json!(event);
    browser.until(tab, &format!("page.feed_events().split('\\n').at(-1).startsWith({event})")).await;
}

async fn reconnecting(browser: &mut Browser, tab: &Tab, page: &Page) {
    let site = Site::start(page).await;
    let url = site.ws("/echo");
    browser.value(tab, &format!("page.feed_start('{url}', 20, 0)")).await;
    until(browser, tab, "message 订阅 0 chat.v2").await;
    browser.value(tab, "page.feed_send('在吗？ 👀')").await;
    until(browser, tab, "message 在吗？ 👀").await;
    assert_eq!(
        events(browser, tab).await,
        ["connecting 1", "open 0", "message 订阅 0 chat.v2", "message 在吗？ 👀"]
    );

    // The server is killed. Messages sent meanwhile are held, up to the limit.
    let address = site.stop().await;
    until(browser, tab, "lost: ").await;
    for (text, answer) in [("一", "ok"), ("二", "ok"), ("三", "not sent: ")] {
        let sent = browser.value(tab, &format!("page.feed_send('{text}')")).await;
        assert!(sent.as_str().is_some_and(|sent| sent.starts_with(answer)), "{text}: {sent}");
    }
    // Attempts fail until it is there again.
    browser
        .until(tab, "page.feed_events().split('\\n').filter(event => event.startsWith('lost')).length > 1")
        .await;
    let mut site = Site::start_at(address, page).await;
    until(browser, tab, "message 二").await;
    let happened = events(browser, tab).await;
    let last: Vec<_> = happened[happened.len() - 4..].iter().map(String::as_str).collect();
    assert_eq!(last, ["open 1", "message 订阅 1 chat.v2", "message 一", "message 二"]);

    // 1012 asks for a longer wait, which the page cuts short.
    browser.value(tab, "page.feed_send('restart')").await;
    until(browser, tab, "lost: closed with 1012: 重启 🔧, again in 60 s").await;
    assert_eq!(site.seen().await, "/echo: Us 1012 重启 🔧");
    browser.value(tab, "page.feed_retry()").await;
    until(browser, tab, "message 订阅 2 chat.v2").await;

    browser.value(tab, "page.feed_close(4000, '够了 ✅')").await;
    until(browser, tab, "over").await;
    assert_eq!(
        events(browser, tab).await.iter().rev().nth(1).map(String::as_str),
        Some("closed, Us 4000 够了 ✅")
    );
    assert_eq!(site.seen().await, "/echo: Peer 4000 够了 ✅");
    let late = browser.value(tab, "page.feed_send('晚了')").await;
    assert!(late.as_str().is_some_and(|late| late.starts_with("not sent: ")), "{late}");

    // A code that says that no other attempt would help, and a limit on attempts.
    browser.value(tab, &format!("page.feed_start('{}', 20, 0)", site.ws("/restart"))).await;
    until(browser, tab, "lost: closed with 1012, again in 60 s").await;
    browser.value(tab, "page.feed_close(1000, '')").await;
    until(browser, tab, "over").await;
    assert_eq!(
        events(browser, tab).await.iter().rev().nth(1).map(String::as_str),
        Some("closed, not closed")
    );
    browser.value(tab, &format!("page.feed_start('{}', 20, 0)", site.ws("/unauthorized"))).await;
    until(browser, tab, "over").await;
    assert_eq!(
        events(browser, tab).await,
        ["connecting 1", "open 0", "given up, Permanent: closed with 3000: 请登录 🔑", "over"]
    );
    let nobody = Site::nobody().await;
    browser.value(tab, &format!("page.feed_start('{nobody}', 20, 2)")).await;
    until(browser, tab, "over").await;
    let happened = events(browser, tab).await;
    assert!(
        happened[1].starts_with("lost: cannot connect: ")
            && happened[3].starts_with("given up, Attempts: cannot connect: "),
        "{happened:?}"
    );
    assert_eq!(happened.len(), 5);
}
