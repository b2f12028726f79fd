//! What waits to be written: frames in order, gathered so that one vectored write takes them all.
//!
//! Small payloads are copied behind their headers into one flat buffer; large ones are queued without a copy. A
//! Ping or Pong overtakes large messages at the first frame boundary that is not being written yet.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

/// Shared frames up to this many bytes are copied for each receiver; larger ones are only counted.
pub(crate) const SHARE_ABOVE: usize = 2 * 1024;

/// Payloads up to this many bytes are copied: one write of one buffer is then cheaper than two.
pub(crate) const COPY_MAX: usize = 32 * 1024;

/// Pongs that may wait, in bytes. Beyond that only the latest is kept (RFC 6455 5.5.3): a peer that sends Pings
/// and does not read must not fill memory.
const PONGS_MAX: usize = 16 * 1024;

/// Spare capacity above this is given back when everything is written, unless the outbox was made to keep more.
const KEEP_MAX: usize = 64 * 1024;

/// Frames that wait to be written, as a [`Buf`].
#[derive(Debug, Default)]
pub struct Outbox {
    /// Goes out before the flat bytes that no segment counts.
    queue: VecDeque<Segment>,
    flat: Vec<u8>,
    /// Bytes at the front of `flat` that are written.
    written: usize,
    /// Bytes of `flat` that `queue` counts.
    counted: usize,
    remaining: usize,
    /// Bytes written, ever.
    position: u64,
    /// Bytes of Pongs that wait, at most; they are gone once `position` reaches `pongs_until`.
    pongs: usize,
    pongs_until: u64,
    /// The latest Pong, encoded, while too many wait.
    held_pong: Vec<u8>,
    /// Spare capacity that is kept beyond [`KEEP_MAX`].
    keep_more: u32,
    blocked: Option<Instant>,
}

#[derive(Debug)]
struct Segment {
    bytes: SegmentBytes,
    /// A frame ends here, so a control frame may follow.
    ends_frame: bool,
}

#[derive(Debug)]
enum SegmentBytes {
    /// This many bytes of the flat buffer.
    Flat(usize),
    Shared(Bytes),
    /// Control frames that go out before what comes after.
    Control(BytesMut),
}

impl Outbox {
    /// Makes an empty outbox, without allocating.
    pub const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            flat: Vec::new(),
            written: 0,
            counted: 0,
            remaining: 0,
            position: 0,
            pongs: 0,
            pongs_until: 0,
            held_pong: Vec::new(),
            keep_more: 0,
            blocked: None,
        }
    }

    /// Makes an empty outbox that keeps up to `capacity` bytes of spare memory when everything is written: for
    /// one that many connections use in turn.
    pub fn keeping(capacity: u32) -> Self {
        Self { keep_more: capacity.saturating_sub(KEEP_MAX as u32), ..Self::new() }
    }

    /// Appends bytes that are no frame: the head of the opening handshake.
    pub fn append_head(&mut self, head: &[u8]) {
        self.append(|flat| flat.extend_from_slice(head));
    }

    /// Appends what is left of frames that were [gathered](crate::Batch) and written in part.
    pub fn append_rest(&mut self, rest: Bytes) {
        if rest.len() <= SHARE_ABOVE {
            self.append(|flat| flat.extend_from_slice(&rest));
        } else {
            self.append_shared(&[], rest);
        }
    }

    /// Returns whether nothing waits.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// Returns since when the peer accepts nothing, as reported to [`block`](Self::block).
    pub const fn blocked(&self) -> Option<Instant> {
        self.blocked
    }

    /// Reports that a write found no room. The next byte that is taken clears it.
    pub fn block(&mut self, now: Instant) {
        self.blocked.get_or_insert(now);
    }

    /// Reports that the stream has taken everything, such as when a flush is done.
    pub fn unblock(&mut self) {
        self.blocked = None;
    }

    /// Gives spare memory back, if nothing waits.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.flat = Vec::new();
            self.queue = VecDeque::new();
        }
    }

    /// Moves what waits to another outbox, which holds no more memory than that takes. This one is then empty,
    /// and keeps its spare memory.
    pub fn detach(&mut self) -> Self {
        let mut flat = std::mem::take(&mut self.flat);
        let fresh = Self { keep_more: self.keep_more, ..Self::new() };
        let mut own = std::mem::replace(self, fresh);
        own.flat = flat[own.written..].to_vec();
        own.written = 0;
        own.keep_more = 0;
        flat.clear();
        self.flat = flat;
        self.give_back();
        own
    }

    /// Appends what `write` appends: bytes that end with a frame.
    #[inline]
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.flat.len();
        write(&mut self.flat);
        self.remaining += self.flat.len() - before;
    }

    /// Appends an unmasked frame with at most 125 bytes of payload, the commonest frame.
    #[inline]
    pub(crate) fn append_small(&mut self, first: u8, payload: &[u8]) {
        let size = 2 + payload.len();
        self.flat.reserve(size);
        self.flat.extend_from_slice(&[first, payload.len() as u8]);
        self.flat.extend_from_slice(payload);
        self.remaining += size;
    }

    /// Appends a frame whose payload is large, without copying it.
    pub(crate) fn append_shared(&mut self, header: &[u8], payload: Bytes) {
        self.append(|flat| flat.extend_from_slice(header));
        let run = self.flat.len() - self.written - self.counted;
        if run > 0 {
            self.counted += run;
            let ends_frame = header.is_empty();
            self.queue.push_back(Segment { bytes: SegmentBytes::Flat(run), ends_frame });
        }
        self.remaining += payload.len();
        self.queue.push_back(Segment { bytes: SegmentBytes::Shared(payload), ends_frame: true });
    }

    /// Inserts a whole Ping or Pong frame where it goes out soonest.
    pub(crate) fn insert_control(&mut self, frame: &[u8]) {
        if self.queue.is_empty() {
            return self.append(|flat| flat.extend_from_slice(frame));
        }
        self.remaining += frame.len();
        // The front may be under way; the queue ends with a frame, so there is always a place.
        let boundary = self.queue.iter().position(|segment| segment.ends_frame);
        let at = boundary.map_or(self.queue.len(), |i| i + 1);
        for segment in self.queue.range_mut(at.saturating_sub(1)..).take(2) {
            if let SegmentBytes::Control(frames) = &mut segment.bytes {
                return frames.extend_from_slice(frame);
            }
        }
        let bytes = SegmentBytes::Control(BytesMut::from(frame));
        self.queue.insert(at, Segment { bytes, ends_frame: true });
    }

    /// Inserts a Pong. While too many wait, the latest is kept aside instead of those before it.
    pub(crate) fn insert_pong(&mut self, frame: &[u8]) {
        if self.pongs + frame.len() <= PONGS_MAX {
            self.insert_control(frame);
            self.pongs += frame.len();
            self.pongs_until = self.position + self.remaining as u64;
        } else {
            // RFC 6455 5.5.3: an endpoint may elect to answer only the most recent Ping.
            self.held_pong.clear();
            self.held_pong.extend_from_slice(frame);
        }
    }

    /// Forgets the Pong that is kept aside: a Close frame goes out before it, and nothing may follow that.
    pub(crate) fn drop_held_pong(&mut self) {
        self.held_pong = Vec::new();
    }

    fn give_back(&mut self) {
        if self.flat.capacity() > KEEP_MAX + self.keep_more as usize {
            self.flat = Vec::new();
        }
    }

    fn all_written(&mut self) {
        self.flat.clear();
        self.give_back();
        self.written = 0;
        self.counted = 0;
    }

    fn pongs_written(&mut self) {
        self.pongs = 0;
        if !self.held_pong.is_empty() {
            let frame = std::mem::take(&mut self.held_pong);
            self.insert_pong(&frame);
        }
    }
}

