//! Who called whom, by the chain of frame records: each holds the caller's record and the return address.

use core::arch::asm;

use vmemmap::addr::VirtAddr;

use crate::boot::image::{self, Part};
use crate::{cpus, pointer, println};

const MAX_FRAMES: usize = 64;

/// Prints the return addresses that lead here, innermost first, one `@frame` line each. Addresses are the linker's, with
/// the MMU off too.
pub fn print_from_here() {
    let record: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) record, options(nomem, nostack, preserves_flags)) }
    // This function's own record is gone by the time `print_chain` runs, if that is a tail call; the caller's is not.
    if let Some([caller, return_address]) = read_record(record) {
        print_frame(return_address);
        print_chain(caller);
    }
}

/// Prints the way to an interrupted instruction: itself, then the return addresses above `record`, its frame record.
pub fn print_interrupted(instruction: u64, link: u64, record: u64) {
    // The reader takes every line for a return address and looks at the instruction before it.
    print_frame(instruction.wrapping_add(4));
    if !Part::Text.holds(instruction) {
        // A jump into nowhere: the link register tells from where.
        print_frame(link);
    }
    print_chain(record);
}

fn print_chain(mut record: u64) {
    for _ in 0..MAX_FRAMES {
        let Some([caller, return_address]) = read_record(record) else { return };
        if return_address == 0 {
            return;
        }
        print_frame(return_address);
        record = caller;
    }
}

fn read_record(record: u64) -> Option<[u64; 2]> {
    let last = record.checked_add(15)?;
    let on_one_of = |part: Part| part.holds(record) && part.holds(last);
    let on_a_stack = on_one_of(Part::MainStack)
        || on_one_of(Part::ExceptionStack)
        || cpus::is_on_stack(VirtAddr::new(record), VirtAddr::new(last));
    let valid = record.is_multiple_of(8) && on_a_stack;
    // SAFETY: the sixteen bytes lie on a stack, which is always mapped, and are aligned.
    valid.then(|| unsafe { pointer::at::<[u64; 2]>(record).read() })
}

fn print_frame(address: u64) {
    println!("@frame {:#x}", image::link_address(address));
}
