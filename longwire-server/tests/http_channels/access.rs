//! Access rules over HTTP.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::server::Server;

const SECRET: &str = "a secret that is long enough for HS256";

/// Settings with tokens of this secret; `public.>` needs no credentials.
pub(crate) fn rules() -> String {
    format!(
        "[access.token]\nsecret = \"{SECRET}\"\nleeway = \"0s\"\n[access.anonymous]\nsubscribe = [\"public.>\"]\n"
    )
}

/// Returns a token that expires in this many seconds, with the rights to `open.>`.
pub(crate) fn token(user: &str, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let claims = json!({
        "sub": user,
        "exp": now + seconds,
        "longwire": {"subscribe": ["open.>"], "publish": ["open.>"]},
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token")
}

#[tokio::test]
async fn each_operation_requires_a_right() {
    let server = Server::start(&rules());
    let bearer = format!("Bearer {}", token("ann", 3600));
    let (good, bad) = ([("Authorization", &*bearer)], [("Authorization", "Bearer x.y.z")]);
    let stream = |headers: &[(&'static str, &str)]| {
        let mut all = vec![("Accept", "text/event-stream")];
        all.extend(headers.iter().map(|(name, value)| (*name, value.to_owned())));
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    for (method, path, headers, body, refused) in [
        ("GET", "/open.a", &[][..], "", (403, "forbidden")),
        ("GET", "/open.a", &bad, "", (401, "unauthorized")),
        ("GET", "/shut.a", &good, "", (403, "forbidden")),
        ("POST", "/public.a", &[], "x", (403, "forbidden")),
        ("POST", "/public.a", &good, "x", (403, "forbidden")),
        ("POST", "/open.a", &bad, "x", (401, "unauthorized")),
        ("POST", "/-/publish", &bad, "{}", (401, "unauthorized")),
        ("POST", "/-/history", &good, r#"{"channel":"shut.a"}"#, (403, "forbidden")),
        ("POST", "/-/presence", &[], r#"{"channel":"open.a"}"#, (403, "forbidden")),
        ("GET", "/-/events?channel=open.a", &bad, "", (401, "unauthorized")),
    ] {
        let answer = server.ask(method, path, headers, body.as_bytes()).await;
        assert_eq!(answer.refusal(), (refused.0, refused.1.into()), "{method} {path} {headers:?}");
        assert_eq!(answer.head.header("www-authenticate").is_some(), refused.0 == 401);
        if method == "GET" {
            let headers = stream(headers);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let answer = server.ask(method, path, &headers, b"").await;
            assert_eq!(answer.refusal(), (refused.0, refused.1.into()), "{path} {headers:?}");
        }
    }
    assert_eq!(server.ask("HEAD", "/open.a", &[], b"").await.head.status, 403);
    server.get("/public.a").await.good();
    server.ask("GET", "/open.a", &good, b"").await.good();
    server.ask("POST", "/open.a", &good, b"x").await.good();
    server.get(&format!("/open.a?token={}", token("ann", 60))).await.good();
    // In a request for several channels, each is authorised separately.
    let events = server.ask("GET", "/-/events?channel=open.a&channel=shut.a", &good, b"").await.good();
    assert_eq!(
        (&events["events"][0]["type"], &events["events"][1]["code"]),
        (&json!("subscribed"), &json!("forbidden"))
    );
    let batch = json!({"messages": [{"channel": "shut.a", "data": "x"}, {"channel": "open.a", "data": "y"}]});
    let results = server.ask("POST", "/-/publish", &good, batch.to_string().as_bytes()).await.good();
    assert_eq!(results["results"][0]["error"]["code"], "forbidden");
    assert!(results["results"][1]["position"].is_string());
}

#[tokio::test]
async fn a_program_publishes_with_its_key() {
    let (key, hash) = longwire_server::access::generate_key().expect("a key");
    let rules = format!("[[access.key]]\nname = \"shop\"\nsha256 = \"{hash}\"\npublish = [\"orders.*\"]\n");
    let server = Server::start(&rules);
    let bearer = format!("Bearer {key}");
    for headers in [[("X-Api-Key", &*key)], [("Authorization", &*bearer)]] {
        server.ask("POST", "/orders.1", &headers, b"x").await.good();
        assert_eq!(server.ask("POST", "/other", &headers, b"x").await.refusal(), (403, "forbidden".into()));
        assert_eq!(server.ask("GET", "/orders.1", &headers, b"").await.refusal(), (403, "forbidden".into()));
    }
    assert_eq!(server.ask("POST", "/orders.1", &[], b"x").await.refusal(), (401, "unauthorized".into()));
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let server = Server::start(&rules());
    let token = token("ann", 3);
    let paths = ["/open.a?token=", "/-/events?channel=open.a&token="].map(|path| format!("{path}{token}"));
    let mut streams = Vec::new();
    for path in &paths {
        streams.push(server.events(path, &[]).await);
    }
    for mut stream in streams {
        while stream.next_or_end().await.is_some() {}
    }
    // Reconnecting reveals the reason.
    for path in &paths {
        assert_eq!(server.get(path).await.refusal(), (401, "unauthorized".into()));
    }
}

#[tokio::test]
async fn rate_limits_apply_to_post() {
    let server = Server::start("[limits.address]\nmessages = \"2/h\"\n");
    let batch = json!({"messages": vec![json!({"channel": "a", "data": "x"}); 3]});
    let results = server.post("/-/publish", &batch).await.good();
    assert!(results["results"][1]["position"].is_string());
    assert_eq!(results["results"][2]["error"]["code"], "rate_limited");
    assert!(results["results"][2]["error"]["retry_after"].as_u64() > Some(1000));
    let refused = server.ask("POST", "/a", &[], b"x").await;
    assert_eq!(refused.refusal(), (429, "rate_limited".into()));
    let seconds: u64 = refused.head.header("retry-after").expect("when").parse().expect("seconds");
    assert!(seconds > 1);
}
