//! DIMM slots against a host that plugs, asks back, and sometimes breaks the rules (`dimm/board.rs`).

#[path = "dimm/board.rs"]
mod board;

use std::cell::RefCell;
use std::rc::Rc;

use board::{Board, PRESENT, Wire};
use devices::dimm::{Dimms, Error};
use devices::{Answer, Change, DeviceError, DeviceMemory};
use proptest::prelude::*;
use vmemmap::addr::{PhysAddr, PhysRange};

const MIB: u64 = 1 << 20;
/// _OST: what was answered, and how.
const INSERTED: (u32, u32) = (1, 0);
const NOT_INSERTED: (u32, u32) = (1, 1);
const BUSY: (u32, u32) = (3, 0x82);

/// A board, its driver, and the caller between them.
struct Scene {
    board: Rc<RefCell<Board>>,
    dimms: Dimms<Wire>,
    /// What a round brought, in turn.
    log: Vec<Change>,
    errors: Vec<DeviceError>,
    /// The slot that the host asks back before the next answer.
    meanwhile: Option<usize>,
}

impl Scene {
    fn new() -> Self {
        let wire = Wire::default();
        let board = wire.0.clone();
        Self { board, dimms: Dimms::new(wire), log: Vec::new(), errors: Vec::new(), meanwhile: None }
    }

    /// Polls once; false when the round ends.
    fn step(&mut self, answer: Answer) -> bool {
        match self.dimms.poll() {
            Ok(None) => return false,
            Ok(Some(change)) => self.serve(change, answer),
            Err(error) => self.errors.push(error),
        }
        true
    }

    fn serve(&mut self, change: Change, answer: Answer) {
        self.log.push(change);
        let added = |board: &mut Board, range| board.added.iter().position(|known| *known == range);
        match change {
            Change::Appeared(range) => {
                let mut board = self.board.borrow_mut();
                assert_eq!(added(&mut board, range), None, "{range} appeared twice");
                if answer == Answer::Done {
                    board.added.push(range);
                }
            }
            Change::AskedBack(range) => {
                let mut board = self.board.borrow_mut();
                let place =
                    added(&mut board, range).unwrap_or_else(|| panic!("{range} is asked back and was not added"));
                if answer == Answer::Done {
                    board.added.remove(place);
                }
            }
        }
        self.meanwhile.take().into_iter().for_each(|slot| self.board.borrow_mut().ask_back(slot));
        if let Err(error) = self.dimms.agree(change, answer) {
            self.errors.push(error);
        }
    }

    /// Removes `range` of its own accord.
    fn give_back(&mut self, range: PhysRange) -> Result<(), DeviceError> {
        self.board.borrow_mut().added.retain(|known| *known != range);
        self.dimms.give_back(range)
    }

    /// A round with the same answer to everything: what it brought, and the errors.
    fn round(&mut self, answer: Answer) -> (Vec<Change>, Vec<DeviceError>) {
        for _ in 0..4 * PRESENT {
            if !self.step(answer) {
                return (std::mem::take(&mut self.log), std::mem::take(&mut self.errors));
            }
        }
        panic!("no end of a round: {:x?} {:?}", self.log, self.errors)
    }

    fn told(&self) -> Vec<(usize, u32, u32)> {
        std::mem::take(&mut self.board.borrow_mut().told)
    }
}

fn range(base: u64, bytes: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(base), bytes).expect("it does not wrap")
}

/// The host's answer to `slot`.
const fn ost(slot: usize, (event, status): (u32, u32)) -> (usize, u32, u32) {
    (slot, event, status)
}

#[test]
fn dimms_of_the_boot_and_later_ones_are_brought_once() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().coldplug(2, 0x9800_0000, 128 * MIB);
    scene.board.borrow_mut().insert(3, 0x12_a000_0000, 0x10_0000_0000);
    let (two, three) = (range(0x9800_0000, 128 * MIB), range(0x12_a000_0000, 0x10_0000_0000));
    assert_eq!(scene.round(Answer::Done), (vec![Change::Appeared(two), Change::Appeared(three)], vec![]));
    assert_eq!(scene.told(), [ost(2, INSERTED), ost(3, INSERTED)]);
    assert_eq!(scene.board.borrow().slots[3].flags, 1, "the insert event is still there");
    assert_eq!(scene.round(Answer::Done), (vec![], vec![]));
}

