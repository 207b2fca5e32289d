//! Where device memory comes from: one file a source, behind one trait.

mod carve_out;

pub use carve_out::{CarveOut, CarveOutError};

use vmemmap::addr::PhysRange;

use crate::config::Memmap;

/// A source of device memory.
pub trait DeviceMemory {
    /// Its name, as users type it.
    fn source(&self) -> &'static str;

    /// What appeared.
    fn range(&self) -> PhysRange;

    /// Where its struct pages are to lie.
    fn memmap(&self) -> Memmap;
}
