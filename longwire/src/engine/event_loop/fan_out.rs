//! Delivers what was published: to each subscriber in one write, however many messages it is.

use std::collections::HashMap;

use longwire_proto::{Batch, BatchClass};

use super::Loop;
use super::place::{Mark, Place, Stage};
use crate::engine::handler::Handler;
use crate::engine::topics::HOLE;
use crate::engine::topics::log::LogCursor;
use crate::observe::counters::Traffic;

impl<H: Handler> Loop<H> {
    /// Delivers the log, and tidies up the topics.
    pub(super) fn deliver(&mut self) {
        if !self.shared.local.log.is_empty() {
            self.shared.is_delivering = true;
            self.deliver_batches();
            let mut individual = std::mem::take(&mut self.shared.local.individual);
            for index in individual.drain(..) {
                if let Some(mut turn) = self.turn(index) {
                    let after = turn.deliver_log();
                    self.conclude(index, after);
                }
            }
            // Nobody was added meanwhile: no application code that publishes or sends was called.
            self.shared.local.individual = individual;
            self.shared.local.log.clear();
            self.shared.is_delivering = false;
        }
        let topics = &mut self.shared.local.topics;
        topics.compact(|index, membership| {
            if let Some(Place { stage: Stage::Open(entry, _), .. }) = self.slab.at(index) {
                entry.subscriptions.moved(membership);
            }
        });
        topics.sweep();
    }

    /// Delivers to the subscribers that get everything that was published to one topic, and nothing else.
    ///
    /// Members may leave while this goes on, for a write may end a connection. That leaves a hole in the list and moves
    /// nobody, so counting up the list misses no member.
    fn deliver_batches(&mut self) {
        let mut batches: Vec<(u32, Batch)> = Vec::new();
        let mut by_topic: HashMap<u32, usize> = HashMap::new();
        for logged in &self.shared.local.log.entries {
            // One topic after the other, or only one, needs no look-up.
            let at = match &batches[..] {
                [] => 0,
                [.., (topic, _)] if *topic == logged.topic => batches.len() - 1,
                [(first, _), ..] => {
                    by_topic.entry(*first).or_insert(0);
                    *by_topic.entry(logged.topic).or_insert(batches.len())
                }
            };
            if at == batches.len() {
                batches.push((logged.topic, Batch::default()));
            }
            batches[at].1.push(logged.frame.clone());
        }
        if batches.len() > 1 {
            for (at, (topic, _)) in batches.iter().enumerate() {
                self.mark_members(*topic, Mark::of(at));
            }
        }
        for (topic, batch) in &mut batches {
            let mut places = 0..;
            while let Some(index) = places.next().and_then(|at| self.shared.local.topics.member(*topic, at)) {
                if let Some(class) = self.join_batch(index, batch) {
                    self.batch_members.push((index, class));
                }
            }
            self.write_batch(batch);
        }
    }

    /// Marks the members of a topic, to find those of several: they must get the messages in the order of the log.
    fn mark_members(&mut self, topic: u32, mark: Mark) {
        let Some(topic) = self.shared.local.topics.get(topic) else { return };
        for &index in topic.members.iter().filter(|index| **index != HOLE) {
            if let Some(place) = self.slab.at(index) {
                place.mark = Some(if place.mark.is_none() { mark } else { Mark::SEVERAL });
            }
        }
    }

    /// Which bytes of the batch to write to a member that has no buffers, as most have none. The others get the log by
    /// themselves.
    #[inline]
    fn join_batch(&mut self, index: u32, batch: &mut Batch) -> Option<BatchClass> {
        let Some(Place { stage: Stage::Open(entry, _), mark, .. }) = self.slab.at(index) else { return None };
        let is_of_several = mark.take() == Some(Mark::SEVERAL);
        if entry.log_cursor.is_some() {
            return None;
        }
        let class = if is_of_several || entry.buffers.is_some() { None } else { batch.class(&entry.core) };
        match class {
            // What the socket does not take is counted again when it is written, which does no harm: it only lengthens
            // the time that the peer has for a Pong.
            Some(class) => entry.core.wrote(batch.bytes(class).len()),
            None => {
                entry.log_cursor = Some(LogCursor::START);
                self.shared.local.individual.push(index);
            }
        }
        class
    }

    /// Makes one write to each member of the batch.
    fn write_batch(&mut self, batch: &Batch) {
        let members = std::mem::take(&mut self.batch_members);
        let mut writes = members.iter().filter_map(|&(index, class)| {
            let place = self.slab.look_at(index)?;
            Some((&place.stream, &batch.bytes(class)[..]))
        });
        let mut taken = std::mem::take(&mut self.batch_taken);
        self.writer.write_all(members.len(), &mut writes, &mut taken);
        let mut each = Traffic::default();
        for frame in batch.frames() {
            each.add(frame.kind(), frame.payload_len(), true);
        }
        let counters = &mut self.shared.local.counters;
        counters.sent.add_times(&each, members.len() as u64);
        counters.bytes_sent += taken.iter().sum::<usize>() as u64;
        for (&(index, class), &count) in members.iter().zip(&taken) {
            let bytes = batch.bytes(class);
            if count < bytes.len()
                && let Some(mut turn) = self.turn(index)
            {
                let after = turn.write_rest(bytes.slice(count..));
                self.conclude(index, after);
            }
        }
        self.batch_members = members;
        self.batch_members.clear();
        self.batch_taken = taken;
        self.batch_taken.clear();
    }
}
