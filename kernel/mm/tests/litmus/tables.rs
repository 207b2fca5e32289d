//! Table entries: unlinking, re-use, order of making.

use Verdict::{Allowed, Forbidden};

use crate::shape::{Shape, Verdict, esop};
use crate::stage::{K4, K16, K64};

/// Taking a table away.
pub const UNLINKED: &[Shape] = &[
    Shape {
        name: "CoWT1.L23+dsb-tlbi-dsb-isb (VAAE1)",
        source: "RZSXRQ (name: system-litmus-harness, pmds)",
        stage: K4,
        events:
            "slot pa=$x3 value=$A; alloc pa=$n len=$page from=ram; zero pa=$n len=$page; write slot=$n new=$B; dsb sy;
                 write slot=$x2 new=$tN; dsb sy; tlbi vaae1 @X; dsb sy; isb",
        verdict: Forbidden(0, "X", "A"),
    },
    Shape {
        name: "CoWT1.L23+dsb-tlbi-dsb-isb",
        source: "RVMSWQ: table entries may be those of any ASID (name: system-litmus-harness, pmds)",
        stage: K4,
        events:
            "slot pa=$x3 value=$A; alloc pa=$n len=$page from=ram; zero pa=$n len=$page; write slot=$n new=$B; dsb sy;
                 write slot=$x2 new=$tN; dsb sy; tlbi vae1 @X; dsb sy; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "unlink+VAALE1IS",
        source: "RJXKNN: the last-level forms leave table entries",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x2 new=0; dsb ishst; tlbi vaale1is @X; dsb ish; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "unlink+VAAE1IS",
        source: "RZSXRQ",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x2 new=0; dsb ishst; tlbi vaae1is @X; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "unlink+VAAE1IS, another address of the table",
        source: "RZSXRQ; our reading: what is below one table entry is found through it alone",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; write slot=$x2 new=0; dsb ishst; tlbi vaale1is @X;
                 tlbi vaae1is @X+9; dsb ish; isb; write slot=$x3 new=$B; dsb ish; isb",
        verdict: Forbidden(1, "X", "B"),
    },
    Shape {
        name: "unlink+VAE1IS",
        source: "RVMSWQ",
        stage: K64,
        events: "slot pa=$x3 value=$A; write slot=$x2 new=0; dsb ishst; tlbi vae1is @X; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "unlink+VAAE1IS+ttl3",
        source: "ILTZBK: a hint is the level of a leaf; Linux 36e008323926",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x2 new=0; dsb ishst; tlbi vaae1is @X/3; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "unlink+VAAE1IS+ttl2",
        source: "ILTZBK; our reading for the level of the table entry itself",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; write slot=$x2 new=0; dsb ishst; tlbi vaale1is @X;
                 tlbi vaae1is @X/2; dsb ish; isb; write slot=$x3 new=$B",
        verdict: Allowed(1, "X", "B"),
    },
    Shape {
        name: "unlink+VMALLE1IS",
        source: "D8.17.5: all entries",
        stage: K64,
        events: "slot pa=$x3 value=$A; write slot=$x2 new=0; dsb ishst; tlbi vmalle1is; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "unlink+RVAAE1IS",
        source: "RRQKRKL, RZSXRQ",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x2 new=0; dsb ishst; tlbi rvaae1is @X*2; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "unlink+RVAALE1IS",
        source: "RJXKNN",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x2 new=0; dsb ishst; tlbi rvaale1is @X*2; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "unlink, then write below",
        source: "RRVJDB: walk caches are TLB entries; Linux 285994a62c80",
        stage: K4,
        events: "write slot=$x2 new=0; dsb ish; isb; write slot=$x3 new=$B; dsb ish; isb",
        verdict: Allowed(1, "X", "B"),
    },
    Shape {
        name: "unlink at level 1, leaf-only invalidation",
        source: "RRVJDB, RJXKNN",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x1 new=0; dsb ishst; tlbi vaale1is @X; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "unlink at level 1, all levels of one address",
        source: "RZSXRQ: table entries of every level",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x1 new=0; dsb ishst; tlbi vaae1is @X; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "unlink, break below after",
        source: "RRVJDB, RTGVWD: what a cached table entry still reaches comes back",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x2 new=0; dsb ishst; tlbi vaale1is @X; dsb ish; isb; dsb cpu=1 ish;
                 isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
];

/// Linking a table.
pub const LINKED: &[Shape] = &[
    Shape {
        name: "ROT.inv+dsb",
        source: esop!("forbidden"),
        stage: K4,
        events:
            "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; write slot=$n new=$A; dsb sy; write slot=$n new=$B;
                 dsb sy; write slot=$z2 new=$tN; dsb sy; isb",
        verdict: Forbidden(1, "Z", "A"),
    },
    Shape {
        name: "ROT+po-po",
        source: "RRGPMV: nothing orders the two stores for a walk (name: system-litmus-harness, pmds)",
        stage: K4,
        events:
            "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; write slot=$n new=$A; dsb sy; write slot=$n new=$B;
                 write slot=$z2 new=$tN",
        verdict: Allowed(1, "Z", "A"),
    },
    Shape {
        name: "ROT1+dsb-dsb-tlbi-dsb",
        source: "RDDMVT, RZSXRQ (after system-litmus-harness, pmds: a table re-used in another place)",
        stage: K64,
        events:
            "slot pa=$x3 value=$A; write slot=$x3 new=0; write slot=$x2 new=0; dsb ishst; tlbi vaae1is @X; dsb ish; isb;
                 write slot=$x3 new=$B; dsb ish; write slot=$z2 new=$tL3; dsb ish; isb; dsb cpu=1 ish; isb cpu=1",
        verdict: Forbidden(1, "X", "B"),
    },
    Shape {
        name: "ROT1+dsb-dsb",
        source: "RRVJDB: the table is still reached from its old place; our reading",
        stage: K64,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; write slot=$x2 new=0; dsb ish; isb; write slot=$x3 new=$B;
                 dsb ish; write slot=$z2 new=$tL3; dsb ish; isb; dsb cpu=1 ish; isb cpu=1",
        verdict: Allowed(1, "X", "B"),
    },
    Shape {
        name: "CoWT.L23+dsb-isb",
        source: "RSPVBD, IWZCBG (name: system-litmus-harness, pmds)",
        stage: K16,
        events:
            "alloc pa=$n len=$page from=ram; zero pa=$n len=$page; write slot=$n new=$A; dsb sy; write slot=$z2 new=$tN;
                 dsb sy; isb",
        verdict: Forbidden(0, "Z", "fault"),
    },
];

/// Corners that random programs have found (`lockstep.rs`).
pub const CORNERS: &[Shape] = &[
    Shape {
        name: "unlink, write below, one DSB for both",
        source: "RTGRMW, RRVJDB: until the DSB a walk goes through the old link and caches what is below it",
        stage: K4,
        events: "write slot=$x2 new=0; write slot=$x3+9 new=$B+9; dsb ishst; tlbi vaae1is @X; dsb ish; isb",
        verdict: Allowed(1, "X+9", "B+9"),
    },
    Shape {
        name: "unlink, write below, one DSB for both+TLBI there",
        source: "RZSXRQ",
        stage: K4,
        events: "write slot=$x2 new=0; write slot=$x3+9 new=$B+9; dsb ishst; tlbi vaae1is @X; tlbi vaae1is @X+9;
                 dsb ish; isb",
        verdict: Forbidden(1, "X+9", "B+9"),
    },
    Shape {
        name: "table and leaf below it in one batch",
        source: "RTGVWD: nothing orders two TLBIs; between them a walk may go through the table entry; our reading",
        stage: K4,
        events: "slot pa=$x3+9 value=$A+9; write slot=$x2 new=0; dsb ishst; tlbi vaae1is @X; tlbi vaale1is @X+9;
                 dsb ish; isb",
        verdict: Allowed(1, "X+9", "A+9"),
    },
    Shape {
        name: "table and leaf below it, the leaf broken too",
        source: "RTGVWD, RJXKNN, RZSXRQ: nothing is left to be walked in between",
        stage: K4,
        events: "slot pa=$x3+9 value=$A+9; write slot=$x3+9 new=0; write slot=$x2 new=0; dsb ishst; tlbi vaae1is @X;
                 tlbi vaale1is @X+9; dsb ish; isb",
        verdict: Forbidden(1, "X+9", "A+9"),
    },
    Shape {
        name: "written again where one CPU alone still walks",
        source: "RRVJDB, RBLDZX: what the others hold is not touched by that",
        stage: K16,
        events: "slot pa=$x3+9 value=$A+9; write slot=$x2 new=0; dsb ishst; tlbi vaae1is @X; dsb ish;
                 write slot=$x3+9 new=$A+9; dsb ish; isb",
        verdict: Allowed(1, "X+9", "A+9"),
    },
    Shape {
        name: "table linked while a break in it is under way",
        source: "RTGRMW: the walk that comes through the link may read the old leaf",
        stage: K64,
        events: "slot pa=$n+9 value=$A+9; write slot=$n+9 new=0; write slot=$z2 new=$tN; dsb ish; isb",
        verdict: Allowed(1, "Z+9", "A+9"),
    },
];

/// Roots and CPUs that come online.
pub const ROOTS: &[Shape] = &[
    Shape {
        name: "TTBR1 changed+nothing",
        source: "RVNRFW",
        stage: K4,
        events: "slot pa=$x3 value=$A; alloc pa=$r len=$page from=ram; zero pa=$r len=$page; dsb ish;
                 regs cpu=0 ttbr1=$r tcr=$tcr mair=0x40044ffff sctlr=1; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "TTBR1 changed+isb-tlbi-dsb-isb",
        source: "RVNRFW: synchronise, then invalidate",
        stage: K4,
        events: "slot pa=$x3 value=$A; alloc pa=$r len=$page from=ram; zero pa=$r len=$page; dsb ish;
                 regs cpu=0 ttbr1=$r tcr=$tcr mair=0x40044ffff sctlr=1; isb; tlbi vmalle1; dsb nsh; isb",
        verdict: Forbidden(0, "X", "A"),
    },
    Shape {
        name: "TTBR1 changed+tlbi-dsb-isb",
        source: "RVNRFW: an invalidation before the context is synchronised comes too early",
        stage: K4,
        events: "slot pa=$x3 value=$A; alloc pa=$r len=$page from=ram; zero pa=$r len=$page; dsb ish;
                 regs cpu=0 ttbr1=$r tcr=$tcr mair=0x40044ffff sctlr=1; tlbi vmalle1; dsb nsh; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "online+nothing",
        source: "D8.17: the contents of a TLB out of reset are unknown; our reading",
        stage: K4.alone(),
        events: "slot pa=$x3 value=$A; isb; regs cpu=1 $regs",
        verdict: Allowed(1, "X", "garbage"),
    },
    Shape {
        name: "online+tlbi-dsb-isb",
        source: "D8.17, RPSMWS; our reading",
        stage: K4.alone(),
        events: "slot pa=$x3 value=$A; tlbi cpu=1 vmalle1; dsb cpu=1 nsh; isb cpu=1; regs cpu=1 $regs",
        verdict: Forbidden(1, "X", "garbage"),
    },
];
