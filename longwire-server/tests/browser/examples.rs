//! The examples in the root of the repository, started as in their README.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::devtools::{Browser, Tab};
use crate::process::{Server, longwire};

/// Returns the root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn start(example: &str) -> Server {
    let mut command = longwire();
    let config = format!("examples/{example}/longwire.toml");
    command.current_dir(root()).args(["serve", "--config", &config, "--listen", "127.0.0.1:0"]);
    Server::run(command)
}

async fn visit(browser: &mut Browser, server: &Server, path: &str) -> Tab {
    let tab = browser.open(&format!("http://127.0.0.1:{}{path}", server.port)).await;
    browser.until(&tab, "document.getElementById('state').textContent === 'websocket'").await;
    tab
}

/// Takes screenshots, and checks that the page fits a phone.
async fn look(mut browser: Browser, tab: &Tab, name: &str) {
    browser.picture(tab, &format!("example-{name}")).await;
    browser.prefer_dark(tab).await;
    browser.size(tab, 390, 844, true).await;
    browser.picture(tab, &format!("example-{name}-phone")).await;
    assert_eq!(browser.value(tab, "document.documentElement.scrollWidth").await, json!(390));
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn chat() {
    let server = start("chat");
    let mut browser = Browser::start().await;
    let ada = visit(&mut browser, &server, "/").await;
    browser.fill(&ada, "name", "阿达").await;
    browser.send_chat(&ada, "你好，世界 👋").await;
    browser.until(&ada, "!!document.querySelector('li.mine:not(.pending)')").await;
    let lin = visit(&mut browser, &server, "/").await;
    browser.until(&lin, "document.querySelector('li')?.textContent.includes('你好，世界 👋')").await;
    browser.fill(&lin, "name", "林").await;
    browser.send_chat(&lin, "<b>早</b> ☕").await;
    browser.until(&ada, "document.querySelectorAll('li')[1]?.textContent.includes('<b>早</b> ☕')").await;
    browser.until(&ada, "document.getElementById('online').textContent === '2 online'").await;
    assert_eq!(browser.value(&ada, "document.querySelectorAll('li').length").await, json!(2));
    look(browser, &ada, "chat").await;
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn quotes() {
    let server = start("quotes");
    let url = format!("http://127.0.0.1:{}", server.port);
    let publisher = Command::new("node")
        .args(["examples/quotes/publish.mjs", &url, "20"])
        .current_dir(root())
        .stdin(Stdio::null())
        .spawn();
    let _publisher =
        Running(publisher.expect("this example is published by Node: install it (apt-get install nodejs)"));
    let mut browser = Browser::start().await;
    let tab = visit(&mut browser, &server, "/").await;
    browser
        .until(&tab, "[...document.querySelectorAll('path')].every(path => path.getAttribute('d')?.split('L').length > 60)")
        .await;
    let names =
        browser.value(&tab, "[...document.querySelectorAll('h2')].map(name => name.textContent)").await;
    assert_eq!(names, json!(["EURUSD", "黄金", "BTC"]));
    look(browser, &tab, "quotes").await;
}

#[tokio::test]
async fn pad() {
    let server = start("pad");
    let mut browser = Browser::start().await;
    let ada = visit(&mut browser, &server, "/").await;
    browser.until(&ada, "document.querySelectorAll('.line:not(.pending)').length === 1").await;
    let lin = visit(&mut browser, &server, "/").await;
    browser.until(&lin, "document.querySelectorAll('.line').length === 1").await;
    // Types a text into a line.
    let write = |line: usize, text: &str| {
        format!(
            "(input => (input.value = {}, input.dispatchEvent(new InputEvent('input'))))(document.querySelectorAll('.line input')[{line}])",
            json!(text)
        )
    };
    let enter = |line: usize| {
        format!(
            "(input => (input.setSelectionRange(1e6, 1e6), input.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Enter' }}))))(document.querySelectorAll('.line input')[{line}])"
        )
    };
    let text = "document.querySelectorAll('.pending').length ? [] : [...document.querySelectorAll('.line input')].map(line => line.value)";
    browser.value(&ada, &write(0, "床前明月光")).await;
    browser.value(&ada, &enter(0)).await;
    browser.until(&lin, "document.querySelectorAll('.line').length === 2").await;
    // Concurrent edits: different lines, the same line, and insertions at the same place.
    for round in 0..40 {
        browser
            .value(
                &ada,
                &format!(
                    "{}, {}",
                    write(0, &format!("床前明月光 {round}")),
                    write(1, &format!("ada {round}"))
                ),
            )
            .await;
        browser.value(&lin, &write(1, &format!("lin {round}"))).await;
        if round % 10 == 0 {
            browser.value(&ada, &enter(0)).await;
            browser.value(&lin, &enter(0)).await;
        }
    }
    browser
        .until(
            &ada,
            "document.querySelectorAll('.line').length === 10 && !document.querySelector('.pending')",
        )
        .await;
    browser
        .until(
            &lin,
            "document.querySelectorAll('.line').length === 10 && !document.querySelector('.pending')",
        )
        .await;
    let first = browser.value(&ada, text).await;
    assert_eq!(browser.value(&lin, text).await, first);
    assert_eq!(first[0], json!("床前明月光 39"));
    // A page that joins later shows the same text, with or without a snapshot.
    for round in 0..210 {
        browser.value(&lin, &write(2, &format!("疑是地上霜 {round}"))).await;
    }
    browser.until(&ada, "!document.querySelector('.pending') && document.querySelectorAll('.line input')[2].value === '疑是地上霜 209'").await;
    let late = visit(&mut browser, &server, "/").await;
    browser.until(&late, "document.querySelectorAll('.line').length === 10").await;
    let whole: Value = browser.value(&ada, text).await;
    assert_eq!(browser.value(&late, text).await, whole);
    look(browser, &late, "pad").await;
}

#[tokio::test]
async fn map() {
    let server = start("map");
    let mut browser = Browser::start().await;
    let ada = visit(&mut browser, &server, "/").await;
    browser.fill(&ada, "name", "阿达 🚶").await;
    let lin = visit(&mut browser, &server, "/").await;
    browser.fill(&lin, "name", "林 🚲").await;
    browser
        .until(
            &lin,
            "[...document.querySelectorAll('.who:not(.me)')].some(who => who.textContent === '阿达 🚶')",
        )
        .await;
    let place = "document.querySelector('.who.me').style.transform";
    let before = browser.value(&ada, place).await;
    for _ in 0..10 {
        browser.value(&ada, "document.getElementById('map').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }))").await;
    }
    let after = browser.value(&ada, place).await;
    assert_ne!(before, after);
    // Positions are sent as integers.
    let rounded = |place: &Value| {
        let numbers = place
            .as_str()
            .expect("a place")
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .filter_map(|n| n.parse::<f64>().ok());
        let [x, y] = numbers.map(f64::round).collect::<Vec<_>>()[..] else { panic!("{place}") };
        format!("translate({x}px, {y}px)")
    };
    browser
        .until(
            &lin,
            &format!("document.querySelector('.who:not(.me)').style.transform === '{}'", rounded(&after)),
        )
        .await;
    look(browser, &lin, "map").await;
}

#[tokio::test]
async fn devices() {
    let server = start("devices");
    let mut browser = Browser::start().await;
    let control = visit(&mut browser, &server, "/").await;
    let lamp = visit(&mut browser, &server, "/device.html#客厅灯").await;
    let note = |text: &str| format!("document.querySelector('article small')?.textContent === '{text}'");
    browser.until(&control, &note("off")).await;
    browser.value(&control, "document.querySelector('[type=checkbox]').click()").await;
    browser.until(&lamp, "document.getElementById('lamp').ariaLabel === 'on, 60 %'").await;
    browser.until(&control, &note("on, 60 %")).await;
    browser.value(&control, "(range => (range.value = 85, range.dispatchEvent(new Event('change'))))(document.querySelector('[type=range]'))").await;
    browser.until(&control, &note("on, 85 %")).await;
    // A page that opens later knows the state.
    let other = visit(&mut browser, &server, "/").await;
    browser
        .until(&other, "document.querySelector('article small')?.textContent.startsWith('on, 85 %')")
        .await;
    visit(&mut browser, &server, "/device.html#书房灯").await;
    browser.until(&other, "document.querySelectorAll('article').length === 2").await;
    look(browser, &other, "devices").await;
}
