//! Mutants on EL1: what they can't do through the seam, as instructions.

use core::arch::asm;

use kernel::boot::{self, BootInfo, refuse};
use kernel::memory::RamFrames;
use kernel::story::Around;
use kernel::watch;
use mutants::fault::{Fault, Store};
use mutants::{Hands, Ledger, Mutant, Mutated, MutatedFrames};
use vmemmap::addr::PhysAddr;
use vmemmap::granule::Granule;
use vmemmap::seam::{Frames, Machine};
use vmemmap::trace::{Event, Word};
use vmemmap_aarch64::El1;

use crate::world::World;

static LEDGER: Ledger = Ledger::new();

/// The mutant that the case `mutant::NAME` is about.
pub fn find(case: &str) -> Option<&'static Mutant> {
    mutants::list::find(case.strip_prefix("mutant::")?)
}

/// Around the machine of the main job: the mutant of the boot arguments; without one, what `break=tlbi` asks for.
#[derive(Clone, Copy)]
pub struct Chosen;

impl Around for Chosen {
    type Machine<M: Machine> = Mutated<M>;

    fn around<M: Machine>(machine: M) -> Mutated<M> {
        let boot = boot::info().unwrap_or_else(|| refuse("boot is over"));
        let chosen = boot.config.test.and_then(|name| find(name.as_str()));
        mutated(boot, machine, chosen.map_or_else(|| fault("no-tlbi"), |mutant| mutant.fault))
    }
}

/// The fault of a mutant by name.
fn fault(name: &str) -> Fault {
    mutants::list::find(name).unwrap_or_else(|| refuse(format_args!("there is no mutant {name}"))).fault
}

/// `machine` with `fault`. The frame allocator must have frames.
pub fn mutated<M: Machine>(boot: &BootInfo, machine: M, fault: Fault) -> Mutated<M> {
    let page = M::Granule::SIZE.bytes();
    let spare = (fault == Fault::Store(Store::BlockToTable)).then(|| RamFrames::current().take(page)).flatten();
    let spare = spare.unwrap_or(PhysAddr::new(0));
    Mutated::new(machine, fault, Hands { cpu: 0, tlbi, elsewhere, spare, regime: boot.regime, ledger: &LEDGER })
}

/// The world of this boot on the mutant called `name`.
pub fn world<G: Granule>(boot: &'static BootInfo, name: &str) -> World<Mutated<El1<G>>> {
    World::new(boot, |machine: El1<G>| mutated(boot, machine, fault(name)))
}

/// `frames` with `fault`, to go with a mutant's machine.
pub const fn frames<F: Frames>(frames: F, fault: Fault) -> MutatedFrames<F> {
    MutatedFrames::new(frames, fault, &LEDGER)
}

/// The invalidations that the seam has no word for, on the only CPU.
fn tlbi(cpu: u8, name: &'static str, operand: u64) {
    watch::told(Event::Tlbi { cpu, op: Word::new(name), operand: Some(operand) });
    // SAFETY: forgetting translations is always allowed. (The range forms are undefined without FEAT_TLBIRANGE, which ends
    // the boot; the assembler wants them spelled out.)
    unsafe {
        match name {
            "vae1is" => asm!("tlbi vae1is, {}", in(reg) operand, options(nostack, preserves_flags)),
            "vaae1is" => asm!("tlbi vaae1is, {}", in(reg) operand, options(nostack, preserves_flags)),
            "vaale1is" => asm!("tlbi vaale1is, {}", in(reg) operand, options(nostack, preserves_flags)),
            "vaae1" => asm!("tlbi vaae1, {}", in(reg) operand, options(nostack, preserves_flags)),
            "vaale1" => asm!("tlbi vaale1, {}", in(reg) operand, options(nostack, preserves_flags)),
            "rvaae1is" => asm!("sys #0, c8, c2, #3, {}", in(reg) operand, options(nostack, preserves_flags)),
            "rvaale1is" => asm!("sys #0, c8, c2, #7, {}", in(reg) operand, options(nostack, preserves_flags)),
            _ => refuse(format_args!("no instruction for tlbi {name}")),
        }
    }
}

/// There is no other CPU.
const fn elsewhere() {}
