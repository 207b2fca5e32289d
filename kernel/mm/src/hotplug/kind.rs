//! What a range is to be: ordinary device memory, private memory or a peer's window.

use core::fmt;

use crate::descriptor::{Attributes, TableAttributes};
use crate::layout::Layout;
use crate::meta::Role;
use crate::table::Protection;

/// How the linear map of device memory is written: `PAGE_KERNEL`, as Linux's `memremap_pages()` asks; its
/// leaves otherwise where the layout [says so](Layout::attributes).
pub const LINEAR_PROTECTION: Protection =
    Protection { leaf: Attributes::KERNEL, table: TableAttributes::LINEAR.owned() };

/// The kinds of range as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeKind {
    /// Memory that the CPU uses like any other: in the linear map, and able to hold its own struct pages.
    Device,
    /// Memory that the CPU can't reach (`MEMORY_DEVICE_PRIVATE`): only struct pages, in RAM.
    Private,
    /// A window of another device (`MEMORY_DEVICE_PCI_P2PDMA`): in the linear map as Device memory; struct pages in RAM.
    PeerToPeer,
}

impl RangeKind {
    /// How its linear map is written in `layout`, if it has one.
    #[must_use]
    pub const fn linear_protection(self, layout: &Layout) -> Option<Protection> {
        match self {
            Self::Device => Some(Protection { leaf: layout.normal(), ..LINEAR_PROTECTION }),
            Self::Private => None,
            Self::PeerToPeer => Some(Protection { leaf: layout.peer(), ..LINEAR_PROTECTION }),
        }
    }

    /// What its pages are that serve nothing else.
    #[must_use]
    pub(super) const fn role(self) -> Role {
        match self {
            Self::Private => Role::Private,
            Self::Device | Self::PeerToPeer => Role::Device,
        }
    }
}

impl fmt::Display for RangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Private => "private",
            Self::PeerToPeer => "peer-to-peer",
        })
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A kind of range as a type, so that what a kind can't have can't be asked for: an altmap is a method of
/// [`Request<Device>`](super::Request) alone.
pub trait Kind: sealed::Sealed {
    /// The same as a value.
    const KIND: RangeKind;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl Kind for $name {
            const KIND: RangeKind = RangeKind::$name;
        }
    )*};
}

kinds! {
    /// [`RangeKind::Device`].
    Device
    /// [`RangeKind::Private`].
    Private
    /// [`RangeKind::PeerToPeer`].
    PeerToPeer
}
