//! Access to the dashboard, the statistics and the metrics, and to public pages.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use longwire_server::access::generate_key;
use serde_json::json;

use crate::server::Server;

const SECRET: &str = "a secret that is long enough for HS256";
const PATHS: [&str; 3] = ["/-/", "/-/stats", "/-/metrics"];

fn bearer(operator: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let claims = json!({"exp": now + 60, "longwire": {"subscribe": [">"], "operator": operator}});
    let token =
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
    format!("Bearer {}", token.expect("a token"))
}

#[tokio::test]
async fn with_rules_the_dashboard_requires_an_operator() {
    let (key, hash) = generate_key().expect("a key");
    let (other, other_hash) = generate_key().expect("a key");
    let server = Server::start(&format!(
        "[access.token]\nsecret = {SECRET:?}\n[access.anonymous]\nsubscribe = [\">\"]\n\
         [[access.key]]\nname = \"prometheus\"\nsha256 = \"{hash}\"\noperator = true\n\
         [[access.key]]\nname = \"backend\"\nsha256 = \"{other_hash}\"\npublish = [\">\"]\n"
    ));
    for path in PATHS {
        for (headers, status) in [
            (vec![], 403),
            (vec![("Authorization", bearer(false))], 403),
            (vec![("Authorization", bearer(true))], 200),
            (vec![("X-Api-Key", other.clone())], 403),
            (vec![("X-Api-Key", key.clone())], 200),
            (vec![("X-Api-Key", "lwk_x".to_owned())], 401),
            // Pages of another origin have no access.
            (vec![("X-Api-Key", key.clone()), ("Origin", "https://example.org".to_owned())], 403),
        ] {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let answer = server.ask("GET", path, &headers, b"").await;
            assert_eq!(answer.head.status, status, "{path} {headers:?}");
        }
    }
    // Pages without secrets are public.
    for path in ["/", "/-/raw", "/-/longwire.js", "/-/longwire.d.ts"] {
        assert_eq!(server.get(path).await.head.status, 200, "{path}");
    }
}

#[tokio::test]
async fn without_rules_the_dashboard_is_public() {
    let server = Server::start("");
    for path in PATHS {
        assert_eq!(server.get(path).await.head.status, 200, "{path}");
        assert_eq!(server.ask("POST", path, &[], b"x").await.head.status, 405, "{path}");
    }
    let first = server.get("/-/longwire.js").await;
    assert_eq!(first.head.header("cache-control"), Some("no-cache"));
    let tag = first.head.header("etag").expect("a tag").to_owned();
    let again = server.ask("GET", "/-/longwire.js", &[("If-None-Match", &tag)], b"").await;
    assert_eq!((again.head.status, again.head.header("etag")), (304, Some(&*tag)));
}