#[test]
fn a_dimm_that_is_asked_back_is_ejected_after_its_removal() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(0, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    scene.board.borrow_mut().ask_back(0);
    assert_eq!(scene.round(Answer::Done), (vec![Change::AskedBack(range(0x8000_0000, 2 * MIB))], vec![]));
    assert_eq!(scene.board.borrow().slots[0].flags, 0);
    assert_eq!(scene.round(Answer::Done), (vec![], vec![]));
}

#[test]
fn a_dimm_that_nobody_asked_for_can_be_given_back() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(4, 0x9000_0000, 2 * MIB);
    scene.board.borrow_mut().insert(5, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    assert_eq!(scene.give_back(range(0x8000_0000, 2 * MIB)), Ok(()));
    assert_eq!((scene.board.borrow().slots[4].flags, scene.board.borrow().slots[5].flags), (1, 0));
    assert_eq!(scene.round(Answer::Done), (vec![], vec![]));
}

#[test]
fn a_dimm_that_is_gone_when_it_is_given_back_is_spoken_of() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(4, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    scene.board.borrow_mut().pull(4);
    scene.board.borrow_mut().insert(0, 0x9000_0000, 2 * MIB);
    let range = range(0x8000_0000, 2 * MIB);
    assert_eq!(scene.give_back(range), Err(Error::Gone { slot: 4, range }.into()));
    assert_eq!(scene.round(Answer::Done).0.len(), 1, "slots before it are looked at too");
}

#[test]
#[should_panic(expected = "a range that was added")]
fn to_give_back_what_was_not_added_is_the_callers_mistake() {
    let _ = Scene::new().dimms.give_back(range(0, 2 * MIB));
}

#[test]
fn a_busy_dimm_stays_until_the_host_asks_again() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(1, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    scene.told();
    scene.board.borrow_mut().ask_back(1);
    assert_eq!(scene.round(Answer::Refused).0.len(), 1);
    assert_eq!(scene.told(), [ost(1, BUSY)]);
    assert_eq!(scene.round(Answer::Done), (vec![], vec![]), "nobody asked again");
    scene.board.borrow_mut().ask_back(1);
    assert_eq!(scene.round(Answer::Done).0.len(), 1);
}

#[test]
fn a_host_that_asks_again_when_it_hears_that_a_dimm_is_busy_is_heard() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(1, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    scene.board.borrow_mut().insists = true;
    scene.board.borrow_mut().ask_back(1);
    scene.round(Answer::Refused);
    assert_eq!(scene.round(Answer::Done).0.len(), 1);
}

#[test]
fn a_request_in_the_last_moment_does_not_eject_the_next_dimm() {
    let mut scene = Scene::new();
    for late in [false, true] {
        scene.board.borrow_mut().insert(1, 0x8000_0000, 2 * MIB);
        assert_eq!(scene.round(Answer::Done).0.len(), 1);
        scene.board.borrow_mut().asks_before_eject = !late;
        scene.board.borrow_mut().ask_back(1);
        scene.round(Answer::Done);
        scene.board.borrow_mut().asks_before_eject = false;
        if late {
            scene.board.borrow_mut().ask_back(1);
            scene.round(Answer::Done);
        }
        assert_eq!(scene.board.borrow().slots[1].flags, 0);
    }
}

#[test]
fn a_dimm_that_could_not_be_added_is_offered_again_in_the_next_round() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(4, 0x8000_0000, 2 * MIB);
    assert_eq!(scene.round(Answer::Refused).0.len(), 1);
    assert_eq!(scene.told(), [ost(4, NOT_INSERTED)]);
    assert_eq!(scene.round(Answer::Done).0.len(), 1);
    assert_eq!(scene.told(), [ost(4, INSERTED)]);
}

#[test]
fn a_dimm_that_was_not_added_is_ejected_as_soon_as_it_is_asked_back() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(4, 0x8000_0000, 2 * MIB);
    scene.board.borrow_mut().insert(5, 0x8000_0000, 3 * MIB);
    scene.round(Answer::Refused);
    scene.board.borrow_mut().ask_back(4);
    scene.board.borrow_mut().ask_back(5);
    assert_eq!(scene.round(Answer::Done), (vec![], vec![]));
    assert!(scene.board.borrow().slots.iter().all(|slot| slot.flags == 0));
}

