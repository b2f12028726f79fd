//! The table of the lifecycle on the driver for Tokio, over paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../longwire-proto/tests/support/lifecycle_rows.rs"]
mod lifecycle_rows;
mod support;

use lifecycle_rows::{Act, Row, ms, opcodes, rows};
use longwire::{Error, Role, Sender};
use support::wire::Wire;
use support::{client_on, server_on};
use tokio::time::{Instant, sleep_until};

fn act(act: &Act, role: Role, wire: &Wire, sender: &Sender<Wire>) {
    match act {
        Act::Sends(..) => wire.input(act.bytes(role).unwrap()),
        Act::Ends => wire.eof(),
        Act::ReadFails(kind) => wire.read_error(*kind),
        Act::WritesFail(kind) => wire.write_error(*kind),
        Act::Takes(count) => wire.room(*count),
        Act::Queues(count) => sender.try_send(vec![7; *count]).unwrap(),
        Act::Closes => sender.start_close(1000, "").unwrap(),
    }
}

async fn run(row: &Row, role: Role) {
    let wire = Wire::new();
    let ws = match role {
        Role::Server => server_on(&wire, row.config(role)).await,
        Role::Client => client_on(&wire, row.config(role)).await,
    };
    let start = Instant::now();
    let (sender, mut receiver) = ws.split();
    let receives = tokio::spawn(async move {
        let error = loop {
            match receiver.recv().await {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        (error, receiver.closed(), start.elapsed())
    });
    for (at, what) in &row.script {
        sleep_until(start + ms(*at)).await;
        if !receives.is_finished() {
            act(what, role, &wire, &sender);
        }
    }
    let (error, closed, at) = support::soon(receives).await.unwrap();
    let (name, end) = (row.name, &row.end);
    let cause = match (&error, &closed) {
        (Some(error), None) => error.cause().expect("it ended the connection"),
        (None, Some(closed)) => closed.cause(),
        both => panic!("{name}, {role:?}: {both:?}"),
    };
    assert_eq!(cause.name(), end.cause, "{name}, {role:?}: {error:?}");
    match (&error, closed) {
        (None, Some(closed)) => assert_eq!(closed.frame.unwrap().code, end.code, "{name}, {role:?}"),
        (Some(Error::Protocol(error)), _) => assert_eq!(error.close_code(), end.code, "{name}, {role:?}"),
        _ => {}
    }
    // Tokio's clock counts in milliseconds, and rounds up.
    let at = u64::try_from(at.as_millis()).unwrap();
    assert!((end.at.0..=end.at.1 + 1).contains(&at), "{name}, {role:?}: at {at} ms");
    assert_eq!(opcodes(&wire.take_written()), end.sent, "{name}, {role:?}");
}

#[tokio::test(start_paused = true)]
async fn every_row_in_every_role() {
    for row in rows() {
        for &role in row.roles {
            run(&row, role).await;
        }
    }
}