impl Buf for Outbox {
    #[inline]
    fn remaining(&self) -> usize {
        self.remaining
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        match self.queue.front() {
            None => &self.flat[self.written..],
            Some(segment) => match &segment.bytes {
                SegmentBytes::Flat(length) => &self.flat[self.written..self.written + length],
                SegmentBytes::Shared(bytes) => bytes,
                SegmentBytes::Control(frames) => frames,
            },
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut flat = &self.flat[self.written..];
        for segment in &self.queue {
            let Some(slice) = slices.get_mut(count) else { return count };
            *slice = IoSlice::new(match &segment.bytes {
                SegmentBytes::Flat(length) => {
                    let (bytes, rest) = flat.split_at(*length);
                    flat = rest;
                    bytes
                }
                SegmentBytes::Shared(bytes) => bytes,
                SegmentBytes::Control(frames) => frames,
            });
            count += 1;
        }
        if let Some(slice) = slices.get_mut(count)
            && !flat.is_empty()
        {
            *slice = IoSlice::new(flat);
            count += 1;
        }
        count
    }

    /// # Panics
    ///
    /// If `count` is more than [`remaining`](Buf::remaining), as [`Buf::advance`] says.
    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced beyond the end of the outbox");
        if count > 0 {
            self.blocked = None;
        }
        self.remaining -= count;
        self.position += count as u64;
        while count > 0 {
            let Some(front) = self.queue.front_mut() else {
                self.written += count;
                break;
            };
            let (taken, done) = match &mut front.bytes {
                SegmentBytes::Flat(length) => {
                    let taken = count.min(*length);
                    *length -= taken;
                    self.written += taken;
                    self.counted -= taken;
                    (taken, *length == 0)
                }
                SegmentBytes::Shared(bytes) => {
                    let taken = count.min(bytes.len());
                    bytes.advance(taken);
                    (taken, bytes.is_empty())
                }
                SegmentBytes::Control(frames) => {
                    let taken = count.min(frames.len());
                    frames.advance(taken);
                    (taken, frames.is_empty())
                }
            };
            count -= taken;
            if done {
                self.queue.pop_front();
            }
        }
        if self.remaining == 0 {
            self.all_written();
        } else if self.written > KEEP_MAX && self.written >= self.flat.len() / 2 {
            // A peer that reads slowly never lets it drain: keep what is written from piling up.
            self.flat.drain(..self.written);
            self.written = 0;
        }
        if self.pongs > 0 && self.position >= self.pongs_until {
            self.pongs_written();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while outbox.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = outbox.chunks_vectored(&mut slices);
            let gathered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(gathered.starts_with(outbox.chunk()));
            let step = step.min(gathered.len());
            all.extend_from_slice(&gathered[..step]);
            outbox.advance(step);
        }
        all
    }

