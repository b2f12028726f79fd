//! Delivers what was published in a turn: to each subscriber in one write, however many messages they are.

use std::collections::HashMap;

use longwire_proto::{Batch, BatchClass};

use super::Loop;
use super::place::{Place, Stage};
use crate::engine::conn::Conn;
use crate::engine::entry::Entry;
use crate::engine::handler::Handler;
use crate::engine::topics::NOBODY;
use crate::observe::counters::Traffic;

/// Stands for several topics at once.
const SEVERAL: u16 = u16::MAX;

impl<H: Handler> Loop<H> {
    /// Delivers the log.
    pub(crate) fn deliver(&mut self) {
        if !self.local.log.entries.is_empty() {
            self.delivering = true;
            self.deliver_batches();
            let mut apart = std::mem::take(&mut self.local.apart);
            apart.drain(..).for_each(|index| self.deliver_apart(index));
            // Nobody stands apart while everyone is given what is there.
            self.local.apart = apart;
            self.local.log.clear();
            self.delivering = false;
        }
        self.local.topics.compact(|index, permit| {
            if let Some(Place { stage: Stage::Open(entry, _), .. }) = self.slab.at(index) {
                entry.subscriptions.moved(permit);
            }
        });
        self.local.topics.sweep();
    }

    /// To those who get all that was published to one topic.
    fn deliver_batches(&mut self) {
        let mut batches: Vec<(u32, Batch)> = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        for logged in &self.local.log.entries {
            let at = match &batches[..] {
                [] => 0,
                [.., (topic, _)] if *topic == logged.topic => batches.len() - 1,
                [(first, _), ..] => {
                    places.entry(*first).or_insert(0);
                    *places.entry(logged.topic).or_insert(batches.len())
                }
            };
            if at == batches.len() {
                batches.push((logged.topic, Batch::default()));
            }
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
                if let Some(class) = self.class_of(index, batch) {
                    self.alike.push((index, class));
                }
            }
            self.write_batch(batch);
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

    /// What is to be written to a member that holds nothing, as most do; the others get it by themselves.
    #[inline]
    fn class_of(&mut self, index: u32, batch: &mut Batch) -> Option<BatchClass> {
        let Some(Place { stage: Stage::Open(entry, _), mark, .. }) = self.slab.at(index) else { return None };
        let several = std::mem::take(mark) == SEVERAL;
        if entry.log_cursor != 0 {
            return None;
        }
        let class = if several || entry.held.is_some() { None } else { batch.class(&entry.core) };
        if class.is_none() {
            entry.log_cursor = 1;
            self.local.apart.push(index);
        }
        class
    }

    /// One write to each of those who are alike.
    fn write_batch(&mut self, batch: &Batch) {
        let alike = std::mem::take(&mut self.alike);
        let mut writes = alike.iter().filter_map(|&(index, class)| {
            let place = self.slab.look_at(index)?;
            Some((&place.stream, &batch.bytes(class)[..]))
        });
        let mut results = std::mem::take(&mut self.written);
        self.writer.write_all(alike.len(), &mut writes, &mut results);
        let mut each = Traffic::default();
        for frame in batch.frames() {
            each.add(frame.kind(), frame.payload_len(), true);
        }
        self.local.counters.sent.add_times(&each, alike.len() as u64);
        for (&(index, class), written) in alike.iter().zip(results.drain(..)) {
            let bytes = batch.bytes(class);
            // Of an error the next write tells again, and then it is looked at.
            let count = written.unwrap_or(0);
            self.local.counters.bytes_sent += count as u64;
            if count < bytes.len() {
                self.local.out.append_rest(bytes.slice(count..));
                self.settle(index, None);
            }
        }
        self.alike = alike;
        self.alike.clear();
        self.written = results;
    }

    /// To those who have log_cursor a part of it, have said some of it, catch_up several topics, or do not keep up.
    fn deliver_apart(&mut self, index: u32) {
        let Some(key) = self.slab.key(index) else { return };
        let Some(Place { stage: Stage::Open(entry, _), stream, .. }) = self.slab.at(index) else { return };
        if entry.log_cursor == 0 {
            return;
        }
        let aside = crate::engine::entry::lend_outbox(entry, &mut self.local);
        let conn = &mut Conn { key, entry, stream, local: &mut self.local };
        conn.deliver_from_log();
        let Entry { log_cursor, .. } = conn.entry;
        *log_cursor = 0;
        self.settle(index, aside);
    }
}
