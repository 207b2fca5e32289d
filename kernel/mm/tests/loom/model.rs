//! Loom behind `Word`, with one ordering of the protocol weakened.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::Ordering;

use loom::sync::atomic::AtomicU64;
use vmemmap::lifetime::Word;

/// A place in the module that asks for an ordering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Site {
    file: &'static str,
    line: u32,
    operation: &'static str,
    ordering: &'static str,
}

/// What an exploration found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing.
    Holds,
    /// An execution that panics, with this text.
    Fails(String),
}

/// An exploration.
#[derive(Debug)]
pub struct Run {
    pub verdict: Verdict,
    pub executions: u64,
}

/// Two or three CPUs, of which the caller is one.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// The most pre-emptions in an execution, if not all are tried.
    pub preemptions: Option<usize>,
    pub run: fn(),
}

thread_local! {
    /// Of this exploration: loom runs all its threads on the thread that explores.
    static WEAKENED: Cell<Option<Site>> = const { Cell::new(None) };
    static MET: RefCell<BTreeSet<Site>> = const { RefCell::new(BTreeSet::new()) };
    static EXECUTIONS: Cell<u64> = const { Cell::new(0) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A word under loom, 0 at first.
#[derive(Debug)]
pub struct Shared(AtomicU64);

impl Shared {
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Another field of a record, which the state word orders: relaxed.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Word for Shared {
    #[track_caller]
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(asked("load", order))
    }

    #[track_caller]
    fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        assert_eq!(failure, Ordering::Relaxed, "no step of the protocol needs an ordering where it fails");
        if std::thread::panicking() {
            // An execution that was given up ends its open sections: that is none of loom's business any more.
            return Ok(old);
        }
        self.0.compare_exchange(old, new, asked("exchange", success), failure)
    }

    #[track_caller]
    fn fence(order: Ordering) {
        loom::sync::atomic::fence(asked("fence", order));
    }

    fn pause() {
        loom::thread::yield_now();
    }
}

/// The ordering to use where the protocol asks for `order`.
#[track_caller]
fn asked(operation: &'static str, order: Ordering) -> Ordering {
    let (ordering, weaker) = match order {
        Ordering::Relaxed => return order,
        Ordering::Acquire => ("Acquire", Ordering::Relaxed),
        Ordering::Release => ("Release", Ordering::Relaxed),
        Ordering::SeqCst if operation == "fence" => ("SeqCst", Ordering::AcqRel),
        other => panic!("nobody needs {other:?} for {operation}: say how it is weakened"),
    };
    let caller = Location::caller();
    let site = Site { file: caller.file(), line: caller.line(), operation, ordering };
    MET.with_borrow_mut(|met| met.insert(site));
    if WEAKENED.get() == Some(site) { weaker } else { order }
}

/// Runs a scenario in every way, with an ordering weakened if one is given.
pub fn explore(weakened: Option<Site>, scenario: Scenario) -> Run {
    hush();
    // A thread of its own: what a failed exploration leaves behind goes with it.
    let exploration = std::thread::spawn(move || {
        QUIET.set(true);
        WEAKENED.set(weakened);
        let counted = move || {
            EXECUTIONS.set(EXECUTIONS.get() + 1);
            (scenario.run)();
        };
        let mut model = loom::model::Builder::new();
        model.preemption_bound = scenario.preemptions;
        let outcome = catch_unwind(AssertUnwindSafe(|| model.check(counted)));
        let verdict = outcome.map_or_else(|panic| Verdict::Fails(text(&*panic)), |()| Verdict::Holds);
        (Run { verdict, executions: EXECUTIONS.get() }, MET.take())
    });
    let (run, met) = exploration.join().expect("panics are caught");
    MET.with_borrow_mut(|all| all.extend(met));
    run
}

/// The sites that the scenarios meet.
pub fn sites(scenarios: impl IntoIterator<Item = Scenario>) -> Vec<Site> {
    scenarios.into_iter().for_each(|scenario| drop(explore(None, scenario)));
    MET.take().into_iter().collect()
}

/// How many orderings stronger than relaxed the module's source asks for.
pub fn orderings_in_the_source() -> usize {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lifetime");
    let files = std::fs::read_dir(room).expect("the module's room").map(|file| file.expect("a file").path());
    let strong = |line: &str| {
        let order = line.split("//").next().and_then(|code| code.split_once("Ordering::"));
        order.is_some_and(|(_, order)| ["Acquire", "Release", "AcqRel", "SeqCst"].iter().any(|o| order.starts_with(o)))
    };
    let count =
        |file: &Path| std::fs::read_to_string(file).expect("source").lines().filter(|line| strong(line)).count();
    files.filter(|file| !file.ends_with("tests.rs")).map(|file| count(&file)).sum()
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// Whether an execution failed because a struct page was used wrongly, and not because loom gave up or a test is wrong.
pub fn is_misuse(why: &str) -> bool {
    why.starts_with("Causality violation") || why.contains("a struct page is used that is not mapped")
}

pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Explorations keep to themselves what they panic with: most of them are meant to.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, operation, ordering } = self;
        write!(f, "{ordering} {operation} at {file}:{line}")
    }
}
