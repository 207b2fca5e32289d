//! The image in memory: the boundaries that `linker.ld` draws, where it runs and where it is linked.

use vmemmap::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};

unsafe extern "C" {
    static image_link: u64;
    static image_start: u8;
    static text_end: u8;
    static rodata_end: u8;
    static data_end: u8;
    static main_stack_start: u8;
    static main_stack_end: u8;
    static exception_stack_start: u8;
    static exception_stack_end: u8;
    static image_end: u8;
}

/// The boot protocol of arm64 Linux: images are loaded at a multiple of 2 MiB.
pub const LOAD_ALIGNMENT: u64 = 2 << 20;

/// The parts of the image that differ in protection, in the order of their addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Code: readable and executable.
    Text,
    /// Constants and relocated pointers: readable.
    Rodata,
    /// Statics and the heap: readable and writable.
    Data,
    /// Never mapped: below the main stack.
    MainGuard,
    /// Readable and writable.
    MainStack,
    /// Never mapped: below the exception stack.
    ExceptionGuard,
    /// Readable and writable.
    ExceptionStack,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Text,
        Self::Rodata,
        Self::Data,
        Self::MainGuard,
        Self::MainStack,
        Self::ExceptionGuard,
        Self::ExceptionStack,
    ];

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "kernel text",
            Self::Rodata => "kernel rodata",
            Self::Data => "kernel data",
            Self::MainGuard => "guard page of the kernel stack",
            Self::MainStack => "kernel stack",
            Self::ExceptionGuard => "guard page of the exception stack",
            Self::ExceptionStack => "exception stack",
        }
    }

    /// Its addresses where the image runs now.
    fn running(self) -> (u64, u64) {
        // `&raw const` is relative to the program counter: right before the MMU is on and after.
        match self {
            Self::Text => (address(&raw const image_start), address(&raw const text_end)),
            Self::Rodata => (address(&raw const text_end), address(&raw const rodata_end)),
            Self::Data => (address(&raw const rodata_end), address(&raw const data_end)),
            Self::MainGuard => (address(&raw const data_end), address(&raw const main_stack_start)),
            Self::MainStack => (address(&raw const main_stack_start), address(&raw const main_stack_end)),
            Self::ExceptionGuard => (address(&raw const main_stack_end), address(&raw const exception_stack_start)),
            Self::ExceptionStack => {
                (address(&raw const exception_stack_start), address(&raw const exception_stack_end))
            }
        }
    }

    /// Its physical addresses, as long as the MMU is off.
    #[must_use]
    pub fn physical(self) -> PhysRange {
        physical(self.running())
    }

    /// Where it is linked, and runs once the MMU is on.
    #[must_use]
    pub fn linked(self) -> VirtRange {
        let (start, end) = self.running();
        VirtRange::new(VirtAddr::new(link_address(start)), end - start)
    }

    /// Whether `address` lies inside, where the image runs now.
    #[must_use]
    pub fn holds(self, address: u64) -> bool {
        let (start, end) = self.running();
        (start..end).contains(&address)
    }
}

/// The whole image, as long as the MMU is off.
#[must_use]
pub fn whole() -> PhysRange {
    physical((address(&raw const image_start), address(&raw const image_end)))
}

/// The address that the linker gave to what is now at `running`: the same once the MMU is on.
#[must_use]
pub fn link_address(running: u64) -> u64 {
    // SAFETY: a constant in the text, written by the linker.
    let link = unsafe { image_link };
    running.wrapping_sub(address(&raw const image_start)).wrapping_add(link)
}

/// The physical address of what is now at `running`, once the MMU is on: `image` is where the whole image lies.
#[must_use]
pub fn physical_address(running: u64, image: PhysRange) -> PhysAddr {
    image.start().add(running - address(&raw const image_start))
}

fn address(symbol: *const u8) -> u64 {
    symbol.addr() as u64
}

fn physical((start, end): (u64, u64)) -> PhysRange {
    PhysRange::between(PhysAddr::new(start), PhysAddr::new(end)).expect("linker.ld draws boundaries in this order")
}
