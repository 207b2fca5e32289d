//! References that users hold: while there is one, its range stays.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use vmemmap::addr::{Pfn, PhysAddr};
use vmemmap::granule::Granule;
use vmemmap::hotplug::{Reference, View};
use vmemmap::seam::Machine;
use vmemmap_aarch64::El1;

use super::event;
use crate::memory::MemoryMap;

/// The references that are held, the oldest first.
pub struct Holds<G: Granule> {
    view: &'static View<El1<G>>,
    held: Vec<Reference<'static, El1<G>>>,
}

/// Why nothing was held, or released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HoldError {
    /// No range that is added has that address.
    NotThere(PhysAddr),
    /// No reference to a range with that address is held.
    NotHeld(PhysAddr),
    /// No reference is held at all.
    NoneHeld,
}

impl fmt::Display for HoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere(address) => write!(f, "no device memory is at {address}: show lists what is there"),
            Self::NotHeld(address) => write!(f, "nobody holds the memory at {address}: show lists the holders"),
            Self::NoneHeld => f.write_str("nobody holds anything: nothing to release"),
        }
    }
}

impl Error for HoldError {}

impl<G: Granule> Holds<G> {
    /// None yet, of the ranges of `map`.
    pub fn new<M: Machine<Granule = G>>(map: &MemoryMap<M>) -> Self {
        let offset = map.layout().linear_address(PhysAddr::new(0)).value();
        // SAFETY: the linear map shows all of RAM at this offset, to this machine as to the memory map's.
        let view = unsafe { map.view(El1::new(offset)) };
        Self { view: Box::leak(Box::new(view)), held: Vec::new() }
    }

    /// Takes a reference to the range with `address`.
    pub fn hold(&mut self, address: PhysAddr) -> Result<(), HoldError> {
        let reference = self.view.reference(Pfn::containing(address, G::SIZE.shift()));
        let reference = reference.ok_or(HoldError::NotThere(address))?;
        event::held(reference.range());
        self.held.push(reference);
        Ok(())
    }

    /// Gives back the newest reference to the range with `address`, or all references to all ranges.
    pub fn release(&mut self, address: Option<PhysAddr>) -> Result<(), HoldError> {
        let Some(address) = address else {
            if self.held.is_empty() {
                return Err(HoldError::NoneHeld);
            }
            self.release_all();
            return Ok(());
        };
        let newest = self.held.iter().rposition(|reference| reference.range().contains(address));
        let reference = self.held.remove(newest.ok_or(HoldError::NotHeld(address))?);
        event::released(reference.range());
        Ok(())
    }

    /// Gives all of them back.
    pub fn release_all(&mut self) {
        self.held.drain(..).for_each(|reference| event::released(reference.range()));
    }
}
