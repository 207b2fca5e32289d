//! Temporary.
#![allow(missing_docs, clippy::all, clippy::pedantic)]
use crate::addr::PhysAddr;
use crate::seam::Memory;
#[derive(Clone, Copy, Debug)]
pub struct MemoryWord<'a, M> { memory: &'a M, at: PhysAddr }
impl<'a, M> MemoryWord<'a, M> { pub const fn new(memory: &'a M, at: PhysAddr) -> Self { Self { memory, at } } }
const LIVE: u64 = 1 << 63; const CLOSING: u64 = 1 << 62;
fn change<M: Memory>(w: &MemoryWord<M>, f: impl Fn(u64) -> Option<u64>) -> Option<u64> {
    let mut old = w.memory.load(w.at);
    loop { let new = f(old)?; match w.memory.exchange(w.at, old, new) { Ok(_) => return Some(old), Err(now) => old = now } }
}
pub fn is_vacant<M: Memory>(w: &MemoryWord<M>) -> bool { w.memory.load(w.at) == 0 }
pub fn publish<M: Memory>(w: &MemoryWord<M>) { change(w, |_| Some(LIVE)); }
pub fn retire<M: Memory>(w: &MemoryWord<M>) { change(w, |_| Some(0)); }
pub fn close<M: Memory>(w: &MemoryWord<M>) -> u64 { change(w, |o| Some(o | CLOSING)).unwrap() & 0xffff_ffff }
pub fn reopen<M: Memory>(w: &MemoryWord<M>) { change(w, |o| Some(o & !CLOSING)); }
pub fn holders<M: Memory>(w: &MemoryWord<M>) -> u64 { w.memory.load(w.at) & 0xffff_ffff }
pub fn is_closing<M: Memory>(w: &MemoryWord<M>) -> bool { w.memory.load(w.at) & CLOSING != 0 }
pub fn unpin<M: Memory>(w: &MemoryWord<M>) { change(w, |o| Some(o - 1)); }
pub fn pin_if<M: Memory>(w: &MemoryWord<M>, still: impl Fn() -> bool) -> bool {
    if change(w, |o| (o & LIVE != 0 && o & CLOSING == 0).then_some(o + 1)).is_none() { return false }
    if still() { true } else { unpin(w); false }
}
