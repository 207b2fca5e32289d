//! Programs that are right, and the same with one piece missing or wrong.

use Verdict::{Breaks, Clean};
use vmemmap::sim::Rule;

use crate::shape::{Shape, Verdict};
use crate::stage::{K4, K16, K64};

/// Making and breaking within an operation.
pub const OPERATIONS: &[Shape] = &[
    Shape {
        name: "map",
        source: "RSPVBD, IWZCBG",
        stage: K4,
        events: "begin op=add; write slot=$x3 new=$A; dsb ishst; isb; touch va=$X write=1; end op=add",
        verdict: Clean,
    },
    Shape {
        name: "map without ISB, then use",
        source: "IWZCBG, RTGRMW; Linux 42f91093b043",
        stage: K4,
        events: "write slot=$x3 new=$A; dsb ishst; touch va=$X write=1",
        verdict: Breaks(Rule::Access),
    },
    Shape {
        name: "map without DSB",
        source: "RSPVBD; OP-TEE PR 1827",
        stage: K4,
        events: "begin op=add; write slot=$x3 new=$A; isb; end op=add",
        verdict: Breaks(Rule::Visible),
    },
    Shape {
        name: "map without ISB",
        source: "IWZCBG; our reading for data",
        stage: K16,
        events: "begin op=add; write slot=$x3 new=$A; dsb ishst; end op=add",
        verdict: Breaks(Rule::Synchronised),
    },
    Shape {
        name: "unmap",
        source: "RDDMVT, RPSMWS, RBLDZX",
        stage: K64,
        events:
            "slot pa=$x3 value=$A; begin op=remove; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X; dsb ish; isb;
                 end op=remove",
        verdict: Clean,
    },
    Shape {
        name: "unmap without TLBI",
        source: "RFFWJK",
        stage: K64,
        events: "slot pa=$x3 value=$A; begin op=remove; write slot=$x3 new=0; dsb ish; isb; end op=remove",
        verdict: Breaks(Rule::Forgotten),
    },
    Shape {
        name: "unmap without ISB",
        source: "RBLDZX; Linux 51696d346c49",
        stage: K64,
        events: "slot pa=$x3 value=$A; begin op=remove; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X; dsb ish;
                 end op=remove",
        verdict: Breaks(Rule::Synchronised),
    },
    Shape {
        name: "unmap, local TLBI",
        source: "RPSMWS; Zephyr issue 98344",
        stage: K4,
        events: "slot pa=$x3 value=$A; begin op=remove; write slot=$x3 new=0; dsb ishst; tlbi vaale1 @X; dsb ish; isb;
                 end op=remove",
        verdict: Breaks(Rule::Forgotten),
    },
];

/// Giving frames back.
pub const FRAMES: &[Shape] = &[
    Shape {
        name: "frame: alloc, map, unmap, free",
        source: "RDCJQM, IBBMSB",
        stage: K4,
        events: "alloc pa=$fA len=$page from=ram; begin op=add; write slot=$x3 new=$A; dsb ishst; isb; end op=add;
                 begin op=remove; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X; dsb ish; isb;
                 free pa=$fA len=$page to=ram; end op=remove",
        verdict: Clean,
    },
    Shape {
        name: "frame: free before the last DSB",
        source: "RDCJQM; CVE-2018-18281",
        stage: K4,
        events: "alloc pa=$fA len=$page from=ram; write slot=$x3 new=$A; dsb ishst; isb; write slot=$x3 new=0;
                 dsb ishst;
                 tlbi vaale1is @X; free pa=$fA len=$page to=ram",
        verdict: Breaks(Rule::FreedFrame),
    },
    Shape {
        name: "frame: free while mapped",
        source: "RDCJQM",
        stage: K16,
        events: "alloc pa=$fA len=$page from=altmap; write slot=$x3 new=$A; dsb ishst; isb;
                 free pa=$fA len=$page to=altmap",
        verdict: Breaks(Rule::FreedFrame),
    },
    Shape {
        name: "table: alloc, link, unlink, free",
        source: "RZSXRQ, RDCJQM",
        stage: K16,
        events: "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; dsb ishst; write slot=$z2 new=$tN; dsb ishst;
                 isb;
                 write slot=$z2 new=0; dsb ishst; tlbi vaae1is @Z; dsb ish; isb; free pa=$n len=$page to=ram",
        verdict: Clean,
    },
    Shape {
        name: "table: free after leaf-only TLBI",
        source: "RJXKNN, RRVJDB",
        stage: K16,
        events: "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; dsb ishst; write slot=$z2 new=$tN; dsb ishst;
                 isb;
                 write slot=$z2 new=0; dsb ishst; tlbi vaale1is @Z; dsb ish; isb; free pa=$n len=$page to=ram",
        verdict: Breaks(Rule::FreedTable),
    },
    Shape {
        name: "table: free while linked",
        source: "RDCJQM",
        stage: K4,
        events: "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; dsb ishst; write slot=$z2 new=$tN; dsb ishst;
                 isb;
                 free pa=$n len=$page to=ram",
        verdict: Breaks(Rule::FreedTable),
    },
    Shape {
        name: "cut at the top, then free the subtree",
        source: "RZSXRQ, RDCJQM; our reading: slots of a table that no walk reaches may stay",
        stage: K64,
        events: "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; write slot=$n new=$A; dsb ishst;
                 write slot=$z2 new=$tN;
                 dsb ishst; isb; write slot=$z2 new=0; dsb ishst; tlbi vmalle1is; dsb ish; isb;
                 free pa=$n len=$page to=ram",
        verdict: Clean,
    },
    Shape {
        name: "free twice",
        source: "the allocator's contract",
        stage: K4,
        events: "alloc pa=$fA len=$page from=ram; free pa=$fA len=$page to=ram; free pa=$fA len=$page to=ram",
        verdict: Breaks(Rule::Accounts),
    },
    Shape {
        name: "free to another allocator",
        source: "the allocator's contract",
        stage: K4,
        events: "alloc pa=$fA len=$page from=altmap; free pa=$fA len=$page to=ram",
        verdict: Breaks(Rule::Accounts),
    },
];

