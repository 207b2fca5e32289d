//! The driver of virtio-mem against a made-up device, one behaviour each.

#[path = "virtio_mem/failures.rs"]
mod failures;
#[path = "virtio_mem/host.rs"]
mod host;
#[path = "virtio_mem/kernel.rs"]
mod kernel;
#[path = "virtio_mem/properties.rs"]
mod properties;

use devices::virtio_mem::{Error, Request, Response, VirtioMem};
use devices::{Answer, Change, DeviceMemory};
use host::{Fault, GIB, MIB, Wire, device};
use kernel::{Kernel, range};
use vmemmap::addr::PhysAddr;

const BASE: u64 = 4 * GIB;
const BLOCK: u64 = 2 * MIB;
const BUSY: Fault = Fault::Answered(Response::Busy);

/// A device of 64 MiB in blocks of 2 MiB, its driver, and a kernel.
fn small(memory_block: Option<u64>) -> (Wire, VirtioMem<Wire>, Kernel) {
    let wire = device(BLOCK, BASE, 64 * MIB, 64 * MIB);
    let driver = wire.driver(memory_block);
    (wire, driver, Kernel::default())
}

/// As [`small`], with the first four blocks plugged as ranges of one each.
fn four() -> (Wire, VirtioMem<Wire>, Kernel) {
    let (wire, mut driver, mut kernel) = small(Some(BLOCK));
    wire.host().request(8 * MIB);
    assert!(kernel.round(&mut driver).errors.is_empty());
    assert_eq!(kernel.added, [0, 1, 2, 3].map(block));
    wire.asked();
    (wire, driver, kernel)
}

/// The block with this number.
fn block(number: u64) -> vmemmap::addr::PhysRange {
    range(BASE + number * BLOCK, BLOCK)
}

fn plug(number: u64, blocks: u16) -> Request {
    Request::Plug { addr: block(number).start(), blocks }
}

fn unplug(number: u64, blocks: u16) -> Request {
    Request::Unplug { addr: block(number).start(), blocks }
}

fn state(number: u64, blocks: u16) -> Request {
    Request::State { addr: block(number).start(), blocks }
}

#[test]
fn a_request_is_served_by_one_range_at_the_lowest_place() {
    let (wire, mut driver, mut kernel) = small(None);
    wire.host().request(8 * MIB);
    let told = kernel.round(&mut driver);
    assert_eq!(told.changes, [Change::Appeared(range(BASE, 8 * MIB))]);
    assert_eq!(wire.asked(), [plug(0, 4)]);
    assert_eq!((told.errors, driver.source()), (vec![], "virtio-mem"));
}

#[test]
fn ranges_are_cut_at_multiples_of_the_memory_block() {
    let wire = device(BLOCK, BASE + 6 * MIB, 64 * MIB, 64 * MIB);
    wire.host().request(22 * MIB);
    let (mut driver, mut kernel) = (wire.driver(Some(8 * MIB)), Kernel::default());
    kernel.round(&mut driver);
    let cut = [(6, 2), (8, 8), (16, 8), (24, 4)];
    assert_eq!(kernel.added, cut.map(|(start, bytes)| range(BASE + start * MIB, bytes * MIB)));
}

#[test]
fn a_memory_block_that_is_no_multiple_of_what_is_plugged_is_refused() {
    for (memory_block, nearest) in [(0, BLOCK), (MIB, BLOCK), (5 * MIB, 6 * MIB), (u64::MAX, u64::MAX - BLOCK + 1)] {
        let refused = VirtioMem::new(device(MIB, BASE, 64 * MIB, 0), Some(memory_block)).map(drop);
        assert_eq!(refused, Err(Error::MemoryBlock { memory_block, unit: BLOCK, nearest }));
    }
}

#[test]
fn a_tebibyte_of_blocks_of_512_mib_is_2048_ranges_and_goes_back() {
    let tib = 1024 * GIB;
    let wire = device(512 * MIB, BASE, tib, tib);
    wire.host().request(tib);
    let (mut driver, mut kernel) = (wire.driver(Some(512 * MIB)), Kernel::default());
    assert_eq!(kernel.round(&mut driver).changes.len(), 2048);
    assert_eq!(wire.look().plugged(), tib);
    wire.host().requested = 0;
    assert_eq!(kernel.round(&mut driver).changes.len(), 2048);
    assert_eq!((wire.look().plugged(), kernel.bytes()), (0, 0));
}

