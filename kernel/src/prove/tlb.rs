//! The TLB: only a *load* that faults proves that a removed address is gone. QEMU's AT walks afresh and can't.

use alloc::format;
use alloc::vec::Vec;

use vmemmap::addr::VirtAddr;
use vmemmap::seam::Machine;
use vmemmap::table::Tables;

use super::Failures;
use crate::exceptions::probe;
use crate::exceptions::syndrome::FaultKind;

/// How many addresses are touched before a removal: few enough for QEMU to keep all of them in its TLB.
const TOUCHED: usize = 24;

/// A fault on a removed address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// `FAR_EL1`.
    pub far: VirtAddr,
    /// The level of the translation fault.
    pub level: i8,
}

/// Loads from some of `addresses`, evenly spread, so that their translations are cached; returns those.
pub fn touch<A: Iterator<Item = VirtAddr>>(addresses: impl Fn() -> A, failures: &mut Failures) -> Vec<VirtAddr> {
    let every = addresses().count().div_ceil(TOUCHED).max(1);
    let touched: Vec<_> = addresses().step_by(every).collect();
    for &va in &touched {
        if let Err(fault) = probe::load(va) {
            failures.push(format!("a load of {va} faults before the removal: {:?}", fault.status));
        }
    }
    touched
}

/// Loads from each removed address: it must take a translation fault, with the right FAR, at the level where the walk of
/// the tables ends now. Returns the first fault.
pub fn gone<M: Machine>(tables: &Tables<M>, addresses: &[VirtAddr], failures: &mut Failures) -> Option<Gone> {
    let mut first = None;
    for &va in addresses {
        let level = tables.walk(va).last().map(|step| step.level.number());
        match probe::load(va) {
            Ok(value) => failures.push(format!("a load of the removed {va} reads {value:#018x}: a stale translation")),
            Err(fault) => {
                let right = fault.far == va && fault.status.kind == FaultKind::Translation && fault.status.level == level;
                if !right {
                    failures.push(format!("a load of the removed {va} faults as {fault:?}, not at level {level:?}"));
                }
                first = first.or(fault.status.level.map(|level| Gone { far: fault.far, level }));
            }
        }
    }
    first
}
