//! The data cache, for memory that must outlive the machine.

use core::arch::asm;

use aarch64_cpu::asm::barrier;

/// Writes `bytes` bytes from `start` on back to memory, and waits until they are there.
pub fn write_back(start: *const u8, bytes: usize) {
    let line = smallest_line();
    let first = start.addr() & !(line - 1);
    for address in (first..start.addr() + bytes).step_by(line) {
        // SAFETY: cleaning a line changes nothing that a program can see. `CVAC` is as far as this machine's memory, which
        // has no point of persistence of its own.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) }
    }
    barrier::dsb(barrier::SY);
}

/// Bytes of the smallest line of any data cache: `CTR_EL0.DminLine` is the log2 of its words.
fn smallest_line() -> usize {
    let ctr: u64;
    // SAFETY: reading an ID register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) }
    4 << (ctr >> 16 & 0xf)
}
