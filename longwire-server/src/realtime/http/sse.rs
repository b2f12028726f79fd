//! Server-sent events (WHATWG HTML 9.2): channels as a stream whose pace the client determines by reading.

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use longwire::Bytes;
use longwire::http::{HeaderMap, Response};
use tokio::time::{Interval, MissedTickBehavior};

use super::super::server_events::{Reply, ServerEvent};
use super::super::{Client, position};
use super::query::Query;
use super::response::{self, ErrorResponse};
use super::subscriptions::{ChannelSubscription, DeliveryMode, Event, Subscriptions};
use super::{Body, EndCondition, Http};
use crate::hub::{ChannelName, Position, Published};

/// How often a comment keeps the stream alive.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);

/// Target size of a chunk of events. A client that does not read holds this much and the last message in it.
const CHUNK_TARGET: usize = 16 * 1024;

/// The format of events.
#[derive(Clone, Copy)]
enum Form {
    /// For one channel: the message is the data of an event.
    One,
    /// For several channels: the data is a JSON object.
    Many,
}

/// An event stream.
struct Stream {
    subscriptions: Subscriptions,
    form: Form,
    /// Sent before anything else.
    first: String,
    comments: Interval,
    end: EndCondition,
    /// The stream is finished.
    over: bool,
    _who: Client,
}

impl Http {
    /// Streams one channel.
    pub(super) fn stream_of_one(
        &self,
        name: ChannelName,
        query: &Query,
        headers: &HeaderMap,
        client: Client,
    ) -> Result<Response<Body>, ErrorResponse> {
        // The browser's Last-Event-ID is more recent than the URL.
        let last = headers.get("last-event-id").filter(|id| !id.is_empty());
        let last = last.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        let after = last.as_ref().or(query.after.as_ref()).map(|after| position(after)).transpose()?;
        let (channel, start) =
            ChannelSubscription::open(&self.realtime, name, after, DeliveryMode::Live, client.user(), false)?;
        let mut first = String::new();
        write_open(&mut first, start.from, start.recovered);
        Ok(self.stream(vec![channel], Form::One, first, client))
    }

    /// Streams several channels and authorises each.
    pub(super) async fn stream_of_many(
        &self,
        query: &Query,
        client: Client,
    ) -> Result<Response<Body>, ErrorResponse> {
        let (channels, start) = self.open_channels(query, &client, DeliveryMode::Live).await?;
        let mut first = String::new();
        for start in &start {
            write_data(&mut first, &start.text);
        }
        Ok(self.stream(channels, Form::Many, first, client))
    }

    fn stream(
        &self,
        channels: Vec<ChannelSubscription>,
        form: Form,
        first: String,
        client: Client,
    ) -> Response<Body> {
        let mut comments =
            tokio::time::interval_at(tokio::time::Instant::now() + COMMENT_INTERVAL, COMMENT_INTERVAL);
        comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let subscriptions = Subscriptions::new(self.realtime.clone(), channels);
        let stream = Stream {
            subscriptions,
            form,
            first,
            comments,
            end: self.end_condition(&client),
            over: false,
            _who: client,
        };
        let frames = unfold(stream, async |mut stream| {
            let events = stream.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(events))), stream))
        });
        response::stream(StreamBody::new(frames).boxed_unsync())
    }
}

impl Stream {
    /// Returns the next events or a comment, or `None` at the end. Called when there is room to send them.
    async fn next(&mut self) -> Option<String> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        while !self.over && !self.end.has_ended() {
            let mut events = String::new();
            while events.len() < CHUNK_TARGET {
                match self.subscriptions.next() {
                    Ok(Some((name, event))) => self.form.write(&mut events, name, &event),
                    Ok(None) => break,
                    Err(_) => {
                        // The store has failed. The client reconnects and gets an error or continues.
                        self.over = true;
                        break;
                    }
                }
            }
            if !events.is_empty() {
                return Some(events);
            }
            if self.over {
                break;
            }
            tokio::select! {
                () = self.subscriptions.changed() => {}
                _ = self.comments.tick() => return Some(":\n\n".into()),
                () = self.end.wait() => break,
            }
        }
        None
    }
}

impl Form {
    fn write(self, out: &mut String, name: &ChannelName, event: &Event) {
        match (self, event) {
            (Self::One, Event::Message(published)) => write_message(out, published),
            (Self::One, Event::Gap(position)) => write_open(out, *position, Some(false)),
            (Self::Many, Event::Message(published)) => {
                write_data(out, &ServerEvent::Message { channel: name, message: published.into() }.to_json());
            }
            (Self::Many, Event::Gap(position)) => {
                let reply = Reply::Subscribed {
                    position: position.to_string(),
                    recovered: Some(false),
                    presence: None,
                };
                write_data(out, &ServerEvent::Subscribed { channel: name, reply: &reply }.to_json());
            }
            (_, Event::Presence(change)) => write_data(out, change),
        }
    }
}

/// Writes the opening event. A client that reconnects before its first message sends this position.
fn write_open(out: &mut String, position: Position, recovered: Option<bool>) {
    let recovered = recovered.map(|recovered| format!(",\"recovered\":{recovered}")).unwrap_or_default();
    let _ = write!(out, "id: {position}\nevent: open\ndata: {{\"position\":\"{position}\"{recovered}}}\n\n");
}

fn write_message(out: &mut String, published: &Published) {
    let _ = writeln!(out, "id: {}", published.position);
    match published.message.as_text() {
        Some(text) => write_data(out, text),
        None => {
            out.push_str("event: binary\n");
            write_data(out, &STANDARD.encode(published.message.as_bytes()));
        }
    }
}

/// Writes a `data` line per line; CR, LF and CRLF end a line (WHATWG HTML 9.2.5).
fn write_data(out: &mut String, text: &str) {
    let mut rest = text;
    loop {
        let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
        out.push_str("data: ");
        out.push_str(&rest[..end]);
        out.push('\n');
        let behind = &rest[end..];
        match behind.strip_prefix("\r\n").or_else(|| behind.strip_prefix(['\r', '\n'])) {
            Some(next) => rest = next,
            None => break,
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Parses as in WHATWG HTML 9.2.6, with lines that end in any of the three ways.
        #[test]
        fn any_text_arrives_with_its_lines(text in "(a|\r|\n|:|data|id: x| |你|👋|\u{85}|\u{2028}|\0)*") {
            let mut out = String::new();
            write_data(&mut out, &text);
            let block = out.strip_suffix("\n\n").expect("the end of an event");
            prop_assert!(!block.contains("\n\n") && !block.contains('\r'));
            let lines = block.split('\n').map(|line| line.strip_prefix("data: ").expect("data"));
            let read: Vec<_> = lines.collect();
            prop_assert_eq!(read.join("\n"), text.replace("\r\n", "\n").replace('\r', "\n"));
        }
    }
}
