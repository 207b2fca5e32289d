//! One page: making it, breaking it, and what makes others forget it.

use Verdict::{Allowed, Forbidden};

use crate::shape::{Shape, Verdict, esop, herd};
use crate::stage::{K4, K16, K64};

/// On the CPU that breaks the page itself.
pub const OWN: &[Shape] = &[
    Shape {
        name: "V2I-W-DSB.ISH-TLBI-DSB.ISH-ISB-W",
        source: herd!("Forbidden"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi vaae1 @X; dsb ish; isb",
        verdict: Forbidden(0, "X", "A"),
    },
    Shape {
        name: "V2I-W-DSB.ST-TLBI-DSB.ISH-ISB-R",
        source: herd!("Forbidden"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb st; tlbi vaae1 @X; dsb ish; isb",
        verdict: Forbidden(0, "X", "A"),
    },
    Shape {
        name: "V2I-W-DSB.LD-TLBI-DSB.ISH-ISB-R",
        source: herd!("Allowed"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ld; tlbi vaae1 @X; dsb ish; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "V2I-W-DSB.ISH-TLBI-DSB.ST-ISB-R",
        source: herd!("Allowed"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi vaae1 @X; dsb st; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "V2I-W-DSB.ISH-TLBI-DSB.LD-ISB-R",
        source: herd!("Allowed"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi vaae1 @X; dsb ld; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "CoWinvT1+tlbi-dsb-isb",
        source: "RTGVWD (name: system-litmus-harness)",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; tlbi vaae1 @X; dsb sy; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "CoWinvT1+dsb-tlbi-dsb",
        source: "RBLDZX without FEAT_ETS2, our reading (name: system-litmus-harness)",
        stage: K64,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; tlbi vae1 @X; dsb sy",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "CoWinvT1+dsb-isb-tlbi-dsb",
        source: "RBLDZX: the context synchronisation comes after the DSB; our reading",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; isb; tlbi vae1 @X; dsb sy",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "CoWinvT1+dsb-tlbi-isb-dsb-isb",
        source: "RBLDZX",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; tlbi vae1 @X; isb; dsb sy; isb",
        verdict: Forbidden(0, "X", "A"),
    },
    Shape {
        name: "CoWinvT+dsb-isb",
        source: "RFFWJK: a TLB is not coherent (name: system-litmus-harness)",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "needTLBI1",
        source: herd!("Allowed"),
        stage: K4,
        events: "write slot=$x3 new=$B; dsb ish; tlbi vae1is @X; dsb ish; write slot=$x3 new=0; dsb ish",
        verdict: Allowed(0, "X", "B"),
    },
    Shape {
        name: "CoWinvT1+dsb.nsh-tlbi-dsb.nsh-isb",
        source: "RPSMWS: NSH is enough for a local invalidation",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb nshst; tlbi vaae1 @X; dsb nsh; isb",
        verdict: Forbidden(0, "X", "A"),
    },
];

/// Making a page.
pub const MADE: &[Shape] = &[
    Shape {
        name: "D15347-load-invalid",
        source: herd!("Allowed"),
        stage: K4,
        events: "write slot=$x3 new=$B",
        verdict: Allowed(0, "X", "fault"),
    },
    Shape {
        name: "D15347-load-DSB",
        source: herd!("Allowed"),
        stage: K4,
        events: "write slot=$x3 new=$B; dsb ish",
        verdict: Allowed(0, "X", "fault"),
    },
    Shape {
        name: "coWRExpNExp+DSB-ISB",
        source: herd!("Forbidden"),
        stage: K4,
        events: "write slot=$x3 new=$B; dsb ish; isb",
        verdict: Forbidden(0, "X", "fault"),
    },
    Shape {
        name: "I2V-W-DSB.ST-ISB-R",
        source: herd!("Forbidden"),
        stage: K16,
        events: "write slot=$x3 new=$B; dsb st; isb",
        verdict: Forbidden(0, "X", "fault"),
    },
    Shape {
        name: "I2V-W-DSB.LD-ISB-R",
        source: herd!("Allowed"),
        stage: K16,
        events: "write slot=$x3 new=$B; dsb ld; isb",
        verdict: Allowed(0, "X", "fault"),
    },
    Shape {
        name: "I2V-W-ISB-DSB-R",
        source: "RSPVBD, IWZCBG: the ISB must follow the DSB; our reading",
        stage: K64,
        events: "write slot=$x3 new=$B; isb; dsb ish",
        verdict: Allowed(0, "X", "fault"),
    },
    Shape {
        name: "D15347-M-load-DMBST+DMBLD",
        source: herd!("Allowed"),
        stage: K4,
        events: "write slot=$x3 new=$B; dmb st; dmb cpu=1 ld",
        verdict: Allowed(1, "X", "fault"),
    },
    Shape {
        name: "D15347-M-load-shoot-noscope+DMB.LD",
        source: herd!("Allowed"),
        stage: K4,
        events: "write slot=$x3 new=$B; dsb ish; tlbi vaae1is @X+9; dsb ish; dmb cpu=1 ld",
        verdict: Allowed(1, "X", "fault"),
    },
    Shape {
        name: "D15347-M-load-DSB+DSB-ISB",
        source: herd!("Forbidden"),
        stage: K4,
        events: "write slot=$x3 new=$B; dsb ish; dsb cpu=1 ish; isb cpu=1",
        verdict: Forbidden(1, "X", "fault"),
    },
    Shape {
        name: "I2V-W-DSB.NSH+DSB-ISB",
        source: "RSPVBD: the other CPU is outside the domain of the writer's DSB; our reading",
        stage: K4,
        events: "write slot=$x3 new=$B; dsb nshst; dsb cpu=1 ish; isb cpu=1",
        verdict: Allowed(1, "X", "fault"),
    },
];

/// Breaking a page that another CPU uses.
pub const REMOTE: &[Shape] = &[
    Shape {
        name: "V2I-W-DSB.ISH-TLBI-DSB.ISH-W+RR",
        source: herd!("Allowed"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi vaae1 @X; dsb ish; dmb cpu=1 ld",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "RBS+dsb-tlbiis-dsb",
        source: esop!("forbidden"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; tlbi vae1is @X; dsb sy",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "MP.RT.EL1+dsb-shootdown-dsb+dsb-isb",
        source: esop!("forbidden"),
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; dsb cpu=1 sy; tlbi cpu=1 vae1 @X; dsb cpu=1 sy;
                 isb cpu=1",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb-tlbiis-dsb+dsb-isb",
        source: "RPSMWS, RYNJCP (name: system-litmus-harness)",
        stage: K64,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; tlbi vae1is @X; dsb sy; dsb cpu=1 sy; isb cpu=1",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb-tlbi-dsb+dsb-isb",
        source: "D8.17: a local form reaches no other CPU (name: system-litmus-harness)",
        stage: K64,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; tlbi vae1 @X; dsb sy; dsb cpu=1 sy; isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb-tlbiallis-dsb+dsb-isb",
        source: "RPSMWS, RYNJCP (name: system-litmus-harness)",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; tlbi vmalle1is; dsb sy; dsb cpu=1 sy; isb cpu=1",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb-tlbiall-dsb+dsb-isb",
        source: "D8.17: a local form reaches no other CPU (name: system-litmus-harness)",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; tlbi vmalle1; dsb sy; dsb cpu=1 sy; isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "MP+dmb.st+dsb.ld-tlbi-noscope-dsb-isb",
        source: herd!("Allowed"),
        stage: K4,
        events:
            "slot pa=$x3 value=$A; write slot=$x3 new=0; dmb st; dsb cpu=1 ld; tlbi cpu=1 vaae1is @X+9; dsb cpu=1 ish;
                 isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "coRR-pte9",
        source: herd!("Forbidden"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi vaae1is @X; dsb ish; write slot=$x3 new=$B",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "coRR-pte9-nobbm+dsb",
        source: herd!("Allowed"),
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=$B; dsb cpu=1 sy",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "MP.BBM1+dsb-tlbiis-dsb-dsb-isb+dsb-isb",
        source: "RDDMVT, RSPVBD, IWZCBG (name: system-litmus-harness, its spurious abort)",
        stage: K64,
        events:
            "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb sy; tlbi vae1is @X; dsb sy; write slot=$x3 new=$B; dsb sy;
                 isb; dsb cpu=1 sy; isb cpu=1",
        verdict: Forbidden(1, "X", "fault"),
    },
    Shape {
        name: "MP.BBM1+tlbiis-dsb-dsb+dsb-isb",
        source: "RTGVWD (name: system-litmus-harness)",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; tlbi vae1is @X; dsb sy; write slot=$x3 new=$B; dsb sy;
                 dsb cpu=1 sy; isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb-tlbiis-dsb.nsh+dsb-isb",
        source: "RPSMWS: a broadcast needs the domain that it went to",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi vaae1is @X; dsb nsh; dsb cpu=1 sy;
                 isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb-tlbiis-dsb.ishst+dsb-isb",
        source: "RPSMWS: loads and stores",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaae1is @X; dsb ishst; isb; dsb cpu=1 sy;
                 isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb-tlbiis+dsb-isb",
        source: "RYNJCP, K11.5.3.2: the DSB is the issuer's",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi vaae1is @X; dsb cpu=1 ish; isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb.nsh-tlbiis-dsb+dsb-isb",
        source: "RSPVBD, RTGVWD: the store must be visible to the CPUs that the invalidation goes to; our reading",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb nshst; tlbi vaae1is @X; dsb ish; dsb cpu=1 sy;
                 isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "MP.RT1+dsb-tlbios-dsb.osh+dsb-isb",
        source: "FEAT_TLBIOS, RPSMWS",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi vaae1os @X; dsb osh; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "WRC+shoot",
        source: "RTGVWD, RYNJCP; one CPU breaks and completes, another invalidates (after WRC+shoot+DSB of herd)",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ish; tlbi cpu=1 vaae1is @X; dsb cpu=1 ish",
        verdict: Forbidden(0, "X", "A"),
    },
];

/// Which leaves an operation takes away.
pub const REACH: &[Shape] = &[
    Shape {
        name: "TLBI+ttl-right",
        source: "RSQXYZ",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X/3; dsb ish; isb",
        verdict: Forbidden(0, "X", "A"),
    },
    Shape {
        name: "TLBI+ttl-of-the-block",
        source: "RSQXYZ: with a wrong hint nothing need be invalidated",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X/2; dsb ish; isb",
        verdict: Allowed(0, "X", "A"),
    },
    Shape {
        name: "TLBI+block+ttl-right",
        source: "RSQXYZ",
        stage: K16,
        events: "slot pa=$z2 value=$bA; write slot=$z2 new=0; dsb ishst; tlbi vaale1is @Z/2; dsb ish; isb",
        verdict: Forbidden(1, "Z", "A"),
    },
    Shape {
        name: "TLBI+block+ttl-of-the-page",
        source: "RSQXYZ",
        stage: K16,
        events: "slot pa=$z2 value=$bA; write slot=$z2 new=0; dsb ishst; tlbi vaale1is @Z/3; dsb ish; isb",
        verdict: Allowed(1, "Z", "A"),
    },
    Shape {
        name: "TLBI+ttl-reserved",
        source: "D8.17 TTL: 16K level 1 without LPA2 is reserved and counts as no hint",
        stage: K16,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaae1is @X/1; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "TLBI+block+any-address",
        source: "RLGSCG: any address of a block takes all of it away",
        stage: K64,
        events: "slot pa=$z2 value=$bA; write slot=$z2 new=0; dsb ishst; tlbi vaale1is @Z+77; dsb ish; isb",
        verdict: Forbidden(1, "Z+3", "A+3"),
    },
    Shape {
        name: "TLBI+neighbour",
        source: "D8.17: by address, of that address",
        stage: K64,
        events: "slot pa=$x3+1 value=$A+1; write slot=$x3+1 new=0; dsb ishst; tlbi vaae1is @X; dsb ish; isb",
        verdict: Allowed(1, "X+1", "A+1"),
    },
    Shape {
        name: "TLBI+low-bits",
        source: "IHQTLK: 64K ignores bits 3:0 of the operand",
        stage: K64,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vaale1is @X/3|15; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "TLBI+va-by-page-shift",
        source: "IZVNJG; Zephyr issue 115708",
        stage: K64,
        events: "slot pa=$x3+1 value=$A+1; write slot=$x3+1 new=0; dsb ishst; tlbi vaale1is @X+1>>; dsb ish; isb",
        verdict: Allowed(0, "X+1", "A+1"),
    },
    Shape {
        name: "TLBI+asid+global",
        source: "RVMSWQ: a global leaf goes whatever the ASID",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi vale1is @X#5; dsb ish; isb",
        verdict: Forbidden(1, "X", "A"),
    },
    Shape {
        name: "ASIDE1+global",
        source: "D8.17.5: the form for an ASID leaves global leaves",
        stage: K4,
        events: "slot pa=$x3 value=$A; write slot=$x3 new=0; dsb ishst; tlbi aside1is 0; dsb ish; isb",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "RVAALE1+first",
        source: "RRQKRKL",
        stage: K4,
        events: "slot pa=$x3+1 value=$A+1; write slot=$x3+1 new=0; dsb ishst; tlbi rvaale1is @X*2; dsb ish; isb",
        verdict: Forbidden(1, "X+1", "A+1"),
    },
    Shape {
        name: "RVAALE1+beyond",
        source: "RRQKRKL: (NUM+1) * 2^(5*SCALE+1) granules and no more; Linux e3ba51ab24fd",
        stage: K4,
        events: "slot pa=$x3+2 value=$A+2; write slot=$x3+2 new=0; dsb ishst; tlbi rvaale1is @X*2; dsb ish; isb",
        verdict: Allowed(1, "X+2", "A+2"),
    },
    Shape {
        name: "RVAALE1+scale",
        source: "RRQKRKL",
        stage: K16,
        events: "slot pa=$x3+127 value=$A+127; write slot=$x3+127 new=0; dsb ishst; tlbi rvaale1is @X*128; dsb ish;
                 isb",
        verdict: Forbidden(1, "X+127", "A+127"),
    },
    Shape {
        name: "RVAALE1+hint",
        source: "RSQXYZ, IQPHNP",
        stage: K16,
        events: "slot pa=$x3+1 value=$A+1; write slot=$x3+1 new=0; dsb ishst; tlbi rvaale1is @X*2/2; dsb ish; isb",
        verdict: Allowed(1, "X+1", "A+1"),
    },
    Shape {
        name: "RVAALE1+granule",
        source: "RXKMMX: for another granule nothing need be invalidated",
        stage: K4,
        events: "slot pa=$x3+1 value=$A+1; write slot=$x3+1 new=0; dsb ishst; tlbi rvaale1is @X*2%64k; dsb ish; isb",
        verdict: Allowed(1, "X+1", "A+1"),
    },
];

/// What others forbid and the adversary allows, on purpose: it asks for more than hardware needs, and no program that
/// is written by the book is refused for it.
pub const CAUTIOUS: &[Shape] = &[
    Shape {
        name: "MP+dmb.st+dsb.ld-tlbi-dsb-isb",
        source: herd!("Forbidden; here a store counts as seen by walks after its writer's DSB only (RSPVBD)"),
        stage: K4,
        events:
            "slot pa=$x3 value=$A; write slot=$x3 new=0; dmb st; dsb cpu=1 ld; tlbi cpu=1 vaae1is @X; dsb cpu=1 ish;
                 isb cpu=1",
        verdict: Allowed(1, "X", "A"),
    },
    Shape {
        name: "D15347-M-load-shoot+DMB.LD",
        source: herd!("Forbidden; here only a context synchronisation ends a fault in flight (IWZCBG)"),
        stage: K4,
        events: "write slot=$x3 new=$B; dsb ish; tlbi vaae1is @X; dsb ish; dmb cpu=1 ld",
        verdict: Allowed(1, "X", "fault"),
    },
];
