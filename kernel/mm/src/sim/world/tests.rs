use std::mem::MaybeUninit;

use super::*;
use crate::addr::{VirtAddr, VirtRange};
use crate::descriptor::OutputFormat;
use crate::granule::{GranuleSize, K4};
use crate::seam::{Dsb, Frames, Memory, Mmu};
use crate::sim::Rule;

fn world() -> World {
    World::new(Regime::new(GranuleSize::K4, 39, OutputFormat::Bits48).unwrap(), 48, 2)
}

#[test]
fn a_fresh_frame_is_full_of_what_looks_like_descriptors() {
    let world = world();
    let frame = world.ram().take(4096).unwrap();
    assert!(world.words(frame, 512).iter().all(|word| word & 1 == 1));
    let mut cpu = world.cpu::<K4>(0);
    cpu.zero_table(frame, 4096);
    assert!(world.words(frame, 512).iter().all(|word| *word == 0));
    cpu.store(frame.add(8), 7);
    assert_eq!((cpu.load(frame.add(8)), world.image().get(&(frame.value() + 8))), (7, Some(&7)));
    world.ram().give(frame, 4096);
    assert_eq!(world.ram().take(4096), Some(frame), "what comes back is used again");
    assert_eq!(world.word(frame.add(8)) & 1, 1, "and holds nothing of before");
}

#[test]
fn an_exchange_is_one_step_that_a_scheduler_hears_of() {
    const ROUNDS: u64 = 1000;
    let world = world();
    let at = world.ram().take(4096).unwrap();
    world.cpu::<K4>(0).store(at, 0);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let cpu = world.cpu::<K4>(number);
            // SAFETY: the word is the test's.
            let raises = move |old| unsafe { cpu.exchange(at, old, old + 1) }.is_ok();
            let cpu = world.cpu::<K4>(number);
            scope.spawn(move || (0..ROUNDS).for_each(|_| while !raises(cpu.load(at)) {}));
        }
    });
    assert_eq!(world.word(at), 2 * ROUNDS, "no increment is lost");
    let cpu = world.cpu::<K4>(1);
    world.set_hook(Arc::new(|_, _| {}));
    // SAFETY: as above.
    assert_eq!(unsafe { cpu.exchange(at, 7, 8) }, Err(2 * ROUNDS));
    assert_eq!((world.word(at), world.call(1)), (2 * ROUNDS, Some(Call::Store(at))));
}

#[test]
fn frames_run_out_when_they_are_told_to() {
    let world = world();
    world.set_budget(Some(1));
    let mut ram = world.ram();
    let frame = ram.take(2 << 20).unwrap();
    assert!(frame.is_aligned(2 << 20));
    assert_eq!((ram.take(4096), world.frames_refused()), (None, 1));
    world.set_budget(None);
    assert!(ram.take(4096).is_some());
    assert_eq!(world.frames_out().get(&frame.value()), Some(&(2 << 20)));
    ram.give(frame, 4096);
    assert_eq!(world.take_violations()[0].rule, Rule::Accounts, "given back with another size");
}

fn fill(bytes: &mut [MaybeUninit<u8>], value: u8) {
    for byte in bytes {
        byte.write(value);
    }
}

#[test]
fn struct_pages_go_to_the_frame_that_the_tables_name_and_nowhere_before_it_is_certain() {
    let world = world();
    let (mut cpu, va, page) = (world.cpu::<K4>(0), VirtAddr::new(0x4000_0000_u64.wrapping_neg()), 0x5555_5000);
    let range = VirtRange::new(va, 1 << 30);
    cpu.write(world.root().add(511 * 8), 0x00e8_0000_4000_0701);
    cpu.access(VirtRange::new(va, 4096), |bytes| fill(bytes, 1));
    assert_eq!(world.take_violations()[0].rule, Rule::Access, "the store may not be visible yet");
    cpu.dsb(Dsb::InnerShareableStores);
    cpu.isb();
    let inside = VirtRange::new(range.start().add(page - 0x4000_0000), 4096);
    cpu.access(inside, |bytes| fill(bytes, 2));
    assert!(world.violations().is_empty());
    assert_eq!(world.words(PhysAddr::new(page), 512), [0x0202_0202_0202_0202; 512]);
}

#[test]
fn a_hook_sees_each_call_before_it_is_made() {
    let world = world();
    world.keep_events();
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let log = seen.clone();
    world.set_hook(Arc::new(move |world, cpu| log.lock().unwrap().push((world.call(cpu), world.events_kept()))));
    let (mut cpu, slot) = (world.cpu::<K4>(1), world.root());
    cpu.write(slot, 0);
    let _ = cpu.read(slot);
    cpu.isb();
    world.remove_hook();
    cpu.isb();
    let calls = [(Some(Call::Write(slot)), 0), (Some(Call::Read(slot)), 1), (Some(Call::Event), 1)];
    assert_eq!(*seen.lock().unwrap(), calls);
    assert_eq!(world.events().len(), 1 + 2 + 1 + 3, "header, registers, root; a store and two ISB");
}
