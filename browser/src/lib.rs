//! The page's side of the tests. Each function returns a text that the test compares.
#![cfg(target_family = "wasm")]
#![allow(unsafe_code, unreachable_pub, reason = "wasm-bindgen writes the one and needs the other")]

mod endings;
mod feed;
mod limits;
mod talk;

use js_sys::{Function, Promise, Reflect};
use longwire::{Closed, Error};
use wasm_bindgen::{JsCast, JsError};
use wasm_bindgen_futures::JsFuture;

type Outcome = Result<String, JsError>;

/// Fails with a text.
fn fail<T>(text: impl AsRef<str>) -> Result<T, JsError> {
    Err(JsError::new(text.as_ref()))
}

/// Which side closed the connection, with which code and reason.
fn ending(closed: Option<&Closed>) -> String {
    match closed {
        None => "not closed".into(),
        Some(Closed { by, frame: None, .. }) => format!("{by:?} without a code"),
        Some(Closed { by, frame: Some(frame), .. }) => format!("{by:?} {} {}", frame.code, frame.reason),
    }
}

fn name_of(error: &Error) -> String {
    format!("{}: {error:#}", error.cause().map_or("none", longwire::Cause::name))
}

/// Lets the browser run its event loop for a time.
async fn pause(millis: i32) -> Result<(), JsError> {
    let promise = Promise::new(&mut |resolve, _| {
        let set_timeout = Reflect::get(&js_sys::global(), &"setTimeout".into()).unwrap_or_default();
        let _ = set_timeout.unchecked_into::<Function>().call2(&js_sys::global(), &resolve, &millis.into());
    });
    JsFuture::from(promise).await.map(drop).or_else(|_| fail("setTimeout failed"))
}
