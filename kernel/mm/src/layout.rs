//! Where things are in the kernel half, as a value: the linear map, the vmemmap, and the arithmetic between physical
//! addresses, pfns and their struct pages. [`Layout::linux`] is one way to make one; an adopter gives its own windows.
//!
//! Formulas: Linux `asm/memory.h` and `arm64_memblock_init()` of 6.9 and later.

use crate::addr::{Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::descriptor::Attributes;
use crate::granule::GranuleSize;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// The windows of the kernel half, what ties them to physical memory, and with which attributes they are mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    granule: GranuleSize,
    linear: VirtRange,
    vmemmap: VirtRange,
    memstart: u64,
    struct_page_shift: u32,
    normal: Attributes,
    /// Number of a memory attribute.
    peer: u8,
}

impl Layout {
    /// A layout with the given windows. `memstart` is the physical address that the first byte of `linear` maps (it may
    /// be "negative": all arithmetic is modulo 2^64) and that the first byte of `vmemmap` describes. Struct pages are
    /// 2^`struct_page_shift` bytes.
    #[must_use]
    #[inline]
    pub const fn new(
        granule: GranuleSize,
        linear: VirtRange,
        vmemmap: VirtRange,
        memstart: u64,
        struct_page_shift: u32,
    ) -> Self {
        let normal = Attributes::KERNEL;
        Self { granule, linear, vmemmap, memstart, struct_page_shift, normal, peer: Attributes::DEVICE_STRICT.index() }
    }

    /// Linux's layout for a kernel configured for `va_bits`, with 64-byte struct pages.
    #[must_use]
    #[inline]
    pub const fn linux(granule: GranuleSize, va_bits: u32, memstart: u64) -> Self {
        let bytes = vmemmap_bytes(granule, va_bits);
        let linear_bytes = page_end(granule, va_bits).since(page_offset(va_bits));
        let linear = VirtRange::new(page_offset(va_bits), linear_bytes);
        let vmemmap = VirtRange::new(VMEMMAP_END.add(bytes.wrapping_neg()), bytes);
        Self::new(granule, linear, vmemmap, memstart, 6)
    }

    /// The same with these attributes for ordinary memory: struct pages, and the linear map of a device's memory. Without it
    /// [`Attributes::KERNEL`], whose memory attribute 0 is Normal write-back in Linux's `MAIR_EL1`
    /// ([`MAIR`](crate::regime::MAIR)). A kernel with another `MAIR_EL1` says here which of its attributes is.
    ///
    /// # Panics
    ///
    /// If they are [unfit](Attributes::unfit_for_data): not writable, executable, for EL0, not global, or without AF.
    #[must_use]
    pub const fn attributes(self, normal: Attributes) -> Self {
        if let Some(why) = normal.unfit_for_data() {
            panic!("{}", why);
        }
        Self { normal, ..self }
    }

    /// The same with memory attribute `index`, which is to be Device-nGnRnE, for a peer's window. Without it 3, as in Linux's
    /// `MAIR_EL1`.
    ///
    /// # Panics
    ///
    /// If there is no such attribute: they are 0 to 7.
    #[must_use]
    pub const fn peer_attribute(self, index: u8) -> Self {
        assert!(index < 8, "memory attributes are 0 to 7");
        Self { peer: index, ..self }
    }

    /// Of leaves that map ordinary memory.
    #[inline]
    pub(crate) const fn normal(&self) -> Attributes {
        self.normal
    }

    /// Of leaves that map a peer's window.
    #[inline]
    pub(crate) const fn peer(&self) -> Attributes {
        Attributes::DEVICE_STRICT.with_index(self.peer)
    }

    /// The granule that it is for.
    #[must_use]
    #[inline]
    pub const fn granule(&self) -> GranuleSize {
        self.granule
    }

    /// The linear map's window: `PAGE_OFFSET` to `PAGE_END`.
    #[must_use]
    #[inline]
    pub const fn linear(&self) -> VirtRange {
        self.linear
    }

    /// The vmemmap's window: `VMEMMAP_START` to `VMEMMAP_END`.
    #[must_use]
    #[inline]
    pub const fn vmemmap(&self) -> VirtRange {
        self.vmemmap
    }

    /// The physical address that both windows start with, modulo 2^64.
    #[must_use]
    #[inline]
    pub const fn memstart(&self) -> u64 {
        self.memstart
    }

    /// Bytes of a struct page.
    #[must_use]
    #[inline]
    pub const fn struct_page_bytes(&self) -> u64 {
        1 << self.struct_page_shift
    }

    /// Where the linear map shows `address`.
    #[must_use]
    #[inline]
    pub const fn linear_address(&self, address: PhysAddr) -> VirtAddr {
        self.linear.start().add(address.value().wrapping_sub(self.memstart))
    }

    /// What the linear map shows at `address`; meaningful for addresses inside [`Layout::linear`].
    #[must_use]
    #[inline]
    pub const fn physical_address(&self, address: VirtAddr) -> PhysAddr {
        PhysAddr::new(address.since(self.linear.start()).wrapping_add(self.memstart))
    }

