//! The ranges that the driver has plugged, and those that it had better not, by address.

use alloc::vec::Vec;

use vmemmap::addr::{PhysAddr, PhysRange};

/// What a range is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is added: in use until it is asked back.
    Added,
    /// It is to be unplugged, which has failed so far. One request long at most, and perhaps unplugged after all.
    Leaving,
    /// It is not plugged: it was, and could not be added. Other places come first.
    Declined,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    range: PhysRange,
    standing: Standing,
    /// Whether it was asked back, or was to be unplugged, in this round, and did not go.
    tried: bool,
}

/// Every range that is plugged or may be, and those that were declined, lowest first. None overlaps another.
#[derive(Debug, Default)]
pub struct Books {
    entries: Vec<Entry>,
}

impl Books {
    /// Enters a range. A leaving one has had its turn in this round: its unplugging has just failed.
    pub fn enter(&mut self, range: PhysRange, standing: Standing) {
        let tried = standing == Standing::Leaving;
        self.insert(Entry { range, standing, tried });
    }

    /// Strikes a range out.
    pub fn strike(&mut self, range: PhysRange) {
        let index = self.index(range);
        self.entries.remove(index);
    }

    /// Marks a range as one that stays for this round.
    pub fn keep(&mut self, range: PhysRange) {
        let index = self.index(range);
        self.entries[index].tried = true;
    }

    /// Cuts a leaving range in two, which both have their turn in this round yet.
    pub fn split(&mut self, range: PhysRange, at: PhysAddr) {
        self.strike(range);
        for half in [PhysRange::between(range.start(), at), PhysRange::between(at, range.end())] {
            let range = half.expect("a range is cut inside");
            self.insert(Entry { range, standing: Standing::Leaving, tried: false });
        }
    }

    /// A new round: whatever stayed in the last one has its turn again.
    pub fn begin_round(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.tried = false);
    }

    /// The next range whose unplugging is to be tried in this round. From now on it has been.
    pub fn next_leaving(&mut self) -> Option<PhysRange> {
        let entry = self.entries.iter_mut().find(|entry| entry.standing == Standing::Leaving && !entry.tried)?;
        entry.tried = true;
        Some(entry.range)
    }

    /// The highest range that is added, has at most `bytes` bytes and did not stay in this round.
    pub fn highest_within(&self, bytes: u64) -> Option<PhysRange> {
        let mut downwards = self.entries.iter().rev();
        let fits = |entry: &&Entry| entry.standing == Standing::Added && !entry.tried && entry.range.bytes() <= bytes;
        downwards.find(fits).map(|entry| entry.range)
    }

    /// The lowest stretch of `within` that is in no range, cut to whole units of `unit` bytes. No range is below `within`.
    pub fn lowest_gap(&self, within: PhysRange, unit: u64) -> Option<PhysRange> {
        let mut start = within.start().align_up(unit);
        for entry in &self.entries {
            let end = entry.range.start().min(within.end()).align_down(unit);
            if start < end {
                return PhysRange::between(start, end);
            }
            start = entry.range.end().align_up(unit);
        }
        PhysRange::between(start, within.end().align_down(unit)).filter(|gap| !gap.is_empty())
    }

    /// Forgets what was declined; whether anything was.
    pub fn forget_declined(&mut self) -> bool {
        let all = self.entries.len();
        self.entries.retain(|entry| entry.standing != Standing::Declined);
        self.entries.len() < all
    }

    /// Bytes that are added.
    pub fn added(&self) -> u64 {
        self.bytes_of(Standing::Added)
    }

    /// Bytes that are leaving.
    pub fn leaving(&self) -> u64 {
        self.bytes_of(Standing::Leaving)
    }

    fn bytes_of(&self, standing: Standing) -> u64 {
        self.entries.iter().filter(|entry| entry.standing == standing).map(|entry| entry.range.bytes()).sum()
    }

    fn insert(&mut self, entry: Entry) {
        let index = self.entries.partition_point(|other| other.range.start() < entry.range.start());
        self.entries.insert(index, entry);
    }

    fn index(&self, range: PhysRange) -> usize {
        let found = self.entries.binary_search_by_key(&range.start(), |entry| entry.range.start());
        found.expect("a range that was plugged is in the books until it is unplugged")
    }
}
