//! Mutants: machines that break one rule each under the unchanged core.
//!
//! A mutant is `vmemmap` as it ships on a seam that drops, replaces, reorders or alters what passes ([`Mutated`],
//! [`MutatedFrames`]): as if the mistake stood in the core. The same mutants run on the host against the adversary, where every
//! one must be noticed, and in the test image on QEMU, where most are not.
//!
//! - [`fault`]: what can be broken; [`list`](mod@list): the mutants by number and name
//! - `track`, `ring`, `recall`: what a mutant remembers of the calls so far
//! - `machine` with `invalidation`, `order`, `store`: the machine; `frames`: the allocator
//! - `host` (feature `host`): the scenarios, the runner, and its report
#![cfg_attr(not(feature = "host"), no_std)]

pub mod fault;
mod frames;
#[cfg(feature = "host")]
pub mod host;
mod invalidation;
pub mod list;
mod machine;
mod order;
mod recall;
mod ring;
mod store;
mod track;

pub use fault::Fault;
pub use frames::{Ledger, MutatedFrames};
pub use list::{CONTROLS, MUTANTS, Mutant, OTHERWISE};
pub use machine::{Hands, Mutated};
