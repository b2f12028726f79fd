//! Rights of tokens, and limits.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use longwire::{Client, ConnectError};
use longwire_server::realtime::SUBPROTOCOL;
use serde_json::{Value, json};

use crate::server::{Server, config};

const SECRET: &str = "三十二个字节以上的秘密, and then some";

pub(crate) const TOKENS: &str = "\
[access.token]
secret = \"三十二个字节以上的秘密, and then some\"
leeway = \"0s\"
";

fn sign(claims: &Value) -> String {
    let token = encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    format!("?token={token}")
}

fn soon(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

/// Returns a token with the rights to all rooms.
pub(crate) fn token(user: &str) -> String {
    sign(
        &json!({"sub": user, "exp": soon(600), "longwire": {"subscribe": ["rooms/>"], "publish": ["rooms/>"]}}),
    )
}

#[tokio::test]
async fn a_token_grants_only_its_rights() {
    let server = Server::start(config(TOKENS));
    let refused = Client::new().subprotocols([SUBPROTOCOL]).connect(server.url("/-/session")).await;
    assert!(matches!(refused, Err(ConnectError::Refused(response)) if response.status == 401));
    let refused = longwire::connect(server.url(&format!("/quotes{}", token("ann")))).await;
    assert!(matches!(refused, Err(ConnectError::Refused(response)) if response.status == 403));

    let claims = json!({"sub": "ann", "exp": soon(600), "longwire": {"subscribe": ["rooms/*"], "publish": ["rooms/一"]}});
    let mut ann = server.session(&sign(&claims)).await;
    assert!(ann.welcome["expires"].as_u64().unwrap() > soon(500));
    for (request, code) in [
        (json!({"type": "subscribe", "channel": "rooms/一"}), "ok"),
        (json!({"type": "subscribe", "channel": "rooms/一/二"}), "forbidden"),
        (json!({"type": "subscribe", "channel": "quotes"}), "forbidden"),
        (json!({"type": "publish", "channel": "rooms/一", "data": "好"}), "ok"),
        (json!({"type": "publish", "channel": "rooms/二", "data": "不好"}), "forbidden"),
        (json!({"type": "history", "channel": "quotes"}), "forbidden"),
        (json!({"type": "presence", "channel": "quotes"}), "forbidden"),
    ] {
        let answer = ann.request_reply(request.clone()).await;
        assert_eq!(answer["code"].as_str().unwrap_or("ok"), code, "{request}");
    }
    let message = ann.event().await;
    assert_eq!((&message["data"], &message["user"]), (&json!("好"), &json!("ann")));
}

#[tokio::test]
async fn an_expired_token_closes_and_a_renewed_one_does_not() {
    let server = Server::start(config(TOKENS));
    let claims = |seconds, rooms: &str| json!({"sub": "ann", "exp": soon(seconds), "longwire": {"subscribe": [rooms], "publish": []}});
    let mut short = server.session(&sign(&claims(2, ">"))).await;
    let mut renewed = server.session(&sign(&claims(2, ">"))).await;
    renewed.request_reply(json!({"type": "subscribe", "channel": "rooms/一"})).await;
    renewed.request_reply(json!({"type": "subscribe", "channel": "quotes"})).await;
    let token = sign(&claims(600, "rooms/>")).replace("?token=", "");
    let answer = renewed.request_reply(json!({"type": "token", "token": token})).await;
    assert!(answer["expires"].as_u64().unwrap() > soon(500), "{answer}");
    let ended = renewed.event().await;
    assert_eq!(
        (&ended["type"], &ended["channel"], &ended["code"]),
        (&json!("unsubscribed"), &json!("quotes"), &json!("forbidden"))
    );
    assert_eq!(short.closed_with().await.0, 4401);
    assert_eq!(renewed.request_reply(json!({"type": "ping"})).await["type"], "ok");
    // A token of another user, and an invalid one.
    let other = sign(&json!({"sub": "eve", "exp": soon(600), "longwire": {}})).replace("?token=", "");
    assert_eq!(renewed.request_reply(json!({"type": "token", "token": other})).await["code"], "forbidden");
    assert_eq!(renewed.request_reply(json!({"type": "token", "token": "x"})).await["code"], "unauthorized");
}

#[tokio::test]
async fn limits_and_publishers_of_a_channel() {
    let server = Server::start(config(
        "[[channel]]\npattern = \"quotes\"\npublish = \"nobody\"\n\
         [[channel]]\npattern = \"small\"\nmax_message = \"8\"\n\
         [[channel]]\npattern = \"slow\"\nrate = \"1/h\"\n",
    ));
    let mut ann = server.session("").await;
    for (request, code) in [
        (json!({"type": "publish", "channel": "quotes", "data": "1"}), "forbidden"),
        (json!({"type": "publish", "channel": "small", "data": "12345678"}), "ok"),
        (json!({"type": "publish", "channel": "small", "data": "123456789"}), "too_large"),
        (json!({"type": "publish", "channel": "slow", "data": "1"}), "ok"),
        (json!({"type": "publish", "channel": "slow", "data": "2"}), "rate_limited"),
    ] {
        let answer = ann.request_reply(request.clone()).await;
        assert_eq!(answer["code"].as_str().unwrap_or("ok"), code, "{request}");
        assert_eq!(answer.get("retry_after").is_some(), code == "rate_limited");
    }
    let mut raw = server.raw("/quotes").await;
    raw.send("说不得").await.unwrap();
    assert!(raw.recv().await.unwrap().is_none());
    assert_eq!(raw.closed().unwrap().frame.as_ref().unwrap().code, 1008);
}

#[tokio::test]
async fn limits_apply_to_the_echo_and_the_root() {
    let server = Server::start(config(
        "[limits.connection]\nmessages = \"1/h\"\n[[channel]]\npattern = \">\"\npublish = \"nobody\"\n",
    ));
    let mut echo = server.raw("/-/echo").await;
    echo.send("一次 👋").await.unwrap();
    assert_eq!(crate::server::receive(&mut echo).await, "一次 👋");
    echo.send("两次").await.unwrap();
    assert!(echo.recv().await.unwrap().is_none());
    assert_eq!(echo.closed().unwrap().frame.as_ref().unwrap().code, 1008);
    // The settings of `>` apply to the root channel as well.
    let mut root = server.raw("/").await;
    root.send("说不得").await.unwrap();
    assert!(root.recv().await.unwrap().is_none());
    assert_eq!(root.closed().unwrap().frame.as_ref().unwrap().code, 1008);
}
