//! What the CPU can do, read from its ID registers and decoded as the architecture says.

use aarch64_cpu::registers::{
    ID_AA64DFR0_EL1, ID_AA64ISAR0_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1, MIDR_EL1, Readable,
};
use tock_registers::fields::Field;
use vmemmap::descriptor::OutputFormat;
use vmemmap::granule::GranuleSize;

/// The features of the CPU that matter here.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "one bool a feature")]
pub struct Cpu {
    /// `MIDR_EL1`: who made it and what it is.
    pub midr: u64,
    /// It has 4K pages.
    pub has_4k: bool,
    /// It has 16K pages.
    pub has_16k: bool,
    /// It has 64K pages.
    pub has_64k: bool,
    /// Bits of a physical address, 32 to 56.
    pub pa_bits: u32,
    /// 52-bit addresses at 4K (`FEAT_LPA2`).
    pub lpa2_4k: bool,
    /// 52-bit addresses at 16K (`FEAT_LPA2`).
    pub lpa2_16k: bool,
    /// 52-bit virtual addresses at 64K (`FEAT_LVA`).
    pub lva: bool,
    /// What may change in a live entry: `FEAT_BBM` level 0, 1 or 2.
    pub bbm_level: u8,
    /// TLB invalidation by range (`FEAT_TLBIRANGE`).
    pub tlbi_range: bool,
    /// The level hint of TLB invalidations (`FEAT_TTL`).
    pub ttl: bool,
    /// Hardware update of the access flag and dirty state: 0 none, 1 flag, 2 both. We leave it off.
    pub hafdbs: u8,
    /// Event counters of the performance monitor, 0 without one.
    pub pmu_version: u8,
}

impl Cpu {
    /// The CPU that this runs on.
    #[must_use]
    pub fn this() -> Self {
        Self {
            midr: MIDR_EL1.get(),
            has_4k: signed(mmfr0(ID_AA64MMFR0_EL1::TGran4)) >= 0,
            has_16k: mmfr0(ID_AA64MMFR0_EL1::TGran16) >= 1,
            has_64k: signed(mmfr0(ID_AA64MMFR0_EL1::TGran64)) >= 0,
            pa_bits: pa_bits(mmfr0(ID_AA64MMFR0_EL1::PARange)),
            lpa2_4k: signed(mmfr0(ID_AA64MMFR0_EL1::TGran4)) >= 1,
            lpa2_16k: mmfr0(ID_AA64MMFR0_EL1::TGran16) >= 2,
            lva: ID_AA64MMFR2_EL1.read(ID_AA64MMFR2_EL1::VARange) >= 1,
            bbm_level: field(ID_AA64MMFR2_EL1.read(ID_AA64MMFR2_EL1::BBM)),
            tlbi_range: ID_AA64ISAR0_EL1.get() >> 56 & 0xf >= 2,
            ttl: ID_AA64MMFR2_EL1.read(ID_AA64MMFR2_EL1::TTL) >= 1,
            hafdbs: field(ID_AA64MMFR1_EL1.read(ID_AA64MMFR1_EL1::HAFDBS)),
            pmu_version: pmu_version(field(ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer))),
        }
    }

    /// Whether it has pages of this size.
    #[must_use]
    pub fn has(&self, granule: GranuleSize) -> bool {
        match granule {
            GranuleSize::K4 => self.has_4k,
            GranuleSize::K16 => self.has_16k,
            GranuleSize::K64 => self.has_64k,
        }
    }

    /// Whether it has 52-bit virtual addresses with pages of this size.
    #[must_use]
    pub fn has_52_bits(&self, granule: GranuleSize) -> bool {
        match granule {
            GranuleSize::K4 => self.lpa2_4k,
            GranuleSize::K16 => self.lpa2_16k,
            GranuleSize::K64 => self.lva,
        }
    }

    /// Bits of a physical address that tables with these descriptors can use: what `TCR.IPS` is set to.
    #[must_use]
    pub fn output_bits(&self, output: OutputFormat) -> u32 {
        self.pa_bits.min(output.most_bits())
    }
}

/// The encoding of an output size in `TCR.IPS`, which is that of `PARange`.
#[must_use]
pub fn ips(output_bits: u32) -> u64 {
    match output_bits {
        ..36 => 0,
        36..40 => 1,
        40..42 => 2,
        42..44 => 3,
        44..48 => 4,
        48..52 => 5,
        52.. => 6,
    }
}

/// CPUs of QEMU that have pages of this size, for a CPU that has not.
#[must_use]
pub fn qemu_cpus_with(granule: GranuleSize) -> &'static str {
    match granule {
        GranuleSize::K4 | GranuleSize::K64 => {
            "cortex-a35, cortex-a53, cortex-a57, cortex-a72, cortex-a76, neoverse-n1, a64fx or max"
        }
        GranuleSize::K16 => "cortex-a35, cortex-a76, neoverse-n1 or max",
    }
}

/// CPUs of QEMU with 52-bit virtual addresses, at every granule.
pub const QEMU_CPUS_WITH_52_BITS: &str = "max";

fn pa_bits(pa_range: u8) -> u32 {
    match pa_range {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        6 => 52,
        _ => 56,
    }
}

/// 15 means a performance monitor that is not the architecture's.
fn pmu_version(version: u8) -> u8 {
    if version == 15 { 0 } else { version }
}

fn mmfr0(which: Field<u64, ID_AA64MMFR0_EL1::Register>) -> u8 {
    field(ID_AA64MMFR0_EL1.read(which))
}

/// An ID field of four bits whose highest bit is a sign.
fn signed(field: u8) -> i8 {
    (field << 4).cast_signed() >> 4
}

fn field(value: u64) -> u8 {
    value as u8
}
