//! Event traces: what a machine did to its translation tables, one event a line, in a format that knows nothing of this
//! crate. An [`Event`] prints as its line and is read back from it; `docs/traces.md` has the format.
//!
//! Events hold bits, not our types, so that the same judge reads what other kernels did.

mod parse;

pub use parse::ParseError;

use core::fmt;
use core::ops::Deref;

use crate::granule::GranuleSize;
use crate::observe;
use crate::regime::Registers;
use crate::seam::{Phase, Source};

/// A short word kept in place: the name of an operation, the option of a barrier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Word {
    bytes: [u8; Word::MOST],
    len: u8,
}

impl Word {
    /// Most bytes of a word.
    pub const MOST: usize = 15;

    /// The word; what is longer than [`Word::MOST`] bytes is cut off.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let len = text.len().min(Self::MOST);
        let mut bytes = [0; Self::MOST];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { bytes, len: len as u8 }
    }
}

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("?")
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// What a trace is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Granule of the kernel half.
    pub granule: GranuleSize,
    /// Bits of an input address.
    pub va_bits: u32,
    /// Bits of an output address. More than 48, here or of an input address, say that descriptors have the layout of
    /// `FEAT_LPA` or `FEAT_LPA2`.
    pub pa_bits: u32,
    /// CPUs, numbered from 0.
    pub cpus: u32,
}

/// One event. Addresses and values are bits, as the hardware sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields are the keys of the format, which docs/traces.md explains")]
pub enum Event {
    /// The first line.
    Trace(Header),
    /// What a CPU uses from here on; in the middle of a trace, a change, or a CPU that comes online.
    Regs { cpu: u8, ttbr1: u64, tcr: u64, mair: u64, sctlr: u64 },
    /// A table that exists when the trace starts.
    Table { pa: u64, level: i8, va: u64 },
    /// A slot of such a table that is not zero.
    Slot { pa: u64, value: u64 },
    /// An operation begins.
    Begin { cpu: u8, op: Word, start: u64, end: u64 },
    /// It ends, with all that it did complete.
    End { cpu: u8, op: Word, result: i64 },
    /// Frames are taken.
    Alloc { pa: u64, len: u64, from: Word },
    /// Memory of a table is zeroed.
    Zero { cpu: u8, pa: u64, len: u64 },
    /// One descriptor store.
    Write { cpu: u8, slot: u64, old: u64, new: u64 },
    /// A data synchronisation barrier.
    Dsb { cpu: u8, option: Word },
    /// A data memory barrier.
    Dmb { cpu: u8, option: Word },
    /// A context synchronisation event.
    Isb { cpu: u8 },
    /// A TLB invalidation with its operand register.
    Tlbi { cpu: u8, op: Word, operand: Option<u64> },
    /// Frames are given back.
    Free { pa: u64, len: u64, to: Word },
    /// An access that the program relies on.
    Touch { cpu: u8, va: u64, write: bool },
}

impl Event {
    /// The CPU that it happens on, if on one.
    #[must_use]
    pub const fn cpu(&self) -> Option<u8> {
        match *self {
            Self::Regs { cpu, .. }
            | Self::Begin { cpu, .. }
            | Self::End { cpu, .. }
            | Self::Zero { cpu, .. }
            | Self::Write { cpu, .. }
            | Self::Dsb { cpu, .. }
            | Self::Dmb { cpu, .. }
            | Self::Isb { cpu }
            | Self::Tlbi { cpu, .. }
            | Self::Touch { cpu, .. } => Some(cpu),
            _ => None,
        }
    }

