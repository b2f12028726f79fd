//! The connections of a loop, in chunks: growing moves nothing, and an empty chunk is freed.

/// Slots of one chunk. It is large enough for the allocator to map it separately, and so to return it to the system.
const CHUNK: usize = 1024;

/// Values by index. An index is used again; its generation is not, for four thousand million insertions.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Option<Chunk<T>>>,
    len: usize,
    generation: u32,
    /// No chunk before this one has a free slot.
    first_free: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    slots: Box<[Slot<T>]>,
    free: Vec<u16>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Identifies a value, also after it was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0, generation: 0, first_free: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        while self.chunks.get(self.first_free).is_some_and(|chunk| chunk.as_ref().is_some_and(Chunk::is_full))
        {
            self.first_free += 1;
        }
        if self.first_free == self.chunks.len() {
            self.chunks.push(None);
        }
        let chunk = self.chunks[self.first_free].get_or_insert_with(Chunk::new);
        // `first_free` has skipped the full chunks.
        let at = chunk.free.pop().unwrap_or_default();
        self.generation = self.generation.wrapping_add(1);
        chunk.slots[usize::from(at)] = Slot { generation: self.generation, value: Some(value) };
        self.len += 1;
        Key { index: (self.first_free * CHUNK) as u32 + u32::from(at), generation: self.generation }
    }

    fn slot(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.as_mut()?.slots.get_mut(index % CHUNK)
    }

    /// The value at an index, whichever it is now.
    #[inline]
    pub(super) fn at(&mut self, index: u32) -> Option<&mut T> {
        self.slot(index)?.value.as_mut()
    }

    /// Like [`at`](Self::at), without changing it.
    #[inline]
    pub(super) fn look_at(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.as_ref()?.slots.get(index % CHUNK)?.value.as_ref()
    }

    #[inline]
    pub(super) fn get(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slot(key.index)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    /// The value at an index, whichever it is now, with its key.
    #[inline]
    pub(super) fn find(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let slot = self.slot(index)?;
        let key = Key { index, generation: slot.generation };
        Some((key, slot.value.as_mut()?))
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slot(index)?.value.take()?;
        self.len -= 1;
        let at = index as usize / CHUNK;
        self.first_free = self.first_free.min(at);
        if let Some(chunk) = &mut self.chunks[at] {
            chunk.free.push((index as usize % CHUNK) as u16);
            if chunk.free.len() == CHUNK && self.len > 0 {
                self.chunks[at] = None;
            } else if self.len == 0 {
                // One chunk is kept: connections that come and go one by one allocate nothing.
                self.chunks.truncate(at + 1);
                self.chunks[..at].fill_with(|| None);
            }
        }
        Some(value)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        let chunks = self.chunks.iter().enumerate();
        let chunks = chunks.filter_map(|(at, chunk)| Some((at * CHUNK, chunk.as_ref()?)));
        chunks.flat_map(|(first, chunk)| {
            let slots = chunk.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some());
            slots.map(move |(at, slot)| Key { index: (first + at) as u32, generation: slot.generation })
        })
    }
}

impl<T> Chunk<T> {
    fn new() -> Self {
        let slots = (0..CHUNK).map(|_| Slot { generation: 0, value: None }).collect();
        // The lowest index is used first.
        Self { slots, free: (0..CHUNK as u16).rev().collect() }
    }

    const fn is_full(&self) -> bool {
        self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_find_what_came_later() {
        let mut slab = Slab::new();
        let one = slab.insert("一");
        assert_eq!(slab.remove(one.index), Some("一"));
        let two = slab.insert("二");
        assert_eq!(one.index, two.index);
        assert_eq!(slab.get(one), None);
        assert_eq!(slab.get(two), Some(&mut "二"));
        assert_eq!(slab.find(two.index).map(|(key, _)| key), Some(two));
        assert_eq!(slab.remove(two.index), Some("二"));
        assert_eq!(
            (slab.remove(two.index), slab.find(two.index).map(|(key, _)| key), slab.len()),
            (None, None, 0)
        );
    }

    #[test]
    fn the_lowest_index_is_used_first_and_empty_chunks_are_given_back() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..3 * CHUNK).map(|number| slab.insert(number)).collect();
        assert!(keys.iter().enumerate().all(|(at, key)| key.index == at as u32));
        for key in &keys[CHUNK..] {
            slab.remove(key.index);
        }
        assert_eq!(slab.chunks.iter().flatten().count(), 1);
        slab.remove(7);
        assert_eq!(slab.insert(0).index, 7);
        assert_eq!(slab.insert(0).index, CHUNK as u32);
        assert_eq!(slab.keys().count(), slab.len());
        assert_eq!(slab.len(), CHUNK + 1);
    }

    #[test]
    fn the_last_chunk_stays_and_no_other() {
        let mut slab = Slab::new();
        let key = slab.insert(());
        slab.remove(key.index);
        assert_eq!((slab.len(), slab.chunks.iter().flatten().count()), (0, 1));
        for last in [3 * CHUNK - 1, 2 * CHUNK - 1, CHUNK - 1] {
            let keys: Vec<Key> = (0..=last).map(|_| slab.insert(())).collect();
            keys.iter().for_each(|key| assert_eq!(slab.remove(key.index), Some(())));
            assert_eq!((slab.len(), slab.chunks.iter().flatten().count()), (0, 1));
        }
    }
}
