//! Which leaves were made for which frames. Only what was mapped after a frame had been taken counts: the linear map shows
//! every frame of RAM for ever, and that is right.

use alloc::collections::BTreeMap;

use crate::trace::{Event, Word};

#[derive(Clone, Copy, Debug)]
struct Taken {
    len: u64,
    /// Whose they are.
    from: Word,
    leaves: u64,
}

/// Frames that are out.
#[derive(Debug, Default)]
pub struct Frames {
    taken: BTreeMap<u64, Taken>,
    /// The frame, by the slot of the leaf.
    mapped: BTreeMap<u64, u64>,
}

impl Frames {
    pub fn take(&mut self, pa: u64, len: u64, from: Word) {
        self.taken.insert(pa, Taken { len, from, leaves: 0 });
    }

    /// Whose frames these are, if they are out.
    pub fn source(&self, pa: u64, len: u64) -> Option<Word> {
        self.taken.get(&pa).filter(|taken| taken.len == len).map(|taken| taken.from)
    }

    /// A leaf is made that shows `bytes` bytes from `pa` on.
    pub fn map(&mut self, slot: u64, pa: u64, bytes: u64) {
        let below = self.taken.range_mut(..pa.saturating_add(bytes)).next_back();
        if let Some((&frame, taken)) = below.filter(|(frame, taken)| *frame + taken.len > pa) {
            taken.leaves += 1;
            self.mapped.insert(slot, frame);
        }
    }

    /// It is gone.
    pub fn unmap(&mut self, slot: u64) {
        if let Some(taken) = self.mapped.remove(&slot).and_then(|frame| self.taken.get_mut(&frame)) {
            taken.leaves -= 1;
        }
    }

    /// Gives frames back: a slot that is still a leaf for one of them, or was one not long ago.
    pub fn give(&mut self, pa: u64, len: u64) -> Result<(), u64> {
        let end = pa.saturating_add(len);
        while let Some((&frame, taken)) = self.taken.range(pa..end).next() {
            if taken.leaves > 0 {
                return Err(self.mapped.iter().find(|(_, of)| **of == frame).map_or(0, |(slot, _)| *slot));
            }
            self.taken.remove(&frame);
        }
        Ok(())
    }

    /// How the frames were taken that the leaf in `slot` was made for.
    pub fn behind(&self, slot: u64) -> Option<Event> {
        let pa = *self.mapped.get(&slot)?;
        self.taken.get(&pa).map(|Taken { len, from, .. }| Event::Alloc { pa, len: *len, from: *from })
    }
}
