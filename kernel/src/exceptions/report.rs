//! The report of a fault that nobody expected.

use vmemmap::addr::{PhysAddr, VirtAddr};
use vmemmap::decode;
use vmemmap::walk::Walk;

use super::syndrome::{Class, Syndrome};
use super::{Frame, SYNCHRONOUS};
use crate::boot::image::{self, Part};
use crate::boot::{self, BootInfo};
use crate::exit::{self, Status};
use crate::{backtrace, console, cpus, pointer, println};

/// Says what happened, where, and how it came to that; ends the run.
pub fn report(frame: &Frame, kind: u64) -> ! {
    // Before all else: a CPU that reports already may wait for the console.
    // SAFETY: the interrupted code never runs again.
    unsafe { console::seize() };
    exit::report_alone();
    let syndrome = Syndrome(frame.esr);
    let elr = image::link_address(frame.elr);
    let has_address = kind == SYNCHRONOUS
        && matches!(syndrome.class(), Class::InstructionAbort | Class::DataAbort | Class::PcAlignment);
    match (kind, has_address) {
        (SYNCHRONOUS, true) => println!("@panic {syndrome}, at {:#x}: {}", frame.far, region(frame.far)),
        (SYNCHRONOUS, false) => println!("@panic {syndrome}"),
        _ => println!("@panic {} that nobody asked for", kind_name(kind)),
    }
    println!("ESR {:#x}  FAR {:#x}  ELR {elr:#x}  SPSR {:#x}  SP {:#x}", frame.esr, frame.far, frame.spsr, frame.sp);
    print_registers(frame);
    if let (true, Some(info)) = (has_address, boot::info()) {
        print_walk(info, frame.far);
    }
    backtrace::print_interrupted(frame.elr, frame.x[30], frame.x[29]);
    exit::exit(Status::Panic)
}

/// One line for a fault inside the handler.
pub fn print_nested(esr: u64, far: u64, elr: u64) {
    // The handler may have been printing.
    // SAFETY: it never runs again.
    unsafe { console::seize() };
    let elr = image::link_address(elr);
    println!("@panic in the exception handler: {}, FAR {far:#x}, ELR {elr:#x}, ESR {esr:#x}", Syndrome(esr));
}

fn kind_name(kind: u64) -> &'static str {
    match kind {
        1 => "an IRQ",
        2 => "an FIQ",
        3 => "an SError",
        _ => "an exception from EL0",
    }
}

fn print_registers(frame: &Frame) {
    for (row, registers) in frame.x.chunks(4).enumerate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|column| registers.get(column).copied().unwrap_or_default());
        println!("x{:<2} {a:016x} {b:016x} {c:016x} {d:016x}", row * 4);
    }
}

/// What lies at an address, by name.
fn region(address: u64) -> &'static str {
    const LOWER_HALF: u64 = 1 << 55;
    let va = VirtAddr::new(address);
    if let Some(part) = Part::ALL.into_iter().find(|part| part.linked().contains(va)) {
        return part.name();
    }
    if let Some(name) = cpus::stack_name(va) {
        return name;
    }
    let Some(info) = boot::info() else { return "physical memory (the MMU is off)" };
    if let Some(name) = decode::window(&info.layout, va) {
        return name;
    }
    if address & LOWER_HALF == 0 {
        "the lower half (TTBR0 is off)"
    } else if va < info.regime.lowest() {
        "the gap between the halves"
    } else if same_page(info, va, info.console) {
        "the console's registers"
    } else {
        "no window of ours"
    }
}

fn same_page(info: &BootInfo, address: VirtAddr, other: Option<VirtAddr>) -> bool {
    let page = info.regime.granule().bytes();
    other.is_some_and(|other| other.align_down(page) == address.align_down(page))
}

/// The walk of an address of the kernel half, level by level.
fn print_walk(info: &BootInfo, address: u64) {
    let va = VirtAddr::new(address);
    if va < info.regime.lowest() {
        return;
    }
    println!("{}", Walk::new(info.regime, info.root, va, |slot| read_slot(info, slot)));
}

/// Reads a descriptor through the linear map.
fn read_slot(info: &BootInfo, slot: PhysAddr) -> u64 {
    let at = info.layout.linear_address(slot);
    // SAFETY: tables lie in RAM, and the linear map shows all of RAM; if a broken descriptor leads elsewhere, the fault
    // is reported as one inside the handler.
    unsafe { pointer::at::<u64>(at.value()).read_volatile() }
}
