//! Who does what at once.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use vmemmap::lifetime::{
    Readers, activate, close, deactivate, holders, is_active, pin_if, publish, reopen, retire, unpin,
};
use vmemmap::vmemmap::Chunks;

use super::model::{Scenario, Shared};

/// The bit of the range in its word of the map of sub-sections.
const BIT: u64 = 0b10;
/// What an initialised struct page holds.
const INITIALISED: u64 = 7;

/// A struct page, where it is mapped.
#[derive(Debug)]
struct Page(UnsafeCell<Option<u64>>);

// SAFETY: loom refuses accesses that are not ordered.
unsafe impl Sync for Page {}
// SAFETY: as above.
unsafe impl Send for Page {}

impl Page {
    fn unmapped() -> Self {
        Self(UnsafeCell::new(None))
    }

    fn map_and_initialise(&self) {
        // SAFETY: loom panics before it lets two accesses meet.
        self.0.with_mut(|page| unsafe { *page = Some(INITIALISED) });
    }

    fn unmap(&self) {
        // SAFETY: as above.
        self.0.with_mut(|page| unsafe { *page = None });
    }

    fn read(&self) -> u64 {
        // SAFETY: as above.
        self.0.with(|page| unsafe { *page }).expect("a struct page is used that is not mapped")
    }

    fn write(&self, value: u64) {
        // SAFETY: as above.
        self.0.with_mut(|page| unsafe { *(*page).as_mut().expect("a struct page is used that is not mapped") = value });
    }
}

/// A range, its record, and who reads it.
struct Range {
    state: Shared,
    bits: Shared,
    /// A field of the record: which range has the place.
    owner: Shared,
    pages: [Page; 2],
    readers: Readers<2, Shared>,
}

impl Range {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Shared::new(),
            bits: Shared::new(),
            owner: Shared::new(),
            pages: [Page::unmapped(), Page::unmapped()],
            readers: Readers::over([Shared::new(), Shared::new()]),
        })
    }

    fn add(&self) {
        self.pages[0].map_and_initialise();
        publish(&self.state).expect("the place is vacant");
        activate(&self.bits, BIT);
    }

    fn added() -> Arc<Self> {
        let range = Self::new();
        range.add();
        range
    }

    /// A reader that takes a reference, if it gets one.
    fn pins_and_reads(&self) {
        if pin_if(&self.state, || true).is_ok() {
            assert_eq!(self.pages[0].read(), INITIALISED);
            unpin(&self.state).expect("it was taken");
        }
    }

    /// A reader that takes a reference and writes to a struct page of its own.
    fn pins_and_writes(&self, page: usize) {
        if pin_if(&self.state, || true).is_ok() {
            self.pages[page].write(page as u64);
            unpin(&self.state).expect("it was taken");
        }
    }

    /// A reader that opens a read section.
    fn enters_and_reads(&self, cpu: usize) {
        let section = self.readers.enter(cpu);
        if is_active(&self.bits, BIT) {
            assert_eq!(self.pages[0].read(), INITIALISED);
        }
        drop(section);
    }

    /// A removal that is refused where it finds holders; whether it was done.
    fn remove(&self) -> bool {
        if close(&self.state).expect("it is live") > 0 {
            reopen(&self.state).expect("it was closed");
            return false;
        }
        deactivate(&self.bits, BIT);
        self.readers.wait();
        self.pages[0].unmap();
        retire(&self.state).expect("nobody holds it");
        true
    }
}

/// `others` at once with `me`, then to the end of all.
fn at_once(range: &Arc<Range>, others: &[fn(&Range)], me: fn(&Range)) {
    let others: Vec<_> = others
        .iter()
        .map(|&other| {
            let range = Arc::clone(range);
            thread::spawn(move || other(&range))
        })
        .collect();
    me(range);
    for other in others {
        other.join().unwrap();
    }
}

/// Enough for three CPUs: the executions grow by a factor of 4 with each.
const MOST_PREEMPTIONS: usize = 3;

const fn two(name: &'static str, run: fn()) -> Scenario {
    Scenario { name, preemptions: None, run }
}

const fn three(name: &'static str, run: fn()) -> Scenario {
    Scenario { name, preemptions: Some(MOST_PREEMPTIONS), run }
}

