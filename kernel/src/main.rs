//! The image: boots, and tells the story of [`kernel::story`] on the machine as it is.
#![no_std]
#![no_main]

use kernel::boot::BootInfo;
use kernel::story::{self, Bare};

kernel::main!(main);

fn main(boot: &'static BootInfo) -> ! {
    story::tell::<Bare>(boot)
}
