//! longwire.js in a real browser: every transport, failing networks, restarting servers, expiring tokens.
//! Messages arrive once and in order, or a gap is reported.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::devtools::{Browser, Tab};
use crate::faulty_network::Relay;
use crate::process::{Server, longwire};

const TRANSPORTS: [&str; 3] = ["websocket", "sse", "poll"];

/// In the page: a connection, and its recorded events.
const SCRIPT: &str = r"(async () => {
    const { Longwire } = await import('/-/longwire.js');
    window.start = (options = {}) => {
        window.told = [];
        window.wire = new Longwire(location.href, options);
        for (const type of ['open', 'error', 'close']) wire['on' + type] = ({ code, transport }) => told.push([type, code ?? transport]);
        return true;
    };
    window.join = (name, options) => {
        const channel = window.channel = wire.channel(name, options);
        channel.heard = []; channel.opens = []; channel.ends = [];
        channel.onopen = ({ recovered }) => channel.opens.push(recovered ?? 'new');
        channel.onmessage = ({ data, position }) => channel.heard.push([Number(position.split('-')[1]), typeof data === 'string' ? data : [...new Uint8Array(data)]]);
        channel.onclose = ({ code }) => channel.ends.push(code);
        return true;
    };
    return true;
})()";

async fn tab(browser: &mut Browser, port: u16) -> Tab {
    let tab = browser.open_freely(&format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(browser.value(&tab, SCRIPT).await, json!(true));
    tab
}

/// Connects and subscribes to a channel.
async fn joins(browser: &mut Browser, tab: &Tab, options: &Value, channel: &str) {
    browser.value(tab, &format!("start({options})")).await;
    browser.value(tab, &format!("join({}, {{ presence: true }})", json!(channel))).await;
    browser.until(tab, "channel.readyState === 1").await;
}

async fn has_heard(browser: &mut Browser, tab: &Tab, count: usize) -> Value {
    browser.until(tab, &format!("channel.heard.length >= {count}")).await;
    browser.value(tab, "channel.heard").await
}

/// Checks that every message arrived once and in order.
fn assert_whole(heard: &Value, offsets: std::ops::RangeInclusive<u64>) {
    let heard: Vec<_> = heard.as_array().expect("a list").iter().map(|one| one[0].as_u64()).collect();
    assert_eq!(heard, offsets.map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_tabs_over_each_transport() {
    let server = Server::start(&[]);
    let mut browser = Browser::start().await;
    let ada = tab(&mut browser, server.port).await;
    let lin = tab(&mut browser, server.port).await;
    for transport in TRANSPORTS {
        let options = json!({ "transports": [transport] });
        let channel = format!("茶馆/{transport}");
        joins(&mut browser, &ada, &options, &channel).await;
        joins(&mut browser, &lin, &options, &channel).await;
        assert_eq!(
            browser.value(&ada, "[wire.transport, wire.readyState, channel.opens]").await,
            json!([transport, 1, ["new"]])
        );

        // In the order of sending, even though binary data takes longer to encode than text.
        let sent = browser
            .value(&ada, "Promise.all([channel.send(new Blob([new Uint8Array([0, 1, 255])])), channel.send('你好，世界 👋'), channel.send(''), channel.send(new Uint16Array([258]))])")
            .await;
        let heard = json!([[1, [0, 1, 255]], [2, "你好，世界 👋"], [3, ""], [4, [2, 1]]]);
        assert_eq!(has_heard(&mut browser, &lin, 4).await, heard, "{transport}");
        assert_eq!(has_heard(&mut browser, &ada, 4).await, heard, "{transport}");
        assert_eq!(browser.value(&lin, "channel.position").await, sent[3]);

        let page = browser.value(&lin, "channel.history({ limit: 2 })").await;
        assert_eq!(
            (&page["more"], &page["messages"][1]["data"]),
            (&json!(true), &json!("你好，世界 👋")),
            "{page}"
        );
        // A polling client is not a member.
        let there = if transport == "poll" { 0 } else { 2 };
        browser.until(&ada, &format!("channel.members().then(({{ count }}) => count === {there})")).await;
        browser.until(&lin, &format!("channel.count === {there}")).await;

        // A second channel that is joined later and left; the first one continues.
        browser.value(&lin, "window.first = channel, join('second'), first.heard.length = 0").await;
        browser.until(&lin, "channel.readyState === 1").await;
        browser.value(&ada, "wire.channel('second').send('又一个 🍵')").await;
        assert_eq!(has_heard(&mut browser, &lin, 1).await[0][1], json!("又一个 🍵"));
        browser.value(&lin, "channel.close()").await;
        browser.value(&ada, "wire.channel('second').send('nobody')").await;
        browser.value(&ada, "channel.send('last 🏁')").await;
        browser.until(&lin, "first.heard.length === 1").await;
        assert_eq!(
            browser.value(&lin, "[first.heard, channel.heard.length, channel.ends]").await,
            json!([[[5, "last 🏁"]], 1, [1000]])
        );
        for tab in [&ada, &lin] {
            assert_eq!(
                browser.value(tab, "wire.close(), told").await,
                json!([["open", transport], ["close", 1000]])
            );
        }
    }
    // A rejected channel is closed; the other channels continue.
    joins(&mut browser, &ada, &json!({}), "good").await;
    browser.value(&ada, "window.first = channel, join('a//b')").await;
    browser.until(&ada, "channel.ends.length === 1").await;
    assert_eq!(browser.value(&ada, "[channel.ends, first.readyState]").await, json!([[4403], 1]));
    assert_eq!(
        browser.value(&ada, "first.history({ limit: 0 }).catch(({ code }) => code)").await,
        json!("bad_request")
    );
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn clients_without_websocket_fall_back() {
    let server = Server::start(&[]);
    let mut browser = Browser::start().await;
    for (blocked, transport) in
        [(&["upgrade: websocket"][..], "sse"), (&["upgrade: websocket", "text/event-stream"], "poll")]
    {
        let relay = Relay::without(server.port, blocked).await;
        let tab = tab(&mut browser, relay.port).await;
        joins(&mut browser, &tab, &json!({}), "茶馆").await;
        browser.value(&tab, "channel.send('你好 👋')").await;
        assert_eq!(has_heard(&mut browser, &tab, 1).await[0][1], json!("你好 👋"));
        assert_eq!(browser.value(&tab, "wire.transport").await, json!(transport));
    }
    browser.close().await;
}

#[tokio::test]
async fn network_failures_cause_no_loss_and_no_duplicates() {
    let server = Server::start(&[]);
    let mut browser = Browser::start().await;
    let far = tab(&mut browser, server.port).await;
    for transport in TRANSPORTS {
        let relay = Relay::start(server.port).await;
        let near = tab(&mut browser, relay.port).await;
        let channel = format!("茶馆/{transport}");
        joins(&mut browser, &far, &json!({}), &channel).await;
        joins(&mut browser, &near, &json!({ "transports": [transport], "silence": 3000 }), &channel).await;
        browser.value(&far, "window.number = 0, window.say = async count => { while (count--) await channel.send(`第 ${++number} 🌊`); }").await;
        browser.value(&far, "say(10)").await;
        has_heard(&mut browser, &near, 10).await;

        // A network fails in two ways: it goes silent or closes connections. A silent stream is dropped after
        // 20 s, so it is closed here.
        relay.dark(true);
        browser.value(&far, "say(10)").await;
        browser.value(&near, "window.kept = ['一', '二', '三'].map(text => channel.send(text)), true").await;
        browser.value(&far, "say(10)").await;
        if transport == "sse" {
            relay.cut();
        }
        browser.until(&near, "told.some(([type]) => type === 'error')").await;
        assert_eq!(browser.value(&near, "wire.readyState").await, json!(0));
        browser.value(&near, "kept.push(channel.send('四'), channel.send(new Uint8Array([5]))), true").await;
        relay.dark(false);
        browser.value(&near, "Promise.all(kept)").await;
        browser.value(&far, "say(10)").await;

        for tab in [&near, &far] {
            let heard = has_heard(&mut browser, tab, 45).await;
            assert_whole(&heard, 1..=45);
            let own: Vec<_> = heard
                .as_array()
                .expect("a list")
                .iter()
                .map(|one| &one[1])
                .filter(|data| !data.as_str().is_some_and(|data| data.starts_with('第')))
                .collect();
            assert_eq!(json!(own), json!(["一", "二", "三", "四", [5]]), "{transport}");
        }
        assert_eq!(browser.value(&near, "channel.opens").await, json!(["new", true]), "{transport}");
        // Close the connections in the middle of the traffic, several times.
        browser.value(&far, "window.said = say(60), true").await;
        for _ in 0..3 {
            let before = relay.opened();
            relay.cut();
            while relay.opened() == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        browser.value(&far, "said").await;
        assert_whole(&has_heard(&mut browser, &near, 105).await, 1..=105);
        browser.value(&near, "wire.close()").await;
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn a_killed_and_restarted_server_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8");
    let mut server = Server::start(&["--data", data]);
    let port = server.port;
    let mut browser = Browser::start().await;
    let mut tabs = Vec::new();
    for transport in TRANSPORTS {
        let tab = tab(&mut browser, port).await;
        joins(&mut browser, &tab, &json!({ "transports": [transport] }), "茶馆").await;
        tabs.push(tab);
    }
    for round in 1..=2 {
        for tab in &tabs {
            browser.value(tab, "channel.send(`${wire.transport} 早 ☕`)").await;
        }
        server.signal("KILL");
        server.ended();
        for tab in &tabs {
            browser.until(tab, "wire.readyState === 0").await;
            browser.value(tab, "window.kept = [channel.send(`${wire.transport} 等 ⏳`), channel.send(`${wire.transport} 还在 🕰`)], true").await;
        }
        let mut command = longwire();
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data", data]);
        server = Server::run(command);
        for tab in &tabs {
            browser.value(tab, "Promise.all(kept)").await;
        }
        for tab in &tabs {
            let heard = has_heard(&mut browser, tab, round * 9).await;
            assert_whole(&heard, 1..=round as u64 * 9);
            assert_eq!(browser.value(tab, "channel.opens.length").await, json!(1 + round));
        }
    }
    browser.close().await;
}

#[tokio::test]
async fn lost_messages_are_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("longwire.toml");
    std::fs::write(&config, "[[channel]]\npattern = \">\"\nhistory.messages = 3\n").expect("written");
    let server = Server::start(&["--config", config.to_str().expect("UTF-8")]);
    let mut browser = Browser::start().await;
    let far = tab(&mut browser, server.port).await;
    for transport in TRANSPORTS {
        let relay = Relay::start(server.port).await;
        let near = tab(&mut browser, relay.port).await;
        let channel = format!("茶馆/{transport}");
        joins(&mut browser, &far, &json!({}), &channel).await;
        joins(&mut browser, &near, &json!({ "transports": [transport] }), &channel).await;
        browser.value(&far, "channel.send('听得见 👂')").await;
        has_heard(&mut browser, &near, 1).await;
        relay.dark(true);
        relay.cut();
        browser.until(&near, "wire.readyState === 0").await;
        browser
            .value(&far, "Promise.all([1, 2, 3, 4].map(number => channel.send(`听不见 ${number}`)))")
            .await;
        relay.dark(false);
        browser.until(&near, "channel.opens.length === 2").await;
        browser.value(&far, "channel.send('又听得见 👂')").await;
        assert_eq!(
            has_heard(&mut browser, &near, 2).await,
            json!([[1, "听得见 👂"], [6, "又听得见 👂"]]),
            "{transport}"
        );
        assert_eq!(browser.value(&near, "channel.opens").await, json!(["new", false]), "{transport}");
        browser.value(&near, "wire.close()").await;
    }
    browser.close().await;
}

const SECRET: &str = "a secret of thirty-two bytes, at least";

/// Returns a token of 李雷 that expires in this many seconds.
fn token(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims =
        json!({ "sub": "李雷", "exp": now + seconds, "longwire": { "subscribe": [">"], "publish": [">"] } });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .expect("a token")
}

#[tokio::test]
async fn tokens_are_renewed_before_and_after_they_expire() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("longwire.toml");
    std::fs::write(&config, format!("[access.token]\nsecret = {SECRET:?}\nleeway = \"0s\"\n"))
        .expect("written");
    let server = Server::start(&["--config", config.to_str().expect("UTF-8")]);
    let mut browser = Browser::start().await;
    let tab = tab(&mut browser, server.port).await;
    let (short, long) = (token(8), token(3600));

    // A token function is called before the first token expires, and the connection stays open.
    browser.value(&tab, &format!("window.asked = 0, start({{ token: async () => asked++ ? {long:?} : {short:?} }}), join('茶馆', {{ presence: true }})")).await;
    browser.until(&tab, "asked === 2").await;
    browser.until(&tab, "channel.users?.[0] === '李雷'").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    browser.value(&tab, "channel.send('还在 👋')").await;
    assert_eq!(browser.value(&tab, "told").await, json!([["open", "websocket"]]));
    browser.value(&tab, "wire.close()").await;

    // If the new token comes too late, the client reconnects.
    for transport in TRANSPORTS {
        let short = token(4);
        browser.value(&tab, &format!("window.asked = 0, start({{ transports: [{transport:?}], token: () => ++asked > 2 ? {long:?} : {short:?} }}), join('茶馆')")).await;
        browser.until(&tab, "told.filter(([type]) => type === 'open').length > 1 || asked > 2").await;
        browser.until(&tab, "wire.readyState === 1").await;
        browser.value(&tab, "channel.send('新的 🎫')").await;
        browser.until(&tab, "channel.heard.some(([, data]) => data === '新的 🎫')").await;
        browser.value(&tab, "wire.close()").await;
    }

    // A fixed token cannot be renewed: the connection ends with 4401.
    for transport in TRANSPORTS {
        let short = token(3);
        browser
            .value(&tab, &format!("start({{ transports: [{transport:?}], token: {short:?} }}), join('茶馆')"))
            .await;
        browser.until(&tab, "channel.readyState === 1").await;
        if transport == "websocket" {
            browser.until(&tab, "told.at(-1)[0] === 'close'").await;
            assert_eq!(browser.value(&tab, "told.at(-1)").await, json!(["close", 4401]));
        } else {
            browser
                .until(&tab, "channel.send('太晚 ⌛').then(() => false, ({ code }) => code === 'closed')")
                .await;
            assert_eq!(
                browser.value(&tab, "[told.at(-1), channel.ends]").await,
                json!([["close", 4401], [4401]])
            );
        }
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn waiting_messages_are_bounded_and_kept() {
    let server = Server::start(&[]);
    let relay = Relay::start(server.port).await;
    let mut browser = Browser::start().await;
    let tab = tab(&mut browser, relay.port).await;
    relay.dark(true);
    browser.value(&tab, "start({ transports: ['websocket'] }), join('茶馆')").await;
    // The maximum number of waiting messages, and one more; the others are not lost.
    let send = "window.kept = Array.from({ length: 1000 }, (_, number) => channel.send(`第 ${number} 🌊`)), channel.send('太多').catch(({ code }) => code)";
    assert_eq!(browser.value(&tab, send).await, json!("full"));
    relay.dark(false);
    browser.value(&tab, "Promise.all(kept).then(() => 0)").await;
    let heard = has_heard(&mut browser, &tab, 1000).await;
    assert_whole(&heard, 1..=1000);
    assert_eq!((&heard[0][1], &heard[999][1]), (&json!("第 0 🌊"), &json!("第 999 🌊")));
    // Waiting messages are rejected when the client closes.
    relay.dark(true);
    relay.cut();
    browser.until(&tab, "wire.readyState === 0").await;
    let over = "(() => { const late = channel.send('迟到').catch(({ code }) => code); setTimeout(() => wire.close()); return late; })()";
    assert_eq!(browser.value(&tab, over).await, json!("closed"));
    assert_eq!(browser.value(&tab, "channel.send('更迟').catch(({ code }) => code)").await, json!("closed"));
    browser.close().await;
}