/// Descriptors, and what may replace what.
pub const DESCRIPTORS: &[Shape] = &[
    Shape {
        name: "break-before-make",
        source: "RDDMVT",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X; dsb ish; isb;
                 write slot=$x3 new=$B;
                 dsb ishst; isb",
        verdict: Clean,
    },
    Shape {
        name: "output address changed in place, accessed",
        source: "RWHZWS; the check that casemate 3.0.2 makes only for AF=0",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=$B; dsb ishst; tlbi vaale1is @X; dsb ish; isb",
        verdict: Breaks(Rule::LiveChange),
    },
    Shape {
        name: "permissions changed in place",
        source: "RGPPYH: no break, a TLBI after",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=$roA; dsb ishst; tlbi vaale1is @X; dsb ish; isb",
        verdict: Clean,
    },
    Shape {
        name: "contiguous bit set in place",
        source: "RKHRBC",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=$cA; dsb ishst; tlbi vaale1is @X; dsb ish; isb",
        verdict: Breaks(Rule::LiveChange),
    },
    Shape {
        name: "table replaced by a block in place",
        source: "RWHZWS; Linux ec28bb9c9b08",
        stage: K4,
        events: "write slot=$x2 new=$bA; dsb ishst; tlbi vaae1is @X; dsb ish; isb",
        verdict: Breaks(Rule::LiveChange),
    },
    Shape {
        name: "block where pages were, not yet forgotten",
        source: "RFVQCK",
        stage: K4,
        events: "slot pa=$x3+1 value=$A; write slot=$x3+1 new=0; write slot=$x2 new=0; dsb ishst;
                 write slot=$x2 new=$bB",
        verdict: Breaks(Rule::Overlap),
    },
    Shape {
        name: "block where pages were, forgotten",
        source: "RDDMVT",
        stage: K4,
        events: "slot pa=$x3+1 value=$A; write slot=$x3+1 new=0; write slot=$x2 new=0; dsb ishst; tlbi vaae1is @X+1;
                 dsb ish; isb; write slot=$x2 new=$bB; dsb ishst; isb",
        verdict: Clean,
    },
    Shape {
        name: "level 3 without bit 1",
        source: "D8.3: reserved",
        stage: K4,
        events: "write slot=$x3 new=$badA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "writable and executable",
        source: "W^X, our own rule",
        stage: K64,
        events: "write slot=$x3 new=$wxA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "not accessed",
        source: "IWZCBG; our own rule: AF is set from the start",
        stage: K16,
        events: "write slot=$x3 new=$noafA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "block at level 1 of 16K",
        source: "D8.3: not without LPA2; aarch64-paging 0.12.0",
        stage: K16,
        events: "write slot=$x1+1 new=$bA",
        verdict: Breaks(Rule::IllFormed),
    },
    Shape {
        name: "run: whole",
        source: "RSKQHL",
        stage: K16,
        events: "begin op=add; run* write slot=$x3+i new=$cA+i; dsb ishst; isb; end op=add",
        verdict: Clean,
    },
    Shape {
        name: "run: one member short",
        source: "RSKQHL, RQTRPM",
        stage: K64,
        events: "begin op=add; run* write slot=$x3+i new=$cA+i; write slot=$x3+9 new=0; dsb ishst;
                 run* tlbi vaale1is @X+i;
                 dsb ish; isb; end op=add",
        verdict: Breaks(Rule::Run),
    },
    Shape {
        name: "run: output addresses not aligned",
        source: "RSKQHL",
        stage: K4,
        events: "begin op=add; run* write slot=$x3+i new=$cA+j; dsb ishst; isb; end op=add",
        verdict: Breaks(Rule::Run),
    },
];

