//! Tokens: every way to be invalid, and the rights of valid ones.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm::{self, ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, RS256, RS384, RS512};
use longwire_server::access::{IdentityKind, TOKEN_MAX};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn with_secret(more: &str) -> Access {
    configured(&format!("[token]\nsecret = '{SECRET}'\n{more}"))
}

fn encoded(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

#[tokio::test]
async fn a_valid_token_grants_its_claims() {
    let access = with_secret("");
    let identity =
        connect_with_token(&access, &token(HS256, "", None, &claims(json!({})))).await.expect("good");
    assert_eq!((identity.kind(), identity.user().map(|user| &**user)), (IdentityKind::Token, Some("李雷")));
    assert!(
        identity.may_subscribe("a.海") && !identity.may_subscribe("a.b.c") && !identity.may_subscribe("b")
    );
    assert!(identity.may_publish("a.b") && !identity.may_publish("a.c"));
    // The expiry time plus the leeway.
    assert_eq!(identity.expires(), Some(now() + Duration::from_secs(90)));
}

#[tokio::test]
async fn every_algorithm() {
    for (algorithm, name) in [
        (HS256, ""),
        (HS384, ""),
        (HS512, ""),
        (RS256, "rsa"),
        (RS384, "rsa"),
        (RS512, "rsa"),
        (PS256, "rsa"),
        (ES256, "p256"),
        (ES384, "p384"),
        (EdDSA, "ed25519"),
    ] {
        let source = match name {
            "" => format!("secret = '{SECRET}'"),
            name => format!("key_file = '{}'", key_path(name)),
        };
        let access = configured(&format!("[token]\n{source}\nalgorithm = '{algorithm:?}'"));
        let good = token(algorithm, name, Some("any"), &claims(json!({})));
        assert!(connect_with_token(&access, &good).await.is_ok(), "{algorithm:?}");
        // Flip one bit of the signed message and of the signature.
        let (message, signature) = good.rsplit_once('.').expect("three parts");
        let (header, payload) = message.split_once('.').expect("three parts");
        let other = encoded(&claims(json!({ "sub": "韩梅梅" })).to_string());
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        bytes[7] ^= 1;
        for forged in [
            format!("{header}.{other}.{signature}"),
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes)),
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes[1..])),
            format!("{message}."),
            format!("{header}.{payload}.AAAA"),
        ] {
            let said = refused(connect_with_token(&access, &forged).await);
            assert_eq!(said, (401, "the signature of the token is invalid".into()), "{algorithm:?}");
        }
    }
}

