//! Access control: tokens, API keys, fetched keys, and the webhook.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod connecting;
mod jwks;
mod server;
mod tokens;
mod webhook;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use longwire::Refusal;
use longwire::http::{Request, header};
use longwire_server::access::{Access, Identity};
use longwire_server::config;
use serde_json::{Value, json};

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const SECRET: &str = "a secret that is long enough: 🌊海";

/// The current time of all tests, in seconds since 1970. Some tokens are valid now.
const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn configured(toml: &str) -> Access {
    let config: config::Access = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}"));
    Access::new(&config).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the path of a file in `keys/`.
fn key_path(name: &str) -> String {
    format!("{}/tests/access/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

fn key(name: &str) -> Vec<u8> {
    std::fs::read(key_path(name)).expect("a key")
}

/// Returns a private key of `keys/`, or the secret.
fn signing(algorithm: Algorithm, name: &str) -> EncodingKey {
    let pem = || key(&format!("{name}.private"));
    match format!("{algorithm:?}").as_bytes() {
        [b'H', ..] => EncodingKey::from_secret(SECRET.as_bytes()),
        [b'R' | b'P', ..] => EncodingKey::from_rsa_pem(&pem()).expect("a key"),
        [b'E', b'S', ..] => EncodingKey::from_ec_pem(&pem()).expect("a key"),
        _ => EncodingKey::from_ed_pem(&pem()).expect("a key"),
    }
}

fn token(algorithm: Algorithm, name: &str, id: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &signing(algorithm, name)).expect("a token")
}

/// Returns valid claims with some replaced or added.
fn claims(more: Value) -> Value {
    let mut claims =
        json!({ "sub": "李雷", "exp": NOW + 60, "longwire": { "subscribe": ["a.*"], "publish": ["a.b"] } });
    for (name, value) in more.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

async fn connect_with_token(access: &Access, token: &str) -> Result<Identity, Refusal> {
    let request = request("/a.b", &[("authorization", &format!("Bearer {token}"))]);
    access.connect(&request, FROM, now()).await
}

/// Returns status and text of a refusal.
fn refused(outcome: Result<Identity, Refusal>) -> (u16, String) {
    let refusal = outcome.expect_err("refused");
    let challenged = refusal.headers().contains_key(header::WWW_AUTHENTICATE);
    assert_eq!(refusal.status() == 401, challenged, "RFC 9110 15.5.2");
    let waits = refusal.headers().contains_key(header::RETRY_AFTER);
    assert_eq!([429, 503].contains(&refusal.status().as_u16()), waits);
    (refusal.status().as_u16(), refusal.text().trim().to_owned())
}
