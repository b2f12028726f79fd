//! Delivers what was published in a turn: to each subscriber in one write, however many messages they are.

use std::collections::HashMap;
use std::io::{self, Write};

use longwire_proto::Batch;

use super::conn::{Conn, Entry};
use super::event_loop::{Loop, Place, What};
use super::handler::Handler;
use super::topics::NOBODY;

/// Stands for several topics at once.
const SEVERAL: u16 = u16::MAX;

impl<H: Handler> Loop<H> {
    /// Delivers the log.
    pub(super) fn deliver(&mut self) {
        if !self.local.log.entries.is_empty() {
            self.delivering = true;
            self.deliver_batches();
            for index in std::mem::take(&mut self.local.apart) {
                self.deliver_apart(index);
            }
            self.local.log.clear();
            self.delivering = false;
        }
        self.local.topics.compact(|index, seat| {
            if let Some(Place { what: What::Open(entry), .. }) = self.slab.at(index) {
                entry.subscriptions.moved(seat);
            }
        });
        self.local.topics.sweep();
    }

    /// To those who get all that was published to one topic.
    fn deliver_batches(&mut self) {
        let mut batches: Vec<(u32, Batch)> = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        for logged in &self.local.log.entries {
            let at = match batches.last() {
                Some((topic, _)) if *topic == logged.topic => batches.len() - 1,
                _ => *places.entry(logged.topic).or_insert_with(|| {
                    batches.push((logged.topic, Batch::default()));
                    batches.len() - 1
                }),
            };
            batches[at].1.push(logged.frame.clone());
        }
        if batches.len() > 1 {
            for ((topic, _), number) in batches.iter().zip(1..) {
                self.mark_members(*topic, number);
            }
        }
        for (topic, batch) in &mut batches {
            let mut places = 0..;
            while let Some(index) = places.next().and_then(|at| self.local.topics.member(*topic, at)) {
                self.deliver_batch(index, batch);
            }
        }
    }

    fn mark_members(&mut self, topic: u32, number: usize) {
        let Some(topic) = self.local.topics.get(topic) else { return };
        for &index in topic.members.iter().filter(|index| **index != NOBODY) {
            if let Some(place) = self.slab.at(index) {
                let number = u16::try_from(number).unwrap_or(SEVERAL);
                place.mark = if place.mark == 0 { number } else { SEVERAL };
            }
        }
    }

    #[inline]
    fn deliver_batch(&mut self, index: u32, batch: &mut Batch) {
        if index == NOBODY {
            return;
        }
        let Some(Place { what: What::Open(entry), stream, mark, .. }) = self.slab.at(index) else { return };
        let several = std::mem::take(mark) == SEVERAL;
        if entry.heard != 0 {
            return;
        }
        // Most hold nothing: all that is done for them is one write.
        let messages = batch.frames().len() as u64;
        let bytes = if several || entry.held.is_some() { None } else { batch.bytes_for(&entry.core) };
        let Some(bytes) = bytes else {
            entry.heard = 1;
            self.local.apart.push(index);
            return;
        };
        let mut stream = &*stream;
        let written = match stream.write(bytes) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(0)
            }
            written => written,
        };
        let local = &mut self.local;
        local.counters.messages_sent += messages;
        match written {
            Ok(count) => {
                local.counters.bytes_sent += count as u64;
                if count == bytes.len() {
                    return;
                }
                local.out.append_rest(bytes.slice(count..));
            }
            // Writing meets it again, and then it is looked at.
            Err(_) => local.out.append_rest(bytes.clone()),
        }
        self.settle(index, None);
    }

    /// To those who have heard a part of it, have said some of it, hear several topics, or do not keep up.
    fn deliver_apart(&mut self, index: u32) {
        let Some(key) = self.slab.key(index) else { return };
        let Some(Place { what: What::Open(entry), stream, .. }) = self.slab.at(index) else { return };
        if entry.heard == 0 {
            return;
        }
        let aside = super::turn::lend_outbox(entry, &mut self.local);
        let conn = &mut Conn { key, entry, stream, local: &mut self.local };
        conn.hear_apart();
        let Entry { heard, .. } = conn.entry;
        *heard = 0;
        self.settle(index, aside);
    }
}