#[test]
fn one_range_of_a_tebibyte_in_blocks_of_2_mib_takes_nine_requests_each_way() {
    let tib = 1024 * GIB;
    let wire = device(BLOCK, BASE, tib, tib);
    wire.host().request(tib);
    let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
    kernel.round(&mut driver);
    assert_eq!(kernel.added, [range(BASE, tib)]);
    let whole = (0..8).map(|index| (index * 65535, 65535)).chain([(8 * 65535, 8)]);
    assert_eq!(wire.asked(), whole.clone().map(|(number, blocks)| plug(number, blocks)).collect::<Vec<_>>());
    wire.host().requested = 0;
    kernel.round(&mut driver);
    assert_eq!(wire.asked(), whole.map(|(number, blocks)| unplug(number, blocks)).collect::<Vec<_>>());
}

#[test]
fn a_plug_that_fails_is_told_once_and_tried_once_a_round() {
    let request = plug(0, 4);
    let fails = [
        (Response::Nack, Error::Refused { request }),
        (Response::Busy, Error::Busy { request }),
        (Response::Error, Error::Rejected { request }),
    ];
    for (response, error) in fails {
        let (wire, mut driver, mut kernel) = small(None);
        wire.host().request(8 * MIB);
        wire.host().faults = [Fault::Answered(response); 3].into();
        assert_eq!(kernel.round(&mut driver).errors, [error]);
        assert_eq!(wire.asked(), [request]);
        assert_eq!(kernel.round(&mut driver).errors, []);
        assert_eq!(wire.asked(), [request]);
        // Another request of the host makes it news.
        wire.host().request(10 * MIB);
        assert_eq!(kernel.round(&mut driver).errors.len(), 1);
        kernel.round(&mut driver);
        assert_eq!(kernel.added, [range(BASE, 10 * MIB)]);
    }
}

#[test]
fn a_request_that_is_lowered_before_the_plug_arrives_is_served_in_the_same_round() {
    let (wire, mut driver, mut kernel) = four();
    wire.host().request(16 * MIB);
    wire.host().faults = [Fault::Requested(4 * MIB)].into();
    let told = kernel.round(&mut driver);
    assert_eq!(told.errors, [Error::Refused { request: plug(4, 1) }]);
    assert_eq!(kernel.added, [0, 1].map(block));
}

#[test]
fn a_range_that_the_kernel_can_not_add_goes_back_and_another_comes_in_the_next_round() {
    let (wire, mut driver, mut kernel) = small(None);
    wire.host().request(8 * MIB);
    let told = kernel.round_with(&mut driver, |_| Answer::Refused);
    assert_eq!(told.changes, [Change::Appeared(range(BASE, 8 * MIB))]);
    assert_eq!(wire.asked(), [plug(0, 4), unplug(0, 4)]);
    assert_eq!(kernel.round(&mut driver).changes, [Change::Appeared(range(BASE + 8 * MIB, 8 * MIB))]);
}

#[test]
fn the_highest_ranges_are_asked_back_first_and_their_place_is_used_again() {
    let (wire, mut driver, mut kernel) = four();
    wire.host().requested = 4 * MIB;
    assert_eq!(kernel.round(&mut driver).changes, [3, 2].map(|number| Change::AskedBack(block(number))));
    assert_eq!(wire.asked(), [unplug(3, 1), unplug(2, 1)]);
    wire.host().request(6 * MIB);
    assert_eq!(kernel.round(&mut driver).changes, [Change::Appeared(block(2))]);
}

#[test]
fn a_range_that_is_busy_stays_and_the_next_lower_one_is_asked_back() {
    let (wire, mut driver, mut kernel) = four();
    wire.host().requested = 6 * MIB;
    let busy = Change::AskedBack(block(3));
    let told = kernel.round_with(&mut driver, |change| if change == busy { Answer::Refused } else { Answer::Done });
    assert_eq!(told.changes, [busy, Change::AskedBack(block(2))]);
    wire.host().requested = 4 * MIB;
    assert_eq!(kernel.round(&mut driver).changes, [busy], "it has its turn again");
    assert_eq!(kernel.added, [0, 1].map(block));
}

