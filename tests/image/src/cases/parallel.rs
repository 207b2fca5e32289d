//! Struct pages initialised by several CPUs.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kernel::cpu;
use kernel::cpus;
use kernel::memory;
use vmemmap::hotplug::{Region, Request};
use vmemmap::observe::{Event, Observed, Observer};
use vmemmap::seam::Machine;

use super::hot_add::fill_altmap;
use crate::world::{World, pointer};

const STRUCT_PAGE_BYTES: u64 = 64;

pub fn same_bytes<M: Machine>(world: &mut World<M>) {
    let request = world.request(world.device, 3);
    fill_altmap(world, request, 0xa5a5_5a5a_a5a5_5a5a);
    let region = world.add(request);
    let alone = digest(&region);
    world.remove(region);
    fill_altmap(world, request, 0x1234_5678_9abc_def0);
    let (region, pages) = add_with_all(world, request);
    assert_eq!(digest(&region), alone, "the bytes differ");
    let all = region.memmap().range().bytes() / STRUCT_PAGE_BYTES;
    assert_eq!(pages.iter().sum::<u64>(), all, "each struct page is initialised once");
    assert!(pages[..cpu::count()].iter().all(|pages| *pages > 0), "{pages:?} struct pages by CPU");
    world.remove(region);
}

/// A CPU's first access waits until each CPU is at its first.
struct Gate<'a> {
    there: &'a AtomicUsize,
    open: bool,
}

impl Observer for Gate<'_> {
    fn event(&mut self, event: Event) {
        if self.open || !matches!(event, Event::Access(_)) {
            return;
        }
        self.open = true;
        self.there.fetch_add(1, Ordering::Relaxed);
        while self.there.load(Ordering::Relaxed) < cpu::count() {
            core::hint::spin_loop();
        }
    }
}

/// Adds a range with all CPUs, each of which gets something to do; how many struct pages each has initialised.
fn add_with_all<M: Machine>(world: &mut World<M>, request: Request) -> (Region, [u64; cpu::MOST]) {
    let boot = world.boot;
    let (pages, there) = ([const { AtomicU64::new(0) }; cpu::MOST], AtomicUsize::new(0));
    let plan = world.map.plan(request).unwrap_or_else(|error| panic!("{error}"));
    let region = plan.commit_with(|work| {
        let help = |cpu: usize| {
            let gate = Gate { there: &there, open: false };
            let mut machine = Observed::new(memory::machine::<M::Granule>(boot), gate);
            // SAFETY: each CPU has a machine of its own, and all translate by boot's tables.
            let done = unsafe { work.help(&mut machine) };
            pages[cpu].store(done, Ordering::Relaxed);
        };
        cpus::each(help).unwrap_or_else(|error| panic!("{error}"));
    });
    (region.unwrap_or_else(|error| panic!("{error}")), pages.map(AtomicU64::into_inner))
}

/// What the struct pages hold, every byte of them, and in which order.
fn digest(region: &Region) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let memmap = region.memmap().range();
    (0..memmap.bytes()).step_by(8).fold(0, |digest: u64, offset| {
        // SAFETY: struct pages of an added range are mapped.
        let word = unsafe { pointer(memmap.start().add(offset)).read_volatile() };
        (digest ^ word).wrapping_mul(FACTOR).rotate_left(29)
    })
}