#[tokio::test]
async fn time_audience_issuer_user_and_rights() {
    let strict = with_secret("audience = ['longwire', 'other']\nissuer = ['https://id.example']");
    let plain = with_secret("");
    let lax = with_secret("require_exp = false\nleeway = 0");
    let meant = json!({ "aud": "longwire", "iss": "https://id.example" });
    let with = |more: Value| {
        let mut all = meant.clone();
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let (expired, not_yet) = ("the token has expired (exp)", "the token is not valid yet (nbf)");
    let (audience, issuer) =
        ("the token is for another audience (aud)", "the token has an unaccepted issuer (iss)");
    let (malformed, rights) =
        ("malformed token (RFC 7519 7.2)", "the token has an invalid pattern (longwire)");
    let user = "the user name in the token (sub) must have 1 to 255 bytes and no control characters";
    for (access, more, wrong) in [
        (&plain, json!({}), None),
        // The last valid moment and the first invalid one, with a leeway of 30 s.
        (&plain, json!({ "exp": NOW - 29 }), None),
        (&plain, json!({ "exp": NOW - 30 }), Some(expired)),
        (&plain, json!({ "exp": 0 }), Some(expired)),
        (&plain, json!({ "exp": NOW as f64 + 0.5 }), None),
        (&plain, json!({ "nbf": NOW + 30 }), None),
        (&plain, json!({ "nbf": NOW + 31 }), Some(not_yet)),
        (&plain, json!({ "exp": null }), Some("the token has no expiry time (exp)")),
        (&plain, json!({ "exp": "1800000060" }), Some(malformed)),
        (&plain, json!({ "exp": -1 }), Some(malformed)),
        (&plain, json!({ "exp": 1e300 }), Some(malformed)),
        (&plain, json!({ "exp": 253_402_300_799_u64 }), None),
        (&plain, json!({ "exp": 253_402_300_800_u64 }), Some(malformed)),
        (&plain, json!({ "nbf": [] }), Some(malformed)),
        (&lax, json!({ "exp": null }), None),
        (&lax, json!({ "exp": NOW + 1 }), None),
        (&lax, json!({ "exp": NOW }), Some(expired)),
        (&lax, json!({ "nbf": NOW + 1 }), Some(not_yet)),
        // Without configured audiences and issuers, they are not checked.
        (&plain, json!({ "aud": "somebody", "iss": "somebody" }), None),
        (&strict, with(json!({})), None),
        (&strict, with(json!({ "aud": ["x", "other"] })), None),
        (&strict, with(json!({ "aud": "x" })), Some(audience)),
        (&strict, with(json!({ "aud": ["x"] })), Some(audience)),
        (&strict, with(json!({ "aud": [] })), Some(audience)),
        (&strict, with(json!({ "aud": null })), Some(audience)),
        (&strict, with(json!({ "aud": "LONGWIRE" })), Some(audience)),
        (&strict, with(json!({ "aud": 7 })), Some(malformed)),
        (&strict, with(json!({ "iss": "https://id.example/" })), Some(issuer)),
        (&strict, with(json!({ "iss": null })), Some(issuer)),
        (&strict, with(json!({ "iss": ["https://id.example"] })), Some(malformed)),
        (&plain, json!({ "sub": null }), None),
        (&plain, json!({ "sub": "a".repeat(255) }), None),
        (&plain, json!({ "sub": "a".repeat(256) }), Some(user)),
        (&plain, json!({ "sub": "" }), Some(user)),
        (&plain, json!({ "sub": "a\r\nb" }), Some(user)),
        (&plain, json!({ "sub": 7 }), Some(malformed)),
        (&plain, json!({ "longwire": { "subscribe": ["a*"] } }), Some(rights)),
        (&plain, json!({ "longwire": { "subscribe": "a" } }), Some(rights)),
        (&plain, json!({ "longwire": { "publish": ["a..b"] } }), Some(rights)),
        (&plain, json!({ "longwire": { "publish": ["a\u{0}"] } }), Some(rights)),
        (&plain, json!({ "longwire": { "publish": vec!["a"; 256] } }), None),
        (&plain, json!({ "longwire": { "publish": vec!["a"; 257] } }), Some(rights)),
        (&plain, json!({ "longwire": [] }), Some(rights)),
        (&plain, json!({ "longwire": [["a"], ["a"]] }), Some(rights)),
        (&plain, json!({ "longwire": "all" }), Some(rights)),
    ] {
        let shown = connect_with_token(access, &token(HS256, "", None, &claims(more.clone()))).await;
        match wrong {
            None => assert!(shown.is_ok(), "{more} {shown:?}"),
            Some(text) => assert_eq!(refused(shown), (401, text.into()), "{more}"),
        }
    }
}

#[tokio::test]
async fn missing_rights_are_not_granted() {
    let access = with_secret("");
    for more in [
        json!({ "longwire": null }),
        json!({ "longwire": {} }),
        json!({ "longwire": { "other": ["a"] } }),
        json!({ "longwire": { "subscribe": [] } }),
        // Patterns are not percent-decoded: these are literal names.
        json!({ "longwire": { "subscribe": ["%2a", "a%2Eb", "%3E"] } }),
    ] {
        let identity =
            connect_with_token(&access, &token(HS256, "", None, &claims(more.clone()))).await.expect("good");
        for name in ["a", "a.b", "a.*", ">", "%", ""] {
            assert!(!identity.may_subscribe(name) && !identity.may_publish(name), "{more} {name}");
        }
    }
    let all = claims(json!({ "longwire": { "subscribe": [">"], "publish": [">"] } }));
    let identity = connect_with_token(&access, &token(HS256, "", None, &all)).await.expect("good");
    for name in ["a..b", "../a", "-/metrics", "a\0", "*", ">", "a.*"] {
        assert!(!identity.may_subscribe(name) && !identity.may_publish(name), "{name}");
    }
}

#[tokio::test]
async fn the_key_determines_the_algorithm() {
    let rsa = configured(&format!("[token]\nkey_file = '{}'", key_path("rsa")));
    let algorithm = "the algorithm of the token does not match its key";
    // The oldest attack: the public key as the secret of an HMAC.
    for secret in [key("rsa"), String::from_utf8(key("rsa")).expect("text").trim().into()] {
        let confused =
            jsonwebtoken::encode(&Header::new(HS256), &claims(json!({})), &EncodingKey::from_secret(&secret));
        assert_eq!(
            refused(connect_with_token(&rsa, &confused.expect("a token")).await),
            (401, algorithm.into())
        );
    }
    // A valid signature by another algorithm of the same family.
    for other in [RS384, RS512, PS256] {
        assert_eq!(
            refused(connect_with_token(&rsa, &token(other, "rsa", None, &claims(json!({})))).await),
            (401, algorithm.into())
        );
    }
    let (_, signature) = token(RS256, "rsa", None, &claims(json!({})))
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("parts");
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"NONE"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":"rs256"}"#,
        r#"{"alg":"RS256 "}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"ES256"}"#,
    ] {
        for signature in ["", &signature] {
            let forged =
                format!("{}.{}.{signature}", encoded(header), encoded(&claims(json!({})).to_string()));
            assert_eq!(refused(connect_with_token(&rsa, &forged).await), (401, algorithm.into()), "{header}");
        }
    }
    let other = token(RS256, "other_rsa", None, &claims(json!({})));
    assert_eq!(
        refused(connect_with_token(&rsa, &other).await),
        (401, "the signature of the token is invalid".into())
    );
    // Keys inside the token are ignored.
    let brought = format!(
        "{}.{}.{signature}",
        encoded(
            r#"{"alg":"RS256","jwk":{"kty":"oct","k":"AAAA"},"jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/"}"#
        ),
        encoded(&claims(json!({})).to_string())
    );
    assert_eq!(
        refused(connect_with_token(&rsa, &brought).await),
        (401, "the signature of the token is invalid".into())
    );
}

