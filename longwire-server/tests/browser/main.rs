//! The pages in a real browser. This file tests the raw page: two tabs exchange messages and show how their
//! connections end.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod chat_page;
mod client_module;
mod counting_proxy;
mod dashboard;
mod deflate;
mod devtools;
mod examples;
mod faulty_network;
mod http2;

#[path = "../process/mod.rs"]
mod process;

use devtools::{Browser, Tab};
use process::{Server, longwire};

/// Returns an expression that checks whether a matching row contains the text.
fn row(selector: &str, text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!("[...document.querySelectorAll({selector:?})].some(row => row.textContent.includes({text}))")
}

/// Returns an expression that checks whether a list is scrolled to its end.
fn at_end(list: &str) -> String {
    format!(
        "(list => list.scrollHeight - list.scrollTop - list.clientHeight < 2)(document.getElementById('{list}'))"
    )
}

async fn is_open(browser: &mut Browser, tab: &Tab) {
    browser.until(tab, "document.getElementById('state').textContent === 'open'").await;
}

async fn joins(browser: &mut Browser, tab: &Tab, channel: &str) {
    browser.fill(tab, "channel", channel).await;
    browser.click(tab, "connect").await;
    is_open(browser, tab).await;
}

#[tokio::test]
async fn two_tabs_exchange_messages_until_shutdown() {
    let mut server = Server::start(&["--subprotocol", "chat.v2"]);
    let mut browser = Browser::start().await;

    // One tab opens a link to the channel, the other uses the form.
    let ada = browser.open(&format!("http://127.0.0.1:{}/-/raw#茶馆", server.port)).await;
    is_open(&mut browser, &ada).await;
    let lin = browser.open(&format!("http://127.0.0.1:{}/-/raw", server.port)).await;
    browser.picture(&lin, "raw-first").await;
    browser.fill(&lin, "name", "林").await;
    browser.fill(&lin, "subprotocols", "chat.v2").await;
    joins(&mut browser, &lin, "茶馆").await;
    browser.until(&lin, &row("#wire li[data-event=open]", "protocol chat.v2")).await;
    browser.until(&ada, &row("#wire li[data-event=open]", "protocol none")).await;
    assert_eq!(browser.value(&lin, "decodeURIComponent(location.hash)").await, "#茶馆");

    browser.send_chat(&ada, "你好，世界 🌊").await;
    browser.until(&ada, &row("#conversation li.mine", "你好，世界 🌊")).await;
    browser.until(&lin, &row("#conversation li.theirs", "你好，世界 🌊")).await;
    browser
        .until(&lin, &row("#wire li[data-event=message][data-direction=received]", "20 B你好，世界 🌊"))
        .await;
    browser.send_chat(&lin, "早上好 ☕").await;
    browser.until(&ada, &row("#conversation li.theirs", "林: 早上好 ☕")).await;
    browser.until(&lin, &row("#wire li[data-direction=sent]", "林: 早上好 ☕")).await;
    assert_eq!(browser.value(&ada, "document.getElementById('text').value").await, "", "sent, so emptied");

    // Messages never become markup.
    let markup = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>";
    browser.send_chat(&ada, markup).await;
    browser.until(&lin, &row("#conversation li.theirs", markup)).await;
    assert_eq!(
        browser.value(&lin, "document.querySelector('#conversation img, #conversation b, #wire img')").await,
        serde_json::Value::Null
    );

    for (size, shown) in [("16", "16 B"), ("921600", "900.0 KiB")] {
        browser.value(&ada, &format!("document.getElementById('random-size').value = '{size}'")).await;
        browser.click(&ada, "random").await;
        browser.until(&lin, &row("#wire li[data-direction=received]", &format!("binary{shown}"))).await;
    }
    browser.until(&ada, "document.getElementById('buffered').textContent === '0'").await;

    // A page may not send every close code; an allowed one is shown as it was sent.
    browser.fill(&lin, "close-code", "1002").await;
    browser.click(&lin, "close").await;
    browser.until(&lin, "!!document.querySelector('#wire li[data-event=error]')").await;
    browser.fill(&lin, "close-code", "4001").await;
    browser.fill(&lin, "close-reason", "午饭 🍜").await;
    browser.click(&lin, "close").await;
    browser
        .until(
            &lin,
            &row("#wire li[data-event=closing][data-direction=sent]", "4001 application · “午饭 🍜”"),
        )
        .await;
    browser.until(&lin, &row("#wire li[data-event=close][data-code='4001'][data-clean=true]", "4001")).await;
    joins(&mut browser, &lin, "茶馆").await;
    browser.send_chat(&lin, "我回来了 🎉 and this is a longer line, so that one sees how it wraps in the conversation and is cut on the wire").await;
    browser.until(&ada, &row("#conversation li.theirs", "我回来了 🎉")).await;
    browser.picture(&ada, "raw-light").await;

    server.signal("INT");
    for tab in [&ada, &lin] {
        browser
            .until(
                tab,
                &row("#wire li[data-event=close][data-code='1001'][data-clean=true]", "wasClean true"),
            )
            .await;
        browser.until(tab, "document.getElementById('state').textContent === 'closed'").await;
    }
    assert_eq!(server.ended().code(), Some(0));
    browser.prefer_dark(&lin).await;
    browser.picture(&lin, "raw-dark").await;
    browser.size(&ada, 390, 844, true).await;
    browser.picture(&ada, "raw-phone").await;
    browser.until(&ada, &at_end("conversation")).await;
    browser.value(&ada, "document.getElementById('below').scrollIntoView({ block: 'end' })").await;
    browser.picture(&ada, "raw-phone-wire").await;
    // The page is not wider than a phone.
    assert_eq!(browser.value(&ada, "document.documentElement.scrollWidth").await, 390);

    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn a_killed_server_is_1006_and_can_be_rejoined() {
    let mut server = Server::start(&[]);
    let port = server.port;
    let mut browser = Browser::start().await;
    let tab = browser.open(&format!("http://127.0.0.1:{port}/-/raw#lobby")).await;
    is_open(&mut browser, &tab).await;
    server.signal("KILL");
    browser
        .until(&tab, &row("#wire li[data-event=close][data-code='1006'][data-clean=false]", "wasClean false"))
        .await;
    assert!(!server.ended().success());

    browser.click(&tab, "connect").await;
    browser.until(&tab, "document.querySelectorAll('#wire li[data-event=close]').length === 2").await;
    let mut command = longwire();
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    let server = Server::run(command);
    browser.click(&tab, "connect").await;
    is_open(&mut browser, &tab).await;
    let mut other = server.join("/lobby").await;
    browser.send_chat(&tab, "又见面了 👋").await;
    assert_eq!(process::receive(&mut other).await.as_text(), Some("又见面了 👋"));
    // The page keeps a bounded number of rows.
    for number in 0..1200 {
        other.feed(format!("第 {number}")).await.expect("queued");
    }
    other.send("last 🏁").await.expect("sent");
    browser.until(&tab, &row("#conversation li.theirs", "last 🏁")).await;
    for list in ["conversation", "wire"] {
        assert_eq!(
            browser.value(&tab, &format!("document.getElementById('{list}').childElementCount")).await,
            500
        );
        browser.until(&tab, &at_end(list)).await;
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}
