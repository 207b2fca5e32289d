//! The struct page: what the vmemmap is an array of. [`Meta`] is the adopter's; [`StructPage`] is ours.

use core::mem::{MaybeUninit, size_of};

use crate::addr::Pfn;

/// What a page of memory is to the memory model when its struct page is initialised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Boot RAM.
    Ram,
    /// Device memory that its owner may use.
    Device,
    /// Set aside in the altmap for struct pages.
    Altmap,
    /// The altmap's reserve: frames that belong to the driver and are never handed out.
    Reserve,
    /// Memory that the CPU can't reach.
    Private,
}

/// A struct page of any kernel. One stands at every pfn's place in the vmemmap, written once by [`Meta::new`] before the
/// pfn becomes valid.
///
/// # Safety
///
/// The type must have a size that is a power of two, at least 8 and no alignment beyond it, and no padding: the whole of
/// its bytes is written by storing it.
pub unsafe trait Meta: Copy + 'static {
    /// The struct page of `pfn`, which is to serve as `role`. It runs while the range is half added: it must not panic. On any
    /// CPU, and on several at once, where [`commit_with`](crate::hotplug::Plan::commit_with) lends the work.
    fn new(pfn: Pfn, role: Role) -> Self;
}

/// log2 of the bytes of `P`.
///
/// # Panics
///
/// At compile time where it is const: if the size is no power of two or below 8.
#[must_use]
#[inline]
pub const fn struct_page_shift<P: Meta>() -> u32 {
    assert!(size_of::<P>().is_power_of_two() && size_of::<P>() >= 8, "a struct page is 8, 16, 32, 64, .. bytes");
    size_of::<P>().trailing_zeros()
}

/// Which pfns of a range serve as what: the reserve first, then the altmap's storage, then the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles {
    /// One past the last pfn of the reserve; the range's first pfn if there is none.
    pub reserve_end: Pfn,
    /// One past the last pfn of the altmap's storage.
    pub altmap_end: Pfn,
    /// What the others are.
    pub rest: Role,
}

impl Roles {
    /// The same role for every pfn.
    #[must_use]
    #[inline]
    pub const fn all(rest: Role) -> Self {
        Self { reserve_end: Pfn::new(0), altmap_end: Pfn::new(0), rest }
    }

    /// What `pfn` is, and how many pfns from it on are the same.
    #[inline]
    fn at(&self, pfn: Pfn) -> (Role, u64) {
        if pfn < self.reserve_end {
            (Role::Reserve, self.reserve_end.number() - pfn.number())
        } else if pfn < self.altmap_end {
            (Role::Altmap, self.altmap_end.number() - pfn.number())
        } else {
            (self.rest, u64::MAX)
        }
    }
}

/// Writes the struct pages of consecutive pfns, the first being `first`, over the whole of `memory`.
#[inline]
pub(crate) fn initialise<P: Meta>(memory: &mut [MaybeUninit<u8>], first: Pfn, roles: &Roles) {
    let count = memory.len() / size_of::<P>();
    let pages = memory.as_mut_ptr().cast::<MaybeUninit<P>>();
    assert!(pages.is_aligned(), "struct pages start at a multiple of their size");
    // SAFETY: `count` whole struct pages fit into the slice, which is borrowed exclusively, and the start is aligned.
    let mut pages = unsafe { core::slice::from_raw_parts_mut(pages, count) };
    let mut pfn = first;
    while !pages.is_empty() {
        let (role, same) = roles.at(pfn);
        let (now, later) = pages.split_at_mut(pages.len().min(usize::try_from(same).unwrap_or(usize::MAX)));
        // One loop a role, in which the role is a constant: what `new` makes of it can stay in registers.
        match role {
            Role::Ram => fill(now, pfn, |pfn| P::new(pfn, Role::Ram)),
            Role::Device => fill(now, pfn, |pfn| P::new(pfn, Role::Device)),
            Role::Altmap => fill(now, pfn, |pfn| P::new(pfn, Role::Altmap)),
            Role::Reserve => fill(now, pfn, |pfn| P::new(pfn, Role::Reserve)),
            Role::Private => fill(now, pfn, |pfn| P::new(pfn, Role::Private)),
        }
        pfn = pfn.add(now.len() as u64);
        pages = later;
    }
}

/// Writes struct pages eight at a time, so that the loop itself costs next to nothing.
fn fill<P: Meta>(pages: &mut [MaybeUninit<P>], first: Pfn, new: impl Fn(Pfn) -> P) {
    let (eights, rest) = pages.as_chunks_mut::<8>();
    let mut pfn = first;
    for eight in eights {
        for (index, page) in eight.iter_mut().enumerate() {
            page.write(new(pfn.add(index as u64)));
        }
        pfn = pfn.add(8);
    }
    for page in rest {
        page.write(new(pfn));
        pfn = pfn.add(1);
    }
}

/// The struct page of this project's kernel, in the size of Linux's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct StructPage {
    /// [`StructPage::DEVICE`], [`StructPage::RESERVED`].
    pub flags: u64,
    /// For the owner of the page: a list's next page.
    pub next: u64,
    /// A list's previous page.
    pub previous: u64,
    /// What maps the page.
    pub mapping: u64,
    /// Where in it.
    pub index: u64,
    /// The owner's own word.
    pub data: u64,
    /// References, the mapping count (−1: none) in the upper half: Linux's initial `1` and `-1`.
    pub counts: u64,
    /// For the owner's allocator.
    pub private: u64,
}

impl StructPage {
    /// Device memory that was hot-added.
    pub const DEVICE: u64 = 1 << 63;
    /// Not for general use (Linux's `PG_reserved`): the altmap and its reserve.
    pub const RESERVED: u64 = 1 << 13;
    const COUNTS: u64 = 0xffff_ffff_0000_0001;
    /// Linux starts private pages without a reference: nobody has them until a driver hands them out.
    const NO_REFERENCE: u64 = 0xffff_ffff_0000_0000;
}

const _: () = assert!(size_of::<StructPage>() == 64);

// SAFETY: 64 bytes, eight 8-byte fields, aligned to 64: no padding.
unsafe impl Meta for StructPage {
    #[inline]
    fn new(_: Pfn, role: Role) -> Self {
        let flags = match role {
            Role::Ram => 0,
            Role::Device | Role::Private => Self::DEVICE,
            Role::Altmap | Role::Reserve => Self::DEVICE | Self::RESERVED,
        };
        let counts = if role == Role::Private { Self::NO_REFERENCE } else { Self::COUNTS };
        Self { flags, next: 0, previous: 0, mapping: 0, index: 0, data: 0, counts, private: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small enough for Miri, which looks at the one place that turns bytes into struct pages.
    #[test]
    fn every_byte_of_the_memory_becomes_struct_pages_of_the_right_role() {
        let mut memory = [const { MaybeUninit::<StructPage>::uninit() }; 21];
        let bytes = memory.len() * size_of::<StructPage>();
        // SAFETY: any byte may be seen as one that is not initialised, and whole struct pages are written.
        let bytes = unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), bytes) };
        let roles = Roles { reserve_end: Pfn::new(102), altmap_end: Pfn::new(111), rest: Role::Device };
        initialise::<StructPage>(bytes, Pfn::new(100), &roles);
        for (page, pfn) in memory.iter().zip(100..) {
            let role = match pfn {
                ..102 => Role::Reserve,
                102..111 => Role::Altmap,
                _ => Role::Device,
            };
            // SAFETY: `initialise` has written all of them.
            assert_eq!(unsafe { page.assume_init_ref() }, &StructPage::new(Pfn::new(pfn), role), "{pfn}");
        }
    }
}
