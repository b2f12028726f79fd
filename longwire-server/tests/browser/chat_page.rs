//! The chat page at `/`: several channels over any transport, while the server is killed and restarted.

use serde_json::json;

use crate::devtools::Browser;
use crate::process::{Server, longwire};
use crate::row;

#[tokio::test]
async fn several_channels_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8");
    let mut server = Server::start(&["--data", data]);
    let port = server.port;
    let mut browser = Browser::start().await;
    let ada = browser.open(&format!("http://127.0.0.1:{port}/#茶馆")).await;
    let lin = browser.open(&format!("http://127.0.0.1:{port}/")).await;
    browser.picture(&lin, "page-first").await;
    browser.until(&ada, "document.getElementById('state').textContent === 'open · websocket'").await;
    browser.send_chat(&ada, "有人吗？ ☕").await;
    browser.until(&ada, &row("ol li.mine:not(.pending)", "有人吗？ ☕")).await;

    // A page that joins later shows earlier messages and the members.
    browser.fill(&lin, "channel", "茶馆").await;
    browser.click(&lin, "join").await;
    browser.until(&lin, &row("ol li:not(.mine)", "有人吗？ ☕")).await;
    browser.until(&lin, "document.getElementById('count').textContent === '2 online'").await;
    assert_eq!(browser.value(&lin, "decodeURIComponent(location.hash)").await, "#茶馆");
    browser.fill(&lin, "name", "林").await;
    browser.send_chat(&lin, "我在！早上好 🌤").await;
    browser.until(&ada, &row("ol li:not(.mine)", "林: 我在！早上好 🌤")).await;
    let markup = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>";
    browser.send_chat(&ada, markup).await;
    browser.until(&lin, &row("ol li", markup)).await;
    assert_eq!(browser.value(&lin, "document.querySelector('ol img')").await, json!(null));
    browser.value(&lin, "(data => (data.items.add(new File([new Uint8Array([0, 1, 255])], 'a.bin')), document.getElementById('file').files = data.files, document.getElementById('file').dispatchEvent(new Event('change'))))(new DataTransfer())").await;
    browser.until(&ada, &row("ol li.bytes", "3 B binary\n00 01 ff")).await;

    // A second channel; messages on the first one are counted as unread.
    browser.fill(&lin, "channel", "rooms/一").await;
    browser.click(&lin, "join").await;
    browser.until(&lin, "document.getElementById('title').textContent === 'rooms/一'").await;
    browser.send_chat(&ada, "还有一件事 📎").await;
    browser.until(&lin, "document.querySelector('.unread').textContent === '1'").await;
    browser.picture(&lin, "page-two").await;
    browser.press_alt_arrow(&lin, "ArrowDown").await;
    browser.until(&lin, "document.getElementById('title').textContent === '茶馆' && document.querySelector('.unread').textContent === ''").await;

    // Without the server, messages wait and are sent after it restarts.
    server.signal("KILL");
    server.ended();
    for tab in [&ada, &lin] {
        browser.until(tab, &row("ol li.note", "connection lost (1006)")).await;
    }
    browser.send_chat(&lin, "听得见吗？ 🌊").await;
    browser.until(&lin, &row("ol li.mine.pending", "听得见吗？ 🌊")).await;
    browser.picture(&lin, "page-offline").await;
    let mut command = longwire();
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data", data]);
    let _server = Server::run(command);
    browser.until(&lin, &row("ol li.mine:not(.pending)", "听得见吗？ 🌊")).await;
    browser.until(&ada, &row("ol li", "听得见吗？ 🌊")).await;
    browser.until(&ada, &row("ol li.note", "reconnected, no messages missed")).await;

    // Another transport continues where the first one stopped.
    browser.value(&ada, "(select => (select.value = 'sse', select.dispatchEvent(new Event('change'))))(document.getElementById('transport'))").await;
    browser.until(&ada, "document.getElementById('state').textContent === 'open · sse'").await;
    browser.send_chat(&ada, "换了一条路 🛤").await;
    browser.until(&lin, &row("ol li", "换了一条路 🛤")).await;
    browser.until(&ada, &row("ol li.mine:not(.pending)", "换了一条路 🛤")).await;
    let said = "[...document.querySelectorAll('ol:not([hidden]) li:not(.note) small')].map(one => Number(one.title.split('-')[1]))";
    for tab in [&ada, &lin] {
        assert_eq!(browser.value(tab, said).await, json!([1, 2, 3, 4, 5, 6, 7]));
    }

    browser.picture(&ada, "page-light").await;
    browser.prefer_dark(&lin).await;
    browser.picture(&lin, "page-dark").await;
    browser.size(&ada, 390, 844, true).await;
    browser.picture(&ada, "page-phone").await;
    assert_eq!(browser.value(&ada, "document.documentElement.scrollWidth").await, json!(390));
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}