/// Order of stores, operands, registers, writers.
pub const OTHERS: &[Shape] = &[
    Shape {
        name: "link, zeroed before, DMB between (MP.TT.inv+dmb+tpo)",
        source: "RRGPMV; system-litmus-harness MP.TT.inv+dmb+tpo, our reading: a DMB orders two stores for walks",
        stage: K4,
        events: "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; dmb ishst; write slot=$z2 new=$tN; dsb ishst;
                 isb",
        verdict: Clean,
    },
    Shape {
        name: "link, zeroed before, nothing between",
        source: "RRGPMV",
        stage: K4,
        events: "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; write slot=$z2 new=$tN; dsb ishst; isb",
        verdict: Breaks(Rule::Unordered),
    },
    Shape {
        name: "link, not zeroed",
        source: "RRVJDB: whatever the frame held is walked",
        stage: K64,
        events: "alloc pa=$n len=$page from=ram; write slot=$z2 new=$tN; dsb ishst; isb",
        verdict: Breaks(Rule::Unordered),
    },
    Shape {
        name: "link of a frame that was given back",
        source: "RRVJDB: whoever has the frame now decides what is walked",
        stage: K64,
        events: "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; dsb ish; free pa=$n len=$page to=ram;
                 write slot=$z2 new=$tN; dsb ishst; isb",
        verdict: Breaks(Rule::Unordered),
    },
    Shape {
        name: "range operand for another granule",
        source: "RXKMMX, IQPHNP",
        stage: K4,
        events: "tlbi rvaale1is @X*2%64k; dsb ish; isb",
        verdict: Breaks(Rule::Operand),
    },
    Shape {
        name: "range operand for this granule",
        source: "IQPHNP",
        stage: K4,
        events: "tlbi rvaale1is @X*2; dsb ish; isb",
        verdict: Clean,
    },
    Shape {
        name: "address bits in the ASID and the hint",
        source: "IZVNJG; LK pull request 386",
        stage: K4,
        events: "tlbi vaale1is 0xfffffffffc000000; dsb ish; isb",
        verdict: Breaks(Rule::Operand),
    },
    Shape {
        name: "two writers",
        source: "RSPVBD; our reading",
        stage: K4,
        events: "write slot=$x3 new=$A; write cpu=1 slot=$x3 new=0",
        verdict: Breaks(Rule::Race),
    },
    Shape {
        name: "two writers, one after the other",
        source: "RSPVBD; our reading",
        stage: K4,
        events: "write slot=$x3 new=$A; dsb ishst; isb; write cpu=1 slot=$x3 new=0; dsb cpu=1 ishst;
                 tlbi cpu=1 vaale1is @X; dsb cpu=1 ish; isb cpu=1",
        verdict: Clean,
    },
    Shape {
        name: "WR.MAIR1 without tlbi",
        source: "RVNRFW (after system-litmus-harness WR.MAIR1+dsb-tlbi-dsb-isb-dc-dsb)",
        stage: K4,
        events: "begin op=linear; regs cpu=0 ttbr1=$root tcr=$tcr mair=0x44 sctlr=1; isb; end op=linear",
        verdict: Breaks(Rule::Registers),
    },
    Shape {
        name: "WR.MAIR1+isb-tlbi-dsb-isb",
        source: "RVNRFW (after system-litmus-harness WR.MAIR1+dsb-tlbi-dsb-isb-dc-dsb)",
        stage: K4,
        events: "begin op=linear; regs cpu=0 ttbr1=$root tcr=$tcr mair=0x44 sctlr=1; isb; tlbi vmalle1; dsb nsh; isb;
                 end op=linear",
        verdict: Clean,
    },
    Shape {
        name: "granule of TTBR1 reserved",
        source: "TCR_EL1.TG1 = 0; TF-A pull request 1105",
        stage: K4.alone(),
        events: "regs cpu=1 ttbr1=$root tcr=0x3535593510 mair=0x40044ffff sctlr=1",
        verdict: Breaks(Rule::Registers),
    },
    Shape {
        name: "root not aligned to its size",
        source: "RKBLCR",
        stage: K64.alone(),
        events: "regs cpu=1 ttbr1=0x40000040 tcr=$tcr mair=0x40044ffff sctlr=1",
        verdict: Breaks(Rule::Registers),
    },
];
