//! One CPU after the other; `tests/loom.rs` has them all at once.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::vec::Vec;

use super::*;
use crate::addr::PhysAddr;
use crate::granule::K4;
use crate::seam::{Memory, Quiesce};
use crate::testing::{FIRST_FRAME, tables, take_log};

fn state(word: &AtomicU64) -> State {
    State::decode(word.load(Ordering::Relaxed))
}

fn word(state: State) -> AtomicU64 {
    AtomicU64::new(state.encode())
}

fn pin(word: &impl Word) -> Result<(), Refused> {
    pin_if(word, || true)
}

#[test]
fn references_are_counted_up_and_down() {
    let word = AtomicU64::new(0);
    publish(&word).unwrap();
    for count in 1..=3 {
        assert_eq!(pin(&word), Ok(()));
        assert_eq!(holders(&word), count);
    }
    assert_eq!(unpin(&word), Ok(()));
    assert_eq!(state(&word), State::Live { holders: 2 });
}

#[test]
fn a_range_that_is_removed_or_gone_gets_no_reference() {
    for (before, refused) in [
        (State::Vacant, Refused::Gone),
        (State::Closing { holders: 0 }, Refused::Closing),
        (State::Closing { holders: 7 }, Refused::Closing),
        (State::Live { holders: u32::MAX }, Refused::Full),
    ] {
        let word = word(before);
        assert_eq!((pin(&word), state(&word)), (Err(refused), before));
    }
}

#[test]
fn the_last_reference_that_can_be_counted_is_given() {
    let word = word(State::Live { holders: u32::MAX - 1 });
    assert_eq!(pin(&word), Ok(()));
    assert_eq!(state(&word), State::Live { holders: u32::MAX });
    assert_eq!(unpin(&word), Ok(()));
}

#[test]
fn another_range_in_the_same_place_is_not_held() {
    let word = word(State::Live { holders: 1 });
    let looked = pin_if(&word, || {
        assert_eq!(holders(&word), 2, "it is looked at while the reference is held");
        false
    });
    assert_eq!((looked, state(&word)), (Err(Refused::Gone), State::Live { holders: 1 }));
    assert_eq!(pin_if(&AtomicU64::new(0), || panic!("nothing is held")), Err(Refused::Gone));
}

#[test]
fn a_refused_removal_leaves_the_range_as_it_was() {
    let word = word(State::Live { holders: 2 });
    assert_eq!(close(&word), Ok(2));
    assert_eq!(pin(&word), Err(Refused::Closing));
    assert_eq!(reopen(&word), Ok(()));
    assert_eq!(state(&word), State::Live { holders: 2 });
    assert_eq!(pin(&word), Ok(()));
}

#[test]
fn a_removal_that_waits_sees_the_last_holder_go() {
    let word = word(State::Live { holders: 2 });
    assert_eq!(close(&word), Ok(2));
    assert_eq!((unpin(&word), holders(&word)), (Ok(()), 1));
    assert_eq!(retire(&word), Err(Misstep::Held(1)));
    assert_eq!((unpin(&word), holders(&word)), (Ok(()), 0));
    assert_eq!(retire(&word), Ok(()));
    assert_eq!(state(&word), State::Vacant);
    assert_eq!(publish(&word), Ok(()), "the place is free again");
}

type Step = fn(&AtomicU64) -> Result<(), Misstep>;

#[test]
fn a_step_out_of_order_is_refused_and_changes_nothing() {
    let (vacant, live, closing) = (State::Vacant, State::Live { holders: 0 }, State::Closing { holders: 0 });
    let close: Step = |word| super::close(word).map(drop);
    let wrong: [(State, Step, Misstep); 10] = [
        (live, publish, Misstep::NotVacant(live)),
        (closing, publish, Misstep::NotVacant(closing)),
        (vacant, close, Misstep::NotLive(vacant)),
        (closing, close, Misstep::NotLive(closing)),
        (vacant, reopen, Misstep::NotClosing(vacant)),
        (live, retire, Misstep::NotClosing(live)),
        (vacant, retire, Misstep::NotClosing(vacant)),
        (vacant, unpin, Misstep::NotPinned(vacant)),
        (live, unpin, Misstep::NotPinned(live)),
        (closing, unpin, Misstep::NotPinned(closing)),
    ];
    for (before, step, misstep) in wrong {
        let word = word(before);
        assert_eq!((step(&word), state(&word)), (Err(misstep), before));
    }
}

#[test]
fn a_misstep_says_what_to_do() {
    let state = State::Closing { holders: 3 };
    let text = Misstep::NotVacant(state).to_string();
    assert_eq!(text, "the place is being removed, with 3 holders: publish a range in a vacant one");
    assert!(Refused::Full.to_string().contains("4294967295 references"));
}

