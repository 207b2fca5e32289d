//! The end of a run that went wrong in our own code: one line, the way that led there, exit.

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use crate::backtrace;
use crate::exit::{self, Status};
use crate::{console, print, println};

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    // Before all else: a CPU that reports already may wait for the console.
    // SAFETY: nothing but this handler runs again.
    unsafe { console::seize() };
    exit::report_alone();
    print!("@panic ");
    let _ = write!(OneLine, "{}", info.message());
    match info.location() {
        Some(place) => println!(" ({}:{})", place.file(), place.line()),
        None => println!(),
    }
    backtrace::print_from_here();
    exit::exit(Status::Panic)
}

/// A console that stays on one line.
struct OneLine;

impl Write for OneLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            let gap = if index == 0 { "" } else { " " };
            print!("{gap}{line}");
        }
        Ok(())
    }
}
