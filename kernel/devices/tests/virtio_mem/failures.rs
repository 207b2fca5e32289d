//! What was plugged or unplugged by half, or not at all, and how the books come out of it.

use devices::virtio_mem::{Error, Request, Response};
use devices::{Answer, Change};
use vmemmap::addr::PhysAddr;

use crate::host::{Fault, GIB, MIB, device};
use crate::kernel::{Kernel, range};
use crate::{BASE, BLOCK, BUSY, block, four, plug, small, state, unplug};

#[test]
fn a_range_of_several_requests_is_unplugged_again_if_a_later_one_is_refused() {
    let wire = device(BLOCK, BASE, 512 * GIB, 512 * GIB);
    wire.host().request(512 * GIB);
    wire.host().faults = [Fault::None, Fault::None, Fault::Answered(Response::Nack)].into();
    let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
    let told = kernel.round(&mut driver);
    let third = plug(2 * 65535, 65535);
    assert_eq!((told.changes, told.errors), (vec![], vec![Error::Refused { request: third }]));
    assert_eq!(wire.asked()[3..], [unplug(0, 65535), unplug(65535, 65535)]);
    assert_eq!(wire.look().plugged(), 0);
}

#[test]
fn what_can_not_be_unplugged_again_is_in_the_next_round() {
    let wire = device(BLOCK, BASE, 512 * GIB, 512 * GIB);
    wire.host().request(512 * GIB);
    wire.host().faults = [Fault::None, Fault::Answered(Response::Nack), BUSY].into();
    let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
    kernel.round(&mut driver);
    assert_eq!(wire.look().plugged(), 65535 * BLOCK);
    wire.host().requested = 0;
    kernel.round(&mut driver);
    assert_eq!(wire.look().plugged(), 0);
}

#[test]
fn a_removed_range_that_the_host_is_too_busy_to_take_goes_in_the_next_round() {
    let (wire, mut driver, mut kernel) = four();
    wire.host().requested = 6 * MIB;
    wire.host().faults = [BUSY].into();
    let told = kernel.round(&mut driver);
    assert_eq!(told.errors, [Error::Busy { request: unplug(3, 1) }]);
    assert_eq!(told.changes, [Change::AskedBack(block(3))], "it counts as gone: no other range goes for it");
    assert_eq!(wire.asked(), [unplug(3, 1)]);
    assert!(kernel.round(&mut driver).changes.is_empty());
    assert_eq!(wire.asked(), [state(3, 1), unplug(3, 1)]);
    assert_eq!(wire.look().plugged(), 6 * MIB);
}

#[test]
fn what_is_still_leaving_counts_as_plugged() {
    let (wire, mut driver, mut kernel) = four();
    wire.host().requested = 6 * MIB;
    // The unplug fails, and in the next round its state is not told.
    wire.host().faults = [BUSY, BUSY].into();
    kernel.round(&mut driver);
    wire.host().request(10 * MIB);
    let told = kernel.round(&mut driver);
    assert_eq!(told.errors, [Error::Busy { request: state(3, 1) }]);
    assert_eq!(told.changes, [Change::Appeared(block(4))], "2 MiB are missing, not 4, and block 3 is taken");
}

#[test]
fn after_a_lost_answer_the_blocks_are_asked_for_their_state() {
    for (fault, then) in [(Fault::Lost, vec![state(0, 4)]), (Fault::Unanswered, vec![state(0, 4), unplug(0, 4)])] {
        let (wire, mut driver, mut kernel) = small(None);
        wire.host().request(8 * MIB);
        wire.host().faults = [fault].into();
        assert!(matches!(kernel.round(&mut driver).errors[..], [Error::Transport { .. }]));
        wire.asked();
        wire.host().requested = 0;
        assert!(kernel.round(&mut driver).errors.is_empty());
        assert_eq!(wire.asked(), then);
        assert_eq!(wire.look().plugged(), 0);
    }
}

#[test]
fn blocks_of_mixed_state_are_halved_until_each_is_known() {
    let (wire, mut driver, mut kernel) = small(None);
    wire.host().request(6 * MIB);
    wire.host().faults = [Fault::Half].into();
    kernel.round(&mut driver);
    wire.asked();
    wire.host().requested = 0;
    kernel.round(&mut driver);
    assert_eq!(
        wire.asked(),
        [state(0, 3), state(0, 1), unplug(0, 1), state(1, 2), state(1, 1), unplug(1, 1), state(2, 1)]
    );
    assert_eq!(wire.look().plugged(), 0);
}

#[test]
fn a_state_that_one_block_can_not_be_in_is_told() {
    for state_told in [2, 3] {
        let (wire, mut driver, mut kernel) = four();
        wire.host().requested = 6 * MIB;
        wire.host().faults = [BUSY, Fault::Answered(Response::Ack { state: state_told })].into();
        kernel.round(&mut driver);
        let unknown = Error::UnknownState { request: state(3, 1), state: state_told };
        assert_eq!(kernel.round(&mut driver).errors, [unknown]);
        kernel.round(&mut driver);
        assert_eq!(wire.look().plugged(), 6 * MIB);
    }
}