/// Two CPUs in every order; three with at most [`MOST_PREEMPTIONS`].
pub const SCENARIOS: [Scenario; 12] = [
    two("a reference against add and removal", || {
        at_once(&Range::new(), &[Range::pins_and_reads], |range| {
            range.add();
            range.remove();
        });
    }),
    three("two references against a removal that is refused, then done", || {
        let range = Range::added();
        at_once(&range, &[Range::pins_and_reads, Range::pins_and_reads], |range| {
            range.remove();
        });
        let state_says_gone = pin_if(&range.state, || true).is_err();
        assert!(state_says_gone || holders(&range.state) == 1, "a refused removal leaves the range as it was");
    }),
    two("a read section against a removal", || {
        at_once(&Range::added(), &[|range| range.enters_and_reads(0)], |range| assert!(range.remove()));
    }),
    two("two read sections of one CPU, one after the other, against a removal", || {
        let twice = |range: &Range| (0..2).for_each(|_| range.enters_and_reads(0));
        at_once(&Range::added(), &[twice], |range| assert!(range.remove()));
    }),
    three("read sections of two CPUs that share a number against a removal", || {
        let reads: fn(&Range) = |range| range.enters_and_reads(0);
        at_once(&Range::added(), &[reads, reads], |range| assert!(range.remove()));
    }),
    two("a section within another against a removal", || {
        let nested = |range: &Range| {
            let outer = range.readers.enter(0);
            let valid = is_active(&range.bits, BIT);
            drop(range.readers.enter(0));
            if valid {
                assert_eq!(range.pages[0].read(), INITIALISED);
            }
            drop(outer);
        };
        at_once(&Range::added(), &[nested], |range| assert!(range.remove()));
    }),
    two("validity against initialisation", || {
        let looks = |range: &Range| {
            if is_active(&range.bits, BIT) {
                assert_eq!(range.pages[0].read(), INITIALISED);
            }
        };
        at_once(&Range::new(), &[looks], Range::add);
    }),
    three("validity of two ranges whose bits lie in one word", || {
        let looks = |range: &Range| {
            if is_active(&range.bits, BIT) {
                assert_eq!(range.pages[0].read(), INITIALISED);
            }
        };
        let neighbour = |range: &Range| {
            activate(&range.bits, BIT << 1);
            deactivate(&range.bits, BIT << 1);
        };
        let range = Range::new();
        at_once(&range, &[looks, neighbour], Range::add);
        assert_eq!(range.bits.get(), BIT, "no change is lost");
    }),
    three("two holders against a removal that waits for the last", || {
        let range = Range::new();
        range.pages.iter().for_each(Page::map_and_initialise);
        publish(&range.state).unwrap();
        at_once(&range, &[|range| range.pins_and_writes(0), |range| range.pins_and_writes(1)], |range| {
            let mut left = close(&range.state).unwrap();
            while left > 0 {
                thread::yield_now();
                left = holders(&range.state);
            }
            range.pages.iter().for_each(Page::unmap);
            retire(&range.state).unwrap();
        });
    }),
    two("another range in the same place between look-up and reference", || {
        recycle(|range, found| pin_if(&range.state, || range.owner.get() == found));
    }),
    two("two CPUs that initialise chunks before they are valid", || lend(&[Lent::help], Lent::help, Lent::add)),
    three("two helpers and a reader against an add", || {
        let lent = Lent::new();
        let reader = Lent::spawn(&lent, Lent::look);
        let helper = Lent::spawn(&lent, Lent::help);
        lent.help();
        helper.join().unwrap();
        lent.add();
        reader.join().unwrap();
    }),
];

/// Struct pages in chunks of one, which CPUs take.
struct Lent {
    chunks: Chunks<Shared>,
    /// The number of the next chunk, for who takes none from `chunks`.
    next: Shared,
    pages: [Page; 2],
    bits: Shared,
}

impl Lent {
    fn new() -> Arc<Self> {
        let words = [Shared::new(), Shared::new()];
        let pages = [Page::unmapped(), Page::unmapped()];
        Arc::new(Self { chunks: Chunks::over(2, words), next: Shared::new(), pages, bits: Shared::new() })
    }

    fn spawn(lent: &Arc<Self>, run: fn(&Self)) -> thread::JoinHandle<()> {
        let lent = Arc::clone(lent);
        thread::spawn(move || run(&lent))
    }

    /// A helper, and what the CPU of the add does in the end.
    fn help(&self) {
        while let Some(index) = self.chunks.take() {
            self.pages[index as usize].map_and_initialise();
            self.chunks.done();
        }
    }

