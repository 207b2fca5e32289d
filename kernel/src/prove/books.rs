//! The books: RAM and tables before and after, to the frame and to the bit.

use vmemmap::addr::PhysAddr;
use vmemmap::descriptor::Descriptor;
use vmemmap::granule::{Granule, Level};
use vmemmap::seam::Machine;

use crate::memory::{MemoryMap, RamFrames};

/// More failures of one kind than this are not worth a line each.
pub const MOST_FAILURES: usize = 8;

/// What there is at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Books {
    /// Frames of RAM that are free or hold section records (which stay).
    pub frames: u64,
    /// Tables under the root.
    pub tables: u64,
    /// A hash over every descriptor under the root.
    pub descriptors: u64,
}

impl Books {
    /// Counts now.
    pub fn of<M: Machine>(map: &MemoryMap<M>) -> Self {
        let mut census = Census { tables: 0, hash: 0xcbf2_9ce4_8422_2325 };
        let regime = map.tables().regime();
        census.visit(map, map.tables().root(), regime.start_level());
        let records = map.section_bytes() >> M::Granule::SIZE.shift();
        Self { frames: RamFrames::current().free() + records, tables: census.tables, descriptors: census.hash }
    }
}

struct Census {
    tables: u64,
    hash: u64,
}

impl Census {
    fn visit<M: Machine>(&mut self, map: &MemoryMap<M>, table: PhysAddr, level: Level) {
        let regime = map.tables().regime();
        self.tables += 1;
        for index in 0..regime.entries(level) {
            let descriptor = Descriptor::from_bits(map.tables().machine().read(table.add(index * 8)));
            if descriptor.is_empty() {
                continue;
            }
            // FNV-1a over position and content.
            for word in [index, descriptor.bits()] {
                self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            }
            if descriptor.is_table(level) {
                self.visit(map, descriptor.address(regime.granule(), regime.output()), level.child());
            }
        }
    }
}