#[test]
fn a_range_larger_than_what_is_too_much_stays() {
    let (wire, mut driver, mut kernel) = small(Some(8 * MIB));
    wire.host().request(18 * MIB);
    kernel.round(&mut driver);
    wire.host().requested = 4 * MIB;
    let told = kernel.round(&mut driver);
    // 14 MiB too much: the range of 2 MiB, then one of 8; the 4 that are left are less than the last.
    let back = [range(BASE + 16 * MIB, BLOCK), range(BASE + 8 * MIB, 8 * MIB)];
    assert_eq!((told.changes, told.errors), (back.map(Change::AskedBack).to_vec(), vec![]));
    assert_eq!(kernel.added, [range(BASE, 8 * MIB)]);
}

#[test]
fn blocks_that_a_kernel_before_left_plugged_go_first() {
    let wire = device(BLOCK, BASE, 64 * MIB, 64 * MIB);
    wire.host().set(BASE + 8 * MIB, 4 * MIB, true);
    wire.host().request(8 * MIB);
    wire.host().faults = [BUSY].into();
    let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
    assert_eq!(kernel.round(&mut driver).errors, [Error::Busy { request: Request::UnplugAll }]);
    assert_eq!(wire.asked(), [Request::UnplugAll], "once a round, and nothing else before it");
    assert!(kernel.round(&mut driver).errors.is_empty());
    assert_eq!(wire.asked(), [Request::UnplugAll, plug(0, 4)]);
    assert_eq!(wire.look().plugged(), 8 * MIB);
}

#[test]
fn of_more_than_is_usable_all_that_fits_is_plugged_and_the_rest_when_it_fits() {
    let wire = device(BLOCK, BASE, 64 * MIB, 8 * MIB);
    wire.host().requested = 16 * MIB;
    let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
    let region = range(BASE, 64 * MIB);
    let no_room = Error::NoRoom { requested: 16 * MIB, plugged: 8 * MIB, usable: 8 * MIB, region };
    assert_eq!(kernel.round(&mut driver).errors, [no_room]);
    assert_eq!(kernel.round(&mut driver).errors, []);
    wire.host().usable = 64 * MIB;
    assert_eq!(kernel.round(&mut driver).changes, [Change::Appeared(range(BASE + 8 * MIB, 8 * MIB))]);
}

#[test]
fn of_a_request_that_is_no_multiple_the_whole_units_are_served() {
    for (requested, nearest) in [(6 * MIB + 1, 6 * MIB), (7 * MIB, 8 * MIB), (8 * MIB - 1, 8 * MIB)] {
        let (wire, mut driver, mut kernel) = small(None);
        wire.host().request(requested);
        let error = Error::Fraction { requested, unit: BLOCK, nearest, served: 6 * MIB };
        assert_eq!(kernel.round(&mut driver).errors, [error]);
        assert_eq!(wire.look().plugged(), 6 * MIB);
        assert_eq!(kernel.round(&mut driver).errors, []);
    }
}

#[test]
fn of_blocks_smaller_than_2_mib_whole_units_are_plugged() {
    let wire = device(MIB, BASE + MIB, 9 * MIB, 9 * MIB);
    wire.host().requested = 8 * MIB;
    let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
    kernel.round(&mut driver);
    assert_eq!(kernel.added, [range(BASE + 2 * MIB, 8 * MIB)]);
    assert_eq!(wire.asked(), [Request::Plug { addr: PhysAddr::new(BASE + 2 * MIB), blocks: 8 }]);
}

#[test]
fn memory_at_the_top_of_52_bits_of_address_is_plugged() {
    let base = (1 << 52) - 64 * MIB;
    let wire = device(BLOCK, base, 64 * MIB, 64 * MIB);
    wire.host().request(64 * MIB);
    let (mut driver, mut kernel) = (wire.driver(Some(1 << 40)), Kernel::default());
    kernel.round(&mut driver);
    assert_eq!(kernel.added, [range(base, 64 * MIB)]);
}

