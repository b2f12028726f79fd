//! Formats a snapshot of the counters in the text format of Prometheus.

use std::fmt::Write;

use crate::observe::counters::Snapshot;

impl Snapshot {
    /// Formats the counts for Prometheus (`text/plain; version=0.0.4`), with `prefix` and `_` in front of each name.
    /// Characters of `prefix` that are not allowed in a name become `_`.
    ///
    /// | name | labels |
    /// |---|---|
    /// | `connections_open` | |
    /// | `connections_opened_total` | |
    /// | `connections_ended_total` | `cause`, `code`, as in [`ended`](Self::ended) |
    /// | `handshakes_failed_total` | `reason`, as in [`not_opened`](Self::not_opened) |
    /// | `messages_total`, `payload_bytes_total` | `direction` (`received`, `sent`), `kind` (`text`, `binary`) |
    /// | `wire_bytes_total` | `direction` |
    /// | `control_frames_total` | `direction`, `kind` (`ping`, `pong`), as in [`Traffic`](crate::Traffic) |
    /// | `messages_dropped_total`, `messages_replaced_total` | |
    /// | `http_requests_total`, `accept_errors_total` | |
    ///
    /// The compression ratio for large messages is `rate(P_wire_bytes_total) / rate(P_payload_bytes_total)`.
    pub fn prometheus(&self, prefix: &str) -> String {
        let mut page = Page { prefix: name(prefix), text: String::new() };
        page.family("connections_open", "gauge", "Open WebSockets", &[("", self.open)]);
        page.one("connections_opened", "WebSockets opened", self.opened);
        page.family(
            "connections_ended_total",
            "counter",
            "WebSockets ended, by cause and close code",
            &self.ended.iter().map(|ended| (ended.labels(), ended.count)).collect::<Vec<_>>(),
        );
        page.family(
            "handshakes_failed_total",
            "counter",
            "Opening handshakes failed, by status or cause",
            &self.not_opened.iter().map(|one| (label("reason", one.reason), one.count)).collect::<Vec<_>>(),
        );
        let ways = [("received", &self.received), ("sent", &self.sent)];
        let both = |one: &str, other: &str| {
            ways.map(|(way, _)| [one, other].map(|kind| label("direction", way) + "," + &label("kind", kind)))
        };
        let [[received_0, received_1], [sent_0, sent_1]] = both("text", "binary");
        let kinds = [received_0, received_1, sent_0, sent_1];
        let row = |counts: [u64; 4]| kinds.clone().into_iter().zip(counts).collect::<Vec<_>>();
        let (received, sent) = (self.received, self.sent);
        page.family(
            "messages_total",
            "counter",
            "Messages",
            &row([received.texts, received.binaries, sent.texts, sent.binaries]),
        );
        page.family(
            "payload_bytes_total",
            "counter",
            "Bytes of messages before compression",
            &row([received.text_bytes, received.binary_bytes, sent.text_bytes, sent.binary_bytes]),
        );
        page.family(
            "wire_bytes_total",
            "counter",
            "Bytes of frames on the wire",
            &ways.map(|(way, traffic)| (label("direction", way), traffic.wire_bytes)),
        );
        let [[ping_received, pong_received], [ping_sent, _]] = both("ping", "pong");
        page.family(
            "control_frames_total",
            "counter",
            "Pings and Pongs",
            &[(ping_received, received.pings), (pong_received, received.pongs), (ping_sent, sent.pings)],
        );
        page.one("messages_dropped", "Messages dropped for slow consumers", self.dropped);
        page.one("messages_replaced", "Messages replaced by later ones for slow consumers", self.replaced);
        page.one("http_requests", "Requests for plain HTTP", self.http);
        page.one("accept_errors", "Connections that could not be accepted", self.accept_errors);
        page.text
    }
}

impl crate::observe::counters::Ended {
    fn labels(&self) -> String {
        label("cause", self.cause) + "," + &label("code", self.code)
    }
}

fn label(name: &str, value: &str) -> String {
    // The values are names of ours, which contain nothing to escape.
    format!("{name}=\"{value}\"")
}

/// Makes a valid beginning of a metric name.
fn name(prefix: &str) -> String {
    let begins = prefix.chars().next().is_some_and(|first| first.is_ascii_digit());
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' };
    begins.then_some('_').into_iter().chain(prefix.chars().map(allowed)).collect()
}

struct Page {
    prefix: String,
    text: String,
}

impl Page {
    fn one(&mut self, name: &str, help: &str, count: u64) {
        self.family(&format!("{name}_total"), "counter", help, &[("", count)]);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, rows: &[(impl AsRef<str>, u64)]) {
        let Self { prefix, text } = self;
        let full = format!("{prefix}_{name}");
        let mut lines = format!("# HELP {full} {help}\n# TYPE {full} {kind}\n");
        for (labels, count) in rows {
            let labels = labels.as_ref();
            let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{full}{open}{labels}{close} {count}");
        }
        text.push_str(&lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_become_names() {
        for (prefix, expected) in [("chat", "chat"), ("9 lives-🐈", "_9_lives__"), ("a:b_c", "a:b_c")] {
            assert_eq!(name(prefix), expected);
        }
    }

    #[test]
    fn each_line_is_a_comment_or_a_sample_and_each_family_is_announced_once() {
        let text = Snapshot::of(&[&crate::observe::counters::Totals::default()]).prometheus("x");
        let mut announced = std::collections::HashSet::new();
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
                assert!(announced.insert(family), "{line}");
            } else if !line.starts_with("# HELP ") {
                let (series, count) = line.rsplit_once(' ').unwrap();
                assert_eq!(series.split('{').next().unwrap(), family, "{line}");
                assert_eq!(count, "0", "{line}");
            }
        }
        assert_eq!(announced.len(), 12);
        assert!(text.contains("x_connections_ended_total{cause=\"closed_by_peer\",code=\"1001\"} 0\n"));
        assert!(text.ends_with('\n'));
    }
}
