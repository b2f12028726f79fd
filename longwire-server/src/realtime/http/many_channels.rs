//! Many channels at once, `/-/events`: which of them may be heard, and what is told of each first.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::super::server_events::{Answer, Told};
use super::super::requests::{Code, Fault};
use super::super::{Who, channel, position};
use super::Http;
use super::subscriptions::{Begun, Channel, How};
use super::query::{Query, Wanted};
use crate::hub::{ChannelName, Position};

impl Http {
    /// The channels that are asked for and may be heard, and what is told first: of each channel `subscribed`, or `error`.
    pub(super) async fn open_many(
        &self,
        query: &Query,
        who: &Who,
        how: How,
    ) -> Result<(Vec<Channel>, Vec<First>), Fault> {
        let wanted = query.many()?;
        let judged = join_all(wanted.iter().map(|wanted| self.judge(wanted, who))).await;
        let (mut names, mut channels, mut first) = (HashSet::new(), Vec::new(), Vec::new());
        for (wanted, judged) in wanted.iter().zip(judged) {
            let opened = judged.and_then(|(name, after)| {
                if !names.insert(name.clone()) {
                    let text = format!("{name} is asked for more than once");
                    return Err(Fault::new(Code::AlreadySubscribed, text));
                }
                Ok(Channel::open(&self.realtime, name, after, how, who.user(), wanted.presence)?)
            });
            first.push(match opened {
                Ok((channel, begun)) => {
                    channels.push(channel);
                    First::subscribed(&wanted.name, begun)
                }
                Err(fault) => {
                    let told = Told::Error { id: None, channel: Some(&wanted.name), fault: &fault };
                    First { text: told.text(), lost: false }
                }
            });
        }
        Ok((channels, first))
    }

    async fn judge(&self, wanted: &Wanted, who: &Who) -> Result<(ChannelName, Option<Position>), Fault> {
        let name = channel(&wanted.name)?;
        let after = wanted.after.as_deref().map(position).transpose()?;
        self.may_hear(&who.identity, &name).await?;
        Ok((name, after))
    }
}

/// What is told of a channel first.
pub(super) struct First {
    pub(super) text: String,
    /// Something is missing behind the position that was given.
    pub(super) lost: bool,
}

impl First {
    fn subscribed(name: &str, begun: Begun) -> Self {
        let Begun { head, recovered, presence, .. } = begun;
        let answer = Answer::Subscribed { position: head.to_string(), recovered, presence };
        let text = Told::Subscribed { channel: name, answer: &answer }.text();
        Self { text, lost: recovered == Some(false) }
    }
}
