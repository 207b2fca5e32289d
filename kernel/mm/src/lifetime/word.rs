//! A word of RAM that CPUs share.

use core::convert::Infallible;
use core::sync::atomic::{self, AtomicU64, Ordering};

use crate::addr::PhysAddr;
use crate::seam::Memory;

/// A 64-bit word of shared RAM, as the protocol uses it: it is read and exchanged, never just stored to, so that no change
/// gets lost and none ends a release sequence. Tests put a model of memory behind it.
pub trait Word {
    /// What it holds.
    fn load(&self, order: Ordering) -> u64;

    /// Writes `new` if it holds `old`, in one step, with `success` for an ordering; what it held.
    ///
    /// # Errors
    ///
    /// What it holds instead, with `failure` for an ordering.
    fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;

    /// A fence of this memory.
    fn fence(order: Ordering);

    /// Another CPU has to do something first.
    fn pause();
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.compare_exchange(old, new, success, failure)
    }

    #[inline]
    fn fence(order: Ordering) {
        atomic::fence(order);
    }

    #[inline]
    fn pause() {
        core::hint::spin_loop();
    }
}

/// A word that a machine reaches by its physical address: part of a record. [`Memory`] gives each access at least the
/// ordering that it asks for, which is never more than acquire and release.
#[derive(Clone, Copy, Debug)]
pub struct MemoryWord<'a, M> {
    memory: &'a M,
    at: PhysAddr,
}

impl<'a, M> MemoryWord<'a, M> {
    /// The word at `at` of `memory`.
    ///
    /// # Safety
    ///
    /// `at` must be a multiple of 8, in RAM that the machine reaches, and the word the protocol's alone: part of a record, which
    /// nothing changes but the functions of this module, in an order that it allows.
    #[must_use]
    #[inline]
    pub const unsafe fn new(memory: &'a M, at: PhysAddr) -> Self {
        Self { memory, at }
    }
}

impl<M: Memory> Word for MemoryWord<'_, M> {
    #[inline]
    fn load(&self, _order: Ordering) -> u64 {
        self.memory.load(self.at)
    }

    #[inline]
    fn compare_exchange(&self, old: u64, new: u64, _success: Ordering, _failure: Ordering) -> Result<u64, u64> {
        // SAFETY: by `new`'s contract the word is the protocol's to change.
        unsafe { self.memory.exchange(self.at, old, new) }
    }

    #[inline]
    fn fence(order: Ordering) {
        AtomicU64::fence(order);
    }

    #[inline]
    fn pause() {
        AtomicU64::pause();
    }
}

/// Makes of the word what `next` says, or leaves it where that is an error; what it held before. The new value has `order`;
/// nothing is ordered where there is none.
///
/// It takes its caller's location: the test that weakens one ordering after the other knows them by their lines.
#[inline]
#[track_caller]
pub(crate) fn try_update<E>(word: &impl Word, order: Ordering, next: impl Fn(u64) -> Result<u64, E>) -> Result<u64, E> {
    let seen = word.load(Ordering::Relaxed);
    match word.compare_exchange(seen, next(seen)?, order, Ordering::Relaxed) {
        Ok(before) => Ok(before),
        Err(held) => retry(word, order, next, held),
    }
}

/// The same where somebody was faster: a loop apart from the straight way, which nearly every update takes.
#[cold]
#[track_caller]
fn retry<E>(word: &impl Word, order: Ordering, next: impl Fn(u64) -> Result<u64, E>, mut seen: u64) -> Result<u64, E> {
    loop {
        match word.compare_exchange(seen, next(seen)?, order, Ordering::Relaxed) {
            Ok(before) => return Ok(before),
            Err(held) => seen = held,
        }
    }
}

/// [`try_update`] where `next` always knows.
#[inline]
#[track_caller]
pub(crate) fn update(word: &impl Word, order: Ordering, next: impl Fn(u64) -> u64) {
    let Ok(_) = try_update(word, order, |seen| Ok::<_, Infallible>(next(seen)));
}
