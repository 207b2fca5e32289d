//! A scheduler: one thread for each CPU, of which only the one that has the baton runs. At each call of the seam it may pass
//! to another.
//!
//! Exhaustive search with a bound on pre-emptions, or random choice. A read or a store of an ordinary word is a point of
//! choice only if another CPU stores to the same place, or reads it, in some schedule: elsewhere the order makes no
//! difference. (A table page that is recycled is zeroed by its next owner; who reads it after its release has broken a rule
//! by then.)

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vmemmap::sim::World;
use vmemmap::sim::world::Call;

/// Where the choice comes from.
#[derive(Debug)]
enum Source {
    /// The path to follow, then the first choice each time.
    Search { path: Vec<Choice>, most_preemptions: usize },
    /// Numbers; the baton passes once in so many points.
    Random { state: u64, once_in: u64 },
}

/// A point where more than one CPU could have gone on.
#[derive(Debug)]
struct Choice {
    options: Vec<usize>,
    taken: usize,
}

#[derive(Debug)]
struct State {
    source: Source,
    /// Points of choice so far in this run, and pre-emptions.
    depth: usize,
    preemptions: usize,
    running: usize,
    finished: Vec<bool>,
    waiting: Vec<bool>,
    locked: bool,
    /// CPUs that have read, and stored to, each place: over all runs.
    places: HashMap<u64, (u8, u8)>,
    grown: bool,
    panics: Vec<String>,
}

/// The scheduler of one exploration, run after run.
#[derive(Debug)]
pub struct Baton {
    state: Mutex<State>,
    passed: Condvar,
}

/// What a CPU does.
pub type Program<'a> = Box<dyn FnOnce() + Send + 'a>;

impl State {
    fn next_random(&mut self) -> u64 {
        let Source::Random { state, .. } = &mut self.source else { return 0 };
        // SplitMix64.
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 31
    }

    fn runnable(&self) -> impl Iterator<Item = usize> {
        (0..self.finished.len()).filter(|&thread| !self.finished[thread] && !self.waiting[thread])
    }

    /// Who goes on, where `me` could if `may_go_on`.
    fn choose(&mut self, me: usize, may_go_on: bool) -> usize {
        let mut options: Vec<_> = self.runnable().filter(|&thread| thread != me).collect();
        if may_go_on {
            options.insert(0, me);
        }
        let random = self.next_random();
        let next = match &mut self.source {
            Source::Random { once_in, .. } => {
                let stays = may_go_on && !random.is_multiple_of(*once_in);
                if stays { me } else { options[(random >> 32) as usize % options.len()] }
            }
            Source::Search { path, most_preemptions } => {
                if may_go_on && self.preemptions == *most_preemptions {
                    options.truncate(1);
                }
                if self.depth == path.len() {
                    path.push(Choice { options, taken: 0 });
                }
                let choice = &path[self.depth];
                choice.options[choice.taken]
            }
        };
        self.depth += 1;
        self.preemptions += usize::from(may_go_on && next != me);
        next
    }

    /// Whether the order of `call` and what other CPUs do makes a difference.
    fn matters(&mut self, me: usize, call: Option<Call>) -> bool {
        let me = 1_u8 << me;
        let (place, stores) = match call {
            Some(Call::Read(place)) => (place, false),
            Some(Call::Store(place) | Call::Write(place)) => (place, true),
            _ => return true,
        };
        let (readers, writers) = self.places.entry(place.value()).or_default();
        let shared = |readers: u8, writers: u8| writers != 0 && (readers | writers).count_ones() > 1;
        let before = shared(*readers, *writers);
        *(if stores { &mut *writers } else { &mut *readers }) |= me;
        let now = shared(*readers, *writers);
        self.grown |= now && !before;
        now || matches!(call, Some(Call::Write(_)))
    }
}