    #[test]
    fn flat_and_shared_leave_in_order_in_steps_of_any_size() {
        for step in 1..40 {
            let mut outbox = Outbox::new();
            outbox.append(|flat| flat.extend_from_slice(b"one "));
            outbox.append_shared(b"two:", Bytes::from_static("二, shared ".as_bytes()));
            outbox.append_shared(b"three:", Bytes::from_static(b"shared too "));
            outbox.append(|flat| flat.extend_from_slice(b"four"));
            let expected = "one two:二, shared three:shared too four".as_bytes();
            assert_eq!(outbox.remaining(), expected.len());
            assert_eq!(drain(&mut outbox, step), expected, "{step}");
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn what_is_detached_is_all_that_waits_and_the_rest_is_as_new() {
        let mut outbox = Outbox::keeping(256 * 1024);
        outbox.append(|flat| flat.extend_from_slice(&[b'x'; 200_000]));
        outbox.advance(199_990);
        outbox.append_shared(b"two:", Bytes::from_static("二".as_bytes()));
        outbox.insert_pong(b"pong");
        outbox.block(Instant::now());
        let mut own = outbox.detach();
        assert!(own.flat.capacity() <= 20 && own.blocked().is_some());
        assert_eq!(drain(&mut own, 3), "xxxxxxxxxxtwo:二pong".as_bytes());
        assert!(outbox.is_empty() && outbox.blocked().is_none());
        assert!(outbox.flat.capacity() >= 200_000, "it keeps its memory");
        outbox.append(|flat| flat.extend_from_slice(&[b'y'; 400_000]));
        assert_eq!(outbox.detach().remaining(), 400_000);
        assert_eq!(outbox.flat.capacity(), 0, "unless it is too much");
    }

    #[test]
    fn control_frames_pass_at_the_first_boundary_and_keep_their_order() {
        let mut outbox = Outbox::new();
        for name in ["A", "B", "C"] {
            outbox.append_shared(name.to_lowercase().as_bytes(), Bytes::from(name.to_owned()));
        }
        outbox.append(|flat| flat.extend_from_slice(b"tail"));
        outbox.advance(1);
        outbox.insert_control(b"1");
        outbox.insert_control(b"2");
        assert_eq!(drain(&mut outbox, 100), b"A12bBcCtail");

        outbox.append_shared(b"a", Bytes::from_static(b"A"));
        outbox.insert_control(b"1");
        outbox.append(|flat| flat.extend_from_slice(b"tail"));
        assert_eq!(drain(&mut outbox, 1), b"aA1tail");
    }

    #[test]
    fn pongs_that_wait_are_bounded_and_the_latest_is_sent_in_the_end() {
        let mut outbox = Outbox::new();
        for i in 0..100_000u32 {
            outbox.insert_pong(&i.to_be_bytes());
            assert!(outbox.remaining() <= PONGS_MAX);
        }
        let mut sent = Vec::new();
        while !outbox.is_empty() {
            sent.extend_from_slice(outbox.chunk());
            outbox.advance(outbox.chunk().len());
        }
        assert_eq!(sent.len(), PONGS_MAX + 4);
        assert_eq!(sent[sent.len() - 4..], 99_999u32.to_be_bytes());
        assert_eq!(sent[..8], [0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn pongs_do_not_starve_while_the_outbox_is_never_empty() {
        let mut outbox = Outbox::new();
        let mut sent = 0;
        for _ in 0..20_000 {
            outbox.append(|flat| flat.extend_from_slice(&[b'd'; 100]));
            outbox.insert_pong(b"pong");
            while outbox.remaining() > 300 {
                let step = outbox.chunk().len().min(50);
                sent += outbox.chunk()[..step].iter().filter(|&&byte| byte == b'p').count();
                outbox.advance(step);
            }
            assert!(!outbox.is_empty());
        }
        assert!(sent > 19_900, "{sent}");
    }

    #[test]
    fn what_is_written_does_not_pile_up_behind_a_slow_reader() {
        let mut outbox = Outbox::new();
        for _ in 0..1000 {
            outbox.append(|flat| flat.extend_from_slice(&[7; 1000]));
            if outbox.remaining() > 200_000 {
                outbox.advance(1000);
            }
        }
        assert!(outbox.flat.len() < 2 * 200_000 + 2 * KEEP_MAX, "{}", outbox.flat.len());
        outbox.advance(outbox.remaining());
        assert!(outbox.flat.capacity() <= KEEP_MAX);
    }
}
