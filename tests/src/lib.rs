//! The bootable tests: one list, which `test-image` runs from and the harness boots from.
#![no_std]

/// A bootable test.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `room::sentence`: what the image is told to run.
    pub name: &'static str,
    /// Flags as for `cargo xtask qemu`, beside those of the configuration.
    pub flags: &'static str,
    /// A configuration runs the case if its name contains this: `64k::`, `::max`, or nothing for all.
    pub on: &'static str,
    /// How the boot must end.
    pub ends: Ends,
}

/// How a boot must end.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    /// It passes.
    Pass,
    /// A proof fails, and one of the failures contains this.
    Fail(&'static str),
    /// It is refused with a line that contains this.
    Refused(&'static str),
    /// It panics, or takes an unexpected exception, with a message that contains this.
    Panic(&'static str),
}

const fn passes(name: &'static str) -> Case {
    Case { name, flags: "", on: "", ends: Ends::Pass }
}

/// Every bootable test.
pub const CASES: &[Case] = &[passes("hot_add::memmap_lies_in_the_altmap")];
