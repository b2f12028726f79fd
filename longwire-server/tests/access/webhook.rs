//! The webhook, when it responds and when it does not.

use hmac::{Hmac, Mac};
use jsonwebtoken::Algorithm::HS256;
use longwire_server::access::IdentityKind;
use serde_json::json;
use sha2::Sha256;

use super::server::{Answer, Server};
use super::*;

fn ok(answer: Value) -> Answer {
    Answer::Whole("200 OK", answer.to_string())
}

/// Uses a long timeout for busy machines, unless the test sets one.
fn with_webhook(server: &Server, more: &str) -> Access {
    let patience = if more.contains("timeout") { "" } else { "timeout = '30s'" };
    configured(&format!("[webhook]\nurl = 'http://{}/hook'\n{patience}\n{more}", server.address))
}

async fn connect(access: &Access, uri: &str, headers: &[(&str, &str)]) -> Result<Identity, Refusal> {
    access.connect(&request(uri, headers), FROM, now()).await
}

fn last_request(server: &Server) -> Value {
    let (_, body) = server.requests().pop().expect("it was asked");
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test]
async fn the_request_contains_what_is_known() {
    let server = Server::start(ok(
        json!({ "allow": true, "user": "李雷", "subscribe": ["b.*"], "expires": NOW + 60 }),
    ))
    .await;
    let access = with_webhook(&server, "headers = ['Cookie', 'x-tenant', 'x-none']\nsecret = 'shared'");
    let headers =
        [("cookie", "a=b"), ("cookie", "c=d"), ("x-tenant", "1"), ("x-tenant", "2"), ("x-other", "no")];
    let identity = connect(&access, "/%E6%B5%B7/a?b=c", &headers).await.expect("allowed");
    assert_eq!((identity.kind(), identity.user().map(|user| &**user)), (IdentityKind::Webhook, Some("李雷")));
    assert_eq!(identity.expires(), Some(now() + Duration::from_secs(60)));
    // The subscribe rights of the response, and, as it has no publish rights, the requested channel.
    assert!(identity.may_subscribe("b.x") && !identity.may_subscribe("海/a"));
    assert!(identity.may_publish("海/a") && !identity.may_publish("海/b") && !identity.may_publish("b.x"));

    assert_eq!(
        last_request(&server),
        json!({
            "event": "connect", "time": NOW, "path": "/%E6%B5%B7/a", "query": "b=c", "user": null, "address": "192.0.2.7", "channel": "海/a",
            "headers": { "cookie": "a=b; c=d", "x-tenant": "1, 2" },
        })
    );
    let (head, body) = server.requests().pop().expect("it was asked");
    assert!(
        head.starts_with("post /hook http/1.1\r\n") && head.contains("content-type: application/json\r\n")
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(b"shared").expect("any length");
    mac.update(body.as_bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(head.contains(&format!("x-longwire-signature: sha256={signature}\r\n")), "{head}");
}

#[tokio::test]
async fn responses_decide() {
    let padded = |bytes: usize| r#"{"allow": true}"#.to_owned() + &" ".repeat(bytes - 15);
    for (answer, status) in [
        (ok(json!({ "allow": true })), None),
        (ok(json!({ "allow": false })), Some(403)),
        (ok(json!({ "allow": true, "expires": NOW })), Some(403)),
        (Answer::Whole("403 Forbidden", "no".into()), Some(403)),
        (Answer::Whole("401 Unauthorized", String::new()), Some(401)),
        (Answer::Whole("429 Too Many Requests\r\nRetry-After: 7", String::new()), Some(429)),
        (Answer::Whole("500 Internal Server Error", String::new()), Some(503)),
        (Answer::Whole("200 OK", "yes".into()), Some(503)),
        (Answer::Whole("302 Found\r\nLocation: /other", String::new()), Some(503)),
        (Answer::Endless, Some(503)),
        (Answer::Whole("200 OK", padded(64 * 1024)), None),
        (Answer::Whole("200 OK", padded(64 * 1024 + 1)), Some(503)),
        (Answer::Raw(b"\0\0\0".to_vec()), Some(503)),
    ] {
        let server = Server::start(answer).await;
        let access = with_webhook(&server, "");
        let outcome = connect(&access, "/a", &[]).await;
        match status {
            None => assert!(outcome.is_ok()),
            Some(status) => assert_eq!(refused(outcome).0, status),
        }
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn when_it_is_down() {
    let server = Server::start(Answer::Silence).await;
    let started = tokio::time::Instant::now();
    assert_eq!(refused(connect(&with_webhook(&server, "timeout = '2s'"), "/a", &[]).await).0, 503);
    assert_eq!(started.elapsed(), Duration::from_secs(2));
    let access = with_webhook(&server, "when_down = 'allow'\ntimeout = '2s'\nsubscribe = true");
    let identity = connect(&access, "/a", &[]).await.expect("allowed");
    assert!(identity.may_subscribe("a") && !identity.may_subscribe("b"));
    assert!(access.subscribe(&identity, "b", now()).await.is_ok());
    // A denial is never treated as an unavailable webhook.
    server.answer(Answer::Whole("403 Forbidden", String::new()));
    tokio::time::resume();
    assert_eq!(refused(connect(&with_webhook(&server, "when_down = 'allow'"), "/a", &[]).await).0, 403);
}

#[tokio::test]
async fn concurrent_requests_are_bounded() {
    let server = Server::start(Answer::Silence).await;
    let access =
        std::sync::Arc::new(with_webhook(&server, "concurrency = 2\ntimeout = '60s'\nwhen_down = 'allow'"));
    let open: Vec<_> = (0..2)
        .map(|_| {
            let access = access.clone();
            tokio::spawn(async move { connect(&access, "/a", &[]).await.is_ok() })
        })
        .collect();
    while server.requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    // The third waits for a slot and is rejected, even with `when_down = "allow"`.
    let third = tokio::spawn({
        let access = access.clone();
        async move { connect(&access, "/a", &[]).await.err().map(|refusal| refusal.status().as_u16()) }
    });
    tokio::task::yield_now().await;
    tokio::time::pause();
    assert_eq!(third.await.expect("no panic"), Some(503));
    assert_eq!(server.requests().len(), 2);
    for task in open {
        assert!(task.await.expect("no panic"));
    }
}

#[tokio::test]
async fn only_undecided_requests_are_asked() {
    let server = Server::start(ok(json!({ "allow": true, "user": "李雷" }))).await;
    let access =
        with_webhook(&server, "subscribe = true\npublish = true\nbody = true\nheaders = ['x-tenant']");
    assert_eq!(access.webhook_decides(), (true, true));
    let identity = connect(&access, "/a", &[("x-tenant", "1")]).await.expect("allowed");
    assert!(access.subscribe(&identity, "a", now()).await.is_ok());
    assert_eq!(server.requests().len(), 1, "the channel that was asked for is known");
    assert!(access.subscribe(&identity, "b", now()).await.is_ok());
    let common = json!({
        "time": NOW, "path": "/a", "query": null, "headers": { "x-tenant": "1" }, "user": "李雷", "address": "192.0.2.7", "channel": "b",
    });
    let with = |more: Value| {
        let mut all = common.clone();
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    assert_eq!(last_request(&server), with(json!({ "event": "subscribe" })));
    assert!(access.publish(&identity, "b", "你好 👋".as_bytes(), now()).await.is_ok());
    assert_eq!(last_request(&server), with(json!({ "event": "publish", "size": 11, "body": "你好 👋" })));
    assert!(access.publish(&identity, "b", b"\xff\x00", now()).await.is_ok());
    assert_eq!(last_request(&server), with(json!({ "event": "publish", "size": 2, "body_base64": "/wA=" })));
    // Invalid names are never allowed.
    let before = server.requests().len();
    for name in ["", "b..c", "-/metrics", "b*", "b\0"] {
        assert_eq!(access.subscribe(&identity, name, now()).await.expect_err("refused").status(), 403);
    }
    assert_eq!(server.requests().len(), before);
    server.answer(ok(json!({ "allow": false })));
    assert_eq!(access.publish(&identity, "b", b"", now()).await.expect_err("refused").status(), 403);
}

#[tokio::test]
async fn responses_are_cached_for_identical_requests_only() {
    let server = Server::start(ok(json!({ "allow": true, "expires": NOW + 60 }))).await;
    let access = with_webhook(&server, "cache = '1m'\nsubscribe = true\npublish = true");
    let identity = connect(&access, "/a", &[]).await.expect("allowed");
    for _ in 0..5 {
        assert!(connect(&access, "/a", &[]).await.is_ok());
        assert!(access.subscribe(&identity, "b", now()).await.is_ok());
        assert!(access.publish(&identity, "b", b"1", now()).await.is_ok());
        assert!(access.publish(&identity, "b", b"22", now()).await.is_ok());
    }
    assert_eq!(server.requests().len(), 3);
    assert!(connect(&access, "/b", &[]).await.is_ok());
    assert!(connect(&access, "/a?b", &[]).await.is_ok());
    assert!(connect(&access, "/a", &[("cookie", "a=b")]).await.is_ok());
    assert!(access.connect(&request("/a", &[]), [192, 0, 2, 8].into(), now()).await.is_ok());
    assert!(access.subscribe(&identity, "c", now()).await.is_ok());
    assert_eq!(server.requests().len(), 8);
    // An expired decision is invalid, cached or not.
    let later = now() + Duration::from_secs(60);
    assert_eq!(refused(access.connect(&request("/a", &[]), FROM, later).await).0, 403);
    assert_eq!(server.requests().len(), 8);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    server.answer(ok(json!({ "allow": false })));
    assert_eq!(refused(connect(&access, "/a", &[]).await).0, 403);
    server.answer(Answer::Whole("500 Internal Server Error", String::new()));
    assert_eq!(refused(connect(&access, "/a", &[]).await).0, 403, "a no is remembered");
    assert_eq!(refused(connect(&access, "/new", &[]).await).0, 503);
    server.answer(ok(json!({ "allow": true })));
    assert!(connect(&access, "/new", &[]).await.is_ok(), "no answer is not remembered");
}

#[tokio::test]
async fn a_token_and_the_webhook() {
    let server = Server::start(ok(json!({ "allow": true, "publish": [], "expires": NOW + 10 }))).await;
    let access = configured(&format!(
        "token.secret = '{SECRET}'\nwebhook = {{ url = 'http://{}/hook', timeout = '30s' }}",
        server.address
    ));
    let shown = token(HS256, "", None, &claims(json!({})));
    let identity = connect_with_token(&access, &shown).await.expect("allowed");
    assert_eq!(last_request(&server)["user"], "李雷");
    assert_eq!(
        (identity.kind(), identity.expires()),
        (IdentityKind::Token, Some(now() + Duration::from_secs(10)))
    );
    // The webhook can restrict the rights of the token; it keeps those it does not mention.
    assert!(identity.may_subscribe("a.b") && !identity.may_publish("a.b"));
    let renewed = access.renew(&identity, &shown, now()).await.expect("allowed");
    assert!(renewed.may_subscribe("a.b") && !renewed.may_publish("a.b"));
    server.answer(Answer::Whole("403 Forbidden", String::new()));
    assert_eq!(refused(access.renew(&identity, &shown, now()).await).0, 403);
    // The webhook is not asked if the token is invalid.
    let before = server.requests().len();
    let expired = token(HS256, "", None, &claims(json!({ "exp": 1 })));
    assert_eq!(refused(connect_with_token(&access, &expired).await).0, 401);
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn the_certificate_is_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).expect("written");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{\"allow\": true}",
                )
                .await;
            let _ = stream.shutdown().await;
        }
    });
    for (ca, host, status) in
        [(true, "localhost", None), (true, "127.0.0.1", Some(503)), (false, "localhost", Some(503))]
    {
        let ca = if ca { format!("ca = '{}'\n", pem.display()) } else { String::new() };
        let toml = format!("{ca}webhook.url = 'https://{host}:{port}/'\nwebhook.timeout = '30s'");
        let config: config::Access = toml::from_str(&toml).expect("valid");
        match Access::new(&config) {
            // Without any platform certificates, creating the client fails.
            Err(error) => assert!(status.is_some() && ca.is_empty(), "{error}"),
            Ok(access) => match status {
                None => assert!(connect(&access, "/a", &[]).await.is_ok()),
                Some(status) => assert_eq!(refused(connect(&access, "/a", &[]).await).0, status, "{host}"),
            },
        }
    }
}
