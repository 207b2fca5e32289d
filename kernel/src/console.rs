//! The console: a PL011, first at its physical address, later in the device window.
//!
//! What is typed waits in the PL011, and then with the host, until [`read_line`] asks for it: so a busy kernel loses
//! nothing, and never keeps more than one line.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use aarch64_cpu::registers::{Readable, SCTLR_EL1};
use arm_pl011_uart::{Interrupts, PL011Registers, Uart, UniqueMmioPointer};
use spin::mutex::SpinMutex;

use crate::{cpu, pointer};

static UART: SpinMutex<Option<Uart<'static>>> = SpinMutex::new(None);

/// The CPU that has the lock of the console.
static HOLDER: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;

/// Prints to the console, if there is one.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::write(::core::format_args!($($arg)*)) };
}

/// Prints a line to the console, if there is one.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::console::write(::core::format_args!("{}\n", ::core::format_args!($($arg)*))) };
}

/// Uses the PL011 at `registers` from now on.
///
/// # Safety
///
/// A PL011's registers must be reachable there, as device memory, for as long as the console is used, and through
/// nothing else. With the MMU off `registers` is the physical address: call this again once it is on.
pub unsafe fn init(registers: u64) {
    let Some(registers) = NonNull::new(pointer::at::<PL011Registers>(registers)) else { return };
    // SAFETY: by this function's contract, and nothing else uses them yet.
    unsafe { enable(registers.cast()) }
    // SAFETY: by this function's contract.
    let uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
    with(|slot| *slot = Some(uart));
}

/// Enables a PL011 as reset leaves it, without its FIFOs: to switch those on, as the driver's `enable` does, throws away what
/// was typed before, which QEMU delivers as soon as the machine is there. One byte is as good as a FIFO to a host that waits
/// until it is read.
///
/// # Safety
///
/// `registers` must be a PL011's.
unsafe fn enable(registers: NonNull<u32>) {
    const LINE_CONTROL: usize = 0x2c;
    const CONTROL: usize = 0x30;
    const EIGHT_BITS: u32 = 0b11 << 5;
    const ENABLE: u32 = 1 | 1 << 8 | 1 << 9;
    // SAFETY: by this function's contract. The baud rate is the host's, or what the firmware has set.
    unsafe {
        registers.byte_add(LINE_CONTROL).write_volatile(EIGHT_BITS);
        registers.byte_add(CONTROL).write_volatile(ENABLE);
    }
}

/// Writes to the console, if there is one. The macros [`print!`](crate::print) and [`println!`](crate::println) call it.
pub fn write(arguments: fmt::Arguments) {
    with(|slot| {
        if let Some(uart) = slot {
            // A PL011 takes every byte sooner or later.
            let _ = uart.write_fmt(arguments);
        }
    });
}

/// Lets the console interrupt while something is typed that nobody has read yet, or stops that.
pub fn interrupt_on_input(wanted: bool) {
    let typed = Interrupts::RXI | Interrupts::RTI;
    with(|slot| {
        if let Some(uart) = slot {
            uart.set_interrupt_masks(if wanted { typed } else { Interrupts::empty() });
        }
    });
}

/// The line that is being typed.
#[derive(Debug, Default)]
pub struct Line {
    bytes: Vec<u8>,
    broken: Option<LineError>,
}

/// What can't be taken for a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineError {
    /// Longer than [`Line::MOST_BYTES`]; what is beyond them was dropped.
    TooLong,
    /// Not UTF-8, or bytes of it were lost on the wire.
    Garbled,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a line of more than {} bytes: type a shorter one", Line::MOST_BYTES),
            Self::Garbled => f.write_str("a line that is no text: type it again, in UTF-8"),
        }
    }
}

impl Line {
    /// The longest line, in bytes.
    pub const MOST_BYTES: usize = 1024;

    /// Takes the next byte; the line, if it ends here.
    fn take(&mut self, byte: u8) -> Option<Result<String, LineError>> {
        if matches!(byte, b'\n' | b'\r') {
            let Self { bytes, broken } = core::mem::take(self);
            let text = String::from_utf8(bytes).map_err(|_| LineError::Garbled);
            return Some(broken.map_or(text, Err));
        }
        if self.bytes.len() < Self::MOST_BYTES {
            self.bytes.push(byte);
        } else {
            self.broken = Some(LineError::TooLong);
        }
        None
    }
}

/// Reads on in `line` as far as was typed; the line once it is whole, without its end.
pub fn read_line(line: &mut Line) -> Option<Result<String, LineError>> {
    loop {
        let mut word = Ok(None);
        with(|slot| word = slot.as_mut().map_or(Ok(None), Uart::read_word));
        match word {
            Ok(None) => return None,
            Ok(Some(byte)) => {
                if let Some(whole) = line.take(byte) {
                    return Some(whole);
                }
            }
            Err(_) => line.broken = Some(LineError::Garbled),
        }
    }
}

/// Lets a panic or a fault report print although the code that it interrupted may hold the console. If another CPU holds it,
/// that one gives it back, or seizes it itself.
///
/// # Safety
///
/// The code that this CPU ran must never run again.
pub unsafe fn seize() {
    if UART.is_locked() && HOLDER.load(Ordering::Relaxed) == cpu::this() {
        // SAFETY: by this function's contract the holder's guard is never used or dropped.
        unsafe { UART.force_unlock() }
    }
}

/// With the MMU off memory is Device memory, where the exclusive accesses of a lock need not work; nor is there anyone
/// to lock out.
fn with(f: impl FnOnce(&mut Option<Uart<'static>>)) {
    if SCTLR_EL1.matches_all(SCTLR_EL1::M::Enable) {
        let mut uart = UART.lock();
        HOLDER.store(cpu::this(), Ordering::Relaxed);
        f(&mut uart);
        HOLDER.store(NOBODY, Ordering::Relaxed);
    } else {
        // SAFETY: one CPU, and neither reports nor handlers re-enter a print that they did not cut short.
        f(unsafe { &mut *UART.as_mut_ptr() });
    }
}
