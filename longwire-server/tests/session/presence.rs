//! Presence in sessions.

use serde_json::json;

use crate::authorisation::{TOKENS, token};
use crate::server::{Server, config};

#[tokio::test]
async fn members_are_listed_once_then_changes_follow() {
    let server = Server::start(config(TOKENS));
    let mut ann = server.session(&token("ann")).await;
    assert_eq!(ann.welcome["user"], "ann");
    let answer =
        ann.request_reply(json!({"type": "subscribe", "channel": "rooms/一", "presence": true})).await;
    assert_eq!(answer["type"], "ok", "{answer}");
    let change = ann.event().await;
    assert_eq!(
        (&change["type"], &change["count"], &change["joined"]),
        (&json!("presence"), &json!(1), &json!(["ann"]))
    );

    let mut bob = server.session(&token("bob")).await;
    let answer =
        bob.request_reply(json!({"type": "subscribe", "channel": "rooms/一", "presence": true})).await;
    assert_eq!((&answer["presence"]["count"], &answer["presence"]["users"]), (&json!(1), &json!(["ann"])));
    for client in [&mut ann, &mut bob] {
        let change = client.event().await;
        assert_eq!((&change["count"], &change["joined"]), (&json!(2), &json!(["bob"])));
    }
    let members = bob.request_reply(json!({"type": "presence", "channel": "rooms/一"})).await;
    assert_eq!((&members["count"], &members["users"]), (&json!(2), &json!(["ann", "bob"])));

    // A second connection of a user is not reported as a join. Unsubscribing counts as leaving.
    let mut again = server.session(&token("ann")).await;
    again.request_reply(json!({"type": "subscribe", "channel": "rooms/一"})).await;
    let change = bob.event().await;
    assert_eq!((&change["count"], change.get("joined")), (&json!(3), None));
    again.request_reply(json!({"type": "unsubscribe", "channel": "rooms/一"})).await;
    assert_eq!(bob.event().await["count"], 2);
    drop(ann);
    let change = bob.event().await;
    assert_eq!((&change["count"], &change["left"]), (&json!(1), &json!(["ann"])));
}
