//! What the boot arguments ask for.

mod device;

pub use device::{AltmapShape, Device, MOST_DEVICES, Memmap, PerDevice, RemoveOrder, Source};

use core::fmt;

use vmemmap::granule::{GranuleSize, SUBSECTION_BYTES};
use vmemmap::leaf::LeafPolicy;

/// The boot arguments, all of them: words `key=value` separated by spaces.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of a command line")]
pub struct Config {
    /// `granule=4k|16k|64k`; 64K.
    pub granule: GranuleSize,
    /// `va_bits=N`; 48.
    pub va_bits: u32,
    /// `memory=BYTES`: how much RAM, from the lowest address up, is ours. All of it.
    pub memory: Option<u64>,
    /// `device=BASE,BYTES[,MEMMAP]` or `device=KIND[,MEMMAP]`: a source of device memory; may be said up to
    /// [`MOST_DEVICES`] times. KIND is `virtio-mem`, `pc-dimm`, `ivshmem` or `nvdimm`, MEMMAP `altmap` (tight), `nvdimm` or
    /// `ram`.
    pub devices: PerDevice<Device>,
    /// `remove_order=N,N,..`: the order in which they are removed. Last in, first out.
    pub remove_order: Option<RemoveOrder>,
    /// `memory_block=BYTES`: ranges of virtio-mem end at multiples of this address at the latest. Anywhere.
    pub memory_block: Option<u64>,
    /// `memmap=altmap|ram`: whether the struct pages of a device that says nothing of them lie in RAM; in the range.
    pub memmap_in_ram: bool,
    /// `altmap=tight|nvdimm`: how the altmap of such a device is cut; tight.
    pub altmap: AltmapShape,
    /// `altmap_reserve=FRAMES`.
    pub altmap_reserve: Option<u64>,
    /// `altmap_free=FRAMES`.
    pub altmap_free: Option<u64>,
    /// `leaf=largest|linux|pages`; largest. With `pages` the linear map of RAM is in pages too.
    pub leaf: LeafPolicy,
    /// `plan=1`: print the plans and end.
    pub plan: bool,
    /// `passes=N`: add and remove the device again and again, N times by one CPU and by all, and take the time; 0.
    pub passes: u64,
    /// `count=1`: count instructions.
    pub count: bool,
    /// `trace=1`: print every event of the tables.
    pub trace: bool,
    /// `checked=1`: stop at the first event that breaks the protocol.
    pub checked: bool,
    /// `hold=1`: stay alive after the hot-add.
    pub hold: bool,
    /// `live=1`: serve the devices and the console until told to quit.
    pub live: bool,
    /// `test=NAME`: which test case the test image runs.
    pub test: Option<Name>,
    /// `break=tlbi`: the test image leaves TLB maintenance out.
    pub break_tlbi: bool,
}

/// The name of a test case.
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; Self::MAX_BYTES],
    length: usize,
}

impl Name {
    const MAX_BYTES: usize = 96;

    fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { bytes, length: name.len() })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A boot argument that we can't take.
#[derive(Clone, Copy, Debug)]
pub enum ConfigError<'a> {
    /// There is no such key.
    UnknownKey {
        /// What stands before the `=`.
        key: &'a str,
    },
    /// The key is right, its value is not.
    BadValue {
        /// What stands before the `=`.
        key: &'a str,
        /// What stands after it.
        value: &'a str,
        /// What may stand there.
        accepted: &'static str,
    },
    /// More sources of device memory than a run can have.
    TooManyDevices,
    /// The order of removal does not name every device once.
    RemoveOrder {
        /// What was asked.
        order: RemoveOrder,
        /// How many devices there are.
        devices: usize,
    },
    /// The granule has no such size of the address space.
    VaBits {
        /// The granule.
        granule: GranuleSize,
        /// The size that was asked.
        va_bits: u32,
    },
}

impl fmt::Display for ConfigError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownKey { key } => write!(f, "unknown boot argument `{key}`: known are {KEYS}"),
            Self::BadValue { key, value, accepted } => write!(f, "bad value in {key}={value}: use {accepted}"),
            Self::TooManyDevices => {
                write!(f, "more than {MOST_DEVICES} sources of device memory: leave some device=.. away")
            }
            Self::RemoveOrder { order, devices } => {
                let plural = if devices == 1 { "" } else { "s" };
                write!(f, "remove_order={order} is not an order of {devices} device{plural}: name each once, from 0 on")
            }
            Self::VaBits { granule, va_bits } => {
                write!(f, "va_bits={va_bits} with {granule} pages: use {}", accepted_va_bits(granule).1)
            }
        }
    }
}

const KEYS: &str = "granule, va_bits, memory, device, remove_order, memory_block, memmap, altmap, altmap_reserve, \
                    altmap_free, leaf, plan, passes, count, trace, checked, hold, live, test, break";

const FLAG: &str = "0 or 1";
const FRAMES: &str = "a number of frames";
const ORDER: &str = "the numbers of the devices, like 2,0,1";

impl Config {
    /// What holds when no argument is given.
    pub const DEFAULT: Self = Self {
        granule: GranuleSize::K64,
        va_bits: 48,
        memory: None,
        devices: PerDevice::none(Device { source: Source::PcDimm, memmap: None }),
        remove_order: None,
        memory_block: None,
        memmap_in_ram: false,
        altmap: AltmapShape::Tight,
        altmap_reserve: None,
        altmap_free: None,
        leaf: LeafPolicy::Largest,
        plan: false,
        passes: 0,
        count: false,
        trace: false,
        checked: false,
        hold: false,
        live: false,
        test: None,
        break_tlbi: false,
    };