#[tokio::test]
async fn malformed_tokens() {
    let access = with_secret("");
    let good = token(HS256, "", None, &claims(json!({})));
    let good_claims = encoded(&claims(json!({})).to_string());
    let no_algorithm = format!("{}.{good_claims}.", encoded("{}"));
    let twice = format!("{}.{good_claims}.", encoded(r#"{"alg":"HS256","alg":"none"}"#));
    let list = format!("{}.{good_claims}.", encoded(r#"["HS256"]"#));
    let number = format!("{}.{good_claims}.", encoded(r#"{"alg":7}"#));
    let key_number = format!("{}.{good_claims}.", encoded(r#"{"alg":"HS256","kid":7}"#));
    for text in [
        "a",
        "a.b",
        "..",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        "e30.e30.e30",
        &format!("={good}"),
        &no_algorithm,
        &twice,
        &list,
        &number,
        &key_number,
        // Five parts are an encrypted token (RFC 7516).
        "e30.e30.e30.e30.e30",
    ] {
        let (status, said) = refused(connect_with_token(&access, text).await);
        assert_eq!((status, &*said), (401, "malformed token (RFC 7519 7.2)"), "{text}");
    }
    let critical = format!("{}.{good_claims}.", encoded(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#));
    assert!(refused(connect_with_token(&access, &critical).await).1.contains("RFC 7515 4.1.11"));
    // The maximum length, and one byte more.
    let padded = |bytes: usize| token(HS256, "", None, &claims(json!({ "pad": "x".repeat(bytes) })));
    let long = (5000..7000).map(padded).find(|token| token.len() >= TOKEN_MAX - 1).expect("some length fits");
    assert!(long.len() <= TOKEN_MAX && connect_with_token(&access, &long).await.is_ok(), "{}", long.len());
    let longer = format!("{long}{}", "A".repeat(TOKEN_MAX + 1 - long.len()));
    assert_eq!(
        refused(connect_with_token(&access, &longer).await),
        (401, "the token is longer than 8 KiB".into())
    );
    assert_eq!(
        refused(connect_with_token(&access, &"A".repeat(1 << 20)).await),
        (401, "the token is longer than 8 KiB".into())
    );
}

#[tokio::test]
async fn several_keys_in_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jwks.json");
    let jwk = |algorithm: Algorithm, name: &str, id: Option<&str>| {
        let jwk =
            jsonwebtoken::jwk::Jwk::from_encoding_key(&signing(algorithm, name), algorithm).expect("a key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(id);
        jwk
    };
    let mut without_algorithm = jwk(ES384, "p384", Some("no-alg"));
    without_algorithm.as_object_mut().expect("an object").remove("alg");
    let mut encrypts = jwk(RS256, "other_rsa", Some("enc"));
    encrypts["use"] = json!("enc");
    let mut signs = jwk(RS256, "other_rsa", Some("sign-only"));
    signs["key_ops"] = json!(["sign"]);
    let mut mismatched = jwk(EdDSA, "ed25519", Some("mismatched"));
    mismatched["alg"] = json!("ES256");
    let unknown = json!({ "kty": "AKP", "kid": "future", "alg": "ML-DSA-44", "pub": "AAAA" });
    let keys = json!({ "keys": [
        unknown, encrypts, signs, mismatched, without_algorithm, jwk(RS256, "rsa", Some("one")), jwk(ES256, "p256", Some("two")), jwk(HS256, "", Some("secret")),
        { "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1" }, {}, 7,
    ] });
    std::fs::write(&path, keys.to_string()).expect("written");
    let access = configured(&format!("token.key_file = '{}'", path.display()));
    let good = claims(json!({}));
    for (algorithm, name, id, wrong) in [
        (RS256, "rsa", Some("one"), None),
        (ES256, "p256", Some("two"), None),
        (ES384, "p384", Some("no-alg"), None),
        (HS256, "", Some("secret"), None),
        (RS256, "rsa", None, None),
        (ES256, "p256", None, None),
        (RS256, "rsa", Some("two"), Some("the algorithm of the token does not match its key")),
        (RS256, "other_rsa", Some("one"), Some("the signature of the token is invalid")),
        (RS256, "rsa", Some("One"), Some("unknown token key (kid)")),
        (RS256, "other_rsa", Some("enc"), Some("unknown token key (kid)")),
        (RS256, "other_rsa", Some("sign-only"), Some("unknown token key (kid)")),
        (EdDSA, "ed25519", Some("mismatched"), Some("unknown token key (kid)")),
        (EdDSA, "ed25519", None, Some("the algorithm of the token does not match its key")),
    ] {
        let shown = connect_with_token(&access, &token(algorithm, name, id, &good)).await;
        match wrong {
            None => assert!(shown.is_ok(), "{algorithm:?} {id:?} {shown:?}"),
            Some(text) => assert_eq!(refused(shown).1, text, "{algorithm:?} {id:?}"),
        }
    }
}

#[tokio::test]
async fn the_number_of_tried_keys_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jwks.json");
    let secret = |text: &str| json!({ "kty": "oct", "k": encoded(text) });
    for (others, status) in [(7, None), (8, Some(401))] {
        let mut keys = vec![secret("another secret that is long enough, too"); others];
        keys.push(secret(SECRET));
        std::fs::write(&path, json!({ "keys": keys }).to_string()).expect("written");
        let access = configured(&format!("token.key_file = '{}'", path.display()));
        let shown = connect_with_token(&access, &token(HS256, "", None, &claims(json!({})))).await;
        match status {
            None => assert!(shown.is_ok()),
            Some(status) => assert_eq!(refused(shown).0, status),
        }
    }
}

#[test]
fn files_without_valid_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let many = |count: usize| {
        json!({ "keys": vec![json!({ "kty": "oct", "k": encoded(SECRET) }); count] }).to_string()
    };
    let rsa = |bytes: usize| {
        json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(vec![0xff; bytes]), "e": "AQAB" }).to_string()
    };
    for (setting, content, expected) in [
        ("key_file", rsa(255), "an RSA key must have 2048 to 4096 bits"),
        ("key_file", rsa(513), "to 4096 bits"),
        ("key_file", String::from_utf8(key("rsa.private")).expect("text"), "this is a private key"),
        (
            "key_file",
            String::from_utf8(key("rsa_1024")).expect("text"),
            "an RSA key must have 2048 to 4096 bits",
        ),
        ("key_file", "ssh-rsa AAAA".into(), "unsupported key file"),
        ("key_file", String::new(), "unsupported key file"),
        ("key_file", "{".into(), "invalid JSON"),
        ("key_file", r#"{"keys": 7}"#.into(), "`keys` must be a list"),
        ("key_file", r#"{"keys": []}"#.into(), "no usable key: the set is empty"),
        (
            "key_file",
            r#"{"kty": "oct", "k": "AAAA"}"#.into(),
            "no usable key: a secret must have at least 32 bytes",
        ),
        (
            "key_file",
            r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB"}"#.into(),
            "no usable key: an RSA key must have 2048",
        ),
        ("key_file", many(65), "the maximum is 64"),
        ("key_file", "x".repeat(256 * 1024 + 1), "is larger than 256 KiB"),
        ("secret_file", "short\n".into(), "a secret must have at least 32 bytes"),
        ("secret_file", String::from_utf8(key("rsa")).expect("text"), "this is a PEM file, not a secret"),
    ] {
        std::fs::write(&path, &content).expect("written");
        let config: config::Access =
            toml::from_str(&format!("token.{setting} = '{}'", path.display())).expect("valid");
        let error = Access::new(&config).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    for (setting, content) in [
        ("key_file", rsa(256)),
        ("key_file", rsa(512)),
        ("key_file", many(64)),
        ("secret_file", format!("{SECRET}\r\n")),
    ] {
        std::fs::write(&path, &content).expect("written");
        let config: config::Access =
            toml::from_str(&format!("token.{setting} = '{}'", path.display())).expect("valid");
        assert!(Access::new(&config).is_ok());
    }
    let config: config::Access = toml::from_str("token.key_file = '/nowhere/at/all'").expect("valid");
    assert!(Access::new(&config).expect_err("the set is empty").starts_with("cannot read /nowhere/at/all"));
}

#[tokio::test]
async fn a_token_is_renewed_by_one_of_the_same_user() {
    let access = with_secret("");
    let identity =
        connect_with_token(&access, &token(HS256, "", None, &claims(json!({})))).await.expect("good");
    let later =
        token(HS256, "", None, &claims(json!({ "exp": NOW + 3600, "longwire": { "subscribe": ["b"] } })));
    let renewed = access.renew(&identity, &later, now()).await.expect("good");
    assert_eq!(renewed.expires(), Some(now() + Duration::from_secs(3630)));
    assert!(renewed.may_subscribe("b") && !renewed.may_subscribe("a.b"));
    let other = token(HS256, "", None, &claims(json!({ "sub": "韩梅梅" })));
    assert_eq!(refused(access.renew(&identity, &other, now()).await).0, 403);
    let expired = token(HS256, "", None, &claims(json!({ "exp": NOW - 60 })));
    assert_eq!(refused(access.renew(&identity, &expired, now()).await).0, 401);
}

proptest! {
    #[test]
    fn no_token_causes_a_panic(
        header in "\\{(\"(alg|kid|crit|x)\":(\"[A-Z0-9a-z]{0,6}\"|[0-9]{1,3}|null),?){0,4}\\}|\\PC{0,20}",
        payload in "\\PC{0,40}", signature in "[A-Za-z0-9_=.-]{0,40}", raw in "\\PC{0,60}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let access = with_secret("");
        for text in [format!("{}.{}.{signature}", encoded(&header), encoded(&payload)), raw] {
            if let Ok(shown) = longwire::http::HeaderValue::try_from(format!("Bearer {text}")) {
                let mut request = request("/a", &[]);
                request.headers_mut().insert("authorization", shown);
                prop_assert!(runtime.block_on(access.connect(&request, FROM, now())).is_err());
            }
        }
    }
}
