//! Addresses and page frame numbers: three numbers that must never be mixed up, and half-open ranges of two of them.

use core::fmt;

/// A physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(u64);

/// A virtual address, in bytes, as the CPU sees it (the upper half has its top bits set).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(u64);

/// A page frame number: a physical address divided by the granule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(u64);

macro_rules! address {
    ($name:ident) => {
        impl $name {
            /// The address with this value.
            #[must_use]
            #[inline]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The value in bytes.
            #[must_use]
            #[inline]
            pub const fn value(self) -> u64 {
                self.0
            }

            /// This address plus `bytes`, modulo 2^64 (the end of the upper half is 0, as in Linux's arithmetic).
            #[must_use]
            #[inline]
            pub const fn add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// Bytes from `earlier` to this address, modulo 2^64.
            #[must_use]
            #[inline]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.wrapping_sub(earlier.0)
            }

            /// Whether the address is a multiple of `alignment` bytes, a power of two.
            #[must_use]
            #[inline]
            pub const fn is_aligned(self, alignment: u64) -> bool {
                self.0 & (alignment - 1) == 0
            }

            /// The nearest multiple of `alignment` bytes (a power of two) at or below.
            #[must_use]
            #[inline]
            pub const fn align_down(self, alignment: u64) -> Self {
                Self(self.0 & !(alignment - 1))
            }

            /// The nearest multiple of `alignment` bytes (a power of two) at or above, modulo 2^64.
            #[must_use]
            #[inline]
            pub const fn align_up(self, alignment: u64) -> Self {
                self.add(alignment - 1).align_down(alignment)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(PhysAddr);
address!(VirtAddr);

impl Pfn {
    /// The frame with this number.
    #[must_use]
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The frame that holds `address`, for pages of 2^`page_shift` bytes.
    #[must_use]
    #[inline]
    pub const fn containing(address: PhysAddr, page_shift: u32) -> Self {
        Self(address.0 >> page_shift)
    }

    /// The number itself.
    #[must_use]
    #[inline]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The first byte of the frame, for pages of 2^`page_shift` bytes.
    #[must_use]
    #[inline]
    pub const fn address(self, page_shift: u32) -> PhysAddr {
        PhysAddr(self.0 << page_shift)
    }

    /// The frame `count` frames further on.
    #[must_use]
    #[inline]
    pub const fn add(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}

/// A half-open range of physical addresses. Never wraps and is never backwards; it may be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysRange {
    start: PhysAddr,
    end: PhysAddr,
}

impl PhysRange {
    /// The range without any byte, at 0.
    pub const EMPTY: Self = Self { start: PhysAddr(0), end: PhysAddr(0) };

    /// The range of `bytes` bytes at `start`; `None` if its end does not fit in 64 bits.
    #[must_use]
    #[inline]
    pub const fn new(start: PhysAddr, bytes: u64) -> Option<Self> {
        match start.0.checked_add(bytes) {
            Some(end) => Some(Self { start, end: PhysAddr(end) }),
            None => None,
        }
    }

    /// The range from `start` up to, not including, `end`; `None` if `end` is below `start`.
    #[must_use]
    #[inline]
    pub const fn between(start: PhysAddr, end: PhysAddr) -> Option<Self> {
        if end.0 < start.0 { None } else { Some(Self { start, end }) }
    }

    /// The first byte.
    #[must_use]
    #[inline]
    pub const fn start(self) -> PhysAddr {
        self.start
    }

    /// One past the last byte.
    #[must_use]
    #[inline]
    pub const fn end(self) -> PhysAddr {
        self.end
    }

    /// Length in bytes.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether it holds no byte at all.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `address` lies inside.
    #[must_use]
    #[inline]
    pub const fn contains(self, address: PhysAddr) -> bool {
        self.start.0 <= address.0 && address.0 < self.end.0
    }

    /// Whether the two ranges share a byte.
    #[must_use]
    #[inline]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }

    /// The smallest range that holds this one and starts and ends at multiples of `alignment` (a power of two).
    /// `None` if its end does not fit in 64 bits.
    #[must_use]
    #[inline]
    pub const fn widen(self, alignment: u64) -> Option<Self> {
        match self.end.0.checked_add(alignment - 1) {
            Some(end) => {
                Some(Self { start: self.start.align_down(alignment), end: PhysAddr(end).align_down(alignment) })
            }
            None => None,
        }
    }
}

impl fmt::Display for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}

/// A stretch of virtual addresses: a first byte and a length, so that it may end at the top of the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtRange {
    start: VirtAddr,
    bytes: u64,
}

impl VirtRange {
    /// The range of `bytes` bytes at `start`.
    #[must_use]
    #[inline]
    pub const fn new(start: VirtAddr, bytes: u64) -> Self {
        Self { start, bytes }
    }

    /// The first byte.
    #[must_use]
    #[inline]
    pub const fn start(self) -> VirtAddr {
        self.start
    }

    /// One past the last byte; 0 when the range ends at the top of the address space.
    #[must_use]
    #[inline]
    pub const fn end(self) -> VirtAddr {
        self.start.add(self.bytes)
    }

    /// Length in bytes.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Whether it does not go on at address 0 behind the top of the address space.
    #[must_use]
    #[inline]
    pub const fn is_below_top(self) -> bool {
        self.bytes == 0 || self.bytes - 1 <= u64::MAX - self.start.value()
    }

    /// Whether `address` lies inside.
    #[must_use]
    #[inline]
    pub const fn contains(self, address: VirtAddr) -> bool {
        address.since(self.start) < self.bytes
    }

    /// Whether `other` lies wholly inside.
    #[must_use]
    #[inline]
    pub const fn covers(self, other: Self) -> bool {
        let offset = other.start.since(self.start);
        offset <= self.bytes && other.bytes <= self.bytes - offset
    }
}

impl fmt::Display for VirtRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}..{:016x}", self.start.0, self.end().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_physical_range_never_wraps() {
        assert_eq!(PhysRange::new(PhysAddr::new(u64::MAX), 2), None);
        assert_eq!(PhysRange::between(PhysAddr::new(2), PhysAddr::new(1)), None);
    }

    #[test]
    fn ranges_that_only_touch_do_not_overlap() {
        let low = PhysRange::new(PhysAddr::new(0), 0x1000).unwrap();
        let high = PhysRange::new(PhysAddr::new(0x1000), 0x1000).unwrap();
        assert!(!low.overlaps(high));
        assert!(low.overlaps(PhysRange::new(PhysAddr::new(0xfff), 2).unwrap()));
    }

    #[test]
    fn widening_reaches_the_section_boundaries_on_both_sides() {
        let range = PhysRange::new(PhysAddr::new(0x4000_1000), 0x1000).unwrap();
        let wide = range.widen(0x800_0000).unwrap();
        assert_eq!((wide.start().value(), wide.end().value()), (0x4000_0000, 0x4800_0000));
    }

    #[test]
    fn a_virtual_range_may_end_at_the_top() {
        let top = VirtRange::new(VirtAddr::new(0xffff_ffff_ffff_f000), 0x1000);
        assert_eq!(top.end().value(), 0);
        assert!(top.contains(VirtAddr::new(u64::MAX)));
        assert!(!top.contains(VirtAddr::new(0)));
        assert!(!top.covers(VirtRange::new(VirtAddr::new(0xffff_ffff_ffff_f000), 0x1001)));
    }
}
