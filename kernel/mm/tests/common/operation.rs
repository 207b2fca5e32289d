//! The operations that a scene is put through, as values: made at random, shrunk, printed.

use proptest::prelude::*;
use vmemmap::hotplug::RangeKind;
use vmemmap::leaf::LeafPolicy;

use super::geometry::Arena;

/// Where struct pages are to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    Ram,
    /// An altmap of exactly the frames that are needed, after a reserve.
    Tight {
        reserve: u64,
    },
    /// With frames to spare.
    Roomy {
        reserve: u64,
        spare: u64,
    },
    /// Made for a range that starts in the middle of the same page.
    Unaligned,
    /// One frame too small.
    Short,
    /// Made for the range behind.
    Elsewhere,
    /// Larger than the range.
    Huge,
    /// One that serves others already.
    Used,
    /// What is left of the altmap of one that is there.
    Host(usize),
}

/// How much to add.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// So many units, so many units into the arena: no page of the vmemmap describes anything else.
    Units { at: u64, count: u64 },
    /// So many times 2 MiB from somewhere around a boundary on: [`AROUND`] is on it.
    Steps { boundary: u64, at: u64, count: u64 },
    /// A unit more than that.
    Long { at: u64, count: u64 },
    /// As much as a large leaf maps, so many times that into the arena.
    Big { at: u64 },
}

/// How many times 2 MiB before a boundary [`Extent::Steps`] begin.
pub const AROUND: u64 = 4;

/// What struct pages that are populated on their own are to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Whole pages of the vmemmap.
    Whole,
    /// One less, so that the last page is an edge page.
    Ragged,
    /// The same, which others are said to use.
    Claimed,
    /// They reach beyond the window.
    Outside,
}

/// What to do. Indices choose among what there is, modulo its number.
#[derive(Clone, Debug)]
pub enum Operation {
    Add {
        arena: Arena,
        extent: Extent,
        /// For device memory; that of other kinds is RAM.
        store: Store,
        policy: LeafPolicy,
        kind: RangeKind,
    },
    Remove(usize),
    /// The handle is dropped: the range stays for ever.
    Forget(usize),
    /// No new references to a range.
    Close(usize),
    Reopen(usize),
    /// A CPU takes a reference to a range by its first pfn, its last, or one between.
    Hold {
        which: usize,
        at: usize,
    },
    /// The reference is dropped.
    LetGo(usize),
    /// Add in the altmap of a range that has gone.
    AddIntoGone,
    /// Add where the CPU, the linear map or the vmemmap does not reach.
    AddBeyond(usize),
    /// Add a range that overlaps a live one: from before it, from its middle, around it.
    AddOver {
        which: usize,
        from_before: bool,
        to_behind: bool,
    },
    /// Remove a region of another memory map.
    RemoveForeign(usize),
    /// Add with a boundary that is no multiple of 2 MiB, or nothing.
    AddMisaligned {
        start: bool,
        by_page: bool,
        empty: bool,
    },
    /// Struct pages without a hot-plug, so many pages of vmemmap.
    Populate {
        at: u64,
        count: u64,
        store: Store,
        policy: LeafPolicy,
        cut: Cut,
    },
    Depopulate(usize),
    /// Frames at the top of the address space, outside of both windows: so many pages, that far below the end.
    Map {
        below: u64,
        pages: u64,
        kind: usize,
        whole: bool,
        policy: LeafPolicy,
    },
    Unmap(usize),
    /// A CPU synchronises its context.
    Synchronise,
    /// The next CPU comes online.
    Online,
}

/// An operation and the CPU that does it, modulo those that are online.
#[derive(Clone, Debug)]
pub struct Step {
    pub cpu: u8,
    pub operation: Operation,
}

/// A whole scene: CPUs, of which the first is there from the start, or all are, and what they do.
#[derive(Clone, Debug)]
pub struct Case {
    pub cpus: u8,
    pub booting: bool,
    pub boot_ram: bool,
    /// The CPUs have invalidations by range.
    pub ranges: bool,
    pub steps: Vec<Step>,
}

fn policy() -> impl Strategy<Value = LeafPolicy> {
    prop_oneof![Just(LeafPolicy::Largest), Just(LeafPolicy::Linux), Just(LeafPolicy::Pages)]
}