#[test]
fn no_more_is_plugged_on_a_device_that_lost_blocks_and_they_leave_the_books_when_asked_back() {
    let (wire, mut driver, mut kernel) = four();
    wire.host().set(block(3).start().value(), BLOCK, false);
    wire.host().request(16 * MIB);
    let told = kernel.round(&mut driver);
    assert_eq!((told.changes, told.errors), (vec![], vec![Error::Plugged { device: 6 * MIB, driver: 8 * MIB }]));
    wire.host().requested = 6 * MIB;
    wire.host().faults = [Fault::Answered(Response::Error)].into();
    let told = kernel.round(&mut driver);
    assert_eq!(told.changes, [Change::AskedBack(block(3))]);
    assert_eq!(told.errors[1..], [Error::Rejected { request: unplug(3, 1) }]);
    wire.host().request(8 * MIB);
    assert_eq!(kernel.round(&mut driver).changes, [Change::Appeared(block(3))]);
}

#[test]
fn of_several_requests_that_fail_the_first_is_told() {
    let wire = device(BLOCK, BASE, 512 * GIB, 512 * GIB);
    wire.host().request(512 * GIB);
    let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
    kernel.round(&mut driver);
    wire.host().requested = 0;
    wire.host().faults = [Fault::None, BUSY, BUSY].into();
    assert_eq!(kernel.round(&mut driver).errors, [Error::Busy { request: unplug(65535, 65535) }]);
}

#[test]
fn what_fails_round_after_round_is_told_again_when_the_host_requests_anew() {
    let (wire, mut driver, mut kernel) = four();
    let busy = Error::Busy { request: unplug(3, 1) };
    let faults = [
        (6 * MIB, vec![BUSY], true),
        (6 * MIB, vec![Fault::None, BUSY], false),
        (4 * MIB, vec![Fault::None, BUSY], true),
    ];
    for (requested, faults, told) in faults {
        wire.host().requested = requested;
        wire.host().faults = faults.into();
        assert_eq!(kernel.round(&mut driver).errors.contains(&busy), told, "{requested:#x}");
    }
}

#[test]
fn an_answer_that_can_not_be_passed_on_is_told_once_too() {
    let (wire, mut driver, mut kernel) = small(None);
    wire.host().request(8 * MIB);
    for (faults, told) in [(vec![Fault::None, BUSY], 1), (vec![Fault::None, Fault::None, Fault::None, BUSY], 0)] {
        wire.host().faults = faults.into();
        assert_eq!(kernel.round_with(&mut driver, |_| Answer::Refused).errors.len(), told);
        assert_eq!(wire.look().plugged(), 8 * MIB);
    }
}

/// Half a unit is leaving: its lower half, or its upper one.
#[test]
fn a_unit_of_which_half_is_leaving_is_not_free() {
    for lower in [true, false] {
        let wire = device(MIB, BASE, 8 * MIB, 8 * MIB);
        let (mut driver, mut kernel) = (wire.driver(None), Kernel::default());
        wire.host().request(2 * MIB);
        if lower {
            wire.host().faults = [Fault::Half].into();
        } else {
            kernel.round(&mut driver);
            wire.host().requested = 0;
            wire.host().faults = [Fault::Half].into();
        }
        kernel.round(&mut driver);
        wire.host().request(2 * MIB);
        // STATE of both blocks is mixed; then the one that is plugged can't be unplugged.
        let before = if lower { 2 } else { 3 };
        wire.host().faults = [vec![Fault::None; before], vec![BUSY]].concat().into();
        assert!(kernel.round(&mut driver).changes.is_empty(), "1 MiB is missing, which is no unit");
        assert_eq!(wire.look().plugged(), MIB);
        wire.host().request(4 * MIB);
        wire.host().faults = [BUSY].into();
        let told = kernel.round(&mut driver);
        assert_eq!(told.changes, [Change::Appeared(range(BASE + 2 * MIB, 2 * MIB))], "lower: {lower}");
        let left = Request::State { addr: PhysAddr::new(BASE + u64::from(!lower) * MIB), blocks: 1 };
        assert_eq!(told.errors, [Error::Busy { request: left }]);
    }
}

#[test]
fn nothing_is_plugged_outside_a_usable_region_that_shrank() {
    let (wire, mut driver, mut kernel) = four();
    wire.host().requested = 4 * MIB;
    let answer = |change| if change == Change::AskedBack(block(3)) { Answer::Refused } else { Answer::Done };
    kernel.round_with(&mut driver, answer);
    assert_eq!(kernel.added, [0, 3].map(block));
    (wire.host().usable, wire.host().requested) = (4 * MIB, 8 * MIB);
    let told = kernel.round(&mut driver);
    assert_eq!(told.changes, [Change::Appeared(block(1))], "not block 2");
    assert!(matches!(told.errors[..], [Error::NoRoom { plugged: 0x60_0000, .. }]), "{:?}", told.errors);
}
