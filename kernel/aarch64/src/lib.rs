//! The machine that `vmemmap` runs on, as instructions: [`El1`] is its `Memory` and `Mmu`, [`translate`] asks the MMU
//! what it would do. Nothing here decides anything; an adopter takes it as it is.
#![no_std]
#![cfg(target_arch = "aarch64")]

mod el1;
mod translate;

pub use el1::El1;
pub use translate::{TranslationFault, translate};