fn store() -> impl Strategy<Value = Store> {
    prop_oneof![
        4 => Just(Store::Ram),
        6 => (0_u64..4).prop_map(|reserve| Store::Tight { reserve }),
        3 => (0_u64..8, 1_u64..40).prop_map(|(reserve, spare)| Store::Roomy { reserve, spare }),
        2 => Just(Store::Unaligned),
        1 => Just(Store::Short),
        1 => Just(Store::Elsewhere),
        1 => Just(Store::Huge),
        1 => Just(Store::Used),
        4 => any::<usize>().prop_map(Store::Host),
    ]
}

fn arena() -> impl Strategy<Value = Arena> {
    prop_oneof![3 => Just(Arena::Near), 2 => Just(Arena::Far), 1 => Just(Arena::Bare), 2 => Just(Arena::Early)]
}

fn kind() -> impl Strategy<Value = RangeKind> {
    prop_oneof![4 => Just(RangeKind::Device), 1 => Just(RangeKind::Private), 1 => Just(RangeKind::PeerToPeer)]
}

fn extent() -> impl Strategy<Value = Extent> {
    prop_oneof![
        2 => (0_u64..8, 1_u64..3).prop_map(|(at, count)| Extent::Units { at, count }),
        8 => (0_u64..3, 0..2 * AROUND, 1_u64..6)
            .prop_map(|(boundary, at, count)| Extent::Steps { boundary, at, count }),
        2 => (0..2 * AROUND, 0_u64..4).prop_map(|(at, count)| Extent::Long { at, count }),
        1 => (0_u64..2).prop_map(|at| Extent::Big { at }),
    ]
}

fn add() -> impl Strategy<Value = Operation> {
    (arena(), extent(), store(), policy(), kind()).prop_map(|(arena, extent, store, policy, kind)| {
        // Large ranges in pages take thousands of descriptors and show nothing that small ones don't.
        let policy = if matches!(extent, Extent::Big { .. }) { LeafPolicy::Largest } else { policy };
        Operation::Add { arena, extent, store, policy, kind }
    })
}

fn populate() -> impl Strategy<Value = Operation> {
    let cut =
        prop_oneof![6 => Just(Cut::Whole), 2 => Just(Cut::Ragged), 1 => Just(Cut::Claimed), 1 => Just(Cut::Outside)];
    (0_u64..40, 1_u64..20, store(), policy(), cut).prop_map(|(at, count, store, policy, cut)| Operation::Populate {
        at,
        count,
        store,
        policy,
        cut,
    })
}

fn map() -> impl Strategy<Value = Operation> {
    (0_u64..40, 1_u64..40, 0_usize..4, prop::bool::weighted(0.9), policy())
        .prop_map(|(below, pages, kind, whole, policy)| Operation::Map { below, pages, kind, whole, policy })
}

fn operation() -> impl Strategy<Value = Operation> {
    let over = (any::<usize>(), any::<bool>(), any::<bool>());
    let misaligned = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    prop_oneof![
        12 => add(),
        5 => any::<usize>().prop_map(Operation::Remove),
        1 => any::<usize>().prop_map(Operation::Forget),
        1 => any::<usize>().prop_map(Operation::Close),
        1 => any::<usize>().prop_map(Operation::Reopen),
        3 => (any::<usize>(), 0_usize..3).prop_map(|(which, at)| Operation::Hold { which, at }),
        2 => any::<usize>().prop_map(Operation::LetGo),
        1 => Just(Operation::AddIntoGone),
        1 => any::<usize>().prop_map(Operation::AddBeyond),
        2 => over.prop_map(|(which, from_before, to_behind)| Operation::AddOver { which, from_before, to_behind }),
        1 => any::<usize>().prop_map(Operation::RemoveForeign),
        1 => misaligned.prop_map(|(start, by_page, empty)| Operation::AddMisaligned { start, by_page, empty }),
        3 => populate(),
        2 => any::<usize>().prop_map(Operation::Depopulate),
        3 => map(),
        2 => any::<usize>().prop_map(Operation::Unmap),
        3 => Just(Operation::Synchronise),
        1 => Just(Operation::Online),
    ]
}

/// A step by any CPU.
pub fn step() -> impl Strategy<Value = Step> {
    (0_u8..4, operation()).prop_map(|(cpu, operation)| Step { cpu, operation })
}

/// A case of up to `most` steps.
pub fn case(most: usize) -> impl Strategy<Value = Case> {
    (2_u8..=4, any::<[bool; 3]>(), prop::collection::vec(step(), 1..=most))
        .prop_map(|(cpus, [booting, boot_ram, ranges], steps)| Case { cpus, booting, boot_ram, ranges, steps })
}
