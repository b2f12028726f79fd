//! Credentials of a request, and their result without a webhook.

use jsonwebtoken::Algorithm::HS256;
use longwire_server::access::{IdentityKind, generate_key};
use serde_json::json;

use super::*;

#[tokio::test]
async fn without_rules_everything_is_allowed() {
    let access = configured("");
    for headers in [&[][..], &[("authorization", "Bearer whatever")]] {
        let identity = access.connect(&request("/a", headers), FROM, now()).await.expect("open");
        assert_eq!((identity.kind(), identity.user(), identity.expires()), (IdentityKind::Open, None, None));
        assert!(identity.may_subscribe("a.b/c") && identity.may_publish("海"));
        assert!(!identity.may_subscribe("-/metrics") && !identity.may_publish("a..b"));
    }
}

#[tokio::test]
async fn api_keys() {
    let (key, sha256) = generate_key().expect("random bytes");
    let access = configured(&format!("[[key]]\nname = 'backend'\nsha256 = '{sha256}'\npublish = ['a.>']"));
    let shows: [&[(&str, &str)]; 2] =
        [&[("x-api-key", &key)], &[("authorization", &format!("Bearer {key}"))]];
    for headers in shows {
        let identity = access.connect(&request("/a", headers), FROM, now()).await.expect("known");
        assert_eq!((identity.kind(), identity.key()), (IdentityKind::Key, Some("backend")));
        assert!(identity.may_publish("a.b") && !identity.may_subscribe("a.b"));
    }
    for (headers, text) in [
        (&[][..], "credentials required; send a token as `Authorization: Bearer TOKEN`"),
        (&[("x-api-key", "lwk_wrong")], "unknown API key"),
        (&[("x-api-key", "")], "unknown API key"),
        (&[("authorization", "Bearer lwk_")], "unknown API key"),
        (&[("authorization", &format!("Bearer {sha256}"))], "this server does not accept tokens"),
        (
            &[("authorization", "Basic eDp5")],
            "credentials required; send a token as `Authorization: Bearer TOKEN`",
        ),
    ] {
        assert_eq!(refused(access.connect(&request("/a", headers), FROM, now()).await), (401, text.into()));
    }
    // API keys are not accepted in URLs, because logs would contain them.
    let query = access.connect(&request(&format!("/a?token={key}"), &[]), FROM, now()).await;
    assert_eq!(refused(query).0, 401);
}

#[tokio::test]
async fn missing_and_invalid_credentials() {
    let access = configured(&format!(
        "[token]\nsecret = '{SECRET}'\ncookie = 'session'\n[anonymous]\nsubscribe = ['public.>']"
    ));
    let identity = access.connect(&request("/a", &[]), FROM, now()).await.expect("anonymous");
    assert_eq!(identity.kind(), IdentityKind::Anonymous);
    assert!(
        identity.may_subscribe("public.a")
            && !identity.may_publish("public.a")
            && !identity.may_subscribe("a")
    );
    // Invalid credentials are not the same as none, wherever they appear.
    let good = token(HS256, "", None, &claims(json!({})));
    let bad = token(HS256, "", None, &claims(json!({ "exp": 1 })));
    for (shown, status) in [(&good, None), (&bad, Some(401))] {
        for (uri, name, value) in [
            ("/a".to_owned(), "authorization", format!("Bearer {shown}")),
            (format!("/a?x=y&token={shown}"), "x-other", String::new()),
            ("/a".to_owned(), "cookie", format!("other=1; session={shown}")),
            ("/a".to_owned(), "sec-websocket-protocol", format!("longwire.v1, bearer.{shown}")),
        ] {
            let outcome = access.connect(&request(&uri, &[(name, &value)]), FROM, now()).await;
            match status {
                None => assert_eq!(outcome.expect("good").kind(), IdentityKind::Token),
                Some(status) => assert_eq!(refused(outcome).0, status),
            }
        }
    }
    let without = configured(&format!("token.secret = '{SECRET}'\ntoken.query = false"));
    assert_eq!(
        refused(without.connect(&request(&format!("/a?token={good}"), &[]), FROM, now()).await).0,
        401
    );
}

#[tokio::test]
async fn without_a_webhook_the_rights_decide() {
    let access = configured(&format!("token.secret = '{SECRET}'"));
    assert_eq!(access.webhook_decides(), (false, false));
    let identity =
        connect_with_token(&access, &token(HS256, "", None, &claims(json!({})))).await.expect("good");
    assert!(access.subscribe(&identity, "a.海", now()).await.is_ok());
    assert!(access.publish(&identity, "a.b", b"", now()).await.is_ok());
    let refusal = access.publish(&identity, "a.c", b"", now()).await.expect_err("refused");
    assert_eq!((refusal.status().as_u16(), refusal.text()), (403, "not allowed to publish to a.c\n"));
    assert_eq!(access.subscribe(&identity, "b", now()).await.expect_err("refused").status(), 403);
}
