//! The image.
#![no_std]
#![no_main]

use kernel::boot::BootInfo;
use kernel::exit::{self, Status};
use kernel::println;

kernel::main!(main);

fn main(boot: &'static BootInfo) -> ! {
    println!("{:?}", boot.config);
    println!("{:?} EL{}", boot.cpu, boot.entry_level);
    for range in boot.ram.as_slice() {
        println!("ram {range}");
    }
    println!("image {} dtb {} next {} root {}", boot.image, boot.device_tree, boot.next_free, boot.root);
    println!("{:x?} linear {} vmemmap {}", boot.registers, boot.layout.linear(), boot.layout.vmemmap());
    println!("@pass");
    exit::exit(Status::Pass)
}
