//! Query parameters: `?after=…&wait=…`, and several channels with their own parameters.

use super::super::requests::{ErrorCode, RequestError};

/// Maximum number of channels in one stream or poll.
pub(super) const CHANNELS_MAX: usize = 100;

/// Maximum wait of a poll, in seconds.
pub(super) const WAIT_MAX: u64 = 60;

/// The known parameters; others, such as a token, are ignored here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// For the channel at the path.
    pub(super) after: Option<String>,
    /// In seconds.
    pub(super) wait: u64,
    /// In the order of the query.
    pub(super) channels: Vec<ChannelQuery>,
}

/// One of several channels.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ChannelQuery {
    pub(super) name: String,
    pub(super) after: Option<String>,
    pub(super) presence: bool,
}

impl Query {
    pub(super) fn parse(query: &str) -> Result<Self, RequestError> {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "channel" if parsed.channels.len() == CHANNELS_MAX => {
                    return Err(RequestError::new(
                        ErrorCode::TooMany,
                        format!("too many channels; the maximum is {CHANNELS_MAX}"),
                    ));
                }
                "channel" => {
                    parsed.channels.push(ChannelQuery { name: decode(value)?, ..ChannelQuery::default() })
                }
                "after" => {
                    let after = Some(decode(value)?).filter(|after| !after.is_empty());
                    match parsed.channels.last_mut() {
                        Some(channel) => channel.after = after,
                        None => parsed.after = after,
                    }
                }
                "presence" => {
                    let channel = parsed.channels.last_mut();
                    let channel = channel.ok_or_else(|| bad("`presence` must follow its `channel`"))?;
                    channel.presence = match value {
                        "1" => true,
                        "0" => false,
                        _ => return Err(bad("`presence` must be 1 or 0")),
                    };
                }
                "wait" => {
                    let wait = value.parse().ok().filter(|wait| *wait <= WAIT_MAX);
                    parsed.wait =
                        wait.ok_or_else(|| bad(format!("`wait` must be 0 to {WAIT_MAX} seconds")))?;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Returns the channels of a request to `/-/events`.
    pub(super) fn required_channels(&self) -> Result<&[ChannelQuery], RequestError> {
        match &*self.channels {
            [] => Err(bad("no channels given; write ?channel=NAME&channel=NAME")),
            _ if self.after.is_some() => Err(bad("`after` must follow its `channel`")),
            channels => Ok(channels),
        }
    }
}

fn bad(text: impl Into<String>) -> RequestError {
    RequestError::new(ErrorCode::BadRequest, text)
}

/// Decodes a form value (WHATWG URL 5.1); a plus sign is a space.
fn decode(value: &str) -> Result<String, RequestError> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(bad("% must be followed by two hexadecimal digits (RFC 3986 2.1)"));
                };
                // Two digits of four bits fit into a byte.
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| bad("the query is not percent-encoded UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_belong_to_the_channel_before_them() {
        let requested = |name: &str, after: Option<&str>, presence| ChannelQuery {
            name: name.into(),
            after: after.map(Into::into),
            presence,
        };
        let query = "channel=rooms/%E4%B8%80&after=a-1&presence=1&token=t&channel=a%2Bb+c&presence=0&channel=x&after=&wait=60";
        let parsed = Query::parse(query).expect("a query");
        assert_eq!(
            parsed.required_channels(),
            Ok(&[
                requested("rooms/一", Some("a-1"), true),
                requested("a+b c", None, false),
                requested("x", None, false)
            ][..])
        );
        assert_eq!((parsed.wait, parsed.after), (60, None));
        let parsed = Query::parse("after=a-1&wait=0&what=ever").expect("a query");
        assert_eq!((parsed.after.as_deref(), parsed.wait), (Some("a-1"), 0));
        assert!(parsed.required_channels().is_err());
        assert_eq!(Query::parse(""), Ok(Query::default()));
        assert!(Query::parse("after=a-1&channel=a").expect("a query").required_channels().is_err());
    }

    #[test]
    fn invalid_queries_are_rejected() {
        for bad in [
            "wait=61",
            "wait=-1",
            "wait=1.5",
            "wait=",
            "presence=1",
            "channel=a&presence=yes",
            "channel=%",
            "channel=%4",
            "channel=%zz",
            "channel=%ff",
            "after=%E4%B8",
        ] {
            assert_eq!(Query::parse(bad).map_err(|error| error.code), Err(ErrorCode::BadRequest), "{bad}");
        }
    }

    #[test]
    fn channels_are_bounded() {
        let max = vec!["channel=a"; CHANNELS_MAX].join("&");
        assert_eq!(Query::parse(&max).expect("as many as may be").channels.len(), CHANNELS_MAX);
        let more = format!("{max}&channel=a");
        assert_eq!(Query::parse(&more).map_err(|error| error.code), Err(ErrorCode::TooMany));
    }

    proptest::proptest! {
        #[test]
        fn encoded_names_are_decoded(names in proptest::collection::vec(".{0,20}", 1..5)) {
            let encode = |name: &String| -> String {
                name.bytes().map(|byte| if byte == b' ' { "+".into() } else { format!("%{byte:02X}") }).collect()
            };
            let query: Vec<_> = names.iter().map(|name| format!("channel={}", encode(name))).collect();
            let parsed = Query::parse(&query.join("&")).expect("a query");
            let read: Vec<_> = parsed.channels.into_iter().map(|channel| channel.name).collect();
            proptest::prop_assert_eq!(read, names);
        }

        #[test]
        fn no_query_causes_a_panic(query in "(channel|after|wait|presence|[=&%+0-9a-fA-F]|.)*") {
            let _ = Query::parse(&query);
        }
    }
}
