//! The mutants, with the numbers of the list that they were planned by.

use vmemmap::seam::Dsb;

use crate::fault::Fault::{self, Blind, Frames, NoIsb, Order, Registers, Store, Tlbi};
use crate::fault::Invalidation::ByRange;
use crate::fault::Place::{BeforeLink, BeforeTlbi, Complete, Publish};
use crate::fault::{self, Astray, Invalidation, Wrong};

/// One mutant.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// 1 to 56; 0 for what is no mutant of the list.
    pub number: u8,
    /// How it is called.
    pub name: &'static str,
    /// What it does wrong.
    pub what: &'static str,
    /// What is broken at the seam.
    pub fault: Fault,
    /// The rules that were expected to notice it, by code; `I` are invariants of the suite.
    pub expected: &'static str,
    /// What shows it on QEMU, if anything can.
    pub boot: Boot,
}

/// What a boot of the test image does with a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boot {
    /// The main job.
    Story,
    /// Two ranges side by side, removed in either order.
    Neighbours,
    /// Two ranges with tables of their own below a common one.
    Cousins,
    /// Populate and depopulate by themselves, with the mutant's allocator too.
    Populate,
    /// The registers of the booted machine, written again as the mutant has them.
    Registers,
    /// It can't be shown, for this reason.
    No(&'static str),
}

impl Boot {
    /// As a word, for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Story => "story",
            Self::Neighbours => "neighbours",
            Self::Cousins => "cousins",
            Self::Populate => "populate",
            Self::Registers => "registers",
            Self::No(_) => "no",
        }
    }
}

/// Mutants that none of the expected rules notices: the number, the rules that do, and why.
pub const OTHERWISE: &[(u8, &str, &str)] = &[(
    42,
    "E1 E2b",
    "a trace knows no locks, so a lost lock is no race by itself; and a table may go back with valid slots once nothing \
     reaches it. What the other CPU mapped there is found cached (E2b), and gone when it is used (E1)",
)];

/// The mutant called `name`, or the control.
#[must_use]
pub fn find(name: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().chain(CONTROLS).chain(OTHERS).find(|mutant| mutant.name == name)
}