    /// What `cpu` was seen to do.
    #[must_use]
    pub fn seen(cpu: u8, event: &observe::Event) -> Self {
        use observe::Event as Seen;
        match *event {
            Seen::Write { slot, old, descriptor } => Self::Write { cpu, slot: slot.value(), old, new: descriptor },
            Seen::Zero { table, bytes } => Self::Zero { cpu, pa: table.value(), len: bytes },
            Seen::Dsb(kind) => Self::Dsb { cpu, option: Word::new(kind.option()) },
            Seen::Isb => Self::Isb { cpu },
            Seen::Tlbi(tlbi) => Self::Tlbi { cpu, op: Word::new(tlbi.name()), operand: tlbi.operand() },
            Seen::Access(range) => Self::Touch { cpu, va: range.start().value(), write: true },
            Seen::Registers(Registers { mair, tcr, ttbr1 }) => Self::Regs { cpu, ttbr1, tcr, mair, sctlr: 1 },
            Seen::Allocated(frames) => {
                Self::Alloc { pa: frames.start.value(), len: frames.bytes, from: source(frames.source) }
            }
            Seen::Freed(frames) => {
                Self::Free { pa: frames.start.value(), len: frames.bytes, to: source(frames.source) }
            }
            Seen::Begin(phase) => {
                let (op, start, end) = operation(phase);
                Self::Begin { cpu, op, start, end }
            }
            Seen::End(phase) => Self::End { cpu, op: operation(phase).0, result: 0 },
        }
    }
}

fn source(source: Source) -> Word {
    Word::new(match source {
        Source::Ram => "ram",
        Source::Altmap => "altmap",
    })
}

fn operation(phase: Phase) -> (Word, u64, u64) {
    let (name, range) = match phase {
        Phase::Add(range) => ("add", Some(range)),
        Phase::Remove(range) => ("remove", Some(range)),
        Phase::Linear => ("linear", None),
        Phase::Populate => ("populate", None),
        Phase::Initialise => ("initialise", None),
    };
    let (start, end) = range.map_or((0, 0), |range| (range.start().value(), range.end().value()));
    (Word::new(name), start, end)
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { granule, va_bits, pa_bits, cpus } = self;
        write!(f, "trace version=1 granule={} va_bits={va_bits} pa_bits={pa_bits} cpus={cpus}", granule.name())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Trace(header) => write!(f, "{header}"),
            Self::Regs { cpu, ttbr1, tcr, mair, sctlr } => {
                write!(f, "regs cpu={cpu} ttbr1={ttbr1:#x} tcr={tcr:#x} mair={mair:#x} sctlr={sctlr:#x}")
            }
            Self::Table { pa, level, va } => write!(f, "table pa={pa:#x} level={level} va={va:#x}"),
            Self::Slot { pa, value } => write!(f, "slot pa={pa:#x} value={value:#x}"),
            Self::Begin { cpu, op, start: 0, end: 0 } => write!(f, "begin cpu={cpu} op={op:?}"),
            Self::Begin { cpu, op, start, end } => {
                write!(f, "begin cpu={cpu} op={op:?} start={start:#x} end={end:#x}")
            }
            Self::End { cpu, op, result } => write!(f, "end cpu={cpu} op={op:?} result={result}"),
            Self::Alloc { pa, len, from } => write!(f, "alloc pa={pa:#x} len={len:#x} from={from:?}"),
            Self::Zero { cpu, pa, len } => write!(f, "zero cpu={cpu} pa={pa:#x} len={len:#x}"),
            Self::Write { cpu, slot, old, new } => {
                write!(f, "write cpu={cpu} slot={slot:#x} old={old:#x} new={new:#x}")
            }
            Self::Dsb { cpu, option } => write!(f, "dsb cpu={cpu} {option:?}"),
            Self::Dmb { cpu, option } => write!(f, "dmb cpu={cpu} {option:?}"),
            Self::Isb { cpu } => write!(f, "isb cpu={cpu}"),
            Self::Tlbi { cpu, op, operand: Some(bits) } => write!(f, "tlbi cpu={cpu} {op:?} {bits:#x}"),
            Self::Tlbi { cpu, op, operand: None } => write!(f, "tlbi cpu={cpu} {op:?}"),
            Self::Free { pa, len, to } => write!(f, "free pa={pa:#x} len={len:#x} to={to:?}"),
            Self::Touch { cpu, va, write } => write!(f, "touch cpu={cpu} va={va:#x} write={}", u8::from(write)),
        }
    }
}
