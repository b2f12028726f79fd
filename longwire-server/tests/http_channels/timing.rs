//! Timeouts and intervals, with a paused clock.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Frame;
use longwire::Bytes;
use longwire::http::{Method, Request, Response};
use longwire_server::realtime::Realtime;
use longwire_server::realtime::http::{Body, Http};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Event;
use crate::server::config;

fn http() -> Http {
    Http::new(Realtime::new(config("")).expect("channels"))
}

async fn get(http: &Http, path: &str, accept: &str) -> Response<Body> {
    let request =
        Request::builder().uri(path).header("accept", accept).body(Empty::<Bytes>::new()).expect("a request");
    let http = http.clone();
    // The server may run it on any thread.
    tokio::spawn(async move { http.handle(request, ([192, 0, 2, 1], 1).into()).await })
        .await
        .expect("an answer")
}

async fn json_of(response: Response<Body>) -> Value {
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.into_body().collect().await.expect("a body").to_bytes()).expect("JSON")
}

#[tokio::test(start_paused = true)]
async fn a_poll_waits_as_long_as_requested() {
    let http = http();
    let position =
        json_of(get(&http, "/a", "*/*").await).await["position"].as_str().expect("a position").to_owned();
    for wait in [0, 1, 60] {
        for path in [
            format!("/a?after={position}&wait={wait}"),
            format!("/-/events?channel=a&after={position}&wait={wait}"),
        ] {
            let began = Instant::now();
            json_of(get(&http, &path, "application/json").await).await;
            let waited = began.elapsed();
            let wait = Duration::from_secs(wait);
            assert!(waited >= wait && waited < wait + Duration::from_millis(100), "{path} {waited:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_sends_a_comment_every_fifteen_seconds() {
    let http = http();
    for path in ["/a", "/-/events?channel=a"] {
        let mut body = get(&http, path, "text/event-stream").await.into_body();
        let mut next = async || {
            let frame = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
            Event::parse(
                std::str::from_utf8(&frame).expect("UTF-8").strip_suffix("\n\n").expect("whole events"),
            )
        };
        assert!(!next().await.comment);
        let began = Instant::now();
        for count in 1..=8 {
            assert!(next().await.comment);
            let passed = began.elapsed().as_secs_f64();
            assert!((passed - 15.0 * f64::from(count)).abs() < 0.5, "{path} {count} {passed}");
        }
    }
}

#[tokio::test]
async fn chunks_of_a_stream_are_small() {
    const FRAME: usize = 16 * 1024;
    let realtime = Realtime::new(config("[[channel]]\npattern = \">\"\nhistory = { messages = 1000 }\n"))
        .expect("channels");
    let http = Http::new(realtime.clone());
    let name = longwire_server::hub::ChannelName::new("房间").expect("a name");
    let large = "大".repeat(FRAME);
    for text in (0..400).map(|number| format!("{number:0300}")).chain([large.clone()]) {
        realtime.publish(&name, text).expect("published");
    }
    let begin = realtime.hub().history(&name, None, 1, realtime.now()).expect("a page").messages[0].position;
    let begin = longwire_server::hub::Position { offset: begin.offset - 1, ..begin };
    for path in [
        format!("/%E6%88%BF%E9%97%B4?after={begin}"),
        format!("/-/events?channel=%E6%88%BF%E9%97%B4&after={begin}"),
    ] {
        let mut body = get(&http, &path, "text/event-stream").await.into_body();
        let (mut frames, mut messages) = (0, 0);
        while messages < 401 {
            let frame = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
            // The target size plus the last message.
            assert!(frame.len() < FRAME + large.len() + 500, "{}", frame.len());
            let text = std::str::from_utf8(&frame).expect("UTF-8");
            messages += text.matches("data: ").count() - usize::from(frames == 0);
            frames += 1;
        }
        assert!((6..=12).contains(&frames), "{path} {frames}");
    }
}

/// A body that never completes.
struct Stuck;

impl hyper::body::Body for Stuck {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_times_out_after_half_a_minute() {
    let http = http();
    for path in ["/a", "/-/publish", "/-/history", "/-/presence"] {
        let request = Request::builder().method(Method::POST).uri(path).body(Stuck).expect("a request");
        let began = Instant::now();
        let response = http.handle(request, ([192, 0, 2, 1], 1).into()).await;
        assert_eq!(response.status(), 408);
        assert_eq!(response.headers().get("connection").map(|close| close.as_bytes()), Some(&b"close"[..]));
        assert!(began.elapsed() >= Duration::from_secs(30) && began.elapsed() < Duration::from_secs(31));
    }
    let position = json_of(get(&http, "/a", "*/*").await).await;
    assert_eq!(position["messages"], json!([]));
}

#[tokio::test]
async fn other_paths_are_not_served() {
    let http = http();
    for (path, serves) in [
        ("/a", true),
        ("/rooms/%E4%B8%80", true),
        ("/-/events", true),
        ("/-/publish", true),
        ("/-/history", true),
        ("/-/presence", true),
        ("/", true),
        ("/-/", true),
        ("/-/longwire.js", true),
        ("/-/stats", true),
        ("/-/metrics", true),
        ("/-/longwire", false),
        ("/-/healthy", false),
        ("/-/events/", false),
        ("*", false),
        ("", false),
    ] {
        assert_eq!(Http::has_route(path), serves, "{path}");
    }
    assert_eq!(get(&http, "/-/healthy", "*/*").await.status(), 404);
}