macro_rules! mutants {
    ($(#[$doc:meta])* $list:ident: $($number:literal $name:literal, $what:literal, $fault:expr, $expected:literal, $boot:expr;)*) => {
        $(#[$doc])*
        pub const $list: &[Mutant] = &[$(
            Mutant { number: $number, name: $name, what: $what, fault: $fault, expected: $expected, boot: $boot },
        )*];
    };
}

mutants! {
    /// Every mutant of the list.
    MUTANTS:
    1 "no-tlbi-for-leaves", "no TLBI after leaves are cleared", Tlbi(Invalidation::NoneForLeaves), "E2b E3a", Boot::Story;
    2 "no-tlbi-for-tables", "no TLBI after a table is unlinked", Tlbi(Invalidation::NoneForTables), "E3b", Boot::Story;
    3 "last-level-tlbi-for-tables", "VAALE1IS when a table is unlinked", Tlbi(Invalidation::LastLevelForTables), "E3b", Boot::Story;
    4 "one-asid-tlbi-for-tables", "VAE1IS when a table is unlinked", Tlbi(Invalidation::OneAsidForTables), "E3b", Boot::Story;
    5 "hinted-tlbi-for-tables", "a level hint when a table is unlinked", Tlbi(Invalidation::HintForTables), "E3b", Boot::Story;
    6 "wrong-hint-for-blocks", "the level hint of pages for blocks", Tlbi(Invalidation::PageHint), "E2b", Boot::Story;
    7 "local-tlbi", "TLBI of this CPU only", Tlbi(Invalidation::Local), "E2b E9", Boot::Story;
    8 "local-dsb-after-tlbi", "DSB NSH after TLBI", Fault::Dsb(Complete, Some(Dsb::NonShareable)), "E2b", Boot::Story;
    9 "store-dsb-after-tlbi", "DSB ISHST after TLBI", Fault::Dsb(Complete, Some(Dsb::InnerShareableStores)), "E2b", Boot::Story;
    10 "no-dsb-before-tlbi", "no DSB between a store and its TLBI", Fault::Dsb(BeforeTlbi, None), "E2b", Boot::Story;
    11 "no-isb-after-tlbi", "no ISB at the end of a removal", NoIsb(Complete), "E2c", Boot::Story;
    12 "no-dsb-after-make", "no DSB after descriptors are made", Fault::Dsb(Publish, None), "E2a", Boot::Story;
    13 "no-isb-after-make", "no ISB after descriptors are made", NoIsb(Publish), "E1 E2c", Boot::Story;
    14 "frame-freed-before-dsb", "frames freed before the DSB behind the TLBI", Order(fault::Order::FreeBeforeComplete), "E3a", Boot::Story;
    15 "table-freed-before-unlink", "a table freed before its link is cleared", Order(fault::Order::FreeBeforeUnlink), "E3b", Boot::Story;
    16 "table-not-zeroed", "a new table is not zeroed", Store(fault::Store::NoZero), "E7", Boot::Story;
    17 "zeroing-not-ordered", "no barrier between zeroing a table and its link", Fault::Dsb(BeforeLink, None), "E7", Boot::Story;
    18 "block-to-table-in-place", "a live block replaced by a table", Store(fault::Store::BlockToTable), "E4 E5", Boot::Story;
    19 "table-to-block-in-place", "a live table replaced by a block", Store(fault::Store::TableToBlock), "E4 E5", Boot::Story;
    20 "address-changed-in-place", "a live leaf of the vmemmap gets another address", Store(fault::Store::MovesLeaf), "E4", Boot::Story;
    21 "contiguous-bit-in-place", "the Contiguous bit set on a live run", Store(fault::Store::FoldsLiveRun), "E4 E5", Boot::Story;
    22 "run-member-by-member", "a run cleared and invalidated member by member", Order(fault::Order::MemberByMember), "E2b", Boot::Story;
    23 "first-member-only", "TLBI of the first member of a run only", Tlbi(Invalidation::FirstMember), "E2b", Boot::Story;
    24 "run-of-another-granule", "runs of 16 members at 16K and 64K", Store(fault::Store::ShortRun), "E8", Boot::Story;
    25 "run-misaligned", "a run aligned in VA and not in PA", Store(fault::Store::RunByVirtualAddress), "E8", Boot::Story;
    26 "operand-in-pages", "TLBI operand VA >> page shift", Tlbi(Invalidation::OperandInPages), "E2b", Boot::Story;
    27 "operand-unmasked", "TLBI operand with VA[63:56] in its upper fields", Tlbi(Invalidation::OperandUnmasked), "E9", Boot::Story;
    28 "range-too-short", "range TLBI with NUM one too small", Tlbi(ByRange(fault::ByRange::TooShort)), "E2b", Boot::Story;
    29 "range-of-another-granule", "range TLBI with TG as TCR.TG1 has it", Tlbi(ByRange(fault::ByRange::OtherGranule)), "E9 E2b", Boot::Story;
    30 "tg1-as-tg0", "TCR.TG1 written with the encoding of TG0", Registers(Wrong::Tg1AsTg0), "E11", Boot::Registers;
    31 "t1sz-off-by-one", "TCR.T1SZ one too large", Registers(Wrong::T1sz), "E1 E11", Boot::Registers;
    32 "root-misaligned", "a root aligned to 8 bytes", Registers(Wrong::RootMisaligned), "E11", Boot::Registers;
    33 "block-too-high", "a block at a level that has none", Store(fault::Store::BlockTooHigh), "E6", Boot::Story;
    34 "block-misaligned", "a block whose PA is not aligned", Store(fault::Store::BlockMisaligned), "E6 E1", Boot::Story;
    35 "high-address-bits-in-place", "OA bits above 47 in the wrong place", Store(fault::Store::HighBitsInPlace), "E1", Boot::No("QEMU has no memory above 48 bits");
    36 "no-access-flag", "leaves with AF=0", Store(fault::Store::NoAccessFlag), "E6", Boot::Story;
    37 "shared-table-freed", "a table freed that links a neighbour's table", Blind(fault::Blind::OthersTables), "E1 E3b", Boot::Cousins;
    38 "only-own-slots-checked", "a table freed that holds a neighbour's leaves", Blind(fault::Blind::OthersLeaves), "E1", Boot::Neighbours;
    39 "shared-entry-cleared", "an L2 entry cleared that a neighbour's struct pages hang from", Store(fault::Store::ClearsWholeTable), "E1", Boot::Neighbours;
    40 "frames-swapped", "altmap frames to the RAM allocator, a table's frame to the altmap", Frames(Astray::Swapped), "E12", Boot::Populate;
    41 "no-rollback", "an error path that gives nothing back", Frames(Astray::NoRollback), "E3b I3", Boot::Populate;
    42 "lock-dropped", "another CPU's store between emptiness check and unlinking", Order(fault::Order::OtherCpuBetween), "E10 E3b", Boot::No("the kernel's one memory map has one writer at a time");
    43 "online-without-tlbi", "a CPU comes online with what its TLB held", Tlbi(Invalidation::NoneAtStart), "E1", Boot::Story;
    44 "mair-without-tlbi", "MAIR changed with the MMU on and no TLBI", Registers(Wrong::MairChanges), "E11", Boot::Registers;
    45 "everything-invalidated", "VMALLE1IS for every TLBI", Tlbi(Invalidation::Everything), "I8", Boot::Story;
    46 "no-grace-period", "a removal that does not wait for readers", Fault::NoGracePeriod, "E1", Boot::No("the job that is booted has no readers; `smp::a_removal_that_does_not_wait_for_readers_is_seen` has");
    47 "neighbours-edge-page-unmapped", "a page of the vmemmap unmapped that holds struct pages of a neighbour", Blind(fault::Blind::Neighbours), "I1 E1", Boot::No("the job that is booted adds whole pages of struct pages");
    48 "edge-page-kept-for-ever", "a page of the vmemmap kept for neighbours that are not there", Blind(fault::Blind::Ghosts), "I1 I3", Boot::No("the job that is booted adds whole pages of struct pages");
    49 "edge-page-in-altmap", "a page of the vmemmap that others may share in the altmap of one", Store(fault::Store::EdgeInAltmap), "I4 E12", Boot::No("the job that is booted adds whole pages of struct pages");
    50 "early-struct-pages-not-put-back", "boot's struct pages left as a range had them", Store(fault::Store::NotPutBack), "L6", Boot::No("the job that is booted adds nothing in a section of RAM");
    51 "tenants-forgotten", "frames of an altmap handed out that hold a range's struct pages", Blind(fault::Blind::Tenants), "I10 E12", Boot::No("the job that is booted adds no range in another's altmap");
    52 "no-isb-before-shared-struct-pages", "struct pages written that another CPU has mapped, without ISB", Fault::Unsynchronised, "E1", Boot::No("the CPU that adds is the one that has mapped what is there");
    53 "range-scale-too-small", "range TLBI with SCALE one too small", Tlbi(ByRange(fault::ByRange::ScaleTooSmall)), "E2b", Boot::Story;
    54 "range-base-in-4k", "range TLBI whose base is VA >> 12 at every granule", Tlbi(ByRange(fault::ByRange::BaseIn4K)), "E9 E2b", Boot::Story;
    55 "range-base-in-pages", "range TLBI whose base is VA >> page shift under LPA2 too", Tlbi(ByRange(fault::ByRange::BaseInPages)), "E9 E2b", Boot::No("no configuration that is booted has LPA2");
    56 "last-level-range-for-tables", "RVAALE1IS when neighbouring tables are unlinked", Tlbi(ByRange(fault::ByRange::LastLevelForTables)), "E3b", Boot::Story;
}

mutants! {
    /// Legal variants, which nothing may object to.
    CONTROLS:
    0 "unchanged", "the core as it is", Fault::None, "", Boot::Story;
    0 "more-barriers", "DSB ISH and ISB before each barrier", Order(fault::Order::MoreBarriers), "", Boot::Story;
    0 "stronger-dsb", "DSB ISH where DSB ISHST is enough", Fault::Dsb(Publish, Some(Dsb::InnerShareable)), "", Boot::Story;
    0 "any-level-tlbi", "VAAE1IS in place of VAALE1IS", Tlbi(Invalidation::AnyLevel), "", Boot::Story;
    0 "range-tlbi", "range TLBI, where the core has it", Tlbi(ByRange(fault::ByRange::Right)), "", Boot::Story;
    0 "leaf-by-leaf", "leaves that are no members of runs, cleared and invalidated one by one", Order(fault::Order::LeafByLeaf), "", Boot::Story;
    0 "mair-with-tlbi", "MAIR changed with the MMU on, then ISB, TLBI VMALLE1IS, DSB ISH, ISB", Registers(Wrong::MairChangesRightly), "", Boot::Registers;
}

mutants! {
    /// Mutants beside the list, for the boots of the test image.
    OTHERS:
    0 "no-tlbi", "no TLB maintenance at all", Tlbi(Invalidation::None), "", Boot::Story;
    0 "another-address", "every TLBI by address names a page 64 MiB further on", Tlbi(Invalidation::ElsewhereByAddress), "", Boot::Story;
}