#[test]
fn one_block_may_be_half_the_address_space() {
    let half = 1 << 51;
    let wire = device(half, half, half, half);
    wire.host().request(half);
    let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
    kernel.round(&mut driver);
    assert_eq!(kernel.added, [range(half, half)]);
}

#[test]
fn a_configuration_that_can_not_be_is_told_once_and_stops_no_later_round() {
    let (wire, mut driver, mut kernel) = small(None);
    let good = wire.look().words();
    for (index, value) in [(0, 3), (0, MIB), (2, BASE + GIB), (3, 32 * MIB), (4, u64::MAX)] {
        let mut says = good;
        says[index] = value;
        wire.host().says = Some(says);
        assert_eq!(kernel.round(&mut driver).errors.len(), 1, "{says:x?}");
        assert_eq!(kernel.round(&mut driver).errors, []);
        wire.host().says = None;
        assert_eq!(kernel.round(&mut driver).errors, []);
    }
    wire.host().request(8 * MIB);
    kernel.round(&mut driver);
    assert_eq!(kernel.added, [range(BASE, 8 * MIB)]);
}

#[test]
fn the_interrupt_is_acknowledged_once_a_round() {
    let (wire, mut driver, mut kernel) = small(Some(BLOCK));
    wire.host().request(8 * MIB);
    assert_eq!(kernel.round(&mut driver).changes.len(), 4);
    assert_eq!(wire.look().acknowledged, 1);
    kernel.round(&mut driver);
    assert_eq!(wire.look().acknowledged, 2);
}

#[test]
#[should_panic(expected = "is to be answered before the next poll")]
fn polling_before_answering_panics() {
    let (wire, mut driver, _) = small(None);
    wire.host().request(8 * MIB);
    assert!(driver.poll().is_ok());
    let _ = driver.poll();
}

#[test]
#[should_panic(expected = "only the change that was told last can be answered")]
fn answering_what_was_not_told_panics() {
    let (_, mut driver, _) = small(None);
    let _ = driver.agree(Change::Appeared(block(0)), Answer::Done);
}

#[test]
fn errors_say_what_to_do() {
    let refused = Error::Refused { request: plug(1, 4) };
    assert_eq!(
        refused.to_string(),
        "virtio-mem: the host refused PLUG of 4 blocks at 0x100200000: it lowered its request meanwhile, \
         or has no memory to give; request less or free memory there"
    );
    let fraction = Error::Fraction { requested: 7 * MIB, unit: BLOCK, nearest: 8 * MIB, served: 6 * MIB };
    assert!(fraction.to_string().contains("request 0x800000 (0x600000 are served)"), "{fraction}");
}

#[test]
fn a_range_that_is_given_back_unasked_is_unplugged() {
    let (wire, mut driver, _) = four();
    assert_eq!(driver.give_back(block(1)), Ok(()));
    assert_eq!((wire.asked(), wire.look().plugged()), (vec![unplug(1, 1)], 6 * MIB));
}

#[test]
fn what_is_given_back_and_does_not_go_is_tried_again_and_plugged_by_nobody() {
    let (wire, mut driver, mut kernel) = four();
    wire.host().requested = 6 * MIB;
    wire.host().faults = [BUSY].into();
    let request = unplug(1, 1);
    assert_eq!(driver.give_back(block(1)), Err(Error::Busy { request }.into()));
    kernel.round(&mut driver);
    assert_eq!(wire.asked(), [request, state(1, 1), request]);
    assert_eq!((wire.look().plugged(), kernel.added.len()), (6 * MIB, 4));
}

#[test]
fn a_place_that_can_not_be_added_does_not_block_the_others() {
    let (wire, mut driver, mut kernel) = small(Some(BLOCK));
    wire.host().request(4 * MIB);
    let declined = kernel.round_with(&mut driver, |_| Answer::Refused);
    assert_eq!((declined.changes, kernel.added.len()), (vec![Change::Appeared(block(0))], 0));
    kernel.round(&mut driver);
    assert_eq!(kernel.added, [block(1), block(2)]);
    // The last place that is left is tried again.
    wire.host().request(64 * MIB);
    kernel.round(&mut driver);
    assert_eq!((kernel.bytes(), wire.look().plugged()), (64 * MIB, 64 * MIB));
}