    /// All have let go of the chunks.
    fn add(&self) {
        self.help();
        assert!(self.chunks.all_done());
        activate(&self.bits, BIT);
    }

    fn look(&self) {
        if is_active(&self.bits, BIT) {
            self.pages.iter().for_each(|page| assert_eq!(page.read(), INITIALISED));
        }
    }
}

/// Lends chunks to `helpers`, and to `me` meanwhile; when they have let go of them, `then`, and all are valid.
fn lend(helpers: &[fn(&Lent)], me: fn(&Lent), then: fn(&Lent)) {
    let lent = Lent::new();
    let helpers: Vec<_> = helpers.iter().map(|&helper| Lent::spawn(&lent, helper)).collect();
    me(&lent);
    for helper in helpers {
        helper.join().unwrap();
    }
    then(&lent);
    assert_eq!(lent.bits.get(), BIT);
    lent.look();
}

/// Range 0 goes, range 1 takes its place, while a reader looks the place up and takes a reference with `pin`.
fn recycle(pin: fn(&Range, u64) -> Result<(), vmemmap::lifetime::Refused>) {
    let range = Range::added();
    let reader = {
        let range = Arc::clone(&range);
        thread::spawn(move || {
            let found = range.owner.get();
            if pin(&range, found).is_ok() {
                assert_eq!(range.pages[found as usize].read(), INITIALISED);
                unpin(&range.state).expect("it was taken");
            }
        })
    };
    if range.remove() {
        range.owner.set(1);
        range.pages[1].map_and_initialise();
        publish(&range.state).expect("the place is vacant");
    }
    reader.join().unwrap();
}

/// Callers that break a rule of the protocol.
pub const BROKEN: [Scenario; 11] = [
    two("a removal that does not look at holders", || {
        at_once(&Range::added(), &[Range::pins_and_reads], |range| {
            close(&range.state).unwrap();
            range.pages[0].unmap();
        });
    }),
    two("a removal that looks at holders before it closes", || {
        at_once(&Range::added(), &[Range::pins_and_reads], |range| {
            if holders(&range.state) == 0 {
                close(&range.state).unwrap();
                range.pages[0].unmap();
            }
        });
    }),
    two("a removal that does not wait for read sections", || {
        at_once(&Range::added(), &[|range| range.enters_and_reads(0)], |range| {
            deactivate(&range.bits, BIT);
            range.pages[0].unmap();
        });
    }),
    two("a removal that waits while the pfns are still valid", || {
        at_once(&Range::added(), &[|range| range.enters_and_reads(0)], |range| {
            range.readers.wait();
            deactivate(&range.bits, BIT);
            range.pages[0].unmap();
        });
    }),
    two("a reader that looks before its section begins", || {
        let looks_early = |range: &Range| {
            let valid = is_active(&range.bits, BIT);
            let section = range.readers.enter(0);
            if valid {
                range.pages[0].read();
            }
            drop(section);
        };
        at_once(&Range::added(), &[looks_early], |range| assert!(range.remove()));
    }),
    two("a reader that does not look at the record again", || recycle(|range, _| pin_if(&range.state, || true))),
    two("an add that makes pfns valid before they are initialised", || {
        at_once(&Range::new(), &[|range| range.enters_and_reads(0)], |range| {
            activate(&range.bits, BIT);
            range.pages[0].map_and_initialise();
        });
    }),
    two("helpers that read the next number and then write it", || {
        let careless = |lent: &Lent| {
            while lent.next.get() < 2 {
                let index = lent.next.get();
                lent.next.set(index + 1);
                lent.pages[index.min(1) as usize].map_and_initialise();
            }
        };
        lend(&[careless], careless, |lent| activate(&lent.bits, BIT));
    }),
    two("an add that does not wait for its helpers", || {
        let lent = Lent::new();
        let _runs_on = Lent::spawn(&lent, Lent::help);
        lent.help();
        activate(&lent.bits, BIT);
        lent.look();
    }),
    two("an add that counts chunks in place of waiting for its helpers", || {
        let lent = Lent::new();
        let _runs_on = Lent::spawn(&lent, Lent::help);
        lent.help();
        while !lent.chunks.all_done() {
            thread::yield_now();
        }
        activate(&lent.bits, BIT);
        lent.look();
    }),
    two("an add that makes pfns valid before its helpers have done", || {
        let lent = Lent::new();
        let reader = Lent::spawn(&lent, Lent::look);
        activate(&lent.bits, BIT);
        lent.help();
        reader.join().unwrap();
    }),
];
