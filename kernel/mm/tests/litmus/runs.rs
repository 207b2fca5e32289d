//! Contiguous runs and blocks.

use Verdict::{Allowed, Forbidden};

use crate::shape::{Shape, Verdict};
use crate::stage::{K4, K16, K64};

pub const RUNS: &[Shape] = &[
    Shape {
        name: "run+TLBI each",
        source: "RLQLSD",
        stage: K4,
        events:
            "run* slot pa=$x3+i value=$cA+i; run* write slot=$x3+i new=0; dsb ishst; run* tlbi vaale1is @X+i; dsb ish;
                 isb",
        verdict: Forbidden(1, "X+5", "A+5"),
    },
    Shape {
        name: "run+TLBI first",
        source: "RLQLSD, IJQPNP: the bit enlarges no invalidation",
        stage: K4,
        events: "run* slot pa=$x3+i value=$cA+i; run* write slot=$x3+i new=0; dsb ishst; tlbi vaale1is @X; dsb ish;
                 isb",
        verdict: Allowed(1, "X+5", "A+5"),
    },
    Shape {
        name: "run of 128+TLBI all but the last",
        source: "RLQLSD; Linux eed6bfa8b282",
        stage: K16,
        events:
            "run* slot pa=$x3+i value=$cA+i; run* write slot=$x3+i new=0; dsb ishst; tlbi rvaale1is @X*126; dsb ish;
                 isb",
        verdict: Allowed(1, "X+127", "A+127"),
    },
    Shape {
        name: "run of 128+range",
        source: "RLQLSD, RRQKRKL",
        stage: K16,
        events:
            "run* slot pa=$x3+i value=$cA+i; run* write slot=$x3+i new=0; dsb ishst; tlbi rvaale1is @X*128; dsb ish;
                 isb",
        verdict: Forbidden(1, "X+127", "A+127"),
    },
    Shape {
        name: "run of blocks+TLBI first block",
        source: "RLQLSD",
        stage: K16,
        events: "slot pa=$x2 value=0; run2* slot pa=$x2+i value=$cbA+i; run2* write slot=$x2+i new=0; dsb ishst;
                 tlbi vaale1is @X; dsb ish; isb",
        verdict: Allowed(1, "Z", "A+2048"),
    },
    Shape {
        name: "run of blocks+TLBI one address in each",
        source: "RLQLSD, RLGSCG",
        stage: K16,
        events: "slot pa=$x2 value=0; run2* slot pa=$x2+i value=$cbA+i; run2* write slot=$x2+i new=0; dsb ishst;
                 tlbi vmalle1is; dsb ish; isb",
        verdict: Forbidden(1, "Z", "A+2048"),
    },
    Shape {
        name: "one member broken and invalidated",
        source: "RSKQHL: a member that is still valid may bring the run back",
        stage: K64,
        events: "run* slot pa=$x3+i value=$cA+i; write slot=$x3+4 new=0; dsb ishst; tlbi vaale1is @X+4; dsb ish; isb",
        verdict: Allowed(1, "X+4", "A+4"),
    },
    Shape {
        name: "invalid from the start among contiguous ones",
        source: "IPGVGZ: legal, and the invalid member may be translated",
        stage: K64,
        events: "run* slot pa=$x3+i value=$cA+i; slot pa=$x3+4 value=0",
        verdict: Allowed(1, "X+4", "A+4"),
    },
    Shape {
        name: "member by member, one after the other",
        source: "RSKQHL, RTGVWD: every TLBI but the last has a valid member beside it",
        stage: K4,
        events: "slot pa=$x3 value=$cA; slot pa=$x3+1 value=$cA+1; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X;
                 dsb ish; isb; write slot=$x3+1 new=0; dsb ishst; tlbi vaale1is @X+1; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "one member invalidated, then the table that the run is in",
        source: "RSKQHL, RRVJDB: the other members bring it back through the cached table entry, until that goes",
        stage: K4,
        events: "run* slot pa=$x3+i value=$cA+i; write slot=$x2 new=0; write slot=$x3+4 new=0; dsb ishst;
                 tlbi vaale1is @X+4; dsb ish; isb; tlbi vaae1is @X; dsb ish; isb",
        verdict: Allowed(1, "X+4", "A+4"),
    },
    Shape {
        name: "one page invalidated, then the table that it is in",
        source: "RTGVWD, RZSXRQ; the same with nothing to bring it back",
        stage: K4,
        events:
            "slot pa=$x3 value=$A; slot pa=$x3+4 value=$A+4; write slot=$x2 new=0; write slot=$x3+4 new=0; dsb ishst;
                 tlbi vaale1is @X+4; dsb ish; isb; tlbi vaae1is @X; dsb ish; isb",
        verdict: Forbidden(1, "X+4", "A+4"),
    },
    Shape {
        name: "pages without the bit, one after the other",
        source: "RTGVWD; the same with nothing to bring a page back",
        stage: K4,
        events: "slot pa=$x3 value=$A; slot pa=$x3+1 value=$A+1; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X;
                 dsb ish; isb; write slot=$x3+1 new=0; dsb ishst; tlbi vaale1is @X+1; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
];
