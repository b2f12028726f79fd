//! Fetched keys: rotation, and servers that are slow, endless, invalid or unreachable.

use std::net::SocketAddr;

use futures_util::FutureExt;
use jsonwebtoken::Algorithm::{self, ES256, RS256};
use jsonwebtoken::jwk::Jwk;
use serde_json::json;

use super::server::{Answer, Server};
use super::*;

fn set(keys: &[(Algorithm, &str, &str)]) -> Answer {
    let keys: Vec<_> = keys
        .iter()
        .map(|(algorithm, name, id)| {
            let mut jwk = Jwk::from_encoding_key(&signing(*algorithm, name), *algorithm).expect("a key");
            jwk.common.key_id = Some((*id).to_owned());
            jwk
        })
        .collect();
    Answer::Whole("200 OK", json!({ "keys": keys }).to_string())
}

fn fetching(server: &Server) -> Access {
    fetching_from(server.address)
}

fn fetching_from(address: SocketAddr) -> Access {
    configured(&format!("token.jwks_url = 'http://{address}/keys'"))
}

fn signed(algorithm: Algorithm, name: &str, id: &str) -> String {
    token(algorithm, name, Some(id), &claims(json!({})))
}

/// Advances the clock; requests in flight are not affected.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn keys_are_cached_and_refetched_for_unknown_ids() {
    let server = Server::start(set(&[(RS256, "rsa", "old")])).await;
    let access = fetching(&server);
    let old = signed(RS256, "rsa", "old");
    for _ in 0..10 {
        assert!(connect_with_token(&access, &old).await.is_ok());
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].0.starts_with("get /keys http/1.1\r\n"));

    // Another key is unknown until the refresh interval has passed, however often it is requested.
    server.answer(set(&[(RS256, "rsa", "old"), (ES256, "p256", "new")]));
    let new = signed(ES256, "p256", "new");
    for _ in 0..10 {
        assert_eq!(refused(connect_with_token(&access, &new).await), (401, "unknown token key (kid)".into()));
    }
    assert_eq!(server.requests().len(), 1);
    pass(Duration::from_secs(61)).await;
    assert!(
        connect_with_token(&access, &new).await.is_ok() && connect_with_token(&access, &old).await.is_ok()
    );
    assert_eq!(server.requests().len(), 2);

    // The old key is revoked, and stays valid until the set is too old.
    server.answer(set(&[(ES256, "p256", "new")]));
    assert!(connect_with_token(&access, &old).await.is_ok());
    pass(Duration::from_secs(601)).await;
    assert_eq!(refused(connect_with_token(&access, &old).await), (401, "unknown token key (kid)".into()));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn concurrent_clients_share_one_fetch() {
    let server = Server::start(set(&[(RS256, "rsa", "one")])).await;
    let access = std::sync::Arc::new(fetching(&server));
    let shown = signed(RS256, "rsa", "one");
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (access, shown) = (access.clone(), shown.clone());
            tokio::spawn(async move { connect_with_token(&access, &shown).await.is_ok() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.expect("no panic"));
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn old_keys_stay_valid_during_an_outage() {
    let server = Server::start(set(&[(RS256, "rsa", "one")])).await;
    let access = fetching(&server);
    let shown = signed(RS256, "rsa", "one");
    assert!(connect_with_token(&access, &shown).await.is_ok());
    server.answer(Answer::Whole("500 Internal Server Error", String::new()));
    pass(Duration::from_secs(3600)).await;
    for _ in 0..10 {
        assert!(connect_with_token(&access, &shown).await.is_ok());
    }
    assert_eq!(server.requests().len(), 2, "it is not asked more often for that");
    // Not forever. Afterwards the fetch is retried as if there had never been keys.
    pass(Duration::from_secs(24 * 3600)).await;
    let before = server.requests().len();
    for _ in 0..10 {
        let (status, text) = refused(connect_with_token(&access, &shown).await);
        let expected = "cannot fetch the token keys: the server responded with 500 Internal Server Error";
        assert_eq!((status, &*text), (503, expected));
    }
    assert_eq!(server.requests().len(), before + 1);
}

#[tokio::test]
async fn servers_without_usable_keys() {
    let secret = json!({ "keys": [{ "kty": "oct", "k": "YSBzZWNyZXQgdGhhdCBpcyBsb25nIGVub3VnaCBmb3IgdGhlbQ", "kid": "one" }] });
    for (answer, expected) in [
        (Answer::Endless, "the response is too large"),
        (Answer::Whole("200 OK", " ".repeat(256 * 1024 + 1)), "the response is too large"),
        (Answer::Whole("200 OK", "<html>".into()), "invalid JSON"),
        (Answer::Whole("200 OK", "[]".into()), "no usable key"),
        (Answer::Whole("200 OK", r#"{"keys": []}"#.into()), "no usable key: the set is empty"),
        (
            Answer::Whole("200 OK", secret.to_string()),
            "no usable key: a published key set must not contain secrets",
        ),
        (Answer::Whole("404 Not Found", String::new()), "the server responded with 404"),
        // Redirects are not followed: they could lead to any server that this one can reach.
        (Answer::Whole("302 Found\r\nLocation: /other", String::new()), "the server responded with 302"),
        (Answer::Raw(b"\xff\xfe\0garbage\r\n\r\n".to_vec()), "cannot fetch the token keys: "),
        (
            Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec()),
            "cannot fetch the token keys: ",
        ),
        (Answer::Raw(Vec::new()), "cannot fetch the token keys: "),
    ] {
        let server = Server::start(answer).await;
        let access = fetching(&server);
        let shown = signed(RS256, "rsa", "one");
        let (status, text) = refused(connect_with_token(&access, &shown).await);
        assert!(status == 503 && text.contains(expected), "{expected}: {text}");
        // It is retried after a delay, not immediately.
        assert_eq!(refused(connect_with_token(&access, &shown).await).0, 503);
        assert_eq!(server.requests().len(), 1, "{expected}");
        server.answer(set(&[(RS256, "rsa", "one")]));
        pass(Duration::from_secs(3)).await;
        assert!(connect_with_token(&access, &shown).await.is_ok(), "{expected}");
    }
}

#[tokio::test]
async fn keys_can_be_fetched_before_they_are_needed() {
    let server = Server::start(Answer::Whole("404 Not Found", String::new())).await;
    let access = fetching(&server);
    let error = access.fetch_keys().await.expect_err("there are none");
    assert_eq!(error, "cannot fetch the token keys: the server responded with 404 Not Found");
    server.answer(set(&[(RS256, "rsa", "one")]));
    pass(Duration::from_secs(3)).await;
    assert_eq!(access.fetch_keys().await, Ok(()));
    assert!(connect_with_token(&access, &signed(RS256, "rsa", "one")).await.is_ok());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_set_of_the_maximum_size() {
    let Answer::Whole(status, keys) = set(&[(RS256, "rsa", "one")]) else { panic!("a whole answer") };
    let server =
        Server::start(Answer::Whole(status, keys.clone() + &" ".repeat(256 * 1024 - keys.len()))).await;
    assert!(connect_with_token(&fetching(&server), &signed(RS256, "rsa", "one")).await.is_ok());
}

#[tokio::test]
async fn an_unreachable_server() {
    let gone =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let access = fetching_from(gone);
    assert_eq!(refused(connect_with_token(&access, &signed(RS256, "rsa", "one")).await).0, 503);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_times_out() {
    let server = Server::start(Answer::Silence).await;
    let access = fetching(&server);
    let started = tokio::time::Instant::now();
    let (status, text) = refused(connect_with_token(&access, &signed(RS256, "rsa", "one")).await);
    assert_eq!((status, &*text), (503, "cannot fetch the token keys: the request timed out"));
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_disconnected_client_does_not_cancel_the_fetch() {
    let server = Server::start(set(&[(RS256, "rsa", "one")])).await;
    let access = fetching(&server);
    let shown = signed(RS256, "rsa", "one");
    // Polled once, so that the fetch has started, then dropped.
    assert!(connect_with_token(&access, &shown).now_or_never().is_none());
    assert!(connect_with_token(&access, &shown).await.is_ok());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn invalid_urls() {
    let config: config::Access = toml::from_str("token.jwks_url = 'no url'").expect("valid");
    assert_eq!(Access::new(&config).expect_err("no URL"), "invalid URL: no url");
}
