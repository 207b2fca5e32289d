//! From the machine's first instruction to `kernel_main`.
//!
//! 1. `entry.s` relocates the image for where it runs and leaves EL2.
//! 2. `early` reads the device tree, checks what was asked against what the CPU has, and builds the first tables.
//! 3. `entry.s` relocates the image for where it is linked and switches the MMU on.
//! 4. `kernel_start` gives console and heap their final shape and calls `kernel_main`.
//!
//! Until step 3 the MMU and the data cache are off. Memory is then Device memory: accesses must be aligned (the target
//! has `strict-align`), and exclusive accesses, so locks and atomic read-modify-write, must not be used. Nothing that is
//! stored before step 3 may hold a pointer afterwards: [`BootInfo`] is plain numbers.

mod cpu;
mod devicetree;
mod discover;
mod el2;
mod entry;
mod frames;
pub mod image;
mod info;
mod ranges;
mod refuse;
mod switch;
mod tables;

pub use cpu::{Cpu, ips};
pub use devicetree::{DeviceTree, PciHost};
pub use info::{BootInfo, Registers, info};
pub use ranges::{MAX_RANGES, Ranges, TooManyRanges};
pub use refuse::{Refusal, refuse};
pub use switch::Switch;
pub use tables::CONSOLE_WINDOW;
