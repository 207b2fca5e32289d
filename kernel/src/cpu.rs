//! Which CPU this is, and how many there are.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

/// As many CPUs are used, the one that boots among them.
pub const MOST: usize = 8;

static COUNT: AtomicUsize = AtomicUsize::new(1);

/// The number of the CPU that runs this: 0 for the one that booted.
#[must_use]
pub fn this() -> usize {
    let number: usize;
    // SAFETY: reads the register that the entry code has written.
    unsafe { asm!("mrs {}, tpidrro_el0", out(reg) number, options(nomem, nostack, preserves_flags)) }
    number
}

/// How many CPUs take part in jobs ([`cpus::each`](crate::cpus::each)), the one that booted among them.
#[must_use]
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Says how many there are, while no other is on.
pub(crate) fn set_count(count: usize) {
    COUNT.store(count, Ordering::Relaxed);
}
