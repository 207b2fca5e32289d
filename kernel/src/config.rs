//! What the boot arguments ask for.

use core::fmt;

use vmemmap::addr::PhysAddr;
use vmemmap::granule::GranuleSize;
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
    /// `device=BASE,BYTES`: the range of device memory.
    pub device: Option<Device>,
    /// `memmap=altmap|ram`: where the struct pages of the device range lie; in the range itself.
    pub memmap: Memmap,
    /// `altmap=tight|nvdimm`: how the altmap is cut; tight.
    pub altmap: AltmapShape,
    /// `altmap_reserve=FRAMES`.
    pub altmap_reserve: Option<u64>,
    /// `altmap_free=FRAMES`.
    pub altmap_free: Option<u64>,
    /// `leaf=largest|linux|pages`; largest. With `pages` the linear map of RAM is in pages too.
    pub leaf: LeafPolicy,
    /// `count=1`: count instructions.
    pub count: bool,
    /// `trace=1`: print every event of the tables.
    pub trace: bool,
    /// `checked=1`: stop at the first event that breaks the protocol.
    pub checked: bool,
    /// `hold=1`: stay alive after the hot-add.
    pub hold: bool,
    /// `test=NAME`: which test case the test image runs.
    pub test: Option<Name>,
    /// `break=tlbi`: the test image leaves TLB maintenance out.
    pub break_tlbi: bool,
}

/// A range as the user gave it: it may be empty, wrap or lie anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its first byte.
    pub base: PhysAddr,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Where the struct pages of the device range lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memmap {
    /// In the range itself.
    Altmap,
    /// In RAM.
    Ram,
}

/// How the altmap is cut out of the device range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AltmapShape {
    /// As much as the struct pages need.
    Tight,
    /// As Linux's nvdimm drivers cut it.
    Nvdimm,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
            Self::VaBits { granule, va_bits } => {
                write!(f, "va_bits={va_bits} with {granule} pages: use {}", accepted_va_bits(granule).1)
            }
        }
    }
}

const KEYS: &str = "granule, va_bits, memory, device, memmap, altmap, altmap_reserve, altmap_free, leaf, count, trace, \
                    checked, hold, test, break";

const FLAG: &str = "0 or 1";
const FRAMES: &str = "a number of frames";

impl Config {
    /// What holds when no argument is given.
    pub const DEFAULT: Self = Self {
        granule: GranuleSize::K64,
        va_bits: 48,
        memory: None,
        device: None,
        memmap: Memmap::Altmap,
        altmap: AltmapShape::Tight,
        altmap_reserve: None,
        altmap_free: None,
        leaf: LeafPolicy::Largest,
        count: false,
        trace: false,
        checked: false,
        hold: false,
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
            "device" => (put(&mut self.device, device(value).map(Some)), "BASE,BYTES"),
            "memmap" => (put(&mut self.memmap, memmap(value)), "altmap or ram"),
            "altmap" => (put(&mut self.altmap, altmap(value)), "tight or nvdimm"),
            "altmap_reserve" => (put(&mut self.altmap_reserve, number(value).map(Some)), FRAMES),
            "altmap_free" => (put(&mut self.altmap_free, number(value).map(Some)), FRAMES),
            "leaf" => (put(&mut self.leaf, leaf(value)), "largest, linux or pages"),
            "count" => (put(&mut self.count, flag(value)), FLAG),
            "trace" => (put(&mut self.trace, flag(value)), FLAG),
            "checked" => (put(&mut self.checked, flag(value)), FLAG),
            "hold" => (put(&mut self.hold, flag(value)), FLAG),
            "test" => (put(&mut self.test, Name::new(value).map(Some)), "the name of a test case"),
            "break" => (put(&mut self.break_tlbi, (value == "tlbi").then_some(true)), "tlbi"),
            _ => return Err(ConfigError::UnknownKey { key }),
        };
        if understood { Ok(()) } else { Err(ConfigError::BadValue { key, value, accepted }) }
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

fn memmap(value: &str) -> Option<Memmap> {
    match value {
        "altmap" => Some(Memmap::Altmap),
        "ram" => Some(Memmap::Ram),
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

fn device(value: &str) -> Option<Device> {
    let (base, bytes) = value.split_once(',')?;
    Some(Device { base: PhysAddr::new(number(base)?), bytes: number(bytes)? })
}

fn number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}
