//! The dashboard: its numbers match the traffic, and messages can be inspected.

use serde_json::{Value, json};

use crate::devtools::Browser;
use crate::process::{self, Server};
use crate::row;

/// Returns an expression for a total on the dashboard.
fn total(field: &str) -> String {
    format!("Number(document.getElementById('{field}')?.textContent.replaceAll(',', ''))")
}

#[tokio::test]
async fn numbers_match_the_traffic() {
    let server = Server::start(&[]);
    let mut browser = Browser::start().await;
    let tab = browser.open(&format!("http://127.0.0.1:{}/-/#茶馆", server.port)).await;
    browser.until(&tab, &row("#rows tr", "watching 茶馆 (websocket)")).await;

    let mut talkers = vec![server.connect("/数").await, server.connect("/数").await];
    let before = browser.value(&tab, "fetch('/-/stats').then(answer => answer.json())").await;
    for number in 0..120 {
        talkers[0].send(format!("第 {number:03}")).await.expect("sent");
    }
    for _ in 0..120 {
        process::receive(&mut talkers[1]).await;
    }
    let mut client = talkers.remove(0);
    client.close(longwire::CloseCode::NORMAL, "").await.expect("closed");
    let of = |field: &str| before["now"][field].as_u64().expect(field);
    for (field, more) in
        [("published", 120), ("published_bytes", 120 * 7), ("received", 120), ("sent", 120), ("opened", 0)]
    {
        let expected = of(field) + more;
        browser.until(&tab, &format!("{} === {expected}", total(field))).await;
    }
    browser.until(&tab, &row("#ended tr", "closed by peer 10001")).await;
    let after: Value = browser.value(&tab, "fetch('/-/stats').then(answer => answer.json())").await;
    assert_eq!(after["now"]["open"], json!(of("open") - 1));
    assert_eq!(after["every"], json!(5));
    assert!(after["now"]["memory"].as_u64().is_none_or(|bytes| bytes > 1 << 20));

    // Live messages.
    let mut other = server.join("/茶馆").await;
    for text in ["你好，世界 👋", r#"{"from":"李雷","price":17.5}"#] {
        other.send(text).await.expect("sent");
    }
    other.send(vec![0_u8, 1, 2, 250, 255]).await.expect("sent");
    browser.until(&tab, &row("#rows tr[data-kind=text]", "text20你好，世界 👋")).await;
    browser.until(&tab, &row("#rows tr[data-kind=binary]", "binary500 01 02 fa ff")).await;
    browser.value(&tab, "[...document.querySelectorAll('#rows tr')].find(row => row.textContent.includes('你好')).click()").await;
    let dissected = browser.value(&tab, "document.getElementById('dissected').textContent").await;
    let dissected = dissected.as_str().expect("text");
    assert!(
        dissected.contains(
            "0000  e4 bd a0 e5 a5 bd ef bc  8c e4 b8 96 e7 95 8c 20  ··············· \n0010  f0 9f 91 8b"
        ),
        "{dissected}"
    );
    assert!(dissected.ends_with("你好，世界 👋"), "{dissected}");
    // Wait, so that there is something to plot.
    for round in 0..12 {
        for number in 0..(round % 4) * 30 + 5 {
            other.send(format!("波浪 {number} 🌊")).await.expect("sent");
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    browser.until(&tab, "document.querySelector('#plots path').getAttribute('d').includes('L')").await;
    browser.tall_picture(&tab, "dashboard-light").await;
    browser.prefer_dark(&tab).await;
    browser.tall_picture(&tab, "dashboard-dark").await;
    browser.size(&tab, 390, 844, true).await;
    browser.tall_picture(&tab, "dashboard-phone").await;
    assert_eq!(browser.value(&tab, "document.documentElement.scrollWidth").await, 390);
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}