#[test]
fn sub_sections_of_one_word_are_valid_each_for_itself() {
    let bits = AtomicU64::new(0);
    activate(&bits, 0b0110);
    activate(&bits, 0b1000);
    assert!(is_active(&bits, 0b1110) && !is_active(&bits, 0b0011));
    deactivate(&bits, 0b0100);
    assert_eq!(bits.into_inner(), 0b1010);
}

#[test]
fn the_protocol_runs_on_records_in_ram() {
    let mut tables = tables::<K4>(39);
    let at = PhysAddr::new(FIRST_FRAME);
    tables.machine_mut().store(at, 0);
    take_log();
    let memory = tables.machine();
    // SAFETY: a word of the model's memory, the test's.
    let word = unsafe { MemoryWord::new(memory, at) };
    assert_eq!(publish(&word), Ok(()));
    assert_eq!(pin(&word), Ok(()));
    assert_eq!(close(&word), Ok(1));
    assert_eq!(memory.load(at), State::Closing { holders: 1 }.encode());
    assert_eq!((unpin(&word), retire(&word)), (Ok(()), Ok(())));
    assert_eq!(memory.load(at), 0);
    assert_eq!(take_log().len(), 5, "one store a step");
}

/// A word that holds one value after the other, as others change it.
struct Scripted(RefCell<Vec<u64>>);

std::thread_local! {
    static PAUSES: RefCell<u32> = const { RefCell::new(0) };
}

impl Word for Scripted {
    fn load(&self, _order: Ordering) -> u64 {
        self.0.borrow_mut().remove(0)
    }

    fn compare_exchange(&self, _old: u64, _new: u64, _success: Ordering, _failure: Ordering) -> Result<u64, u64> {
        unreachable!("a waiter writes nothing")
    }

    fn fence(_order: Ordering) {}

    fn pause() {
        PAUSES.with_borrow_mut(|pauses| *pauses += 1);
    }
}

fn pauses(looks: &[u64]) -> u32 {
    let readers = Readers::over([Scripted(RefCell::new(looks.to_vec()))]);
    readers.wait();
    PAUSES.take()
}

#[test]
fn a_waiter_goes_on_when_the_section_has_ended_or_another_has_begun() {
    const ROUND: u64 = 1 << 32;
    assert_eq!(pauses(&[7 * ROUND]), 0, "none is open");
    assert_eq!(pauses(&[1, 2, 1, ROUND]), 3, "it ends");
    assert_eq!(pauses(&[1, 1, ROUND + 1]), 2, "it has ended, and another is open");
    assert_eq!(pauses(&[(u64::MAX << 32) + 1, 1]), 1, "rounds begin anew after 2^32");
}

#[test]
fn nested_sections_are_one_until_the_outer_ends() {
    let readers = Readers::over([AtomicU64::new(0)]);
    let outer = readers.enter(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            readers.wait();
            done.store(true, Ordering::Release);
        });
        for _ in 0..100 {
            drop(readers.enter(0));
            std::thread::yield_now();
            assert!(!done.load(Ordering::Acquire), "the outer section is open");
        }
        drop(outer);
    });
    assert!(done.into_inner());
}

#[test]
fn every_cpu_is_waited_for_and_those_beyond_the_last_too() {
    for cpu in [0, 1, 2, 7] {
        static READERS: Readers<2> = Readers::new();
        let done = AtomicBool::new(false);
        let section = READERS.enter(cpu);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (&READERS).wait_for_readers();
                done.store(true, Ordering::Release);
            });
            (0..100).for_each(|_| std::thread::yield_now());
            assert!(!done.load(Ordering::Acquire), "CPU {cpu} reads");
            drop(section);
        });
    }
}

#[test]
fn each_cpu_writes_a_word_of_its_own() {
    const ROUND: u64 = 1 << 32;
    let readers = Readers::over([AtomicU64::new(3 * ROUND), AtomicU64::new(7 * ROUND)]);
    let word = |section: &Section| std::format!("{section:?}");
    assert!(word(&readers.enter(0)).contains(&(3 * ROUND + 1).to_string()));
    assert!(word(&readers.enter(1)).contains(&(7 * ROUND + 1).to_string()));
}

#[test]
#[should_panic(expected = "2^32 - 1 read sections are open")]
fn more_sections_than_can_be_counted_are_refused() {
    let readers = Readers::over([AtomicU64::new(u64::from(u32::MAX))]);
    let _section = readers.enter(0);
}