#[test]
fn a_dimm_that_cannot_be_is_spoken_of_once_until_it_goes() {
    let wrong = [(0x8000_0000, 0), (0x8000_0000, 3 * MIB), (0x8010_0000, 2 * MIB), (u64::MAX - 2 * MIB + 1, 4 * MIB)];
    for (base, bytes) in wrong {
        let mut scene = Scene::new();
        scene.board.borrow_mut().insert(2, base, bytes);
        let error = Error::Malformed { slot: 2, base: PhysAddr::new(base), bytes };
        assert_eq!(scene.round(Answer::Done), (vec![], vec![error.into()]));
        assert_eq!(scene.told(), [ost(2, NOT_INSERTED)]);
        assert_eq!(scene.round(Answer::Done), (vec![], vec![]));
        scene.board.borrow_mut().pull(2);
        scene.round(Answer::Done);
        scene.board.borrow_mut().insert(2, base, bytes);
        assert_eq!(scene.round(Answer::Done).1.len(), 1, "it is another one");
        scene.board.borrow_mut().pull(2);
        scene.board.borrow_mut().insert(2, 0x8000_0000, 2 * MIB);
        assert_eq!(scene.round(Answer::Done).0.len(), 1);
    }
}

#[test]
fn a_dimm_that_vanished_is_taken_out_of_use_and_spoken_of() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(2, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    scene.board.borrow_mut().pull(2);
    let range = range(0x8000_0000, 2 * MIB);
    let gone = || vec![Error::Gone { slot: 2, range }.into()];
    assert_eq!(scene.round(Answer::Refused), (vec![Change::AskedBack(range)], gone()));
    assert_eq!(scene.round(Answer::Done), (vec![Change::AskedBack(range)], gone()));
    assert_eq!(scene.round(Answer::Done), (vec![], vec![]));
}

#[test]
fn what_lies_where_a_dimm_vanished_is_brought_in_the_same_round() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(2, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    scene.board.borrow_mut().pull(2);
    scene.board.borrow_mut().insert(2, 0x8000_0000, 4 * MIB);
    let (old, new) = (range(0x8000_0000, 2 * MIB), range(0x8000_0000, 4 * MIB));
    let (changes, errors) = scene.round(Answer::Done);
    assert_eq!(changes, [Change::AskedBack(old), Change::Appeared(new)]);
    assert_eq!(errors.len(), 1);
}

#[test]
fn another_dimm_of_the_same_size_at_the_same_place_is_not_taken_for_the_one_that_was_there() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(2, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    scene.board.borrow_mut().pull(2);
    scene.board.borrow_mut().insert(2, 0x8000_0000, 2 * MIB);
    let range = range(0x8000_0000, 2 * MIB);
    assert_eq!(scene.round(Answer::Done).0, [Change::AskedBack(range), Change::Appeared(range)]);
}

#[test]
fn a_dimm_that_the_host_does_not_take_is_spoken_of_and_brought_again() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(2, 0x8000_0000, 2 * MIB);
    scene.round(Answer::Done);
    scene.board.borrow_mut().slots[2].sticky = true;
    scene.board.borrow_mut().ask_back(2);
    let base = PhysAddr::new(0x8000_0000);
    let (changes, errors) = scene.round(Answer::Done);
    assert_eq!((changes.len(), errors), (1, vec![Error::NotEjected { slot: 2, base }.into()]));
    assert_eq!(scene.round(Answer::Done).0, [Change::Appeared(range(0x8000_0000, 2 * MIB))]);
}

#[test]
fn the_last_slot_that_there_can_be_is_looked_at() {
    struct Far(u32);
    impl devices::dimm::Registers for Far {
        fn read32(&mut self, offset: u64) -> u32 {
            if offset.is_multiple_of(8) { 0x8000_0000 } else { 0 }
        }
        fn write32(&mut self, offset: u64, value: u32) {
            if offset == 0 {
                self.0 = value;
            }
        }
        fn read8(&mut self, _: u64) -> u8 {
            u8::from(self.0 == 255)
        }
        fn write8(&mut self, _: u64, _: u8) {}
    }
    let mut dimms = Dimms::new(Far(0));
    assert_eq!(dimms.poll(), Ok(Some(Change::Appeared(range(0x8000_0000, 0x8000_0000)))));
}

