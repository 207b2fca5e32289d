#![doc = include_str!("../README.md")]
#![cfg_attr(not(any(test, feature = "sim")), no_std)]

#[cfg(feature = "check")]
extern crate alloc;

pub mod addr;
pub mod altmap;
#[cfg(feature = "check")]
pub mod check;
pub mod count;
pub mod decode;
pub mod descriptor;
pub mod frames;
pub mod granule;
pub mod hotplug;
pub mod layout;
pub mod leaf;
pub mod lifetime;
pub mod mapping;
pub mod meta;
pub mod observe;
pub mod regime;
mod regions;
mod repeat;
pub mod seam;
pub mod section;
#[cfg(feature = "sim")]
pub mod sim;
pub mod table;
pub mod tlb;
pub mod tlbi;
pub mod trace;
pub mod vmemmap;
pub mod walk;

#[cfg(test)]
mod testing;
