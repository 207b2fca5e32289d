//! What machine this is, and whether it can do what was asked.

use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr};
use vmemmap::layout::{self, Layout};
use vmemmap::regime::Regime;

use super::cpu::{self, Cpu};
use super::devicetree::DeviceTree;
use super::image;
use super::info::{self, BootInfo, Registers};
use super::ranges::Ranges;
use super::refuse::Refusal;
use super::switch::Switch;
use super::tables::{self, CONSOLE_WINDOW, Plan};
use crate::config::Config;
use crate::{console, psci};

/// Reads the device tree and the CPU's ID registers, builds the first tables, and leaves a [`BootInfo`].
///
/// `x0` is what the machine passed in that register. To be called once, with the MMU off.
pub fn prepare(x0: u64, entry_level: u64) -> Result<Switch, Refusal<'static>> {
    let tree = DeviceTree::find(x0)?;
    let console = start_console(&tree);
    if let Some(conduit) = tree.conduit() {
        psci::set_conduit(conduit);
    }
    check_start(entry_level)?;
    let config = Config::parse(tree.boot_arguments())?;
    let cpu = Cpu::this();
    if !cpu.has(config.granule) {
        return Err(Refusal::Granule(config.granule));
    }
    if config.va_bits > 48 && !cpu.has_52_bits(config.granule) {
        return Err(Refusal::Wide(config.granule));
    }
    let plan = plan(&config, &cpu, &tree, console)?;
    let built = tables::build(&plan)?;
    let switch = Switch::new(plan.regime, cpu::ips(cpu.output_bits(plan.regime.output())), &built);
    let info = BootInfo {
        config,
        cpu,
        entry_level,
        ram: plan.ram,
        image: image::whole(),
        device_tree: tree.range(),
        next_free: built.next_free,
        switch,
        regime: plan.regime,
        layout: plan.layout,
        root: built.root,
        console: console.map(|registers| console_address(registers, &plan)),
        registers: Registers::default(),
    };
    // SAFETY: called once, before the kernel starts.
    unsafe { info::store(&info) }
    Ok(switch)
}

/// Refuses a machine that the image can't run on, whatever it is asked to do.
fn check_start(entry_level: u64) -> Result<(), Refusal<'static>> {
    let start = image::whole().start();
    if entry_level > 2 {
        Err(Refusal::EntryLevel(entry_level))
    } else if !start.is_aligned(image::LOAD_ALIGNMENT) {
        Err(Refusal::LoadAddress(start))
    } else {
        Ok(())
    }
}

fn start_console(tree: &DeviceTree) -> Option<PhysAddr> {
    let registers = tree.console()?;
    // SAFETY: the device tree says that a PL011 is there; with the MMU off everything is reachable at its physical
    // address, as device memory.
    unsafe { console::init(registers.value()) }
    Some(registers)
}

fn console_address(registers: PhysAddr, plan: &Plan) -> VirtAddr {
    let page = plan.regime.granule().bytes();
    CONSOLE_WINDOW.add(registers.since(registers.align_down(page)))
}

fn plan(config: &Config, cpu: &Cpu, tree: &DeviceTree, console: Option<PhysAddr>) -> Result<Plan, Refusal<'static>> {
    let granule = config.granule;
    let ram = our_ram(config, tree)?;
    let regime = Regime::of_size(granule, config.va_bits).expect("the boot arguments were checked");
    let memstart = layout::memstart(granule, config.va_bits, config.va_bits, span(&ram));
    let layout = Layout::linux(granule, config.va_bits, memstart);
    check_linear_map(&layout, regime, cpu, &ram)?;
    let mut free = ram;
    free.remove(image::whole())?;
    free.remove(tree.range())?;
    free.shrink_to_pages(granule.bytes());
    let more_cpus = tree.other_cpus().next().is_some();
    Ok(Plan { regime, layout, ram, free, policy: config.leaf, console, more_cpus })
}

/// The RAM that the boot arguments leave us, in whole pages; the image and the device tree must lie in it.
fn our_ram(config: &Config, tree: &DeviceTree) -> Result<Ranges, Refusal<'static>> {
    let mut ram = tree.ram()?;
    if let Some(bytes) = config.memory {
        ram.clip(bytes);
    }
    ram.shrink_to_pages(config.granule.bytes());
    for (what, range) in [("the image", image::whole()), ("the device tree", tree.range())] {
        if !ram.covers(range) {
            return Err(Refusal::OutsideRam { what, range, ram_bytes: ram.bytes() });
        }
    }
    Ok(ram)
}

fn span(ram: &Ranges) -> PhysRange {
    let edges = ram.as_slice().first().zip(ram.as_slice().last());
    edges.and_then(|(first, last)| PhysRange::between(first.start(), last.end())).expect("the image lies in RAM")
}

fn check_linear_map(layout: &Layout, regime: Regime, cpu: &Cpu, ram: &Ranges) -> Result<(), Refusal<'static>> {
    let reach = layout.mappable(cpu.output_bits(regime.output()), regime.lowest());
    let inside = |range: &PhysRange| reach.start() <= range.start() && range.end() <= reach.end();
    match ram.as_slice().iter().find(|range| !inside(range)) {
        None => Ok(()),
        Some(&range) => Err(Refusal::BeyondLinearMap { range, linear_bytes: layout.linear().bytes() }),
    }
}
