//! The data cache, for memory that must outlive the machine, or that a CPU uses past its caches.

use core::arch::asm;

use aarch64_cpu::asm::barrier;

/// Writes `bytes` bytes from `start` on back to memory, and waits until they are there.
pub fn write_back(start: *const u8, bytes: usize) {
    // SAFETY: cleaning a line changes nothing that a program can see. `CVAC` is as far as this machine's memory, which
    // has no point of persistence of its own.
    each_line(start, bytes, |line| unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) });
}

/// The same, and then no cache holds them.
pub fn write_back_and_discard(start: *const u8, bytes: usize) {
    // SAFETY: what is discarded has been written back.
    each_line(start, bytes, |line| unsafe { asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags)) });
}

fn each_line(start: *const u8, bytes: usize, maintain: impl Fn(usize)) {
    let line = smallest_line();
    let first = start.addr() & !(line - 1);
    (first..start.addr() + bytes).step_by(line).for_each(maintain);
    barrier::dsb(barrier::SY);
}

/// Bytes of the smallest line of any data cache: `CTR_EL0.DminLine` is the log2 of its words.
fn smallest_line() -> usize {
    let ctr: u64;
    // SAFETY: reading an ID register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) }
    4 << (ctr >> 16 & 0xf)
}
