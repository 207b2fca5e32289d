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
//! | [`memory`] | RAM frames, and the memory map with every pfn's struct page |
//! | [`device`] | where device memory comes from: one file a source |
//! | [`story`] | the main job: discover, hot-add, prove, hot-remove, report |
//! | [`live`] | the kernel that lives on: serves its devices and the console until told to quit |
//! | [`prove`] | proofs on the running machine |
//! | [`measure`], [`report`] | instructions counted, and what the host is told |
//! | [`watch`] | the machine watched while it runs: traces, and the checker of the protocol |
//! | [`virtio`] | memory and registers for the drivers of `virtio-drivers` |
//! | [`firmware`] | what QEMU tells firmware: ACPI tables |
//! | [`cpu`], [`cpus`], [`psci`] | which CPU this is; the others: turned on for a job, off behind it |
//! | [`share`] | adds that all CPUs share |
//! | [`pci`] | the PCI bus: functions, their BARs and interrupts |
//! | [`window`], [`interrupt`] | registers of devices, mapped; their interrupts |
//! | [`cache`] | data that must reach memory |
//! | [`mod@pointer`] | addresses as pointers |
#![no_std]

extern crate alloc;

pub mod backtrace;
pub mod boot;
pub mod cache;
pub mod config;
pub mod console;
pub mod cpu;
pub mod cpus;
pub mod device;
pub mod exceptions;
pub mod exit;
pub mod firmware;
pub mod heap;
pub mod interrupt;
pub mod live;
pub mod measure;
pub mod memory;
mod panic;
pub mod pci;
pub mod pointer;
pub mod prove;
pub mod psci;
pub mod report;
pub mod share;
pub mod story;
pub mod virtio;
pub mod watch;
pub mod window;
