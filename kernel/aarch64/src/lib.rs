//! The machine that `vmemmap` runs on, as instructions: [`El1`] is its `Memory` and `Mmu`, [`translate`] asks the MMU
//! what it would do, and [`is_spurious`] tells a fault handler that an access can be made again. An adopter takes them as they
//! are.
#![no_std]
#![cfg(target_arch = "aarch64")]

mod el1;
mod fault;
mod translate;

pub use el1::El1;
pub use fault::is_spurious;
pub use translate::{TranslationFault, translate, translate_for_write};
