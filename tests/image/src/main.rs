//! The bootable tests: `test=NAME` runs one case and exits, `test=mutant::NAME` what shows that mutant; `break=tlbi` tells
//! the kernel's story on a machine that leaves TLB maintenance out, and must see it fail.
#![no_std]
#![no_main]

extern crate alloc;

mod cases;
mod mutant;
mod retuned;
mod world;

use kernel::boot::{BootInfo, refuse};
use kernel::exit::{self, Status};
use kernel::{println, story};
use vmemmap::granule::{GranuleSize, K4, K16, K64};

kernel::main!(main);

fn main(boot: &'static BootInfo) -> ! {
    match boot.config.test {
        Some(name) => {
            match boot.config.granule {
                GranuleSize::K4 => cases::run::<K4>(boot, name.as_str()),
                GranuleSize::K16 => cases::run::<K16>(boot, name.as_str()),
                GranuleSize::K64 => cases::run::<K64>(boot, name.as_str()),
            }
            println!("@test {} ok", name.as_str());
            exit::exit(Status::Pass)
        }
        None if boot.config.break_tlbi => story::tell::<mutant::Chosen>(boot),
        None => refuse("the test image runs nothing by itself: give test=NAME or break=tlbi"),
    }
}
