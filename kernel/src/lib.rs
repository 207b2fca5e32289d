//! The kernel: everything but its story, which the binary tells.
//!
//! | room | what |
//! |---|---|
//! | [`boot`] | from the first instruction to `kernel_main`: relocation, exception level, first tables, MMU on |
//! | [`config`] | the boot arguments |
//! | [`console`], [`exit`] | the way to the user, and the way out |
//! | [`exceptions`] | vectors, fault reports, accesses that may fault |
//! | [`backtrace`], `panic` | how a run ends that went wrong in our own code |
//! | [`heap`] | for reports and tests |
#![no_std]

extern crate alloc;

pub mod backtrace;
pub mod boot;
pub mod config;
pub mod console;
pub mod exceptions;
pub mod exit;
pub mod heap;
mod panic;