impl Baton {
    fn new(source: Source) -> Self {
        let state = State {
            source,
            depth: 0,
            preemptions: 0,
            running: 0,
            finished: Vec::new(),
            waiting: Vec::new(),
            locked: false,
            places: HashMap::new(),
            grown: false,
            panics: Vec::new(),
        };
        Self { state: Mutex::new(state), passed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, mut state: MutexGuard<'_, State>, me: usize, to: usize) {
        if to == me {
            return;
        }
        state.running = to;
        self.passed.notify_all();
        self.await_turn(state, me);
    }

    fn await_turn(&self, state: MutexGuard<'_, State>, me: usize) {
        let not_mine = |state: &mut State| state.running != me && !state.finished[me];
        drop(self.passed.wait_while(state, not_mine).unwrap_or_else(PoisonError::into_inner));
    }

    /// The hook's part: another CPU may run before what `me` is about to do.
    pub fn pause(&self, world: &World, me: u8) {
        let me = usize::from(me);
        let call = world.call(me as u8);
        let mut state = self.state();
        let may_go_on = call != Some(Call::Wait);
        if state.running == me && !state.finished[me] && state.matters(me, call) {
            assert!(
                may_go_on || state.runnable().any(|other| other != me),
                "CPU {me} waits, and nobody is left to end it"
            );
            let next = state.choose(me, may_go_on);
            self.pass(state, me, next);
        }
    }

    /// Takes the one lock; others run while somebody has it.
    pub fn lock(&self, me: u8) {
        let me = usize::from(me);
        let mut state = self.state();
        while state.locked {
            state.waiting[me] = true;
            let next = state.choose(me, false);
            self.pass(state, me, next);
            state = self.state();
        }
        state.locked = true;
    }

    /// Gives it back.
    pub fn unlock(&self) {
        let mut state = self.state();
        state.locked = false;
        state.waiting.fill(false);
    }

    fn finish(&self, me: usize) {
        let mut state = self.state();
        state.finished[me] = true;
        if state.runnable().next().is_some() {
            state.running = state.choose(me, false);
        }
        self.passed.notify_all();
    }

    /// Runs the programs, one a CPU, to their ends; what they panicked with.
    pub fn run(&self, programs: Vec<Program>) -> Vec<String> {
        let count = programs.len();
        {
            let mut state = self.state();
            (state.depth, state.preemptions, state.locked) = (0, 0, false);
            (state.finished, state.waiting) = (vec![false; count], vec![false; count]);
            state.running = usize::MAX;
            state.running = state.choose(usize::MAX, false);
        }
        std::thread::scope(|scope| {
            for (me, program) in programs.into_iter().enumerate() {
                scope.spawn(move || {
                    self.await_turn(self.state(), me);
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(program)) {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                        self.state().panics.push(text.unwrap_or_default());
                        self.unlock();
                    }
                    self.finish(me);
                });
            }
        });
        std::mem::take(&mut self.state().panics)
    }

    /// Prepares the next schedule of a search; whether there is one.
    fn advance(&self) -> bool {
        let mut state = self.state();
        let grown = std::mem::take(&mut state.grown);
        let Source::Search { path, .. } = &mut state.source else { return true };
        if grown {
            // More places matter than before: the points of choice are other ones now.
            path.clear();
            return true;
        }
        while let Some(last) = path.last_mut() {
            last.taken += 1;
            if last.taken < last.options.len() {
                return true;
            }
            path.pop();
        }
        false
    }
}

/// Runs `scenario` in every schedule with at most `most_preemptions`; how many there were. It says whether to go on.
pub fn explore(most_preemptions: usize, mut scenario: impl FnMut(&Arc<Baton>) -> bool) -> u64 {
    let baton = Arc::new(Baton::new(Source::Search { path: Vec::new(), most_preemptions }));
    let mut schedules = 0;
    loop {
        schedules += 1;
        if !scenario(&baton) || !baton.advance() {
            return schedules;
        }
    }
}

/// Runs `scenario` in `count` random schedules.
pub fn wander(count: u64, seed: u64, mut scenario: impl FnMut(&Arc<Baton>, u64)) {
    for run in 0..count {
        let baton = Arc::new(Baton::new(Source::Random { state: seed << 32 | run, once_in: 2 + run % 15 }));
        scenario(&baton, run);
    }
}