    /// Reads boot arguments.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first word that is not understood, and for a size of the address space that the granule
    /// does not have.
    pub fn parse(arguments: &str) -> Result<Self, ConfigError<'_>> {
        let mut config = Self::DEFAULT;
        for word in arguments.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            config.set(key, value)?;
        }
        let Self { granule, va_bits, .. } = config;
        if !accepted_va_bits(granule).0.contains(&va_bits) {
            return Err(ConfigError::VaBits { granule, va_bits });
        }
        Ok(config)
    }

    fn set<'a>(&mut self, key: &'a str, value: &'a str) -> Result<(), ConfigError<'a>> {
        let (understood, accepted) = match key {
            "granule" => (put(&mut self.granule, granule(value)), "4k, 16k or 64k"),
            "va_bits" => (put(&mut self.va_bits, value.parse().ok()), "a number of bits"),
            "memory" => (put(&mut self.memory, number(value).map(Some)), "a number of bytes"),
            "device" => {
                let device = device::device(value);
                if device.is_some_and(|device| !self.devices.push(device)) {
                    return Err(ConfigError::TooManyDevices);
                }
                (
                    device.is_some(),
                    "BASE,BYTES or virtio-mem, pc-dimm, ivshmem, nvdimm, then perhaps altmap, nvdimm or ram",
                )
            }
            "remove_order" => (put(&mut self.remove_order, device::remove_order(value).map(Some)), ORDER),
            "memory_block" => {
                (put(&mut self.memory_block, memory_block(value).map(Some)), "a power of two from 2 MiB on")
            }
            "memmap" => (put(&mut self.memmap_in_ram, memmap(value)), "altmap or ram"),
            "altmap" => (put(&mut self.altmap, altmap(value)), "tight or nvdimm"),
            "altmap_reserve" => (put(&mut self.altmap_reserve, number(value).map(Some)), FRAMES),
            "altmap_free" => (put(&mut self.altmap_free, number(value).map(Some)), FRAMES),
            "leaf" => (put(&mut self.leaf, leaf(value)), "largest, linux or pages"),
            "plan" => (put(&mut self.plan, flag(value)), FLAG),
            "passes" => (put(&mut self.passes, number(value)), "a number of passes"),
            "count" => (put(&mut self.count, flag(value)), FLAG),
            "trace" => (put(&mut self.trace, flag(value)), FLAG),
            "checked" => (put(&mut self.checked, flag(value)), FLAG),
            "hold" => (put(&mut self.hold, flag(value)), FLAG),
            "live" => (put(&mut self.live, flag(value)), FLAG),
            "test" => (put(&mut self.test, Name::new(value).map(Some)), "the name of a test case"),
            "break" => (put(&mut self.break_tlbi, (value == "tlbi").then_some(true)), "tlbi"),
            _ => return Err(ConfigError::UnknownKey { key }),
        };
        if understood { Ok(()) } else { Err(ConfigError::BadValue { key, value, accepted }) }
    }

    /// Where the struct pages of `device` go.
    #[must_use]
    pub fn memmap_of(&self, device: &Device) -> Memmap {
        let of_all = if self.memmap_in_ram { Memmap::Ram } else { Memmap::Altmap(self.altmap) };
        device.memmap.unwrap_or(of_all)
    }
}

fn put<T>(place: &mut T, value: Option<T>) -> bool {
    let understood = value.is_some();
    if let Some(value) = value {
        *place = value;
    }
    understood
}

/// Sizes of the address space that a granule has here: those that Linux has. 52 bits need `FEAT_LPA2`, at 64K `FEAT_LVA`.
const fn accepted_va_bits(granule: GranuleSize) -> (&'static [u32], &'static str) {
    match granule {
        GranuleSize::K4 => (&[39, 48, 52], "39, 48 or 52"),
        GranuleSize::K16 => (&[36, 47, 48, 52], "36, 47, 48 or 52"),
        GranuleSize::K64 => (&[42, 48, 52], "42, 48 or 52"),
    }
}

fn granule(value: &str) -> Option<GranuleSize> {
    GranuleSize::ALL.into_iter().find(|granule| granule.name() == value)
}

fn memory_block(value: &str) -> Option<u64> {
    number(value).filter(|bytes| bytes.is_power_of_two() && *bytes >= SUBSECTION_BYTES)
}

fn memmap(value: &str) -> Option<bool> {
    match value {
        "altmap" => Some(false),
        "ram" => Some(true),
        _ => None,
    }
}

fn altmap(value: &str) -> Option<AltmapShape> {
    match value {
        "tight" => Some(AltmapShape::Tight),
        "nvdimm" => Some(AltmapShape::Nvdimm),
        _ => None,
    }
}

fn leaf(value: &str) -> Option<LeafPolicy> {
    match value {
        "largest" => Some(LeafPolicy::Largest),
        "linux" => Some(LeafPolicy::Linux),
        "pages" => Some(LeafPolicy::Pages),
        _ => None,
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// A number as users type it: `0x..` or decimal.
pub(crate) fn number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}
