//! What a mutant remembers of records: words of sections that were just stored, and places of ranges in the registry.

use vmemmap::addr::PhysAddr;

/// From the state word of a range's record to the one that says whose altmap it lives in.
const HOST: u64 = 24;

/// A few words of records; what does not fit is not altered.
#[derive(Debug)]
pub struct Recall {
    /// Words of sections that the removal at hand has stored, with what they held before.
    stored: [(PhysAddr, u64); 8],
    count: usize,
    /// State words of ranges.
    states: [PhysAddr; 8],
    ranges: usize,
}

impl Recall {
    pub const fn new() -> Self {
        let nothing = PhysAddr::new(0);
        Self { stored: [(nothing, 0); 8], count: 0, states: [nothing; 8], ranges: 0 }
    }

    /// A removal begins.
    pub fn forget_words(&mut self) {
        self.count = 0;
    }

    /// A word that held `old` is stored.
    pub fn stores(&mut self, word: PhysAddr, old: u64) {
        if let Some(free) = self.stored.get_mut(self.count) {
            *free = (word, old);
            self.count += 1;
        }
    }

    /// What a word held before it was stored.
    pub fn before(&self, word: PhysAddr) -> Option<u64> {
        self.stored[..self.count].iter().find(|(at, _)| *at == word).map(|(_, old)| *old)
    }

    /// A range's state word.
    pub fn names(&mut self, state: PhysAddr) {
        if !self.states[..self.ranges].contains(&state)
            && let Some(free) = self.states.get_mut(self.ranges)
        {
            *free = state;
            self.ranges += 1;
        }
    }

    /// Whether `word` says whose altmap a range lives in.
    pub fn is_host(&self, word: PhysAddr) -> bool {
        self.states[..self.ranges].iter().any(|state| state.add(HOST) == word)
    }
}