    /// Where the linear map shows `range`.
    #[must_use]
    #[inline]
    pub const fn linear_range(&self, range: PhysRange) -> VirtRange {
        VirtRange::new(self.linear_address(range.start()), range.bytes())
    }

    /// The frame number of memstart, which may be negative: the shift is that of a signed number, as in Linux.
    const fn first_frame(&self) -> u64 {
        (self.memstart.cast_signed() >> self.granule.shift()).cast_unsigned()
    }

    /// The struct page of `pfn`.
    #[must_use]
    #[inline]
    pub const fn page(&self, pfn: Pfn) -> VirtAddr {
        let first = self.first_frame();
        self.vmemmap.start().add(pfn.number().wrapping_sub(first) << self.struct_page_shift)
    }

    /// The frame whose struct page holds `address`; meaningful inside [`Layout::vmemmap`].
    #[must_use]
    #[inline]
    pub const fn pfn(&self, address: VirtAddr) -> Pfn {
        let first = self.first_frame();
        Pfn::new((address.since(self.vmemmap.start()) >> self.struct_page_shift).wrapping_add(first))
    }

    /// The struct pages of `range`, which starts and ends at page boundaries.
    #[must_use]
    #[inline]
    pub const fn pages(&self, range: PhysRange) -> VirtRange {
        let bytes = range.bytes() >> self.granule.shift() << self.struct_page_shift;
        VirtRange::new(self.page(Pfn::containing(range.start(), self.granule.shift())), bytes)
    }

    /// The part of `range` that is described by whole pages of vmemmap which describe nothing else. It may be empty. `range`
    /// starts and ends at page boundaries. (At 4K with 64-byte struct pages it is every range of whole sub-sections.)
    #[must_use]
    #[inline]
    pub const fn interior(&self, range: PhysRange) -> PhysRange {
        let (pages, edge) = (self.pages(range), self.granule.bytes() - 1);
        let above_start = self.described_bytes(pages.start().value().wrapping_neg() & edge);
        let below_end = self.described_bytes(pages.end().value() & edge);
        let bytes = range.bytes().saturating_sub(above_start + below_end);
        match PhysRange::new(range.start().add(above_start), bytes) {
            Some(interior) => interior,
            None => PhysRange::EMPTY,
        }
    }

    /// Whether the two windows can work: apart, below the top, in step with pages, and translated, `lowest` being the first
    /// address of the kernel half: the vmemmap wholly, the linear map at its end. (Linux's 52-bit kernel keeps its windows on
    /// a CPU with 48 bits.)
    #[must_use]
    pub const fn fits(&self, lowest: VirtAddr) -> bool {
        let (linear, vmemmap, page) = (self.linear, self.vmemmap, self.granule.bytes());
        let last = linear.start().add(linear.bytes().wrapping_sub(1));
        let translated = last.value() >= lowest.value() && vmemmap.start().value() >= lowest.value();
        let in_step = linear.start().value().wrapping_sub(self.memstart).is_multiple_of(page);
        let below_top = linear.is_below_top() && vmemmap.is_below_top();
        let apart = !linear.contains(vmemmap.start()) && !vmemmap.contains(linear.start());
        translated && in_step && vmemmap.start().is_aligned(page) && below_top && apart
    }

    /// Bytes of memory that one page of vmemmap describes (256 KiB, 4 MiB, 64 MiB with 64-byte struct pages).
    #[must_use]
    #[inline]
    pub const fn described_by_page(&self) -> u64 {
        self.described_bytes(self.granule.bytes())
    }

    /// Bytes of memory that `bytes` bytes of struct pages describe.
    const fn described_bytes(&self, bytes: u64) -> u64 {
        bytes >> self.struct_page_shift << self.granule.shift()
    }

    /// The physical memory whose struct pages the page of vmemmap at `page` holds, as far as it is between 0 and 2^52.
    #[must_use]
    pub const fn described_by(&self, page: VirtAddr) -> PhysRange {
        let shift = self.granule.shift();
        let pages = self.granule.bytes() >> self.struct_page_shift;
        let first = self.pfn(page).number().cast_signed();
        let end = first + pages.cast_signed();
        physical(
            PhysAddr::new(first.cast_unsigned() << shift),
            PhysAddr::new(end.cast_unsigned() << shift),
            MOST_PA_BITS,
        )
    }

    /// The physical memory that the linear map can show, on a CPU with `pa_bits` bits of physical address that translates
    /// addresses from `lowest` on: Linux's `arch_get_mappable_range()`.
    #[must_use]
    #[inline]
    pub const fn mappable(&self, pa_bits: u32, lowest: VirtAddr) -> PhysRange {
        let first = if lowest.value() > self.linear.start().value() { lowest } else { self.linear.start() };
        physical(self.physical_address(first), self.physical_address(self.linear.end()), pa_bits)
    }

