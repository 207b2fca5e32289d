//! The bare target: what a kernel has anyway.

use core::fmt;
use core::panic::PanicInfo;

/// In place of a console.
pub struct Silence;

impl fmt::Write for Silence {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
