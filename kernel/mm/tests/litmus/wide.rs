//! What 52 bits change: levels 0 and -1, blocks, level hints, range operands, registers.

use Verdict::{Allowed, Breaks, Clean, Forbidden};
use vmemmap::sim::Rule;

use crate::shape::{Shape, Verdict};
use crate::stage::{K4, K16, K64};

/// Tables above level 1.
pub const LEVELS: &[Shape] = &[
    Shape {
        name: "unlink at level 0, leaf-only invalidation",
        source: "RRVJDB, RJXKNN",
        stage: K16.wide(),
        events: "slot pa=$x3 value=$A; write slot=$x0 new=0; dsb ishst; tlbi vaale1is @X; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "unlink at level 0, all levels of one address",
        source: "RZSXRQ: table entries of every level",
        stage: K16.wide(),
        events: "slot pa=$x3 value=$A; write slot=$x0 new=0; dsb ishst; tlbi vaae1is @X; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "unlink at level -1, leaf-only invalidation",
        source: "RRVJDB, RJXKNN",
        stage: K4.wide(),
        events: "slot pa=$x3 value=$A; write slot=$top new=0; dsb ishst; tlbi vaale1is @X; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "unlink at level -1, all levels of one address",
        source: "RZSXRQ: table entries of every level",
        stage: K4.wide(),
        events: "slot pa=$x3 value=$A; write slot=$top new=0; dsb ishst; tlbi vaae1is @X; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "unlink at level -1, then write below",
        source: "RRVJDB: walk caches are TLB entries",
        stage: K4.wide(),
        events: "write slot=$top new=0; dsb ish; isb; write slot=$x3 new=$B; dsb ish; isb",
        verdict: Allowed(1, "X", "B"),
    },
    Shape {
        name: "unlink at level -1, another address of the table",
        source: "RZSXRQ; our reading: what is below one table entry is found through it alone",
        stage: K4.wide(),
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; write slot=$top new=0; dsb ishst; tlbi vaale1is @X;
                 tlbi vaae1is @X+9; dsb ish; isb; write slot=$x3 new=$B; dsb ish; isb",
        verdict: Forbidden(1, "X", "B"),
    },
];

/// Blocks and contiguous runs.
pub const BLOCKS: &[Shape] = &[
    Shape {
        name: "block at level 1 of 16K with LPA2",
        source: "D8.3",
        stage: K16.wide(),
        events: "write slot=$x1+1 new=$bA",
        verdict: Clean,
    },
    Shape {
        name: "block at level 0 of 4K with LPA2",
        source: "D8.3",
        stage: K4.wide(),
        events: "write slot=$x0+1 new=$bA",
        verdict: Clean,
    },
    Shape {
        name: "block at level 1 of 64K with LPA",
        source: "D8.3",
        stage: K64.wide(),
        events: "write slot=$x1+1 new=$bA",
        verdict: Clean,
    },
    Shape {
        name: "block at level -1",
        source: "D8.3: never",
        stage: K4.wide(),
        events: "write slot=$top+1 new=$bA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "block at level 0 of 16K",
        source: "D8.3: never",
        stage: K16.wide(),
        events: "write slot=$x0+1 new=$bA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "contiguous at level 0 of 4K",
        source: "RHMQXG: RES0 with LPA2",
        stage: K4.wide(),
        events: "write slot=$x0+1 new=$cbA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "contiguous at level 1 of 16K",
        source: "RHMQXG: RES0 with LPA2",
        stage: K16.wide(),
        events: "write slot=$x1+1 new=$cbA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "contiguous at level 1 of 64K",
        source: "RHMQXG: RES0 with LPA",
        stage: K64.wide(),
        events: "write slot=$x1+1 new=$cbA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "block at level 0 of 4K, broken and invalidated",
        source: "RLGSCG",
        stage: K4.wide(),
        events: "slot pa=$x0+1 value=$bA; write slot=$x0+1 new=0; dsb ishst; tlbi vaale1is @X+134217728; dsb ish; isb",
        verdict: Forbidden(1, "X+134217729", "A+1"),
    },
];

/// Operands and registers.
pub const OPERANDS: &[Shape] = &[
    Shape {
        name: "TLBI+ttl0 of 4K without LPA2",
        source: "D8.17 TTL: reserved, and counts as no hint",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaae1is @X/0; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "TLBI+ttl0 of 4K with LPA2",
        source: "D8.17 TTL: a block of level 0, and no page",
        stage: K4.wide(),
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaae1is @X/0; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "TLBI+ttl0 of a block of level 0",
        source: "D8.17 TTL",
        stage: K4.wide(),
        events: "slot pa=$x0+1 value=$bA; write slot=$x0+1 new=0; dsb ishst; tlbi vaale1is @X+134217728/0; dsb ish;
                 isb",
        verdict: Forbidden(1, "X+134217728", "A"),
    },
    Shape {
        name: "TLBI+ttl1 of 16K with LPA2",
        source: "D8.17 TTL: a block of level 1, and no page",
        stage: K16.wide(),
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaae1is @X/1; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "range of 16 pages from a multiple of 64K",
        source: "IQPHNP: with LPA2 the base is in units of 64K",
        stage: K4.wide(),
        events: "slot pa=$x3+31 value=$A+31; write slot=$x3+31 new=0; dsb ishst; tlbi rvaale1is @X+16*16; dsb ish; isb",
        verdict: Forbidden(1, "X+31", "A+31"),
    },
    Shape {
        name: "range from between two multiples of 64K",
        source: "IQPHNP: with LPA2 the base is in units of 64K, and what is below is lost",
        stage: K4.wide(),
        events: "slot pa=$x3+8 value=$A+8; write slot=$x3+8 new=0; dsb ishst; tlbi rvaale1is @X+8*2; dsb ish; isb",
        verdict: Allowed(1, "X+8", "A+8"),
    },
    Shape {
        name: "LPA2's descriptors, DS clear",
        source: "TCR_EL1.DS: bits 9:8 would be shareability",
        stage: K4.wide().alone(),
        events: "regs cpu=1 ttbr1=$root tcr=0x36b54c3510 mair=0x40044ffff sctlr=1",
        verdict: Breaks(Rule::Registers),
    },
    Shape {
        name: "DS set, descriptors of 48 bits",
        source: "TCR_EL1.DS: bits 9:8 would be address bits 51:50",
        stage: K4.alone(),
        events: "regs cpu=1 ttbr1=$root tcr=0x8000035b5593510 mair=0x40044ffff sctlr=1",
        verdict: Breaks(Rule::Registers),
    },
    Shape {
        name: "IPS of 48 bits, tables of 52",
        source: "TCR_EL1.IPS: an address size fault above it",
        stage: K64.wide().alone(),
        events: "regs cpu=1 ttbr1=$root tcr=0x35f54c7510 mair=0x40044ffff sctlr=1",
        verdict: Breaks(Rule::Registers),
    },
];