#[test]
#[should_panic(expected = "a poll before the answer")]
fn a_poll_before_the_answer_is_the_callers_mistake() {
    let mut scene = Scene::new();
    scene.board.borrow_mut().insert(2, 0x8000_0000, 2 * MIB);
    let _ = scene.dimms.poll();
    let _ = scene.dimms.poll();
}

#[test]
#[should_panic(expected = "the change that the last poll told")]
fn an_answer_to_nothing_is_the_callers_mistake() {
    let _ = Scene::new().dimms.agree(Change::Appeared(range(0, 2 * MIB)), Answer::Done);
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The host plugs a DIMM into a slot, at a place of its own.
    Insert { slot: usize, units: u64, wrong: u64 },
    /// The host asks a DIMM back.
    AskBack(usize),
    /// The host breaks the rules.
    Pull(usize),
    /// The caller gives back what it added first.
    GiveBack,
    /// The driver is polled once, and answered; meanwhile the host may ask for a DIMM.
    Poll { done: bool, meanwhile: Option<usize> },
}

fn event(lawful: bool) -> impl Strategy<Value = Event> {
    let slot = || 0..PRESENT;
    let insert = (slot(), 1..5_u64, prop_oneof![5 => Just(0), 1 => 1..2 * MIB]);
    prop_oneof![
        3 => insert.prop_map(|(slot, units, wrong)| Event::Insert { slot, units, wrong }),
        3 => slot().prop_map(Event::AskBack),
        u32::from(!lawful) => slot().prop_map(Event::Pull),
        1 => Just(Event::GiveBack),
        6 => (any::<bool>(), prop::option::of(slot())).prop_map(|(done, meanwhile)| Event::Poll { done, meanwhile }),
    ]
}

impl Scene {
    fn happen(&mut self, event: Event) {
        let mut board = self.board.borrow_mut();
        match event {
            Event::Insert { slot, units, wrong } if !board.slots[slot].enabled() => {
                board.insert(slot, 0x8000_0000 + slot as u64 * 0x4000_0000, units * 2 * MIB + wrong);
            }
            // Of an empty slot too: QEMU keeps a request that came too late.
            Event::AskBack(slot) => board.ask_back(slot),
            Event::Pull(slot) => board.pull(slot),
            Event::GiveBack => {
                let first = board.added.first().copied();
                drop(board);
                let refused = first.and_then(|range| self.give_back(range).err());
                self.errors.extend(refused);
            }
            Event::Insert { .. } => {}
            Event::Poll { done, meanwhile } => {
                drop(board);
                self.meanwhile = meanwhile;
                self.step(if done { Answer::Done } else { Answer::Refused });
                self.meanwhile = None;
            }
        }
    }

    /// Ends this round, and then another, with nothing refused and the host at rest: what can be is in use, and nothing
    /// else is. All errors so far.
    fn settled(&mut self) -> Vec<DeviceError> {
        let errors = [self.round(Answer::Done).1, self.round(Answer::Done).1].concat();
        let board = self.board.borrow();
        let mut there: Vec<_> = board.slots.iter().filter_map(|slot| slot.range()).collect();
        let mut added = board.added.clone();
        there.sort_by_key(|range| range.start());
        added.sort_by_key(|range| range.start());
        assert_eq!(added, there, "added, and plugged");
        assert!(!board.slots.iter().any(|slot| slot.asked_back()), "{:x?}", board.slots);
        errors
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_in_use_is_what_is_plugged(events in prop::collection::vec(event(true), 0..60)) {
        let mut scene = Scene::new();
        for event in events {
            scene.happen(event);
        }
        let lost = |error: &DeviceError| !matches!(error, DeviceError::Dimm(Error::Malformed { .. }));
        let errors = scene.settled();
        prop_assert!(!errors.iter().any(lost), "{errors:?}");
        (0..PRESENT).for_each(|slot| scene.board.borrow_mut().ask_back(slot));
        scene.settled();
        prop_assert!(scene.board.borrow().slots.iter().all(|slot| slot.flags == 0));
        prop_assert_eq!(scene.round(Answer::Done), (vec![], vec![]));
    }

    #[test]
    fn a_host_without_rules_gets_neither_a_panic_nor_a_dimm_that_is_in_use(events in prop::collection::vec(event(false), 0..60)) {
        let mut scene = Scene::new();
        for event in events {
            scene.happen(event);
        }
        scene.settled();
        prop_assert_eq!(scene.round(Answer::Done), (vec![], vec![]));
    }
}
