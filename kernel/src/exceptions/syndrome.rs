//! `ESR_EL1` in words.

use core::fmt;

use aarch64_cpu::registers::ESR_EL1;
use tock_registers::LocalRegisterCopy;

/// A value of `ESR_EL1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syndrome(pub u64);

/// The exception classes that our code can raise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// No syndrome: an undefined instruction, or one that is not allowed here.
    Unknown,
    /// `SVC`.
    Svc,
    /// Floating point or SIMD, which the kernel does not use.
    FloatingPoint,
    /// A system register or instruction that is trapped.
    SystemRegister,
    /// An instruction fetch.
    InstructionAbort,
    /// A load, a store or a maintenance instruction.
    DataAbort,
    /// The program counter is not a multiple of 4.
    PcAlignment,
    /// The stack pointer is not a multiple of 16.
    SpAlignment,
    /// `BRK`.
    Breakpoint,
    /// Any other, by its number.
    Other(u8),
}

/// Why an access does not go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// A descriptor's output address is too large.
    AddressSize,
    /// A descriptor is invalid.
    Translation,
    /// A leaf's access flag is clear.
    AccessFlag,
    /// A leaf does not allow it.
    Permission,
    /// The memory system refused a read or a write.
    External,
    /// Not aligned.
    Alignment,
    /// Two TLB entries for one address.
    TlbConflict,
    /// Any other, by its status code.
    Other(u8),
}

/// A fault status: what, and at which level of the walk (`None` where there is no walk).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultStatus {
    /// What.
    pub kind: FaultKind,
    /// At which level, -1 to 3.
    pub level: Option<i8>,
}

impl Syndrome {
    fn fields(self) -> LocalRegisterCopy<u64, ESR_EL1::Register> {
        LocalRegisterCopy::new(self.0)
    }

    /// The exception class.
    #[must_use]
    pub fn class(self) -> Class {
        match low_bits(self.fields().read(ESR_EL1::EC)) {
            0x00 => Class::Unknown,
            0x07 => Class::FloatingPoint,
            0x15 => Class::Svc,
            0x18 => Class::SystemRegister,
            0x20 | 0x21 => Class::InstructionAbort,
            0x22 => Class::PcAlignment,
            0x24 | 0x25 => Class::DataAbort,
            0x26 => Class::SpAlignment,
            0x3c => Class::Breakpoint,
            other => Class::Other(other),
        }
    }

    /// The status code of an abort.
    #[must_use]
    pub fn fault(self) -> Option<FaultStatus> {
        let abort = matches!(self.class(), Class::InstructionAbort | Class::DataAbort);
        abort.then(|| FaultStatus::from_code(low_bits(self.0 & 0x3f)))
    }

    /// Whether a data abort was a store (`WnR`).
    #[must_use]
    pub fn is_store(self) -> bool {
        self.class() == Class::DataAbort && self.0 >> 6 & 1 == 1
    }
}

impl FaultStatus {
    /// Decodes a fault status code: bits 5:0 of `ESR_EL1` or bits 6:1 of `PAR_EL1`.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        let level = Some((code & 0b11).cast_signed());
        match code {
            0b00_0000..=0b00_0011 => Self { kind: FaultKind::AddressSize, level },
            0b00_0100..=0b00_0111 => Self { kind: FaultKind::Translation, level },
            0b00_1000..=0b00_1011 => Self { kind: FaultKind::AccessFlag, level },
            0b00_1100..=0b00_1111 => Self { kind: FaultKind::Permission, level },
            0b01_0100..=0b01_0111 => Self { kind: FaultKind::External, level },
            0b10_1001 => Self { kind: FaultKind::AddressSize, level: Some(-1) },
            0b10_1011 => Self { kind: FaultKind::Translation, level: Some(-1) },
            0b01_0000 => Self { kind: FaultKind::External, level: None },
            0b10_0001 => Self { kind: FaultKind::Alignment, level: None },
            0b11_0000 => Self { kind: FaultKind::TlbConflict, level: None },
            other => Self { kind: FaultKind::Other(other), level: None },
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("undefined instruction"),
            Self::Svc => f.write_str("SVC"),
            Self::FloatingPoint => f.write_str("floating point or SIMD, which the kernel leaves off"),
            Self::SystemRegister => f.write_str("trapped system register"),
            Self::InstructionAbort => f.write_str("instruction fetch"),
            Self::DataAbort => f.write_str("access"),
            Self::PcAlignment => f.write_str("misaligned program counter"),
            Self::SpAlignment => f.write_str("misaligned stack pointer"),
            Self::Breakpoint => f.write_str("BRK"),
            Self::Other(class) => write!(f, "exception class {class:#x}"),
        }
    }
}

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::AddressSize => f.write_str("address size fault")?,
            FaultKind::Translation => f.write_str("translation fault")?,
            FaultKind::AccessFlag => f.write_str("access flag fault")?,
            FaultKind::Permission => f.write_str("permission fault")?,
            FaultKind::External => f.write_str("external abort")?,
            FaultKind::Alignment => f.write_str("alignment fault")?,
            FaultKind::TlbConflict => f.write_str("TLB conflict")?,
            FaultKind::Other(code) => write!(f, "fault status {code:#x}")?,
        }
        self.level.map_or(Ok(()), |level| write!(f, ", level {level}"))
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.class(), self.fault()) {
            (Class::DataAbort, Some(fault)) => {
                write!(f, "{}: {fault}", if self.is_store() { "store" } else { "load" })
            }
            (class, Some(fault)) => write!(f, "{class}: {fault}"),
            (class, None) => write!(f, "{class}"),
        }
    }
}

fn low_bits(value: u64) -> u8 {
    value as u8
}
