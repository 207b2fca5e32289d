//! What can be broken at the seam.

use vmemmap::seam::Dsb;

/// One mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing: the core as it is.
    None,
    /// TLB invalidations are other ones, or none.
    Tlbi(Invalidation),
    /// A DSB is another one, or none.
    Dsb(Place, Option<Dsb>),
    /// An ISB is left out.
    NoIsb(Place),
    /// Steps come in another order.
    Order(Order),
    /// Descriptors are altered on their way to memory, or changed again afterwards.
    Store(Store),
    /// What is read of a table or a record in use by others is not what it holds.
    Blind(Blind),
    /// A CPU translates by other registers.
    Registers(Wrong),
    /// Frames go astray.
    Frames(Astray),
    /// A removal does not wait for readers.
    NoGracePeriod,
    /// A CPU does not synchronise before it writes to struct pages that others have mapped.
    Unsynchronised,
}

/// The barriers of the protocol, by what they are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Between filling new tables and linking them.
    BeforeLink,
    /// After making descriptors valid.
    Publish,
    /// Between clearing descriptors and the invalidations.
    BeforeTlbi,
    /// After the invalidations.
    Complete,
    /// After a local invalidation.
    Local,
}

/// What happens to invalidations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalidation {
    /// None at all.
    None,
    /// None for leaves.
    NoneForLeaves,
    /// None for unlinked tables.
    NoneForTables,
    /// The last-level form for unlinked tables.
    LastLevelForTables,
    /// The form for ASID 0 for unlinked tables.
    OneAsidForTables,
    /// A level 3 hint for unlinked tables.
    HintForTables,
    /// A level 3 hint for every leaf, blocks included.
    PageHint,
    /// The local forms.
    Local,
    /// None before a CPU takes part.
    NoneAtStart,
    /// Only the first member of a contiguous run.
    FirstMember,
    /// Another page, 64 MiB further on.
    ElsewhereByAddress,
    /// An operand in pages in place of 4 KiB units.
    OperandInPages,
    /// An operand with the address bits above 55 left in.
    OperandUnmasked,
    /// The core has range forms, which pass like this.
    ByRange(ByRange),
    /// Everything, in place of each single one.
    Everything,
    /// Every level, in place of the last: legal.
    AnyLevel,
}

/// What happens to range forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByRange {
    /// Nothing: legal.
    Right,
    /// NUM is one too small.
    TooShort,
    /// SCALE is one too small.
    ScaleTooSmall,
    /// TG is encoded as in `TCR.TG1`.
    OtherGranule,
    /// The base counts 4 KiB, as single operands do.
    BaseIn4K,
    /// The base counts pages under LPA2 too.
    BaseInPages,
    /// The last-level form for unlinked tables.
    LastLevelForTables,
}

/// What comes in another order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Frames go back before the DSB that completes the invalidation of their leaves.
    FreeBeforeComplete,
    /// Tables go back before their link is cleared.
    FreeBeforeUnlink,
    /// Each member of a run is cleared and invalidated before the next.
    MemberByMember,
    /// Each leaf that is no member of a run is cleared and invalidated before the next: legal.
    LeafByLeaf,
    /// Another CPU writes to a table between the look at it and its unlinking.
    OtherCpuBetween,
    /// More barriers than needed: legal.
    MoreBarriers,
}

/// How stores are altered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    /// New tables are not zeroed.
    NoZero,
    /// A live block becomes a table of pages before it is cleared.
    BlockToTable,
    /// A live table becomes a block before it is cleared.
    TableToBlock,
    /// A live leaf of the vmemmap gets another address.
    MovesLeaf,
    /// The Contiguous bit is set once the run is live.
    FoldsLiveRun,
    /// Runs have 16 members whatever the granule.
    ShortRun,
    /// Runs are chosen by virtual address alone.
    RunByVirtualAddress,
    /// A table link is a block, at a level that has none.
    BlockTooHigh,
    /// Blocks map frames that are not aligned to them.
    BlockMisaligned,
    /// Output address bits above 47 stand in their own place, whatever the format.
    HighBitsInPlace,
    /// Leaves without the access flag.
    NoAccessFlag,
    /// The vmemmap's table is cut off while another range has struct pages in it.
    ClearsWholeTable,
    /// Edge pages of the vmemmap are in the altmap of the range that maps them.
    EdgeInAltmap,
    /// Boot's struct pages are left as a range had them that is gone.
    NotPutBack,
}

/// What a look at a table or at a record does not see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blind {
    /// Tables of others.
    OthersTables,
    /// Leaves of others.
    OthersLeaves,
    /// Sub-sections that share a page of the vmemmap with a range that is removed.
    Neighbours,
    /// That nothing is active beside a range that is removed.
    Ghosts,
    /// Ranges that live in an altmap.
    Tenants,
}

/// How registers are wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// `TCR.TG1` in the encoding of TG0.
    Tg1AsTg0,
    /// `TCR.T1SZ` one too large.
    T1sz,
    /// `TTBR1` 8 bytes off.
    RootMisaligned,
    /// MAIR changes while the CPU runs, and nothing is invalidated.
    MairChanges,
    /// The same with the invalidation: legal.
    MairChangesRightly,
}

/// Where frames go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Astray {
    /// The altmap's to the allocator of RAM, and a table's frame to the altmap.
    Swapped,
    /// Nowhere, when an operation fails half-way.
    NoRollback,
}