    /// The physical memory whose struct pages lie in the vmemmap: what memory without a linear map is limited to (Linux
    /// asks nothing at the lower end there, and struct pages of what lies below memstart would land below the vmemmap).
    /// It is the whole window that counts: who gives a part of it away, as Linux's fallback does below `VMALLOC_END`,
    /// takes the narrower layout.
    #[must_use]
    #[inline]
    pub const fn describable(&self) -> PhysRange {
        let shift = self.granule.shift();
        let first = self.first_frame() << shift;
        // More than exists would not fit into 64 bits.
        let (frames, most) = (self.vmemmap.bytes() >> self.struct_page_shift, 1 << (MOST_PA_BITS + 1 - shift));
        let end = first.wrapping_add(if frames > most { most } else { frames } << shift);
        physical(PhysAddr::new(first), PhysAddr::new(end), MOST_PA_BITS)
    }
}

/// Bits of the largest physical address of the architecture's tables here.
const MOST_PA_BITS: u32 = 52;

/// What exists, where there are `pa_bits` bits of physical address, from `start` to `end`, which may be negative.
#[inline]
const fn physical(start: PhysAddr, end: PhysAddr, pa_bits: u32) -> PhysRange {
    let (start, end, most) = (start.value().cast_signed(), end.value().cast_signed(), 1 << pa_bits);
    let start = if start < 0 { 0 } else { start };
    let end = if end > most { most } else { end };
    if start >= end {
        return PhysRange::EMPTY;
    }
    match PhysRange::between(PhysAddr::new(start.cast_unsigned()), PhysAddr::new(end.cast_unsigned())) {
        Some(range) => range,
        None => PhysRange::EMPTY,
    }
}

/// End of Linux's vmemmap window: 1 GiB below the top, at every granule.
pub const VMEMMAP_END: VirtAddr = VirtAddr::new(GIB.wrapping_neg());
/// Linux's PCI I/O window: 16 MiB from 8 MiB above the vmemmap.
pub const PCI_IO: VirtRange = VirtRange::new(VMEMMAP_END.add(8 * MIB), 16 * MIB);
/// Top of Linux's fixmap, which grows down: 8 MiB below the top.
pub const FIXADDR_TOP: VirtAddr = VirtAddr::new((8 * MIB).wrapping_neg());

/// The VA size that a kernel configured for `va_bits` falls back to: 47 at 16K, 48 elsewhere (Linux's `VA_BITS_MIN`).
#[must_use]
#[inline]
pub const fn va_bits_min(granule: GranuleSize, va_bits: u32) -> u32 {
    match granule {
        GranuleSize::K16 if va_bits > 48 => 47,
        _ if va_bits > 48 => 48,
        _ => va_bits,
    }
}

/// Linux's `PAGE_OFFSET`: −2^VA.
#[must_use]
#[inline]
pub const fn page_offset(va_bits: u32) -> VirtAddr {
    VirtAddr::new((1_u64 << va_bits).wrapping_neg())
}

/// Linux's `PAGE_END`: the linear map takes the lower half of the smallest address space.
#[must_use]
#[inline]
pub const fn page_end(granule: GranuleSize, va_bits: u32) -> VirtAddr {
    VirtAddr::new((1_u64 << (va_bits_min(granule, va_bits) - 1)).wrapping_neg())
}

/// Linux's `VMEMMAP_SIZE` in bytes, for 64-byte struct pages.
#[must_use]
#[inline]
pub const fn vmemmap_bytes(granule: GranuleSize, va_bits: u32) -> u64 {
    page_end(granule, va_bits).since(page_offset(va_bits)) >> granule.shift() << 6
}

/// Linux's `VMALLOC_END`: 8 MiB below the part of the vmemmap that a CPU with `actual_va_bits` can use.
#[must_use]
#[inline]
pub const fn vmalloc_end(granule: GranuleSize, va_bits: u32, actual_va_bits: u32) -> VirtAddr {
    let unused = page_offset(actual_va_bits).since(page_offset(va_bits)) >> granule.shift() << 6;
    VMEMMAP_END.add(vmemmap_bytes(granule, va_bits).wrapping_neg()).add(unused).add((8 * MIB).wrapping_neg())
}

/// What memstart is rounded to: 1 GiB at 4K and 16K, 512 MiB at 64K (never below a section).
#[must_use]
#[inline]
pub const fn memstart_alignment(granule: GranuleSize) -> u64 {
    match granule {
        GranuleSize::K4 | GranuleSize::K16 => GIB,
        GranuleSize::K64 => GIB / 2,
    }
}

/// Linux's `memstart_addr` for RAM that spans `ram`, on a CPU that runs a kernel configured for `va_bits` with
/// `actual_va_bits`. The result may be "negative"; RAM below it, or beyond the linear map, is to be ignored.
#[must_use]
#[inline]
pub const fn memstart(granule: GranuleSize, va_bits: u32, actual_va_bits: u32, ram: PhysRange) -> u64 {
    let alignment = memstart_alignment(granule);
    let linear = page_end(granule, va_bits).since(page_offset(actual_va_bits));
    let from_start = ram.start().align_down(alignment).value();
    let start = if ram.end().value() - from_start > linear {
        PhysAddr::new(ram.end().value() - linear).align_up(alignment).value()
    } else {
        from_start
    };
    start.wrapping_sub(page_offset(actual_va_bits).since(page_offset(va_bits)))
}

#[cfg(test)]
#[path = "layout_limits_tests.rs"]
mod limits_tests;
#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
